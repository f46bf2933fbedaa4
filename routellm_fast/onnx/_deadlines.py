"""Deadlines of work in a library that must be told to stop: one thread for all of them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from routellm_fast.errors import OnnxModelError

# An idle thread that wakes in vain costs less than waking it for each of a million short runs.
_IDLE_S: Final = 60.0


@dataclass(slots=True, eq=False)
class Watch:
    """Work under a deadline.

    Attributes:
        ends_s: When it is to be stopped, in seconds of time.monotonic.
        stop: Tells it to stop; called once, in another thread.
        is_late: Whether it was told.
    """

    ends_s: float
    stop: Callable[[], None]
    is_late: bool = False


class _Deadlines:
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._watched: set[Watch] = set()
        self._wakes_s = float("-inf")  # no thread runs

    def add(self, watch: Watch) -> None:
        with self._changed:
            self._watched.add(watch)
            if self._wakes_s == float("-inf"):
                self._wakes_s = watch.ends_s
                threading.Thread(target=self._run, name="routellm-fast deadlines", daemon=True).start()
            elif watch.ends_s < self._wakes_s:
                self._changed.notify()

    def remove(self, watch: Watch) -> None:
        with self._changed:
            self._watched.discard(watch)

    def _run(self) -> None:
        idle_since_s = time.monotonic()
        with self._changed:
            while True:
                now_s = time.monotonic()
                for watch in [watch for watch in self._watched if watch.ends_s <= now_s]:
                    self._watched.discard(watch)
                    watch.is_late = True
                    watch.stop()
                if self._watched:
                    idle_since_s = now_s
                elif now_s - idle_since_s >= _IDLE_S:
                    self._wakes_s = float("-inf")
                    return
                self._wakes_s = min((watch.ends_s for watch in self._watched), default=now_s + _IDLE_S)
                self._changed.wait(min(self._wakes_s - now_s, threading.TIMEOUT_MAX))


_deadlines = _Deadlines()


def _forget() -> None:
    global _deadlines  # noqa: PLW0603 - a forked child has neither the thread nor the work
    _deadlines = _Deadlines()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@contextmanager
def deadline(timeout_s: float | None, stop: Callable[[], None]) -> Iterator[Watch | None]:
    """Call `stop` in another thread if the block has not ended after so many seconds; None for never."""
    if timeout_s is None:
        yield None
        return
    watch = Watch(time.monotonic() + timeout_s, stop)
    deadlines = _deadlines
    deadlines.add(watch)
    try:
        yield watch
    finally:
        deadlines.remove(watch)


@contextmanager
def run_deadline(options: Any, timeout_s: float | None) -> Iterator[None]:
    """Stop ONNX Runtime's run of these RunOptions after so many seconds. Raises OnnxModelError where it was stopped."""

    def stop() -> None:
        options.terminate = True

    with deadline(timeout_s, stop) as watch:
        try:
            yield
        except Exception as error:
            if watch is None or not watch.is_late:
                raise
            raise OnnxModelError(
                f"the ONNX graph was stopped after {timeout_s:g} s: give it fewer or shorter texts, or a longer "
                "run_timeout_s"
            ) from error
