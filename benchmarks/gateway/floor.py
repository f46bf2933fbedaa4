"""The least that a gateway in Python can be: Starlette passes a request to aiohttp, and the answer back.

It reads nothing, decides nothing and counts nothing, and asks one server for everything. `floor.py PORT BASE_URL`.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route


def application(base_url: str) -> Starlette:
    """Return the application that passes everything on to that server."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False) as session:
            app.state.session = session
            yield

    async def answer(request: Request) -> Response:
        session: aiohttp.ClientSession = request.app.state.session
        headers = {"content-type": request.headers["content-type"]}
        found = await session.post(f"{base_url}/chat/completions", data=await request.body(), headers=headers)
        content_type = {"content-type": found.headers["content-type"]}
        if not found.content_type.startswith("text/event-stream"):
            return Response(await found.read(), found.status, content_type)

        async def pieces() -> AsyncIterator[bytes]:
            try:
                async for piece in found.content.iter_any():
                    yield piece
            finally:
                found.close()

        return StreamingResponse(pieces(), found.status, content_type)

    return Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])], lifespan=lifespan)


if __name__ == "__main__":
    uvicorn.run(
        application(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", http="httptools",
        access_log=False, log_level="warning", backlog=2048,
    )  # fmt: skip
