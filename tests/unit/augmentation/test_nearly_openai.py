"""Judges behind chat servers that are only nearly OpenAI's, over real sockets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from routellm_fast.augmentation import Contest, EndpointSettings, JudgeConfig, Mode, Questioner, Template
from routellm_fast.augmentation.command import JudgeJob, JudgeResult, run_judge
from routellm_fast.augmentation.manners import ChatManners
from routellm_fast.cli import main
from routellm_fast.errors import EndpointError, InvalidArgumentError
from tests.support.fake_judge import FakeJudge, Reply

pytestmark = pytest.mark.usefixtures("no_server_settings")

KEY = "sk-Secret0Key1For2Tests3Only4"


@pytest.fixture
def server() -> Iterator[FakeJudge]:
    with FakeJudge() as fake:
        yield fake


def contest(index: int) -> Contest:
    texts = (f"{index}: quality 5", f"{index}; quality 1")
    return Contest(f"question {index}", f"group {index}", "data", "big", "small", *texts)


def run(server: FakeJudge, journal: Path, *, as_json: bool = False, count: int = 3, **settings: Any) -> JudgeResult:
    if as_json:
        server.decide = lambda request: json.dumps({"reason": "so", "verdict": "TIE"})
    endpoint = EndpointSettings("judge-1", **{"base_url": server.url, "timeout_s": 5.0, "max_retries": 0, **settings})
    questioner = Questioner(endpoint, Template.shipped(Mode.PAIRWISE, as_json=as_json), "both")
    # One at a time, so that the number of refusals is known.
    config = JudgeConfig(max_concurrency=1)
    return run_judge(JudgeJob(tuple(contest(i) for i in range(count)), questioner, journal, config=config))


def refusing(server: FakeJudge, name: str, reply: Reply) -> None:
    server.rule = lambda request: reply if name in request.body else None


def sent(server: FakeJudge, name: str) -> list[Any]:
    return [request.body.get(name) for request in server.requests]


@pytest.mark.parametrize(
    "words",
    [
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        "unknown field: max_tokens",
        "max_completion_tokens is required",
    ],
)
@pytest.mark.parametrize("form", ["error", "detail", "text"])
def test_a_judge_that_takes_max_completion_tokens_only(
    server: FakeJudge, tmp_path: Path, words: str, form: str
) -> None:
    body = {"error": {"error": {"message": words}}, "detail": {"detail": words}, "text": words.encode()}[form]
    refusing(server, "max_tokens", Reply(400, body))
    result = run(server, tmp_path / "j")
    assert (result.report.judged, result.report.calls, result.report.lost_usd) == (3, 6, 0.0)
    assert sent(server, "max_tokens") == [1024, *[None] * 6]
    assert sent(server, "max_completion_tokens") == [None, *[1024] * 6]
    assert result.departures == ()


def test_a_judge_that_takes_max_tokens_only(server: FakeJudge, tmp_path: Path) -> None:
    refusing(server, "max_completion_tokens", Reply(422, {"detail": "Extra inputs: max_completion_tokens unknown"}))
    with pytest.raises(EndpointError, match="max_completion_tokens unknown"):
        run(server, tmp_path / "chosen", max_tokens_name="max_completion_tokens")
    server.requests.clear()
    assert run(server, tmp_path / "j", max_tokens_name="max_tokens").report.judged == 3
    assert len(server.requests) == 6


def test_a_judge_that_refuses_the_temperature_is_asked_without_and_that_is_told(
    server: FakeJudge, tmp_path: Path
) -> None:
    words = "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) is supported."
    refusing(server, "temperature", Reply(400, {"error": {"message": words, "param": "temperature"}}))
    result = run(server, tmp_path / "j")
    assert result.report.judged == 3
    assert sent(server, "temperature") == [0.0, *[None] * 6]
    assert result.departures == ("judge-1 takes no temperature of 0: it answers at its own",)


def test_a_temperature_out_of_range_is_the_callers_fault(server: FakeJudge, tmp_path: Path) -> None:
    refusing(server, "temperature", Reply(400, {"error": "temperature must be between 0 and 2"}))
    with pytest.raises(EndpointError, match="temperature must be between 0 and 2"):
        run(server, tmp_path / "j", temperature=5.0)
    assert None not in sent(server, "temperature")


def test_a_judge_that_refuses_response_format(server: FakeJudge, tmp_path: Path) -> None:
    words = "Invalid parameter: 'response_format' of type 'json_object' is not supported with this model."
    refusing(server, "response_format", Reply(400, words))
    result = run(server, tmp_path / "j", as_json=True)
    assert (result.report.judged, result.report.ties) == (3, 3)
    assert [found is not None for found in sent(server, "response_format")] == [True, *[False] * 6]
    assert result.departures == ("judge-1 takes no response_format: only its instructions ask for JSON",)
    with pytest.raises(EndpointError, match="not supported with this model"):
        run(server, tmp_path / "chosen", as_json=True, response_format="json_object")
    server.requests.clear()
    assert run(server, tmp_path / "none", as_json=True, response_format="none").departures == ()
    assert len(server.requests) == 6


def test_a_judge_that_refuses_everything_is_asked_a_few_times_and_not_for_ever(
    server: FakeJudge, tmp_path: Path
) -> None:
    words = "unsupported: max_tokens, max_completion_tokens, temperature, response_format"
    server.otherwise = Reply(400, words)
    with pytest.raises(EndpointError, match="unsupported: max_tokens"):
        run(server, tmp_path / "j", as_json=True, count=1)
    assert len(server.requests) == 2
    # What no answer confirmed is not remembered.
    assert {frozenset(request.body) for request in server.requests[:1]} == {
        frozenset({"model", "messages", "max_tokens", "temperature", "response_format"})
    }


def test_each_refusal_leaves_less_to_try() -> None:
    settings = EndpointSettings("m")
    manners: ChatManners | None = ChatManners.of(settings, is_openai=False)
    tries = 0
    while manners is not None:
        body = manners.body(settings, [], as_json=True)
        names = [name for name in body if name not in ("model", "messages")]
        manners = manners.after_refusal(400, f"unsupported: {', '.join(names[:1])}", body)
        tries += 1
        assert tries < 8


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"the plain reason", "the plain reason"),
        ("a reason in JSON", "a reason in JSON"),
        ({"detail": "a detail"}, "a detail"),
        ({"message": "a message"}, "a message"),
        ({"error": "an error"}, "an error"),
    ],
)
def test_a_real_refusal_keeps_its_own_words(server: FakeJudge, tmp_path: Path, body: Any, words: str) -> None:
    server.otherwise = Reply(400, body)
    with pytest.raises(EndpointError, match=f"answered status 400 for model 'judge-1': {words}"):
        run(server, tmp_path / "j", count=1)
    assert len(server.requests) == 1


def test_the_query_of_an_address_is_kept_and_its_values_are_not_shown(server: FakeJudge, tmp_path: Path) -> None:
    url = f"{server.url}?api-version=2024-10-21&tenant={KEY}"
    assert run(server, tmp_path / "j", base_url=url).report.judged == 3
    assert {request.path for request in server.requests} == {
        f"/v1/chat/completions?api-version=2024-10-21&tenant={KEY}"
    }
    server.rule = lambda request: Reply(404, {"error": f"no {request.path}"})
    with pytest.raises(EndpointError, match=r"completions\?api-version=2024-10-21&tenant=\.\.\. answered") as caught:
        run(server, tmp_path / "k", base_url=url)
    assert KEY not in str(caught.value)


def test_an_answer_in_parts_is_one_text(server: FakeJudge, tmp_path: Path) -> None:
    parts = [{"type": "thinking", "thinking": "VERDICT: B"}, {"type": "text", "text": "So.\nVERDICT"}, {"text": ": A"}]
    message = {"role": "assistant", "content": parts}
    server.otherwise = Reply(body={"choices": [{"message": message, "finish_reason": "stop"}]})
    run(server, tmp_path / "j", count=1)
    assert '"text": "So.\\nVERDICT: A"' in (tmp_path / "j").read_text()


@pytest.mark.parametrize("settings", [{"max_tokens_name": "tokens"}, {"response_format": "json"}])
def test_settings_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=next(iter(settings))):
        EndpointSettings("m", **settings)


def test_the_command_line_has_these_settings_and_tells_of_departures(
    server: FakeJudge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "r.jsonl"
    row = {
        "prompt": "p", "model_a": "big", "model_b": "small", "response_a": "quality 5", "response_b": "quality 1"
    }  # fmt: skip
    rows.write_text(json.dumps(row) + "\n")
    refusing(server, "temperature", Reply(400, {"detail": "temperature is not supported"}))
    command = ["augment", "judge", str(rows), "--judge-model", "j", "--base-url", server.url, "--out"]
    chosen = ["--max-tokens-name", "max_completion_tokens", "--response-format", "none", "--max-retries", "0"]
    assert main([*command, str(tmp_path / "b.csv"), *chosen, "--json"]) == 2  # the fake judge answers no JSON
    assert main([*command, str(tmp_path / "c.csv"), *chosen]) == 0
    assert "note: j takes no temperature of 0: it answers at its own" in capsys.readouterr().err
    assert set(server.requests[-1].body) == {"model", "messages", "max_completion_tokens"}
    for option in ("--max-tokens-name", "--response-format"):
        assert main([*command, str(tmp_path / "d.csv"), option, "words"]) == 2
        assert f"{option[2:].replace('-', '_')} must be one of auto, " in capsys.readouterr().err
