"""A real language model on the loopback, behind a real server, from the environment of `make models-env`.

    with served_model("smollm2") as url:  # an address of OpenAI's API
        ...

ROUTELLM_FAST_MODELS_ENV names an environment elsewhere. Without one, tests are skipped, unless
ROUTELLM_FAST_MODELS_REQUIRED is 1.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
START_S = 120.0
STOP_S = 20.0


def environment() -> Path:
    """The environment's folder; skips, or fails where the models are required, if there is none."""
    folder = Path(os.environ.get("ROUTELLM_FAST_MODELS_ENV") or REPOSITORY / "build" / "models-env")
    if not list(folder.glob("lib/python*/site-packages/xllamacpp/__init__.py")):
        reason = f"no small language model at {folder}: `make models-env` makes one"
        if os.environ.get("ROUTELLM_FAST_MODELS_REQUIRED") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@contextlib.contextmanager
def served_model(name: str) -> Iterator[str]:
    """Serve SmolLM2-135M-Instruct under a name, in a process of its own; yields the address when it answers.

    The address ends in /v1.

    Raises:
        AssertionError: The server ended, or was not ready in time; with its log.
    """
    python = environment() / "bin" / "python"
    with tempfile.TemporaryDirectory(prefix="small-model-") as home:
        address, log = Path(home) / "address", Path(home) / "log"
        command = [python, REPOSITORY / "tests" / "support" / "small_model_server.py", name, address]
        with (
            log.open("wb") as output,
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output, cwd=home) as process,
        ):
            try:
                yield f"{_ready(process, address, log)}/v1"
            finally:
                _stop(process)


def _ready(process: subprocess.Popen[bytes], address: Path, log: Path) -> str:
    deadline = time.monotonic() + START_S
    while True:
        said = log.read_text(encoding="utf-8", errors="replace")
        assert process.poll() is None, f"the model's server ended with {process.returncode}:\n{said}"
        assert time.monotonic() < deadline, f"the model's server was not ready in {START_S:g} s:\n{said}"
        if address.exists():
            url = address.read_text(encoding="utf-8")
            with contextlib.suppress(OSError), opened(f"{url}/health") as reply:
                if reply.status == 200:
                    return url
        time.sleep(0.02)


def opened(request: str | urllib.request.Request, timeout_s: float = 300.0):
    """Ask a server on the loopback, through no proxy."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=timeout_s)


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
