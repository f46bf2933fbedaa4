"""The measurements behind the report on Triton.

In one server run: our C++ backend, a trivial C++ backend (`trivial_backend.cpp`: what the server itself costs), and the
same router in Triton's Python backend. They take turns. Every answer is held against the router in this process.
"""

from __future__ import annotations

import json
import random
import tempfile
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

import routellm_fast as rf
from benchmarks.harness import machine
from benchmarks.harness.figures import latencies, ratios
from benchmarks.harness.progress import say
from benchmarks.harness.prompts import prompts_at_hand
from benchmarks.harness.reports import Report
from benchmarks.harness.turns import time_items
from benchmarks.triton.clients import PROTOCOLS
from benchmarks.triton.contenders import BATCHING, Contenders, model_of
from benchmarks.triton.names import TRITON_TRIVIAL
from benchmarks.triton.starting import starting
from tests.support.triton_server import Server


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: prompts, rounds over them one by one, rounds of load, requests a round of load, starts."""

    prompts: int
    rounds: int
    load_rounds: int
    load_requests: int
    starts: int
    clients: tuple[int, ...] = (1, 8, 32)


FULL: Final = Effort(prompts=500, rounds=9, load_rounds=5, load_requests=1_200, starts=5)
QUICK: Final = Effort(prompts=32, rounds=2, load_rounds=2, load_requests=128, starts=1)


def measure(environment: Path, *, is_quick: bool) -> Report:
    """Measure everything in a server of that environment; progress goes to standard error."""
    effort = QUICK if is_quick else FULL
    found = prompts_at_hand()
    random.Random(0).shuffle(found.texts)
    prompts = found.texts[: effort.prompts]
    router = rf.load_router()
    report: Report = {
        "machine": machine.describe(),
        "loads": {"before": machine.loads()},
        "prompts": {"count": len(prompts), "source": found.source},
        "router": {"kind": router.kind, "dim": router.embedder.dim},
    }
    with tempfile.TemporaryDirectory(prefix="triton-benchmark-") as name:
        contenders = Contenders(Path(name), environment, router)
        report["missing"] = contenders.missing
        say("starting")
        report["starting"] = starting(contenders, effort.starts)
        with contenders.server() as server:
            report["server"] = server_version(server)
            say("decisions")
            report["decisions"] = decisions(contenders, server, router, prompts)
            say("one client")
            report["one_client"] = one_client(contenders, server, prompts, effort)
            say("many clients")
            report["many_clients"] = many_clients(contenders, server, prompts, effort)
    report["loads"]["after"] = machine.loads()
    return report


def decisions(contenders: Contenders, server: Server, router: rf.Router, prompts: Sequence[str]) -> dict[str, Any]:
    """Hold every answer of both real contenders, by both protocols, against this process."""
    expected = [(d.win_rate, d.is_strong, d.model) for d in router.route_batch(prompts)]
    found = {}
    for name, backend in contenders.backends.items():
        if name == TRITON_TRIVIAL:
            continue
        for protocol, (client_class, encode, decode, _) in PROTOCOLS.items():
            for batching in BATCHING:
                client = client_class(port_of(server, protocol))
                model = model_of(backend, batching)
                answers = [decode(client.ask(encode(model, prompt))) for prompt in prompts]
                client.close()
                equal = sum(a == b for a, b in zip(answers, expected, strict=True))
                if equal != len(expected):
                    raise AssertionError(f"{name}, {protocol}, {batching}: {len(expected) - equal} answers differ")
        found[name] = {"equal_to_the_bit": len(expected), "of": len(expected)}
    return found


def one_client(contenders: Contenders, server: Server, prompts: Sequence[str], effort: Effort) -> dict[str, Any]:
    """Time one request after the other, contenders in turn."""
    names = contenders.backends
    found: dict[str, Any] = {}
    for protocol, (client_class, encode, _, _) in PROTOCOLS.items():
        for batching in BATCHING:
            clients = {name: client_class(port_of(server, protocol)) for name in names}
            requests = {
                name: [encode(model_of(backend, batching), prompt) for prompt in prompts]
                for name, backend in names.items()
            }
            calls = {name: asking(clients[name], requests[name]) for name in names}
            times = time_items(calls, range(len(prompts)), rounds=effort.rounds, stretch=64, lead_in=8)
            for client in clients.values():
                client.close()
            found[f"{protocol}, {batching}"] = {
                name: {
                    **latencies(np.median(times[name], axis=0)),
                    "any_call": latencies(times[name]),
                    "ratio_to_trivial": inverse(ratios(times, name)[TRITON_TRIVIAL]),
                }
                for name in names
            }
    return found


def many_clients(contenders: Contenders, server: Server, prompts: Sequence[str], effort: Effort) -> dict[str, Any]:
    """Count requests a second of clients that send their next request once they have an answer."""
    order = random.Random(1)
    names = contenders.backends
    found: dict[str, Any] = {}
    for protocol, (_, encode, _, load) in PROTOCOLS.items():
        for batching in BATCHING:
            requests = {}
            for name, backend in names.items():
                once = [encode(model_of(backend, batching), prompt) for prompt in prompts]
                requests[name] = (once * (effort.load_requests // len(once) + 1))[: effort.load_requests]
            for clients in effort.clients:
                rates: dict[str, list[float]] = {name: [] for name in names}
                took: dict[str, list[Any]] = {name: [] for name in names}
                for turn in range(effort.load_rounds + 1):
                    for name in order.sample(list(names), len(names)):
                        total, each = load(port_of(server, protocol), requests[name], clients)
                        if turn:  # the first is a rehearsal
                            rates[name].append(len(each) / total)
                            took[name].append(each)
                found[f"{protocol}, {batching}, {clients}"] = {
                    name: {
                        "requests_per_s": float(np.median(rates[name])),
                        "p50_us": float(np.percentile(np.concatenate(took[name]), 50)) * 1e6,
                        "p99_us": float(np.percentile(np.concatenate(took[name]), 99)) * 1e6,
                    }
                    for name in names
                }
    return found


def asking(client: Any, requests: Sequence[bytes]) -> Any:
    return lambda index: client.ask(requests[index])


def inverse(ratio: dict[str, float]) -> dict[str, float]:
    """Turn trivial / contender into contender / trivial."""
    return {
        "median": 1 / ratio["median"],
        "p5": 1 / ratio["p95"],
        "p95": 1 / ratio["p5"],
        "of_totals": 1 / ratio["of_totals"],
    }


def port_of(server: Server, protocol: str) -> int:
    return int(server.http_port if protocol == "HTTP" else server.grpc_port)


def server_version(server: Server) -> str:
    with urllib.request.urlopen(f"{server.http_url}/v2") as reply:
        return str(json.load(reply)["version"])
