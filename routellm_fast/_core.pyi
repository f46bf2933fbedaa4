from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__version__: str

def active_isa() -> str: ...
def supported_isas() -> list[str]: ...

class WordPieceTokenizer:
    def __init__(
        self,
        vocabulary: Sequence[str],
        *,
        unk_id: int,
        clean_text: bool = True,
        handle_chinese_chars: bool = True,
        strip_accents: bool = True,
        lowercase: bool = True,
        max_word_chars: int = 100,
        continuing_prefix: str = "##",
        added_tokens: Sequence[tuple[str, int]] = [],
    ) -> None: ...
    @property
    def vocabulary_size(self) -> int: ...
    def encode(self, text: str | bytes, max_tokens: int | None = None) -> NDArray[np.uint32]: ...

class StaticEmbedder:
    def __init__(
        self,
        tokenizer: WordPieceTokenizer | None,
        table: NDArray[Any],
        *,
        column_scale: NDArray[np.float32] | None = None,
        rows: NDArray[np.uint32] | None = None,
        weights: NDArray[np.float32] | None = None,
        max_tokens: int = 512,
        max_code_points: int = 32768,
        normalize: bool = True,
        dropped_token: int | None = None,
        surface_features: Sequence[str] = [],
        isa: str | None = None,
    ) -> None: ...
    @property
    def dim(self) -> int: ...
    @property
    def max_code_points(self) -> int: ...
    @property
    def table(self) -> NDArray[Any]: ...
    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]: ...
    def embed_ids(self, ids: Sequence[Sequence[int]], texts: Sequence[str]) -> NDArray[np.float32]: ...

class LinearScorer:
    def __init__(self, weights: NDArray[np.float32], *, isa: str | None = None) -> None: ...
    @property
    def dim(self) -> int: ...
    def win_rate(self, embedding: NDArray[np.float32]) -> float: ...
    def win_rates(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]: ...

class LinearModels:
    def __init__(self, rows: NDArray[np.float32], *, isa: str | None = None) -> None: ...
    def logits(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]: ...

class TextScorer:
    def __init__(self, embedder: StaticEmbedder, weights: NDArray[np.float32]) -> None: ...
    @property
    def is_folded(self) -> bool: ...
    def win_rate(self, text: str) -> float: ...
    def win_rates(self, texts: Sequence[str]) -> NDArray[np.float32]: ...
