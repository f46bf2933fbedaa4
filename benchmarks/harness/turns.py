"""Contenders side by side: they take turns, so that noise and changes of the clock rate meet all of them alike."""

from __future__ import annotations

import gc
import random
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
    contenders: Mapping[str, Callable[[T], Any]],
    items: Sequence[T],
    *,
    rounds: int,
    stretch: int = 256,
    lead_in: int = 32,
) -> dict[str, NDArray[np.int64]]:
    """Time one call for each item.

    In each round every contender handles the same stretch of items before the next stretch begins, in an order drawn
    anew for each stretch. The items before the stretch come first, untimed: what the contender before left in the
    caches is not this one's cost. One clock read is in every figure (`clock_ns` says how much that is).

    Returns:
        (rounds, items) int64 nanoseconds for each contender.
    """
    times = {name: np.empty((rounds, len(items)), dtype=np.int64) for name in contenders}
    orders = _orders(contenders)
    with no_collector():
        for round_index in range(rounds):
            for begin in range(0, len(items), stretch):
                part = items[begin : begin + stretch]
                before = [items[index % len(items)] for index in range(begin - lead_in, begin)]
                for name in next(orders):
                    _time_each(contenders[name], before)
                    times[name][round_index, begin : begin + len(part)] = _time_each(contenders[name], part)
    return times


def time_blocks(
    contenders: Mapping[str, Callable[[], Any]], *, rounds: int, calls: int = 1
) -> dict[str, NDArray[np.float64]]:
    """Time whole blocks, each of `calls` calls, in an order drawn anew for each round.

    Returns:
        (rounds,) float64 nanoseconds a call for each contender.
    """
    times = {name: np.empty(rounds) for name in contenders}
    for block in contenders.values():
        block()
    orders = _orders(contenders)
    with no_collector():
        for round_index in range(rounds):
            for name in next(orders):
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


def ignoring_item(block: Callable[[], Any]) -> Callable[[Any], Any]:
    """Return a call that does the same for every item, to stand beside those that take one."""
    return lambda _: block()


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


def _orders(contenders: Mapping[str, Any]) -> Iterator[list[str]]:
    # Any fixed order would let one contender always run after the same other one, in its caches.
    rng = random.Random(0)
    while True:
        yield rng.sample(list(contenders), len(contenders))
