"""How good a router is: benchmarks, curves and RouteLLM's metrics."""

from __future__ import annotations

from routellm_fast.evaluation.datasets import Benchmark, read_benchmarks, read_gsm8k, read_mmlu, read_mt_bench
from routellm_fast.evaluation.metrics import (
    Curve,
    Metrics,
    length_metrics,
    oracle_metrics,
    random_metrics,
    router_metrics,
    sweep,
)

__all__ = [
    "Benchmark",
    "Curve",
    "Metrics",
    "length_metrics",
    "oracle_metrics",
    "random_metrics",
    "read_benchmarks",
    "read_gsm8k",
    "read_mmlu",
    "read_mt_bench",
    "router_metrics",
    "sweep",
]
