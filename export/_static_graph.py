"""The static embedder as a graph: from token ids to embeddings, or straight to a linear score of them.

The tokenizer stays outside: ONNX has none that reads text as this package does. Of the surface features `constant` and,
where only the start of a long text is read, `log_tokens` follow from the attention mask; others depend on the text and
are an input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from routellm_fast.embedders.static import TOKENIZER_FILE, StaticEmbedder
from routellm_fast.tokenization import native_tokenizer

from .graph import Dialect, Graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routellm_fast.arrays import FloatArray

INPUT_IDS: Final = "input_ids"
ATTENTION_MASK: Final = "attention_mask"
SURFACE_FEATURES: Final = "surface_features"


@dataclass(frozen=True)
class StaticParts:
    """A static embedder taken apart.

    Attributes:
        embedder: The embedder.
        settings: max_tokens, max_code_points, normalize, surface_features and, where there is one, tail_tokens.
        tensors: table and, where there are any, column_scale, rows and weights.
        tokenizer_json: Its tokenizer.
    """

    embedder: StaticEmbedder
    settings: dict[str, Any]
    tensors: dict[str, NDArray[Any]]
    tokenizer_json: bytes

    @classmethod
    def of(cls, embedder: StaticEmbedder) -> StaticParts:
        """Take an embedder apart."""
        entry, tensors, files = embedder.stored()
        own = {name.removeprefix("embedder."): array for name, array in tensors.items()}
        return cls(embedder, entry["settings"], own, files[TOKENIZER_FILE])

    @property
    def token_dim(self) -> int:
        """Length of a token's vector."""
        return int(self.tensors["table"].shape[1])

    @property
    def text_features(self) -> list[str]:
        """The surface features that only the text gives."""
        from_mask = {"constant"} if "tail_tokens" in self.settings else {"constant", "log_tokens"}
        return [name for name in self.settings["surface_features"] if name not in from_mask]

    @property
    def dropped_token(self) -> int | None:
        """The unknown token, which counts for the length and not for the mean."""
        return native_tokenizer(self.tokenizer_json).unknown_token

    def token_vectors(self) -> NDArray[np.float64]:
        """Return (tokens, token dim) float64: what each token adds to the sum, but for the columns' scale."""
        table = self.tensors["table"].astype(np.float64)
        if "rows" in self.tensors:
            table = table[self.tensors["rows"]]
        return table * self.tensors["weights"][:, None] if "weights" in self.tensors else table

    def feeds(self, prompts: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Return the graph's inputs for prompts."""
        feeds = padded([ids.astype(np.int64) for ids in self.embedder.token_ids(prompts)])
        if self.text_features:
            names = self.settings["surface_features"]
            columns = [self.token_dim + names.index(name) for name in self.text_features]
            feeds[SURFACE_FEATURES] = np.ascontiguousarray(self.embedder.embed(prompts)[:, columns])
        return feeds


def padded(tokens: Sequence[NDArray[np.int64]]) -> dict[str, NDArray[Any]]:
    """Return token ids of unequal lengths as (n, longest) input_ids and attention_mask, at least one long."""
    longest = max([1, *(len(ids) for ids in tokens)])
    input_ids = np.zeros((len(tokens), longest), np.int64)
    mask = np.zeros((len(tokens), longest), np.int64)
    for row, ids in enumerate(tokens):
        input_ids[row, : len(ids)] = ids
        mask[row, : len(ids)] = 1
    return {INPUT_IDS: input_ids, ATTENTION_MASK: mask}


class StaticInputs:
    """The inputs of a static embedder's graph, and what both forms below need of them."""

    def __init__(self, graph: Graph, parts: StaticParts, dialect: Dialect) -> None:
        """Add the inputs."""
        self._graph, self._parts, self._dialect = graph, parts, dialect
        self._ids = graph.input(INPUT_IDS, np.int64, ("batch", "length"))
        mask = graph.input(ATTENTION_MASK, np.int64, ("batch", "length"))
        names = parts.text_features
        self._text_features = graph.input(SURFACE_FEATURES, np.float32, ("batch", len(names))) if names else None
        self._mask = graph.cast(mask, np.float32)
        self._tokens = graph.reduce("ReduceSum", self._mask, 1)
        counted = self._mask
        if parts.dropped_token is not None:
            unknown = graph.add("Equal", self._ids, graph.constant(parts.dropped_token, np.int64))
            counted = graph.add("Where", unknown, graph.constant(0.0, np.float32), counted)
        self._counted = counted
        # A text without tokens has a sum of zeros: whatever divides it, it stays zero.
        self._count = graph.add("Max", graph.reduce("ReduceSum", counted, 1), graph.constant(1.0, np.float32))

    def linear(self, vector: FloatArray) -> str:
        """Add (batch, 1) the dot product of the embedding, which is not normalised, with a vector.

        Mean and dot product change places, so that a token is one number and the graph holds no table of vectors.
        """
        graph, parts = self._graph, self._parts
        scaled = vector[: parts.token_dim].astype(np.float64)
        if "column_scale" in parts.tensors:
            scaled = scaled * parts.tensors["column_scale"]
        scores = graph.constant((parts.token_vectors() @ scaled), np.float32, name="token_scores")
        found = graph.add("Mul", graph.add("Gather", scores, self._ids), self._counted)
        mean = graph.add("Div", graph.reduce("ReduceSum", found, 1), self._count)
        rest = vector[parts.token_dim :]
        if not rest.size:
            return mean
        weights = graph.constant(rest.reshape(-1, 1), np.float32)
        return graph.add("Add", mean, graph.add("MatMul", self._features(), weights, name="feature_scores"))

    def embeddings(self) -> str:
        """Add (batch, dim) embeddings."""
        graph, parts = self._graph, self._parts
        is_int8 = parts.tensors["table"].dtype == np.int8 and "weights" not in parts.tensors
        is_int8 = is_int8 and self._dialect.int8_tables
        vectors = parts.token_vectors()
        table = graph.constant(vectors, np.int8 if is_int8 else np.float32, name="token_table")
        found = graph.add("Gather", table, self._ids)
        found = graph.cast(found, np.float32) if is_int8 else found
        counted = graph.add("Unsqueeze", self._counted, graph.constant([1], np.int64))
        total = graph.reduce("ReduceSum", graph.add("MatMul", counted, found, name="token_sums"), 1, keepdims=False)
        mean = graph.add("Div", total, self._count)
        if "column_scale" in parts.tensors:
            mean = graph.add("Mul", mean, graph.constant(parts.tensors["column_scale"], np.float32))
        if parts.settings["normalize"]:
            square = graph.reduce("ReduceSum", graph.add("Mul", mean, mean), 1)
            length = graph.add("Max", graph.add("Sqrt", square), graph.constant(1e-30, np.float32))
            mean = graph.add("Div", mean, length)
        if not parts.settings["surface_features"]:
            return mean
        return graph.add("Concat", mean, self._features(), axis=1)

    def _features(self) -> str:
        graph, names, from_text = self._graph, self._parts.settings["surface_features"], self._parts.text_features
        columns = []
        for name in names:
            if name == "constant":
                zeros = graph.add("Mul", self._tokens, graph.constant(0.0, np.float32))
                columns.append(graph.add("Add", zeros, graph.constant(1.0, np.float32)))
            elif name not in from_text:  # log_tokens
                columns.append(graph.add("Log", graph.add("Add", self._tokens, graph.constant(1.0, np.float32))))
            else:
                columns.append(graph.column(str(self._text_features), 1, from_text.index(name)))
        return graph.add("Concat", *columns, axis=1)
