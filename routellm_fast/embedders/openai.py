"""An embedder that asks OpenAI, or any server with the same API."""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.embedders._openai_answer import Flaw, UnfitAnswer, parse_answer
from routellm_fast.embedders._openai_manners import NEVER, Manners
from routellm_fast.embedders.base import Stored, checked_dim, fingerprint_of, identity_of
from routellm_fast.endpoints import (
    OPENAI_URL,
    ApiKey,
    address_of,
    checked_timeout_s,
    client_address,
    is_openai,
    key_for,
    named_server,
    query_secrets,
    refusal_reason,
    refused,
    shown,
    shown_server,
    silent,
    unreachable,
)
from routellm_fast.errors import (
    EmbedderUnavailableError,
    EmbeddingError,
    EndpointError,
    InvalidArgumentError,
    InvalidEmbeddingError,
)
from routellm_fast.extras import require
from routellm_fast.texts import check_texts

if TYPE_CHECKING:
    # Imported where it is used: the import takes tens of milliseconds, and programs with an event loop have done it.
    import asyncio

_OPENAI_PROVIDER = "openai"
_OPENAI_DIMS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}
_FIXED_DIM_MODELS = {"text-embedding-ada-002"}
_BATCH_SIZE = 256
_MAX_BATCH_SIZE = 2048
# OpenAI takes 300,000 tokens a request, and a token is at least a byte.
_MAX_REQUEST_BYTES = 300_000
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")
# Embedded to learn the length of vectors.
_PROBE = "dimension"
# How the client sends a request and returns the answer's text. Its own method for embeddings always sends an
# `encoding_format`, and some servers take none. Only the key that the client was given may be sent.
_AS_TEXT: Final[dict[str, Any]] = {"cast_to": str, "options": {"security": {"bearer_auth": True}}}


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A request without an answer to read.

    Attributes:
        error: What to raise unless the server is asked in another way.
        status: HTTP status; None where there was no answer.
        reason: What the server wrote.
    """

    error: EmbeddingError
    status: int | None = None
    reason: str = ""


# Yields the body of each request, takes its answer, and returns the vectors of its texts: the way of talking to a
# server is the same for `embed` and `aembed`, which only send differently.
_Talk = Generator["dict[str, Any]", "bytes | _Refusal", FloatArray]


class OpenAIEmbedder:
    """Embeds texts by requests POST {base_url}/embeddings. Thread-safe; `aembed` is its form for asyncio.

    Making the object opens no connection, imports nothing and needs no key. Requests go through the official `openai`
    package (extra `openai`). It tries again after the statuses 408, 409, 429 and 5xx, time-outs and broken connections.
    The pause before a new attempt grows, or is the one that the server asks for by Retry-After, up to a minute. So a
    call may take `max_retries + 1` time-outs and the pauses between them.

    Servers that are only nearly OpenAI's: where a server refuses `encoding_format` or `dimensions`, answers base64 with
    nothing, sends vectors of another length, or takes fewer texts a request, it is asked again in a way that it takes.
    The object remembers what was answered, for all its threads and tasks. The arguments encoding_format, dimensions and
    batch_size say from the start how to ask; an encoding_format or dimensions that is given is never changed. A refusal
    for any other reason raises, with the server's own words.

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
        dimensions: int | None = None,
        encoding_format: str = "auto",
        provider: str | None = None,
        timeout_s: float = 10.0,
        max_retries: int = 3,
        batch_size: int = _BATCH_SIZE,
        max_concurrency: int = 8,
        max_chars: int | None = None,
        http_client: Any = None,
        async_http_client: Any = None,
    ) -> None:
        """Describe the service.

        Args:
            model: Name of the model at the server.
            base_url: Address of the API without `/embeddings`, http or https. A query, such as
                `?api-version=2024-10-21`, is sent with every request; it must not hold a key. None: OPENAI_BASE_URL if
                set, else OpenAI.
            api_key: The key; None reads the environment, as described above. Most local servers need none.
            dim: Number of values in a vector. None takes `dimensions` if given, else the model's own for OpenAI's
                models, also under a gateway's name such as openai/text-embedding-3-small (1,536 for
                text-embedding-3-small and text-embedding-ada-002, 3,072 for text-embedding-3-large). For any other
                model the server is asked by one short request, when `dim` is first needed.
            dimensions: The request's `dimensions`, by which models shorten their vectors: a number, equal to dim, that
                every request holds; 0 for never; None to send dim where it is needed, for a text-embedding-3 model of
                another length and for a server whose vectors turn out to have another length.
            encoding_format: The request's `encoding_format`: "base64", "float", "none" to leave it out, or "auto" to
                begin with base64, which takes a quarter of the bytes, and leave it out where the server refuses it.
            provider: Name of whoever runs the model, as a part of the fingerprint.
            timeout_s: Seconds that each attempt may take to connect, to send and to wait for an answer, each, > 0.
            max_retries: Number of further attempts after a failed one, >= 0.
            batch_size: The most texts in a request, 1 to 2,048. A request also holds at most 300,000 bytes of text. A
                server that takes fewer is sent fewer after its first refusal.
            max_concurrency: The most requests that `aembed` sends at once in an event loop, >= 1. `embed` sends one at
                a time.
            max_chars: The most characters of a text that are sent, >= 1; None sends all.
            http_client: An httpx client for `embed`, e.g. with a proxy or certificates. Closing it remains your task.
            async_http_client: The same for `aembed`. It can be used in one event loop only.

        Raises:
            TypeError: A number is no integer.
            InvalidArgumentError: An argument is out of its range, or base_url is not a plain http or https address.
        """
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
        self._timeout_s = checked_timeout_s(timeout_s)
        self._base_url = named_server(base_url)
        self._is_openai = self._base_url is None or is_openai(self._base_url)
        self._model = model
        self._api_key = ApiKey(api_key)
        # Keys that the server has seen and may repeat; clients of several event loops may have got several.
        self._sent_keys: frozenset[ApiKey] = query_secrets(self._endpoint)
        self._dim = _checked_dim(model, dim, dimensions)
        own_dim = _own_dim(model)
        is_shortened = own_dim not in (None, self._dim) and _plain_name(model) not in _FIXED_DIM_MODELS
        self._manners = Manners.of(encoding_format, dimensions, batch_size, is_shortened=is_shortened)
        self._dimensions = dimensions
        self._encoding_format = encoding_format
        self._provider = provider or (
            _OPENAI_PROVIDER if self._is_openai else address_of(self._endpoint).partition("://")[2]
        )
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
        """Number of values in a vector.

        Where it was not given and the model is unknown, the server is asked once, by a request that blocks.

        Raises:
            MissingExtraError: The openai package is not installed.
            EmbedderUnavailableError: As `embed` raises it.
            InvalidEmbeddingError: The answer holds no vector.
        """
        dim = self._dim
        if dim is None:
            with self._current_clients().asking:
                dim = self._dim
                if dim is None:
                    dim = self._learn_dim(self._run(self._probe()))
        return dim

    @property
    def fingerprint(self) -> str:
        """Identity of provider, model, dim and max_chars. Asks the server as `dim` does."""
        identity = {"provider": self._provider, "model": self._model, "dim": self.dim, "max_chars": self._max_chars}
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
            "dimensions": self._dimensions,
            "encoding_format": self._encoding_format,
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
        """Return the manifest entry by which a router directory keeps this embedder; it holds no key.

        Asks the server for its dim as `dim` does.
        """
        settings = {
            "model": self._model,
            "base_url": self._base_url,
            "dim": self.dim,
            "provider": self._provider,
            "max_chars": self._max_chars,
        }
        # Only what was chosen: all other directories stay the same to the byte.
        chosen = (
            ("batch_size", self._batch_size, _BATCH_SIZE),
            ("dimensions", self._dimensions, None),
            ("encoding_format", self._encoding_format, "auto"),
        )
        settings |= {name: value for name, value, default in chosen if value != default}
        return identity_of(self, kind="openai", settings=settings), {}, {}

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return (n, dim) float32. Where there are no texts, no request is sent.

        Raises:
            TypeError: An element is not a str.
            MissingExtraError: The openai package is not installed.
            EmbedderUnavailableError: There is no key or no connection, the server did not answer in time, or it
                refused; the text holds the address, the status, the server's words and what to do.
            InvalidEmbeddingError: The answer has another number of vectors, another dim, or values that are not finite.
        """
        prepared = self._prepare(texts)
        dim = self.dim
        return self._joined([self._run(self._talk(batch, dim, self._manners)) for batch in self._batches(prepared)])

    def reads_whole(self, texts: Sequence[str]) -> list[bool]:
        """Return of each text whether all of it is sent; what the server does with it, only the server knows."""
        return [self._max_chars is None or len(text) <= self._max_chars for text in texts]

    async def aembed(self, texts: Sequence[str]) -> FloatArray:
        """Return and raise what `embed` does; sends several requests at once and does not block the event loop."""
        import asyncio

        prepared = self._prepare(texts)
        if not prepared and self._dim is not None:
            return self._joined([])
        shared = await self._of_loop()
        dim = self._dim
        if dim is None:
            async with shared.asking:
                dim = self._dim
                if dim is None:
                    dim = self._learn_dim(await self._arun(shared.client, self._probe()))

        async def request(batch: list[str]) -> FloatArray:
            async with shared.slots:
                return await self._arun(shared.client, self._talk(batch, dim, self._manners))

        tasks = [asyncio.ensure_future(request(batch)) for batch in self._batches(prepared)]
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

        shared = self._current_clients().of_loop.pop(asyncio.get_running_loop(), None)
        if shared is not None and self._async_http_client is None:
            await shared.client.close()

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
        """Model, address and dim (None where it is not known yet), never the key."""
        base_url = None if self._base_url is None else shown_server(self._base_url)
        return f"OpenAIEmbedder({self._model!r}, base_url={base_url!r}, dim={self._dim})"

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
            if batch and (len(batch) >= self._manners.most_texts or batch_bytes + text_bytes > _MAX_REQUEST_BYTES):
                yield batch
                batch, batch_bytes = [], 0
            batch.append(text)
            batch_bytes += text_bytes
        if batch:
            yield batch

    # --- talking to a server

    def _talk(self, texts: list[str], dim: int | None, manners: Manners) -> _Talk:
        """Ask for the vectors of one or more texts, and again in another way as long as the answers teach one.

        What was answered is remembered; a way that the server refuses too is not.
        """
        begun = manners
        waiting = [texts]  # the next at the end
        parts: list[FloatArray] = []
        # What the server said before it was asked for other dimensions than at first: if that is of no use, the cause.
        doubt: EmbeddingError | None = None
        while waiting:
            batch = waiting.pop()
            if len(batch) > manners.most_texts:
                waiting.append(batch[manners.most_texts :])
                batch = batch[: manners.most_texts]
            said = yield self._body(batch, dim, manners)
            failure: EmbeddingError
            if isinstance(said, _Refusal):
                failure, changed = said.error, manners.after_refusal(said.status, said.reason, len(batch))
            else:
                try:
                    parts.append(parse_answer(said, len(batch), dim, self._shown_endpoint, self._shown))
                except UnfitAnswer as unfit:
                    failure, changed = InvalidEmbeddingError(str(unfit)), self._after_flaw(unfit.flaw, manners)
                else:
                    if manners is not begun:
                        self._remember(manners)
                        begun, doubt = manners, None
                    continue
            # Raised outside of a handler, an error carries none that holds the server's text.
            if changed is None:
                raise doubt or failure
            if changed.sends_dimensions != manners.sends_dimensions:
                doubt = failure
            waiting.append(batch)
            manners = changed
        return self._joined(parts)

    @staticmethod
    def _after_flaw(flaw: Flaw, manners: Manners) -> Manners | None:
        if flaw is Flaw.USELESS:
            return manners.after_useless_answer()
        return manners.after_another_dim() if flaw is Flaw.ANOTHER_DIM else None

    def _body(self, batch: list[str], dim: int | None, manners: Manners) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self._model, "input": batch}
        if manners.encoding is not None:
            body["encoding_format"] = manners.encoding
        if manners.sends_dimensions:
            body["dimensions"] = dim
        return body

    def _remember(self, manners: Manners) -> None:
        with self._current_clients().lock:
            self._manners = self._manners.with_learned(manners)

    def _probe(self) -> _Talk:
        """Ask for one vector as a list of numbers, whose length is beyond doubt."""
        encoding = "none" if self._encoding_format == "auto" else self._encoding_format
        manners = Manners.of(encoding, NEVER, 1, is_shortened=False)
        try:
            return (yield from self._talk([_PROBE], None, manners))
        except EmbeddingError as error:
            failure = type(error)(
                f"the dim of {self._model!r} is not known, and its server was asked in vain: {error} Or give dim=, the "
                "length of its vectors."
            )
        raise failure

    def _learn_dim(self, vectors: FloatArray) -> int:
        with self._current_clients().lock:
            self._dim = self._dim or int(vectors.shape[1])
            return self._dim

    # --- requests

    def _run(self, talk: _Talk) -> FloatArray:
        openai = require("openai", "openai")
        client = self._sync_client(openai)
        try:
            body = next(talk)
            while True:
                body = talk.send(self._sent(openai, client, body))
        except StopIteration as done:
            vectors: FloatArray = done.value
        return vectors

    async def _arun(self, client: Any, talk: _Talk) -> FloatArray:
        openai = require("openai", "openai")
        try:
            body = next(talk)
            while True:
                body = talk.send(await self._asent(openai, client, body))
        except StopIteration as done:
            vectors: FloatArray = done.value
        return vectors

    def _sent(self, openai: Any, client: Any, body: dict[str, Any]) -> bytes | _Refusal:
        try:
            text: str = client.post("/embeddings", body=body, **_AS_TEXT)
        except openai.OpenAIError as error:
            return self._refusal(openai, error, len(body["input"]))
        return text.encode()

    async def _asent(self, openai: Any, client: Any, body: dict[str, Any]) -> bytes | _Refusal:
        try:
            text: str = await client.post("/embeddings", body=body, **_AS_TEXT)
        except openai.OpenAIError as error:
            return self._refusal(openai, error, len(body["input"]))
        return text.encode()

    def _sync_client(self, openai: Any) -> Any:
        clients = self._current_clients()
        with clients.lock:
            if clients.sync is None:
                clients.sync = self._new_client(openai.OpenAI, self._http_client)
            return clients.sync

    async def _of_loop(self) -> _OfLoop:
        import asyncio

        clients = self._current_clients()
        loop = asyncio.get_running_loop()
        if loop not in clients.of_loop:
            # The import and the certificates take up to a second: not in the event loop.
            openai = await asyncio.to_thread(require, "openai", "openai")
            client = await asyncio.to_thread(self._new_client, openai.AsyncOpenAI, self._async_http_client)
            # Another task may have been faster; its client has been used already.
            shared = _OfLoop(client, asyncio.Semaphore(self._max_concurrency), asyncio.Lock())
            clients.of_loop.setdefault(loop, shared)
        return clients.of_loop[loop]

    def _new_client(self, kind: Any, http_client: Any) -> Any:
        try:
            key = key_for(self._endpoint, given=self._api_key)
        except EndpointError as error:
            raise EmbedderUnavailableError(str(error)) from error
        self._sent_keys |= {key}
        return kind(
            api_key=key.reveal(),
            **client_address(self._endpoint),
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

    def _refusal(self, openai: Any, error: Exception, count: int) -> _Refusal:
        attempts = self._max_retries + 1
        status, reason = None, ""
        if isinstance(error, openai.APIStatusError):
            status, reason = int(error.status_code), refusal_reason(error)
            asked = f"to {count} texts for model {self._model!r}"
            what = refused(status, asked, self._shown(reason), shorten="max_chars= cuts texts")
        elif isinstance(error, openai.APITimeoutError):
            what = silent(self._timeout_s, attempts)
        else:
            cause = error.__cause__ or error
            what = unreachable(cause, self._shown(str(cause)), attempts)
        return _Refusal(EmbedderUnavailableError(f"{self._shown_endpoint} {what}"), status, reason)

    def _joined(self, answers: Sequence[FloatArray]) -> FloatArray:
        if len(answers) == 1:
            return answers[0]
        return np.concatenate(answers) if answers else np.empty((0, self.dim), dtype=np.float32)

    @property
    def _shown_endpoint(self) -> str:
        return shown_server(self._endpoint, "/embeddings")

    def _shown(self, text: str) -> str:
        return shown(text, *self._sent_keys)


@dataclass(frozen=True, slots=True)
class _OfLoop:
    """What the tasks of one event loop share.

    Attributes:
        client: The openai package's client.
        slots: Limits the requests under way.
        asking: Held while the dim is asked for.
    """

    client: Any
    slots: asyncio.Semaphore
    asking: asyncio.Lock


class _Clients:
    """The connections of one process: a client that all threads share, and a client for each event loop."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.asking = threading.Lock()
        self.sync: Any = None
        self.of_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _OfLoop] = weakref.WeakKeyDictionary()


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
