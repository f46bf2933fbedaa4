"""Benchmarks: those of RouteLLM's paper, from the layout of its `routellm/evals`, and any table of a user's own."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.arrays import brief_repr
from routellm_fast.data.names import spellings_of
from routellm_fast.data.prompts import SOURCE_COLUMNS, Prompts, prompt_text
from routellm_fast.data.sources import rows_of, source_name
from routellm_fast.data.split import group_of
from routellm_fast.decision import ModelPair
from routellm_fast.errors import DataError, InvalidArgumentError, UnknownModelError
from routellm_fast.tables import LeftOut, Row, read_table, usable

PAPER_PAIR: Final = ModelPair("gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1")
BENCHMARKS: Final = ("mmlu", "gsm8k", "mt_bench")
_MAX_JUDGE_SCORE: Final = 10.0
# What an answer of a model cost, as RouterBench names the column.
_COST_SUFFIX: Final = "|total_cost"
# What a perfect answer scores is not written in a user's table: the least of these that no score exceeds.
_SCALES: Final = (1.0, 5.0, 10.0, 100.0)
# The columns that name a domain in a user's table; the first that is there counts.
_DOMAIN_COLUMNS: Final = ("domain", "category", *SOURCE_COLUMNS)


@dataclass(frozen=True, slots=True, eq=False)
class Benchmark:
    """Prompts and how well each model of a pair answered them, without the contaminated ones.

    Attributes:
        name: "mmlu", "gsm8k", "mt_bench", or what the user calls it.
        prompts: n prompts.
        strong_quality: (n,) float64, in [0, max_quality].
        weak_quality: The same for the weak model.
        max_quality: 1 where answers are right or wrong, 10 where a judge gave points.
        dropped: How many prompts were left out, because training data of RouteLLM's routers held them.
        domains: The domain of each prompt; empty where all are of one.
        pair: The two models that gave these answers.
        strong_cost_usd: (n,) float64, what each answer of the strong model cost; None where that is not known of all.
        weak_cost_usd: The same for the weak model.
        overlapping: How many were left out because training data that the user named hold them.
        unscored: How many were left out because one of the models was not run on them.
        groups: The group of each prompt, which resamples draw whole; empty where prompts are drawn by themselves.
    """

    name: str
    prompts: tuple[str, ...]
    strong_quality: NDArray[np.float64]
    weak_quality: NDArray[np.float64]
    max_quality: float
    dropped: int
    domains: tuple[str, ...] = ()
    pair: ModelPair = PAPER_PAIR
    strong_cost_usd: NDArray[np.float64] | None = None
    weak_cost_usd: NDArray[np.float64] | None = None
    overlapping: int = 0
    unscored: int = 0
    groups: tuple[str, ...] = ()

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        """Refuse columns that do not fit the prompts, and qualities that are no numbers."""
        count = len(self.prompts)
        for name in ("strong_quality", "weak_quality", "strong_cost_usd", "weak_cost_usd"):
            column = getattr(self, name)
            if column is not None and (column.shape != (count,) or not np.isfinite(column).all()):
                raise InvalidArgumentError(
                    f"{self.name}: {name} must hold {count} finite numbers, found shape {column.shape}"
                )
        if count == 0 or len(self.domains) not in (0, count) or len(self.groups) not in (0, count):
            raise InvalidArgumentError(
                f"{self.name}: {count} prompts, {len(self.domains)} domains and {len(self.groups)} groups; expected as "
                "many or none of the latter, and one prompt at least"
            )

    def digest(self) -> str:
        """Return "blake2b:<hex>" of the prompts, in their order: what win rates depend on."""
        digest = hashlib.blake2b(digest_size=16)
        for prompt in self.prompts:
            content = prompt.encode("utf-8", "surrogatepass")
            digest.update(len(content).to_bytes(8, "little") + content)
        return f"blake2b:{digest.hexdigest()}"

    def select(self, rows: NDArray[np.intp]) -> Benchmark:
        """Return the benchmark of these rows only; counts of what was left out stay as they are."""
        costs = (self.strong_cost_usd, self.weak_cost_usd)
        strong_cost, weak_cost = (None if cost is None else cost[rows] for cost in costs)
        return dataclasses.replace(
            self,
            prompts=tuple(self.prompts[row] for row in rows),
            strong_quality=self.strong_quality[rows],
            weak_quality=self.weak_quality[rows],
            domains=tuple(self.domains[row] for row in rows) if self.domains else (),
            groups=tuple(self.groups[row] for row in rows) if self.groups else (),
            strong_cost_usd=strong_cost,
            weak_cost_usd=weak_cost,
        )


def evals_folder(folder: Path) -> Path:
    """Return the folder that holds the benchmarks: itself, or within a checkout of RouteLLM.

    Raises:
        DataError: Neither it nor a checkout's places below it hold one.
    """
    for place in (folder, folder / "evals", folder / "routellm" / "evals"):
        if any((place / name).is_dir() for name in BENCHMARKS):
            return place
    raise DataError(
        f"{folder} is no folder of benchmarks: expected one of {', '.join(BENCHMARKS)} in it, in evals/ or in "
        "routellm/evals/, as in a checkout of RouteLLM"
    )


def read_benchmarks(
    folder: Path, pair: ModelPair = PAPER_PAIR, names: Sequence[str] = BENCHMARKS
) -> tuple[Benchmark, ...]:
    """Read MMLU, GSM8K and MT-Bench, or those named.

    Args:
        folder: `routellm/evals` of a checkout of RouteLLM, the checkout itself, or a folder of that layout.
        pair: The two models whose answers are compared; both must have a column.
        names: The benchmarks to read: any of "mmlu", "gsm8k" and "mt_bench".

    Raises:
        DataError: A file is missing or damaged; the text names file and line.
        InvalidArgumentError: There is no benchmark of that name.
    """
    readers = {"mmlu": read_mmlu, "gsm8k": read_gsm8k, "mt_bench": read_mt_bench}
    if unknown := [name for name in names if name not in readers]:
        raise InvalidArgumentError(f"there is no benchmark {unknown[0]!r}, only {', '.join(BENCHMARKS)}")
    return tuple(readers[name](evals_folder(folder), pair) for name in names)


def read_mmlu(folder: Path, pair: ModelPair = PAPER_PAIR) -> Benchmark:
    """Read `mmlu/responses/mmlu_<domain>.csv`. See read_benchmarks."""
    files = sorted((folder / "mmlu" / "responses").glob("mmlu_*.csv"))
    if not files:
        raise DataError(f"{folder / 'mmlu' / 'responses'} holds no mmlu_<domain>.csv")
    rows = ((file.stem.removeprefix("mmlu_"), row) for file in files for row in read_table(file))
    return _right_or_wrong("mmlu", rows, _contaminated(folder / "mmlu"), pair)


def read_gsm8k(folder: Path, pair: ModelPair = PAPER_PAIR) -> Benchmark:
    """Read `gsm8k/gsm8k_responses.csv`. See read_benchmarks."""
    rows = (("gsm8k", row) for row in read_table(folder / "gsm8k" / "gsm8k_responses.csv"))
    return _right_or_wrong("gsm8k", rows, _contaminated(folder / "gsm8k"), pair)


def read_mt_bench(folder: Path, pair: ModelPair = PAPER_PAIR) -> Benchmark:
    """Read `mt_bench/question.jsonl` and `judgements.jsonl`. See read_benchmarks.

    A question is routed on its first turn and counts the mean of its turns' scores. It is dropped when either turn is
    contaminated, as RouteLLM does. Its domain is its category.
    """
    contaminated = _contaminated(folder / "mt_bench")
    scores: dict[tuple[object, str], list[float]] = {}
    for row in read_table(folder / "mt_bench" / "judgements.jsonl"):
        score = row.number("score")
        given = scores.setdefault((row.values.get("question_id"), row.text("model")), [])
        if score is None:
            continue  # an empty cell: the judge gave no score
        if not 0.0 <= score <= _MAX_JUDGE_SCORE:
            raise row.error(
                f"a score lies in [0, {_MAX_JUDGE_SCORE:g}], found {score}: leave out what the judge could not rate"
            )
        given.append(score)
    found = _Rows("mt_bench", pair)
    for row in read_table(folder / "mt_bench" / "question.jsonl"):
        turns = row.values.get("turns")
        if not isinstance(turns, list) or not turns or not all(isinstance(turn, str) for turn in turns):
            raise row.error(f"'turns' must be a list of texts, found {turns!r}")
        if contaminated.intersection(turns):
            found.dropped += 1
            continue
        question = row.values.get("question_id")
        missing = [model for model in pair if (question, model) not in scores]
        if missing:
            raise row.error(f"judgements.jsonl has no score of {missing[0]!r} for question {question!r}")
        if not all(scores[question, model] for model in pair):
            found.unscored += 1
            continue
        strong, weak = (float(np.mean(scores[question, model])) for model in pair)
        found.add(turns[0], str(row.values.get("category") or "mt_bench"), strong, weak)
    return found.benchmark(_MAX_JUDGE_SCORE)


def read_table_benchmark(
    path: Path,
    pair: ModelPair,
    *,
    name: str | None = None,
    prompts: Prompts | None = None,
    left_out: LeftOut | None = None,
) -> Benchmark:
    """Read a table of a user's own: one row a prompt, one column a model with its score; higher is better.

    The prompt is found as `routellm_fast.data.prompts` says. `domain`, `category`, `source`, `task` or `eval_name`
    names the domain; `<model>|total_cost` what an answer cost in US dollars. Other columns are not read. Rows without a
    score of both models are left out and counted: an empty cell, and in JSON lines a missing one, says that the model
    was not run.

    Args:
        path: A table, or a folder of them, as `routellm_fast.data.sources` says.
        pair: The columns to compare. A model may go by any name that `routellm_fast.data.known_aliases` knows.
        name: Name of the benchmark; None takes the file's.
        prompts: The prompts in which a prompt_id is looked up.
        left_out: Takes rows that cannot be read; None raises. See tables.LeftOut.

    Raises:
        UnknownModelError: The table has no column of a model.
        DataError: A row breaks the layout and left_out does not take it, or none has scores of both models.
    """
    found = _Rows(name or source_name(path), pair)
    known: dict[str, str] = {}
    unknown: UnknownModelError | None = None

    def read(row: Row) -> None:
        nonlocal unknown
        for model in pair:
            if known.get(model) not in row.values:
                try:
                    known[model] = _column(row, model)
                except UnknownModelError as error:
                    # JSON lines leave out what was not run: another row may have it.
                    unknown = unknown or error
        columns = tuple(known.get(model, model) for model in pair)
        strong, weak = (row.number(column) for column in columns)
        if strong is None or weak is None:
            found.unscored += 1
            return
        if min(strong, weak) < 0.0:
            raise row.error(f"a score is zero or more, found {min(strong, weak):g}")
        domain = next((row.values[column] for column in _DOMAIN_COLUMNS if row.values.get(column)), found.name)
        costs = tuple(row.number(f"{column}{_COST_SUFFIX}") for column in columns)
        found.add(prompt_text(row, prompts), str(domain), strong, weak, costs)

    for _ in usable(rows_of(path, left_out=left_out), read, left_out):
        pass
    if unknown is not None and len(known) < len(set(pair)):
        raise unknown
    highest = max((max(qualities) for qualities in found.qualities), default=0.0)
    return found.benchmark(scale_of(highest))


def training_groups(
    paths: Iterable[Path], *, prompts: Prompts | None = None, left_out: LeftOut | None = None
) -> frozenset[str]:
    """Return the prompt groups of training files, whatever their layout, for without_groups.

    Rows that cannot be read go to left_out; see tables.LeftOut. Raises DataError.
    """
    return frozenset(
        group_of(prompt)
        for path in paths
        for prompt in usable(rows_of(path, left_out=left_out), lambda row: prompt_text(row, prompts), left_out)
    )


def without_groups(benchmark: Benchmark, groups: Collection[str]) -> Benchmark:
    """Return the benchmark without prompts of these groups, counted as overlapping.

    Two prompts share a group when they are equal but for case, spacing and Unicode form.

    Raises:
        DataError: No prompt is left.
    """
    kept = np.flatnonzero([group_of(prompt) not in groups for prompt in benchmark.prompts])
    overlapping = len(benchmark.prompts) - len(kept)
    if not len(kept):
        raise DataError(f"{benchmark.name}: all {overlapping} prompts are in the training data")
    return dataclasses.replace(benchmark.select(kept), overlapping=benchmark.overlapping + overlapping)


class _Rows:
    """Rows of a benchmark while they are read."""

    def __init__(self, name: str, pair: ModelPair) -> None:
        self.name = name
        self._pair = pair
        self._prompts: list[str] = []
        self._domains: list[str] = []
        self.qualities: list[tuple[float, float]] = []
        self._costs: list[tuple[float, float]] = []
        self.dropped = 0
        self.unscored = 0

    def add(
        self, prompt: str, domain: str, strong: float, weak: float, costs: Sequence[float | None] = (None, None)
    ) -> None:
        self._prompts.append(prompt)
        # Unlike a prompt, a domain is printed and written: a lone surrogate has no place in UTF-8.
        self._domains.append(domain.encode("utf-8", "replace").decode())
        self.qualities.append((strong, weak))
        if None not in costs and len(self._costs) == len(self._prompts) - 1:
            self._costs.append((costs[0] or 0.0, costs[1] or 0.0))

    def benchmark(self, max_quality: float) -> Benchmark:
        if not self._prompts:
            raise DataError(
                f"{self.name}: no prompt is left after dropping {self.dropped} contaminated ones and {self.unscored} "
                f"without scores of both {self._pair.strong!r} and {self._pair.weak!r}"
            )
        strong, weak = np.array(self.qualities, dtype=np.float64).T
        complete = len(self._costs) == len(self._prompts)
        strong_cost, weak_cost = np.array(self._costs, dtype=np.float64).T if complete else (None, None)
        return Benchmark(
            self.name,
            tuple(self._prompts),
            strong,
            weak,
            max_quality,
            self.dropped,
            domains=tuple(self._domains) if len(set(self._domains)) > 1 else (),
            pair=self._pair,
            strong_cost_usd=strong_cost,
            weak_cost_usd=weak_cost,
            unscored=self.unscored,
        )


def scale_of(highest_quality: float) -> float:
    """Return what a perfect answer scores: the least of 1, 5, 10, 100 that no answer exceeded, else the highest."""
    return next((scale for scale in _SCALES if highest_quality <= scale), highest_quality)


def _right_or_wrong(
    name: str, rows: Iterable[tuple[str, Row]], contaminated: frozenset[str], pair: ModelPair
) -> Benchmark:
    found = _Rows(name, pair)
    for domain, row in rows:
        prompt = row.text("prompt")
        if prompt in contaminated:
            found.dropped += 1
            continue
        if missing := [model for model in pair if model not in row.values]:
            raise row.error(f"there is no column {missing[0]!r}, only {', '.join(map(repr, row.values))}")
        strong, weak = (row.number(model) for model in pair)
        if strong is None or weak is None:
            found.unscored += 1
            continue
        if strong not in (0.0, 1.0) or weak not in (0.0, 1.0):
            raise row.error(f"expected True or False for {pair.strong!r} and {pair.weak!r}, found {strong} and {weak}")
        found.add(prompt, domain, strong, weak)
    return found.benchmark(1.0)


def _column(row: Row, model: str) -> str:
    """Return the column of a model, under its own name or an alias."""
    columns = spellings_of(model, row.values)
    if len(columns) == 1:
        return columns[0]
    if columns:
        raise row.error(f"columns {', '.join(map(repr, columns))} are all {model!r}: name one of them")
    columns = list(row.values)
    raise UnknownModelError(
        f"{row.path} has no column {model!r}: name two models as its columns do, {', '.join(map(repr, columns))}"
    )


def _contaminated(folder: Path) -> frozenset[str]:
    return frozenset(row.text("eval_prompt") for row in read_table(folder / "contaminated_prompts.jsonl"))
