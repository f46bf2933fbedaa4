from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from routellm_fast import extras
from routellm_fast.errors import MissingExtraError, OnnxRuntimesWarning, ProviderUnavailableError
from tests.support.builders import bert_router

REPOSITORY = Path(__file__).resolve().parents[2]
PYPROJECT = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
SECTION = PYPROJECT.split("[project.optional-dependencies]")[1].split("\n[")[0]
EXTRAS = re.findall(r"^([a-z-]+) = ", SECTION, re.MULTILINE)


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_error_names_commands_that_work_without_a_release(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "some_library", None)
    with pytest.raises(MissingExtraError, match="some_library is not installed") as caught:
        extras.require("some_library", extra)
    message = str(caught.value)
    assert f"'.[{extra}]'" in message
    assert "routellm-fast[" not in message  # no index holds it
    (line,) = re.findall(rf"^{re.escape(extra)} = \[(.*?)\]$", PYPROJECT, re.MULTILINE | re.DOTALL)
    command = message.split("its packages alone: pip install ")[1].split(". Only one", maxsplit=1)[0]
    packages = shlex.split(command.rstrip("."))
    # The brackets of a requirement's own extras end the pattern above early; its first packages are enough.
    assert re.findall(r'"([^"\[]+)', line)[0] in " ".join(packages)


def test_extras_that_pip_cannot_install_plainly_say_so() -> None:
    assert "--extra-index-url https://pypi.nvidia.com" in extras.how_to_install("tensorrt")
    for extra in ("gpu", "onnx", "transformers"):
        assert "Only one of onnxruntime and onnxruntime-gpu may be installed" in extras.how_to_install(extra)
    assert "onnxruntime" not in extras.how_to_install("train")


def test_two_onnx_runtimes_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    from routellm_fast.onnx import session

    monkeypatch.setattr(session, "onnx_runtimes", lambda: ("onnxruntime", "onnxruntime-gpu"))
    with pytest.warns(OnnxRuntimesWarning, match="onnxruntime and onnxruntime-gpu are installed.*pip uninstall"):
        router = bert_router()
    with (
        pytest.warns(OnnxRuntimesWarning),
        pytest.raises(ProviderUnavailableError, match="onnxruntime and onnxruntime-gpu are installed"),
    ):
        session.OnnxSession(router.onnx_graph(), device="cuda")


def test_the_installed_runtime_is_found() -> None:
    pytest.importorskip("onnxruntime")
    extras.onnx_runtimes.cache_clear()
    assert extras.onnx_runtimes()
