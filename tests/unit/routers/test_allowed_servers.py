"""An address out of a router directory is asked only where whoever loads the router allows it."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.cli import main
from tests.support.builders import mf_router
from tests.support.fake_openai import FakeOpenAI

_LOADING_COMMANDS = (
    ["route", "--router", "{router}", "a prompt", "--threshold", "0.5"],
    ["rank", "--router", "{router}", "--models", "a=1", "--models", "b=2", "a prompt"],
    ["calibrate", "{router}", "{prompts}", "--check"],
    ["evaluate", "{router}", "--golden", "{prompts}"],
    ["export", "onnx", "{router}", "{out}"],
    ["export", "tensorrt", "{router}", "{out}"],
    ["export", "triton", "{router}", "{out}", "--default-threshold", "0.5"],
)


@pytest.fixture
def server():
    with FakeOpenAI(8) as started:
        yield started


@pytest.fixture
def directory(server: FakeOpenAI, tmp_path: Path) -> Path:
    embedder = rf.OpenAIEmbedder("m", base_url=f"{server.url}?api-version=1&tag=hidden", dim=8)
    mf_router(embedder=embedder).save(tmp_path / "router")
    return tmp_path / "router"


def test_a_server_that_a_directory_names_must_be_allowed(server: FakeOpenAI, directory: Path) -> None:
    with pytest.raises(rf.UntrustedServerError) as error:
        rf.load_router(directory)
    assert f"{server.url}?api-version=1&tag=..." in str(error.value)
    assert f"allow_server='{server.url}'" in str(error.value)
    assert "--allow-server" in str(error.value)
    assert str(directory) in str(error.value)
    assert "hidden" not in str(error.value)
    for allowed in (server.url, f"{server.url}/", [server.url], ("http://other:1/v1", f"{server.url}?x=1")):
        router = rf.load_router(directory, allow_server=allowed)
        assert 0.0 <= router.win_rate("a prompt") <= 1.0
        router.embedder.close()
    assert len(server.requests) == 4


def test_another_server_that_is_allowed_is_no_permission(server: FakeOpenAI, directory: Path) -> None:
    for other in (server.url + "/v2", server.url.replace("127.0.0.1", "localhost"), "https://api.openai.com/v1"):
        with pytest.raises(rf.UntrustedServerError, match="and only"):
            rf.load_router(directory, allow_server=other)
    with pytest.raises(rf.InvalidArgumentError, match="base_url"):
        rf.load_router(directory, allow_server="localhost")
    assert not server.requests


@pytest.mark.parametrize("base_url", ["https://api.openai.com/v1", "https://eu.api.openai.com/v1", None])
def test_openai_needs_no_permission(tmp_path: Path, base_url: str | None) -> None:
    mf_router(embedder=rf.OpenAIEmbedder("m", base_url=base_url, dim=8)).save(tmp_path / "router")
    assert rf.load_router(tmp_path / "router").embedder.dim == 8


@pytest.mark.parametrize(
    "base_url",
    ["http://api.openai.com/v1", "https://api.openai.com.evil.example/v1", "https://evil-api.openai.com.x/v1"],
)
def test_what_looks_like_openai_does(tmp_path: Path, base_url: str) -> None:
    mf_router(embedder=rf.OpenAIEmbedder("m", base_url=base_url, dim=8, provider="openai")).save(tmp_path / "router")
    with pytest.raises(rf.UntrustedServerError):
        rf.load_router(tmp_path / "router")


def test_the_server_of_the_environment_needs_no_permission(
    server: FakeOpenAI, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    router = rf.load_router(directory)
    monkeypatch.delenv("OPENAI_BASE_URL")
    # Whoever made the pickle trusted the server.
    assert pickle.loads(pickle.dumps(router)).embedder.server == router.embedder.server


def test_an_embedder_that_is_given_needs_no_permission(server: FakeOpenAI, directory: Path) -> None:
    given = rf.OpenAIEmbedder("m", base_url=server.url, dim=8)
    router = rf.load_router(directory, embedder=given)
    assert router.embedder is given
    assert pickle.loads(pickle.dumps(router)).embedder.server == server.url


def test_pickles_and_copies_keep_the_permission_for_this_directory_alone(server: FakeOpenAI, directory: Path) -> None:
    router = rf.load_router(directory, allow_server=server.url)
    again = pickle.loads(pickle.dumps(router))
    assert copy.deepcopy(again).embedder.server == router.embedder.server
    pickled = pickle.dumps(router)
    manifest = json.loads((directory / "router.json").read_text())
    manifest["embedder"]["settings"]["base_url"] = "http://elsewhere.example/v1"
    (directory / "router.json").write_text(json.dumps(manifest))
    with pytest.raises(rf.ArtifactIntegrityError):
        pickle.loads(pickled)


def test_info_and_verification_ask_nobody_and_need_no_permission(
    server: FakeOpenAI, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(directory)]) == 0
    assert main(["info", str(directory), "--verify", "--json"]) == 0
    assert server.url in capsys.readouterr().out
    assert not server.requests


@pytest.mark.parametrize("command", _LOADING_COMMANDS, ids=lambda command: "-".join(command[:2]))
def test_every_command_that_loads_a_router_asks_for_the_permission(
    server: FakeOpenAI, directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    prompts = tmp_path / "prompts.csv"
    prompts.write_text("prompt,strong-model,weak-model\n" + "".join(f"prompt {k},1,{k % 2}\n" for k in range(40)))
    places = {"router": directory, "prompts": prompts, "out": tmp_path / "out"}
    line = [part.format(**places) for part in command]
    status = main(line)
    said = capsys.readouterr().err
    assert status == 2, said
    if command[1] == "tensorrt" and "extra" in said:
        pytest.skip("TensorRT is not installed")
    assert "--allow-server" in said
    assert server.url in said
    assert "Traceback" not in said
    main([*line, "--allow-server", server.url])
    assert "--allow-server" not in capsys.readouterr().err


def test_calibrate_with_an_embedder_writes_the_router_without_asking_its_server(
    server: FakeOpenAI, directory: Path, tmp_path: Path
) -> None:
    prompts = tmp_path / "prompts.csv"
    prompts.write_text("prompt\n" + "".join(f"prompt {k}\n" for k in range(40)))
    spec = f"openai:m,base_url={server.url},dim=8,provider={server.url.partition('://')[2]}"
    out = tmp_path / "calibrated"
    assert main(["calibrate", str(directory), str(prompts), "--embedder", spec, "--out", str(out)]) == 0
    assert rf.load_router(out, allow_server=server.url).calibration is not None


def test_an_exported_model_repository_hands_the_permission_on(
    server: FakeOpenAI, directory: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tritonclient")
    from routellm_fast.export import export_triton

    export_triton(directory, tmp_path / "out", default_threshold=0.5, allow_server=server.url)
    config = (tmp_path / "out" / "router" / "config.pbtxt").read_text()
    assert "allow_server" in config
    assert server.url in config


def test_win_rates_of_an_allowed_router_are_those_of_the_router(server: FakeOpenAI, directory: Path) -> None:
    router = rf.load_router(directory, allow_server=server.url)
    again = pickle.loads(pickle.dumps(router))
    np.testing.assert_array_equal(router.win_rates(["a", "b"]), again.win_rates(["a", "b"]))
    router.embedder.close()
    again.embedder.close()
