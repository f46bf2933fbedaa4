"""The backends that are measured, and model repositories and servers that hold them."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import routellm_fast as rf
from benchmarks.harness.command import CannotRunError
from benchmarks.harness.places import REPOSITORY
from benchmarks.triton.names import TRITON_OURS, TRITON_PYTHON, TRITON_TRIVIAL
from routellm_fast.serving import triton_backend_directory
from tests.support.triton_server import Server

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


class Contenders:
    """Backends by name, and servers of some or all of them.

    Attributes:
        backends: What each name's models have as their backend.
        missing: Why a contender takes no part, by name.
    """

    def __init__(self, folder: Path, environment: Path, router: rf.Router) -> None:
        """Build the trivial backend.

        Args:
            folder: Where it is built, and where model repositories are written to.
            environment: The server's, as `make triton-env` makes it.
            router: What our backend and the Python backend run.

        Raises:
            CannotRunError: There is no server in that environment.
        """
        if not (environment / "bin" / "tritonserver").exists():
            raise CannotRunError(
                f"needs a Triton Inference Server in {environment}: `make triton-env` makes one, --environment names "
                "another"
            )
        self._folder, self._environment, self._router = folder, environment, router
        self._libraries = {
            "routellm": triton_backend_directory() / "routellm",
            "trivial": build_trivial_backend(folder),
        }
        self.missing: dict[str, str] = {}
        self.backends = {TRITON_OURS: "routellm", TRITON_TRIVIAL: "trivial", TRITON_PYTHON: "python"}
        if not has_python_model(environment):
            self.missing[TRITON_PYTHON] = "the server's environment has no routellm-fast: `make triton-env` installs it"
            del self.backends[TRITON_PYTHON]

    def server(self) -> Server:
        """Return a server of all contenders, ready; to be closed."""
        server = self.unstarted(self.backends.values(), BATCHING)
        server.restart()
        return server

    def unstarted(self, backends: Iterable[str], batchings: Iterable[str]) -> Server:
        """Return a server with one model for each backend and way of batching, not started."""
        repository = Path(tempfile.mkdtemp(dir=self._folder, prefix="repository-"))
        ways = list(batchings)
        for backend in backends:
            for batching in ways:
                self._write(repository, backend, batching)
        return Server(self._environment, repository, self._libraries, None, (), {})

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


def build_trivial_backend(folder: Path) -> Path:
    """Compile the trivial backend; return the folder of its library."""
    out = folder / "trivial"
    out.mkdir()
    command = [os.environ.get("CXX", "g++"), "-std=c++20", "-O2", "-fPIC", "-shared", "-fvisibility=hidden"]
    command += [f"-I{REPOSITORY / 'csrc' / 'triton'}", str(Path(__file__).with_name("trivial_backend.cpp"))]
    subprocess.run([*command, "-o", str(out / "libtriton_trivial.so")], check=True)
    return out


def has_python_model(folder: Path) -> bool:
    done = subprocess.run([folder / "bin" / "python", "-c", _PYTHON_MODEL], capture_output=True, check=False, cwd="/")
    return done.returncode == 0
