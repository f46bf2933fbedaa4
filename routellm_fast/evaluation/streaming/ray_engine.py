"""The same evaluation of a prompt log on Ray Data, for logs beyond one machine. Needs the extra `ray`.

Files are cut into pieces (`log_parts`), each of which one worker reads, scores and sums as `evaluate_log` does, with
the same code: rows are the same, errors name the same lines, and since sketches add up exactly so does the result.
Ray's own readers would not do: for CSV and JSON they guess types, and a prompt `007` would become a 7.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from routellm_fast.errors import InvalidArgumentError, RouteLLMError
from routellm_fast.evaluation.streaming.chunks import LogColumns, OnBadRow, check_options
from routellm_fast.evaluation.streaming.local_engine import check_rows, evaluate_stream, rows_of
from routellm_fast.evaluation.streaming.quality import StreamedQuality
from routellm_fast.evaluation.streaming.rows import LogPart, log_parts
from routellm_fast.evaluation.win_rates import Scorer
from routellm_fast.extras import require

PART_BYTES: Final = 64 << 20
_MERGED_AT_ONCE: Final = 16

# Called once in each worker: a router itself need not be able to travel.
LoadRouter = Callable[[], Scorer]
_Batch = dict[str, Any]


def run(
    routers: Mapping[str, LoadRouter],
    files: Sequence[Path],
    columns: LogColumns,
    *,
    on_bad_row: OnBadRow = "error",
    part_bytes: int = PART_BYTES,
    address: str | None = None,
    workers: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> StreamedQuality:
    """Evaluate routers on the rows of files, on Ray; equal to `evaluate_log` to the bit.

    A Ray that runs in this process already is used and left running; otherwise one is started and stopped.

    Args:
        routers: A function that loads each router, by the name that results show, e.g.
            `partial(load_router, directory)`.
        files: CSV or JSON lines, gzipped or not, or Parquet, at a path that every worker can read. CSV and compressed
            files are one piece each.
        columns: Names of the columns that hold the prompt, both qualities and the domain.
        on_bad_row: See evaluate_stream.
        part_bytes: About how large a piece is.
        address: Address of a Ray cluster, e.g. "auto" or "ray://host:10001"; None for this machine.
        workers: The most workers to use; None for one worker a CPU.
        on_progress: Called with the number of rows taken in so far.

    Raises:
        MissingExtraError: Ray is not installed.
        DataError: A file cannot be read, or a row is bad; the text names file and line.
        InvalidArgumentError: A router gave something else than one win rate in [0, 1] a prompt, or there is no such
            cluster.
        RouteLLMError: Loading a router raised another error, or Ray failed, e.g. because a machine was lost.
    """
    check_options(on_bad_row, part_bytes)
    if workers is not None and workers < 1:
        raise InvalidArgumentError(f"at least one worker is needed, found {workers}")
    require("ray", "ray")
    data = require("ray.data", "ray")
    parts = [part for path in files for part in log_parts(path, part_bytes=part_bytes)]
    found = StreamedQuality.of(routers, columns)
    with _ray(address, workers) as cpus, _quiet(data):
        items = [
            {"path": str(part.path), "start": part.start, "stop": -1 if part.stop is None else part.stop}
            for part in parts
        ]
        most = max(1, min(workers or cpus, len(parts)))
        scored = data.from_items(items, override_num_blocks=max(1, len(items))).map_batches(
            _Worker,
            fn_constructor_args=(dict(routers), columns, on_bad_row),
            batch_size=1,
            compute=data.ActorPoolStrategy(min_size=1, max_size=most),
            num_cpus=1,
        )
        # Merging takes next to no time, and must not wait for a CPU that the workers hold.
        merged = scored.map_batches(_merge, batch_size=_MERGED_AT_ONCE, num_cpus=0)
        for piece in _results(merged):
            found.merge(piece)
            if on_progress is not None:
                on_progress(found.rows)
    check_rows(found, files)
    return found


def _results(dataset: Any) -> Iterator[StreamedQuality]:
    exceptions = require("ray.exceptions", "ray")
    try:
        for row in dataset.iter_rows():
            if isinstance(row["found"], RouteLLMError):
                raise row["found"]
            yield row["found"]
    except exceptions.RayTaskError:
        raise  # a fault of this program
    except exceptions.RayError as error:
        raise RouteLLMError(f"Ray failed ({type(error).__name__}: {error})") from error


class _Worker:
    """Reads, scores and sums pieces of the log. Errors travel as values: Ray would wrap what is raised."""

    def __init__(self, routers: Mapping[str, LoadRouter], columns: LogColumns, on_bad_row: OnBadRow) -> None:
        self._load = routers
        self._columns = columns
        self._on_bad_row: OnBadRow = on_bad_row
        self._routers: dict[str, Scorer] | None = None

    def __call__(self, batch: _Batch) -> _Batch:
        found = StreamedQuality.of(self._load, self._columns)
        try:
            if self._routers is None:
                self._routers = {name: load() for name, load in self._load.items()}
            for path, start, stop in zip(batch["path"], batch["start"], batch["stop"], strict=True):
                part = LogPart(Path(path), int(start), None if stop < 0 else int(stop))
                rows = rows_of(part, found, self._on_bad_row)
                evaluate_stream(self._routers, rows, self._columns, on_bad_row=self._on_bad_row, into=found)
        except RouteLLMError as error:
            return _column([error])
        return _column([found])


def _merge(batch: _Batch) -> _Batch:
    first, *others = batch["found"]
    for other in others:
        if isinstance(first, RouteLLMError):
            break
        if isinstance(other, RouteLLMError):
            first = other
        else:
            first.merge(other)
    return _column([first])


def _column(values: list[Any]) -> _Batch:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return {"found": column}


@contextmanager
def _ray(address: str | None, workers: int | None) -> Iterator[int]:
    """A running Ray, and how many CPUs it has."""
    ray = require("ray", "ray")
    started = not ray.is_initialized()
    if started:
        # Read when Ray starts: it would report its use to its makers.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options = {"num_cpus": workers, "include_dashboard": False} if address is None else {"address": address}
        try:
            ray.init(**options, logging_level=logging.ERROR, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InvalidArgumentError(f"Ray cannot be reached at {address or 'this machine'} ({error})") from error
    try:
        yield int(ray.cluster_resources().get("CPU", 1))
    finally:
        if started:
            ray.shutdown()


@contextmanager
def _quiet(data: Any) -> Iterator[None]:
    """Neither bars nor chatter of Ray Data's own."""
    context, logger = data.DataContext.get_current(), logging.getLogger("ray.data")
    bars, level = context.enable_progress_bars, logger.level
    context.enable_progress_bars = False
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars = bars
        logger.setLevel(level)
