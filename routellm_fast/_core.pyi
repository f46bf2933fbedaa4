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

def fold_models(P: NDArray[np.float32], W: NDArray[np.float32], w: NDArray[np.float32]) -> NDArray[np.float64]: ...

class TextScorer:
    def __init__(self, embedder: StaticEmbedder, weights: NDArray[np.float32]) -> None: ...
    @property
    def is_folded(self) -> bool: ...
    def win_rate(self, text: str) -> float: ...
    def win_rates(self, texts: Sequence[str]) -> NDArray[np.float32]: ...

class EmbeddingCache:
    def __init__(self, dim: int, capacity_bytes: int, shards: int = 16) -> None: ...
    @property
    def dim(self) -> int: ...
    @property
    def capacity_bytes(self) -> int: ...
    @property
    def bytes_used(self) -> int: ...
    def __len__(self) -> int: ...
    def get_many(self, keys: bytes, out: NDArray[np.float32]) -> NDArray[np.bool_]: ...
    def put_many(self, keys: bytes, vectors: NDArray[np.float32]) -> None: ...
    def stats(self) -> dict[str, int]: ...

def global_ratings(
    model_a: NDArray[np.uint16], model_b: NDArray[np.uint16], outcome: NDArray[np.uint8], models: int
) -> NDArray[np.float64]: ...
def split_tiers(descending: Sequence[float], num_tiers: int) -> list[int]: ...
def distinct_rows(rows: NDArray[np.float32]) -> NDArray[np.uint32]: ...
def row_norms(rows: NDArray[np.float32]) -> NDArray[np.float64]: ...

class TierRefit:
    def __init__(
        self,
        num_tiers: int,
        side_a: NDArray[np.uint16],
        side_b: NDArray[np.uint16],
        outcome: NDArray[np.uint8],
        battles: NDArray[np.float64],
        *,
        strong_tier: int,
        weak_tier: int,
        solver: str = "exact",
    ) -> None: ...

class BankBlock:
    def __init__(
        self,
        rows: NDArray[np.float32],
        norms: NDArray[np.float64],
        row_cells: NDArray[np.uint32],
        repeat_rows: NDArray[np.uint32],
        repeat_cells: NDArray[np.uint32],
        repeat_battles: NDArray[np.float64],
        cell_count: int,
    ) -> None: ...
    @property
    def count(self) -> int: ...

class CellSums:
    @property
    def dim(self) -> int: ...
    @property
    def cell_count(self) -> int: ...
    def sum(self, queries: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...

class SimilarityBank(CellSums):
    def __init__(
        self, dim: int, cell_count: int, blocks: Sequence[BankBlock], *, wide: bool = False, isa: str | None = None
    ) -> None: ...
    @property
    def row_count(self) -> int: ...

def encode_panels(rows: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]: ...

class PanelCodes:
    def __init__(self, panels: NDArray[np.uint8], scales: NDArray[np.float32], dim: int) -> None: ...

class PrincipalAxes:
    def __init__(self, mean: NDArray[np.float32], axes: NDArray[np.float32]) -> None: ...

class CodedBank(CellSums):
    def __init__(
        self,
        bank: SimilarityBank,
        axes: PrincipalAxes,
        codes: Sequence[PanelCodes],
        residuals: NDArray[np.float32],
        margin: float,
        reach: float,
    ) -> None: ...

class ClusteredCodes:
    def __init__(
        self,
        codes: PanelCodes,
        first_panel: NDArray[np.uint32],
        rows: NDArray[np.uint32],
        cells: NDArray[np.uint32],
    ) -> None: ...

class MomentBank(CellSums):
    def __init__(
        self,
        bank: SimilarityBank,
        axes: PrincipalAxes,
        battles: NDArray[np.float64],
        sums: NDArray[np.float32],
        products: NDArray[np.float32],
        centroids: NDArray[np.float32],
        codes: Sequence[ClusteredCodes],
        scanned_rows: int,
        margin: float,
        reach: float,
    ) -> None: ...

class SimilarityScorer:
    def __init__(self, sums: CellSums, refit: TierRefit, *, isa: str | None = None) -> None: ...
    @property
    def dim(self) -> int: ...
    def win_rate(self, embedding: NDArray[np.float32], weigh_zeros: bool = False) -> float: ...
    def win_rates(
        self, embeddings: NDArray[np.float32], threads: int = 1, weigh_zeros: bool = False
    ) -> NDArray[np.float64]: ...
    def ratings(
        self, embeddings: NDArray[np.float32], threads: int = 1, weigh_zeros: bool = False
    ) -> NDArray[np.float64]: ...
