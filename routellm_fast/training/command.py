"""From data files to a router directory: what the commands of `routellm-fast train` have in common.

Each kind has a module beside this one, `mf_command` and so on, with one function. These functions return metrics,
JSON-able, which the router keeps in its provenance as `training`:

* `battles`, `prompts`, `prompt_groups`, `models`: counts of what was trained on; mf's battles are those trained on and
  those held out.
* `config`: the trainer's settings; `options`: those of the command besides.
* `epochs`: of mf, losses (mean log losses in nats) and accuracies after each epoch on both sides; `best_epoch`: the one
  that was kept, from 1; `refit`: battles and epochs of the training on all battles, where there was one. Of an ensemble
  these are in `members`, one object each.
* `held_out_by_source`: of mf, count, loss and accuracy on the held-out battles of each source. `held_out`: of an
  ensemble, loss and accuracy on all of them; of sw_ranking, what battles on other prompts said of the held-out ones.
* `verdict`: whether the router is better than a constant and than prompt length on held-out battles of the pair; see
  `verdict.Verdict.to_json`. `verdict["line"]` says it in one line.
* `files`: digests by name; `licenses`: the filter or null; `data`: by source, `rows` read, `battles` kept, `left_out`
  by reason, `licenses` and `judges` that it states; `evaluation`: where evaluation sets were given, their files, how
  many prompts these have, and how many battles were left out for them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from routellm_fast import data
from routellm_fast.artifact import ROUTER_LAYOUT, check_replaceable
from routellm_fast.calibration import Calibration
from routellm_fast.data.battles import Battles
from routellm_fast.data.names import check_known, known_aliases
from routellm_fast.decision import ModelPair
from routellm_fast.errors import ArtifactWriteError, DataError, InvalidArgumentError
from routellm_fast.places import check_vacant, check_writable, destination
from routellm_fast.routers.base import Router
from routellm_fast.training.loading import Loaded, SourceArguments, Sources, load
from routellm_fast.training.model_card import model_card
from routellm_fast.training.pair_data import of_prompts
from routellm_fast.training.verdict import check_tells_apart

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Unpack

TRAINED_ON: Final = "the prompts trained on"
# The quantiles of fewer prompts say little.
_LEAST_CALIBRATED_ON: Final = 100


class _OptionalArguments(SourceArguments, total=False):
    scoring_pair: ModelPair | None
    checkpoint: Path | None
    created: str
    force: bool


class JobArguments(_OptionalArguments):
    """The arguments that all commands have in common. What to read is explained by loading.Sources.

    Attributes:
        model_pair: Where prompts are sent.
        scoring_pair: The pair whose win rate is learned; None is model_pair. Both models must be in the data, by any
            name that `data.names` knows.
        out: The directory to write.
        checkpoint: A directory in which the state is kept after each epoch, and from which an interrupted training of
            the same data and settings goes on. sw_ranking has no epochs and takes none.
        created: Date for the record; "" for none.
        force: Whether a router that stands at `out` may be replaced; not unless told so.
    """

    model_pair: ModelPair
    out: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One command: from which data to which directory. See JobArguments.

    Attributes:
        kind: The kind of router, such as "mf".
        sources: What to read.
        model_pair: Where prompts are sent.
        scoring_pair: The pair whose win rate is learned, by the names that data go by.
        out: The directory to write.
        checkpoint: Where the training's state is kept.
        created: Date for the record.
    """

    kind: str
    sources: Sources
    model_pair: ModelPair
    scoring_pair: ModelPair
    out: Path
    checkpoint: Path | None
    created: str

    @classmethod
    def of(
        cls,
        kind: str,
        *,
        model_pair: ModelPair,
        out: Path,
        scoring_pair: ModelPair | None = None,
        checkpoint: Path | None = None,
        created: str = "",
        force: bool = False,
        **sources: Unpack[SourceArguments],
    ) -> Job:
        """Check what can be checked before any data are read.

        Raises:
            InvalidArgumentError: Both models are one, a source is given twice, or the checkpoint lies in `out`.
            ArtifactWriteError: The router or the checkpoint could not be written to its place.
            OutputExistsError: Something stands at `out`, and force is false.
        """
        _check_place(out, checkpoint, force=force)
        return cls(
            kind=kind,
            sources=Sources(**sources),
            model_pair=model_pair,
            scoring_pair=_by_known_names(scoring_pair or model_pair),
            out=out,
            checkpoint=checkpoint,
            created=created,
        )

    def metrics(
        self, trained: Mapping[str, Any], options: Mapping[str, Any], loaded: Loaded, further: Iterable[Path] = ()
    ) -> dict[str, Any]:
        """Return the metrics of the command: the trainer's, the command's options, and the record of the data.

        `further` are files without battles that were read too.
        """
        return {**trained, "options": dict(options), **loaded.record(self.sources, further)}

    def common(self, metrics: Mapping[str, Any], *, embedder: str = "", base: str = "") -> dict[str, Any]:
        """Return what a router of every kind is made with: pair, provenance and model card.

        Args:
            metrics: As `metrics` returns them.
            embedder: The name of the embedder.
            base: In place of an embedder, the pretrained model that was fine-tuned.
        """
        card = model_card(
            self.kind,
            metrics,
            model_pair=self.model_pair,
            scoring_pair=self.scoring_pair,
            embedder=embedder,
            base=base,
            created=self.created,
        )
        provenance = {"created": self.created, "training": metrics}
        return {"model_pair": self.model_pair, "provenance": provenance, "model_card": card}

    def save(self, router: Router, win_rates: Any, *, dataset: str) -> str:
        """Calibrate a router by win rates of its dataset, write its directory, and return the directory's digest.

        Raises:
            DataError: All win rates are equal: no threshold could divide the prompts.
            ArtifactWriteError: The directory could not be written.
        """
        check_tells_apart(win_rates)
        return router.with_calibration(Calibration.from_win_rates(win_rates, dataset=dataset)).save(self.out)


