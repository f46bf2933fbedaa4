"""An embedder that asks OpenAI, or any server with the same API."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final

from routellm_fast.arrays import FloatArray
from routellm_fast.embedders._openai_connection import Connection
from routellm_fast.embedders._openai_settings import BATCH_SIZE, Settings
from routellm_fast.embedders._openai_talk import Talker, joined
from routellm_fast.embedders.base import Stored, fingerprint_of, identity_of
from routellm_fast.endpoints import ApiKey, shown_server
from routellm_fast.texts import check_texts

_LONE_SURROGATES: Final = re.compile("[\ud800-\udfff]")


class OpenAIEmbedder:
    """Embeds texts by requests POST {base_url}/embeddings. Thread-safe; `aembed` is its form for asyncio.

    Making the object opens no connection, imports nothing and needs no key. Requests go through the official `openai`
    package (extra `openai`). It tries again after the statuses 408, 409, 429 and 5xx, time-outs and broken connections.
    The pause before a new attempt grows up to 8 seconds, or is the one that the server asks for by Retry-After; where
    it asks for more than two minutes, the call fails at once. So a request takes at most `max_retries + 1` time-outs
    and `max_retries` pauses of two minutes. A call sends one request for each batch, and at most one for each text and
    a dozen more where the server refuses batches.

    An answer is read up to the size that the vectors asked for can have in any form; a larger one, and one compressed
    otherwise than by gzip or deflate, is an error. Redirects are not followed: the error names the address.

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

    Key: `api_key`, else OPENAI_API_KEY, read when the first request is sent. OPENAI_API_KEY and what else the openai
    package takes from the environment (organization, project, headers) are sent only to OpenAI's own servers and to the
    server that OPENAI_BASE_URL names: a router directory from a stranger may name any server. Other servers get a key
    only from `api_key`. The key is never logged, and is removed from server texts in errors.

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
        batch_size: int = BATCH_SIZE,
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
            timeout_s: Seconds that each attempt may take whole: to connect, to send, to wait and to read, > 0.
            max_retries: Number of further attempts after a failed one, >= 0.
            batch_size: The most texts in a request, 1 to 2,048. A request also holds at most 300,000 bytes of text. A
                server that takes fewer is sent fewer after its first refusal.
            max_concurrency: The most requests that `aembed` sends at once in an event loop, >= 1. `embed` sends one at
                a time.
            max_chars: The most characters of a text that are sent, >= 1; None sends all.
            http_client: An httpx client for `embed`, e.g. with a proxy or certificates. Its own headers and cookies are
                sent too. Closing it remains your task. With it, timeout_s bounds the reading of an answer's body whole,
                and until then each single wait.
            async_http_client: The same for `aembed`. It can be used in one event loop only.

        Raises:
            TypeError: A number is no integer.
            InvalidArgumentError: An argument is out of its range, or base_url is not a plain http or https address.
        """
        self._settings = Settings.of(
            model=model,
            base_url=base_url,
            dim=dim,
            dimensions=dimensions,
            encoding_format=encoding_format,
            provider=provider,
            timeout_s=timeout_s,
            max_retries=max_retries,
            batch_size=batch_size,
            max_concurrency=max_concurrency,
            max_chars=max_chars,
        )
        self._http_clients = {"http_client": http_client, "async_http_client": async_http_client}
        self._connection = Connection(self._settings, ApiKey(api_key), http_client, async_http_client)
        self._talker = Talker(self._settings, self._connection.shown, lambda: self._connection.lock)

    @property
    def name(self) -> str:
        """The name "openai:<model>"."""
        return f"openai:{self._settings.model}"

    @property
    def server(self) -> str:
        """The address that is asked, in its plainest form, with its query."""
        return self._settings.server

    @property
    def dim(self) -> int:
        """Number of values in a vector.

        Where it was not given and the model is unknown, the server is asked once, by a request that blocks.

        Raises:
            MissingExtraError: The openai package is not installed.
            EmbedderUnavailableError: As `embed` raises it.
            InvalidEmbeddingError: The answer holds no vector.
        """
        dim = self._settings.dim
        if dim is None:
            with self._connection.asking:
                dim = self._settings.dim
                if dim is None:
                    dim = self._learn_dim(self._connection.run(self._talker.probe()))
        return dim

    @property
    def fingerprint(self) -> str:
        """Identity of provider, model, dim and max_chars. Asks the server as `dim` does."""
        return fingerprint_of({"kind": "openai", **self._settings.identity(self.dim)})

    def with_key(self, api_key: str) -> OpenAIEmbedder:
        """Return the same embedder with another key."""
        return OpenAIEmbedder(**self._settings.arguments(), api_key=api_key, **self._http_clients)

    def __reduce__(self) -> tuple[Any, ...]:
        if any(client is not None for client in self._http_clients.values()):
            raise TypeError(
                "an OpenAIEmbedder with an HTTP client of its own does not pickle: connections stay in their process. "
                "Build it where it is used, or without http_client and async_http_client."
            )
        return partial(OpenAIEmbedder, **self._settings.arguments()), ()

    def __copy__(self) -> OpenAIEmbedder:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> OpenAIEmbedder:
        return self

    def stored(self) -> Stored:
        """Return the manifest entry by which a router directory keeps this embedder; it holds no key.

        Asks the server for its dim as `dim` does.
        """
        return identity_of(self, kind="openai", settings=self._settings.stored(self.dim)), {}, {}

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
        dim, talker = self.dim, self._talker
        return joined([self._connection.run(talker.talk(batch, dim)) for batch in talker.batches(prepared)], dim)

    def reads_whole(self, texts: Sequence[str]) -> list[bool]:
        """Return of each text whether all of it is sent; what the server does with it, only the server knows."""
        most = self._settings.max_chars
        return [most is None or len(text) <= most for text in texts]

    async def aembed(self, texts: Sequence[str]) -> FloatArray:
        """Return and raise what `embed` does; sends several requests at once and does not block the event loop."""
        import asyncio

        prepared = self._prepare(texts)
        connection, talker, dim = self._connection, self._talker, self._settings.dim
        if not prepared and dim is not None:
            return joined([], dim)
        shared = await connection.of_loop()
        if dim is None:
            async with shared.asking:
                dim = self._settings.dim
                if dim is None:
                    dim = self._learn_dim(await connection.arun(shared.client, talker.probe()))
        known_dim = dim

        async def request(batch: list[str]) -> FloatArray:
            async with shared.slots:
                return await connection.arun(shared.client, talker.talk(batch, known_dim))

        tasks = [asyncio.ensure_future(request(batch)) for batch in talker.batches(prepared)]
        try:
            return joined(await asyncio.gather(*tasks), dim)
        finally:
            # After a failure the other requests are of no use: none may go on running.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        """Close the connections of `embed`. The next call opens new ones."""
        self._connection.close()

    async def aclose(self) -> None:
        """Close the connections that `aembed` holds in the running event loop."""
        await self._connection.aclose()

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
        settings = self._settings
        base_url = None if settings.base_url is None else shown_server(settings.base_url)
        return f"OpenAIEmbedder({settings.model!r}, base_url={base_url!r}, dim={settings.dim})"

    def _prepare(self, texts: Sequence[str]) -> list[str]:
        most = self._settings.max_chars
        return [_LONE_SURROGATES.sub("\ufffd", text[:most]) or " " for text in check_texts(texts)]

    def _learn_dim(self, vectors: FloatArray) -> int:
        with self._connection.lock:
            if self._settings.dim is None:
                self._settings = self._settings.with_dim(int(vectors.shape[1]))
            return self._settings.dim or 0
