"""Runs the gateway: uvicorn in this process, or in several that share one listening socket."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import uvicorn
from uvicorn.supervisors.multiprocess import Multiprocess

from routellm_fast.atomic import replaced_file
from routellm_fast.errors import InvalidArgumentError, RouteLLMError
from routellm_fast.gateway.application import Application
from routellm_fast.gateway.bounded_head import BoundedProtocol
from routellm_fast.gateway.runtime import Watched
from routellm_fast.gateway.settings import Settings
from routellm_fast.gateway.settings_file import read_settings
from routellm_fast.gateway.worker import Worker, check

# How worker processes learn what their parent knows.
_DIRECTORY: Final = "ROUTELLM_FAST_GATEWAY_DIR"
_WATCHED: Final = "ROUTELLM_FAST_GATEWAY_CONFIG"
_PARENT: Final = "ROUTELLM_FAST_GATEWAY_PARENT"
_METRICS: Final = "PROMETHEUS_MULTIPROC_DIR"
_SETTINGS: Final = "settings.json"
_BACKLOG: Final = 2048
_PARENT_POLL_S: Final = 1.0


def serve(settings: Settings, *, watched: Watched | None, workers: int, on_listening: Callable[[str], None]) -> None:
    """Serve until a signal ends it: SIGTERM and SIGINT let answers that are under way finish.

    Args:
        settings: The settings, read already.
        watched: Their file, which is watched; None where there is none.
        workers: Number of processes that answer requests.
        on_listening: Called with the address once the socket is bound.

    Raises:
        InvalidArgumentError: The address cannot be listened on.
        RouteLLMError: A router cannot be loaded, or a key is missing.
    """
    bound = _bound(settings.listen.host, settings.listen.port)
    directory = Path(tempfile.mkdtemp(prefix="routellm-fast-gateway-"))
    try:
        host, port = bound.getsockname()[:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        _quieten_uvicorn()
        if workers == 1:
            _serve_here(settings, watched, bound, directory, lambda: on_listening(address))
        else:
            check(settings)
            on_listening(address)
            _serve_in_workers(settings, watched, workers, bound, directory)
    finally:
        bound.close()
        shutil.rmtree(directory, ignore_errors=True)


def _serve_here(
    settings: Settings, watched: Watched | None, bound: socket.socket, directory: Path, on_ready: Callable[[], None]
) -> None:
    worker = Worker(settings, directory, watched)
    server = uvicorn.Server(uvicorn.Config(worker.application(), **_options(settings)))
    on_ready()
    server.run(sockets=[bound])


def _serve_in_workers(
    settings: Settings, watched: Watched | None, workers: int, bound: socket.socket, directory: Path
) -> None:
    (directory / "metrics").mkdir()
    with replaced_file(directory / _SETTINGS) as file:
        file.write(settings.model_dump_json().encode())
    os.environ.update({_DIRECTORY: str(directory), _METRICS: str(directory / "metrics"), _PARENT: str(os.getpid())})
    if watched is not None:
        os.environ[_WATCHED] = str(watched.path.absolute())
    config = uvicorn.Config(
        "routellm_fast.gateway.server:worker_application", factory=True, workers=workers, **_options(settings)
    )
    _Workers(config, sockets=[bound]).run()


def _options(settings: Settings) -> dict[str, Any]:
    """Return what uvicorn is told."""
    limits = settings.limits
    return {
        "loop": "uvloop",
        "http": functools.partial(
            BoundedProtocol, max_head_bytes=limits.max_head_bytes, head_timeout_s=limits.head_timeout_s
        ),
        "ws": "none",
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "date_header": False,
        "proxy_headers": False,
        "backlog": _BACKLOG,
        "timeout_graceful_shutdown": int(limits.shutdown_s),
    }


def worker_application() -> Application:
    """Return the application of a worker process that `serve` started; uvicorn calls this there."""
    _quieten_uvicorn()
    threading.Thread(target=_end_with, args=(int(os.environ[_PARENT]),), name="parent", daemon=True).start()
    directory = Path(os.environ[_DIRECTORY])
    watched = Watched.now(Path(os.environ[_WATCHED])) if _WATCHED in os.environ else None
    settings = Settings.model_validate_json((directory / _SETTINGS).read_bytes())
    if watched is not None:
        # A process that takes the place of another one begins with what is in force now.
        with contextlib.suppress(RouteLLMError):
            return Worker(read_settings(watched.path), directory, watched).application()
    return Worker(settings, directory, watched).application()


def _end_with(parent: int) -> None:
    """End this process once its parent has: nobody would stop it any more."""
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL_S)
    os.kill(os.getpid(), signal.SIGTERM)


class _Workers(Multiprocess):
    """uvicorn's supervisor, which also takes the gauges of processes that have died out of the metrics."""

    def keep_subprocess_alive(self) -> None:
        from prometheus_client.multiprocess import mark_process_dead

        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        for pid in before - {process.pid for process in self.processes}:
            if pid is not None:
                mark_process_dead(pid)  # type: ignore[no-untyped-call]


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        bound.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidArgumentError(
            f"cannot listen on {host} port {port}: {reason}. Choose another --port or --host"
        ) from error
    bound.set_inheritable(True)
    return bound


def _quieten_uvicorn() -> None:
    """Let uvicorn report what went wrong, through our own log, and nothing else.

    An answer that an upstream breaks off is left incomplete on purpose: uvicorn closes the connection, and says so.
    """
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").addFilter(
        lambda record: "without completing response" not in record.getMessage()
    )
