"""The gateway report: its clients read what servers write, its page is that of its numbers, and all of it runs."""

# ruff: noqa: RUF001 - multiplication signs are what a reader expects

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gateway import client
from benchmarks.gateway.command import REPORT
from benchmarks.gateway.contenders import starts
from benchmarks.gateway.measure import measure
from benchmarks.gateway.names import DIRECT, FLOOR, LITELLM, ONE_WORKER, OURS, ROUTELLM_SERVER, TENSORZERO, TWO_WORKERS
from benchmarks.gateway.page import MARKERS, render, tables
from benchmarks.harness.command import run
from benchmarks.harness.places import RESULTS
from benchmarks.harness.reports import Report
from benchmarks.harness.suites import MACHINE, committed, shown
from tests.support.upstream import Upstream, running_upstream

PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with running_upstream() as running:
        yield running


def port_of(upstream: Upstream) -> int:
    return int(upstream.url.rpartition(":")[2].removesuffix("/v1"))


def request(text: str = "hello", **fields: object) -> bytes:
    return client.request_of(PATH, {"model": "m", "messages": [{"role": "user", "content": text}], **fields})


def test_an_answer_is_read_until_it_is_whole(upstream: Upstream) -> None:
    connection = client.Connection(port_of(upstream))
    for text, fields in (("größer", {}), ("hello @words=300", {"stream": True}), ("hello", {"stream": True})):
        head, _, body = connection.ask(request(text, **fields)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert body.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n") or json.loads(body)["choices"]
    with pytest.raises(ConnectionError, match="status 503"):
        connection.ask(request("hello @status=503"))
    connection.close()
    connection = client.Connection(port_of(upstream))
    with pytest.raises(ConnectionError, match="closed within an answer"):
        connection.ask(request("hello @cut=2", stream=True))
    connection.close()


def test_requests_at_a_rate_count_from_when_they_were_due(upstream: Upstream) -> None:
    found = client.at_a_rate(port_of(upstream), [request(), request("hi")], 200.0, 0.25)
    assert (len(found.each_s), len(found.late_s), found.is_carried) == (50, 50, True)
    assert found.total_s >= 49 / 200
    slow = client.at_a_rate(port_of(upstream), [request("hello @slow=0.3")], 50.0, 0.2)
    assert float(slow.each_s.min()) >= 0.3


def test_a_rate_that_a_server_does_not_carry_is_said(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MOST_WAITING", 20)
    slow = client.at_a_rate(port_of(upstream), [request("hello @slow=0.9")], 50.0, 0.1)
    assert not slow.is_carried
    found = client.at_a_rate(port_of(upstream), [request("hello @slow=0.5")], 2000.0, 10.0)
    assert not found.is_carried
    assert 20 < len(found.each_s) < 20_000
    assert not np.isnan(found.each_s).any()


def test_clients_send_their_next_request_once_they_have_an_answer(upstream: Upstream) -> None:
    upstream.requests.clear()
    found = client.by_clients(port_of(upstream), [request("a"), request("b")], 4, 0.2)
    assert len(found.each_s) == len(upstream.requests) >= 4
    assert {asked.fields["messages"][0]["content"] for asked in upstream.requests} == {"a", "b"}


def test_words_of_streams_are_timed(upstream: Upstream) -> None:
    first_s, delays_s = client.streams(
        port_of(upstream), request("@form=clock @words=7 @pause=0.01", stream=True), 5, at_once=2
    )
    assert (len(first_s), len(delays_s)) == (5, 35)
    assert first_s.min() > 0
    assert 0 < delays_s.min() <= delays_s.max() < 60


def test_idle_streams_have_begun(upstream: Upstream) -> None:
    with client.idle_streams(port_of(upstream), request("@hang=2", stream=True), 30, 60.0) as begun:
        assert begun == 30
        assert len(upstream.connections) >= 30


def latency(p50: float) -> dict[str, float]:
    return {"p50_ms": p50, "p95_ms": 2 * p50, "p99_ms": 3 * p50, "added_p50_ms": p50 - 0.1, "added_p99_ms": 3 * p50}


def sample() -> Report:
    """A report as `python -m benchmarks gateway` writes it."""
    names = (DIRECT, FLOOR, OURS, TENSORZERO, LITELLM, ROUTELLM_SERVER)
    one = {name: latency(0.1 + i / 8) for i, name in enumerate(names)}
    rate = {name: {**found, "late_p99_ms": 0.125, "per_s": 999.0, "is_carried": True} for name, found in one.items()}
    rate[LITELLM] |= {"is_carried": False, "per_s": 150.0, "late_p99_ms": 99.0}
    many = {
        name: {
            **latency(1.0 + i),
            "per_s": 5000.0 - 100 * i,
            "cpu_us": 0.0 if name == DIRECT else 100.0 + 50 * i,
            "cpu_share": 0.9,
            "upstream_and_clients_share": 0.3,
        }
        for i, name in enumerate(names)
    }
    streams = {name: {"first": found, "word": found} for name, found in one.items()}
    idle = {
        name: {"streams": 1000, "before_mb": 80.0, "during_mb": 100.0 + i, "kb_each": 20.0 + i}
        for i, name in enumerate(names[1:])
    }
    workers = {
        ONE_WORKER: {"per_s": 4000.0, "p50_ms": 16.0, "cpu_share": 1.0, "upstream_and_clients_share": 0.25},
        TWO_WORKERS: {"per_s": 6000.0, "p50_ms": 11.0, "cpu_share": 1.5, "upstream_and_clients_share": 0.5},
    }
    return {
        "machine": MACHINE,
        "command": "python -m benchmarks gateway",
        "effort": "full",
        "missing": {},
        "versions": {"litellm": "1.0"},
        "loads": {"before": [0.1, 0.2, 0.3], "after": [1.0, 0.5, 0.25]},
        "prompts": {"count": 256, "source": "natural prompts", "median_chars": 140.0},
        "cores": {"gateway": [0], "workers": [0, 1], "upstream": [1], "clients": [1], "beside_workers": [0, 1]},
        "answers": {name: {"is_right": True} for name in names} | {OURS: {"decisions_equal": 256, "of": 256}},
        "one_client": one,
        "rates": {"100": rate, "1000": rate},
        "clients": {"16": {**many, ROUTELLM_SERVER: {"failed": "the server answered | 500"}}},
        "streams": {"1": streams},
        "idle_streams": idle,
        "workers": {"clients": 64, "cores": [0, 1], **workers},
    }


def test_a_report_says_what_was_measured_and_whether_the_bounds_were_kept() -> None:
    report = sample()
    text = render(report)
    assert "| added at the fixed rate, p50 | ≤ 0.5 ms | ≤ 0.3 ms | **0.25 ms** | yes | yes |" in text
    assert "LiteLLM's proxy 0.5 (not carried)" in text
    assert (
        "| carried with 16 clients | ≥ 3,000 requests/s | ≥ 6,000 requests/s | **4,800 requests/s** | yes | **no** |"
        in text
    )
    assert (
        "| carried by two workers, to what one carries | ≥ 1.7 × | — | **1.5 ×** | **no** | — | at most 1.6 here |"
        in text
    )
    assert "| LiteLLM's proxy | does not carry it: 150 a second |" in text
    assert "at most 0.12 ms late" in text  # of those that carry it
    assert "| RouteLLM's server | failed: the server answered \\| 500 |" in text
    assert "clients and the models' server share core 1" in text
    assert (
        "Of our 200 µs a request, the bare proxy, which neither reads, decides, counts nor logs, takes 150 µs (75%)"
        in text
    )
    assert "mean nothing" not in text
    report["cores"] |= {"upstream": [2], "clients": [3], "workers": [0, 1], "beside_workers": [2, 3]}
    report["missing"] = {TENSORZERO: "it is missing: `make gateway-peers-env` makes it"}
    text = tables(report)
    assert "the models' server on core 2, the clients on core 3" in text
    assert "clients and models' server the others" in text
    assert "Left out: TensorZero (compiled), as it is missing" in text


@pytest.mark.skipif(not (RESULTS / "gateway.json").exists(), reason="the gateway was not measured yet")
def test_the_committed_page_is_that_of_the_committed_numbers() -> None:
    report = committed("gateway.json")
    assert (RESULTS / "gateway.md").read_text(encoding="utf-8") == render(report)
    assert shown(MARKERS) == tables(report).strip()


def test_every_peer_that_is_not_there_is_named(tmp_path: Path) -> None:
    for name, start in starts(tmp_path).items():
        if name not in (OURS, FLOOR):
            with pytest.raises(Exception, match="`make gateway-peers-env` makes it"):
                start("http://127.0.0.1:1/v1", tmp_path)


def test_it_runs_from_end_to_end(tmp_path: Path) -> None:
    report = measure(tmp_path, is_quick=True)
    assert {TENSORZERO, LITELLM, ROUTELLM_SERVER} <= set(report["missing"])
    assert set(report["one_client"]) == {DIRECT, OURS, FLOOR}
    assert report["answers"][OURS]["decisions_equal"] == 16
    for load in (report["rates"]["20"], report["clients"]["16"], report["streams"]["1"], report["streams"]["16"]):
        assert not [figures["failed"] for figures in load.values() if "failed" in figures]
    assert report["idle_streams"][OURS]["streams"] == 20
    report |= {"command": "python -m benchmarks gateway --quick", "effort": "quick"}
    path = tmp_path / "gateway.json"
    path.write_text(json.dumps(report), encoding="utf-8")
    assert run(REPORT, ["--render", str(path), "--out", str(tmp_path)]) == 0
    text = (tmp_path / "gateway.md").read_text(encoding="utf-8")
    assert "Its figures mean nothing" in text
    assert "Left out: LiteLLM's proxy, as" in text
