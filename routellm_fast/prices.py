"""What models charge, how long requests are, and what a request then costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from routellm_fast import strict
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.json_file import read_json

_MILLION: Final = 1e6
# Beyond any price and any answer, and products of the two stay finite.
_MAX_USD: Final = 1e12
_MAX_TOKENS: Final = 1e12
_Number = TypeVar("_Number", float, NDArray[np.float64])


@dataclass(frozen=True, slots=True)
class Tokens:
    """How long a request is.

    Attributes:
        input: Tokens of the prompt, at least 0; a mean where it stands for many requests.
        output: Tokens of the answer, likewise.
    """

    input: float
    output: float

    @property
    def total(self) -> float:
        """Tokens of the prompt and its answer together."""
        return self.input + self.output


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """What a model charges, in US dollars, each from 0 to 1e12.

    Attributes:
        input_usd_per_1m: The price of a million input tokens.
        output_usd_per_1m: The price of a million output tokens.
        request_usd: The price of a request, whatever its length.
    """

    input_usd_per_1m: float = 0.0
    output_usd_per_1m: float = 0.0
    request_usd: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no price."""
        for name, value in asdict(self).items():
            # Kept as a float: an int is then written as it will be read.
            object.__setattr__(self, name, strict.number(value, f"the price {name}", 0.0, _MAX_USD))

    def cost_usd(self, input_tokens: _Number, output_tokens: float) -> _Number:
        """Return the US dollars that a request costs, or an array of them for an array of input tokens."""
        return (
            self.request_usd
            + (input_tokens * self.input_usd_per_1m + output_tokens * self.output_usd_per_1m) / _MILLION
        )

    def usd_per_1k(self, tokens: Tokens) -> float:
        """Return the US dollars that a thousand requests of this length cost."""
        per_tokens = (self.input_usd_per_1m * tokens.input + self.output_usd_per_1m * tokens.output) / 1000.0
        return 1000.0 * self.request_usd + per_tokens


@dataclass(frozen=True, slots=True)
class PairPrices:
    """What both models of a pair charge, and how long requests are.

    Attributes:
        strong: What the strong model charges.
        weak: What the weak model charges.
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
                object.__setattr__(self, name, strict.number(getattr(self, name), name, 0.0, _MAX_TOKENS))
        if self.output_tokens is None and (self.strong.output_usd_per_1m or self.weak.output_usd_per_1m):
            raise InvalidArgumentError("output tokens have a price: give the mean number of output tokens of an answer")

    @property
    def counts_prompts(self) -> bool:
        """Whether each prompt's tokens have to be counted."""
        return self.input_tokens is None and bool(self.strong.input_usd_per_1m or self.weak.input_usd_per_1m)

    def costs_usd(self, input_tokens: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (n,) US dollars of each request at the strong model and at the weak model.

        Args:
            input_tokens: (n,) tokens of each prompt; not looked at where their mean is given.
        """
        tokens = np.asarray(input_tokens, dtype=np.float64)
        if self.input_tokens is not None:
            tokens = np.full_like(tokens, self.input_tokens)
        output_tokens = self.output_tokens or 0.0
        return self.strong.cost_usd(tokens, output_tokens), self.weak.cost_usd(tokens, output_tokens)

    def to_json(self) -> dict[str, object]:
        """Return the form that router.json holds."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any, what: str) -> PairPrices:
        """Read what to_json wrote; `what` names the value in errors. Raises InvalidArgumentError."""
        found = strict.fields(value, what, ("strong", "weak", "output_tokens", "input_tokens"))
        keys = ("input_usd_per_1m", "output_usd_per_1m", "request_usd")
        strong, weak = (
            ModelPrice(
                **{
                    key: strict.number(entry, f"{what}.{model}.{key}", 0.0, math.inf)
                    for key, entry in strict.fields(found[model], f"{what}.{model}", keys).items()
                }
            )
            for model in ("strong", "weak")
        )
        return cls(strong, weak, found["output_tokens"], found["input_tokens"])


# Section 5.3 of RouteLLM's paper: GPT-4 and Mixtral 8x7B, US dollars a million tokens, averaged over 95 tokens of
# prompt and 264 of answer.
PAPER_USD_PER_1M: Final[Mapping[str, float]] = MappingProxyType(
    {"gpt-4-1106-preview": 24.7, "mistralai/Mixtral-8x7B-Instruct-v0.1": 0.24}
)
PAPER_TOKENS: Final = Tokens(95, 264)


@dataclass(frozen=True, slots=True)
class PriceList:
    """One average price a token for each model, and one length of a request for all.

    Attributes:
        usd_per_million_tokens: US dollars by model, averaged over prompt and answer, as the paper does.
        tokens_per_prompt: Tokens of a prompt and its answer together, > 0.
    """

    usd_per_million_tokens: Mapping[str, float] = field(default_factory=lambda: PAPER_USD_PER_1M)
    tokens_per_prompt: float = PAPER_TOKENS.total

    def __post_init__(self) -> None:
        """Refuse what is no price, and a request of no length."""
        for model, usd in self.usd_per_million_tokens.items():
            self._price(model, usd)
        if not (math.isfinite(self.tokens_per_prompt) and self.tokens_per_prompt > 0.0):
            raise InvalidArgumentError(f"tokens per prompt must be a positive number, found {self.tokens_per_prompt!r}")

    def usd_per_1k(self, model: str, aliases: Mapping[str, str] = MappingProxyType({})) -> float | None:
        """Return the US dollars that a thousand prompts cost; None where the model has no price.

        Args:
            model: Name of the model.
            aliases: Known names of models by their other names; a price under any name of the model counts.
        """
        named = {aliases.get(name, name): usd for name, usd in self.usd_per_million_tokens.items()}
        usd = self.usd_per_million_tokens.get(model, named.get(aliases.get(model, model)))
        # Both kinds of tokens cost alike, so it does not matter how many of each there are.
        return None if usd is None else self._price(model, usd).usd_per_1k(Tokens(self.tokens_per_prompt, 0.0))

    def to_json(self) -> dict[str, Any]:
        """Return the form that evaluation.json holds."""
        return {
            "usd_per_million_tokens": dict(self.usd_per_million_tokens),
            "tokens_per_prompt": self.tokens_per_prompt,
        }

    @staticmethod
    def _price(model: str, usd_per_1m: float) -> ModelPrice:
        try:
            return ModelPrice(usd_per_1m, usd_per_1m)
        except InvalidArgumentError:
            raise InvalidArgumentError(
                f"a price is zero or more US dollars a million tokens, at most {_MAX_USD:g}, found {usd_per_1m!r} for "
                f"{model!r}"
            ) from None


def read_price_list(path: Path) -> dict[str, float]:
    """Read a JSON object of model -> US dollars a million tokens. Raises DataError."""
    record = read_json(path)
    if not isinstance(record, dict):
        raise DataError(f"{path} must hold a JSON object of model: US dollars a million tokens")
    try:
        return dict(PriceList(record).usd_per_million_tokens)
    except InvalidArgumentError as error:
        raise DataError(f"{path}: {error}") from error


def assigned_usd(text: str, count: int = 1) -> tuple[str, tuple[float, ...]] | None:
    """Read what a command line says of a model's price: NAME=USD, or NAME=USD/USD for a count of 2.

    Returns:
        The name and `count` numbers, which are not checked yet; None where the text is anything else.
    """
    name, mark, numbers = text.rpartition("=")
    try:
        values = tuple(float(part) for part in numbers.split("/"))
    except ValueError:
        return None
    return (name, values) if mark and len(values) == count else None
