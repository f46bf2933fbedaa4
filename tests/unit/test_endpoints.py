from __future__ import annotations

import pytest

from routellm_fast.endpoints import (
    OPENAI_URL,
    ApiKey,
    checked_timeout_s,
    key_for,
    named_server,
    refused,
    server_of,
    shown,
    silent,
    unreachable,
)
from routellm_fast.errors import EndpointError, InvalidArgumentError

KEY = "sk-Secret0Key1For2Tests3Only4"
OTHER = "http://localhost:8000/v1"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "MY_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_openais_key_goes_to_openai_and_to_the_environments_server_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    assert key_for(OPENAI_URL) == key_for("https://eu.api.openai.com/v1") == ApiKey(KEY)
    for server in (OTHER, "http://api.openai.com/v1", "https://api.openai.com.example/v1"):
        assert not key_for(server)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://LOCALHOST:8000/v1/")
    assert key_for(OTHER) == ApiKey(KEY)
    assert not key_for("http://localhost:8001/v1")


def test_a_key_that_is_given_goes_before_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("MY_KEY", "sk-mine")
    assert key_for(OPENAI_URL, given=ApiKey("sk-given"), variable="MY_KEY") == ApiKey("sk-given")
    assert key_for(OPENAI_URL, given=ApiKey(" "), variable="MY_KEY") == ApiKey("sk-mine")
    assert key_for(OTHER, variable="MY_KEY") == ApiKey("sk-mine")


def test_keys_that_are_missing_or_cannot_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EndpointError, match="set OPENAI_API_KEY"):
        key_for(OPENAI_URL)
    with pytest.raises(InvalidArgumentError, match="MY_KEY, which should hold the key"):
        key_for(OTHER, variable="MY_KEY")
    for key in ("sk-a\nb", "sk-ключ", "sk a"):
        with pytest.raises(EndpointError, match="check for typos") as caught:
            key_for(OTHER, given=ApiKey(key))
        assert key not in str(caught.value)
    # An address that is none names no server, so nobody gets the key.
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "nowhere")
    assert not key_for(OTHER)


def test_a_key_shows_only_when_asked() -> None:
    assert KEY not in repr(ApiKey(KEY)) + str(ApiKey(KEY)) + f"{ApiKey(KEY)}"
    assert ApiKey(KEY).reveal() == KEY
    assert ApiKey().reveal() == ApiKey("  ").reveal() == "none"
    assert {ApiKey(KEY), ApiKey(f"{KEY} ")} == {ApiKey(KEY)} != {ApiKey("sk-other")}


def test_what_a_server_wrote_is_shown_without_keys_on_one_line() -> None:
    assert shown(f"Bearer {KEY},\n\t{KEY[:4]}", ApiKey(KEY), ApiKey()) == "Bearer [key], sk-S"
    # A stand-in for a key may be a word of the answer.
    assert shown("EMPTY is what I got", ApiKey("EMPTY")) == "EMPTY is what I got"
    # The key goes before the text is cut.
    long = shown("x" * 290 + KEY + "y" * 100, ApiKey(KEY))
    assert long == "x" * 290 + "[key]" + "y" * 5 + "..."


def test_servers_are_named_by_argument_then_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert named_server(None) is None
    assert server_of(None) == OPENAI_URL
    monkeypatch.setenv("OPENAI_BASE_URL", "http://GATEWAY/v1/")
    assert server_of(None) == named_server("") == "http://gateway/v1"
    assert server_of(OTHER) == OTHER


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_timeout_is_a_time(timeout_s: float) -> None:
    assert checked_timeout_s(0.5) == 0.5
    with pytest.raises(InvalidArgumentError, match="timeout_s must be above 0 and finite"):
        checked_timeout_s(timeout_s)


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (400, "max_chars= cuts texts"),
        (401, "api_key="),
        (402, "no money left"),
        (403, "OPENAI_API_KEY goes only to OpenAI"),
        (404, "model's name"),
        (409, "Try later"),
        (429, "Rate limit"),
        (500, "The server is at fault"),
    ],
)
def test_a_refusal_tells_what_to_do(status: int, remedy: str) -> None:
    told = refused(status, "for model 'm'", "no", shorten="max_chars= cuts texts")
    assert told.startswith(f"answered status {status} for model 'm': no. ")
    assert remedy in told


def test_silence_and_broken_connections_tell_what_to_do() -> None:
    assert silent(0.5) == "gave no answer within 0.5 s. Try later, or give a larger timeout_s."
    assert "within 2 s, 3 attempts." in silent(2.0, 3)
    told = unreachable(ConnectionError(), "refused", 2)
    assert told.startswith("cannot be reached, 2 attempts: ConnectionError: refused. Check base_url")
