"""Gateways of the tests' own, in a thread of this process or as the command line starts them."""

from __future__ import annotations

import functools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from routellm_fast.gateway.bounded_head import BoundedProtocol
from routellm_fast.gateway.runtime import Watched
from routellm_fast.gateway.settings_file import settings_of
from routellm_fast.gateway.worker import Worker

# Prompts that the router that ships sends to the weak and to the strong model, by far.
EASY = "hello"
HARD = "Write a Python function that parses ISO 8601 dates with time zones and write unit tests for it."


def settings_text(upstream_url: str, further: str = "", *, weak_url: str | None = None, router: str = "") -> str:
    """Return a file with two models and the router that ships; `router` adds keys to it, `further` sections."""
    return f"""\
upstreams:
  one: {{base_url: {upstream_url}}}
  two: {{base_url: {weak_url or upstream_url}}}
models:
  big: {{upstream: one, name: big-there, input_usd_per_1m: 10, output_usd_per_1m: 30, cached_input_usd_per_1m: 1}}
  small: {{upstream: two, input_usd_per_1m: 0.1, output_usd_per_1m: 0.4}}
routers:
  mf: {{strong: big, weak: small{", " if router else ""}{router}}}
{further}
"""


class Gateway:
    """A running gateway."""

    def __init__(self, worker: Worker, url: str, server: uvicorn.Server) -> None:
        self.worker, self.url, self.server = worker, url, server


@contextmanager
def running_gateway(text: str, folder: Path, *, path: Path | None = None, **options: Any) -> Iterator[Gateway]:
    """Serve in a thread, until the block ends; `path` is watched."""
    watched = None if path is None else Watched.now(path)
    settings = settings_of(text, "gateway.yaml")
    worker = Worker(settings, folder, watched)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    limits = settings.limits
    config = uvicorn.Config(
        worker.application(),
        loop="uvloop",
        http=functools.partial(
            BoundedProtocol, max_head_bytes=limits.max_head_bytes, head_timeout_s=limits.head_timeout_s
        ),
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=10,
        **options,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        threading.Event().wait(0.005)
    assert server.started, "the gateway did not start"
    try:
        yield Gateway(worker, f"http://127.0.0.1:{listening.getsockname()[1]}", server)
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive(), "the gateway did not stop"


def until(condition: Callable[[], object]) -> None:
    """Wait until something holds, for a minute at most."""
    deadline_s = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < deadline_s, "it never came to be"
        time.sleep(0.01)
