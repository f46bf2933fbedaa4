from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from routellm_fast.cli import _progress
from tests.support.builders import mf_router
from tests.support.processes import assert_refused, run_cli, without_progress

PROGRAM = f"{shlex.quote(sys.executable)} -m routellm_fast"
FULL = Path("/dev/full")
RANK = "rank --models gpt-4-1106-preview=10 --models mistral-7b-instruct-v0.2=1"


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("streams") / "router"
    mf_router().save(path)
    return path


@pytest.fixture(scope="module")
def drifted(router: Path) -> Path:
    """Prompts that the router's calibration knows nothing like."""
    path = router.parent / "drifted.txt"
    path.write_text("prove the a b c ?\n" * 500)
    return path


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    run = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, cwd="/", env={**os.environ, **environment}, timeout=300
    )
    run.stderr = without_progress(run.stderr)
    return run


# One that prints by each way there is: rows, a table of rich, click's own help, JSON.
COMMANDS = ["route hi", f"{RANK} hi", "info", "--help", "calibrate mf {drifted} --check --json"]


@pytest.mark.skipif(not FULL.exists(), reason="this machine has no /dev/full")
@pytest.mark.parametrize("command", COMMANDS)
def test_an_output_that_takes_nothing_is_one_line_and_exit_status_two(
    router: Path, drifted: Path, command: str
) -> None:
    command = command.format(router=router, drifted=drifted)
    run = shell(f"{PROGRAM} {command} > /dev/full")
    assert_refused(run, "standard output cannot be written (No space left on device)")
    assert_refused(shell(f"{PROGRAM} {command} >&-"), "standard output cannot be written (it is closed)")


def test_a_long_output_that_takes_nothing_ends_at_once() -> None:
    run = shell(f"yes hello | {PROGRAM} route --jsonl > /dev/full")
    assert_refused(run, "No space left on device")


def test_a_closed_input_is_named_where_it_is_read_and_not_minded_elsewhere(router: Path) -> None:
    for command in ("route", RANK, f"calibrate {router} -"):
        assert_refused(shell(f"{PROGRAM} {command} <&-"), "standard input is closed")
    run = shell(f"{PROGRAM} route hi <&-")
    assert (run.returncode, run.stderr) == (0, "")
    assert "1 prompt, to the" in run.stdout
    assert "1 prompt; win rates" in shell(f"{PROGRAM} {RANK} hi <&-").stdout


@pytest.mark.parametrize("errors", ["2>&-", "2>/dev/full"])
def test_where_no_error_can_be_said_the_exit_status_says_it(errors: str) -> None:
    for command in ("route --threshold 7 hi", "--nonsense", "route <&-", "route hi >&-"):
        run = shell(f"{PROGRAM} {command} {errors}")
        assert (run.returncode, run.stderr) == (2, ""), command
    assert shell(f"{PROGRAM} route hi {errors}").returncode == 0
    assert shell(f"{PROGRAM} route hi <&- >&- {errors}").returncode == 2


def test_a_closed_stream_s_number_goes_to_no_file(router: Path) -> None:
    """What a library prints would otherwise end up in the first file that is opened."""
    program = (
        "import os, sys; from routellm_fast.cli import main; status = main(sys.argv[1:]);"
        "file = os.open(sys.argv[2], os.O_RDONLY); sys.exit(0 if file > 2 else 9)"
    )
    run = shell(f"{shlex.quote(sys.executable)} -c {shlex.quote(program)} info {router} <&- >&- 2>&-")
    assert run.returncode == 0


@pytest.mark.parametrize("command", ["route", RANK])
def test_a_reader_that_goes_away_is_no_error(command: str) -> None:
    run = shell(f"yes | head -50000 | {PROGRAM} {command} | head -1; echo ${{PIPESTATUS[2]}}")
    assert run.stderr == ""
    assert run.stdout.splitlines()[-1] == "0"


@pytest.mark.parametrize("command", COMMANDS)
def test_where_nobody_reads_from_the_start_the_exit_status_is_that_of_the_work(
    router: Path, drifted: Path, command: str
) -> None:
    arguments = command.format(router=router, drifted=drifted).split()
    reader, writer = os.pipe()
    os.close(reader)
    run = subprocess.run(
        [sys.executable, "-m", "routellm_fast", *arguments], stdout=writer, stderr=subprocess.PIPE, cwd="/"
    )
    os.close(writer)
    assert (run.returncode, run.stderr) == (1 if "--check" in command else 0, b"")


def test_json_is_utf_8_whatever_the_locale_says() -> None:
    prompt = "café 漢字 \N{GRINNING FACE}"
    for environment in (
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "ascii:strict"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ):
        stdin = prompt + "\n"
        run = run_cli("route", "--jsonl", stdin=stdin, environment=environment)
        assert json.loads(run.stdout)["prompt"] == prompt
        for arguments in (["route"], RANK.split()):
            assert prompt in run_cli(*arguments, stdin=stdin, environment=environment).stdout


@pytest.mark.parametrize("command", ["route --jsonl", RANK])
def test_somebody_at_a_terminal_is_told_what_is_waited_for(command: str) -> None:
    master, slave = pty.openpty()
    with (
        os.fdopen(master, "wb", buffering=0) as terminal,
        subprocess.Popen(
            [sys.executable, "-m", "routellm_fast", *command.split()],
            stdin=slave,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
        ) as process,
    ):
        os.close(slave)
        assert process.stderr is not None
        told = process.stderr.readline().decode()
        assert told == "routellm-fast: type a prompt and press Enter for each; Ctrl-D ends the input\n"
        terminal.write(b"hello\n\x04")
        assert process.wait() == 0
        assert process.stderr.read() == b""


# --- runs that take long


def test_a_long_run_says_what_it_does(router: Path) -> None:
    program = (
        "import sys; from routellm_fast.cli import _progress, main; _progress.FIRST_LINE_S = 0.01; sys.exit(main())"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, "route", "--router", str(router), "--jsonl"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None

        def next_line_with(words: str) -> None:
            while words not in (line := process.stderr.readline().decode()):  # type: ignore[union-attr]
                assert line.startswith("routellm-fast: "), line

        next_line_with("waiting for prompts on standard input (")
        process.stdin.write(b"hello\nprove\n")
        process.stdin.flush()
        assert process.stdout.readline()
        next_line_with("prompts routed, 2 (")
        process.stdin.close()
        process.stdout.read()
    assert process.returncode == 0


def test_a_short_run_says_nothing(router: Path) -> None:
    for arguments in (["route", "--router", str(router), "hi"], ["info", str(router), "--verify"]):
        assert run_cli(*arguments).stderr == ""


def test_progress_without_a_terminal_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader) as lines, os.fdopen(writer, "w") as errors:
        monkeypatch.setattr(sys, "stderr", errors)
        monkeypatch.setattr(_progress, "FIRST_LINE_S", 0.01)
        with _progress.told_when_long(), _progress.progress_bar("reading") as move:
            assert lines.readline().startswith("routellm-fast: reading (0 s)")
            move("scoring prompts", 3_000, 10_000)
            while "scoring" not in (line := lines.readline()):
                pass
            assert line.startswith("routellm-fast: scoring prompts, 3,000 of 10,000 (")
            with _progress.busy("writing"):
                while not lines.readline().startswith("routellm-fast: writing ("):
                    pass
