"""One process of the gateway: joins the runtime, the relay, what is told of requests, and the application."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette

from routellm_fast.gateway.application import Application, Doorman, application
from routellm_fast.gateway.exchange import Sink
from routellm_fast.gateway.logs import RequestLog
from routellm_fast.gateway.making import Lasting, make_live
from routellm_fast.gateway.metrics import Metrics
from routellm_fast.gateway.relay import Relay
from routellm_fast.gateway.runtime import Runtime, Watched
from routellm_fast.gateway.settings import Settings


class Worker:
    """All that one process needs. Made before the event loop runs; the application's lifespan starts and stops it."""

    def __init__(self, settings: Settings, directory: Path, watched: Watched | None) -> None:
        """Load the routers.

        Args:
            settings: The settings to start with.
            directory: The gateway's directory for this run, which all its processes share.
            watched: The settings' file, which is watched; None watches none.

        Raises:
            RouteLLMError: A router cannot be loaded, or a key is missing.
        """
        self._settings = settings
        state_dir = Path(settings.state_dir) if settings.state_dir else directory / "state"
        state_dir.mkdir(parents=True, exist_ok=True)
        self._lasting = Lasting(state_dir)
        self.runtime = Runtime(settings, self._lasting, watched=watched)
        self._metrics = Metrics()
        self._log = RequestLog(settings.log)
        self._sinks: list[Sink] = [self._metrics, self._log]
        self._is_stopping = False

    def application(self) -> Application:
        """Return the ASGI application."""
        runtime = self.runtime
        relay = Relay(runtime.live, self._sinks)
        doorman = Doorman(runtime.live)

        @asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            del app
            self._log.start()
            await runtime.start()
            # What is there now stays: the collector need not look through it again and again.
            gc.collect()
            gc.freeze()
            try:
                yield
            finally:
                self._is_stopping = True
                await relay.finish(self._settings.limits.shutdown_s)
                await runtime.stop()
                self._lasting.close()
                self._log.stop()

        return application(
            runtime.live,
            relay,
            doorman,
            exposition=self._metrics.exposition,
            readiness=lambda: "stopping" if self._is_stopping else "",
            newest_holds=lambda: not runtime.complaint,
            lifespan=lifespan,
        )


def check(settings: Settings) -> None:
    """Load all that the settings name, and keep nothing. Raises RouteLLMError where something cannot be loaded."""
    with tempfile.TemporaryDirectory() as folder:
        lasting = Lasting(Path(folder))
        try:
            make_live(settings, lasting, {})
        finally:
            lasting.close()
