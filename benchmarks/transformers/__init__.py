"""Routers that read prompts themselves: bert and causal_llm."""

from __future__ import annotations
