"""Evaluation and scoring of prompt logs of any length, in constant memory.

A log is a table with a prompt and both models' quality in each row. `ray_engine` reads one on many machines.
"""

from __future__ import annotations

from routellm_fast.evaluation.streaming.chunks import LogColumns, OnBadRow
from routellm_fast.evaluation.streaming.local_engine import evaluate_log, evaluate_stream
from routellm_fast.evaluation.streaming.quality import StreamedQuality
from routellm_fast.evaluation.streaming.scores import score_log
from routellm_fast.evaluation.streaming.sketch import QualitySketch

__all__ = [
    "LogColumns",
    "OnBadRow",
    "QualitySketch",
    "StreamedQuality",
    "evaluate_log",
    "evaluate_stream",
    "score_log",
]
