"""An evaluation for the eye: a page and its pictures."""

from __future__ import annotations

from routellm_fast.evaluation.report.files import OUTPUTS, check_report, write_report

__all__ = ["OUTPUTS", "check_report", "write_report"]
