"""The measurements behind the report on the gateway.

Every contender stands between the same clients and the same server of models, in one run; so does none, which is what
the others are compared with. They take turns. The models' server answers at once, and each time alike.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import routellm_fast as rf
from benchmarks.gateway import client, contenders
from benchmarks.gateway.client import Connection, Took
from benchmarks.gateway.names import DIRECT, ONE_WORKER, OURS, TWO_WORKERS
from benchmarks.gateway.processes import Cores, Running, cores_at_hand, on_cores, running, upstream
from benchmarks.harness import machine
from benchmarks.harness.peers import PeerMissingError
from benchmarks.harness.processes import cpu_s, resident_mb
from benchmarks.harness.progress import say
from benchmarks.harness.prompts import prompts_at_hand
from benchmarks.harness.reports import Report
from benchmarks.harness.turns import no_collector, time_items

_LONGEST: Final = 4_000  # characters of a prompt
_WORDS: Final = 20
_CLIENTS: Final = 16
_CLIENTS_OF_WORKERS: Final = 64
# Servers close connections that were idle for some seconds; a new one is opened before, outside of what is timed.
_IDLE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured.

    Attributes:
        prompts: Number of prompts.
        rounds: Rounds over them, one by one.
        rates: Requests a second at fixed rates.
        rate_s: Seconds of a turn at a fixed rate.
        clients_s: Seconds of a turn of many clients.
        turns: Turns of each load.
        streams: Streams of a turn.
        idle_streams: Streams that say nothing.
    """

    prompts: int
    rounds: int
    rates: tuple[int, ...]
    rate_s: float
    clients_s: float
    turns: int
    streams: int
    idle_streams: int


FULL: Final = Effort(
    prompts=256, rounds=7, rates=(100, 1_000), rate_s=6.0, clients_s=4.0, turns=5, streams=40, idle_streams=1_000
)
QUICK: Final = Effort(prompts=16, rounds=2, rates=(20,), rate_s=0.5, clients_s=0.5, turns=1, streams=3, idle_streams=20)


def measure(environments: Path, *, is_quick: bool) -> Report:
    """Measure every contender that can be started; progress goes to standard error.

    Args:
        environments: The folder of the peers' environments.
        is_quick: Whether to run only so much that everything was tried.
    """
    effort = QUICK if is_quick else FULL
    cores = cores_at_hand()
    # A connection more for each idle stream, on both sides of this process's children.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    found = prompts_at_hand()
    # An @ is how a request tells the models' server of the tests what to do.
    texts = [text[:_LONGEST] for text in found.texts if text.strip() and "@" not in text]
    random.Random(0).shuffle(texts)
    prompts = texts[: effort.prompts]
    report: Report = {
        "machine": machine.describe(),
        "loads": {"before": machine.loads()},
        "prompts": {
            "count": len(prompts), "source": found.source, "median_chars": float(np.median([*map(len, prompts)])),
        },
        "cores": cores.as_lists(),
        "missing": dict(found.missing),
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="gateway-benchmark-") as name, ExitStack() as stack:
        folder = Path(name)
        models = stack.enter_context(running("the models' server", upstream(), cores.upstream, folder))
        base_url = f"http://127.0.0.1:{models.port}/v1"
        servers = {DIRECT: models}
        for contender, start in contenders.starts(environments).items():
            say(f"starting {contender}")
            try:
                launch = start(base_url, folder)
                servers[contender] = stack.enter_context(running(contender, launch, cores.gateway, folder))
            except PeerMissingError as error:
                report["missing"][contender] = str(error)
        report["versions"] = _versions(environments)
        report["ready_s"] = {contender: server.ready_s for contender, server in servers.items()}
        load = _Load(servers, prompts, effort, models.pid)
        with on_cores(cores.clients), no_collector():
            say("answers")
            report["answers"] = load.answers()
            say("one client")
            report["one_client"] = load.one_client()
            for rate in effort.rates:
                say(f"{rate} requests a second")
                report.setdefault("rates", {})[str(rate)] = load.at_a_rate(rate)
            say(f"{_CLIENTS} clients")
            report["clients"] = {str(_CLIENTS): load.by_clients(_CLIENTS)}
            for at_once in (1, 16):
                say(f"streams, {at_once} at once")
                report.setdefault("streams", {})[str(at_once)] = load.streams(at_once)
            say("idle streams")
            report["idle_streams"] = load.idle_streams()
    say("two workers")
    report["workers"] = _workers(cores, prompts, effort)
    report["loads"]["after"] = machine.loads()
    return report