def calibration_rows(held_out: NDArray[np.bool_], *, most: int | None = None) -> tuple[NDArray[np.int64], str]:
    """Return which prompts a router is calibrated on, and what the record calls them.

    Those held out, as it has not learned from them, where they are at least 100; else all.

    Args:
        held_out: (u,) which prompts are held out; all false for a router that was trained on all.
        most: At most about so many, evenly spaced; None takes all.
    """
    out = int(held_out.sum())
    rows = np.flatnonzero(held_out) if out >= _LEAST_CALIBRATED_ON else np.arange(len(held_out))
    dataset = f"{out:,} prompts held out of the training" if len(rows) == out else TRAINED_ON
    step = 1 if most is None else max(1, len(rows) // most)
    return rows[::step], dataset if step == 1 else f"every {step}th of {dataset}"


class PairArguments(JobArguments, total=False):
    """The arguments of the commands whose kind knows a strong and a weak side only: JobArguments and these.

    Attributes:
        also_strong: More models whose battles count as the strong one's, as the paper takes the tiers of its pair.
        also_weak: The same for the weak one.
        cap_per_prompt: At most this many battles a prompt in each source, 8 unless given; None takes all.
        max_prompts: Train on the battles of about so many prompts, chosen by a hash; None takes all.
        balance_sources: Let every source weigh the same, which they do unless told otherwise.
    """

    also_strong: Collection[str]
    also_weak: Collection[str]
    cap_per_prompt: int | None
    max_prompts: int | None
    balance_sources: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PairJob:
    """A job on battles between strong and weak models, ties included. See PairArguments.

    Attributes:
        job: The job.
        strong: Which models are strong.
        weak: Which are weak.
        cap_per_prompt: At most this many battles a prompt in each source.
        max_prompts: About so many prompts.
        balance_sources: Whether every source weighs the same.
    """

    job: Job
    strong: frozenset[str]
    weak: frozenset[str]
    cap_per_prompt: int | None
    max_prompts: int | None
    balance_sources: bool

    @classmethod
    def of(
        cls,
        kind: str,
        *,
        also_strong: Collection[str] = (),
        also_weak: Collection[str] = (),
        cap_per_prompt: int | None = 8,
        max_prompts: int | None = None,
        balance_sources: bool = True,
        **job: Unpack[JobArguments],
    ) -> PairJob:
        """Check what can be checked before any data are read.

        Raises:
            InvalidArgumentError: Too few prompts are wanted, or a model is on both sides. Or see Job.of.
            ArtifactWriteError, OutputExistsError: See Job.of.
        """
        if max_prompts is not None and max_prompts < 2:
            raise InvalidArgumentError(f"max_prompts must be at least 2, found {max_prompts}")
        common, aliases = Job.of(kind, **job), known_aliases()
        strong, weak = (
            frozenset({model, *(aliases.get(name, name) for name in others)})
            for model, others in zip(common.scoring_pair, (also_strong, also_weak), strict=True)
        )
        if strong & weak:
            raise InvalidArgumentError(f"{', '.join(sorted(strong & weak))} cannot be both strong and weak")
        return cls(
            job=common,
            strong=strong,
            weak=weak,
            cap_per_prompt=cap_per_prompt,
            max_prompts=max_prompts,
            balance_sources=balance_sources,
        )

    def read(self, *, soft_labels: bool, seed: int) -> tuple[Battles, Loaded]:
        """Return the battles to train on, and the record of where they come from.

        Args:
            soft_labels: Let golden labels say by how much a score was higher.
            seed: Draws capped battles and prompts.

        Raises:
            DataError: A source is missing, damaged or empty, or no battle of both sides has a winner.
            UnknownModelError: The data has no battle of a model of the scoring pair.
        """
        loaded = load(
            self.job.sources,
            scoring_pair=self.job.scoring_pair,
            cap_per_prompt=None,  # below, of battles between strong and weak
            seed=seed,
            keep_ties=True,
            soft_labels=soft_labels,
            models=self.strong | self.weak,
        )
        check_known(self.job.scoring_pair, data.models_of(loaded.battles))
        rows = [row for row in loaded.battles if len({row.model_a, row.model_b} & self.strong) == 1]
        if not rows or all(row.target == 0.5 for row in rows):
            sides = f"{', '.join(sorted(self.strong))} and {', '.join(sorted(self.weak))}"
            found = f"all {len(rows):,} battles between {sides} are ties" if rows else f"no battle is between {sides}"
            raise DataError(
                f"{found}: nothing says which prompts need the strong model. Name more models as strong or weak, or "
                "give other data."
            )
        if self.cap_per_prompt is not None:
            rows = data.capped(rows, self.cap_per_prompt, seed)
        rows = of_prompts(rows, self.max_prompts, seed)
        return data.to_arrays(data.balanced(rows, 1.0) if self.balance_sources else rows), loaded

    def options(self, **own: Any) -> dict[str, Any]:
        """Return how the battles were chosen, for the record, with options of the kind's own."""
        return {
            "cap_per_prompt": self.cap_per_prompt,
            "max_prompts": self.max_prompts,
            "balance_sources": self.balance_sources,
            **own,
            "strong_models": sorted(self.strong),
            "weak_models": sorted(self.weak),
        }


def _check_place(out: Path, checkpoint: Path | None, *, force: bool) -> None:
    """Refuse a place that the router could not be written to, before the training instead of after it."""
    if checkpoint is not None and out.resolve() in (checkpoint.resolve(), *checkpoint.resolve().parents):
        raise InvalidArgumentError(
            f"the checkpoint {checkpoint} lies in the router directory {out}, which is replaced: choose another"
        )
    check_replaceable(out, ROUTER_LAYOUT)
    try:
        check_writable(destination(out).parent)
    except OSError as error:
        raise ArtifactWriteError(f"{out} cannot be written ({error.strerror})") from error
    check_vacant(out, force=force)
    if checkpoint is not None:
        try:
            check_writable(checkpoint)
        except OSError as error:
            raise ArtifactWriteError(f"the checkpoint {checkpoint} cannot be written ({error.strerror})") from error


def _by_known_names(pair: ModelPair) -> ModelPair:
    """Return the pair by the names that data go by. Raises InvalidArgumentError where both are one model."""
    aliases = known_aliases()
    known = ModelPair(*(aliases.get(name, name) for name in pair))
    if known.strong == known.weak:
        raise InvalidArgumentError(
            f"the strong and the weak model are both {known.strong!r}: every win rate would be a half"
        )
    return known
