"""A real Triton Inference Server on the loopback, from the environment that `make triton-env` makes.

    with start(repository) as server:
        server.http_url, server.grpc_url, server.metrics_url
        server.stop(); server.restart(); server.kill_stubs("router"); server.log()

ROUTELLM_FAST_TRITON_ENV names an environment elsewhere. Without one, tests are skipped, unless
ROUTELLM_FAST_TRITON_REQUIRED is 1.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
START_S = 120.0
STOP_S = 60.0


def environment() -> Path:
    """The environment's folder; skips, or fails where the server is required, if there is none."""
    folder = Path(os.environ.get("ROUTELLM_FAST_TRITON_ENV") or REPOSITORY / "build" / "triton-env")
    if not (folder / "bin" / "tritonserver").exists():
        reason = f"no Triton Inference Server at {folder}: `make triton-env` makes one"
        if os.environ.get("ROUTELLM_FAST_TRITON_REQUIRED") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


def start(
    repository: Path,
    *,
    backends: Mapping[str, Path] | None = None,
    explicit: Sequence[str] | None = None,
    options: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> Server:
    """Start a server and wait until it is ready.

    Args:
        repository: The model repository.
        backends: Backends beside the Python one, by name: each a folder that holds libtriton_NAME.so.
        explicit: Loads only these models, and lets them be loaded and unloaded later (explicit model control).
        options: Further arguments of tritonserver.
        variables: Further environment variables.

    Raises:
        AssertionError: It ended, or was not ready in time; with its log.
    """
    server = Server(environment(), repository, backends or {}, explicit, options, variables or {})
    try:
        server.restart()
    except BaseException:
        server.__exit__(None, None, None)
        raise
    return server


class Server:
    """A process of tritonserver; a context manager that ends it. Its ports stay the same over restarts."""

    def __init__(
        self,
        folder: Path,
        repository: Path,
        backends: Mapping[str, Path],
        explicit: Sequence[str] | None,
        options: Sequence[str],
        variables: Mapping[str, str],
    ) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="triton-")
        self._folder, self._repository = folder, repository
        self._log = Path(self._home.name) / "log"
        self._process: subprocess.Popen[bytes] | None = None
        linked = Path(self._home.name) / "backends"
        linked.mkdir()
        for name, backend in {"python": folder / "backends" / "python", **backends}.items():
            (linked / name).symlink_to(backend)
        self.http_port, self.grpc_port, self.metrics_port = _free_ports(3)
        self._command = [
            str(folder / "bin" / "tritonserver"),
            f"--model-repository={repository.resolve()}",
            f"--backend-directory={linked}",
            f"--cache-directory={folder / 'caches'}",
            *(f"--{what}-address=127.0.0.1" for what in ("http", "grpc", "metrics")),
            f"--http-port={self.http_port}",
            f"--grpc-port={self.grpc_port}",
            f"--metrics-port={self.metrics_port}",
            "--allow-gpu-metrics=false",
            "--exit-timeout-secs=5",
            *([] if explicit is None else ["--model-control-mode=explicit"]),
            *(f"--load-model={name}" for name in explicit or ()),
            *options,
        ]
        # The stub takes its packages from the first Python on PATH, and needs that one's library.
        python = subprocess.run(
            [folder / "bin" / "python", "-c", "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"],
            capture_output=True,
            text=True,
            check=True,
        )
        self._variables = {
            **{name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")},
            "PATH": os.pathsep.join([str(folder / "bin"), os.environ.get("PATH", "")]),
            "LD_LIBRARY_PATH": python.stdout.strip(),
            **variables,
        }

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def grpc_url(self) -> str:
        return f"grpc://127.0.0.1:{self.grpc_port}"

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self.metrics_port}/metrics"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is stopped"
        return self._process.pid

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def restart(self) -> None:
        """Stop the server where it runs, and start it at the same ports."""
        self.stop()
        with self._log.open("ab") as log:
            # Python models import from the working directory first: not from this checkout.
            self._process = subprocess.Popen(
                self._command, cwd=self._home.name, env=self._variables, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_S
        while not self._is_ready():
            assert self.is_running(), f"tritonserver ended with {self._process.returncode}:\n{self.log()}"
            if time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"tritonserver was not ready in {START_S:g} s:\n{self.log()}")
            time.sleep(0.05)

    def stop(self, *, kill: bool = False) -> None:
        """End the server, in order or by SIGKILL."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGKILL if kill else signal.SIGINT)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill_stubs(self, model: str) -> int:
        """Kill -9 the processes that run a Python model; return how many there were."""
        killed = 0
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                words = (process / "cmdline").read_bytes().split(b"\0") if process.name.isdigit() else []
                stub = bool(words) and words[0].endswith(b"triton_python_backend_stub")
                # Only our own server's stubs: others may run a model of that name.
                if stub and self._is_ours(process) and any(f"/{model}/".encode() in word for word in words):
                    os.kill(int(process.name), signal.SIGKILL)
                    killed += 1
        return killed

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    def metrics(self) -> str:
        with urllib.request.urlopen(self.metrics_url, timeout=10) as reply:
            return reply.read().decode()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._home.cleanup()

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.http_url}/v2/health/ready", timeout=5) as reply:
                return reply.status == 200
        except OSError:
            return False

    def _is_ours(self, process: Path) -> bool:
        status = (process / "stat").read_text()
        return int(status.rpartition(")")[2].split()[1]) == self.pid


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
