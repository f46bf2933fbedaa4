"""A router that Triton Inference Server runs, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Literal, TypeVar

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.decision import (
    DEFAULT_STRONG_SHARE,
    Decision,
    ModelPair,
    NoText,
    basis_of,
    check_no_text,
    check_share,
    decide,
)
from routellm_fast.errors import InvalidArgumentError, InvalidEmbeddingError, TritonUnavailableError
from routellm_fast.routers.base import Router
from routellm_fast.routers.embedding import EmbeddingRouter
from routellm_fast.serving._calls import Calls
from routellm_fast.serving._triton_core import Target, TritonCore, TritonCounts
from routellm_fast.serving.triton_protocol import DEFAULT_NAME, Served
from routellm_fast.texts import check_texts

Fallback = Router | Literal["strong", "error"]

_TIMEOUT_S: Final = 5.0
_COOL_DOWN_S: Final = 1.0
HEALTH_TIMEOUT_S: Final = 2.0
_AnyT = TypeVar("_AnyT")


class AsyncTritonRouter:
    """A router behind one or more replicas of a Triton server, for asyncio. Belongs to one event loop.

    An inference that fails is tried again on another replica; where none answers in time, the fallback does. What the
    server refuses as a bad request raises: another replica would refuse it too.

    After `close`, and in calls that it cuts, every method raises TritonClosedError; the fallback does not answer these.
    """

    kind: Final = "triton"

    def __init__(
        self,
        urls: str | Sequence[str],
        *,
        model: str = DEFAULT_NAME,
        version: str = "",
        timeout_s: float = _TIMEOUT_S,
        tries: int | None = None,
        cool_down_s: float = _COOL_DOWN_S,
        fallback: Fallback = "error",
        model_pair: ModelPair | None = None,
        shared_memory_from_bytes: int | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            urls: http://host:port/path or grpc://host:port, one a replica; https and grpcs with TLS. A path, such as
                that of a proxy, is put in front of all of the server's own. Without a port: 80, and 443 with TLS.
            model: The router's name on the server.
            version: The model's version; "" for the server's choice.
            timeout_s: Most seconds that a call takes, all its tries together.
            tries: How often an inference is tried; None for once a replica, but at least twice. To try again is safe:
                an inference changes nothing on the server.
            cool_down_s: For how many seconds a replica that failed is asked last. With a fallback, calls go to it at
                once while all replicas have failed within that time.
            fallback: What decides where no replica answers: a local router, "strong" for always the strong model with
                a win rate of 1, "error" for TritonUnavailableError.
            model_pair: The models that prompts are sent to, for fallback "strong" before the server has named its own.
            shared_memory_from_bytes: Size in bytes from which embeddings are passed in system shared memory, where the
                server runs on the same machine; None for never. A server that cannot see it is sent the values.

        Raises:
            InvalidArgumentError: A URL or number breaks its rule.
            MissingExtraError: The extra `triton` is not installed.
        """
        addresses = (urls,) if isinstance(urls, str) else tuple(urls)
        if not addresses:
            raise InvalidArgumentError("a TritonRouter needs at least one URL")
        if not (isinstance(fallback, Router) or fallback in ("strong", "error")):
            raise InvalidArgumentError(f'fallback is a router, "strong" or "error", found {fallback!r}')
        tries = max(2, len(addresses)) if tries is None else tries
        for what, value, least in (
            ("timeout_s", timeout_s, 1e-3),
            ("tries", tries, 1),
            ("cool_down_s", cool_down_s, 0),
        ):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= least:
                raise InvalidArgumentError(f"{what} is a number of at least {least:g}, found {value!r}")
        if type(tries) is not int:
            raise InvalidArgumentError(f"tries is an integer, found {tries!r}")
        self._core = TritonCore(
            Target(
                addresses,
                model,
                version,
                float(timeout_s),
                tries,
                float(cool_down_s),
                fails_fast=fallback != "error",
                shared_memory_from_bytes=shared_memory_from_bytes,
            )
        )
        self._fallback, self._given_pair = fallback, model_pair
        self._counts = TritonCounts()
        self._calls = Calls()

    @property
    def counts(self) -> TritonCounts:
        """How many calls so far were answered, and how."""
        return replace(self._counts, retries=self._core.retries)

    async def model_pair(self) -> ModelPair:
        """Return the models that prompts are sent to: the server's, else the fallback's, else the given ones.

        Raises:
            TritonUnavailableError: None of them is known.
        """
        try:
            served = await self._served()
        except TritonUnavailableError:
            pair = self._local_pair()
            if pair is None:
                raise
            return pair
        pair = served.model_pair or self._local_pair()
        if pair is None:
            raise InvalidArgumentError("the server's configuration names no models: give model_pair")
        return pair

    async def threshold_for(self, strong_share: float) -> float:
        """Return the threshold that sends this share of the calibration prompts to the strong model.

        By the server's calibration, else by that of the fallback.

        Raises:
            InvalidThresholdError: The share is outside [0, 1] or NaN.
            InvalidArgumentError: Neither is calibrated.
            TritonUnavailableError: No replica answered, and there is no local router.
        """
        share = check_share(strong_share, "strong share")
        served, local = await self._served_or_local()
        if served is not None and served.calibration is not None:
            return served.calibration.threshold_for(share)
        if local is not None:
            return local.threshold_for(share)
        raise InvalidArgumentError(
            "the server's configuration holds no calibration: give a threshold, or a calibrated router as fallback"
        )

    async def default_threshold(self) -> float:
        """Return the threshold of decisions for which none is given: the server's own, else as Router's.

        Raises:
            InvalidArgumentError: The server's configuration names none, and no router at hand is calibrated.
            TritonUnavailableError: No replica answered, and there is no local router.
        """
        served, local = await self._served_or_local()
        if served is not None and served.default_threshold is not None:
            return served.default_threshold
        if served is not None and served.calibration is not None:
            return served.calibration.threshold_for(DEFAULT_STRONG_SHARE)
        if local is not None:
            return local.default_threshold
        raise InvalidArgumentError(
            "the server's configuration holds neither default_threshold nor a calibration: give a threshold"
        )

    async def win_rate(self, prompt: str) -> float:
        """Return the strong model's win rate in [0, 1]. Raises as win_rates."""
        return float((await self.win_rates([prompt]))[0])

    async def win_rates(self, prompts: Sequence[str]) -> FloatArray:
        """Return (n,) float32 win rates.

        Raises:
            TritonUnavailableError: No replica answered in time, and the fallback is "error".
            TritonRefusedError: The server refuses the request.
            TritonAnswerError: What answers is no router of this package.
            TritonClosedError: The client is closed, or was closed meanwhile.
            TypeError: An element is not str.
        """
        texts = check_texts(prompts)
        return await self._or_fallback(
            lambda: self._core.win_rates(texts), lambda router: router.win_rates(texts), lambda: _ones(len(texts))
        )

    async def win_rates_from_embeddings(self, embeddings: FloatArray) -> FloatArray:
        """Return (n,) float32 win rates of (n, dim) float32 embeddings.

        Raises:
            InvalidEmbeddingError: They have another shape, or a value that is not finite.
            TritonError: See win_rates.
        """
        array = np.asarray(embeddings)
        if array.ndim != 2 or array.dtype.kind not in "fiu":
            raise InvalidEmbeddingError(f"expected real numbers of shape (n, dim), found {array.dtype} {array.shape}")
        array = np.ascontiguousarray(array, dtype=np.float32)
        if not np.isfinite(array).all():
            row, column = np.argwhere(~np.isfinite(array))[0]
            raise InvalidEmbeddingError(
                f"embeddings: row {row}, column {column} is {array[row, column]}: expected finite float32 values"
            )
        return await self._or_fallback(
            lambda: self._core.win_rates_from_embeddings(array),
            lambda router: _of_embeddings(router, array),
            lambda: _ones(len(array)),
        )

    async def route(self, prompt: str, threshold: float | None = None, *, no_text: NoText = "strong") -> Decision:
        """Choose the strong model when its win rate is at least the threshold.

        Args:
            prompt: The text that is routed on.
            threshold: In [0, 1]; None for default_threshold.
            no_text: What a prompt without text gets; see Router.route.

        Returns:
            The decision. Of long prompts the server does not say how much it has read: their basis is "text".

        Raises:
            InvalidArgumentError: No threshold is given and none is known.
            TritonError, TypeError: See win_rates.
        """
        return (await self.route_batch([prompt], threshold, no_text=no_text))[0]

    async def route_batch(
        self, prompts: Sequence[str], threshold: float | None = None, *, no_text: NoText = "strong"
    ) -> list[Decision]:
        """Return route of each prompt."""
        texts = check_texts(prompts)
        check_no_text(no_text)
        given = None if threshold is None else check_share(threshold, "threshold")

        async def ask() -> list[Decision]:
            limit = await self.default_threshold() if given is None else given
            found = await self._core.decisions(texts, limit)
            blank = [place for place, text in enumerate(texts) if basis_of(text, is_whole=True) == "no_text"]
            if not blank:
                return found
            # The server knows no rule for prompts without text, and perhaps no names but those it answers with.
            names = {decision.is_strong: decision.model for decision in found}
            for place in blank:
                decision = found[place]
                is_strong = decision.is_strong if no_text == "score" else no_text == "strong"
                if is_strong not in names:
                    names[is_strong] = (await self.model_pair())[0 if is_strong else 1]
                found[place] = decision._replace(model=names[is_strong], is_strong=is_strong, basis="no_text")
            return found

        return await self._or_fallback(
            ask,
            lambda router: router.route_batch(texts, given, no_text=no_text),
            lambda: self._all_strong(texts, given, no_text),
        )

    async def health(self, timeout_s: float = HEALTH_TIMEOUT_S) -> dict[str, str]:
        """Return by URL what is wrong with a replica, "" for nothing: each runs an inference that no cache answers."""
        async with self._calls.one():
            return await self._core.health(timeout_s)

    async def is_healthy(self, timeout_s: float = HEALTH_TIMEOUT_S) -> bool:
        """Return whether a replica answers an inference. Ready says less: a model whose process died stays ready."""
        return "" in (await self.health(timeout_s)).values()

    async def close(self) -> None:
        """Cut the calls that are under way, which raise TritonClosedError, and close all connections.

        A client stays closed. Closing it again does nothing.
        """
        await self._calls.close()
        await self._core.close()

    async def __aenter__(self) -> AsyncTritonRouter:
        """Return self."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        await self.close()

    async def _or_fallback(
        self,
        remote: Callable[[], Coroutine[Any, Any, _AnyT]],
        local: Callable[[Router], _AnyT],
        strong: Callable[[], _AnyT],
    ) -> _AnyT:
        self._counts.requests += 1
        try:
            async with self._calls.one():
                try:
                    return await remote()
                except TritonUnavailableError:
                    if self._fallback == "error":
                        raise
                    # In a thread: a transformer on the CPU would hold up the loop.
                    answer = (
                        await asyncio.to_thread(local, self._fallback)
                        if isinstance(self._fallback, Router)
                        else strong()
                    )
                    self._counts.fallbacks += 1
                    return answer
        except BaseException:
            self._counts.failures += 1
            raise

    async def _served_or_local(self) -> tuple[Served | None, Router | None]:
        """Return what the server says of itself, and the fallback where it is a router; raises where neither is."""
        local = self._fallback if isinstance(self._fallback, Router) else None
        try:
            return await self._served(), local
        except TritonUnavailableError:
            if local is None:
                raise
            return None, local

    async def _served(self) -> Served:
        async with self._calls.one():
            return await self._core.served()

    def _all_strong(self, texts: Sequence[str], threshold: float | None, no_text: NoText) -> list[Decision]:
        pair = self._strong_pair()
        limit = 1.0 if threshold is None else threshold  # at a win rate of 1 every threshold says the same
        return [decide(pair, 1.0, limit, basis_of(text, is_whole=True), no_text) for text in texts]

    def _local_pair(self) -> ModelPair | None:
        return self._fallback.model_pair if isinstance(self._fallback, Router) else self._given_pair

    def _strong_pair(self) -> ModelPair:
        known = self._core.known
        pair = (known and known.model_pair) or self._given_pair
        if pair is None:
            raise TritonUnavailableError(
                "no replica has answered yet, so the strong model's name is not known: give model_pair"
            )
        return pair


def _of_embeddings(router: Router, embeddings: FloatArray) -> FloatArray:
    if isinstance(router, EmbeddingRouter):
        return router.win_rates_from_embeddings(embeddings)
    raise TritonUnavailableError(
        f"no replica answered, and the fallback is a router of kind {router.kind!r}, which scores no embeddings: give "
        "one of kind mf or sw_ranking"
    )


def _ones(count: int) -> FloatArray:
    return np.ones(count, np.float32)
