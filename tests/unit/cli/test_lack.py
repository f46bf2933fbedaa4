"""What is said where a process lacks memory, threads, files or a locale."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from routellm_fast.cli import _route, main
from routellm_fast.cli._lack import lack_of
from routellm_fast.memory import ask_for
from tests.support.builders import mf_router
from tests.support.processes import assert_refused, run_cli, without_progress


@pytest.fixture
def router(tmp_path: Path) -> Path:
    mf_router().save(tmp_path / "router")
    return tmp_path / "router"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "not enough memory: give the process more"),
        (MemoryError("std::bad_alloc"), "not enough memory (std::bad_alloc)"),
        (ImportError("x.so: failed to map segment from shared object"), "not enough memory (x.so"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "not enough memory"),
        (RuntimeError("can't start new thread"), "no further thread can be started"),
        (RecursionError("maximum recursion depth exceeded"), "what was read is nested too deeply"),
        (OSError(24, "Too many open files"), "too many files are open"),
    ],
)
def test_a_lack_is_one_line_and_exit_status_two(
    router: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(_route, "load_router", fail)
    assert main(["route", "--router", str(router), "hello"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"routellm-fast: {words}")
    assert captured.err.count("\n") == 1


def test_other_errors_are_not_called_a_lack(router: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lack_of(RuntimeError("a bug")) is None
    assert lack_of(FileNotFoundError(2, "No such file")) is None

    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(_route, "load_router", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["route", "--router", str(router), "hello"])


def test_no_further_thread_is_no_matter(
    router: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    assert main(["route", "--router", str(router), "hello"]) == 0
    assert "1 prompt" in capsys.readouterr().out


def test_little_memory_is_said_before_the_libraries_are_loaded(router: Path) -> None:
    """Where a library cannot be loaded, too. (With less, Python and numpy end before this package is asked.)"""
    said = []
    for mib in (200, 220):
        run = subprocess.run(
            [sys.executable, "-m", "routellm_fast", "info", str(router)],
            capture_output=True,
            text=True,
            preexec_fn=lambda mib=mib: resource.setrlimit(resource.RLIMIT_AS, (mib << 20, mib << 20)),  # type: ignore[misc]
        )
        errors = without_progress(run.stderr)
        if "OpenBLAS" in errors:  # it ends the process itself
            continue
        assert "Traceback" not in errors
        assert run.returncode in (0, 2)
        said.append(errors)
    assert all(not errors or errors.startswith("routellm-fast: not enough memory") for errors in said)


def test_an_array_that_is_too_large_is_not_enough_memory() -> None:
    with pytest.raises(MemoryError) as found:
        np.empty(1 << 59, dtype=np.uint8)
    assert "not enough memory (Unable to allocate" in str(lack_of(found.value))


def test_memory_is_asked_for_before_a_library_ends_the_process() -> None:
    ask_for(1000)
    with pytest.raises(MemoryError):
        ask_for(1 << 60)


def test_letters_that_python_cannot_read_are_refused_by_name(tmp_path: Path, router: Path) -> None:
    """In the C locale without UTF-8 mode, Python hands on arguments garbled."""
    c_locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    run = run_cli("route", "café", environment=c_locale)
    assert_refused(run, r"garbles 'caf\xe9': set LC_ALL=C.UTF-8")
    named = tmp_path / "café"
    router.rename(named)
    assert run_cli("route", "--router", str(named), "hello", environment=c_locale).returncode == 0
    assert run_cli("route", "hello", environment=c_locale).returncode == 0
    assert run_cli("route", "café", environment={"LC_ALL": "C"}).returncode == 0
