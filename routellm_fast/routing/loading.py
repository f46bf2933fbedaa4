"""Opens routers by name: shipped ones, router directories, Triton servers, what RouteLLM's configuration names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from routellm_fast.artifact import ROUTER_LAYOUT
from routellm_fast.decision import ModelPair
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.hub import is_hub_name
from routellm_fast.routers.loading import ROUTER_KINDS, SHIPPED_KINDS, load_router
from routellm_fast.routing.function import NAMELESS_PAIR, FunctionRouter
from routellm_fast.routing.protocol import RoutesPrompts
from routellm_fast.routing.routellm_config import from_settings
from routellm_fast.routing.router_set import RouterSet
from routellm_fast.serving.triton_protocol import DEFAULT_NAME
from routellm_fast.shown import shown

# What a router is opened from: see open_router; a mapping holds what RouteLLM's configuration has for a router.
Source: TypeAlias = "str | Path | Mapping[str, Any] | RoutesPrompts"

_RANDOM: Final = "random"
_TRITON_PREFIX: Final = "triton+"
_TRITON_SCHEMES: Final = ("http://", "https://", "grpc://", "grpcs://")


def load_routers(
    sources: Mapping[str, Any] | Sequence[str],
    *,
    config: Mapping[str, Any] | None = None,
    model_pair: ModelPair | None = None,
    on_router: Callable[[str], None] | None = None,
) -> RouterSet:
    """Open routers by name.

    Args:
        sources: By each router's name what it is opened from: what `open_router` takes, the settings that RouteLLM's
            configuration has for such a router (see `routellm_config`), a router, or RouteLLM's kind of router, an
            object with `calculate_strong_win_rate`. Or names alone: each is opened from its entry in config, else from
            what the name says.
        config: A configuration as RouteLLM has it, `read_config` of its file; for names alone.
        model_pair: The models that prompts are sent to; None for those that each router names.
        on_router: Told each router's name before it is opened.

    Raises:
        InvalidArgumentError: A source says nothing that could be opened, or a setting is unknown or wrong.
        RouteLLMError: A router cannot be opened; see load_router.
        TypeError: A source is of no such type.
    """
    if isinstance(sources, Mapping):
        if config is not None:
            raise InvalidArgumentError("a configuration is for routers that are given by name alone")
        by_name = dict(sources)
    elif isinstance(sources, (str, bytes)) or not isinstance(sources, Iterable):
        raise TypeError(f"routers are given as a list of names, or by name, found {type(sources).__name__}")
    else:
        by_name = {name: (config or {}).get(name) or name for name in sources}
    routers: dict[str, RoutesPrompts] = {}
    for name, source in by_name.items():
        if on_router is not None:
            on_router(name)
        routers[name] = _opened(name, source, model_pair)
    return RouterSet(routers)


def open_router(
    source: str | Path,
    *,
    model_pair: ModelPair | None = None,
    digest: str | None = None,
    allow_server: str | Sequence[str] | None = None,
    triton_model: str = DEFAULT_NAME,
) -> RoutesPrompts:
    """Open one router.

    Args:
        source: "mf" or "sw_ranking" for a router that ships, "random" for RouteLLM's random router, a router directory,
            or a Triton server, as http://host:port or grpc://host:port (https and grpcs with TLS), several replicas of
            it separated by commas; `triton+` may stand in front.
        model_pair: The models that prompts are sent to; None for those that the router names.
        digest: Of a directory, what its digest must be; see load_router.
        allow_server: Of a directory, the embedding server that it may name; see load_router.
        triton_model: The router's name on the Triton server.

    Raises:
        InvalidArgumentError: The source is no such thing.
        RouteLLMError: The directory cannot be loaded; see load_router. A Triton server is not asked yet.
    """
    text = str(source)
    urls = [url.strip().removeprefix(_TRITON_PREFIX) for url in text.split(",")]
    is_triton = urls[0].startswith(_TRITON_SCHEMES)
    if (is_triton or text == _RANDOM) and (digest is not None or allow_server is not None):
        raise InvalidArgumentError(f"digest and allow_server are for router directories, and {shown(text)} is none")
    if is_triton:
        from routellm_fast.serving.triton import TritonRouter  # asyncio

        return TritonRouter(urls, model=triton_model, model_pair=model_pair)
    if text == _RANDOM and not Path(text).exists():
        return FunctionRouter.random(model_pair or NAMELESS_PAIR)
    if text not in SHIPPED_KINDS and not (Path(text) / ROUTER_LAYOUT.manifest_file).is_file():
        raise InvalidArgumentError(_nothing_to_open(text))
    strong, weak = model_pair or (None, None)
    return load_router(source, strong_model=strong, weak_model=weak, digest=digest, allow_server=allow_server)


def _opened(name: str, source: Source, model_pair: ModelPair | None) -> RoutesPrompts:
    if isinstance(source, Mapping):
        return from_settings(name, source, model_pair)
    if isinstance(source, (str, Path)):
        # What RouteLLM's configuration would call its checkpoint_path.
        is_checkpoint = name in ROUTER_KINDS and (Path(source).is_dir() or is_hub_name(source))
        if is_checkpoint and str(source) not in SHIPPED_KINDS:
            return from_settings(name, {"checkpoint_path": source}, model_pair)
        return open_router(source, model_pair=model_pair)
    score: Any = getattr(source, "calculate_strong_win_rate", None)
    if score is not None:
        return FunctionRouter(score, kind=name, model_pair=model_pair or NAMELESS_PAIR)
    return source  # RouterSet checks it


def _nothing_to_open(text: str) -> str:
    name, ships = shown(text), " and ".join((*SHIPPED_KINDS, _RANDOM))
    if text in ROUTER_KINDS:
        return (
            f"no router of kind {name} ships with this package, only {ships} do: name a router directory, or a "
            f'checkpoint, for it, as in config={{"{name}": {{"checkpoint_path": "path/to/router"}}}}'
        )
    return (
        f"{name} is no router: expected one that ships ({ships}), a router directory, which has "
        f"{ROUTER_LAYOUT.manifest_file}, or the address of a Triton server. For a checkpoint of RouteLLM's, "
        "`routellm-fast import` makes a directory, or name it in the configuration, as in "
        f'config={{"mf": {{"checkpoint_path": "{name}"}}}}'
    )
