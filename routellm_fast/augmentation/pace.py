"""Rate limits: how many requests and tokens may be sent in a minute."""

from __future__ import annotations

import math

from routellm_fast.augmentation.clock import Clock, Stop
from routellm_fast.errors import InvalidArgumentError


class Pace:
    """Spaces requests evenly, so that no minute holds more than allowed and there are no bursts.

    The tokens of a request are known only after its answer: a turn takes as many as there could be, and those that were
    not used are given back later.
    Usable in one event loop.
    """

    def __init__(
        self, clock: Clock, *, requests_per_min: float | None = None, tokens_per_min: float | None = None
    ) -> None:
        """Set the limits; None for none. Raises InvalidArgumentError for one that is not above 0 and finite."""
        for name, value in (("requests_per_min", requests_per_min), ("tokens_per_min", tokens_per_min)):
            if value is not None and not 0.0 < value < math.inf:
                raise InvalidArgumentError(f"{name} must be above 0 and finite, found {value}")
        self._clock = clock
        self._s_per_request = 60.0 / requests_per_min if requests_per_min else 0.0
        self._s_per_token = 60.0 / tokens_per_min if tokens_per_min else 0.0
        self._next_request_s = -math.inf
        self._next_token_s = -math.inf
        self._paused_until_s = -math.inf

    async def turn(self, tokens: int, stop: Stop) -> None:
        """Wait until a request of up to this many tokens may be sent. Raises StoppedError when asked to stop."""
        while True:
            stop.check()
            now = self._clock.monotonic()
            start = max(self._next_request_s, self._next_token_s, self._paused_until_s)
            # Between waking and going on another task may have taken the turn, or a pause may have begun.
            if start <= now:
                self._next_request_s = now + self._s_per_request
                self._next_token_s = now + self._s_per_token * tokens
                return
            await stop.sleep(self._clock, start - now)

    def give_back(self, tokens: int) -> None:
        """Return tokens that a turn took and its request did not use."""
        self._next_token_s -= self._s_per_token * tokens

    def pause(self, seconds: float) -> None:
        """Hold all requests back for that many seconds: a server that asks for a pause means every request."""
        self._paused_until_s = max(self._paused_until_s, self._clock.monotonic() + seconds)
