"""Counts what the gateway does, for Prometheus. Several worker processes add up, by files that they share.

Labels hold names of the settings and words of this package only: what a client writes is never one.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from routellm_fast.gateway.exchange import Exchange

_SHARED_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
_NO_NAME: Final = ""
# Seconds, from a fast decision to a long answer.
_SECONDS: Final = (
    1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 3e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
    20.0, 60.0, 120.0, 300.0,
)  # fmt: skip
# Fine enough to see what another threshold would do.
_WIN_RATES: Final = tuple(round(0.01 * step, 2) for step in range(101))


class Metrics:
    """A sink that counts. One for each process; `exposition` shows all processes together."""

    def __init__(self) -> None:
        """Register the metrics."""
        self._is_shared = _SHARED_FOLDER in os.environ
        registry = self._registry = CollectorRegistry()
        made: dict[str, Any] = {"registry": registry, "namespace": "routellm"}
        self._began = Counter("requests_began", "Requests that were accepted.", **made)
        self._ended = Counter(
            "requests",
            "Requests that have ended. status 0: the client went away before. error: empty where there was none.",
            ["endpoint", "model", "status", "error"],
            **made,
        )
        self._in_flight = Gauge("requests_in_flight", "Requests under way.", multiprocess_mode="livesum", **made)
        self._decisions = Counter("decisions", "Choices of a model.", ["router", "model", "reason"], **made)
        self._win_rates = Histogram("win_rate", "Win rates.", ["router"], buckets=_WIN_RATES, **made)
        self._phases = Histogram(
            "phase_seconds",
            "Seconds of a request's phases: read, decide, upstream (until its first byte), total, and gateway (of an "
            "answer that is no stream: all but the upstream's part).",
            ["phase"],
            buckets=_SECONDS,
            **made,
        )
        self._attempts = Counter("upstream_attempts", "Requests sent to an upstream.", ["upstream"], **made)
        self._tokens = Counter("tokens", "Tokens: input, cached (of the input), output.", ["model", "kind"], **made)
        self._cost = Counter("cost_usd", "US dollars that answers cost.", ["model"], **made)
        self._strong_cost = Counter(
            "all_strong_cost_usd",
            "US dollars that the answers would have cost at the strong model.",
            ["router"],
            **made,
        )
        self._routed_cost = Counter("routed_cost_usd", "US dollars that the routed answers cost.", ["router"], **made)
        self._mirrored = Counter("mirrored", "Requests that the other model answered too.", ["router", "error"], **made)
        self._child: Any = lru_cache(maxsize=4096)(_child)

    def began(self, exchange: Exchange) -> None:
        """Count a request that was accepted."""
        del exchange
        self._began.inc()
        self._in_flight.inc()

    def ended(self, exchange: Exchange) -> None:
        """Count a request that has ended."""
        child, choice = self._child, exchange.choice
        self._in_flight.dec()
        child(self._ended, exchange.endpoint, exchange.model, str(exchange.status), exchange.error).inc()
        if choice is not None:
            child(self._decisions, choice.router, choice.model, choice.reason).inc()
            child(self._phases, "decide").observe(exchange.decide_s)
            if choice.win_rate is not None and choice.router:
                child(self._win_rates, choice.router).observe(choice.win_rate)
        child(self._phases, "total").observe(exchange.total_s)
        if exchange.read_s:
            child(self._phases, "read").observe(exchange.read_s)
        if exchange.attempts:
            child(self._attempts, exchange.upstream).inc(exchange.attempts)
            if exchange.first_byte_s:
                child(self._phases, "upstream").observe(exchange.first_byte_s)
                if exchange.attempts == 1 and not exchange.is_stream:
                    child(self._phases, "gateway").observe(max(0.0, exchange.total_s - exchange.first_byte_s))
        self._spent(exchange)

    def mirrored(self, exchange: Exchange) -> None:
        """Count a second answer."""
        if exchange.mirrored is not None and exchange.choice is not None:
            self._child(self._mirrored, exchange.choice.router, exchange.mirrored.error).inc()
            self._spent(exchange.mirrored, is_routed=False)

    def _spent(self, exchange: Exchange, *, is_routed: bool = True) -> None:
        child, usage, choice = self._child, exchange.usage, exchange.choice
        if usage is None:
            return
        child(self._tokens, exchange.model, "input").inc(usage.input_tokens)
        child(self._tokens, exchange.model, "output").inc(usage.output_tokens)
        if usage.cached_tokens:
            child(self._tokens, exchange.model, "cached").inc(usage.cached_tokens)
        if exchange.cost_usd is not None:
            child(self._cost, exchange.model).inc(exchange.cost_usd)
            if is_routed and choice is not None and exchange.strong_cost_usd is not None:
                child(self._strong_cost, choice.router).inc(exchange.strong_cost_usd)
                child(self._routed_cost, choice.router).inc(exchange.cost_usd)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics of all processes as text, and its content type."""
        del accept  # there is one form, which every reader takes
        registry = self._registry
        if self._is_shared:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST


def _child(metric: Any, *labels: str) -> Any:
    """Return a metric of these labels; prometheus-client takes a lock to find one."""
    return metric.labels(*labels)
