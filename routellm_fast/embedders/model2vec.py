"""Reads the folders that model2vec writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from routellm_fast.arrays import brief_repr
from routellm_fast.artifact import is_file
from routellm_fast.errors import ArtifactFormatError, ArtifactNotFoundError
from routellm_fast.json_file import read_json_object
from routellm_fast.tensor_file import read_tensors
from routellm_fast.tokenization import parse_tokenizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DEFAULT_MAX_TOKENS: Final = 512
_NO_LIMIT_TOKENS: Final = 1 << 20
# Beside the table: its row for each token, and the weight of each token. The first is the table's name in all versions.
_COMMON_TENSORS: Final = ("embeddings", "mapping", "weights")


@dataclass(frozen=True, slots=True)
class _Layout:
    config: str
    weights: str
    tokenizer: str
    table: str


# The layout of model2vec, and two of sentence-transformers for the same model. The first that fits is read.
_LAYOUTS: Final = (
    _Layout("config.json", "model.safetensors", "tokenizer.json", "embeddings"),
    _Layout("config_sentence_transformers.json", "model.safetensors", "tokenizer.json", "embedding.weight"),
    _Layout(
        "config_sentence_transformers.json",
        "0_StaticEmbedding/model.safetensors",
        "0_StaticEmbedding/tokenizer.json",
        "embedding.weight",
    ),
)


@dataclass(frozen=True, slots=True)
class Model2VecFolder:
    """The content of a model2vec folder.

    Attributes:
        table: (rows, dim) float16, float32 or int8, as stored, bfloat16 as float32.
        rows: (tokens,) uint32: the table's row for each token; None where token i has row i.
        weights: (tokens,) float32: the weight of each token; None where all weigh 1.
        normalize: Whether the mean of the token vectors is scaled to unit length.
        max_tokens: How many tokens of a text are read.
        max_code_points: How many characters of a text are read.
        tokenizer_json: The tokenizer file's bytes.
    """

    table: NDArray[Any]
    rows: NDArray[np.uint32] | None
    weights: NDArray[np.float32] | None
    normalize: bool
    max_tokens: int
    max_code_points: int
    tokenizer_json: bytes

    __repr__ = brief_repr


def is_model2vec_folder(directory: Path) -> bool:
    """Say whether a directory has the files of a model2vec folder."""
    return _layout_of(directory) is not None


def read_model2vec(directory: Path) -> Model2VecFolder:
    """Read a model2vec folder.

    Raises:
        ArtifactNotFoundError: The directory lacks a file that a model2vec folder has.
        ArtifactFormatError: A file is damaged, or a tensor is missing.
    """
    layout = _layout_of(directory)
    if layout is None:
        raise ArtifactNotFoundError(
            f"{directory} is no model2vec folder: expected config.json, model.safetensors and tokenizer.json"
        )
    try:
        content = (directory / layout.weights).read_bytes()
        tokenizer_json = (directory / layout.tokenizer).read_bytes()
    except OSError as error:
        raise ArtifactFormatError(f"{directory} cannot be read as a model2vec folder ({error})") from error
    config = read_json_object(directory / layout.config)
    weights = directory / layout.weights
    tensors, names = read_tensors(content, weights, wanted={layout.table, *_COMMON_TENSORS})
    table = tensors.get(layout.table, tensors.get("embeddings"))
    if table is None or table.ndim != 2:
        found = names if table is None else f"shape {table.shape}"
        raise ArtifactFormatError(f"{weights} must hold a (tokens, dim) tensor {layout.table}, found {found}")
    rows, factors = tensors.get("mapping"), tensors.get("weights")
    limit = config.get("max_length", _DEFAULT_MAX_TOKENS)
    if limit is not None and (type(limit) is not int or limit < 1):
        raise ArtifactFormatError(
            f"{directory / layout.config}: max_length must be a positive integer or null, found {limit!r}"
        )
    max_tokens = _NO_LIMIT_TOKENS if limit is None else limit
    # model2vec cuts a text to this many characters before it looks for tokens.
    longest = max_tokens * _median_token_length(parse_tokenizer(tokenizer_json))
    return Model2VecFolder(
        table=table,
        rows=None if rows is None else rows.astype(np.uint32),
        weights=None if factors is None else factors.astype(np.float32),
        normalize=bool(config.get("normalize", False)),
        max_tokens=max_tokens,
        max_code_points=longest,
        tokenizer_json=tokenizer_json,
    )


def _median_token_length(spec: dict[str, Any]) -> int:
    vocabulary = spec["model"].get("vocab") or {}
    # A unigram vocabulary is a list of [token, score], all others map tokens to ids.
    tokens = set(vocabulary) if isinstance(vocabulary, dict) else {entry[0] for entry in vocabulary}
    tokens |= {token["content"] for token in spec.get("added_tokens") or []}
    return max(1, int(np.median([len(token) for token in tokens]))) if tokens else 1


def _layout_of(directory: Path) -> _Layout | None:
    for layout in _LAYOUTS:
        if all(is_file(directory / name) for name in (layout.config, layout.weights, layout.tokenizer)):
            return layout
    return None
