"""Servers as processes of their own: on which cores they run, and when they are ready."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.gateway.client import Connection, request_of
from benchmarks.harness.command import CannotRunError
from benchmarks.harness.peers import PeerMissingError
from benchmarks.harness.places import REPOSITORY

CHOSEN_BY_SERVER: Final = 0
_START_S: Final = 120.0
_ADDRESS: Final = re.compile(rb"http://127\.0\.0\.1:(\d+)")


@dataclass(frozen=True, slots=True)
class Cores:
    """Which cores run what. With four or more, nothing shares a core; with fewer, upstream and clients share one.

    Attributes:
        gateway: Where a gateway of one process runs.
        workers: Where a gateway of two processes runs.
        upstream: Where the models' server runs, while a gateway of one process is measured.
        clients: Where the clients run meanwhile.
        beside_workers: Where models' server and clients run while a gateway of two processes is measured.
    """

    gateway: frozenset[int]
    workers: frozenset[int]
    upstream: frozenset[int]
    clients: frozenset[int]
    beside_workers: frozenset[int]

    def as_lists(self) -> dict[str, list[int]]:
        """Return the cores as a report keeps them."""
        names = ("gateway", "workers", "upstream", "clients", "beside_workers")
        return {name: sorted(getattr(self, name)) for name in names}


def cores_at_hand() -> Cores:
    """Divide the cores of this process. Raises CannotRunError where there is only one."""
    usable = sorted(os.sched_getaffinity(0))  # noqa: TID251 - which cores, not how many
    if len(usable) < 2:
        raise CannotRunError("needs two cores: one for the gateway, one for clients and models' server")
    every = frozenset(usable)
    if len(usable) < 4:
        one, other = frozenset(usable[:1]), frozenset(usable[1:2])
        return Cores(one, every, other, other, every)
    last = frozenset(usable[3:4])
    return Cores(frozenset(usable[:1]), frozenset(usable[:2]), frozenset(usable[2:3]), last, frozenset(usable[2:4]))


@contextmanager
def on_cores(cores: frozenset[int]) -> Iterator[None]:
    """Run this process, and what it starts meanwhile, on these cores."""
    before = os.sched_getaffinity(0)  # noqa: TID251 - which cores, not how many
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True, slots=True)
class Launch:
    """How a server is started and asked.

    Attributes:
        command: The command.
        port: Where it listens then; CHOSEN_BY_SERVER where it chooses itself, and says so at once.
        model: The model's name in requests to it.
        path: The path of chat completions.
        environment: Further environment variables.
    """

    command: Sequence[str]
    port: int
    model: str
    path: str = "/v1/chat/completions"
    environment: Mapping[str, str] | None = None

    def request(self, text: str, **fields: Any) -> bytes:
        """Return a request for a chat completion of one message."""
        return request_of(self.path, {"model": self.model, "messages": [{"role": "user", "content": text}], **fields})


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs.

    Attributes:
        launch: How it was started.
        port: Where it listens.
        pid: Its process.
        ready_s: Seconds from its start to its first answer.
    """

    launch: Launch
    port: int
    pid: int
    ready_s: float


@contextmanager
def running(name: str, launch: Launch, cores: frozenset[int], folder: Path) -> Iterator[Running]:
    """Run a server until the block ends.

    Raises:
        PeerMissingError: It cannot be started, or does not answer.
    """
    log = folder / f"{name.replace('/', '-')}.log"
    began = time.perf_counter()
    with log.open("wb") as file, on_cores(cores):
        try:
            process = subprocess.Popen(
                launch.command, stdin=subprocess.PIPE, stdout=file, stderr=file, cwd=folder,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY), **(launch.environment or {})},
            )  # fmt: skip
        except OSError as error:
            raise PeerMissingError(f"{launch.command[0]} cannot be started: {error.strerror}") from error
    try:
        port = _port_where_it_answers(process, launch, log, name)
        yield Running(launch, port, process.pid, time.perf_counter() - began)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _port_where_it_answers(process: subprocess.Popen[bytes], launch: Launch, log: Path, name: str) -> int:
    deadline = time.monotonic() + _START_S
    reason = ""
    while time.monotonic() < deadline:
        said = _ADDRESS.search(log.read_bytes()) if launch.port == CHOSEN_BY_SERVER else None
        port = int(said[1]) if said else launch.port
        try:
            connection = Connection(port)
            try:
                connection.ask(launch.request("hello"))
                return port
            finally:
                connection.close()
        except OSError as error:
            reason = str(error)
        if process.poll() is not None:
            break
        time.sleep(0.02)
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"]
    state = "does not answer" if process.poll() is None else f"ended with status {process.returncode}"
    raise PeerMissingError(f"{name} {state} ({reason}); its last line: {lines[-1][:300]}")


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def upstream() -> Launch:
    """Return how the models' server is started, which answers every request alike."""
    port = free_port()
    return Launch([sys.executable, "-m", "tests.support.upstream", "--port", str(port)], port, "model")
