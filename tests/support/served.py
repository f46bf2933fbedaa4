"""A server of the standard library that runs beside a test."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def served(server: socketserver.TCPServer, ends: threading.Event) -> Iterator[int]:
    """Run a server in a thread, and yield its port. At the end the event tells its handlers, and the server closes."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            ends.set()
            server.shutdown()
            thread.join()