class _Load:
    """The loads, each for all contenders in turn. One that fails under a load has its reason there, and no figures."""

    def __init__(
        self, servers: Mapping[str, Running], prompts: Sequence[str], effort: Effort, upstream_pid: int
    ) -> None:
        self._servers, self._prompts, self._effort, self._upstream_pid = servers, prompts, effort, upstream_pid
        self._requests = {name: [s.launch.request(prompt) for prompt in prompts] for name, s in servers.items()}
        self._order = random.Random(1)

    def answers(self) -> dict[str, Any]:
        """Hold each contender's answer against the models' server's, and our decisions against the router itself."""
        expected = _content(_asked(self._servers[DIRECT], "hello"))
        found: dict[str, Any] = {}
        for name, server in self._servers.items():
            if _content(_asked(server, "hello")) != expected:
                raise AssertionError(f"{name} gives another answer than the models' server")
            found[name] = {"is_right": True}
        router = rf.load_router()
        connection = Connection(self._servers[OURS].port)
        equal = 0
        for prompt, request in zip(self._prompts, self._requests[OURS], strict=True):
            head = connection.ask(request).partition(b"\r\n\r\n")[0].decode("latin-1").lower().split("\r\n")
            headers = dict(line.partition(": ")[::2] for line in head[1:])
            decision = router.route(prompt)
            is_strong = headers["x-routellm-model"] == "big"
            equal += is_strong == decision.is_strong and headers["x-routellm-win-rate"] == f"{decision.win_rate:.6g}"
        connection.close()
        if equal != len(self._prompts):
            raise AssertionError(f"{len(self._prompts) - equal} decisions differ from the router's")
        found[OURS].update(decisions_equal=equal, of=len(self._prompts))
        return found

    def one_client(self) -> dict[str, Any]:
        """Time one request after the other."""
        askers = {name: _Asker(server.port, self._requests[name]) for name, server in self._servers.items()}
        times = time_items(askers, range(len(self._prompts)), rounds=self._effort.rounds, stretch=32, lead_in=8)
        for asker in askers.values():
            asker.close()
        return _with_added({name: _percentiles_ms(each / 1e6) for name, each in times.items()})

    def at_a_rate(self, rate: int) -> dict[str, Any]:
        """Send requests at a fixed rate."""
        took, failed, _ = self._in_turns(
            lambda port, requests: client.at_a_rate(port, requests, rate, self._effort.rate_s)
        )
        found = {
            name: {
                **_percentiles_ms(np.concatenate([turn.each_s for turn in turns]) * 1e3),
                "late_p99_ms": float(np.percentile(np.concatenate([turn.late_s for turn in turns]), 99)) * 1e3,
                "per_s": float(np.median([turn.per_s for turn in turns])),
                "is_carried": all(turn.is_carried for turn in turns),
            }
            for name, turns in took.items()
        }
        return _with_added(found) | failed

    def by_clients(self, clients: int) -> dict[str, Any]:
        """Count requests a second of clients that each send their next request once they have an answer."""
        took, failed, cpu = self._in_turns(
            lambda port, requests: client.by_clients(port, requests, clients, self._effort.clients_s)
        )
        found: dict[str, Any] = dict(failed)
        for name, turns in took.items():
            answered = sum(len(turn.each_s) for turn in turns)
            total_s = sum(turn.total_s for turn in turns)
            server_s, upstream_s, clients_s = cpu[name]
            found[name] = {
                "per_s": float(np.median([turn.per_s for turn in turns])),
                **_percentiles_ms(np.concatenate([turn.each_s for turn in turns]) * 1e3),
                "cpu_us": server_s / answered * 1e6 if name != DIRECT else 0.0,
                "cpu_share": server_s / total_s if name != DIRECT else 0.0,
                "upstream_and_clients_share": (upstream_s + clients_s) / total_s,
            }
        return found

    def streams(self, at_once: int) -> dict[str, Any]:
        """Time the first event of streams, and each word's way from the models' server to the client."""
        text = f"hello @form=clock @words={_WORDS} @pause=0.005"
        took: dict[str, list[tuple[Any, Any]]] = {name: [] for name in self._servers}
        failed: dict[str, Any] = {}
        for turn in range(self._effort.turns + 1):
            for name in self._shuffled(failed):
                server = self._servers[name]
                request = server.launch.request(text, stream=True)
                try:
                    each = client.streams(server.port, request, self._effort.streams, at_once=at_once)
                except OSError as error:
                    failed[name] = {"failed": str(error)[:300]}
                    continue
                if turn:  # the first is a rehearsal
                    took[name].append(each)
        found = {
            name: {
                "first": _percentiles_ms(np.concatenate([first for first, _ in turns]) * 1e3),
                "word": _percentiles_ms(np.concatenate([delays for _, delays in turns]) * 1e3),
            }
            for name, turns in took.items()
            if name not in failed
        }
        for what in ("first", "word"):
            _with_added({name: figures[what] for name, figures in found.items()})
        return found | failed

    def idle_streams(self) -> dict[str, Any]:
        """Measure what streams cost in memory that have begun and then say nothing."""
        found: dict[str, Any] = {}
        for name, server in self._servers.items():
            if name == DIRECT:
                continue
            before_mb = resident_mb(server.pid)
            request = server.launch.request("hello @hang=2", stream=True)
            with client.idle_streams(server.port, request, self._effort.idle_streams, 60.0) as begun:
                during_mb = resident_mb(server.pid)
            found[name] = {
                "streams": begun,
                "before_mb": before_mb,
                "during_mb": during_mb,
                "kb_each": (during_mb - before_mb) * 1e3 / begun if begun else float("nan"),
            }
            time.sleep(0.5)  # the server sees that its clients have gone, and lets its streams go
        return found

    def _in_turns(
        self, load: Callable[[int, Sequence[bytes]], Took]
    ) -> tuple[dict[str, list[Took]], dict[str, Any], dict[str, NDArray[np.float64]]]:
        """Return each contender's turns, why others failed, and processor seconds of contender, upstream, clients."""
        took: dict[str, list[Took]] = {name: [] for name in self._servers}
        cpu = {name: np.zeros(3) for name in self._servers}
        failed: dict[str, Any] = {}
        for turn in range(self._effort.turns + 1):
            for name in self._shuffled(failed):
                pid = self._servers[name].pid
                before = _cpu(pid, self._upstream_pid)
                try:
                    each = load(self._servers[name].port, self._requests[name])
                except OSError as error:
                    failed[name] = {"failed": str(error)[:300]}
                    continue
                if turn:  # the first is a rehearsal
                    took[name].append(each)
                    cpu[name] += _cpu(pid, self._upstream_pid) - before
        return {name: turns for name, turns in took.items() if name not in failed}, failed, cpu

    def _shuffled(self, failed: Mapping[str, Any]) -> list[str]:
        names = [name for name in self._servers if name not in failed]
        return self._order.sample(names, len(names))


