"""Which model of which server an embedder asks, and within which limits."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from numbers import Integral
from typing import Any, Final

from routellm_fast.embedders._openai_manners import Manners
from routellm_fast.embedders.base import checked_dim
from routellm_fast.endpoints import OPENAI_URL, address_of, checked_timeout_s, is_openai, named_server, shown_server
from routellm_fast.errors import InvalidArgumentError

_OPENAI_PROVIDER: Final = "openai"
_OPENAI_DIMS: Final = {
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
    "text-embedding-ada-002": 1536,
}
_FIXED_DIM_MODELS: Final = frozenset({"text-embedding-ada-002"})
BATCH_SIZE: Final = 256
_MAX_BATCH_SIZE: Final = 2048


@dataclass(frozen=True, slots=True)
class Settings:
    """The arguments of OpenAIEmbedder but for the key and the HTTP clients, which are explained there.

    `base_url` is checked, and `provider` never None; `dim` is None where the server has to be asked.
    """

    model: str
    base_url: str | None
    dim: int | None
    dimensions: int | None
    encoding_format: str
    provider: str
    timeout_s: float
    max_retries: int
    batch_size: int
    max_concurrency: int
    max_chars: int | None

    @classmethod
    def of(
        cls,
        *,
        model: str,
        base_url: str | None,
        dim: int | None,
        dimensions: int | None,
        encoding_format: str,
        provider: str | None,
        timeout_s: float,
        max_retries: int,
        batch_size: int,
        max_concurrency: int,
        max_chars: int | None,
    ) -> Settings:
        """Return the settings, checked. Raises as OpenAIEmbedder does."""
        if not model:
            raise InvalidArgumentError("model must not be empty")
        for name, value, low, high in (
            ("max_retries", max_retries, 0, None),
            ("batch_size", batch_size, 1, _MAX_BATCH_SIZE),
            ("max_concurrency", max_concurrency, 1, None),
            ("max_chars", 1 if max_chars is None else max_chars, 1, None),
            ("dimensions", 0 if dimensions is None else dimensions, 0, None),
        ):
            if isinstance(value, bool) or not isinstance(value, Integral):
                raise TypeError(f"{name} must be an integer, found {value!r}")
            if value < low or (high is not None and value > high):
                allowed = f"at least {low}" if high is None else f"{low} to {high}"
                raise InvalidArgumentError(f"{name} must be {allowed}, found {value}")
        timeout_s = checked_timeout_s(timeout_s)
        server = named_server(base_url)
        if not provider:
            is_own = server is None or is_openai(server)
            provider = _OPENAI_PROVIDER if is_own else address_of(server or "").partition("://")[2]
        found = cls(
            model, server, _checked_dim(model, dim, dimensions), dimensions, encoding_format, provider, timeout_s,
            max_retries, batch_size, max_concurrency, max_chars,
        )  # fmt: skip
        found.first_manners()  # checks encoding_format
        return found

    @property
    def server(self) -> str:
        """The server's checked address."""
        return self.base_url or OPENAI_URL

    @property
    def shown_endpoint(self) -> str:
        """What errors show of the address that is asked."""
        return shown_server(self.server, "/embeddings")

    def with_dim(self, dim: int) -> Settings:
        """Return the same settings with the dim that the server was asked for."""
        return replace(self, dim=dim)

    def first_manners(self) -> Manners:
        """Return how the server is asked at first."""
        own_dim = _own_dim(self.model)
        is_shortened = own_dim not in (None, self.dim) and _plain_name(self.model) not in _FIXED_DIM_MODELS
        return Manners.of(self.encoding_format, self.dimensions, self.batch_size, is_shortened=is_shortened)

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of OpenAIEmbedder that give these settings."""
        return asdict(self)

    def identity(self, dim: int) -> dict[str, Any]:
        """Return what decides about a vector."""
        return {"provider": self.provider, "model": self.model, "dim": dim, "max_chars": self.max_chars}

    def stored(self, dim: int) -> dict[str, Any]:
        """Return what a router directory keeps."""
        settings = {
            "model": self.model,
            "base_url": self.base_url,
            "dim": dim,
            "provider": self.provider,
            "max_chars": self.max_chars,
        }
        # Only what was chosen: all other directories stay the same to the byte.
        chosen = (
            ("batch_size", self.batch_size, BATCH_SIZE),
            ("dimensions", self.dimensions, None),
            ("encoding_format", self.encoding_format, "auto"),
        )
        return settings | {name: value for name, value, default in chosen if value != default}


def _plain_name(model: str) -> str:
    """Return a model's name without the provider that gateways put in front of it."""
    return model.rpartition("/")[2]


def _own_dim(model: str) -> int | None:
    return _OPENAI_DIMS.get(_plain_name(model))


def _checked_dim(model: str, dim: int | None, dimensions: int | None) -> int | None:
    """Return the number of values in a vector; None where the server has to be asked."""
    if dimensions:
        if dim not in (None, dimensions):
            raise InvalidArgumentError(
                f"dim is the length of the vectors that dimensions asks for, found {dim} and {dimensions}: give one"
            )
        dim = dimensions
    if dim is None:
        return _own_dim(model)
    dim = checked_dim(dim, f"dim of {model!r}")
    # Under a gateway's name a model may be another one than OpenAI's.
    own = _OPENAI_DIMS.get(model)
    if own is not None and (dim > own or (model in _FIXED_DIM_MODELS and dim != own)):
        allowed = f"{own}" if model in _FIXED_DIM_MODELS else f"1 to {own}"
        raise InvalidArgumentError(f"dim of {model!r} must be {allowed}, found {dim}")
    return dim
