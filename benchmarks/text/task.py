"""What is timed from text to decision: work that all contenders can do."""

from __future__ import annotations

import routellm_fast as rf
from routellm_fast.routers import MatrixFactorizationRouter


def router_of_starts() -> MatrixFactorizationRouter:
    """Return the mf router that ships, reading the start of a long prompt only.

    The one that ships reads both ends, which no peer does: what is timed has to be the same work.
    """
    shipped = rf.load_router("mf")
    assert isinstance(shipped, MatrixFactorizationRouter)
    embedder = shipped.embedder
    assert isinstance(embedder, rf.StaticEmbedder)
    return MatrixFactorizationRouter(
        shipped.model_names,
        shipped.weights["P"],
        shipped.weights["W"],
        shipped.weights["w"],
        model_pair=shipped.model_pair,
        scoring_pair=shipped.scoring_pair,
        embedder=embedder.replace(tail_tokens=0),
        calibration=shipped.calibration,
    )
