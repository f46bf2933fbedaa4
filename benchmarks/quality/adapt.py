"""What labels of one's own traffic are worth: the router as shipped, and after 50 to 2,000 labels.

`python -m benchmarks quality-adapt --data DIR` takes other people's requests as traffics. For each it draws so many
labels, learns from them as `routellm-fast adapt` does, and scores the rest of the prompts; beside it RouteLLM's own
recipe on the same labels, prompt length, and learning from all but a fifth of the traffic. Then it asks how often
`adapt` calls a router better than a fixed mixture where labels are noise. Writes adapt.json, adapt.md,
adapt.svg, and adapt_example.png: the picture of one run, which documents show.

The recipe was chosen on these traffics. `--evaluations` runs MMLU and GSM8K instead, which were not looked at before;
each such run is added to the list in adapt_evaluations.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.places import REPOSITORY
from benchmarks.harness.progress import say
from benchmarks.harness.reports import splice_between
from benchmarks.quality.adapt_page import MARKERS, draw, evaluations_page, excerpt, page, summary
from benchmarks.quality.adapt_traffics import EVALUATIONS, SOURCES, read, read_evaluation
from benchmarks.quality.command import Result, run
from routellm_fast import load_router
from routellm_fast.adaptation.adapting import Wanted
from routellm_fast.adaptation.command import RunJob, run_on_labels
from routellm_fast.adaptation.folder import RunFolder
from routellm_fast.adaptation.labels import Labels
from routellm_fast.adaptation.learning import learn
from routellm_fast.adaptation.proving import ADAPTED, SHIPPED, Choice, prove
from routellm_fast.adaptation.recipes import AsBefore, Material, MatrixFactorization, Recipe, Ridge
from routellm_fast.adaptation.report import pictures
from routellm_fast.adaptation.sides import groups_of
from routellm_fast.adaptation.verdict import verdict_on
from routellm_fast.routers.base import Router
from routellm_fast.texts import word_counts
from routellm_fast.training.verdict import gain

SIZES: Final = (50, 100, 200, 500, 1000, 2000)
DRAWS: Final = 16
# So many prompts must be left to score.
_LEAST_LEFT: Final = 200
_FOLDS: Final = 5
_QUALITY: Final = 0.95
NOISE_TRAFFICS: Final = 200
_NOISE_LABELS: Final = (100, 200, 400)
_UNTOUCHED_SHARE: Final = 0.4
_DECIMALS: Final = 5
# What documents show between their markers.
DOCUMENTS: Final = {"README.md": excerpt, "docs/quality.md": summary}
# The run that documents show.
_EXAMPLE: Final = "LLMRouter"
_EXAMPLE_LABELS: Final = 1000

Rows = NDArray[np.int64]
Scores = NDArray[np.float64]


def apgr(scores: Scores, gap: Scores) -> float:
    """Return the mean of PGR over all strong shares, ties in expectation."""
    return 0.5 + gain(scores, 0.5 + gap / 2.0, np.ones(len(gap))) / float(gap.mean())


def saving(scores: Scores, labels: Labels) -> float:
    """Return the largest share of the strong model's calls that can be saved at 95 % of its quality."""
    order = np.argsort(-scores, kind="stable")
    quality = labels.weak.sum() + np.concatenate([[0.0], np.cumsum(labels.gap[order])])
    reached = np.flatnonzero(quality >= _QUALITY * labels.strong.sum() - 1e-9)
    return 1.0 - float(reached[0]) / len(labels)


def drawn(groups: Sequence[str], count: int, generator: np.random.Generator) -> tuple[Rows, Rows]:
    """Return the rows of so many labels, of whole groups but for the last, and the rows of all other groups."""
    names = {name: number for number, name in enumerate(sorted(set(groups)))}
    group = np.array([names[name] for name in groups])
    order = generator.permutation(len(names))
    sizes = np.bincount(group)[order]
    taken = order[: int(np.searchsorted(np.cumsum(sizes), count)) + 1]
    inside = np.isin(group, taken)
    return np.flatnonzero(inside)[:count], np.flatnonzero(~inside)


