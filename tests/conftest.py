from __future__ import annotations

import os
import platform
import socket
from pathlib import Path

import numpy as np
import pytest

from routellm_fast import _core
from routellm_fast.errors import MissingExtraError

REPOSITORY = Path(__file__).resolve().parent.parent

# A worker of pytest-xdist inherits the size that readline makes up where there is no terminal: what programs print to a
# pipe would then have another width than without workers.
for _size in ("COLUMNS", "LINES"):
    os.environ.pop(_size, None)


def pytest_report_header() -> list[str]:
    isas = ", ".join(_core.supported_isas())
    machine = f"numpy {np.__version__}, {platform.machine()}"
    return [f"routellm-fast {_core.__version__}, {_core.active_isa()} of {isas}; {machine}"]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data, which is no part of the project."""
    folder = Path(os.environ.get("ROUTELLM_FAST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs the data folder at {folder} (ROUTELLM_FAST_DATA names another)")
    return folder


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are written as where matplotlib is not installed: pictures take seconds."""
    from routellm_fast.adaptation import report

    def missing(*_: object, **__: object) -> object:
        raise MissingExtraError("matplotlib is not installed")

    monkeypatch.setattr(report, "draw_plot", missing)


@pytest.fixture(params=_core.supported_isas())
def isa(request: pytest.FixtureRequest) -> str:
    """Each kernel tier that this machine can run."""
    return str(request.param)


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches beyond this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = str(address[0]) if isinstance(address, tuple) else str(address)
            if not (host.startswith("127.") or host in ("localhost", "::1")):
                raise OSError(f"tests connect to loopback only, not to {host}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def no_server_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The environment of a user who has set nothing: no keys, no addresses, no proxies."""
    # No certificates: the loopback needs none, and reading the system's takes long for every client.
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path_factory.getbasetemp()))
    proxies = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]
    for name in [*(key for key in os.environ if key.startswith("OPENAI_")), *proxies, *map(str.lower, proxies)]:
        monkeypatch.delenv(name, raising=False)
