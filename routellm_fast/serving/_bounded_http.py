"""HTTP answers that a client waits for and keeps only within limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from routellm_fast.errors import TritonAnswerError


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was read: what tritonclient asks of an aiohttp response.

    Attributes:
        status: The HTTP status.
        headers: The headers, by names in any case.
        body: All of the body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    async def read(self) -> bytes:
        """Return the body."""
        return self.body


class BoundedSession:
    """Takes the place of an aiohttp session in tritonclient. Belongs to one event loop.

    It follows no redirect, which would carry prompts to another host, and takes no compressed answer, of which nobody
    knows how large it becomes.
    """

    def __init__(self, session: Any, most_bytes: int) -> None:
        """Take the session, and how long a body may be."""
        self._session, self._most_bytes = session, most_bytes

    async def get(self, **request: Any) -> Answer:
        """Ask; see post."""
        return await self._read(self._session.get, request)

    async def post(self, **request: Any) -> Answer:
        """Send, and return the answer.

        Raises:
            TritonAnswerError: The answer is a redirect, compressed or too long.
        """
        return await self._read(self._session.post, request)

    async def close(self) -> None:
        """Close the session."""
        await self._session.close()

    async def _read(self, method: Any, request: dict[str, Any]) -> Answer:
        # aiohttp would ask for gzip, and a sound server would comply.
        headers = {"Accept-Encoding": "identity", **(request.pop("headers", None) or {})}
        async with method(headers=headers, allow_redirects=False, **request) as response:
            if 300 <= response.status < 400:
                raise TritonAnswerError(
                    f"the server sends the request on to {response.headers.get('Location', '')[:200]!r}, which is not "
                    "followed: give the address of the Triton server itself"
                )
            encoding = response.headers.get("Content-Encoding", "identity")
            if encoding != "identity":
                raise TritonAnswerError(
                    f"the server's answer is compressed ({encoding[:80]!r}), which was not asked for"
                )
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > self._most_bytes:
                    response.close()
                    raise TritonAnswerError(
                        f"the server's answer is longer than {self._most_bytes:,} bytes: it serves no router"
                    )
            return Answer(response.status, response.headers, bytes(body))
