"""Texts that several calls want at once are embedded once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, Protocol, TypeVar

from routellm_fast.arrays import FloatArray


class Landing(Protocol):
    """What concurrent.futures.Future and asyncio.Future have in common; None stands for a lost text."""

    def result(self) -> FloatArray | None:
        """Return the vector, if there is one."""
        ...

    def set_result(self, result: FloatArray | None, /) -> None:
        """Hand the vector to those who wait."""
        ...


_Future = TypeVar("_Future", bound=Landing)


class Flights(Generic[_Future]):
    """The texts being embedded right now: the first call to claim one embeds it, the others wait for its landing."""

    def __init__(self, new_future: Callable[[], _Future]) -> None:
        self._new_future = new_future
        self._lock = threading.Lock()
        self._airborne: dict[bytes, _Future] = {}

    def claim(self, keys: Iterable[bytes]) -> tuple[list[bytes], dict[bytes, _Future]]:
        """Return the keys that the caller must land, and the futures of those that others will."""
        mine: list[bytes] = []
        others: dict[bytes, _Future] = {}
        with self._lock:
            for key in keys:
                if key in self._airborne:
                    others[key] = self._airborne[key]
                else:
                    self._airborne[key] = self._new_future()
                    mine.append(key)
        return mine, others

    def land(self, keys: Iterable[bytes], vectors: Mapping[bytes, FloatArray]) -> None:
        """Hand out what came of the caller's keys; a key without a vector is lost, and who waits must ask again."""
        with self._lock:
            landings = [(self._airborne.pop(key), vectors.get(key)) for key in keys]
        for future, vector in landings:
            future.set_result(vector)


def split_landed(others: Mapping[bytes, Landing]) -> tuple[dict[bytes, FloatArray], list[bytes]]:
    """Return what landed, and the keys that were lost. Threads wait here; asyncio's futures must be done."""
    results = {key: future.result() for key, future in others.items()}
    landed = {key: vector for key, vector in results.items() if vector is not None}
    return landed, [key for key in results if key not in landed]
