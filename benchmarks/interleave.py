"""Contenders side by side: they take turns in short stretches, so that noise and clock changes meet all of them alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


@contextmanager
def no_collector() -> Iterator[None]:
    """Keep Python's garbage collector out of the figures, as timeit does."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def time_items(
    contenders: Mapping[str, Callable[[T], Any]], items: Sequence[T], *, rounds: int, stretch: int = 32
) -> dict[str, NDArray[np.int64]]:
    """Time one call for each item.

    In each round every contender handles the same stretch of items before the next stretch begins; who begins
    changes with every stretch and round. One clock read is in every figure (`clock_ns` says how much that is).

    Returns:
        (rounds, items) int64 nanoseconds for each contender.
    """
    times = {name: np.empty((rounds, len(items)), dtype=np.int64) for name in contenders}
    for call in contenders.values():
        _time_each(call, items[:stretch])
    with no_collector():
        for round_index in range(rounds):
            for turn, begin in enumerate(range(0, len(items), stretch)):
                part = items[begin : begin + stretch]
                for name in _rotated(contenders, round_index + turn):
                    times[name][round_index, begin : begin + len(part)] = _time_each(contenders[name], part)
    return times


def time_blocks(
    contenders: Mapping[str, Callable[[], Any]], *, rounds: int, calls: int = 1
) -> dict[str, NDArray[np.float64]]:
    """Time whole blocks, each of `calls` calls.

    Returns:
        (rounds,) float64 nanoseconds a call for each contender.
    """
    times = {name: np.empty(rounds) for name in contenders}
    for block in contenders.values():
        block()
    with no_collector():
        for round_index in range(rounds):
            for name in _rotated(contenders, round_index):
                start = time.perf_counter_ns()
                contenders[name]()
                times[name][round_index] = (time.perf_counter_ns() - start) / calls
    return times


def looped(call: Callable[[T], Any], items: Sequence[T]) -> Callable[[], None]:
    """Return a block: one call for each item, in a plain for loop, as a user would write it."""

    def block() -> None:
        for item in items:
            call(item)

    return block


def clock_ns() -> float:
    """Return what reading the clock adds to a figure, in nanoseconds."""
    return float(np.median(_time_each(lambda _: None, range(10_001)))) - _empty_call_ns()


def _empty_call_ns() -> float:
    nothing = lambda _: None  # noqa: E731 - the same callable as in clock_ns
    block = looped(nothing, range(10_001))
    start = time.perf_counter_ns()
    block()
    return (time.perf_counter_ns() - start) / 10_001


def _time_each(call: Callable[[T], Any], items: Sequence[T]) -> list[int]:
    clock = time.perf_counter_ns
    times = []
    for item in items:
        start = clock()
        call(item)
        times.append(clock() - start)
    return times


def _rotated(contenders: Mapping[str, Any], by: int) -> list[str]:
    names = list(contenders)
    first = by % len(names)
    order = names[first:] + names[:first]
    # Rotation alone would always let the same contender follow the same other one.
    return order[::-1] if (by // len(names)) % 2 else order
