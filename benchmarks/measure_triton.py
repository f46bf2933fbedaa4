"""Measure the Triton backend in a real server and write benchmarks/results/triton.json and triton.md.

In one server run: our C++ backend, a trivial C++ backend (`trivial_backend.cpp`: what the server itself costs), and the
same router in Triton's Python backend. They take turns. Every answer is held against the router in this process.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import environment
from names import TRITON_OURS, TRITON_PYTHON, TRITON_TRIVIAL

HERE: Final = Path(__file__).resolve().parent
REPOSITORY: Final = HERE.parent
BATCHING: Final = ("alone", "batched")
_TENSORS: Final = """
input [{ name: "PROMPT" data_type: TYPE_STRING dims: [1] optional: true },
       { name: "THRESHOLD" data_type: TYPE_FP32 dims: [1] optional: true }]
output [{ name: "WIN_RATE" data_type: TYPE_FP32 dims: [1] },
        { name: "IS_STRONG" data_type: TYPE_BOOL dims: [1] },
        { name: "MODEL" data_type: TYPE_STRING dims: [1] }]
max_batch_size: 64
instance_group [{ kind: KIND_CPU count: 1 }]
"""
_PYTHON_MODEL: Final = "from routellm_fast.serving.triton_backend import RouterModel as TritonPythonModel\n"


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--environment", type=Path, help="the server's; `make triton-env` makes one, which is the default"
    )
    parser.add_argument("--quick", action="store_true", help="a few requests: shows that everything runs")
    parser.add_argument("--render", type=Path, metavar="FILE", help="measure nothing, render this JSON")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to write, instead of benchmarks/results")
    parser.add_argument("--document", type=Path, metavar="FILE", help="splice the tables into this file too")
    options = parser.parse_args()
    if options.environment is not None:
        os.environ["ROUTELLM_FAST_TRITON_ENV"] = str(options.environment.resolve())
    if options.render is None:
        environment.enter()
    import render
    import render_triton

    out = options.out or (Path(tempfile.mkdtemp(prefix="benchmark-")) if options.quick else HERE / "results")
    out.mkdir(parents=True, exist_ok=True)
    if options.render is not None:
        report = json.loads(options.render.read_text(encoding="utf-8"))
    else:
        content = json.dumps(measure(is_quick=options.quick), indent=1, sort_keys=True) + "\n"
        (out / "triton.json").write_text(content, encoding="utf-8")
        report = json.loads(content)
    text = render_triton.render(report)
    (out / "triton.md").write_text(text, encoding="utf-8")
    if options.document is not None:
        render.splice_between(options.document, render_triton.MARKERS, render_triton.tables(report))
    print(text)
    print(out / "triton.md", file=sys.stderr)


def measure(*, is_quick: bool) -> dict[str, Any]:
    """Measure everything; progress goes to standard error."""
    import machine
    from workloads import DataMissingError, example_prompts, natural_prompts

    import routellm_fast as rf

    effort = QUICK if is_quick else FULL
    try:
        prompts, source = natural_prompts(), "natural prompts"
    except DataMissingError:
        prompts, source = example_prompts(), "examples of the repository"
    random.Random(0).shuffle(prompts)
    prompts = prompts[: effort.prompts]
    router = rf.load_router()
    report: dict[str, Any] = {
        "format_version": 1,
        "command": "python benchmarks/measure_triton.py" + (" --quick" if is_quick else ""),
        "effort": "quick" if is_quick else "full",
        "machine": machine.describe(),
        "loads": {"before": machine.loads()},
        "prompts": {"count": len(prompts), "source": source},
        "router": {"kind": router.kind, "dim": router.embedder.dim},
    }
    with tempfile.TemporaryDirectory(prefix="triton-benchmark-") as name:
        bench = Bench(Path(name), router, prompts, effort)
        report["missing"] = bench.missing
        say("starting")
        report["starting"] = bench.starting()
        with bench.server(bench.contenders) as server:
            report["server"] = server_version(server)
            say("decisions")
            report["decisions"] = bench.decisions(server)
            say("one client")
            report["one_client"] = bench.one_client(server)
            say("many clients")
            report["many_clients"] = bench.many_clients(server)
    report["loads"]["after"] = machine.loads()
    return report


def say(section: str) -> None:
    print(f"… {section}", file=sys.stderr, flush=True)


class Bench:
    """Repositories of the contenders, and what is measured of them."""

    def __init__(self, folder: Path, router: Any, prompts: Sequence[str], effort: Effort) -> None:
        sys.path.append(str(REPOSITORY))
        import triton_server

        from routellm_fast.serving import triton_backend_directory

        self._servers = triton_server
        self._folder, self._router, self._prompts, self._effort = folder, router, prompts, effort
        self._backends = {"routellm": triton_backend_directory() / "routellm", "trivial": build_trivial_backend(folder)}
        self.missing: dict[str, str] = {}
        self.contenders = {TRITON_OURS: "routellm", TRITON_TRIVIAL: "trivial", TRITON_PYTHON: "python"}
        if not has_python_model(triton_server.environment()):
            self.missing[TRITON_PYTHON] = "the server's environment has no routellm-fast: `make triton-env` installs it"
            del self.contenders[TRITON_PYTHON]

    def server(self, contenders: dict[str, str]) -> Any:
        """Return a server of these contenders, ready; to be closed."""
        server = self._unstarted(contenders)
        server.restart()
        return server

    def starting(self) -> dict[str, Any]:
        """Time until ready, and resident memory then, of servers with one contender each."""
        found = {}
        for name, backend in self.contenders.items():
            seconds, resident, has_python = [], [], False
            for _ in range(self._effort.starts):
                with self._unstarted({name: backend}, BATCHING[:1]) as server:
                    seconds.append(seconds_until_ready(server))
                    resident.append(resident_mb(server.pid))
                    has_python = any("libpython" in Path(f"/proc/{pid}/maps").read_text() for pid in family(server.pid))
            found[name] = {
                "ready_ms": sorted(seconds)[len(seconds) // 2] * 1e3,
                "resident_mb": sorted(resident)[len(resident) // 2],
                "runs_python": has_python,
            }
        return found

    def decisions(self, server: Any) -> dict[str, Any]:
        """Hold every answer of both real contenders, by both protocols, against this process."""
        from triton_clients import PROTOCOLS

        expected = [(d.win_rate, d.is_strong, d.model) for d in self._router.route_batch(list(self._prompts))]
        found = {}
        for name, backend in self.contenders.items():
            if name == TRITON_TRIVIAL:
                continue
            for protocol, (client_class, encode, decode, _) in PROTOCOLS.items():
                for batching in BATCHING:
                    client = client_class(port_of(server, protocol))
                    model = model_of(backend, batching)
                    answers = [decode(client.ask(encode(model, prompt))) for prompt in self._prompts]
                    client.close()
                    equal = sum(a == b for a, b in zip(answers, expected, strict=True))
                    if equal != len(expected):
                        raise AssertionError(f"{name}, {protocol}, {batching}: {len(expected) - equal} answers differ")
            found[name] = {"equal_to_the_bit": len(expected), "of": len(expected)}
        return found

    def one_client(self, server: Any) -> dict[str, Any]:
        """Time one request after the other, contenders in turn."""
        import numpy as np
        from figures import latencies, ratios
        from interleave import time_items
        from triton_clients import PROTOCOLS

        found: dict[str, Any] = {}
        for protocol, (client_class, encode, _, _) in PROTOCOLS.items():
            for batching in BATCHING:
                clients = {name: client_class(port_of(server, protocol)) for name in self.contenders}
                requests = {
                    name: [encode(model_of(backend, batching), prompt) for prompt in self._prompts]
                    for name, backend in self.contenders.items()
                }
                calls = {name: asking(clients[name], requests[name]) for name in self.contenders}
                times = time_items(calls, range(len(self._prompts)), rounds=self._effort.rounds, stretch=64, lead_in=8)
                for client in clients.values():
                    client.close()
                found[f"{protocol}, {batching}"] = {
                    name: {
                        **latencies(np.median(times[name], axis=0)),
                        "any_call": latencies(times[name]),
                        "ratio_to_trivial": inverse(ratios(times, name)[TRITON_TRIVIAL]),
                    }
                    for name in self.contenders
                }
        return found

    def many_clients(self, server: Any) -> dict[str, Any]:
        """Count requests a second of clients that send their next request once they have an answer."""
        import numpy as np
        from triton_clients import PROTOCOLS

        order = random.Random(1)
        found: dict[str, Any] = {}
        for protocol, (_, encode, _, load) in PROTOCOLS.items():
            for batching in BATCHING:
                requests = {}
                for name, backend in self.contenders.items():
                    once = [encode(model_of(backend, batching), prompt) for prompt in self._prompts]
                    requests[name] = (once * (self._effort.load_requests // len(once) + 1))[
                        : self._effort.load_requests
                    ]
                for clients in self._effort.clients:
                    rates: dict[str, list[float]] = {name: [] for name in self.contenders}
                    took: dict[str, list[Any]] = {name: [] for name in self.contenders}
                    for turn in range(self._effort.load_rounds + 1):
                        for name in order.sample(list(self.contenders), len(self.contenders)):
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
                        for name in self.contenders
                    }
        return found

    def _unstarted(self, contenders: dict[str, str], batching: Sequence[str] = BATCHING) -> Any:
        repository = Path(tempfile.mkdtemp(dir=self._folder, prefix="repository-"))
        for backend in contenders.values():
            for kind in batching:
                self._write(repository, backend, kind)
        return self._servers.Server(self._servers.environment(), repository, self._backends, None, (), {})

    def _write(self, repository: Path, backend: str, batching: str) -> None:
        name = model_of(backend, batching)
        folder = repository / name / "1"
        folder.mkdir(parents=True)
        config = f'name: "{name}"\nbackend: "{backend}"\n{_TENSORS}'
        if batching == "batched":
            config += "dynamic_batching { max_queue_delay_microseconds: 0 }\n"
        (repository / name / "config.pbtxt").write_text(config, encoding="utf-8")
        if backend != "trivial":
            self._router.save(folder / "router")
        if backend == "python":
            (folder / "model.py").write_text(_PYTHON_MODEL, encoding="utf-8")


def model_of(backend: str, batching: str) -> str:
    return f"{backend}-{batching}"


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


def port_of(server: Any, protocol: str) -> int:
    return int(server.http_port if protocol == "HTTP" else server.grpc_port)


def build_trivial_backend(folder: Path) -> Path:
    """Compile the trivial backend; return the folder of its library."""
    out = folder / "trivial"
    out.mkdir()
    command = [os.environ.get("CXX", "g++"), "-std=c++20", "-O2", "-fPIC", "-shared", "-fvisibility=hidden"]
    command += [f"-I{REPOSITORY / 'csrc' / 'triton'}", str(HERE / "trivial_backend.cpp")]
    subprocess.run([*command, "-o", str(out / "libtriton_trivial.so")], check=True)
    return out


def has_python_model(folder: Path) -> bool:
    done = subprocess.run([folder / "bin" / "python", "-c", _PYTHON_MODEL], capture_output=True, check=False, cwd="/")
    return done.returncode == 0


def seconds_until_ready(server: Any) -> float:
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


def family(pid: int) -> Iterator[int]:
    """Yield a process and all that it has started."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from family(int(child))


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process and its children; what they share counts for each of them once."""
    total = 0
    for member in family(pid):
        for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total / 1e6


def server_version(server: Any) -> str:
    with urllib.request.urlopen(f"{server.http_url}/v2") as reply:
        return str(json.load(reply)["version"])


if __name__ == "__main__":
    main()
