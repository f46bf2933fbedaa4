"""Reads the battles that a trainer takes from data sources, with the record of where they come from."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from routellm_fast import data
from routellm_fast.data import routellm_datasets
from routellm_fast.data.contamination import evaluation_files
from routellm_fast.data.counts import Counts
from routellm_fast.data.sources import source_digests, source_name
from routellm_fast.decision import ModelPair
from routellm_fast.errors import DataError, InvalidArgumentError, UnknownModelError
from routellm_fast.tables import LeftOut


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What to read.

    Attributes:
        battles: Sources of preference battles.
        golden: Sources of golden labels.
        prompts: Sources in which prompt_id is looked up.
        licenses: Use only battles whose license is one of these; None uses all. A table of golden labels has one
            license as a whole, which is for the caller to judge.
        evaluation: Evaluation sets (see data.contamination): battles of a prompt group with one of their prompts are
            left out, or refused.
        refuse_overlap: Raise where there are such battles.
        models: Use only battles between two of these, and only their columns of golden labels; None uses all.
        left_out: Takes rows that cannot be read, and columns that are no model's; None raises. See tables.LeftOut.
    """

    battles: Sequence[Path] = ()
    golden: Sequence[Path] = ()
    prompts: Sequence[Path] = ()
    licenses: Collection[str] | None = None
    evaluation: Sequence[Path] = ()
    refuse_overlap: bool = False
    models: Collection[str] | None = None
    left_out: LeftOut | None = None

    def __post_init__(self) -> None:
        """Refuse what would count twice."""
        paths = [*self.battles, *self.golden, *self.prompts]
        real = [os.path.realpath(path) for path in paths]  # one file may go by two names
        twice = next((path for index, path in enumerate(paths) if real[index] in real[:index]), None)
        if twice is not None:
            raise InvalidArgumentError(f"{twice} is given twice")


class SourceArguments(TypedDict, total=False):
    """The arguments by which a command is told what to read: the attributes of Sources."""

    battles: Sequence[Path]
    golden: Sequence[Path]
    prompts: Sequence[Path]
    licenses: Collection[str] | None
    evaluation: Sequence[Path]
    refuse_overlap: bool
    models: Collection[str] | None
    left_out: LeftOut | None


@dataclass(slots=True)
class Loaded:
    """Battles, and what became of each source's rows.

    Attributes:
        battles: Those to train on.
        counts: By source, as it was given.
        evaluation: About the evaluation sets, JSON-able; None where none was given.
        kept: For each battle that was read, whether it is among `battles`; None where all are.
    """

    battles: list[data.Battle] = field(default_factory=list)
    counts: dict[str, Counts] = field(default_factory=dict)
    evaluation: dict[str, Any] | None = None
    kept: list[bool] | None = None

    def record(self, sources: Sources, further: Iterable[Path] = ()) -> dict[str, Any]:
        """Return what a router records of its data; `further` are files without battles that were read too.

        `files`: digests by name. `licenses`: the filter, or None. `data`: Counts by source. `evaluation`, where sets
        were given: their digests, how many prompts they have and how many battles were left out for them.
        """
        paths = sorted({*sources.battles, *sources.golden, *sources.prompts, *further})
        record: dict[str, Any] = {
            "files": _digests(paths),
            "licenses": None if sources.licenses is None else sorted(sources.licenses),
            "data": {name: counts.to_json() for name, counts in sorted(self.counts.items())},
        }
        return record if self.evaluation is None else {**record, "evaluation": self.evaluation}


