from __future__ import annotations

import pytest

from routellm_fast.cli._devices import DEVICES, named_device
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.onnx import session
from tests.support.processes import assert_refused, run_cli


def test_commands_and_functions_share_one_vocabulary() -> None:
    assert DEVICES == session.DEVICES
    assert [named_device(name) for name in DEVICES] == list(DEVICES)


def test_an_old_name_is_the_new_one() -> None:
    assert named_device("gpu") == named_device("gpu", ("cpu", "cuda")) == "cuda"
    with pytest.raises(InvalidArgumentError, match="one of cpu, found 'gpu'"):
        named_device("gpu", ("cpu",))


@pytest.mark.parametrize("device", ["tpu", "auto", "CPU"])
def test_a_command_refuses_what_it_cannot_use(tmp_path, device: str) -> None:
    run = run_cli("export", "triton", "mf", str(tmp_path / "out"), "--mode", "onnx", "--device", device)
    assert_refused(run, f"--device must be one of cpu, cuda, found {device!r}")
