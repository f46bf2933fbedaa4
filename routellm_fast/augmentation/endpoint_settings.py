"""The settings of an endpoint: model, server, limits and prices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from routellm_fast.endpoints import checked_timeout_s
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.prices import ModelPrice

AUTO: Final = "auto"
NO_RESPONSE_FORMAT: Final = "none"
MAX_TOKENS_NAMES: Final = (AUTO, "max_tokens", "max_completion_tokens")
RESPONSE_FORMATS: Final = (AUTO, "json_object", NO_RESPONSE_FORMAT)


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """The settings of an endpoint: model, server, limits and prices.

    Attributes:
        model: The server's name of the model.
        base_url: Address in front of `/chat/completions`. A query, such as `?api-version=2024-10-21`, is sent with
            every request; it must not hold a key. None takes OPENAI_BASE_URL if set, else OpenAI.
        api_key_variable: Name of the environment variable that holds the key. None takes OPENAI_API_KEY, which is sent
            to OpenAI and the server of OPENAI_BASE_URL only.
        prices: What the model charges; with None nothing is booked, and no cap on cost can be kept.
        requests_per_min: The most requests a minute; None for no limit.
        tokens_per_min: The most tokens a minute, questions and answers together; None for no limit.
        max_tokens: The most tokens of an answer, thinking included, >= 1.
        temperature: Sampling temperature, >= 0. None sends none, for models that take only their own. Where the server
            refuses it, requests are sent without.
        timeout_s: Seconds that one attempt may take, > 0.
        max_retries: Number of further attempts after status 408, 409, 425, 429 or 5xx, a time-out or a broken
            connection, >= 0.
        max_tokens_name: The request's name of max_tokens: "max_tokens", "max_completion_tokens", or "auto" for the one
            that the server takes.
        response_format: Where JSON is asked for: "json_object" sends that `response_format`, "none" sends none, "auto"
            sends it unless the server refuses it.
        variant: Tells this endpoint's answers from those of another whose server calls its model the same.
    """

    model: str
    base_url: str | None = None
    api_key_variable: str | None = None
    prices: ModelPrice | None = None
    requests_per_min: float | None = None
    tokens_per_min: float | None = None
    max_tokens: int = 1024
    temperature: float | None = 0.0
    timeout_s: float = 120.0
    max_retries: int = 5
    max_tokens_name: str = AUTO
    response_format: str = AUTO
    variant: str = ""

    def __post_init__(self) -> None:
        if not self.model:
            raise InvalidArgumentError("the model's name must not be empty")
        if self.max_tokens < 1 or self.max_retries < 0:
            raise InvalidArgumentError(
                f"max_tokens is at least 1 and max_retries 0, found {self.max_tokens} and {self.max_retries}"
            )
        checked_timeout_s(self.timeout_s)
        if self.temperature is not None and not 0.0 <= self.temperature < math.inf:
            raise InvalidArgumentError(f"temperature must be at least 0 and finite, found {self.temperature}")
        for name, value, allowed in (
            ("max_tokens_name", self.max_tokens_name, MAX_TOKENS_NAMES),
            ("response_format", self.response_format, RESPONSE_FORMATS),
        ):
            if value not in allowed:
                raise InvalidArgumentError(f"{name} must be one of {', '.join(allowed)}, found {value!r}")
