"""Benchmarks of routellm-fast, grouped by subject. Run them with `python -m benchmarks COMMAND`."""

from __future__ import annotations
