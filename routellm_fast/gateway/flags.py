"""Settings from a command line: one pair of models, and routers by name. RouteLLM's server is started this way."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from routellm_fast.decision import checked_pair
from routellm_fast.endpoints import OPENAI_URL
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.gateway.settings import Settings

_DEFAULT_ROUTERS: Final = ("mf",)
_KEY_VARIABLE: Final = "ROUTELLM_FAST_SERVE_KEY"


@dataclass(frozen=True, slots=True)
class Flags:
    """What a command line says of models and routers.

    Attributes:
        routers: Names, each alone or as NAME=SOURCE; see RouterSettings.source. None of them: the router that ships.
        strong_model: The strong model's name at its server.
        weak_model: The weak model's name.
        base_url: The server of both models; None for OpenAI's.
        weak_base_url: The weak model's server, where it is another.
        api_key: The server's key; None for that of a variable.
        api_key_env: The environment variable that holds the key; None for OPENAI_API_KEY at OpenAI's server.
        weak_api_key_env: The same for the weak model's server.
    """

    routers: Sequence[str]
    strong_model: str | None
    weak_model: str | None
    base_url: str | None = None
    weak_base_url: str | None = None
    api_key: str | None = None
    api_key_env: str | None = None
    weak_api_key_env: str | None = None

    @property
    def given(self) -> list[str]:
        """The options that were given, as they are written on the command line."""
        named = {name: getattr(self, name) for name in self.__slots__}
        return [f"--{name.replace('_', '-')}" for name, value in named.items() if value]


def settings_of_flags(flags: Flags, config: Mapping[str, Any] | None = None) -> Settings:
    """Return the settings that a command line means.

    Args:
        flags: What it says.
        config: What RouteLLM's configuration has for each router; None for no file. Without names of routers all
            of it is loaded.

    Raises:
        InvalidArgumentError: A model is missing, or a name or an address cannot be used.
    """
    missing = [
        option
        for option, value in (("--strong-model", flags.strong_model), ("--weak-model", flags.weak_model))
        if not value
    ]
    if missing:
        raise InvalidArgumentError(
            f"{' and '.join(missing)} is missing: name the model that answers hard requests and the one that answers "
            "the others, or give a file of settings by --config"
        )
    pair = checked_pair(flags.strong_model or "", flags.weak_model or "")
    if flags.api_key and flags.api_key_env:
        raise InvalidArgumentError("give the key by --api-key or by --api-key-env, not by both")
    if flags.api_key:
        # Worker processes inherit the environment, and no settings hold a key.
        os.environ[_KEY_VARIABLE] = flags.api_key
    key_variable = _KEY_VARIABLE if flags.api_key else flags.api_key_env
    upstreams: dict[str, Any] = {"strong": _upstream(flags.base_url, key_variable)}
    has_two = bool(flags.weak_base_url or flags.weak_api_key_env)
    if has_two:
        upstreams["weak"] = _upstream(flags.weak_base_url or flags.base_url, flags.weak_api_key_env)
    routers = {}
    for entry in flags.routers or (config or _DEFAULT_ROUTERS):
        name, _, source = entry.partition("=")
        routers[name] = {
            "source": source or (config or {}).get(name) or name,
            "strong": pair.strong,
            "weak": pair.weak,
        }
    try:
        return Settings.model_validate(
            {
                "upstreams": upstreams,
                "models": {
                    pair.strong: {"upstream": "strong"},
                    pair.weak: {"upstream": "weak" if has_two else "strong"},
                },
                "routers": routers,
            }
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidArgumentError(f"{where}: {first['msg']}") from error


def _upstream(base_url: str | None, api_key_env: str | None) -> dict[str, Any]:
    upstream: dict[str, Any] = {"base_url": base_url or OPENAI_URL}
    if api_key_env:
        upstream["api_key_env"] = api_key_env
    return upstream
