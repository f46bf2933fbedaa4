"""How the recipe of the router that ships was chosen: on sources left out of training, never on the benchmarks.

`python -m recipes.selection --data DIR --out DIR` fits every candidate of the grid once for each group of
sources that share a task, without that group, and measures it there. Writes selection.json and selection.md; takes a
few minutes. Of the data folder only train/ is read.

The measure is the expected APGR, 0.5 + cov(rank of the score, gap) / mean gap, in four families that resemble what the
benchmarks ask: chat (points of GPT-4 for the pair's answers, and votes of users on models of different strength), exams
(MMLU-Pro, ARC), word problems (GSM8K's training part) and mixed traffic (all tasks of LLMRouter together). Each family
counts by how precisely it is known, the inverse of the variance of prompt length's own measure under resampling: of
prompts, and for mixed traffic of tasks too. Of the candidates within a tenth of a standard deviation of the largest
weighted mean, which are no different, the plainest is taken: without votes, with the pair's own gaps, then the one
nearest to prompt length, then the best.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from recipes.command_line import parser_of, run, write_results
from recipes.training_data import BATTLES, GOLDEN, LICENSES, PROMPTS, SCORE_RANGE, stand_in_of
from routellm_fast.data import Battle, Labelled, read_battles, read_golden, read_prompts, to_arrays
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.routers.loading import SHIPPED_ROUTER
from routellm_fast.training.gap_regression import MIN_RATING_GAP, regress
from routellm_fast.training.item_response import fit_item_response

ARENA: Final = "judge_scores_arena_bench"
VOTES: Final = "battles_human/arena_hard1k"
GSM8K: Final = "golden_llmrouter/gsm8k"
EXAMS: Final = ("golden_mmlu_pro", "golden_routerbench/arc-challenge")
MIXED: Final = "golden_llmrouter/"
# Sources of one task leave together: else the answer is in the training part.
TOGETHER: Final = (
    ("golden_routerbench/arc-challenge", "golden_llmrouter/arc_challenge"),
    ("golden_mmlu_pro", "golden_llmrouter/mmlu"),
    ("golden_routerbench/mbpp", "golden_llmrouter/mbpp"),
)
NORMALIZE: Final = (True, False)
RIDGES: Final = (0.3, 1.0, 3.0, 10.0, 30.0)
LENGTH_WEIGHTS: Final = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)
# What tells prompts of one source apart: the pair's own gap, how many models fail, or half of each.
DIFFICULTY_SHARES: Final = (0.0, 0.5, 1.0)
USE_VOTES: Final = (False, True)
# Of the standard deviation of the weighted mean; closer candidates are taken for equal.
EQUAL_WITHIN: Final = 0.1
RESAMPLES: Final = 300
SEED: Final = 0


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """n prompts with their labels.

    Attributes:
        prompts: n texts.
        source: (n,) names.
        gap: (n,) strong minus weak score of the pair or its stand-ins; of votes, whether the stronger model won.
        tier_gap: (n,) mean score of the best quarter of the models minus that of the middle ones; NaN for votes.
        difficulty: (n,) minus the mean score of all models; NaN for votes.
    """

    prompts: tuple[str, ...]
    source: np.ndarray
    gap: np.ndarray
    tier_gap: np.ndarray
    difficulty: np.ndarray

    @property
    def sources(self) -> list[str]:
        """Return the names of the sources, each once."""
        return sorted(set(self.source))


def read_rows(folder: Path) -> Rows:
    """Return all labelled prompts and votes of the training data. Raises DataError."""
    prompts = read_prompts(folder / PROMPTS)
    parts = [part for name in GOLDEN for part in _golden(read_golden(folder / name, prompts=prompts), name)]
    votes = list(_rated_votes(folder, prompts))
    parts.append(
        ([b.prompt for b, _ in votes], VOTES, np.array([gap for _, gap in votes]), *np.full((2, len(votes)), np.nan))
    )
    return Rows(
        tuple(itertools.chain.from_iterable(part[0] for part in parts)),
        np.concatenate([np.full(len(part[0]), part[1]) for part in parts]),
        *(np.concatenate([part[k] for part in parts]) for k in (2, 3, 4)),
    )


def _golden(labelled: Sequence[Labelled], name: str) -> Iterator[tuple[Any, ...]]:
    scale = SCORE_RANGE.get(name, 1.0)
    for source in sorted({row.source for row in labelled}):
        rows = [row for row in labelled if row.source == source]
        models = sorted({model for row in rows for model in row.scores})
        scores = np.array([[row.scores.get(model, np.nan) for model in models] for row in rows]) / scale
        scores = scores[:, np.isfinite(scores).mean(axis=0) > 0.9]
        order = np.argsort(-np.nanmean(scores, axis=0), kind="stable")
        count = len(order)
        top, middle = order[: max(1, count // 4)], order[count // 3 : count // 3 + max(2, count // 2)]
        tier = np.nanmean(scores[:, top], axis=1) - np.nanmean(scores[:, middle], axis=1)
        strong, weak = stand_in_of(name)
        gap = np.array([row.scores.get(strong, np.nan) - row.scores.get(weak, np.nan) for row in rows]) / scale
        yield [row.prompt for row in rows], source, gap, tier, -np.nanmean(scores, axis=1)


def _rated_votes(folder: Path, prompts: Any) -> Iterator[tuple[Battle, float]]:
    """Votes on one source's prompts, with the gap in favour of the model that all battles rate higher."""
    battles = [
        battle
        for name in BATTLES
        for battle in read_battles(folder / name, prompts=prompts, licenses=LICENSES, drop_ties=False)
    ]
    arrays = to_arrays(battles)
    every = np.ones(len(arrays), dtype=bool)
    rating = fit_item_response(arrays, np.zeros(len(arrays.prompts)), every, ridge=1e-4).strength
    index = {name: k for k, name in enumerate(arrays.models)}
    for battle in battles:
        lead = rating[index[battle.model_a]] - rating[index[battle.model_b]]
        if battle.source == VOTES and abs(lead) > MIN_RATING_GAP:
            yield battle, float(np.sign(lead) * (2.0 * battle.target - 1.0))


