"""Measures the requests a second of a router behind Triton, and the time of each, with 1, 8 and 32 clients.

    python3 load.py grpc://127.0.0.1:8001 [--model router] [--prompts FILE] [--clients 1 8 32] [--seconds 10] [--json]

Needs tritonclient[all] and numpy, but not routellm-fast. Each client is a thread with its own connection that sends one
prompt at a time. On one machine, clients and server share its cores.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

PROMPTS = (
    "Prove that there are infinitely many primes.",
    "Write a haiku about rain.",
    "What is the capital of Mongolia?",
    "Refactor this function so that it runs in linear time:\n\ndef f(x): return sorted(x)[0]",
    "Summarise the plot of Hamlet in three sentences for a child of ten years.",
)
PERCENTILES = (50.0, 90.0, 99.0)


class Client(threading.Thread):
    """Sends requests until it is told to stop; keeps the milliseconds of each answer and the number of failures."""

    def __init__(self, url: str, model: str, prompts: Sequence[str], first: int, started: threading.Barrier) -> None:
        """Prepare; the connection is made when the thread starts."""
        super().__init__(daemon=True)
        scheme, _, self._address = url.partition("://")
        self._api = importlib.import_module(f"tritonclient.{scheme}")
        self._model, self._prompts, self._next, self._barrier = model, prompts, first, started
        self.stop = threading.Event()
        self.waits_ms: list[float] = []
        self.failures = 0

    def run(self) -> None:
        """Send one request after the other."""
        client = self._api.InferenceServerClient(self._address)
        outputs = [self._api.InferRequestedOutput(name) for name in ("WIN_RATE", "IS_STRONG", "MODEL")]
        self._ask(client, outputs)  # the first one connects
        self.waits_ms.clear()
        self.failures = 0
        self._barrier.wait()
        while not self.stop.is_set():
            self._ask(client, outputs)
        client.close()

    def _ask(self, client: Any, outputs: list[Any]) -> None:
        prompt = self._prompts[self._next % len(self._prompts)]
        self._next += 1
        entry = self._api.InferInput("PROMPT", [1, 1], "BYTES")
        entry.set_data_from_numpy(np.array([[prompt.encode()]], dtype=object))
        start = time.perf_counter()
        try:
            client.infer(self._model, [entry], outputs=outputs)
        except Exception:  # noqa: BLE001 - any failure is counted
            self.failures += 1
        else:
            self.waits_ms.append(1000.0 * (time.perf_counter() - start))


def measure(url: str, model: str, prompts: Sequence[str], clients: int, seconds: float) -> dict[str, float]:
    """Return requests a second and percentiles of milliseconds, measured by some clients during some seconds."""
    started = threading.Barrier(clients + 1)
    threads = [Client(url, model, prompts, index, started) for index in range(clients)]
    for thread in threads:
        thread.start()
    started.wait(timeout=60)
    start = time.perf_counter()
    time.sleep(seconds)
    for thread in threads:
        thread.stop.set()
    for thread in threads:
        thread.join()
    elapsed_s = time.perf_counter() - start
    waits = [wait for thread in threads for wait in thread.waits_ms]
    found = {"clients": clients, "requests": len(waits), "failures": sum(thread.failures for thread in threads)}
    percentiles = np.percentile(waits, PERCENTILES) if waits else [math.nan] * len(PERCENTILES)
    return {
        **found,
        "requests_per_s": len(waits) / elapsed_s,
        **{f"p{number:g}_ms": float(value) for number, value in zip(PERCENTILES, percentiles, strict=True)},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print. Returns 1 if a request failed, else 0."""
    parser = argparse.ArgumentParser(description="Measure how fast a router behind Triton answers.")
    parser.add_argument("url", help="http://host:port or grpc://host:port")
    parser.add_argument("--model", default="router")
    parser.add_argument("--prompts", type=Path, help="file with one prompt a line; not given: five built-in prompts")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds of measurement for each number of clients")
    parser.add_argument("--json", action="store_true", dest="as_json")
    options = parser.parse_args(arguments)
    if not options.url.startswith(("http://", "grpc://")):
        parser.error("url is http://host:port or grpc://host:port")
    prompts = PROMPTS
    if options.prompts is not None:
        prompts = tuple(line for line in options.prompts.read_text(encoding="utf-8").splitlines() if line)
        if not prompts:
            parser.error(f"{options.prompts} holds no prompt")
    rows = [measure(options.url, options.model, prompts, clients, options.seconds) for clients in options.clients]
    if options.as_json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
    else:
        columns = list(rows[0])
        sys.stdout.write("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|\n")
        for row in rows:
            sys.stdout.write("| " + " | ".join(f"{row[column]:,.6g}" for column in columns) + " |\n")
    return 1 if any(row["failures"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