def _workers(cores: Cores, prompts: Sequence[str], effort: Effort) -> dict[str, Any]:
    """Count requests a second of our gateway with one process and with two, which may use the same cores."""
    found: dict[str, Any] = {"clients": _CLIENTS_OF_WORKERS, "cores": sorted(cores.workers)}
    with tempfile.TemporaryDirectory(prefix="gateway-benchmark-") as name, ExitStack() as stack:
        folder = Path(name)
        models = stack.enter_context(running("the models' server", upstream(), cores.beside_workers, folder))
        base_url = f"http://127.0.0.1:{models.port}/v1"
        servers = {}
        for contender, workers in ((ONE_WORKER, 1), (TWO_WORKERS, 2)):
            launch = contenders.ours(base_url, folder, workers)
            servers[contender] = stack.enter_context(running(contender, launch, cores.workers, folder))
        load = _Load(servers, prompts, effort, models.pid)
        with on_cores(cores.beside_workers), no_collector():
            found.update(load.by_clients(_CLIENTS_OF_WORKERS))
    return found


def _asked(server: Running, text: str) -> bytes:
    connection = Connection(server.port)
    try:
        return connection.ask(server.launch.request(text))
    finally:
        connection.close()


def _content(answer: bytes) -> str:
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head.lower():
        body = body.partition(b"\r\n")[2].partition(b"\r\n")[0]  # of one chunk
    content: str = json.loads(body)["choices"][0]["message"]["content"]
    return content


class _Asker:
    """Asks one request after the other on one connection."""

    def __init__(self, port: int, requests: Sequence[bytes]) -> None:
        self._port, self._requests = port, requests
        self._connection = Connection(port)
        self._last_s = time.monotonic()

    def __call__(self, index: int) -> bytes:
        if time.monotonic() - self._last_s > _IDLE_S:
            self.close()
            self._connection = Connection(self._port)
        answer = self._connection.ask(self._requests[index])
        self._last_s = time.monotonic()
        return answer

    def close(self) -> None:
        self._connection.close()


def _percentiles_ms(times_ms: NDArray[Any]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(times_ms, (50, 95, 99))
    return {"p50_ms": float(p50), "p95_ms": float(p95), "p99_ms": float(p99)}


def _with_added(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Add to each contender's percentiles by how much they exceed those without a gateway."""
    direct = found.get(DIRECT)
    for figures in found.values():
        for percentile in ("p50", "p99"):
            if direct is not None:
                figures[f"added_{percentile}_ms"] = figures[f"{percentile}_ms"] - direct[f"{percentile}_ms"]
    return found


def _cpu(pid: int, upstream_pid: int) -> NDArray[np.float64]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return np.array([cpu_s(pid), cpu_s(upstream_pid), used.ru_utime + used.ru_stime])


def _versions(environments: Path) -> dict[str, str]:
    """Return the peers' versions, as their environments say."""
    packages = {"litellm": "litellm", "tensorzero": "tensorzero", "routellm": "routellm"}
    found = {}
    for environment, package in packages.items():
        python = environments / environment / "bin" / "python"
        if python.exists():
            code = f"import importlib.metadata as m; print(m.version({package!r}))"
            done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                found[package] = done.stdout.strip()
    return found
