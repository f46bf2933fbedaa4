"""A request goes to the model that the router chose, and its answer comes back, to the byte."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest

from tests.support.gateway import EASY, HARD, running_gateway, settings_text, until
from tests.support.upstream import Plan, answer_of


@pytest.fixture(scope="module")
def gateway(upstream, tmp_path_factory):
    text = settings_text(upstream.url, "on_failure: {retries: 1, backoff_s: 0.01, breaker_failures: 1000}")
    with running_gateway(text, tmp_path_factory.mktemp("gateway")) as running:
        yield running


def ask(gateway, body, path="/v1/chat/completions", headers=None):
    """Return status, headers and body of an answer."""
    parts = urlsplit(gateway.url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", path, data, {"content-type": "application/json", **(headers or {})})
    response = connection.getresponse()
    try:
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


def chat(text, **fields):
    return {"model": "router-mf", "messages": [{"role": "user", "content": text}], **fields}


@pytest.mark.parametrize(("text", "model", "there"), [(EASY, "small", "small"), (HARD, "big", "big-there")])
def test_the_win_rate_decides_which_model_answers(gateway, upstream, text, model, there):
    upstream.requests.clear()
    status, headers, body = ask(gateway, chat(text))
    assert status == 200
    assert headers["x-routellm-model"] == model
    assert headers["x-routellm-router"] == "mf"
    assert headers["x-routellm-reason"] == "router"
    is_strong = float(headers["x-routellm-win-rate"]) >= float(headers["x-routellm-threshold"])
    assert is_strong == (model == "big")
    assert upstream.bodies() == [{**chat(text), "model": there}]
    assert json.loads(body)["choices"][0]["message"]["content"].startswith("word0")
    for phase in ("read", "decide", "upstream"):
        assert f"{phase};dur=" in headers["server-timing"]


def test_only_the_models_name_changes_in_the_body(gateway, upstream):
    upstream.requests.clear()
    body = (
        b'{ "messages" : [{"role":"user","content":[{"type":"text","text":"hello \\u00e9 \xc3\xa9"},'
        b'{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]},'
        b'{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},'
        b'{"role":"tool","tool_call_id":"1","content":"x"}],\n "model"\t: "router-mf-0.999" , "unknown": 1.50e3,'
        b'"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],'
        b'"tool_choice":{"type":"function","function":{"name":"f"}},'
        b'"response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{}}},"stream_options":{"include_usage":true}}'
    )
    status, headers, _ = ask(gateway, body)
    assert (status, headers["x-routellm-model"], headers["x-routellm-threshold"]) == (200, "small", "0.999")
    assert upstream.requests[0].body == body.replace(b'"router-mf-0.999"', b'"small"')


def test_a_named_model_is_asked_as_it_is(gateway, upstream):
    upstream.requests.clear()
    body = b'{"model":"small","messages":3}'  # not ours to judge
    status, headers, _ = ask(gateway, body)
    assert (status, headers["x-routellm-reason"]) == (200, "named")
    assert "x-routellm-router" not in headers
    assert upstream.requests[0].body == body


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/completions", {"prompt": HARD}),
        ("/v1/responses", {"input": HARD}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": HARD}]}),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_answers_come_back_to_the_byte(gateway, path, fields, stream):
    body = {"model": "router-mf-0.0", **fields, "stream": stream, "note": "@words=40"}
    status, headers, found = ask(gateway, body, path)
    content_type, expected = answer_of(path.removeprefix("/v1"), Plan(words=40), "big-there", stream)
    assert (status, headers["content-type"]) == (200, content_type)
    assert found == (expected if isinstance(expected, bytes) else b"".join(expected))
    assert headers["x-request-id"] == "req-1"
    assert headers["x-ratelimit-remaining-requests"] == "99"
    assert "set-cookie" not in headers


def test_each_event_of_a_stream_comes_at_once(gateway):
    """The second event is sent only after the first was read: a gateway that gathers would wait for ever."""
    parts = urlsplit(gateway.url)
    body = json.dumps(chat(EASY, stream=True, note="@pause=0.05 @words=3")).encode()
    with socket.create_connection((parts.hostname, parts.port), 30) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
        )
        times, data = [], b""
        while not data.endswith(b"0\r\n\r\n"):
            piece = connection.recv(65536)
            assert piece
            times.extend([time.monotonic()] * piece.count(b"\ndata: "))
            data += piece
    assert len(set(times)) >= 4


def test_a_compressed_answer_passes_as_it_is(gateway, upstream):
    status, headers, body = ask(gateway, chat(EASY, note="@form=gzip"))
    assert (status, headers["content-encoding"]) == (200, "gzip")
    assert json.loads(gzip.decompress(body))["choices"]
    assert upstream.requests[-1].headers["accept-encoding"] == "identity"


def test_long_headers_come_back_within_reason(gateway):
    status, headers, _ = ask(gateway, chat(EASY, note="@header_bytes=30000"))
    assert (status, headers["x-long"]) == (200, "x" * 30_000)
    status, headers, body = ask(gateway, chat(EASY, note="@header_bytes=3000000"))
    assert (status, "x-long" in headers) == (502, False)
    assert len(body) < 2000


def test_a_redirect_is_not_followed(gateway):
    status, headers, _ = ask(gateway, chat(EASY, note="@form=redirect"))
    assert (status, headers["location"]) == (307, "http://127.0.0.1:1/v1/chat/completions")


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_a_refusal_of_the_model_comes_back_untouched_and_is_not_repeated(gateway, upstream, status):
    upstream.requests.clear()
    found, headers, body = ask(gateway, chat(f"{EASY} refusal {status}", note=f"@status={status}"))
    assert (found, json.loads(body)["error"]["message"]) == (status, f"status {status}")
    assert headers["x-routellm-model"] == "small"
    assert len(upstream.requests) == 1


def test_a_failure_is_tried_again_and_then_answered(gateway, upstream):
    upstream.requests.clear()
    status, headers, _ = ask(gateway, chat(f"{EASY} once", note="@status=503 @fails=1"))
    assert (status, headers["x-routellm-model"], len(upstream.requests)) == (200, "small", 2)


def test_the_other_model_answers_where_one_fails(gateway, upstream):
    upstream.requests.clear()
    body = json.dumps(chat(f"{EASY} other", note="@form=nothing @fails=1")).encode()
    # each model's body is another one, so that each fails once
    status, headers, _ = ask(gateway, body)
    assert status == 200
    models = [request.fields["model"] for request in upstream.requests]
    assert models == ["small", "small"]
    upstream.requests.clear()
    status, headers, _ = ask(gateway, chat(f"{EASY} all", note="@form=nothing @fails=2"))
    assert [request.fields["model"] for request in upstream.requests] == ["small", "small", "big-there", "big-there"]
    assert (status, headers["x-routellm-model"]) == (502, "big")


def test_the_last_refusal_for_now_comes_back_with_its_retry_after(gateway, upstream):
    upstream.requests.clear()
    status, headers, body = ask(gateway, chat(f"{EASY} busy", note="@status=429 @retry_after=30"))
    assert (status, headers["retry-after"], json.loads(body)["error"]["message"]) == (429, "30", "status 429")
    assert [request.fields["model"] for request in upstream.requests] == ["small", "big-there"]


def test_an_answer_that_breaks_off_before_its_end_is_asked_for_again(gateway, upstream):
    upstream.requests.clear()
    status, _, body = ask(gateway, chat(f"{EASY} cut", note="@cut=10 @fails=1"))
    assert (status, len(upstream.requests)) == (200, 2)
    assert json.loads(body)["choices"]


def test_a_stream_that_breaks_off_is_cut_at_the_client_too(gateway):
    with pytest.raises(http.client.IncompleteRead) as broken:
        ask(gateway, chat(EASY, stream=True, note="@cut=3"))
    events = [event for event in broken.value.partial.split(b"\n\n") if event]
    assert len(events) == 4
    assert json.loads(events[-1].removeprefix(b"data: "))["error"]["code"] == "upstream_broken"


def test_a_client_that_goes_away_ends_its_request_at_the_model(gateway, upstream):
    upstream.requests.clear()
    parts = urlsplit(gateway.url)
    body = json.dumps(chat(f"{EASY} gone", stream=True, note="@pause=0.02 @words=100000")).encode()
    connection = socket.create_connection((parts.hostname, parts.port), 30)
    connection.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    )
    assert connection.recv(1000)
    connection.close()
    until(lambda: upstream.requests[0].is_cut_off)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "the body is no JSON"),
        (b"[]", 400, "expected an object"),
        (b"{}", 400, "the body has no model"),
        (b'{"model":"gpt-9","messages":[]}', 404, "gpt-9"),
        (b'{"model":"router-none","messages":[{"role":"user","content":"x"}]}', 400, "none"),
        (b'{"model":"router-mf-2","messages":[{"role":"user","content":"x"}]}', 400, "2"),
        (b'{"model":"router-mf-x","messages":[{"role":"user","content":"x"}]}', 400, "x"),
        (b'{"model":"router-mf","messages":"x"}', 400, "messages must be a list"),
        (b'{"model":"router-mf","messages":[3]}', 400, "message 0 must be an object"),
    ],
)
def test_a_request_that_cannot_be_routed_is_refused_by_name(gateway, upstream, body, status, message):
    upstream.requests.clear()
    found, headers, answer = ask(gateway, body)
    error = json.loads(answer)["error"]
    assert (found, headers["content-type"]) == (status, "application/json")
    assert message in error["message"]
    assert error["type"]
    assert not upstream.requests


def test_embeddings_are_not_routed(gateway):
    assert ask(gateway, {"model": "small", "input": "x"}, "/v1/embeddings")[0] == 200
    status, _, body = ask(gateway, {"model": "router-mf", "input": "x"}, "/v1/embeddings")
    assert (status, "vectors of two models cannot be mixed" in json.loads(body)["error"]["message"]) == (400, True)


def test_many_requests_at_once_are_all_answered(gateway):
    failures = []

    def work(number):
        for turn in range(20):
            is_stream = (number + turn) % 2 == 0
            status, _, body = ask(gateway, chat(f"{EASY} {number} {turn}", stream=is_stream))
            if status != 200 or not body:
                failures.append((number, turn, status))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
