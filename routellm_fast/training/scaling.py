"""How mf's training scales embeddings, and how the scale is folded into its weights again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routellm_fast.arrays import FloatArray
from routellm_fast.training.configs import MatrixFactorizationConfig


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """An affine map of embeddings for training, which folds into W exactly.

    z = (e - shift) * factor, and z's last dimension is 1 where the embedder has the surface feature `constant`; only
    there can a shift be folded back, since mf has no biases.
    """

    shift: NDArray[np.float64]
    factor: NDArray[np.float64]
    constant: int | None

    @classmethod
    def fit(
        cls,
        embeddings: FloatArray,
        weight: NDArray[np.float64],
        features: tuple[str, ...],
        config: MatrixFactorizationConfig,
    ) -> Scaling:
        """Return the map that gives the embeddings, weighted, the mean 0 and the scales that the config asks for."""
        wide = embeddings.astype(np.float64)
        mean = np.average(wide, axis=0, weights=weight)
        deviation = np.sqrt(np.average((wide - mean) ** 2, axis=0, weights=weight))
        tokens = wide.shape[1] - len(features)
        # One scale for all token dimensions: which of them vary much is what the distillation has learned.
        deviation[:tokens] = np.sqrt(np.mean(deviation[:tokens] ** 2)) if tokens else 1.0
        factor = 1.0 / np.where(deviation > 1e-9, deviation, 1.0)
        factor[:tokens] *= config.token_scale
        factor[tokens:] *= config.surface_scale
        constant = tokens + features.index("constant") if "constant" in features else None
        if constant is None:
            return cls(np.zeros_like(mean), factor, None)
        mean[constant], factor[constant] = 0.0, 1.0
        return cls(mean, factor, constant)

    def apply(self, embeddings: FloatArray) -> FloatArray:
        """Return z, (n, dim) float32, for (n, dim) embeddings."""
        scaled: FloatArray = ((embeddings.astype(np.float64) - self.shift) * self.factor).astype(np.float32)
        return scaled

    def fold(self, projection: NDArray[np.float64]) -> FloatArray:
        """Return W so that W e = projection z."""
        folded = projection * self.factor
        if self.constant is not None:
            folded[:, self.constant] -= folded @ self.shift
        result: FloatArray = folded.astype(np.float32)
        return result
