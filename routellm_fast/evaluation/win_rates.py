"""Win rates of a router on a benchmark, computed once and kept by digest of both."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from routellm_fast import _core
from routellm_fast.data.digest import file_digest
from routellm_fast.errors import DataError
from routellm_fast.evaluation.datasets import Benchmark
from routellm_fast.kept_file import read_kept, write_kept
from routellm_fast.scoring import OnStep, score_in_batches

_BATCH: Final = 1024

# What is done, how many steps of it, and of how many.


class Scorer(Protocol):
    """Anything that gives win rates: a Router, or a user's own."""

    def win_rates(self, prompts: Sequence[str]) -> NDArray[np.floating[Any]]:
        """Return (n,) win rates; any score that rises with the need for the strong model will do."""


@dataclass(frozen=True, slots=True)
class RouterIdentity:
    """Which router it was, for the record and for the cache of win rates.

    Attributes:
        directory: The router's directory, as the user named it.
        digest: "sha256:<hex>" of what it consists of; win rates are cached under it, never under a name.
    """

    directory: str = ""
    digest: str = ""


def directory_identity(directory: Path, *, shown: str | None = None) -> RouterIdentity:
    """Return the identity of a router directory; its router.json holds the digest of every other file."""
    return RouterIdentity(shown or str(directory), file_digest(directory / "router.json"))


def cached_win_rates(
    name: str, router: Scorer, benchmark: Benchmark, cache: Path | None, digest: str, on_progress: OnStep
) -> NDArray[np.float64]:
    """Return a router's win rates on a benchmark, from the cache where it has them.

    Args:
        name: Name of the router, for errors and progress.
        router: Scores the prompts, batch by batch.
        benchmark: The benchmark whose prompts are scored.
        cache: Folder of the cache; None for no cache.
        digest: Digest of the router; empty for no cache.
        on_progress: Called before each batch with what is done, how many prompts of it, and of how many.

    Raises:
        InvalidArgumentError: Win rates are not finite, or of a wrong shape.
        DataError: The cache cannot be written.
    """
    file = None
    if cache is not None and digest:
        # A new version may score the last bit otherwise, so it starts anew.
        key = "|".join((digest, benchmark.digest(), _core.__version__))
        file = cache / f"{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}.win-rates"
        cached = _read_cached(file, len(benchmark.prompts))
        if cached is not None:
            return cached
    win_rates = score_in_batches(
        router.win_rates,
        benchmark.prompts,
        batch=_BATCH,
        name=f"router {name!r}",
        source=benchmark.name,
        on_progress=lambda done, count: on_progress(f"{name} on {benchmark.name}", done, count),
    ).astype(np.float64, copy=False)
    if file is not None:
        _write_cached(file, win_rates)
    return win_rates


def _read_cached(file: Path, count: int) -> NDArray[np.float64] | None:
    """Return cached win rates; None where there are none, or the file is damaged: they are then computed again."""
    content = read_kept(file)
    if content is None or len(content) != 8 * count:
        return None
    return np.frombuffer(content, "<f8").astype(np.float64)


def _write_cached(file: Path, win_rates: NDArray[np.float64]) -> None:
    try:
        write_kept(file, win_rates.astype("<f8", copy=False).tobytes())
    except OSError as error:
        raise DataError(
            f"win rates cannot be kept in {file.parent} ({error.strerror or error}): name another cache folder"
        ) from error
