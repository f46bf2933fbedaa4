"""`routellm-fast route`."""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Final, NamedTuple

import typer
from rich.cells import cell_len, set_cell_size

from routellm_fast.cli._allowed import AllowServer
from routellm_fast.cli._digest import Digest
from routellm_fast.cli._left_out import Strict, left_out_of, say_left_out
from routellm_fast.cli._printing import say, say_json
from routellm_fast.cli._progress import working
from routellm_fast.cli._prompts import PipedLines, Prompt, PromptFormat, read_prompts
from routellm_fast.cli._streams import input_descriptor, is_typed
from routellm_fast.decision import Decision, ModelPair, NoText, check_share
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.errors import EmbedderUnavailableError, InvalidArgumentError
from routellm_fast.routers import Router, load_router
from routellm_fast.shown import shown

_BATCH: Final = 64
# How many seconds a batch that is not full waits for the next line of a pipe.
_PATIENCE_S: Final = 0.1


class _NoText(str, Enum):
    """What a prompt without text gets."""

    STRONG = "strong"
    WEAK = "weak"
    SCORE = "score"


def route(
    prompts: list[str] | None = typer.Argument(
        None, help="Prompts; not given: read --file, or standard input.", show_default=False
    ),
    router: Path | None = typer.Option(
        None, help="Router directory, or mf or sw_ranking for one that ships; not given: mf."
    ),
    digest: Digest = None,
    file: Path | None = typer.Option(
        None,
        help="File of prompts: one prompt a line, JSON lines with `prompt` or `messages`, or a table with a prompt.",
    ),
    threshold: float | None = typer.Option(
        None, help="Send a prompt to the strong model if its win rate is at least this, in [0, 1]."
    ),
    strong_share: float | None = typer.Option(
        None,
        help="Instead of --threshold: use the threshold that sends this share of the calibration's prompts to the "
        "strong model, in [0, 1]. Without both options: the share 0.5; a router without a calibration needs "
        "--threshold.",
    ),
    strong_model: str | None = typer.Option(None, help="Name of the strong model, instead of the stored one."),
    weak_model: str | None = typer.Option(None, help="Name of the weak model, instead of the stored one."),
    no_text: _NoText = typer.Option(
        _NoText.STRONG,
        help="What a prompt without text gets, such as a chat that holds only results of tools: the strong model, the "
        "weak model, or what its win rate says, which then rests on nothing.",
    ),
    form: PromptFormat = typer.Option(PromptFormat.AUTO, "--format", help="How lines become prompts."),
    jsonl: bool = typer.Option(False, "--jsonl", help="Print one JSON object for each prompt, not a table."),
    allow_server: AllowServer = None,
    strict: Strict = False,
) -> None:
    """Choose between the strong and the weak model for each prompt, in constant memory.

    Routers that need more than microseconds for a prompt, such as transformers, score files and pipes in batches.
    Blank lines are skipped.
    """
    loaded = load_router(
        router, strong_model=strong_model, weak_model=weak_model, digest=digest, allow_server=allow_server
    )
    limit = _threshold(loaded, threshold, strong_share)
    table = None if jsonl else _Table(loaded.model_pair, limit)
    tally = _Tally()
    reads_input = not prompts and file is None
    is_by_hand = reads_input and is_typed()
    size = _batch_size(loaded, is_typed=is_by_hand)
    pipe = PipedLines(input_descriptor()) if size > 1 and reads_input else None
    left_out = left_out_of(strict=strict, at_once=True)
    found = read_prompts(prompts or [], file, form, pipe, left_out=left_out)
    for answer in _decide(loaded, found, limit, no_text.value, size, pipe):
        if table:
            say(*table.lines(answer))
        else:
            say_json(_record(answer), indent=None)
        _flush_for_readers()
        tally.add(answer)
        if not is_by_hand:
            working("prompts routed", tally.count)
    if table:
        say(*tally.summary())
    say_left_out(left_out)


def _threshold(router: Router, threshold: float | None, strong_share: float | None) -> float:
    if threshold is not None and strong_share is not None:
        raise InvalidArgumentError("give --threshold or --strong-share, not both")
    if threshold is not None:
        return check_share(threshold, "threshold")
    return router.default_threshold if strong_share is None else router.threshold_for(strong_share)


class _Answer(NamedTuple):
    """A decision and its time: the time of its batch, divided by the number of prompts in it."""

    prompt: Prompt
    decision: Decision
    microseconds: float
    batch_size: int


def _decide(
    router: Router, prompts: Iterable[Prompt], threshold: float, no_text: NoText, size: int, pipe: PipedLines | None
) -> Iterator[_Answer]:
    if _takes_microseconds(router):
        router.win_rate(
            ""
        )  # the first call of a thread allocates its buffers: this keeps it out of the first prompt's time
    for batch in _batched(prompts, size, pipe):
        texts = [prompt.text for prompt in batch]
        start = time.perf_counter_ns()
        if size > 1:
            decisions = router.route_batch(texts, threshold, no_text=no_text)
        else:
            decisions = [router.route(texts[0], threshold, no_text=no_text)]
        microseconds = (time.perf_counter_ns() - start) / 1000 / len(batch)
        for prompt, decision in zip(batch, decisions, strict=True):
            yield _Answer(prompt, decision, microseconds, len(batch))


