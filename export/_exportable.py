"""A router as the exporter sees it: a graph, what it reads, and what its win rates must be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from routellm_fast.embedders.base import Embedder
from routellm_fast.embedders.onnx import OUTPUT as ENCODED
from routellm_fast.embedders.onnx import OnnxEmbedder
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.errors import EmbedderUnavailableError, InvalidArgumentError, UnsupportedExportError
from routellm_fast.extras import require
from routellm_fast.onnx.text_graph import GRAPH_INPUTS
from routellm_fast.routers.base import GraphRouter, Router
from routellm_fast.routers.matrix_factorization import MatrixFactorizationRouter
from routellm_fast.routers.similarity.router import SimilarityWeightedRouter

from ._scorer_graphs import EMBEDDINGS, WIDE_NODES, mf_graph, native_win_rates, sw_graph
from ._static_graph import ATTENTION_MASK, INPUT_IDS, SURFACE_FEATURES, StaticParts
from .composition import behind
from .graph import Dialect

if TYPE_CHECKING:
    from numpy.typing import NDArray

INPUTS: Final = ("auto", "tokens", "embeddings")


@dataclass(frozen=True)
class Exportable:
    """A router to be exported.

    Attributes:
        router: The router.
        inputs: "tokens" or "embeddings": what the graph reads.
        build: Makes the float32 graph, a ModelProto with this metadata, in this dialect.
        feeds: Inputs of the graph for prompts.
        native: (n,) float64 win rates that the graph must give.
        keep: Nodes that no precision touches.
        widths: Length of each input's second axis; None where it is free.
    """

    router: Router
    inputs: str
    build: Callable[[Mapping[str, str], str, Dialect], Any]
    feeds: Callable[[Sequence[str]], dict[str, NDArray[Any]]]
    native: Callable[[Sequence[str]], NDArray[np.float64]]
    keep: frozenset[str]
    widths: Mapping[str, int | None]


def exportable(router: Router, inputs: str = "auto") -> Exportable:
    """Return how a router is exported.

    Args:
        router: A router of any kind but random.
        inputs: What the graph reads: "tokens", "embeddings" or "auto", which takes tokens where the router's
            embedder is a graph or a table of tokens, or the router is a transformer, else embeddings.

    Raises:
        UnsupportedExportError: A kind without a graph, tokens where the embedder is no graph, or embeddings where the
            router reads text.
        InvalidArgumentError: An unknown kind of inputs.
    """
    if inputs not in INPUTS:
        raise InvalidArgumentError(f"inputs must be one of {', '.join(INPUTS)}, found {inputs!r}")
    if isinstance(router, (MatrixFactorizationRouter, SimilarityWeightedRouter)):
        return _scorer(router, inputs)
    if isinstance(router, GraphRouter):
        return _transformer(router, inputs)
    raise UnsupportedExportError(f"a {router.kind} router has no graph: there is nothing to export")


def _scorer(router: MatrixFactorizationRouter | SimilarityWeightedRouter, inputs: str) -> Exportable:
    embedder = _embedder_of(router)
    if inputs == "tokens" and not isinstance(embedder, (StaticEmbedder, OnnxEmbedder)):
        has = "no embedder" if embedder is None else f"the embedder {embedder.name}"
        raise UnsupportedExportError(
            f"the router has {has}, which is no table of tokens and no graph: export it with inputs=embeddings"
        )
    encoder = embedder if isinstance(embedder, OnnxEmbedder) and inputs != "embeddings" else None
    parts = StaticParts.of(embedder) if isinstance(embedder, StaticEmbedder) and inputs != "embeddings" else None

    def build(metadata: Mapping[str, str], version: str, dialect: Dialect) -> Any:
        graph = (
            mf_graph(router, parts, dialect)
            if isinstance(router, MatrixFactorizationRouter)
            else sw_graph(router, parts, dialect)
        )
        model = graph.model(metadata, version)
        return model if encoder is None else behind(encoder.model, ENCODED, model, EMBEDDINGS, metadata)

    def embed(prompts: Sequence[str]) -> NDArray[np.float32]:
        return _probes(len(prompts), router.dim) if embedder is None else embedder.embed(prompts)

    def feeds(prompts: Sequence[str]) -> dict[str, NDArray[Any]]:
        if encoder is not None:
            return encoder.text_graph.inputs(prompts)
        return {EMBEDDINGS: embed(prompts)} if parts is None else parts.feeds(prompts)

    def native(prompts: Sequence[str]) -> NDArray[np.float64]:
        return native_win_rates(router, embed(prompts))

    widths: dict[str, int | None] = {EMBEDDINGS: router.dim}
    if parts is not None or encoder is not None:
        widths = {INPUT_IDS: None, ATTENTION_MASK: None}
        widths |= {SURFACE_FEATURES: len(parts.text_features)} if parts is not None and parts.text_features else {}
    return Exportable(
        router, "embeddings" if EMBEDDINGS in widths else "tokens", build, feeds, native, WIDE_NODES, widths
    )


def _transformer(router: Any, inputs: str) -> Exportable:
    """Take over the graph that the router itself gives by `onnx_graph()`; `onnx_inputs(prompts)` makes its inputs.

    The graph is made when it is built, not before: of a language model it is as large as the model.
    """
    if inputs == "embeddings":
        raise UnsupportedExportError(f"a {router.kind} router reads text, not embeddings: export it with inputs=tokens")

    def build(metadata: Mapping[str, str], _version: str, _dialect: Dialect) -> Any:
        onnx = require("onnx", "onnx")
        model = onnx.load_model_from_string(router.onnx_graph())
        own = {entry.key: entry.value for entry in model.metadata_props}
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, own | dict(metadata))
        return model

    def native(prompts: Sequence[str]) -> NDArray[np.float64]:
        return np.asarray(router.win_rates(prompts), dtype=np.float64)

    return Exportable(router, "tokens", build, router.onnx_inputs, native, frozenset(), dict.fromkeys(GRAPH_INPUTS))


def _embedder_of(router: Router) -> Embedder | None:
    try:
        return router.embedder
    except EmbedderUnavailableError:
        return None


def _probes(count: int, dim: int) -> NDArray[np.float32]:
    """Return vectors in all directions, for a router whose embedder is not at hand."""
    return np.random.default_rng(0).normal(size=(count, dim)).astype(np.float32)
