"""The settings of each trainer, and what they may be. What runs them stands in the trainer's own module."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

from routellm_fast.errors import InvalidArgumentError
from routellm_fast.routers.causal.prompt import TRUNCATIONS, Truncation
from routellm_fast.routers.similarity.router import PRECISIONS, SAME_TIER, SOLVERS

METHODS: Final = ("rows", "lora")
# Far beyond any use, and far from where float32 ends.
_MAX_SCALE: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixFactorizationConfig:
    """Settings of `matrix_factorization.train`: matrix factorization by gradient descent.

    Attributes:
        d: Length of a model vector.
        learning_rate: Adam's; falls linearly to 0 over max_epochs.
        weight_decay: Adam's, on all weights.
        batch_size: Battles a step.
        max_epochs: Passes over the battles, at most.
        patience: Stop after this many epochs without a lower held-out loss.
        held_out_share: Expected share of prompt groups that are not trained on, in (0, 1).
        noise: Standard deviation of normal noise added to the token dimensions while training (RouteLLM's alpha), after
            they were scaled to unit variance.
        token_scale: Scale of the token dimensions in training. Below 1, weight decay holds them closer to zero.
        surface_scale: Scale of the surface features in training.
        seed: Draws initial weights, order, noise and the held-out groups.
    """

    d: int = 128
    learning_rate: float = 3e-4
    weight_decay: float = 1e-5
    batch_size: int = 64
    max_epochs: int = 20
    patience: int = 3
    held_out_share: float = 0.1
    noise: float = 0.1
    token_scale: float = 1.0
    surface_scale: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        counts = (self.d, self.batch_size, self.max_epochs, self.patience)
        scales = (self.learning_rate, self.token_scale, self.surface_scale)
        fits = all(count >= 1 for count in counts) and all(0 < scale <= _MAX_SCALE for scale in scales)
        fits = fits and all(0 <= strength <= _MAX_SCALE for strength in (self.weight_decay, self.noise))
        if not fits or not 0.0 < self.held_out_share < 1.0:
            raise InvalidArgumentError(
                "counts are at least 1, learning rate and scales above 0, weight decay and noise at least 0, all at "
                f"most {_MAX_SCALE:g}, and the held-out share lies between 0 and 1; found {self}"
            )
        _check_seed(self.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class GapRegressionConfig:
    """Settings of `gap_regression.train`: matrix factorization in closed form.

    Attributes:
        ridge: Added to the covariance of the token dimensions, whose mean variance is scaled to 1. None: chosen on the
            prompts trained on.
        length_weight: Standard deviations of log_tokens for one of the regression. None: likewise.
        item_ridge: Ridge on every model's strength and slope.
        held_out_share: Expected share of prompt groups that are not trained on, in (0, 1).
        seed: Draws the held-out groups, in [0, 2^63).
    """

    ridge: float | None = None
    length_weight: float | None = None
    item_ridge: float = 1e-4
    held_out_share: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        ridges = [value for value in (self.ridge, self.item_ridge) if value is not None]
        positive = all(math.isfinite(value) and value > 0.0 for value in ridges)
        length = self.length_weight is None or (math.isfinite(self.length_weight) and self.length_weight >= 0.0)
        if not positive or not length or not 0.0 < self.held_out_share < 1.0 or not 0 <= self.seed < 1 << 63:
            raise InvalidArgumentError(
                "ridges are above 0, the length weight at least 0, the held-out share lies between 0 and 1 and the "
                f"seed in [0, 2^63); found {self}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarityWeightedConfig:
    """Settings of `similarity_weighted.train`. SimilarityWeightedRouter.build explains the first five.

    Attributes:
        num_tiers: How many tiers the models are split into.
        precision: How the bank is kept.
        same_tier: What battles within a tier count for.
        solver: How the ratings of the tiers are fitted.
        pca_dim: Dimensions that a compressed bank keeps; None: chosen from the data's.
        held_out_share: Expected share of prompt groups on which the router is judged and calibrated before it gets them
            too, in [0, 1). 0 saves the copy of the bank that this takes.
        seed: Draws the groups held out, and the prompts to calibrate on where there are many.
    """

    num_tiers: int = 10
    precision: str = "float32"
    same_tier: str = "routellm"
    solver: str = "exact"
    pca_dim: int | None = None
    held_out_share: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse at once what `build` would refuse after all prompts were embedded."""
        options = (
            ("precision", self.precision, PRECISIONS),
            ("same_tier", self.same_tier, SAME_TIER),
            ("solver", self.solver, SOLVERS),
        )
        for name, found, known in options:
            if found not in known:
                raise InvalidArgumentError(f"{name} is one of {', '.join(known)}, found {found!r}")
        if not 0.0 <= self.held_out_share < 1.0:
            raise InvalidArgumentError(f"the held-out share lies in [0, 1), found {self.held_out_share}")
        _check_seed(self.seed)

    def of_router(self) -> dict[str, Any]:
        """Return the settings that SimilarityWeightedRouter.build takes, by its argument names."""
        return {name: value for name, value in asdict(self).items() if name not in ("held_out_share", "seed")}


@dataclass(frozen=True, slots=True, kw_only=True)
class BertConfig:
    """Settings of `bert.train`: fine-tuning an encoder.

    Attributes:
        max_tokens: Most tokens of a prompt that training and the router read, at least 3. An encoder that reads fewer
            lowers it.
        learning_rate: AdamW's; rises linearly over the first tenth of the steps, then falls linearly to 0.
        weight_decay: AdamW's, on matrices only.
        batch_size: Prompts a step.
        max_epochs: Passes over the prompts, at most.
        patience: Stop after this many epochs without a lower held-out loss.
        held_out_share: Expected share of prompt groups that are not trained on, in (0, 1).
        threads: Threads of torch. The same number gives the same bytes on one machine.
        seed: Draws the classifier's initial weights, dropout, order and the held-out groups.
    """

    max_tokens: int = 256
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    batch_size: int = 32
    max_epochs: int = 3
    patience: int = 1
    held_out_share: float = 0.1
    threads: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        counts = (self.batch_size, self.max_epochs, self.patience, self.threads)
        fits = all(count >= 1 for count in counts) and 0 < self.learning_rate <= 1 and 0 <= self.weight_decay <= 1
        if not fits or not 0.0 < self.held_out_share < 1.0 or self.max_tokens < 3:
            raise InvalidArgumentError(
                "counts are at least 1, max_tokens at least 3, learning rate above 0, weight decay at least 0, both at "
                f"most 1, and the held-out share lies between 0 and 1; found {self}"
            )
        _check_seed(self.seed, bits=31)


@dataclass(frozen=True, slots=True, kw_only=True)
class CausalLLMConfig:
    """Settings of `causal_llm.train`: fine-tuning a causal language model.

    Attributes:
        method: "rows" trains the output rows of the score tokens only: each prompt is read once. "lora" also trains
            low-rank changes of the attention layers, which takes a pass there and back a prompt and epoch.
        max_tokens: Most tokens of a prompt, the text around the question included, in training and of the router.
        truncation: What a longer question keeps.
        learning_rate: AdamW's, falling linearly to 0.
        weight_decay: AdamW's.
        batch_size: Prompts a step.
        max_epochs: Passes over the prompts, at most.
        patience: Stop after this many epochs without a lower held-out loss.
        held_out_share: Expected share of prompt groups that are not trained on, in (0, 1).
        lora_rank: Rank of the changes that method lora trains.
        threads: Threads of torch. The same number gives the same router on one machine.
        seed: Draws initial weights, order and the held-out groups.
    """

    method: str = "rows"
    max_tokens: int = 512
    truncation: Truncation = "middle"
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    batch_size: int = 16
    max_epochs: int = 30
    patience: int = 3
    held_out_share: float = 0.1
    lora_rank: int = 8
    threads: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        counts = (self.max_tokens, self.batch_size, self.max_epochs, self.patience, self.lora_rank, self.threads)
        fits = all(count >= 1 for count in counts) and 0 < self.learning_rate <= 1 and 0 <= self.weight_decay <= 1
        fits = fits and self.method in METHODS and self.truncation in TRUNCATIONS
        if not fits or not 0.0 < self.held_out_share < 1.0:
            raise InvalidArgumentError(
                f"method is one of {', '.join(METHODS)}, truncation one of {', '.join(TRUNCATIONS)}, counts >= 1, "
                "learning rate above 0, weight decay at least 0, both at most 1, and the held-out share lies between 0 "
                f"and 1; found {self}"
            )
        _check_seed(self.seed)


def _check_seed(seed: int, bits: int = 63) -> None:
    if not 0 <= seed < 1 << bits:
        raise InvalidArgumentError(f"a seed is an integer in [0, 2^{bits}), found {seed}")
