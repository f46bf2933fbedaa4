"""The gateway as an ASGI application: endpoints, client keys, limits."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from routellm_fast.gateway.dialects import DIALECTS, Dialect
from routellm_fast.gateway.keys import client_of
from routellm_fast.gateway.live import Live
from routellm_fast.gateway.relay import Receive, Refusal, Relay, Scope, Send

Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
_RETRY_AFTER: Final = (b"retry-after", b"1")


class Endpoint:
    """One endpoint that models answer: checks who asks and how much is under way, and hands the request on."""

    def __init__(self, dialect: Dialect, doorman: Doorman, relay: Relay) -> None:
        """Serve a dialect's path."""
        self._dialect, self._doorman, self._relay = dialect, doorman, relay

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, by ASGI."""
        try:
            client = self._doorman.enter(scope["headers"])
        except Refusal as refusal:
            await self._relay.refuse(self._dialect, refusal, send)
            return
        try:
            await self._relay.answer(self._dialect, client, scope, receive, send)
        finally:
            self._doorman.leave(client)


class Doorman:
    """Knows the clients by the digests of their keys, and how many of their requests are under way."""

    def __init__(self, live: Callable[[], Live]) -> None:
        """Go by the settings that `live` returns."""
        self._live = live
        self._in_flight = 0
        self._of_client: Counter[str] = Counter()

    @property
    def in_flight(self) -> int:
        """Requests under way in this process."""
        return self._in_flight

    def enter(self, headers: Sequence[tuple[bytes, bytes]]) -> str:
        """Let a request in; return its client's name, "" where the settings name no clients.

        Raises:
            Refusal: The key is not known (401), or too much is under way (429).
        """
        client, limits = self.client(headers), self._live().settings.limits
        if self._in_flight >= limits.max_in_flight:
            raise _busy(f"{self._in_flight} requests are under way, the most that limits.max_in_flight allows")
        most = limits.max_in_flight_per_client
        if most is not None and self._of_client[client] >= most:
            raise _busy(f"{most} requests of this client are under way, the most that it may have")
        self._in_flight += 1
        self._of_client[client] += 1
        return client

    def leave(self, client: str) -> None:
        """A request that was let in has ended."""
        self._in_flight -= 1
        self._of_client[client] -= 1
        if not self._of_client[client]:
            del self._of_client[client]

    def client(self, headers: Sequence[tuple[bytes, bytes]]) -> str:
        """Return the name of the client whose key the headers hold. Raises Refusal where there is none."""
        clients = self._live().settings.clients
        if not clients:
            return ""
        key = b""
        for name, value in headers:
            if name == b"x-api-key":
                key = value
            elif name == b"authorization" and value[:7].lower() == b"bearer ":
                key = value[7:].strip()
                break
        found = client_of(key, clients)
        if found is None:
            text = "this key is not known here" if key else "a key is needed: Authorization: Bearer KEY, or x-api-key"
            raise Refusal(401, "invalid_api_key", text, [(b"www-authenticate", b"Bearer")])
        return found


def application(
    live: Callable[[], Live],
    relay: Relay,
    doorman: Doorman,
    *,
    exposition: Callable[[str], tuple[bytes, str]],
    readiness: Callable[[], str],
    newest_holds: Callable[[], bool],
    lifespan: Any = None,
) -> Application:
    """Return the ASGI application.

    Args:
        live: Returns the settings in force and what was made from them.
        relay: Who answers requests.
        doorman: Who lets them in.
        exposition: Takes an Accept header, returns the metrics and their content type.
        readiness: Returns why the gateway is not ready, "" where it is.
        newest_holds: Returns whether the newest settings are in force; their fault is in the log.
        lifespan: What runs at start and end, by ASGI.
    """

    async def models(request: Request) -> Response:
        try:
            doorman.client(request.scope["headers"])
        except Refusal as refusal:
            return _refused(refusal)
        entries = _models(live())
        name = request.path_params.get("name")
        if name is None:
            return JSONResponse({"object": "list", "data": list(entries.values())})
        if name in entries or live().routers.is_router_name(name):
            return JSONResponse(entries.get(name) or _entry(name, "routellm-fast"))
        return _refused(Refusal(404, "model_not_found", f"there is no model {name!r:.200} here"))

    async def metrics(request: Request) -> Response:
        body, content_type = exposition(request.headers.get("accept", ""))
        return Response(body, media_type=content_type)

    async def health(request: Request) -> Response:
        del request
        return JSONResponse({"status": "online"})

    async def ready(request: Request) -> Response:
        del request
        reason = readiness()
        settings = "in force" if newest_holds() else "refused, those before are in force"
        return JSONResponse({"status": reason or "ready", "settings": settings}, status_code=503 if reason else 200)

    endpoints = {dialect.path: Endpoint(dialect, doorman, relay) for dialect in DIALECTS}
    routes: list[BaseRoute] = [Route(path, endpoint, methods=["POST"]) for path, endpoint in endpoints.items()]
    routes += [
        Route("/v1/models", models, methods=["GET"]),
        Route("/v1/models/{name:path}", models, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
        Route("/health", health, methods=["GET"]),
        Route("/ready", ready, methods=["GET"]),
    ]
    handlers: Mapping[Any, Any] = {404: _no_such_path, 405: _no_such_method}
    whole = Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        # Past Starlette's layers, whose work is a tenth of a request's.
        if scope["type"] == "http" and scope["method"] == "POST" and (endpoint := endpoints.get(scope["path"])):
            await endpoint(scope, receive, send)
        else:
            await whole(scope, receive, send)

    return front


def _models(live: Live) -> dict[str, dict[str, Any]]:
    """Every name that a request may ask for."""
    settings = live.settings
    entries = {f"router-{name}": _entry(f"router-{name}", "routellm-fast") for name in settings.routers}
    entries.update({name: _entry(name, "routellm-fast") for name in settings.aliases})
    entries.update({name: _entry(name, model.upstream) for name, model in settings.models.items()})
    return entries


def _entry(name: str, owner: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}


def _refused(refusal: Refusal) -> Response:
    headers = {name.decode(): value.decode() for name, value in refusal.headers}
    body = {"error": {"message": str(refusal), "type": refusal.kind, "param": None, "code": refusal.kind}}
    return Response(json.dumps(body), refusal.status, headers, "application/json")


def _busy(text: str) -> Refusal:
    return Refusal(429, "too_many_requests", text, [_RETRY_AFTER])


async def _no_such_path(request: Request, error: Exception) -> Response:
    del error
    paths = ", ".join(dialect.path for dialect in DIALECTS)
    return _refused(
        Refusal(404, "not_found", f"there is no {request.url.path!r:.200} here. There are {paths}, /v1/models")
    )


async def _no_such_method(request: Request, error: Exception) -> Response:
    allowed = getattr(error, "headers", None) or {}
    refusal = Refusal(405, "method_not_allowed", f"{request.url.path!r:.200} is not for {request.method:.20}")
    return Response(_refused(refusal).body, 405, dict(allowed), "application/json")