class Measured:
    """A traffic, with what every way to score it makes of the rest."""

    least_left = _LEAST_LEFT

    def __init__(self, name: str, labels: Labels, prior: Router, *, with_routellm: bool) -> None:
        self.name = name
        self.labels = labels
        self.material = Material(labels, prior)
        self.before = AsBefore(self.material).fit(np.arange(len(labels))).scores(np.arange(len(labels)))
        self.lengths = word_counts(labels.prompts).astype(np.float64)
        self.recipes: dict[str, Recipe] = {"adapted": Ridge(self.material)}
        if with_routellm:
            self.recipes["RouteLLM's mf"] = MatrixFactorization(self.material)

    def curves(self, sizes: Sequence[int], draws: int) -> Iterator[dict[str, Any]]:
        """Yield one record a size and draw."""
        for size in sizes:
            if len(self.labels) - size < self.least_left:
                continue
            for number in range(draws):
                seen, rest = drawn(self.labels.groups, size, np.random.default_rng([size, number]))
                if not self.labels.gap[rest].mean() > 0.0:
                    continue
                found = {"as shipped": self.before[rest], "prompt length": self.lengths[rest]}
                found |= {name: recipe.fit(seen).scores(rest) for name, recipe in self.recipes.items()}
                yield {"labels": size, "draw": number, **self._scored(found, rest)}

    def everything(self) -> dict[str, Any]:
        """Return what learning from all but a fifth of the traffic comes to, over all five fifths."""
        names = sorted(set(self.labels.groups))
        number = dict(zip(names, np.random.default_rng(0).permutation(len(names)).tolist(), strict=True))
        part = np.array([number[group] % _FOLDS for group in self.labels.groups])
        records = []
        for index in range(_FOLDS):
            seen, rest = np.flatnonzero(part != index), np.flatnonzero(part == index)
            found = {"as shipped": self.before[rest], "adapted": self.recipes["adapted"].fit(seen).scores(rest)}
            records.append(self._scored(found, rest)["apgr"])
        return {name: float(np.mean([record[name] for record in records])) for name in records[0]}

    def _scored(self, found: Mapping[str, Scores], rest: Rows) -> dict[str, Any]:
        labels = self.labels.select(rest)
        needs_routing = labels.weak.mean() < _QUALITY * labels.strong.mean()
        return {
            "apgr": {name: apgr(scores, labels.gap) for name, scores in found.items()},
            "saving": {name: saving(scores, labels) for name, scores in found.items()} if needs_routing else None,
        }


def example(labels: Labels, prior: Router, count: int) -> dict[str, Any]:
    """Return what `adapt` says of so many labels of a traffic, and the picture of its report."""
    rows, _ = drawn(labels.groups, count, np.random.default_rng(0))
    with tempfile.TemporaryDirectory() as folder:
        job = RunJob(
            Path(folder) / "my-router",
            RunFolder(Path(folder) / "my-router.adapt"),
            Wanted(prior),
            labels.pair,
            dataset="labels.csv",
        )
        report = run_on_labels(job, labels.select(rows)).report
    (picture,) = (plot for plot in pictures(report.proof) if plot.name == "quality")
    return {"labels": count, "lines": report.lines(), "alt": picture.alt, "png": picture.png}


def noise_verdicts(traffics: Mapping[str, Labels], prior: Router, count: int) -> list[dict[str, Any]]:
    """Return what `adapt` says of traffics whose scores were dealt out anew over their prompts."""
    names = list(traffics)
    found = []
    for number in range(count):
        generator = np.random.default_rng([7, number])
        name, size = names[number % len(names)], _NOISE_LABELS[number % len(_NOISE_LABELS)]
        labels = traffics[name]
        rows = generator.choice(len(labels), size, replace=False)
        dealt = generator.permutation(rows)
        noise = Labels(
            labels.pair,
            tuple(labels.prompts[row] for row in rows),
            tuple(labels.prompts[row] for row in rows),
            labels.strong[dealt],
            labels.weak[dealt],
        )
        untouched = np.zeros(size, dtype=np.bool_)
        untouched[generator.permutation(size)[: round(_UNTOUCHED_SHARE * size)]] = True
        learning = learn(noise.select(~untouched), prior, seed=number)
        proved = noise.select(untouched)
        rates = learning.router().win_rates(proved.prompts)
        proof = prove(
            proved,
            {ADAPTED: rates, SHIPPED: prior.win_rates(proved.prompts)},
            [Choice("half", float(np.median(rates)))],
            resamples=100,
            random_runs=50,
            seed=number,
        )
        found.append({"traffic": name, "labels": size, "kind": verdict_on(proof).kind})
    return found


