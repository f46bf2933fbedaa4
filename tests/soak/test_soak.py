"""A short run; `make soak` sends a million requests."""

from __future__ import annotations

import json
from collections import Counter

from benchmarks.harness.reports import between
from tests.soak.clients import Seen
from tests.soak.mixture import UNSEEN_PATH
from tests.soak.page import DOCUMENT, MARKERS, RESULTS, text_of
from tests.soak.run import counters, differences, run

CHAT = "/v1/chat/completions"
EXPOSITION = """\
# TYPE routellm_requests_began_total counter
routellm_requests_began_total 5.0
# TYPE routellm_requests_in_flight gauge
routellm_requests_in_flight 0.0
# TYPE routellm_requests_total counter
routellm_requests_total{endpoint="/v1/chat/completions",error="",model="small",status="200"} 2.0
routellm_requests_total{endpoint="/v1/chat/completions",error="upstream_broken",model="small",status="200"} 1.0
routellm_requests_total{endpoint="/v1/chat/completions",error="invalid_request",model="",status="400"} 1.0
routellm_requests_total{endpoint="/v1/completions",error="client_gone",model="small",status="0"} 1.0
"""


def seen() -> Seen:
    statuses = Counter({(CHAT, 200): 3, (CHAT, 400): 1})
    return Seen(sent=Counter({"whole answers": 4, "clients that hang up": 1}), statuses=statuses, cut=1)


def test_nothing_is_lost_and_the_counters_add_up(tmp_path):
    found = run(2_000, clients=16, workers=2, seed=1, folder=tmp_path)
    assert found["breaches"] == []
    assert sum(found["outcomes"].values()) == sum(found["sent"].values()) == 2_000
    assert found["counters"]["began"] == found["counters"]["ended"] == 2_000
    happened = found["happened"]
    assert happened["servers of models killed and started again"] >= 1
    assert happened["settings read again by a worker"] >= 1
    assert happened["broken settings refused by a worker"] >= 1


def test_counters_are_compared_with_what_the_clients_saw():
    counted = counters(EXPOSITION)
    assert differences(seen(), counted) == []
    counted["statuses"][UNSEEN_PATH, 200] += 1  # whose client went away
    assert differences(seen(), counted) == []


def test_each_difference_is_told():
    lost = seen()
    lost.sent["whole answers"] += 1
    assert differences(lost, counters(EXPOSITION)) == [
        "began is 5, and 6 requests were sent",
        "ended is 5, and 6 requests were sent",
    ]
    other = seen()
    other.statuses[CHAT, 503] = other.statuses.pop((CHAT, 400))
    assert differences(other, counters(EXPOSITION)) == [
        f"{CHAT}, status 400: counted 1, seen 0",
        f"{CHAT}, status 503: counted 0, seen 1",
    ]
    whole = seen()
    whole.cut = 0
    assert differences(whole, counters(EXPOSITION)) == [
        "1 answers were cut off by the gateway's count, 0 at the clients"
    ]
    counted = counters(EXPOSITION.replace("in_flight 0.0", "in_flight 1.0"))
    assert differences(seen(), counted) == ["1 requests are still under way, and no client waits"]


def test_the_table_says_what_did_not_hold():
    found = {
        "requests": 1_000_000, "clients": 64, "workers": 2, "seconds": 630.0, "breaches": [],
        "sent": {"streams": 400_000, "whole answers": 600_000}, "outcomes": {"answered": 1_000_000},
        "happened": {"servers of models killed and started again": 99}, "counters": {"began": 1e6, "ended": 1e6},
    }  # fmt: skip
    machine = {"date": "2026-12-01", "commit": "abc"}
    results = {"command": "python -m tests.soak.command", "machine": machine, "run": found}
    assert "`/metrics` counts what the clients counted: 1,000,000 requests of 64 clients" in text_of(results)
    assert "killed and started again: 99" in text_of(results)
    found["breaches"] = ["a wrong answer: here"]
    assert "**It did not hold:** `a wrong answer: here`" in text_of(results)


def test_the_document_shows_the_committed_run():
    results = json.loads(RESULTS.read_text("utf-8"))
    assert results["run"]["breaches"] == []
    assert results["run"]["requests"] >= 1_000_000
    assert between(DOCUMENT, MARKERS).strip() == text_of(results).strip()
