"""Sends an embedder's requests, and keeps the connections for it."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from routellm_fast.arrays import FloatArray
from routellm_fast.embedders._openai_settings import Settings
from routellm_fast.embedders._openai_talk import Question, Refusal, Talk
from routellm_fast.endpoints import (
    ApiKey,
    key_for,
    query_secrets,
    refusal_reason,
    refused,
    shown,
    silent,
    unreachable,
)
from routellm_fast.errors import EmbedderUnavailableError, EndpointError, InvalidEmbeddingError
from routellm_fast.extras import require

if TYPE_CHECKING:
    # Imported where it is used, as guarded_http is, which needs it: the import takes tens of milliseconds, and programs
    # with an event loop have done it.
    import asyncio

# How the client sends a request and returns the answer's text. Its own method for embeddings always sends an
# `encoding_format`, and some servers take none. Only the key that the client was given may be sent.
_AS_TEXT: Final[dict[str, Any]] = {"cast_to": str, "options": {"security": {"bearer_auth": True}}}
_T = TypeVar("_T")


class Connection:
    """Asks one server, from any thread and any event loop, in this process and in forked ones."""

    def __init__(self, settings: Settings, key: ApiKey, http_client: Any, async_http_client: Any) -> None:
        """Open nothing yet.

        Args:
            settings: Server, time-out and number of attempts.
            key: The key that was given; none reads the environment when the first request is sent.
            http_client: The caller's httpx client for blocking requests; None for our own.
            async_http_client: The same for those of event loops.
        """
        self._settings = settings
        self._key = key
        self._http_client = http_client
        self._async_http_client = async_http_client
        # Keys that the server has seen and may repeat; clients of several event loops may have got several.
        self._sent_keys: frozenset[ApiKey] = query_secrets(settings.server)
        self._state = _State()

    @property
    def lock(self) -> threading.Lock:
        """A lock of this process."""
        return self._current().lock

    @property
    def asking(self) -> threading.Lock:
        """Held by threads of this process while the dim is asked for."""
        return self._current().asking

    def shown(self, text: str) -> str:
        """Return what may be shown of a text that the server wrote."""
        return shown(text, *self._sent_keys)

    def run(self, talk: Talk) -> FloatArray:
        """Hold a talk with the server; block until its end.

        Requests run in an event loop of the package's own, in a thread of its own: only there can one deadline cover
        a request whole. With the caller's own client they run in this thread.
        """
        openai = require("openai", "openai")
        client = self._blocking_client(openai)
        try:
            question = next(talk)
            while True:
                if self._http_client is None:
                    answer = _finished(self._asked(openai, client, question))
                else:
                    answer = self._asked_blocking(openai, client, question)
                question = talk.send(answer)
        except StopIteration as done:
            vectors: FloatArray = done.value
        return vectors

    async def arun(self, client: Any, talk: Talk) -> FloatArray:
        """Hold a talk with the server by a client of the running event loop."""
        openai = require("openai", "openai")
        try:
            question = next(talk)
            while True:
                question = talk.send(await self._asked(openai, client, question))
        except StopIteration as done:
            vectors: FloatArray = done.value
        return vectors

    async def of_loop(self) -> OfLoop:
        """Return what the tasks of the running event loop share."""
        import asyncio

        state = self._current()
        loop = asyncio.get_running_loop()
        if loop not in state.of_loop:
            # The import and the certificates take up to a second: not in the event loop.
            openai = await asyncio.to_thread(require, "openai", "openai")
            client = await asyncio.to_thread(self._new_async_client, openai, self._async_http_client)
            # Another task may have been faster; its client has been used already.
            shared = OfLoop(client, asyncio.Semaphore(self._settings.max_concurrency), asyncio.Lock())
            state.of_loop.setdefault(loop, shared)
        return state.of_loop[loop]

    def close(self) -> None:
        """Close the connections of `run`. The next call opens new ones."""
        state = self._current()
        with state.lock:
            client, state.blocking = state.blocking, None
            closing, state.closing = state.closing, None
        if client is not None and closing is not None:
            closing.detach()
            _finished(client.close())

    async def aclose(self) -> None:
        """Close the connections that the running event loop has."""
        import asyncio

        shared = self._current().of_loop.pop(asyncio.get_running_loop(), None)
        if shared is not None:
            await shared.client.close()

    # --- requests

    async def _asked(self, openai: Any, client: Any, question: Question) -> bytes | Refusal:
        from routellm_fast.guarded_http import expecting

        with expecting(question.most_bytes) as exchange:
            try:
                text: str = await client.post("/embeddings", body=question.body, **_AS_TEXT)
            except openai.OpenAIError as error:
                return self._refusal(openai, error, len(question.body["input"]))
            return self._oversized(exchange.flaw) if exchange.flaw else text.encode()

    def _asked_blocking(self, openai: Any, client: Any, question: Question) -> bytes | Refusal:
        from routellm_fast.guarded_http import expecting

        with expecting(question.most_bytes) as exchange:
            try:
                text: str = client.post("/embeddings", body=question.body, **_AS_TEXT)
            except openai.OpenAIError as error:
                return self._refusal(openai, error, len(question.body["input"]))
            return self._oversized(exchange.flaw) if exchange.flaw else text.encode()

    def _blocking_client(self, openai: Any) -> Any:
        from routellm_fast.guarded_http import new_client

        state = self._current()
        with state.lock:
            if state.blocking is None:
                if self._http_client is not None:
                    state.blocking = self._new_client(new_client, openai, self._http_client)
                else:
                    state.blocking = self._new_async_client(openai, None)
                    # Connections that nobody closes would live on in the event loop.
                    state.closing = weakref.finalize(self, _close_soon, state.blocking)
                    state.closing.atexit = False
            return state.blocking

    def _new_async_client(self, openai: Any, http_client: Any) -> Any:
        from routellm_fast.guarded_http import new_async_client

        return self._new_client(new_async_client, openai, http_client)

    def _new_client(self, kind: Any, openai: Any, http_client: Any) -> Any:
        settings = self._settings
        try:
            key = key_for(settings.server, given=self._key)
        except EndpointError as error:
            raise EmbedderUnavailableError(str(error)) from error
        self._sent_keys |= {key}
        return kind(
            openai,
            settings.server,
            key,
            timeout_s=settings.timeout_s,
            max_retries=settings.max_retries,
            http_client=http_client,
        )

    def _current(self) -> _State:
        # A forked child must not use its parent's connections.
        if self._state.pid != os.getpid():
            self._state = _State()
        return self._state

    # --- answers

    def _refusal(self, openai: Any, error: Exception, count: int) -> Refusal:
        settings = self._settings
        attempts = settings.max_retries + 1
        status, reason = None, ""
        if isinstance(error, openai.APIStatusError):
            status, reason = int(error.status_code), refusal_reason(error)
            asked = f"to {count} texts for model {settings.model!r}"
            what = refused(status, asked, self.shown(reason), shorten="max_chars= cuts texts")
        elif isinstance(error, openai.APITimeoutError):
            what = silent(settings.timeout_s, attempts)
        else:
            cause = error.__cause__ or error
            what = unreachable(cause, self.shown(str(cause)), attempts)
        return Refusal(EmbedderUnavailableError(f"{settings.shown_endpoint} {what}"), status, reason)

    def _oversized(self, flaw: str) -> Refusal:
        return Refusal(
            InvalidEmbeddingError(
                f"{self._settings.shown_endpoint} answered {self.shown(flaw)}. Check that base_url is the address of "
                "an OpenAI-compatible API of embeddings, and that dim= is the length of the model's vectors."
            ),
            is_oversized=True,
        )


@dataclass(frozen=True, slots=True)
class OfLoop:
    """What the tasks of one event loop share.

    Attributes:
        client: The openai package's client.
        slots: Limits the requests under way.
        asking: Held while the dim is asked for.
    """

    client: Any
    slots: asyncio.Semaphore
    asking: asyncio.Lock


class _State:
    """The connections of one process: a client for blocking calls, and a client for each event loop."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.asking = threading.Lock()
        self.blocking: Any = None
        self.closing: Any = None
        self.of_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, OfLoop] = weakref.WeakKeyDictionary()


# --- the event loop of blocking calls


class _Background:
    """An event loop in a thread of its own, which ends with the process."""

    def __init__(self) -> None:
        import asyncio

        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name="routellm-http", daemon=True).start()


_background: _Background | None = None
_starting = threading.Lock()


def _renew_lock() -> None:
    global _starting  # noqa: PLW0603 - the one of the parent may be held by a thread that the child does not have
    _starting = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def _loop() -> asyncio.AbstractEventLoop:
    global _background  # noqa: PLW0603 - one for the process
    with _starting:
        if _background is None or _background.pid != os.getpid():
            _background = _Background()
        return _background.loop


def _finished(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine in the background and return its result; what interrupts the wait cancels the work."""
    import asyncio

    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def _close_soon(client: Any) -> None:
    """Close a client of the background loop of this process, in which it was made."""
    import asyncio

    if _background is not None and _background.pid == os.getpid() and _background.loop.is_running():
        asyncio.run_coroutine_threadsafe(client.close(), _background.loop)
