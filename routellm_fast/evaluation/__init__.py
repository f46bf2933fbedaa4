"""How good a router is: benchmarks, curves and RouteLLM's metrics."""

from __future__ import annotations

from routellm_fast.evaluation.bootstrap import bootstrap, interval, random_runs
from routellm_fast.evaluation.comparison import evaluate
from routellm_fast.evaluation.curves import Curve, FineCurve
from routellm_fast.evaluation.datasets import (
    Benchmark,
    read_benchmarks,
    read_gsm8k,
    read_mmlu,
    read_mt_bench,
    read_table_benchmark,
    training_groups,
    without_groups,
)
from routellm_fast.evaluation.metric_set import saving_ratio
from routellm_fast.evaluation.metrics import (
    Metrics,
    apgr_paper,
    fine_curve,
    length_metrics,
    oracle_metrics,
    random_metrics,
    router_metrics,
    sweep,
)
from routellm_fast.evaluation.results import (
    BenchmarkResult,
    CurvePoints,
    Difference,
    DomainResult,
    Evaluation,
    Histogram,
    MetricSet,
    RouterResult,
)
from routellm_fast.evaluation.win_rates import RouterIdentity, Scorer

__all__ = [
    "Benchmark",
    "BenchmarkResult",
    "Curve",
    "CurvePoints",
    "Difference",
    "DomainResult",
    "Evaluation",
    "FineCurve",
    "Histogram",
    "MetricSet",
    "Metrics",
    "RouterIdentity",
    "RouterResult",
    "Scorer",
    "apgr_paper",
    "bootstrap",
    "evaluate",
    "fine_curve",
    "interval",
    "length_metrics",
    "oracle_metrics",
    "random_metrics",
    "random_runs",
    "read_benchmarks",
    "read_gsm8k",
    "read_mmlu",
    "read_mt_bench",
    "read_table_benchmark",
    "router_metrics",
    "saving_ratio",
    "sweep",
    "training_groups",
    "without_groups",
]
