"""How many texts a server is sent at once, where it may take fewer than it was asked to."""

from __future__ import annotations

from typing import Final

# Requests of the most texts that must succeed before more are tried again: at first, and at most. A server whose limit
# never changes is so sent one request in many that it refuses.
_FIRST_PATIENCE: Final = 32
_LONGEST_PATIENCE: Final = 4096


class BatchLimit:
    """The most texts in a request. Not thread-safe.

    A refusal lowers it. It may have been a passing one, so after some successes twice as many are tried; each further
    refusal makes that rarer.
    """

    def __init__(self, most_texts: int) -> None:
        """Begin with the most that are ever sent."""
        self._ceiling = self.most_texts = most_texts
        self._patience = _FIRST_PATIENCE
        self._successes = 0

    def refused(self, taken: int) -> None:
        """Learn that the server has refused a request, and then taken one of fewer texts."""
        if taken < self.most_texts:
            if self._patience < _LONGEST_PATIENCE and self.most_texts < self._ceiling:
                self._patience *= 2
            self.most_texts, self._successes = taken, 0

    def took(self, count: int) -> None:
        """Learn that the server has taken a request of so many texts."""
        if count < self.most_texts or self.most_texts == self._ceiling:
            return
        self._successes += 1
        if self._successes >= self._patience:
            self.most_texts, self._successes = min(self._ceiling, 2 * self.most_texts), 0
