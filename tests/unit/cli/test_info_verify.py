from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.artifact import ROUTER_LAYOUT, Artifact, read_artifact, write_artifact
from routellm_fast.cli import main
from routellm_fast.routers import RandomRouter
from tests.support.builders import PAIR, mf_router
from tests.support.processes import assert_refused, run_cli


@pytest.fixture
def router(tmp_path: Path) -> Path:
    path = tmp_path / "router"
    RandomRouter(PAIR).save(path)
    manifest = read_artifact(path, ROUTER_LAYOUT).manifest
    write_artifact(path, Artifact(manifest, {}, mapped={"bank": np.ones((300, 4), np.float32)}), ROUTER_LAYOUT)
    return path


def test_info_names_mapped_tensors(router: Path) -> None:
    facts = json.loads(run_cli("info", str(router), "--json").stdout)
    assert facts["tensors"] == {"bank": "float32 (300, 4), mapped"}
    assert facts["tensor bytes"] == 4800
    assert "verified" not in facts


def test_info_verifies_every_byte_on_request_and_says_so_in_one_line(router: Path) -> None:
    run = run_cli("info", str(router), "--verify")
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    lines = [line for line in run.stdout.splitlines() if "verified" in line]
    assert len(lines) == 1
    assert "8,896 bytes: every digest as recorded, every weight finite" in lines[0]
    assert "8,896 bytes" in json.loads(run_cli("info", str(router), "--verify", "--json").stdout)["verified"]
    assert run_cli("info", "--verify").returncode == 0


def test_damage_that_loading_does_not_look_for_is_one_line_and_exit_status_two(router: Path) -> None:
    with (router / "bank.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\1")
    assert run_cli("info", str(router)).returncode == 0
    assert_refused(run_cli("info", str(router), "--verify"), "bank.safetensors", "sha256")


@pytest.mark.parametrize("slow", [True, False])
def test_a_bar_is_shown_on_a_terminal_where_verifying_takes_long(router: Path, slow: bool) -> None:
    program = (
        "import sys; from pathlib import Path; from routellm_fast.cli import _info\n"
        f"_info._QUIET_S = {0.0 if slow else 60.0}\n"
        "_info._verify(Path(sys.argv[1]))"
    )
    leader, follower = pty.openpty()
    try:
        run = subprocess.run(
            [sys.executable, "-c", program, str(router)],
            stderr=follower,
            env={**os.environ, "TERM": "xterm"},
            timeout=60,
        )
        os.write(follower, b"end")
        shown = b""
        while not shown.endswith(b"end"):
            shown += os.read(leader, 65536)
    finally:
        os.close(leader)
        os.close(follower)
    assert run.returncode == 0, shown
    assert (b"verifying" in shown) == slow


def test_a_share_that_no_threshold_yields_is_not_shown_as_if_one_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flat = rf.Calibration.from_win_rates(np.full(1000, 0.5, np.float32), dataset="flat")
    mf_router(calibration=flat).save(tmp_path / "router")
    assert main(["info", str(tmp_path / "router"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["thresholds"]["25 % strong share"] == "none: 0.50000 sends 99.9%"
