"""What models cost, and how much routing saves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from routellm_fast.data.names import known_aliases
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.evaluation._json_file import read_json

# Section 5.3 of the paper: GPT-4 and Mixtral 8x7B, averaged over 95 tokens of prompt and 264 of answer.
PAPER_PRICES: Final[Mapping[str, float]] = MappingProxyType(
    {"gpt-4-1106-preview": 24.7, "mistralai/Mixtral-8x7B-Instruct-v0.1": 0.24}
)
PAPER_TOKENS_PER_PROMPT: Final = 95 + 264


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars a model.

    Attributes:
        usd_per_million_tokens: By model; averaged over prompt and answer, as the paper does.
        tokens_per_prompt: Tokens of a prompt and its answer together.
    """

    usd_per_million_tokens: Mapping[str, float] = field(default_factory=lambda: PAPER_PRICES)
    tokens_per_prompt: float = PAPER_TOKENS_PER_PROMPT

    def __post_init__(self) -> None:
        for model, usd in self.usd_per_million_tokens.items():
            if isinstance(usd, bool) or not isinstance(usd, (int, float)) or not math.isfinite(usd) or usd < 0.0:
                raise InvalidArgumentError(
                    f"a price is zero or more US dollars a million tokens, found {usd!r} for {model!r}"
                )
        if not (math.isfinite(self.tokens_per_prompt) and self.tokens_per_prompt > 0.0):
            raise InvalidArgumentError(f"tokens per prompt must be a positive number, found {self.tokens_per_prompt!r}")

    def usd_per_1k(self, model: str) -> float | None:
        """Return what a thousand prompts cost, None where the model has no price. Aliases of a model find it too."""
        aliases = known_aliases()
        named = {aliases.get(name, name): usd for name, usd in self.usd_per_million_tokens.items()}
        usd = self.usd_per_million_tokens.get(model, named.get(aliases.get(model, model)))
        return None if usd is None else usd * self.tokens_per_prompt / 1000.0

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able object."""
        return {
            "usd_per_million_tokens": dict(self.usd_per_million_tokens),
            "tokens_per_prompt": self.tokens_per_prompt,
        }


def read_prices(path: Path) -> dict[str, float]:
    """Read a JSON object of model -> US dollars a million tokens. Raises DataError."""
    record = read_json(path)
    if not isinstance(record, dict):
        raise DataError(f"{path} must hold a JSON object of model: US dollars a million tokens")
    try:
        return dict(Prices(record).usd_per_million_tokens)
    except InvalidArgumentError as error:
        raise DataError(f"{path}: {error}") from error


def saving_ratio(
    strong_share: float, *, random_share: float, strong_cost: float = 1.0, weak_cost: float = 0.0
) -> float:
    """Return how many times less a router costs than random routing of the same quality.

    Args:
        strong_share: What the router needs for a quality, in (0, 1]: its CPT.
        random_share: What random routing needs for it; in expectation CPT(x) is x.
        strong_cost: What an answer of the strong model costs, in any unit.
        weak_cost: Of the weak model. The default, free, gives the ratios of the paper's table 6.
    """
    spent = strong_share * strong_cost + (1.0 - strong_share) * weak_cost
    return (random_share * strong_cost + (1.0 - random_share) * weak_cost) / spent if spent > 0.0 else math.inf
