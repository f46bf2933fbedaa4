from __future__ import annotations

import pytest

from routellm_fast.endpoints import (
    OPENAI_URL,
    ApiKey,
    address_of,
    checked_timeout_s,
    checked_url,
    client_address,
    is_openai,
    key_for,
    named_server,
    query_secrets,
    reason_of,
    refused,
    refuses_parameter,
    server_of,
    shown,
    shown_server,
    silent,
    unreachable,
)
from routellm_fast.errors import EndpointError, InvalidArgumentError

pytestmark = pytest.mark.usefixtures("no_server_settings")

KEY = "sk-Secret0Key1For2Tests3Only4"
OTHER = "http://localhost:8000/v1"


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


# --- addresses with a query


def test_a_query_is_part_of_an_address_and_is_sent_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    server = checked_url("https://GATEWAY/openai/v1/?api-version=2024-10-21&team=a%20b")
    assert server == "https://gateway/openai/v1?api-version=2024-10-21&team=a+b"
    assert address_of(server) == "https://gateway/openai/v1"
    assert client_address(server) == {
        "base_url": "https://gateway/openai/v1", "default_query": {"api-version": "2024-10-21", "team": "a b"}
    }  # fmt: skip
    assert client_address(OPENAI_URL) == {"base_url": OPENAI_URL, "default_query": {}}
    assert is_openai("https://api.openai.com/v1?a=1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{OTHER}?api-version=1")
    assert key_for(OTHER) == key_for(f"{OTHER}?api-version=2") == ApiKey(KEY)
    assert not key_for("http://localhost:8000/v2?api-version=1")


def test_an_address_shows_its_version_and_no_other_value() -> None:
    server = f"{OTHER}?api-version=1&tenant={KEY}&flag="
    assert shown_server(server, "/embeddings") == f"{OTHER}/embeddings?api-version=1&tenant=...&flag=..."
    assert shown_server(OTHER) == OTHER
    assert shown(f"{KEY} is wrong", *query_secrets(server)) == "[key] is wrong"
    with pytest.raises(InvalidArgumentError) as caught:
        checked_url(f"localhost/v1?tenant={KEY}#here")
    assert KEY not in str(caught.value)
    with pytest.raises(InvalidArgumentError, match="NOT_SET") as caught:
        key_for(server, variable="NOT_SET")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["key", "API-KEY", "apiKey", "x-goog-api-key", "access_token", "token", "code", "sig", "subscription-key"]
)
def test_a_query_holds_no_key(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"parameter '{name}': give the key as api_key") as caught:
        checked_url(f"{OTHER}?api-version=1&{name}={KEY}")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("name", ["api-version", "keyspace", "monkey", "design", "encoder"])
def test_other_names_are_no_keys(name: str) -> None:
    assert checked_url(f"{OTHER}?{name}=1") == f"{OTHER}?{name}=1"


# --- reasons


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"plain text\n", "plain text"),
        (b'"a JSON string"', "a JSON string"),
        (b'{"error": {"message": "m", "type": "t", "param": null, "code": 7}}', "m"),
        (b'{"error": "e"}', "e"),
        (b'{"error": true, "message": "m"}', "m"),
        (b'{"error": "Bad Request", "message": "m"}', "m; Bad Request"),
        (b'{"detail": "d"}', "d"),
        (b'{"detail": [{"type": "x", "loc": ["body", "input"], "msg": "too long", "input": ["secret"]}]}',
         "body.input: too long"),
        (b'{"error": {"message": "not taken", "param": "dimensions"}}', "dimensions: not taken"),
        (b'{"error": {"message": "dimensions is not taken", "param": "dimensions"}}', "dimensions is not taken"),
        (b'{"object": "error", "message": "m", "code": 40303}', "m"),
        (b'{"code": 3, "reply": {"text": "t"}, "data": null}', "code: 3; reply: text: t"),
        (b'{"errors": ["a", "a", {"message": "b"}]}', "a; b"),
        (b"", ""),
        (b"{}", ""),
        (b"null", ""),
        (b"[[[[[[[[[1]]]]]]]]]", ""),
        (b"[" * 100_000, "[" * 100_000),
        (b"\xff", "\ufffd"),
        ({"message": "m"}, "m"),
        (None, ""),
    ],
)  # fmt: skip
def test_the_reason_of_a_refusal_is_found_in_any_form(body: object, reason: str) -> None:
    assert reason_of(body) == reason


def test_a_refusal_without_a_reason_says_so_and_a_sentence_ends_once() -> None:
    assert "for model 'm': it gives no reason. " in refused(400, "for model 'm'", "")
    assert ": It is wrong. A text" in refused(400, "for model 'm'", "It is wrong.")
    assert ": cut... . " not in refused(400, "for model 'm'", "cut...")


@pytest.mark.parametrize(
    ("reason", "is_refused"),
    [
        ("Unsupported parameter: 'temperature' is not supported with this model.", True),
        ("'temperature' does not support 0 with this model. Only the default (1) value is supported.", True),
        ("invalid temperature: only 1 is allowed for this model", True),
        ("body.temperature: Extra inputs are not permitted", True),
        ("Unrecognized request argument supplied: temperature", True),
        ("Temperature isn't supported", True),
        ("`temperature` may only be set to 1 when thinking is enabled", True),
        ("temperature must be between 0 and 2", False),
        ("-1 is less than the minimum of 0 - 'temperature'", False),
        ("the model is not available", False),
    ],
)
def test_a_parameter_that_is_not_taken_is_told_from_a_wrong_value(reason: str, is_refused: bool) -> None:
    assert refuses_parameter(reason, "temperature") is is_refused


def test_a_text_with_half_a_character_can_be_shown() -> None:
    assert shown("a\ud800b") == "a?b"


@pytest.mark.parametrize("key", ["sk-plain-key-1", 'sk/with+odd="signs"&%<\\>~1'])
def test_a_key_is_cut_out_however_it_is_escaped(key: str) -> None:
    import html
    import json
    import urllib.parse

    escaped = json.dumps(key)[1:-1]
    forms = {
        key,
        escaped,
        json.dumps(escaped)[1:-1],
        escaped.replace("/", "\\/"),
        "".join(f"\\u{ord(character):04x}" for character in key),
        "".join(f"\\u{ord(character):04X}" for character in key),
        urllib.parse.quote(key, safe=""),
        urllib.parse.quote(key),
        urllib.parse.quote(urllib.parse.quote(key, safe=""), safe=""),
        "".join(f"%{ord(character):02x}" for character in key),
        html.escape(key),
        "".join(f"&#{ord(character)};" for character in key),
        "".join(f"&#x{ord(character):X};" for character in key),
    }
    for form in forms:
        assert ApiKey(key).scrub(f"before {form} after") == "before [key] after", form
    assert ApiKey(key).scrub("sk-another-key") == "sk-another-key"


def test_scrubbing_takes_no_time_for_texts_made_to_take_it() -> None:
    for text in ("\\" * 100_000, "%25" * 30_000, "&amp;" * 20_000, "&#0" + "0" * 100_000):
        assert ApiKey("\\" * 12 + "&" * 12).scrub(text + "x")
