"""The models of a pool and what they cost, in code or from a table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from routellm_fast.errors import InvalidArgumentError
from routellm_fast.prices import PAPER_TOKENS, ModelPrice, Tokens, assigned_usd
from routellm_fast.tables import Row, read_table


@dataclass(frozen=True, slots=True)
class PoolModel:
    """One model of a pool.

    Attributes:
        name: Name of the model that requests are sent to.
        cost_usd_per_1k: US dollars that 1,000 requests cost, at least 0.
        scored_as: Name of a model of the router whose score is used for this one; "" for the model of the same name.
    """

    name: str
    cost_usd_per_1k: float
    scored_as: str = ""

    def __post_init__(self) -> None:
        """Check the names and the cost. Raises TypeError or InvalidArgumentError."""
        if not isinstance(self.name, str) or not isinstance(self.scored_as, str):
            raise TypeError(f"name and scored_as of a model must be str, found {self.name!r} and {self.scored_as!r}")
        if not self.name:
            raise InvalidArgumentError("the name of a pool model must not be empty")
        object.__setattr__(self, "cost_usd_per_1k", _amount(self.cost_usd_per_1k, f"cost_usd_per_1k of {self.name!r}"))

    @property
    def scoring_name(self) -> str:
        """The name under which the router scores this model."""
        return self.scored_as or self.name

    @classmethod
    def from_token_prices(
        cls,
        name: str,
        *,
        input_usd_per_1m: float,
        output_usd_per_1m: float,
        input_tokens: float = PAPER_TOKENS.input,
        output_tokens: float = PAPER_TOKENS.output,
        scored_as: str = "",
    ) -> PoolModel:
        """Return a model whose cost of 1,000 requests follows from prices of tokens and mean lengths.

        Args:
            name: See PoolModel.
            input_usd_per_1m: US dollars that a million tokens of prompts cost.
            output_usd_per_1m: US dollars that a million tokens of answers cost.
            input_tokens: Mean length of a prompt in tokens; by default that of RouteLLM's paper.
            output_tokens: Mean length of an answer in tokens; by default that of RouteLLM's paper. Models with longer
                answers cost more, so give each model its own.
            scored_as: See PoolModel.

        Raises:
            InvalidArgumentError: A price or a length is negative or not finite.
        """
        price = ModelPrice(
            _amount(input_usd_per_1m, f"input_usd_per_1m of {name!r}"),
            _amount(output_usd_per_1m, f"output_usd_per_1m of {name!r}"),
        )
        tokens = Tokens(_amount(input_tokens, "input_tokens"), _amount(output_tokens, "output_tokens"))
        return cls(name, price.usd_per_1k(tokens), scored_as)


def read_pool_models(path: Path) -> list[PoolModel]:
    """Read the models of a pool from a table with one model per row.

    Columns: `model`, and either `cost_usd_per_1k`, or `input_usd_per_1m` and `output_usd_per_1m`. Optional columns:
    `input_tokens` and `output_tokens` (mean numbers of tokens, used with the prices of tokens) and `scored_as`.

    Raises:
        DataError: The file cannot be read, or a row breaks the layout; the text names file and line.
    """
    return [_model_of(row) for row in read_table(path)]


def pool_models_of(entry: str) -> list[PoolModel]:
    """Return the models that one word of a command line names.

    Args:
        entry: NAME=COST, where COST is the US dollars that 1,000 requests cost, or the path of a table of models.

    Raises:
        InvalidArgumentError: The entry is neither, or its cost is not a finite number of at least 0.
        DataError: The table cannot be read or breaks the layout; see read_pool_models.
    """
    path = Path(entry)
    if path.is_file():
        return read_pool_models(path)
    if "=" not in entry:
        raise InvalidArgumentError(
            f"{entry!r} is neither NAME=COST, with the US dollars that 1,000 requests cost, nor a table of models"
        )
    assigned = assigned_usd(entry)
    if assigned is None:
        cost = entry.rpartition("=")[2]
        raise InvalidArgumentError(f"{entry}: the cost of 1,000 requests must be a number of USD, found {cost!r}")
    name, (cost_usd_per_1k,) = assigned
    return [PoolModel(name, cost_usd_per_1k)]


def _model_of(row: Row) -> PoolModel:
    name = row.text("model")
    scored_as = row.text("scored_as") if row.values.get("scored_as") else ""
    cost = row.number("cost_usd_per_1k")
    prices = row.number("input_usd_per_1m"), row.number("output_usd_per_1m")
    lengths = row.number("input_tokens"), row.number("output_tokens")
    try:
        if cost is not None:
            return PoolModel(name, cost, scored_as)
        if prices[0] is not None and prices[1] is not None:
            return PoolModel.from_token_prices(
                name,
                input_usd_per_1m=prices[0],
                output_usd_per_1m=prices[1],
                input_tokens=PAPER_TOKENS.input if lengths[0] is None else lengths[0],
                output_tokens=PAPER_TOKENS.output if lengths[1] is None else lengths[1],
                scored_as=scored_as,
            )
    except InvalidArgumentError as error:
        raise row.error(str(error)) from error
    raise row.error(f"{name!r} has no cost: give cost_usd_per_1k, or input_usd_per_1m and output_usd_per_1m")


def _amount(value: float, what: str) -> float:
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise TypeError(f"{what} must be a number, not {type(value).__name__}")
    number = float(value)
    if not math.isfinite(number) or number < 0.0:
        raise InvalidArgumentError(f"{what} must be a finite number of at least 0, found {value}")
    return number
