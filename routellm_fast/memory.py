"""Names what takes more memory than there is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from routellm_fast.errors import ArtifactMemoryError


@contextmanager
def enough_memory(path: str | Path) -> Iterator[None]:
    """Name the file or directory whose reading takes more memory than there is. Raises ArtifactMemoryError then."""
    try:
        yield
    except ArtifactMemoryError:
        raise
    except MemoryError as error:
        raise ArtifactMemoryError(
            f"{path} needs more memory than this process can get. Allow it more, or load something smaller."
        ) from error
