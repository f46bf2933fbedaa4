"""The HTTP session of Triton's client, which follows no redirect and reads no more than an answer can hold."""

from __future__ import annotations

from typing import Any, Final

from routellm_fast.endpoints import is_redirect, shown, shown_server
from routellm_fast.guarded_http import Body, Exchange

# Answers to requests of at most 16 MiB, and configurations with a calibration table, are far smaller.
MOST_ANSWER_BYTES: Final = 1 << 26


class UnfitAnswer(Exception):  # noqa: N818 - not one of this package's errors: the replica makes one of it
    """An answer that was not read. Its text says why."""


class BoundedSession:
    """Stands in for the aiohttp session of Triton's client."""

    def __init__(self, session: Any) -> None:
        """Take the session that sends."""
        self._session = session

    async def get(self, **options: Any) -> Answer:
        """Ask by GET. Raises UnfitAnswer."""
        return await self._read(self._session.get(**_plain(options)))

    async def post(self, **options: Any) -> Answer:
        """Ask by POST. Raises UnfitAnswer."""
        return await self._read(self._session.post(**_plain(options)))

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    @staticmethod
    async def _read(asked: Any) -> Answer:
        async with asked as response:
            if is_redirect(response.status):
                place = shown(shown_server(str(response.headers.get("Location", "nowhere"))))
                raise UnfitAnswer(
                    f"status {response.status}, a redirect to {place}. Redirects are not followed, as prompts would "
                    "go along: if you trust that address, give it as the URL"
                )
            exchange = Exchange(MOST_ANSWER_BYTES)
            body = Body(response.status, response.headers, exchange)
            async for piece in response.content.iter_chunked(1 << 16):
                if not body.takes(piece):
                    break
            if exchange.flaw or body.damage:
                raise UnfitAnswer(f"an answer {exchange.flaw or f'whose compressed data are damaged: {body.damage}'}")
            headers = {name: value for name, value in response.headers.items() if name.lower() != "content-encoding"}
            return Answer(response.status, headers, body.content())


class Answer:
    """An answer that was read; of aiohttp's responses it has what Triton's client uses."""

    def __init__(self, status: int, headers: dict[str, str], content: bytes) -> None:
        """Keep the parts."""
        self.status = status
        self.headers = headers
        self._content = content

    async def read(self) -> bytes:
        """Return the body."""
        return self._content


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    headers = {**(options.get("headers") or {}), "Accept-Encoding": "identity"}
    return {**options, "headers": headers, "allow_redirects": False}
