"""What a client may not do, and who may be one."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from routellm_fast.gateway.keys import new_key
from tests.gateway.test_relay import ask, chat
from tests.support.gateway import EASY, running_gateway, settings_text, until

KEY, DIGEST = new_key()
FURTHER = f"""
limits: {{max_body_bytes: 2000, max_head_bytes: 4000, head_timeout_s: 0.5, body_timeout_s: 0.5, max_in_flight: 4,
          max_in_flight_per_client: 2}}
clients:
  - {{name: web, key_sha256: "{DIGEST}"}}
  - {{name: other, key_sha256: "{new_key()[1]}"}}
"""


@pytest.fixture(scope="module")
def gateway(upstream, tmp_path_factory):
    with running_gateway(settings_text(upstream.url, FURTHER), tmp_path_factory.mktemp("gateway")) as running:
        yield running


def known(key=KEY):
    return {"authorization": f"Bearer {key}"}


def head_of(*headers, path="/v1/chat/completions"):
    """Return the head of a request with a key."""
    lines = [f"POST {path} HTTP/1.1", "host: x", f"authorization: Bearer {KEY}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def sent(gateway, data, *, wait_s=30.0):
    """Return all that comes back to raw bytes until the connection closes."""
    parts = urlsplit(gateway.url)
    with socket.create_connection((parts.hostname, parts.port), wait_s) as connection:
        connection.sendall(data)
        found = b""
        while piece := connection.recv(65536):
            found += piece
    return found


@pytest.mark.parametrize("headers", [{}, known("wrong"), {"authorization": KEY}, {"x-api-key": KEY[:-1]}])
def test_who_has_no_key_is_not_let_in(gateway, upstream, headers):
    upstream.requests.clear()
    status, answer, body = ask(gateway, chat(EASY), headers=headers)
    assert (status, answer["www-authenticate"]) == (401, "Bearer")
    assert json.loads(body)["error"]["code"] == "invalid_api_key"
    assert KEY not in body.decode()
    assert not upstream.requests


@pytest.mark.parametrize("headers", [known(), {"x-api-key": KEY}, {"authorization": f"bearer {KEY}"}])
def test_a_key_lets_in_and_goes_no_further(gateway, upstream, headers):
    upstream.requests.clear()
    assert ask(gateway, chat(EASY), headers={**headers, "cookie": "a=b", "x-forwarded-for": "1.2.3.4"})[0] == 200
    found = str(upstream.requests[0].headers)
    assert KEY not in found
    assert "cookie" not in found
    assert "x-forwarded-for" not in found


def test_a_body_that_is_too_large_is_refused(gateway):
    body = chat("x" * 3000)
    status, _, answer = ask(gateway, body, headers=known())
    assert (status, json.loads(answer)["error"]["code"]) == (413, "request_too_large")
    assert sent(gateway, head_of("transfer-encoding: chunked") + b"1000\r\n" + b"x" * 4096).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_leaves_within_its_request_is_no_fault(gateway, caplog):
    parts = urlsplit(gateway.url)
    with socket.create_connection((parts.hostname, parts.port), 30) as connection:
        connection.sendall(head_of("content-length: 100") + b"{")
    gone = ("routellm_requests_total", {"endpoint": "/v1/chat/completions", "status": "0", "error": "client_gone"})
    until(lambda: gone in samples(gateway))
    assert not [record for record in caplog.records if record.levelname not in ("DEBUG", "INFO")]


def samples(gateway):
    """Return names and labels of what is counted, without the models."""
    found = ask_metrics(gateway)
    return [
        (sample.name, {name: value for name, value in sample.labels.items() if name != "model"})
        for family in text_string_to_metric_families(found)
        for sample in family.samples
    ]


def ask_metrics(gateway):
    return (
        sent(gateway, b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .partition(b"\r\n\r\n")[2]
        .decode()
    )


def test_a_body_that_does_not_come_is_not_waited_for(gateway):
    assert sent(gateway, head_of("content-length: 100", "connection: close") + b"{").startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("data", [b"", b"POST /v1/chat", b"POST / HTTP/1.1\r\nhost: x\r\n"])
def test_a_head_that_does_not_come_is_not_waited_for(gateway, data):
    assert sent(gateway, data).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "data",
    [b"POST /" + b"x" * 9000, b"GET / HTTP/1.1\r\na: " + b"x" * 9000, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 2000],
)
def test_a_head_that_is_too_large_is_refused(gateway, data):
    assert sent(gateway, data).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00", b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"])
def test_what_is_no_http_is_refused(gateway, data):
    assert sent(gateway, data).startswith(b"HTTP/1.1 400 ")


def test_a_client_has_no_more_requests_under_way_than_it_may(gateway, upstream):
    upstream.requests.clear()
    parts = urlsplit(gateway.url)
    slow = []
    for number in range(2):
        body = json.dumps(chat(f"{EASY} {number}", note="@slow=600")).encode()
        slow.append(socket.create_connection((parts.hostname, parts.port), 30))
        slow[-1].sendall(head_of(f"content-length: {len(body)}") + body)
    until(lambda: len(upstream.requests) == 2)
    status, headers, body = ask(gateway, chat(EASY), headers=known())
    assert (status, headers["retry-after"]) == (429, "1")
    assert json.loads(body)["error"]["code"] == "too_many_requests"
    for connection in slow:
        connection.close()
    until(lambda: ask(gateway, chat(EASY), headers=known())[0] == 200)


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [("/nope", "GET", 404), ("/v1/chat/completions", "GET", 405), ("/v1/models", "POST", 405), ("/%00", "GET", 404)],
)
def test_other_paths_and_methods_are_refused_by_name(gateway, path, method, status):
    found = sent(gateway, f"{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    assert found.startswith(f"HTTP/1.1 {status} ".encode())
    assert b'"code"' in found


def test_models_need_a_key_and_health_does_not(gateway):
    get = "GET {} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    assert sent(gateway, get.format("/v1/models").encode()).startswith(b"HTTP/1.1 401 ")
    for path in ("/health", "/ready"):
        assert sent(gateway, get.format(path).encode()).startswith(b"HTTP/1.1 200 ")
