"""An embedder that asks OpenAI, or any server with the same API."""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections.abc import Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.embedders._openai_answer import parse_answer
from routellm_fast.embedders.base import Stored, fingerprint_of, identity_of
from routellm_fast.endpoints import (
    OPENAI_URL,
    ApiKey,
    checked_timeout_s,
    is_openai,
    key_for,
    named_server,
    refused,
    shown,
    silent,
    unreachable,
)
from routellm_fast.errors import EmbedderUnavailableError, EmbeddingError, EndpointError, InvalidArgumentError
from routellm_fast.extras import require
from routellm_fast.texts import check_texts

if TYPE_CHECKING:
    # Imported where it is used: the import takes tens of milliseconds, and programs with an event loop have done it.
    import asyncio

_OPENAI_PROVIDER = "openai"
_OPENAI_DIMS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}
_FIXED_DIM_MODELS = {"text-embedding-ada-002"}
_MAX_BATCH_SIZE = 2048
# OpenAI takes 300,000 tokens a request, and a token is at least a byte.
_MAX_REQUEST_BYTES = 300_000
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")


class OpenAIEmbedder:
    """Embeds texts by requests POST {base_url}/embeddings. Thread-safe; `aembed` is its form for asyncio.

    Making the object opens no connection, imports nothing and needs no key. Requests go through the official `openai`
    package (extra `openai`). It tries again after the statuses 408, 409, 429 and 5xx, time-outs and broken connections.
    The pause before a new attempt grows, or is the one that the server asks for by Retry-After, up to a minute. So a
    call may take `max_retries + 1` time-outs and the pauses between them.

    Texts: OpenAI refuses an empty text, so it is sent as one space. Lone surrogates, which no request can hold, are
    sent as U+FFFD. OpenAI's models refuse a text of more than 8,192 tokens; `max_chars` cuts texts before they are
    sent.

    Identity: the fingerprint covers provider, model, dim and max_chars. Two servers may use one name for two models, so
    the provider is "openai" for OpenAI's own servers and the server's address for all others. For a gateway in front of
    OpenAI, or a server that has moved, pass `provider=`.

    Key: `api_key`, else OPENAI_API_KEY, read when the first request is sent. OPENAI_API_KEY is sent only to OpenAI's
    own servers and to the server that OPENAI_BASE_URL names: a router directory from a stranger may name any server.
    Other servers get a key only from `api_key`. The key is never logged, and is removed from server texts in errors.

    RouteLLM's mf and sw_ranking routers use the same default model, with one blocking request for each prompt.
    """

    def __init__(
        self,
        model: str = "text-embedding-3-small",
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        dim: int | None = None,
        provider: str | None = None,
        timeout_s: float = 10.0,
        max_retries: int = 3,
        batch_size: int = 256,
        max_concurrency: int = 8,
        max_chars: int | None = None,
        http_client: Any = None,
        async_http_client: Any = None,
    ) -> None:
        """Describe the service.

        Args:
            model: Name of the model at the server.
            base_url: Address of the API without `/embeddings`, http or https. None: OPENAI_BASE_URL if set, else
                OpenAI.
            api_key: The key; None reads the environment, as described above. Most local servers need none.
            dim: Number of values in a vector. None takes the model's own for OpenAI's models (1,536 for
                text-embedding-3-small and text-embedding-ada-002, 3,072 for text-embedding-3-large); it must be given
                for others. For a text-embedding-3 model it may be smaller: the request then holds `dimensions`.
            provider: Name of whoever runs the model, as a part of the fingerprint.
            timeout_s: Seconds that each attempt may take to connect, to send and to wait for an answer, each, > 0.
            max_retries: Number of further attempts after a failed one, >= 0.
            batch_size: The most texts in a request, 1 to 2,048. A request also holds at most 300,000 bytes of text.
            max_concurrency: The most requests that `aembed` sends at once in an event loop, >= 1. `embed` sends one at
                a time.
            max_chars: The most characters of a text that are sent, >= 1; None sends all.
            http_client: An httpx client for `embed`, e.g. with a proxy or certificates. Closing it remains your task.
            async_http_client: The same for `aembed`. It can be used in one event loop only.

        Raises:
            InvalidArgumentError: An argument is out of its range, dim is unknown, or base_url is not a plain http or
                https address.
        """
        if not model:
            raise InvalidArgumentError("model must not be empty")
        for name, value, low, high in (
            ("max_retries", max_retries, 0, None),
            ("batch_size", batch_size, 1, _MAX_BATCH_SIZE),
            ("max_concurrency", max_concurrency, 1, None),
            ("max_chars", 1 if max_chars is None else max_chars, 1, None),
        ):
            if value < low or (high is not None and value > high):
                allowed = f"at least {low}" if high is None else f"{low} to {high}"
                raise InvalidArgumentError(f"{name} must be {allowed}, found {value}")
        self._timeout_s = checked_timeout_s(timeout_s)
        self._base_url = named_server(base_url)
        self._is_openai = self._base_url is None or is_openai(self._base_url)
        self._model = model
        self._api_key = ApiKey(api_key)
        # Keys that the server has seen and may repeat; clients of several event loops may have got several.
        self._sent_keys: frozenset[ApiKey] = frozenset()
        self._dim = _checked_dim(model, dim)
        self._dimensions = self._dim if _OPENAI_DIMS.get(model, self._dim) != self._dim else None
        self._provider = provider or (_OPENAI_PROVIDER if self._is_openai else self._endpoint.partition("://")[2])
        self._max_retries = max_retries
        self._batch_size = batch_size
        self._max_concurrency = max_concurrency
        self._max_chars = max_chars
        self._http_client = http_client
        self._async_http_client = async_http_client
        self._clients = _Clients()

    @property
    def name(self) -> str:
        """The name "openai:<model>"."""
        return f"openai:{self._model}"

    @property
    def dim(self) -> int:
        """Number of values in a vector."""
        return self._dim

    @property
    def fingerprint(self) -> str:
        """Identity of provider, model, dim and max_chars."""
        identity = {"provider": self._provider, "model": self._model, "dim": self._dim, "max_chars": self._max_chars}
        return fingerprint_of({"kind": "openai", **identity})

    def with_key(self, api_key: str) -> OpenAIEmbedder:
        """Return the same embedder with another key."""
        return OpenAIEmbedder(
            **self._arguments(),
            api_key=api_key,
            http_client=self._http_client,
            async_http_client=self._async_http_client,
        )

    def _arguments(self) -> dict[str, Any]:
        """The constructor's arguments but for the key and the clients."""
        return {
            "model": self._model,
            "base_url": self._base_url,
            "dim": self._dim,
            "provider": self._provider,
            "timeout_s": self._timeout_s,
            "max_retries": self._max_retries,
            "batch_size": self._batch_size,
            "max_concurrency": self._max_concurrency,
            "max_chars": self._max_chars,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        if self._http_client is not None or self._async_http_client is not None:
            raise TypeError(
                "an OpenAIEmbedder with an HTTP client of its own does not pickle: connections stay in their process. "
                "Build it where it is used, or without http_client and async_http_client."
            )
        return partial(OpenAIEmbedder, **self._arguments()), ()

    def __copy__(self) -> OpenAIEmbedder:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> OpenAIEmbedder:
        return self

    def stored(self) -> Stored:
        """Return the manifest entry by which a router directory keeps this embedder; it holds no key."""
        settings = {
            "model": self._model,
            "base_url": self._base_url,
            "dim": self._dim,
            "provider": self._provider,
            "max_chars": self._max_chars,
        }
        return identity_of(self, kind="openai", settings=settings), {}, {}

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return (n, dim) float32. Where there are no texts, no request is sent.

        Raises:
            TypeError: An element is not a str.
            MissingExtraError: The openai package is not installed.
            EmbedderUnavailableError: There is no key or no connection, the server did not answer in time, or it
                refused; the text holds the address, the status and what to do.
            InvalidEmbeddingError: The answer has another number of vectors, another dim, or values that are not finite.
        """
        prepared = self._prepare(texts)
        answers = [self._request(batch) for batch in self._batches(prepared)]
        return self._joined(answers)

    async def aembed(self, texts: Sequence[str]) -> FloatArray:
        """Return and raise what `embed` does; sends several requests at once and does not block the event loop."""
        import asyncio

        batches = list(self._batches(self._prepare(texts)))
        if not batches:
            return self._joined([])
        client, slots = await self._async_client()

        async def request(batch: list[str]) -> FloatArray:
            async with slots:
                return await self._arequest(client, batch)

        tasks = [asyncio.ensure_future(request(batch)) for batch in batches]
        try:
            return self._joined(await asyncio.gather(*tasks))
        finally:
            # After a failure the other requests are of no use: none may go on running.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        """Close the connections of `embed`. The next call opens new ones."""
        client, self._current_clients().sync = self._current_clients().sync, None
        if client is not None and self._http_client is None:
            client.close()

    async def aclose(self) -> None:
        """Close the connections that `aembed` holds in the running event loop."""
        import asyncio

        client, _ = self._current_clients().of_loop.pop(asyncio.get_running_loop(), (None, None))
        if client is not None and self._async_http_client is None:
            await client.close()

    def __enter__(self) -> OpenAIEmbedder:
        """Return this embedder; leaving closes its connections."""
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections of `embed`."""
        self.close()

    async def __aenter__(self) -> OpenAIEmbedder:
        """Return this embedder; leaving closes its connections."""
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close all connections."""
        self.close()
        await self.aclose()

    def __repr__(self) -> str:
        """Model, address and dim, never the key."""
        return f"OpenAIEmbedder({self._model!r}, base_url={self._base_url!r}, dim={self._dim})"

    @property
    def _endpoint(self) -> str:
        return self._base_url or OPENAI_URL

    # --- texts

    def _prepare(self, texts: Sequence[str]) -> list[str]:
        return [_LONE_SURROGATES.sub("\ufffd", text[: self._max_chars]) or " " for text in check_texts(texts)]

    def _batches(self, texts: Sequence[str]) -> Iterator[list[str]]:
        batch: list[str] = []
        batch_bytes = 0
        for text in texts:
            text_bytes = len(text.encode())
            if batch and (len(batch) == self._batch_size or batch_bytes + text_bytes > _MAX_REQUEST_BYTES):
                yield batch
                batch, batch_bytes = [], 0
            batch.append(text)
            batch_bytes += text_bytes
        if batch:
            yield batch

    # --- requests

    def _request(self, batch: list[str]) -> FloatArray:
        openai = require("openai", "openai")
        client = self._sync_client(openai)
        try:
            response = client.embeddings.with_raw_response.create(**self._parameters(batch))
        except openai.OpenAIError as error:
            failure = self._failure(openai, error, len(batch))
        else:
            return self._parse(response.http_response.content, len(batch))
        # Raised outside of the handler, the error does not carry the package's exception, which holds the server's
        # text.
        raise failure

    async def _arequest(self, client: Any, batch: list[str]) -> FloatArray:
        openai = require("openai", "openai")
        try:
            response = await client.embeddings.with_raw_response.create(**self._parameters(batch))
        except openai.OpenAIError as error:
            failure = self._failure(openai, error, len(batch))
        else:
            return self._parse(response.http_response.content, len(batch))
        raise failure

    def _parameters(self, batch: list[str]) -> dict[str, Any]:
        # base64 is the package's own default: exact float32 in a fifth of the bytes. Servers that ignore it send
        # lists of numbers.
        parameters: dict[str, Any] = {"model": self._model, "input": batch, "encoding_format": "base64"}
        if self._dimensions is not None:
            parameters["dimensions"] = self._dimensions
        return parameters

    def _sync_client(self, openai: Any) -> Any:
        clients = self._current_clients()
        with clients.lock:
            if clients.sync is None:
                clients.sync = self._new_client(openai.OpenAI, self._http_client)
            return clients.sync

    async def _async_client(self) -> tuple[Any, asyncio.Semaphore]:
        import asyncio

        clients = self._current_clients()
        loop = asyncio.get_running_loop()
        if loop not in clients.of_loop:
            # The import and the certificates take up to a second: not in the event loop.
            openai = await asyncio.to_thread(require, "openai", "openai")
            client = await asyncio.to_thread(self._new_client, openai.AsyncOpenAI, self._async_http_client)
            # Another task may have been faster; its client has been used already.
            clients.of_loop.setdefault(loop, (client, asyncio.Semaphore(self._max_concurrency)))
        return clients.of_loop[loop]

    def _new_client(self, kind: Any, http_client: Any) -> Any:
        try:
            key = key_for(self._endpoint, given=self._api_key)
        except EndpointError as error:
            raise EmbedderUnavailableError(str(error)) from error
        self._sent_keys |= {key}
        return kind(
            api_key=key.reveal(),
            base_url=self._endpoint,
            timeout=self._timeout_s,
            max_retries=self._max_retries,
            http_client=http_client,
        )

    def _current_clients(self) -> _Clients:
        # A forked child must not use its parent's connections.
        if self._clients.pid != os.getpid():
            self._clients = _Clients()
        return self._clients

    # --- answers

    def _failure(self, openai: Any, error: Exception, count: int) -> EmbeddingError:
        attempts = self._max_retries + 1
        if isinstance(error, openai.APIStatusError):
            asked = f"to {count} texts for model {self._model!r}"
            what = refused(error.status_code, asked, self._shown(error.message), shorten="max_chars= cuts texts")
        elif isinstance(error, openai.APITimeoutError):
            what = silent(self._timeout_s, attempts)
        else:
            cause = error.__cause__ or error
            what = unreachable(cause, self._shown(str(cause)), attempts)
        return EmbedderUnavailableError(f"{self._endpoint}/embeddings {what}")

    def _parse(self, body: bytes, count: int) -> FloatArray:
        return parse_answer(body, count, self._dim, f"{self._endpoint}/embeddings", self._shown)

    def _joined(self, answers: Sequence[FloatArray]) -> FloatArray:
        if len(answers) == 1:
            return answers[0]
        return np.concatenate(answers) if answers else np.empty((0, self._dim), dtype=np.float32)

    def _shown(self, text: str) -> str:
        return shown(text, *self._sent_keys)


class _Clients:
    """The connections of one process: a client that all threads share, and a client for each event loop."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.sync: Any = None
        self.of_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[Any, asyncio.Semaphore]] = (
            weakref.WeakKeyDictionary()
        )


def _checked_dim(model: str, dim: int | None) -> int:
    own = _OPENAI_DIMS.get(model)
    if dim is None:
        if own is None:
            raise InvalidArgumentError(f"the dim of {model!r} is not known: give dim=, the length of its vectors")
        return own
    if dim < 1 or (own is not None and dim > own) or (model in _FIXED_DIM_MODELS and dim != own):
        allowed = "at least 1" if own is None else f"{own}" if model in _FIXED_DIM_MODELS else f"1 to {own}"
        raise InvalidArgumentError(f"dim of {model!r} must be {allowed}, found {dim}")
    return dim