def _measure(options: argparse.Namespace, prior: Router) -> dict[str, Any]:
    traffics = {source.name: read(source, options.data) for source in SOURCES}
    joined = {
        name: Labels(labels.pair, labels.prompts, groups_of(labels.prompts, labels.groups), labels.strong, labels.weak)
        for name, labels in traffics.items()
    }
    records: dict[str, Any] = {}
    for source in SOURCES:
        started_s = time.monotonic()
        labels = joined[source.name]
        measured = Measured(source.name, labels, prior, with_routellm=not options.without_routellm)
        records[source.name] = _summary(labels) | {
            "about": source.about,
            "draws": list(measured.curves(options.sizes, options.draws)),
            "everything": measured.everything(),
        }
        say(f"{source.name}: {time.monotonic() - started_s:.0f} s")
    about = next(source.about for source in SOURCES if source.name == _EXAMPLE)
    shown = {"traffic": _EXAMPLE, "about": about, **example(joined[_EXAMPLE], prior, _EXAMPLE_LABELS)}
    return {"traffics": records, "noise": noise_verdicts(joined, prior, options.noise), "example": shown}


def _evaluate(options: argparse.Namespace, prior: Router) -> dict[str, Any]:
    records = {}
    for name in EVALUATIONS:
        labels = read_evaluation(name, options.data)
        measured = Measured(name, labels, prior, with_routellm=False)
        records[name] = _summary(labels) | {"draws": list(measured.curves((*SIZES, 1500), options.draws))}
    return records


def _summary(labels: Labels) -> dict[str, Any]:
    return {
        "strong_model": labels.pair.strong,
        "weak_model": labels.pair.weak,
        "prompts": len(labels),
        "groups": len(set(labels.groups)),
        "strong_quality": float(labels.strong.mean()),
        "weak_quality": float(labels.weak.mean()),
    }


def rounded(value: Any) -> Any:
    """Round floats: no digit that says nothing."""
    if isinstance(value, float):
        return round(value, _DECIMALS)
    if isinstance(value, Mapping):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(entry) for entry in value]
    return value


def make(options: argparse.Namespace) -> list[Result]:
    """Measure. Return the files' contents. Raises RouteLLMError."""
    prior = load_router()
    if options.evaluations:
        path: Path = options.out / "adapt_evaluations.json"
        looks = json.loads(path.read_text(encoding="utf-8"))["looks"] if path.exists() else []
        looks.append({"created": options.created, "found": rounded(_evaluate(options, prior))})
        return [Result("adapt_evaluations", {"looks": looks}, evaluations_page(looks))]
    record = rounded(_measure(options, prior))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "adapt.svg").write_text(draw(record), encoding="utf-8")
    (options.out / "adapt_example.png").write_bytes(record["example"].pop("png"))
    for name, show in DOCUMENTS.items() if options.documents else ():
        splice_between(REPOSITORY / name, MARKERS, show(record))
    return [Result("adapt", record, page(record))]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--evaluations", action="store_true", help="MMLU and GSM8K instead; each run is written down")
    parser.add_argument("--documents", action="store_true", help=f"put the results into {', '.join(DOCUMENTS)} too")
    parser.add_argument("--draws", type=int, default=DRAWS, help="draws of labels for each size; default: %(default)s")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="numbers of labels")
    parser.add_argument("--noise", type=int, default=NOISE_TRAFFICS, help="traffics of noise; default: %(default)s")
    parser.add_argument(
        "--without-routellm", action="store_true", help="leave out RouteLLM's recipe, which takes most of the time"
    )


def main(arguments: Sequence[str]) -> int:
    """Write the results. Return 2 with one line on bad input."""
    return run("quality-adapt", __doc__ or "", make, arguments, _add_arguments)
