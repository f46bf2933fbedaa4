"""RouteLLM 0.2.0 itself and this package, asked the same: same answers, same errors, same bodies at the upstream.

`make routellm-env` makes its environment; ROUTELLM_FAST_ROUTELLM names another, and ROUTELLM_FAST_ROUTELLM_REQUIRED=1
makes a missing one a failure.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.support.fake_chat import FakeChat
from tests.support.fake_openai import FakeOpenAI

REPOSITORY = Path(__file__).resolve().parents[2]
CALLS = Path(__file__).with_name("calls.py")
STRONG, WEAK = "openai/strong-model", "openai/weak-model"


@pytest.fixture(scope="module")
def routellm() -> str:
    """The python of an environment that has RouteLLM."""
    folder = Path(os.environ.get("ROUTELLM_FAST_ROUTELLM", REPOSITORY / "build" / "routellm-env"))
    if not (folder / "bin" / "python").is_file():
        reason = f"no environment with RouteLLM at {folder}: make routellm-env"
        if os.environ.get("ROUTELLM_FAST_ROUTELLM_REQUIRED") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return str(folder / "bin" / "python")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An mf router as RouteLLM saves one: its 64 models, of fewer dimensions than the published ones."""
    folder = tmp_path_factory.mktemp("mf")
    rng = np.random.default_rng(5)
    shapes = {"P.weight": (64, 16), "text_proj.0.weight": (16, 1536), "classifier.0.weight": (1, 16)}
    weights = {name: (0.3 * rng.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}
    save_file(weights, folder / "model.safetensors")
    return folder


class Run(NamedTuple):
    """What came of the calls, and what the upstream was sent."""

    results: dict[str, Any]
    bodies: list[dict[str, Any]]
    keys: set[str]


def runs_of(python: str, checkpoint: Path, *controllers: tuple[str, dict[str, Any]]) -> list[Run]:
    """Make the calls to each Controller, a module and arguments, one after the other in one process."""
    with FakeOpenAI(1536) as embeddings, contextlib.ExitStack() as stack:
        chats = [stack.enter_context(FakeChat()) for _ in controllers]
        arguments = {
            "routers": ["random", "mf"],
            "strong_model": STRONG,
            "weak_model": WEAK,
            "config": {"mf": {"checkpoint_path": str(checkpoint), "hidden_size": 16}},
            "mf_thresholds": [0.2, 0.4, 0.5, 0.6, 0.8],
        }
        asked = [
            (module, {**arguments, "api_base": chat.url, **own})
            for (module, own), chat in zip(controllers, chats, strict=True)
        ]
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ},
            "OPENAI_API_KEY": "sk-of-the-environment",  # RouteLLM does not import without one
            "OPENAI_BASE_URL": embeddings.url,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "OMP_NUM_THREADS": "1",
        }
        command = [python, "-W", "ignore", str(CALLS), json.dumps(asked)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        lines = [line for line in done.stdout.splitlines() if line.startswith("RESULTS ")]
        return [
            Run(
                json.loads(line.removeprefix("RESULTS ")),
                chat.bodies,
                {head.split("authorization: bearer ")[1].split("\r")[0] for head in chat.heads},
            )
            for line, chat in zip(lines, chats, strict=True)
        ]


@pytest.fixture(scope="module")
def runs(routellm: str, checkpoint: Path) -> dict[str, Run]:
    """RouteLLM and this package through LiteLLM, in one environment; through the openai package in this one."""
    ours = "routellm_fast.controller"
    theirs, by_litellm = runs_of(
        routellm,
        checkpoint,
        ("routellm.controller", {"api_key": "given-key"}),
        (ours, {"strong_api_key": "own-key", "upstream": "litellm"}),
    )
    (by_openai,) = runs_of(sys.executable, checkpoint, (ours, {"strong_api_key": "own-key", "upstream": "openai"}))
    return {"routellm": theirs, "litellm": by_litellm, "openai": by_openai}


def without_what_litellm_drops(bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """LiteLLM leaves `user` out for models that it does not know, and a message's content where it is null."""

    def kept(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{key: value for key, value in message.items() if value is not None} for message in messages]

    return [
        {key: kept(value) if key == "messages" else value for key, value in body.items() if key != "user"}
        for body in bodies
    ]


def test_what_came_of_the_calls_is_worth_comparing(runs: dict[str, Run]) -> None:
    theirs = runs["routellm"]
    results = theirs.results
    errors = [entry for entry in results["wrong"] if entry[0] == "RoutingError"]
    assert len(errors) == len(results["wrong"])
    assert len({text for _, text in errors}) >= 10
    assert {entry[0] for entry in results["right"]} == {"strong-model", "weak-model"}
    assert len(set(results["route"])) == len(set(results["mf routes"])) == 2
    assert all(len(models) == 2 for router, models in results["counts"].items() if router == "random")
    assert theirs.keys == {"given-key"}


@pytest.mark.parametrize("upstream", ["litellm", "openai"])
def test_the_same_calls_have_the_same_results(runs: dict[str, Run], upstream: str) -> None:
    theirs, ours = runs["routellm"], runs[upstream]
    for what, expected in theirs.results.items():
        if what == "mf win rates":  # float32, added in another order
            assert ours.results[what] == pytest.approx(expected, abs=1e-5)
        else:
            assert ours.results[what] == expected, what
    if upstream == "litellm":
        assert ours.bodies == theirs.bodies
    else:
        assert without_what_litellm_drops(ours.bodies) == without_what_litellm_drops(theirs.bodies)
        assert ours.bodies != theirs.bodies  # it drops nothing itself
    # LiteLLM alone would have sent the environment's key of OpenAI with the weak model's chats.
    assert ours.keys == {"own-key", "none"}
