"""A log of prompts: each distinct prompt once, with the number of times it was asked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.arrays import FloatArray, brief_repr
from routellm_fast.errors import DataError
from routellm_fast.scoring import check_win_rates, score_in_batches

if TYPE_CHECKING:
    from routellm_fast.routers.base import Router

# Large enough for a batch to be one call into the core, small enough for a remote embedder and a moving bar.
_BATCH: Final = 256


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """The prompts of a log, counted.

    Attributes:
        prompts: m distinct prompts, in the order in which they were first asked.
        counts: (m,) int64: how often each was asked, >= 1.
        blank: Number of further prompts that were empty or white space only. They are left out, since nothing can be
            learned from them and a log may have many empty lines.
        digest: "sha256:<hex>" over all prompts in the order of the log, blank ones left out: the UTF-8 bytes of each,
            followed by a zero byte.
    """

    prompts: tuple[str, ...]
    counts: NDArray[np.int64]
    blank: int
    digest: str

    __repr__ = brief_repr

    @classmethod
    def of(cls, prompts: Iterable[str]) -> Traffic:
        """Count prompts, which may come from a stream. Raises DataError where there are none."""
        counts: dict[str, int] = {}
        blank, digest = 0, hashlib.sha256()
        for prompt in prompts:
            if not prompt or prompt.isspace():
                blank += 1
                continue
            counts[prompt] = counts.get(prompt, 0) + 1
            digest.update(prompt.encode("utf-8", "surrogatepass") + b"\0")
        if not counts:
            raise DataError(
                f"there is no prompt to calibrate on, only {blank} blank ones" if blank else "there is no prompt"
            )
        values = np.fromiter(counts.values(), dtype=np.int64, count=len(counts))
        return cls(tuple(counts), values, blank, f"sha256:{digest.hexdigest()}")

    @property
    def request_count(self) -> int:
        """Number of requests: each prompt counts as often as it was asked."""
        return int(self.counts.sum())

    def per_request(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (request_count,) values, one for each request, from (m,) values, one for each distinct prompt."""
        return np.repeat(values, self.counts)


def score(
    router: Router, prompts: Sequence[str], *, on_progress: Callable[[int, int], None] | None = None
) -> FloatArray:
    """Return (n,) win rates.

    Args:
        router: Scores the prompts.
        prompts: At least one.
        on_progress: Called with the number of prompts scored so far and their total.

    Raises:
        InvalidArgumentError: A win rate is not in [0, 1].
        EmbedderUnavailableError: The router has no embedder.
    """
    scored = score_in_batches(router.win_rates, prompts, batch=_BATCH, on_progress=on_progress)
    found = scored.astype(np.float32, copy=False)
    check_win_rates(found)
    return found
