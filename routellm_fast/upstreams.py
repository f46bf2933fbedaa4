"""Who answers a chat once its model is chosen: LiteLLM, or the openai package; or an object of the caller's own.

Both are called as LiteLLM is: `completion(model=, messages=, api_base=, api_key=, …)`, and everything else that a
request holds goes on as it came.

The one key handler of the package (`endpoints.key_for`) says which key goes where: OPENAI_API_KEY goes to OpenAI's own
addresses and to that of OPENAI_BASE_URL; any other address gets the key that was given for it, or none.
"""

from __future__ import annotations

import functools
import inspect
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

from routellm_fast.endpoints import ApiKey, checked_url, is_openai, key_for, server_of
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.extras import is_installed, require
from routellm_fast.shown import shown

if TYPE_CHECKING:
    import asyncio

UpstreamName: TypeAlias = Literal["litellm", "openai"]

# How LiteLLM names models of OpenAI's API, wherever they run.
_OPENAI_PREFIX: Final = "openai/"
# The providers for which LiteLLM falls back to OPENAI_API_KEY, whatever the address.
_READ_OPENAI_KEY: Final = frozenset({"openai", "custom_openai", "text-completion-openai"})


class Upstream(Protocol):
    """What answers chats. The module litellm is one."""

    def completion(self, *, model: str, api_base: str | None, api_key: str | None, **request: Any) -> Any:
        """Return the answer as the openai package's ChatCompletion; for stream=True, an iterable of its chunks.

        Args:
            model: The model's name.
            api_base: The server's address, up to and without `/chat/completions`; None for the upstream's own choice.
            api_key: The server's key; None for the upstream's own choice.
            **request: `messages`, and all else that the request holds.
        """
        ...

    async def acompletion(self, *, model: str, api_base: str | None, api_key: str | None, **request: Any) -> Any:
        """Return the same for event loops; for stream=True, an asynchronous iterable."""
        ...


def named_upstream(which: UpstreamName | Upstream | None) -> Upstream:
    """Return an upstream by its name.

    Args:
        which: "litellm", "openai", or an upstream itself. None: LiteLLM where it is installed, else the openai package.

    Raises:
        InvalidArgumentError: No upstream has that name.
        TypeError: It is neither a name nor an upstream.
    """
    if which is None:
        which = "litellm" if is_installed("litellm") else "openai"
    if isinstance(which, str):
        if which not in ("litellm", "openai"):
            raise InvalidArgumentError(f'upstream is "litellm", "openai" or an object, found {which!r}')
        return LiteLLMUpstream() if which == "litellm" else OpenAIUpstream()
    lacking = [name for name in ("completion", "acompletion") if not callable(getattr(which, name, None))]
    if lacking:
        raise TypeError(
            f"an upstream has completion and acompletion, as the module litellm has, found {type(which).__name__}, "
            f"which lacks {' and '.join(lacking)}"
        )
    return which


# --- LiteLLM


class LiteLLMUpstream:
    """Anything that LiteLLM reaches, by its names. It is imported when it is first asked, which takes seconds.

    LiteLLM takes keys that nobody gives from the environment, by its own rules. To an address that was given with an
    OpenAI-compatible model, and that OPENAI_BASE_URL does not name, it would send OPENAI_API_KEY: it is kept from that.
    """

    def completion(self, *, model: str, api_base: str | None, api_key: str | None, **request: Any) -> Any:
        """See Upstream.completion. Raises LiteLLM's errors, and MissingExtraError where it is not installed."""
        litellm = require("litellm", "litellm")
        key = _litellm_key(litellm, model, api_base, api_key)
        return litellm.completion(model=model, api_base=api_base, api_key=key, **request)

    async def acompletion(self, *, model: str, api_base: str | None, api_key: str | None, **request: Any) -> Any:
        """See Upstream.acompletion; raises as completion."""
        import asyncio

        litellm = await asyncio.to_thread(require, "litellm", "litellm")
        key = _litellm_key(litellm, model, api_base, api_key)
        return await litellm.acompletion(model=model, api_base=api_base, api_key=key, **request)


def _litellm_key(litellm: Any, model: str, api_base: str | None, api_key: str | None) -> str | None:
    if api_key is not None or api_base is None:
        return api_key
    try:
        _, provider, *_ = litellm.get_llm_provider(model=model, api_base=api_base)
    except Exception:  # noqa: BLE001 - LiteLLM says at the call itself what is wrong with the name
        return None
    return key_for(checked_url(api_base)).reveal() if provider in _READ_OPENAI_KEY else None


# --- the openai package


