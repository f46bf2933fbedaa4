"""Loads the embedder that a command-line option names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from routellm_fast.embedders import Embedder, OnnxEmbedder, OpenAIEmbedder, StaticEmbedder
from routellm_fast.endpoints import key_for, server_of
from routellm_fast.errors import InvalidArgumentError

_OPENAI_PREFIX: Final = "openai:"
_ONNX_PREFIX: Final = "onnx:"
_KEY_SETTING: Final = "api_key_env"
# Arguments of OpenAIEmbedder that follow the model's name, and how their text is read.
_SETTINGS: Final[Mapping[str, Callable[[str], Any]]] = {
    "base_url": str,
    "dim": int,
    "dimensions": int,
    "encoding_format": str,
    "batch_size": int,
    "max_chars": int,
    "max_concurrency": int,
    "max_retries": int,
    "timeout_s": float,
    "provider": str,
}
# For the help of options: how an OpenAI-compatible server is named.
OPENAI_NAME: Final = (
    "openai:MODEL, optionally with settings, as in openai:MODEL,base_url=http://localhost:8000/v1,batch_size=32. "
    f"Settings: {', '.join(_SETTINGS)} (see OpenAIEmbedder), and {_KEY_SETTING}, the environment variable that holds "
    "the server's key"
)


def named_embedder(name: str) -> Embedder | None:
    """Return the embedder that an option names: `openai:MODEL[,SETTING=VALUE…]`, `onnx:DIR`, a directory, or `none`.

    For `none` the result is None.

    Raises:
        InvalidArgumentError: A setting is unknown, given twice, or has a value that is not allowed.
    """
    if name == "none":
        return None
    if name.startswith(_OPENAI_PREFIX):
        model, *settings = name.removeprefix(_OPENAI_PREFIX).split(",")
        return _openai(model, settings)
    if name.startswith(_ONNX_PREFIX):
        return OnnxEmbedder.load(name.removeprefix(_ONNX_PREFIX))
    return StaticEmbedder.load(name)


def _openai(model: str, settings: list[str]) -> OpenAIEmbedder:
    arguments: dict[str, Any] = {}
    key_variable: str | None = None
    for setting in settings:
        name, mark, value = setting.partition("=")
        if not mark or name not in (*_SETTINGS, _KEY_SETTING):
            raise InvalidArgumentError(
                f"{_OPENAI_PREFIX}{model} is followed by SETTING=VALUE, separated by commas (a comma in a value is "
                f"written %2C), found {name!r}; settings are {', '.join(_SETTINGS)}, {_KEY_SETTING}"
            )
        if name in arguments or (name == _KEY_SETTING and key_variable is not None):
            raise InvalidArgumentError(f"{_OPENAI_PREFIX}{model} has the setting {name} twice: give it once")
        if name == _KEY_SETTING:
            key_variable = value
        else:
            arguments[name] = _read(name, value)
    if key_variable is not None:
        arguments["api_key"] = key_for(server_of(arguments.get("base_url")), variable=key_variable).reveal()
    return OpenAIEmbedder(model, **arguments)


def _read(name: str, value: str) -> Any:
    kind = _SETTINGS[name]
    try:
        return kind(value)
    except ValueError:
        what = "an integer" if kind is int else "a number"
        raise InvalidArgumentError(f"{name} must be {what}, found {value!r}") from None
