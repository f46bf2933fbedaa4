"""Embedders by the name that an option gives them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

import routellm_fast as rf
from routellm_fast.cli import main
from routellm_fast.cli._embedder import named_embedder
from tests.support.fake_openai import FakeOpenAI, vectors_for

pytestmark = pytest.mark.usefixtures("no_server_settings")

KEY = "sk-Secret0Key1For2Tests3Only4"


def arguments(name: str) -> dict[str, Any]:
    embedder = named_embedder(name)
    assert isinstance(embedder, rf.OpenAIEmbedder)
    return dataclasses.asdict(embedder._settings)


def test_settings_follow_the_models_name() -> None:
    assert named_embedder("none") is None
    assert arguments("openai:text-embedding-3-large")["dim"] == 3072
    chosen = {
        "base_url": "http://localhost:8000/v1?api-version=1",
        "dim": 512,
        "dimensions": 512,
        "encoding_format": "float",
        "batch_size": 2,
        "max_chars": 100,
        "max_concurrency": 3,
        "max_retries": 0,
        "timeout_s": 1.5,
        "provider": "us",
    }
    name = "openai:hf.co/nomic:latest," + ",".join(f"{key}={value}" for key, value in chosen.items())
    assert arguments(name) == {"model": "hf.co/nomic:latest", **chosen}


def test_a_server_is_asked_for_the_dim_and_gets_the_key_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with FakeOpenAI(dim=7) as server:
        embedder = named_embedder(f"openai:nomic-embed-text,base_url={server.url},batch_size=2,api_key_env=MY_KEY")
        assert isinstance(embedder, rf.OpenAIEmbedder)
        assert server.requests == []
        with embedder:
            assert embedder.dim == 7
            assert (embedder.embed(["a", "b", "c"]) == vectors_for(["a", "b", "c"], 7)).all()
        assert [len(request.body["input"]) for request in server.requests] == [1, 2, 1]
        assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {KEY}"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("openai:m,dims=5", "found 'dims'; settings are base_url, dim, dimensions"),
        ("openai:m,5", "is followed by SETTING=VALUE"),
        ("openai:m,", "is followed by SETTING=VALUE"),
        ("openai:m,dim=5,dim=6", "the setting dim twice"),
        ("openai:m,dim=many", "dim must be an integer, found 'many'"),
        ("openai:m,timeout_s=soon", "timeout_s must be a number, found 'soon'"),
        ("openai:m,batch_size=0", "batch_size must be 1 to 2048"),
        ("openai:m,encoding_format=hex", "encoding_format must be one of auto"),
        ("openai:m,api_key_env=NOT_SET,base_url=http://localhost", "NOT_SET, which should hold the key"),
        ("openai:m,base_url=localhost", "base_url must be like"),
        ("openai:", "model must not be empty"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(name: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(rf.InvalidArgumentError) as caught:
        named_embedder(name)
    assert words in str(caught.value)
    assert main(["calibrate", "mf", "no-such-file", "--embedder", name]) == 2
    shown = capsys.readouterr().err
    assert words in shown
    assert shown.count("\n") == 1