class OpenAIUpstream:
    """Servers that speak OpenAI's API, through the openai package. Thread-safe; for any number of event loops.

    Without an address, chats go to the server that OPENAI_BASE_URL names, else to OpenAI. `openai/NAME`, as LiteLLM
    writes it, is the model NAME. Fields that the package does not know go into the request's body as they are;
    `max_retries` is how often the package tries again. Redirects are not followed.
    """

    def __init__(self) -> None:
        """Connect to nothing yet."""
        self._state = _Clients()

    def completion(self, *, model: str, api_base: str | None, api_key: str | None, **request: Any) -> Any:
        """See Upstream.completion.

        Raises:
            InvalidArgumentError: The address is none, or the model's name is of a provider whose address is not given.
            EndpointError: OpenAI needs a key, and there is none.
            MissingExtraError: The openai package is not installed.
            openai.OpenAIError: Of the package itself, when the server does not answer, or refuses.
        """
        server, key, name = _target(model, api_base, api_key)
        client = self._current().blocking(server, key)
        return _create(client, name, request)

    async def acompletion(self, *, model: str, api_base: str | None, api_key: str | None, **request: Any) -> Any:
        """See Upstream.acompletion; raises as completion."""
        server, key, name = _target(model, api_base, api_key)
        client = await self._current().of_running_loop(server, key)
        return await _create(client, name, request)

    def close(self) -> None:
        """Close the connections of `completion`. The next call opens new ones."""
        self._current().close()

    async def aclose(self) -> None:
        """Close the connections that the running event loop has."""
        await self._current().aclose()

    def _current(self) -> _Clients:
        # A forked child must not use its parent's connections.
        if self._state.process != os.getpid():
            self._state = _Clients()
        return self._state


def _target(model: str, api_base: str | None, api_key: str | None) -> tuple[str, ApiKey, str]:
    """Return the server's checked address, its key, and the model's name there."""
    server = server_of(api_base)
    name = model.removeprefix(_OPENAI_PREFIX)
    if is_openai(server) and "/" in name:
        raise InvalidArgumentError(
            f"OpenAI has no model {shown(name)!r}: give the address of the server that has it (api_base, or "
            "strong_api_base and weak_api_base), or let LiteLLM find its provider: pip install litellm, "
            'upstream="litellm"'
        )
    return server, key_for(server, given=ApiKey(api_key)), name


def _create(client: Any, model: str, request: Mapping[str, Any]) -> Any:
    """Ask for a completion; what the package does not know goes into the body."""
    fields = dict(request)
    if "max_retries" in fields:
        client = client.with_options(max_retries=fields.pop("max_retries"))
    create = client.chat.completions.create
    known = _parameters(type(client.chat.completions).create)
    further = {name: fields.pop(name) for name in list(fields) if name not in known}
    if further:
        fields["extra_body"] = {**further, **(fields.get("extra_body") or {})}
    return create(model=model, **fields)


@functools.cache
def _parameters(create: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(create).parameters)


class _Clients:
    """The clients of one process, by server and key: for blocking calls, and for each event loop."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self._lock = threading.Lock()
        self._blocking: dict[tuple[str, ApiKey], Any] = {}
        self._of_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, ApiKey], Any]]
        self._of_loop = weakref.WeakKeyDictionary()
        weakref.finalize(self, _close_all, self._blocking)

    def blocking(self, server: str, key: ApiKey) -> Any:
        from routellm_fast.guarded_http import new_open_client

        with self._lock:
            if (server, key) not in self._blocking:
                self._blocking[server, key] = new_open_client(require("openai", "openai"), server, key)
            return self._blocking[server, key]

    async def of_running_loop(self, server: str, key: ApiKey) -> Any:
        import asyncio

        from routellm_fast.guarded_http import new_open_async_client

        with self._lock:
            clients = self._of_loop.setdefault(asyncio.get_running_loop(), {})
        if (server, key) not in clients:
            # The import and the certificates take up to a second: not in the event loop.
            openai = await asyncio.to_thread(require, "openai", "openai")
            client = await asyncio.to_thread(new_open_async_client, openai, server, key)
            if clients.setdefault((server, key), client) is not client:  # another task was faster
                await client.close()
        return clients[server, key]

    def close(self) -> None:
        with self._lock:
            _close_all(self._blocking)

    async def aclose(self) -> None:
        import asyncio

        with self._lock:
            clients = self._of_loop.pop(asyncio.get_running_loop(), {})
        for client in clients.values():
            await client.close()


def _close_all(clients: dict[tuple[str, ApiKey], Any]) -> None:
    while clients:
        clients.popitem()[1].close()
