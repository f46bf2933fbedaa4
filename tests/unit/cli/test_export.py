from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.processes import assert_refused, run_cli


@pytest.mark.parametrize("device", ["tpu", "auto", "CPU"])
def test_a_device_that_runs_no_graph_is_refused(tmp_path: Path, device: str) -> None:
    run = run_cli("export", "triton", "mf", str(tmp_path / "out"), "--mode", "onnx", "--device", device)
    assert_refused(run, f"device is one of cpu, cuda, found {device!r}")
