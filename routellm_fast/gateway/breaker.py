"""A circuit breaker: who fails again and again is left alone for a while, and then tried by one request."""

from __future__ import annotations

import time
from collections.abc import Callable


class Breaker:
    """Says whether a server may be asked. Belongs to one event loop; each worker process has its own.

    Closed, it lets everything through. After `failures` failures in a row it opens: nothing is let through for `open_s`
    seconds. Then one request is let through as a probe. Its success closes the breaker, its failure opens it again. A
    probe that ends in neither way, as when its client goes away, counts as lost after `open_s` seconds, and another is
    let through. Any success closes the breaker, also of a request that was sent before it opened.

    What counts as a failure is the caller's to say: no connection, no answer in time, an answer that breaks off, status
    5xx. A status 4xx is the request's fault. That holds for 429 too: a server that says "slower" is well, often means
    one client's share, and says itself when to come back.
    """

    def __init__(self, failures: int, open_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin closed.

        Args:
            failures: How many failures in a row open it, at least 1.
            open_s: For how many seconds it stays open, > 0.
            clock: Returns seconds that never go back.
        """
        self._failures, self._open_s, self._clock = failures, open_s, clock
        self._in_a_row = 0
        self._shut_until_s: float | None = None  # None while closed
        self._is_probing = False

    @property
    def rule(self) -> tuple[int, float]:
        """How many failures in a row open it, and for how many seconds."""
        return self._failures, self._open_s

    @property
    def retry_after_s(self) -> float:
        """Seconds until a request may be let through, unless a probe ends before; 0 where one would be now."""
        return 0.0 if self._shut_until_s is None else max(0.0, self._shut_until_s - self._clock())

    def allows(self) -> bool:
        """Whether a request may be sent now. The caller then sends it and says how it ended: it may be the probe."""
        if self._shut_until_s is None:
            return True
        now_s = self._clock()
        if now_s < self._shut_until_s:
            return False
        self._is_probing, self._shut_until_s = True, now_s + self._open_s
        return True

    def succeeded(self) -> None:
        """A request succeeded."""
        self._in_a_row, self._shut_until_s, self._is_probing = 0, None, False

    def failed(self) -> None:
        """A request failed."""
        self._in_a_row += 1
        # While it is open, requests that were sent before still fail: they do not make the pause longer.
        if self._is_probing or (self._shut_until_s is None and self._in_a_row >= self._failures):
            self._is_probing, self._shut_until_s = False, self._clock() + self._open_s
