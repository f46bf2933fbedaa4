"""What is counted, and that it adds up."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from routellm_fast.gateway.exchange import Choice, Exchange, Usage
from routellm_fast.gateway.metrics import Metrics


def samples(metrics):
    """Return each sample's value by its name and labels."""
    body, content_type = metrics.exposition("")
    assert content_type.startswith("text/plain")
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def answered(**changes):
    exchange = Exchange(
        "/v1/chat/completions",
        choice=Choice("small", "big", "router", "mf", "", 0.304, 0.5, False, "small"),
        model="small",
        upstream="local",
        attempts=2,
        status=200,
        usage=Usage(100, 20, 60),
        cost_usd=0.25,
        strong_cost_usd=1.0,
        read_s=0.0001,
        decide_s=0.00001,
        first_byte_s=0.2,
        total_s=0.3,
        is_complete=True,
    )
    for name, value in changes.items():
        setattr(exchange, name, value)
    return exchange


def test_an_answer_is_counted_once_everywhere():
    metrics = Metrics()
    exchange = answered()
    metrics.began(exchange)
    assert samples(metrics)["routellm_requests_in_flight",] == 1.0
    metrics.ended(exchange)
    found = samples(metrics)
    assert found["routellm_requests_in_flight",] == 0.0
    assert found["routellm_requests_began_total",] == 1.0
    assert found["routellm_requests_total", "", "/v1/chat/completions", "200", "small"] == 1.0
    assert found["routellm_decisions_total", "mf", "router", "small"] == 1.0
    assert found["routellm_upstream_attempts_total", "local"] == 2.0
    assert found["routellm_tokens_total", "input", "small"] == 100.0
    assert found["routellm_tokens_total", "cached", "small"] == 60.0
    assert found["routellm_tokens_total", "output", "small"] == 20.0
    assert found["routellm_cost_usd_total", "small"] == 0.25
    assert found["routellm_routed_cost_usd_total", "mf"] == 0.25
    assert found["routellm_all_strong_cost_usd_total", "mf"] == 1.0
    assert found["routellm_win_rate_bucket", "0.3", "mf"] == 0.0
    assert found["routellm_win_rate_bucket", "0.31", "mf"] == 1.0
    assert found["routellm_phase_seconds_sum", "upstream"] == pytest.approx(0.2)
    assert ("routellm_phase_seconds_sum", "gateway") not in found  # it was asked twice, so nobody knows


def test_what_ended_and_what_is_under_way_add_up_to_what_began():
    metrics = Metrics()
    exchanges = [answered(), answered(status=502, error="upstream_broken"), Exchange("/v1/messages", status=401)]
    for exchange in [*exchanges, answered()]:
        metrics.began(exchange)
    for exchange in exchanges:
        metrics.ended(exchange)
    found = samples(metrics)
    ended = sum(value for key, value in found.items() if key[0] == "routellm_requests_total")
    assert (ended, found["routellm_requests_in_flight",], found["routellm_requests_began_total",]) == (3.0, 1.0, 4.0)


def test_a_second_answer_costs_and_saves_nothing():
    metrics = Metrics()
    exchange = answered(mirrored=answered(model="big", cost_usd=1.0))
    metrics.mirrored(exchange)
    found = samples(metrics)
    assert found["routellm_mirrored_total", "", "mf"] == 1.0
    assert found["routellm_cost_usd_total", "big"] == 1.0
    assert not any(key[0] == "routellm_all_strong_cost_usd_total" for key in found)


def test_a_client_chooses_no_label():
    metrics = Metrics()
    for number in range(50):
        exchange = Exchange("/v1/chat/completions", asked_model=f"model-{number}", status=404, error="model_not_found")
        metrics.began(exchange)
        metrics.ended(exchange)
    labels = [key for key in samples(metrics) if key[0] == "routellm_requests_total"]
    assert labels == [("routellm_requests_total", "", "/v1/chat/completions", "404", "model_not_found")]
