"""What a request costs at either model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routellm_fast.calibration import _strict
from routellm_fast.embedders.base import Embedder
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.errors import InvalidArgumentError

_MILLION = 1e6
# Beyond any price and any answer, and products of the two stay finite.
_MAX_USD = 1e12
_MAX_TOKENS = 1e12


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """What a model charges, in US dollars.

    Attributes:
        input_usd_per_1m: A million input tokens.
        output_usd_per_1m: A million output tokens.
        request_usd: A request, whatever its length.
    """

    input_usd_per_1m: float = 0.0
    output_usd_per_1m: float = 0.0
    request_usd: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no price."""
        for name, value in asdict(self).items():
            object.__setattr__(
                self, name, _strict.number(value, name, 0.0, _MAX_USD)
            )  # an int is written as it will be read


@dataclass(frozen=True, slots=True)
class PairPrices:
    """What both models charge, and how long requests are.

    Attributes:
        strong: Of the strong model.
        weak: Of the weak model.
        output_tokens: Mean length of an answer; needed where output tokens have a price.
        input_tokens: Mean length of a prompt; None: each prompt's tokens are counted by the router's tokenizer. That is
            not the models' own, so it is an estimate, and it sees the prompt alone: no system prompt, no history.
    """

    strong: ModelPrice
    weak: ModelPrice
    output_tokens: float | None = None
    input_tokens: float | None = None

    def __post_init__(self) -> None:
        """Refuse an answer of unknown length that has to be paid for."""
        for name in ("output_tokens", "input_tokens"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _strict.number(getattr(self, name), name, 0.0, _MAX_TOKENS))
        if self.output_tokens is None and (self.strong.output_usd_per_1m or self.weak.output_usd_per_1m):
            raise InvalidArgumentError("output tokens have a price: give the mean number of output tokens of an answer")

    @property
    def counts_prompts(self) -> bool:
        """Whether each prompt's tokens have to be counted."""
        return self.input_tokens is None and bool(self.strong.input_usd_per_1m or self.weak.input_usd_per_1m)

    def costs_usd(self, input_tokens: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (n,) US dollars of each request at the strong and at the weak model.

        Args:
            input_tokens: (n,) tokens of each prompt; not looked at where their mean is given.
        """
        tokens = np.asarray(input_tokens, dtype=np.float64)
        if self.input_tokens is not None:
            tokens = np.full_like(tokens, self.input_tokens)
        strong, weak = (
            price.request_usd
            + (tokens * price.input_usd_per_1m + (self.output_tokens or 0.0) * price.output_usd_per_1m) / _MILLION
            for price in (self.strong, self.weak)
        )
        return strong, weak

    def to_json(self) -> dict[str, object]:
        """Return the form that router.json holds."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> PairPrices:
        """Read what to_json wrote. Raises InvalidArgumentError."""
        found = _strict.fields(value, "calibration.prices", ("strong", "weak", "output_tokens", "input_tokens"))
        keys = ("input_usd_per_1m", "output_usd_per_1m", "request_usd")
        strong, weak = (
            ModelPrice(
                **{
                    key: _strict.number(entry, f"prices.{model}.{key}", 0.0, math.inf)
                    for key, entry in _strict.fields(found[model], f"prices.{model}", keys).items()
                }
            )
            for model in ("strong", "weak")
        )
        return cls(strong, weak, found["output_tokens"], found["input_tokens"])


def token_counts(embedder: Embedder | None, prompts: Sequence[str]) -> NDArray[np.int64]:
    """Return (n,) tokens of each prompt, by the tokenizer of a static embedder; whole prompts, whatever it embeds.

    Raises:
        InvalidArgumentError: The embedder has no tokenizer at hand.
    """
    if not isinstance(embedder, StaticEmbedder):
        raise InvalidArgumentError(
            "this router has no tokenizer to count the tokens of prompts with: give the mean number of input tokens"
        )
    from routellm_fast.tokenization import LibraryTokenizer, native_tokenizer, parse_tokenizer

    _, _, files = embedder.stored()
    content = files["tokenizer.json"]
    native = native_tokenizer(parse_tokenizer(content))
    # The library refuses lone surrogates; the native tokenizer reads them as U+FFFD.
    texts = [prompt.encode("utf-8", "surrogatepass").decode("utf-8", "replace") for prompt in prompts]
    if native is not None:
        return np.array([len(native.encode(text)) for text in texts], dtype=np.int64)
    longest = max(map(len, texts), default=0) + 1
    return np.array([len(ids) for ids in LibraryTokenizer(content).encode(texts, longest)], dtype=np.int64)