def ranks(scores: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Return ranks in [0, 1]; with weights, the share of weight at or below."""
    order = np.argsort(scores, kind="stable")
    result = np.empty(len(scores))
    steps = np.arange(len(scores)) / max(1, len(scores) - 1) if weight is None else np.cumsum(weight[order])
    result[order] = steps
    return result


def expected_apgr(scores: np.ndarray, gaps: np.ndarray) -> float:
    """Return the expected APGR of (n,) scores; prompts whose gap is NaN are left out."""
    known = np.isfinite(gaps)
    rank, gap = ranks(scores[known]), gaps[known]
    return float(0.5 + np.mean((rank - rank.mean()) * (gap - gap.mean())) / gap.mean())


def mixed_apgr(scores: np.ndarray, gaps: np.ndarray, tasks: Sequence[np.ndarray]) -> float:
    """Return the expected APGR over several tasks, each weighing the same."""
    rows = np.concatenate(tasks)
    weight = np.concatenate([np.full(len(task), 1.0 / len(task)) for task in tasks]) / len(tasks)
    gap = np.nan_to_num(gaps[rows])
    rank = ranks(scores[rows], weight)
    mean = float(weight @ gap)
    return float(0.5 + weight @ ((rank - weight @ rank) * (gap - mean)) / mean)


def families(scores: np.ndarray, rows: Rows, pick: Any = None) -> dict[str, float]:
    """Return the measure by family. `pick` resamples the rows of a source; None takes them as they are."""
    pick = pick or (lambda members: members)

    def one(source: str, gaps: np.ndarray) -> float:
        members = pick(np.flatnonzero(rows.source == source))
        return expected_apgr(scores[members], gaps[members])

    tasks = [pick(np.flatnonzero(rows.source == source)) for source in rows.sources if source.startswith(MIXED)]
    if hasattr(pick, "tasks"):
        tasks = [tasks[k] for k in pick.tasks(len(tasks))]
    return {
        "chat": (one(ARENA, rows.gap) + one(VOTES, rows.gap)) / 2.0,
        "exams": float(np.mean([one(source, rows.gap) for source in EXAMS])),
        "word problems": one(GSM8K, rows.tier_gap),
        "mixed traffic": mixed_apgr(scores, rows.gap, tasks),
    }


class Resample:
    """Draws prompts of a source with replacement, and tasks."""

    def __init__(self, seed: int) -> None:
        """Draw from this seed."""
        self._random = np.random.default_rng(seed)

    def __call__(self, members: np.ndarray) -> np.ndarray:
        """Return as many members as there are, drawn with replacement."""
        return self._random.choice(members, len(members))

    def tasks(self, count: int) -> np.ndarray:
        """Return as many indices of tasks as there are, drawn with replacement."""
        return self._random.integers(0, count, count)


def deviations(scores: np.ndarray, rows: Rows) -> dict[str, float]:
    """Return the standard deviation of each family's measure under resampling."""
    pick = Resample(SEED)
    draws = [families(scores, rows, pick) for _ in range(RESAMPLES)]
    return {name: float(np.std([draw[name] for draw in draws])) for name in draws[0]}


def labels(rows: Rows, difficulty_share: float, *, use_votes: bool) -> np.ndarray:
    """Return (n,) labels in standard deviations of their source; NaN where a row is not learned from."""
    result = np.full(len(rows.gap), np.nan)
    for source in rows.sources:
        if source == VOTES and not use_votes:
            continue
        members = rows.source == source
        gap = rows.gap[members] / np.nanstd(rows.gap[members])
        result[members] = gap
        if source not in (ARENA, VOTES) and difficulty_share:
            difficulty = rows.difficulty[members]
            within = (difficulty - difficulty.mean()) / difficulty.std()
            mean = np.nanmean(gap)
            result[members] = mean + (1.0 - difficulty_share) * (gap - mean) + difficulty_share * within
    return result


def groups_of(sources: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the sources in groups that leave the training data together."""
    together = {source: group for group in TOGETHER for source in group}
    return sorted({together.get(source, (source,)) for source in sources})


def left_out_scores(tokens: np.ndarray, label: np.ndarray, rows: Rows, index: np.ndarray, ridge: float) -> np.ndarray:
    """Return scores of each source by a regression that has not seen it, in standard deviations of that regression."""
    scores = np.empty(len(label))
    for group in groups_of(rows.sources):
        inside = np.isin(rows.source, group)
        found = tokens @ regress(tokens[~inside], label[~inside], index[~inside], ridge=ridge)
        scores[inside] = ((found - found.mean()) / found.std())[inside]
    return scores


def select(folder: Path) -> dict[str, Any]:
    """Return every candidate with its measures, and which of them is taken. Raises DataError."""
    rows = read_rows(folder)
    embedder = StaticEmbedder.load(SHIPPED_ROUTER)
    index = np.searchsorted(rows.sources, rows.source)
    length = embedder.replace(surface_features=["log_tokens"]).embed(rows.prompts)[:, -1].astype(np.float64)
    length = (length - length.mean()) / length.std()
    baseline, deviation = families(length, rows), deviations(length, rows)
    precision = {name: 1.0 / value**2 for name, value in deviation.items()}
    weights = {name: value / sum(precision.values()) for name, value in precision.items()}

    def total(measured: dict[str, float]) -> float:
        return sum(weights[name] * value for name, value in measured.items())

    candidates: list[dict[str, Any]] = []
    for normalize in NORMALIZE:
        tokens = embedder.replace(surface_features=[], normalize=normalize).embed(rows.prompts).astype(np.float64)
        for share, votes, ridge in itertools.product(DIFFICULTY_SHARES, USE_VOTES, RIDGES):
            scores = left_out_scores(tokens, labels(rows, share, use_votes=votes), rows, index, ridge)
            for length_weight in LENGTH_WEIGHTS:
                measured = families(length_weight * length + scores, rows)
                candidates.append(
                    {
                        "normalize": normalize,
                        "ridge": ridge,
                        "length_weight": length_weight,
                        "difficulty_share": share,
                        "votes": votes,
                        "measure": round(total(measured), 6),
                        "families": {name: round(value, 4) for name, value in measured.items()},
                    }
                )
            sys.stderr.write(".")
            sys.stderr.flush()
    sys.stderr.write("\n")
    candidates.sort(key=lambda candidate: -candidate["measure"])
    spread = sum(precision.values()) ** -0.5
    return {
        "taken": plainest(candidates, EQUAL_WITHIN * spread),
        "deviation": round(spread, 4),
        "prompts": len(rows.prompts),
        "sources": {source: int((rows.source == source).sum()) for source in rows.sources},
        "deviations": {name: round(value, 4) for name, value in deviation.items()},
        "weights": {name: round(value, 4) for name, value in weights.items()},
        "prompt_length": {
            "measure": round(total(baseline), 6),
            "families": {n: round(v, 4) for n, v in baseline.items()},
        },
        "candidates": candidates,
    }


def plainest(candidates: Sequence[dict[str, Any]], margin: float) -> dict[str, Any]:
    """Return the plainest of the candidates within a margin of the best, the first."""
    equal = [c for c in candidates if c["measure"] >= candidates[0]["measure"] - margin]
    return min(equal, key=lambda c: (c["votes"], c["difficulty_share"], -c["length_weight"], -c["measure"]))


def markdown(found: dict[str, Any]) -> str:
    """Return the page with the choice, the best candidates and prompt length."""
    names = list(found["weights"])
    head = ["normalize", "ridge", "length weight", "difficulty share", "votes", "measure", *names]

    def line(cells: Sequence[Any]) -> str:
        return f"| {' | '.join(str(cell) for cell in cells)} |"

    def row(c: dict[str, Any]) -> str:
        own = [c["normalize"], c["ridge"], c["length_weight"], c["difficulty_share"], c["votes"]]
        return line([*own, f"{c['measure']:.4f}", *(f"{c['families'][name]:.3f}" for name in names)])

    length = found["prompt_length"]
    baseline = ["prompt length", "", "", "", "", f"{length['measure']:.4f}"]
    return "\n".join(
        [
            "# How the recipe of the router that ships was chosen",
            "",
            f"Expected APGR on {len(found['sources'])} sources left out of training, {found['prompts']:,} prompts, by",
            "`python -m recipes.selection`, whose text explains the columns. The first row was taken; then",
            f"the ten best of {len(found['candidates'])} candidates (all: selection.json), and prompt length.",
            "Standard deviations: " + ", ".join(f"{n} {v}" for n, v in found["deviations"].items()) + "; weights: "
            + ", ".join(f"{n} {v}" for n, v in found["weights"].items()) + ".",
            f"The weighted mean's is {found['deviation']}: the best candidates differ by far less.",
            "",
            line(head),
            line(["---"] * len(head)),
            row(found["taken"]),
            *(row(candidate) for candidate in found["candidates"][:10]),
            line([*baseline, *(f"{length['families'][name]:.3f}" for name in names)]),
        ]
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Choose and write the results. Return 2 with one line on bad input."""
    parser = parser_of(
        "selection", __doc__, data="train/ is read", out="folder for selection.json and selection.md", is_dated=False
    )

    def work(options: argparse.Namespace) -> str:
        found = select(options.data / "train")
        page = markdown(found)
        write_results(options.out, "selection", json.dumps(found, indent=1), page)
        return page

    return run(parser, arguments, work)


if __name__ == "__main__":
    sys.exit(main())
