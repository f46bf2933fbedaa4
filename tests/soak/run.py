"""One run: a real gateway process, clients and trouble beside it, and at the end its counters against theirs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from tests.soak.clients import Connection, Seen, ask_all
from tests.soak.mixture import UNSEEN_PATH, Question, drawn
from tests.soak.trouble import ModelServer, Trouble, settings_of

_PATIENCE_S: Final = 120.0
_READ_AGAIN: Final = "the settings were read again"
_KEPT: Final = "the settings before stay in force"


def run(count: int, *, clients: int, workers: int, seed: int, folder: Path) -> dict[str, Any]:
    """Send so many requests. Return what was sent, what happened, and what did not hold."""
    import uvloop

    return uvloop.run(_run(count, clients, workers, seed, folder))


async def _run(count: int, clients: int, workers: int, seed: int, folder: Path) -> dict[str, Any]:
    rng = random.Random(seed)
    began_s = time.monotonic()
    seen = Seen()
    servers = (ModelServer(), ModelServer())
    config = folder / "gateway.yaml"
    config.write_text(settings_of(servers, rng), encoding="utf-8")
    left = count
    trouble = Trouble(servers, config, rng, lambda: count - left)

    def draw() -> Question | None:
        nonlocal left
        if not left:
            return None
        left -= 1
        return drawn(rng)

    log = folder / "gateway.log"
    for server in servers:
        await server.start()
    try:
        with _gateway(config, workers, log) as port:
            await _until_ready(port)
            makers = [
                asyncio.create_task(trouble.killing(max(500, min(count // 5, 10_000)))),
                asyncio.create_task(trouble.changing(max(500, min(count // 5, 5_000)))),
            ]
            asking = [
                asyncio.create_task(ask_all(port, random.Random(f"{seed} {number}"), draw, seen))
                for number in range(clients)
            ]
            done = asyncio.gather(*asking)
            await asyncio.wait([done, *makers], return_when=asyncio.FIRST_COMPLETED)
            for maker in makers:
                maker.cancel()
            for error in await asyncio.gather(*makers, return_exceptions=True):
                if isinstance(error, Exception):
                    raise error
            await done
            # Both once more, so that even a short run has seen them.
            for is_broken, words in ((False, _READ_AGAIN), (True, _KEPT)):
                before = log.read_text(encoding="utf-8").count(words)
                trouble.change(is_broken=is_broken)
                await _until(lambda words=words, before=before: log.read_text(encoding="utf-8").count(words) > before)
            counted = await _settled(port)
    finally:
        for server in servers:
            await server.kill()
    said = log.read_text(encoding="utf-8")
    breaches = [f"{what}: {example}" for what, example in seen.faults.items()]
    breaches += differences(seen, counted)
    breaches += _faults_in(said)
    return {
        "requests": count,
        "clients": clients,
        "workers": workers,
        "seed": seed,
        "seconds": round(time.monotonic() - began_s, 1),
        "sent": dict(seen.sent),
        "outcomes": dict(seen.outcomes),
        "statuses": {f"{path} {status}": times for (path, status), times in sorted(seen.statuses.items())},
        "happened": {
            **trouble.happened,
            "settings read again by a worker": said.count(_READ_AGAIN),
            "broken settings refused by a worker": said.count(_KEPT),
        },
        "counters": {name: value for name, value in counted.items() if isinstance(value, float)},
        "breaches": breaches,
    }  # fmt: skip


def differences(seen: Seen, counted: dict[str, Any]) -> list[str]:
    """Return where the gateway's counters are not what the clients sent and saw."""
    sent = sum(seen.sent.values())
    found = [
        f"{name} is {counted[name]:g}, and {sent} requests were sent"
        for name in ("began", "ended")
        if counted[name] != sent
    ]
    if counted["in_flight"]:
        found.append(f"{counted['in_flight']:g} requests are still under way, and no client waits")
    by_status: Counter[tuple[str, int]] = counted["statuses"]
    theirs = {key: times for key, times in by_status.items() if key[0] != UNSEEN_PATH}
    for key in sorted({*theirs, *seen.statuses}):
        if theirs.get(key, 0) != seen.statuses[key]:
            path, status = key
            found.append(f"{path}, status {status}: counted {theirs.get(key, 0)}, seen {seen.statuses[key]}")
    if counted["cut"] != seen.cut:
        found.append(f"{counted['cut']:g} answers were cut off by the gateway's count, {seen.cut} at the clients")
    return found


async def _settled(port: int) -> dict[str, Any]:
    """Return the counters once no request is under way; those of clients that left may end a little later."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while True:
        counted = counters(await _get(port, "/metrics"))
        if (not counted["in_flight"] and counted["began"] == counted["ended"]) or time.monotonic() > deadline_s:
            return counted
        await asyncio.sleep(0.1)


def counters(text: str) -> dict[str, Any]:
    """Return of an exposition what is compared: requests begun, ended, under way, cut off, and by path and status."""
    found: dict[str, Any] = {"began": 0.0, "ended": 0.0, "in_flight": 0.0, "cut": 0.0, "client_gone": 0.0}
    statuses: Counter[tuple[str, int]] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sample.labels
            if sample.name == "routellm_requests_began_total":
                found["began"] += sample.value
            elif sample.name == "routellm_requests_in_flight":
                found["in_flight"] += sample.value
            elif sample.name == "routellm_requests_total":
                found["ended"] += sample.value
                statuses[labels["endpoint"], int(labels["status"])] += int(sample.value)
                if labels["error"] == "client_gone":
                    found["client_gone"] += sample.value
                if labels["status"] == "200" and labels["error"] and labels["endpoint"] != UNSEEN_PATH:
                    found["cut"] += sample.value
    found["statuses"] = statuses
    return found


def _faults_in(said: str) -> list[str]:
    """Return what the gateway logged of faults of its own."""
    found = []
    for line in said.splitlines():
        if "a fault of the gateway's own" in line or "Traceback" in line or "never retrieved" in line:
            found.append(f"the gateway's log: {line[:1500]}")
            break
    return found


@contextlib.contextmanager
def _gateway(config: Path, workers: int, log: Path) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "routellm_fast", "serve", "--config", str(config), "--port", str(port)]
    with log.open("wb") as file:
        process = subprocess.Popen([*command, "--workers", str(workers)], stdout=file, stderr=file)
        try:
            yield port
            process.send_signal(signal.SIGTERM)
            assert process.wait(_PATIENCE_S) in (0, -signal.SIGTERM), log.read_text(encoding="utf-8")[-2000:]
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


async def _until_ready(port: int) -> None:
    deadline_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline_s:
        with contextlib.suppress(OSError):
            if json.loads(await _get(port, "/ready"))["status"] == "ready":
                return
        await asyncio.sleep(0.05)
    raise AssertionError("the gateway did not start")


async def _get(port: int, path: str) -> str:
    connection = await Connection.to(port)
    try:
        connection.write(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode())
        _, headers = await connection.head()
        return (await connection.body(headers)).decode()
    finally:
        connection.close()


async def _until(condition: Any) -> None:
    deadline_s = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it never came to be"
        await asyncio.sleep(0.1)
