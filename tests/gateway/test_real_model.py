"""A true answer of a real language model, through the gateway. See tests/support/small_models.py."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import openai
import pytest

from tests.gateway.test_process import free_port
from tests.support.gateway import running_gateway
from tests.support.small_models import environment, served_model

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "examples" / "gateway.yaml"
QUESTION = [{"role": "user", "content": "What is the opposite of hot?"}]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with served_model("smollm2-135m,smollm2-135m-brief") as url:
        text = EXAMPLE.read_text("utf-8").replace("http://127.0.0.1:8080/v1", url)
        with running_gateway(text, tmp_path_factory.mktemp("gateway")) as running:
            yield running


def test_a_real_model_answers_whole_and_in_a_stream(gateway):
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="unused", max_retries=0) as client:
        asked = {"model": "auto", "messages": QUESTION, "max_tokens": 24, "temperature": 0.0}
        raw = client.chat.completions.with_raw_response.create(**asked)
        assert raw.headers["x-routellm-model"] == "small"
        whole = raw.parse()
        assert "The opposite of hot is cold" in whole.choices[0].message.content
        assert whole.usage.completion_tokens > 0
        chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == whole.choices[0].message.content
        assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_the_example_asks_and_ends(tmp_path):
    models = environment()
    (tmp_path / "python").symlink_to(sys.executable)
    program = tmp_path / "routellm-fast"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m routellm_fast "$@"\n', "utf-8")
    program.chmod(0o755)
    done = subprocess.run(
        ["sh", REPOSITORY / "examples" / "run_gateway.sh", tmp_path, models],
        env={**os.environ, "ONCE": "1", "PORT": str(free_port())},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"opposite of hot\?\n  small, as the strong model's win rate is 0\.\d\d:\n  The opposite of hot is cold",
        done.stdout,
    )
    assert re.search(r"unit tests for it\.\n  large, as the strong model's win rate is 0\.\d\d:\n  \S", done.stdout)
