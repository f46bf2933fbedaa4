"""How long a server takes until it is ready, and the memory that it then has."""

from __future__ import annotations

import contextlib
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.harness.processes import family, resident_mb
from benchmarks.triton.contenders import BATCHING, Contenders
from tests.support.triton_server import Server


def starting(contenders: Contenders, starts: int) -> dict[str, Any]:
    """Time until ready, and resident memory then, of servers with one contender each, started so many times."""
    found = {}
    for name, backend in contenders.backends.items():
        seconds, resident, has_python = [], [], False
        for _ in range(starts):
            with contenders.unstarted([backend], BATCHING[:1]) as server:
                seconds.append(seconds_until_ready(server))
                resident.append(resident_mb(server.pid))
                has_python = any("libpython" in Path(f"/proc/{pid}/maps").read_text() for pid in family(server.pid))
        found[name] = {
            "ready_ms": sorted(seconds)[len(seconds) // 2] * 1e3,
            "resident_mb": sorted(resident)[len(resident) // 2],
            "runs_python": has_python,
        }
    return found


def seconds_until_ready(server: Server) -> float:
    """Start a server; return the time until it says that it is ready. It is asked every two milliseconds."""
    ready = threading.Event()
    begin = time.perf_counter()
    took = [0.0]

    def ask() -> None:
        while not ready.is_set():
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{server.http_url}/v2/health/ready") as reply:
                if reply.status == 200:
                    took[0] = time.perf_counter() - begin
                    return
            time.sleep(0.002)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        server.restart()
        thread.join(timeout=10)
    finally:
        ready.set()
        thread.join()
    return took[0]
