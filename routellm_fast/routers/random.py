"""The random router: the control that every other router must beat."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.artifact import Artifact
from routellm_fast.decision import ModelPair, check_share
from routellm_fast.errors import ArtifactFormatError, InvalidArgumentError
from routellm_fast.routers.base import Router
from routellm_fast.texts import check_texts

if TYPE_CHECKING:
    from numpy.typing import NDArray


class RandomRouter(Router):
    """Win rates uniform in [0, 1), drawn from the seed and the prompt: the same prompt gets the same answer everywhere.

    Source: RouteLLM's RandomRouter, which draws anew on every call.
    """

    kind = "random"

    def __init__(self, model_pair: ModelPair, *, seed: int = 0, **common: Any) -> None:
        """Keep the seed, an integer in [0, 2^63)."""
        super().__init__(model_pair, **common)
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 1 << 63:
            raise InvalidArgumentError(f"a seed is an integer in [0, 2^63), found {seed!r}")
        self._seed = seed
        self._key = seed.to_bytes(8, "little")

    @property
    def answers_at_once(self) -> bool:
        """True."""
        return True

    def win_rate(self, prompt: str) -> float:
        """Return the prompt's draw."""
        return self._draw(check_texts([prompt])[0])

    def win_rates(self, prompts: Sequence[str]) -> FloatArray:
        """Return (n,) float32 draws."""
        return np.array([self._draw(prompt) for prompt in check_texts(prompts)], dtype=np.float32)

    def threshold_for(self, strong_share: float) -> float:
        """Return the threshold that sends this share of prompts to the strong model: draws need no calibration.

        Raises:
            InvalidThresholdError: The share is outside [0, 1] or NaN.
        """
        if self.calibration is not None:
            return super().threshold_for(strong_share)
        return 1.0 - check_share(strong_share, "strong share")

    def _draw(self, prompt: str) -> float:
        digest = hashlib.blake2b(prompt.encode("utf-8", "surrogatepass"), digest_size=4, key=self._key).digest()
        # 24 bits: what a float32 in [0, 1) holds exactly, so that win_rate and win_rates agree to the bit.
        return (int.from_bytes(digest, "little") >> 8) / (1 << 24)

    def _settings(self) -> dict[str, Any]:
        return {"seed": self._seed}

    def _shown(self) -> dict[str, Any]:
        return {"seed": self._seed}

    def _tensors(self) -> dict[str, NDArray[Any]]:
        return {}

    @classmethod
    def _restore(cls, artifact: Artifact, model_pair: ModelPair, common: dict[str, Any]) -> RandomRouter:
        settings = artifact.manifest["settings"]
        if set(settings) != {"seed"}:
            raise ArtifactFormatError(f"a random router's settings hold seed, found {sorted(settings)}")
        return cls(model_pair, seed=settings["seed"], **common)
