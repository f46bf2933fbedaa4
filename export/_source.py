"""The router that is exported, read from its directory once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from routellm_fast.artifact import ROUTER_LAYOUT, read_artifact
from routellm_fast.routers.base import Router
from routellm_fast.routers.loading import restore_router, router_directory

from ._metadata import digest_of

if TYPE_CHECKING:
    from routellm_fast.embedders.base import Embedder


@dataclass(frozen=True, slots=True)
class Source:
    """A router and what tells it from others. Both are of the same read of its directory.

    Attributes:
        router: The router.
        digest: See digest_of.
    """

    router: Router
    digest: str


def read_source(
    router: str | Path,
    *,
    embedder: Embedder | None = None,
    allow_server: str | Sequence[str] | None = None,
    strong_model: str | None = None,
    weak_model: str | None = None,
    digest: str | None = None,
) -> Source:
    """Read a router directory; arguments and errors are those of load_router."""
    directory = router_directory(router)
    artifact = read_artifact(directory, ROUTER_LAYOUT, digest=digest)
    loaded = restore_router(
        artifact,
        directory,
        embedder=embedder,
        allow_server=allow_server,
        strong_model=strong_model,
        weak_model=weak_model,
    )
    return Source(loaded, digest_of(artifact))