def load(
    sources: Sources,
    *,
    scoring_pair: ModelPair,
    cap_per_prompt: int | None,
    seed: int,
    keep_ties: bool,
    soft_labels: bool = False,
    min_prompt_chars: int = 0,
    whole: Collection[Path] = (),
    models: Collection[str] | None = None,
) -> Loaded:
    """Read all sources.

    Args:
        sources: What to read.
        scoring_pair: Its battles of golden labels are kept whatever the cap; those of other sources are capped apart.
        cap_per_prompt: At most this many battles a prompt in each source; None takes all.
        seed: Draws capped battles.
        keep_ties: Whether ties of preference battles stay. Those of golden labels do.
        soft_labels: Targets of golden labels say by how much a score was higher (see data.pairs).
        min_prompt_chars: Leave out battles on prompts that are shorter, space around them not counted.
        whole: Those of the sources of battles that are datasets of RouteLLM to be taken as they are: no cap, and
            battles of a model against itself stay.
        models: Use only battles between two of these; None uses all. Golden labels of thirty models make hundreds of
            battles a prompt.

    Raises:
        DataError: A source is missing, damaged or empty, nothing is left of all, or evaluation prompts are refused.
        MissingExtraError: A source needs an optional library that is not installed.
    """
    if not sources.battles and not sources.golden:
        raise DataError("give at least one file of battles or of golden labels")
    left_out, models = sources.left_out, _chosen(sources.models, models)
    lookup: dict[str, tuple[str, str]] = {}
    for path in sources.prompts:
        found = data.read_prompts(path, left_out=left_out)
        other = next((key for key in found if lookup.get(key, found[key]) != found[key]), None)
        if other is not None:
            raise DataError(
                f"{path}: prompt_id {other!r} is another prompt, or of another group, in a prompts file before"
            )
        lookup |= found
    loaded = Loaded()
    for path in (path for path in sources.battles if path not in whole):
        counts = _counts(loaded, path)
        found_battles = data.read_battles(
            path,
            prompts=lookup or None,
            licenses=sources.licenses,
            drop_ties=not keep_ties,
            cap_per_prompt=cap_per_prompt,
            seed=seed,
            min_prompt_chars=min_prompt_chars,
            apart=scoring_pair,
            counts=counts,
            left_out=left_out,
        )
        loaded.battles += _between(found_battles, models, counts)
    for path in sources.golden:
        counts = _counts(loaded, path)
        try:
            labelled = data.read_golden(
                path,
                prompts=lookup or None,
                models=models,
                min_prompt_chars=min_prompt_chars,
                counts=counts,
                left_out=left_out,
            )
        except UnknownModelError:  # other sources may have battles of these models
            continue
        loaded.battles += data.pairs(
            labelled, cap_per_prompt=cap_per_prompt, seed=seed, always=scoring_pair, soft=soft_labels, counts=counts
        )
    for path in (path for path in sources.battles if path in whole):
        counts = _counts(loaded, path)
        loaded.battles += _between(
            routellm_datasets.read_battles(path, min_prompt_chars=min_prompt_chars, counts=counts, left_out=left_out),
            models,
            counts,
        )
    if sources.evaluation:
        _guard(loaded, sources)
    if not loaded.battles:
        raise _nothing_left(loaded, models)
    return loaded


def _chosen(given: Collection[str] | None, needed: Collection[str] | None) -> frozenset[str] | None:
    """Return the models that the user and the kind of router both allow, by the names that data go by; None for all."""
    if given is None:
        return None if needed is None else frozenset(needed)
    aliases = data.known_aliases()
    names = frozenset(aliases.get(name, name) for name in given)
    return names if needed is None else names & frozenset(needed)


def _counts(loaded: Loaded, path: Path) -> Counts:
    """Return new counts under the source's name, or its path where two share the name."""
    name = source_name(path)
    return loaded.counts.setdefault(str(path) if name in loaded.counts else name, Counts())


def _between(battles: list[data.Battle], models: Collection[str] | None, counts: Counts) -> list[data.Battle]:
    if models is None:
        return battles
    kept = [battle for battle in battles if battle.model_a in models and battle.model_b in models]
    counts.leave_out("of other models", len(battles) - len(kept))
    counts.battles -= len(battles) - len(kept)
    return kept


def _guard(loaded: Loaded, sources: Sources) -> None:
    groups = data.evaluation_groups(sources.evaluation, left_out=sources.left_out)
    overlap = data.overlaps(loaded.battles, groups)
    if any(overlap) and sources.refuse_overlap:
        first = loaded.battles[overlap.index(True)]
        raise DataError(
            f"{sum(overlap):,} of {len(overlap):,} battles are on prompts of the evaluation sets, or of their groups, "
            f"the first in {first.source}: {first.prompt[:80]!r}. Leave them out of the data, or let them be dropped."
        )
    loaded.evaluation = {
        "files": _digests([file for path in sources.evaluation for file in evaluation_files(path)]),
        "prompts": len(groups),
        "battles_left_out": sum(overlap),
    }
    loaded.kept = [not overlapping for overlapping in overlap]
    loaded.battles = [battle for battle, kept in zip(loaded.battles, loaded.kept, strict=True) if kept]


def _nothing_left(loaded: Loaded, models: Collection[str] | None) -> DataError:
    counts = loaded.counts
    reasons = [f"{name}: {of.rows:,} rows, left out {of.reasons() or 'none'}" for name, of in counts.items()]
    if loaded.evaluation is not None and loaded.evaluation["battles_left_out"]:
        reasons.append(f"{loaded.evaluation['battles_left_out']:,} battles left out for evaluation prompts")
    message = f"no battle is left to train on ({'; '.join(reasons)})"
    if models is not None:
        message += f". Wanted were battles between {', '.join(sorted(models))}: name them as the data do"
    if any(of.left_out["tie"] for of in counts.values()):
        message += ". Ties can be kept: keep_ties, --keep-ties"
    if any(of.left_out["on a short prompt"] for of in counts.values()):
        message += ". Prompts are too short: lower min_prompt_chars, --min-prompt-chars"
    if any(of.left_out["on which one model ran"] for of in counts.values()):
        message += ". Golden labels need the scores of two models"
    return DataError(message)


def _digests(paths: Iterable[Path]) -> dict[str, str]:
    """Digests by name; a second file of one name and other content gets its number."""
    digests: dict[str, str] = {}
    for path in paths:
        for name, digest in source_digests(path).items():
            key, number = name, 1
            while digests.setdefault(key, digest) != digest:
                number += 1
                key = f"{name} ({number})"
    return digests