def _batch_size(router: Router, *, is_typed: bool) -> int:
    """Return 1 where a prompt takes microseconds, or where a person types prompts and waits for each answer."""
    return 1 if is_typed or _takes_microseconds(router) else _BATCH


def _takes_microseconds(router: Router) -> bool:
    try:
        return router.kind == "random" or isinstance(router.embedder, StaticEmbedder)
    except EmbedderUnavailableError:
        return False


def _batched(prompts: Iterable[Prompt], size: int, pipe: PipedLines | None) -> Iterator[list[Prompt]]:
    """Yield full batches, and smaller ones where a pipe has no further line yet, so that a slow writer is not kept."""
    batch: list[Prompt] = []
    for prompt in prompts:
        batch.append(prompt)
        if len(batch) == size or (pipe is not None and not pipe.is_at_hand(_PATIENCE_S)):
            yield batch
            batch = []
    if batch:
        yield batch


def _record(answer: _Answer) -> dict[str, Any]:
    prompt, decision = answer.prompt, answer.decision
    return {
        **({} if prompt.id is None else {"id": prompt.id}),
        "prompt": prompt.text,
        "win_rate": round(decision.win_rate, 7),
        "threshold": decision.threshold,
        "model": decision.model,
        "is_strong": decision.is_strong,
        "basis": decision.basis,
        "microseconds": round(answer.microseconds, 1),
        # With this key, the microseconds are the time of the batch divided by its number of prompts.
        **({} if answer.batch_size == 1 else {"batch_size": answer.batch_size}),
    }


class _Table:
    """A table whose columns have fixed widths, so that each row can be printed at once."""

    def __init__(self, pair: ModelPair, threshold: float) -> None:
        strong, weak = map(shown, pair)
        self._title = [f"{strong} from win rate {threshold:.4f}, else {weak}", ""]
        self._model_width = min(40, max(len(strong), len(weak)))
        used = 8 + 2 + self._model_width + 2 + 8 + 2
        self._prompt_width = max(20, shutil.get_terminal_size((120, 24)).columns - used - 1)
        self._title.append(f"{'win rate':>8}  {'model':{self._model_width}}  {'µs':>8}  prompt")

    def lines(self, answer: _Answer) -> list[str]:
        """Return the row of an answer, below the title and the head where it is the first."""
        prompt, decision = answer.prompt, answer.decision
        microseconds = f"{'~' if answer.batch_size > 1 else ''}{answer.microseconds:.1f}"
        width = self._prompt_width
        text = shown(" ".join(prompt.text[: 4 * width].split()))
        text = text if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"
        model = shown(decision.model)[: self._model_width]
        title, self._title = self._title, []  # not printed at all where no prompt could be routed
        return [*title, f"{decision.win_rate:8.4f}  {model:{self._model_width}}  {microseconds:>8}  {text}"]


def _flush_for_readers() -> None:
    """Flush standard output where a person or a pipe waits for each line; a file is written in blocks."""
    if sys.stdout.isatty() or not is_typed():
        sys.stdout.flush()


class _Tally:
    """Counts decisions and their times in constant memory: a histogram in steps of 0.1 microseconds."""

    def __init__(self) -> None:
        self.count = 0
        self._strong = 0
        self._tenths: Counter[int] = Counter()
        self._largest_batch = 1
        self._bases: Counter[str] = Counter()

    def add(self, answer: _Answer) -> None:
        microseconds = answer.microseconds
        self.count += 1
        self._strong += answer.decision.is_strong
        self._bases[answer.decision.basis] += 1
        self._largest_batch = max(self._largest_batch, answer.batch_size)
        # Times above 1 ms are rounded to 0.01 ms, so that the histogram stays small.
        self._tenths[round(microseconds * 10) if microseconds < 1000 else round(microseconds / 10) * 100] += 1

    def _quantile(self, share: float) -> float:
        rank, seen = share * (self.count - 1), 0
        for tenths, count in sorted(self._tenths.items()):
            seen += count
            if seen > rank:
                return tenths / 10
        return 0.0

    def summary(self) -> list[str]:
        total = self.count
        if total == 0:
            return ["no prompts"]
        if total == 1:  # whose share and percentiles say nothing more
            return ["", f"1 prompt, to the {'strong' if self._strong else 'weak'} model; {self._quantile(0):.1f} µs"]
        p50, p99 = self._quantile(0.5), self._quantile(0.99)
        share = self._strong / total
        shared = (
            ""
            if self._largest_batch == 1
            else f"; ~ the time of a batch of up to {self._largest_batch} prompts, divided by their number"
        )
        times = f"p50 {p50:.1f} µs, p99 {p99:.1f} µs a decision{shared}"
        return ["", f"{total:,} prompts, {share:.1%} to the strong model; {times}", *self._notes()]

    def _notes(self) -> Iterator[str]:
        """Say of how many prompts not all was read."""
        excerpts, empty = self._bases["excerpt"], self._bases["no_text"]
        if excerpts:
            yield f"{excerpts:,} longer than what is read: the rest was left out"
        if empty:
            yield f"{empty:,} without text: decided by --no-text"
