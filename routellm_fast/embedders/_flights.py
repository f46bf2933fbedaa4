"""Embeds a text once when several calls ask for it at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, Protocol, TypeVar

from routellm_fast.arrays import FloatArray


class Landing(Protocol):
    """What concurrent.futures.Future and asyncio.Future have in common.

    The result is a vector, or None where the call that was to embed the text failed.
    """

    def result(self) -> FloatArray | None:
        """Return the vector, or None where the text was not embedded."""
        ...

    def set_result(self, result: FloatArray | None, /) -> None:
        """Give the vector to the calls that wait for it."""
        ...


_Future = TypeVar("_Future", bound=Landing)


class Flights(Generic[_Future]):
    """The texts that are being embedded right now: the first call that claims one embeds it, the others wait for it."""

    def __init__(self, new_future: Callable[[], _Future]) -> None:
        self._new_future = new_future
        self._lock = threading.Lock()
        self._airborne: dict[bytes, _Future] = {}

    def claim(self, keys: Iterable[bytes]) -> tuple[list[bytes], dict[bytes, _Future]]:
        """Return the keys that the caller must embed and `land`, and the futures of keys that other calls will land."""
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
        """Give the vectors of the caller's keys to the calls that wait for them, None for a key without one."""
        with self._lock:
            landings = [(self._airborne.pop(key), vectors.get(key)) for key in keys]
        for future, vector in landings:
            future.set_result(vector)


def split_landed(others: Mapping[bytes, Landing]) -> tuple[dict[bytes, FloatArray], list[bytes]]:
    """Return the vectors that others embedded, and the keys that they did not.

    Waits for futures of concurrent.futures; futures of asyncio must be done.
    """
    results = {key: future.result() for key, future in others.items()}
    landed = {key: vector for key, vector in results.items() if vector is not None}
    return landed, [key for key in results if key not in landed]
