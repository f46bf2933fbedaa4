"""The Triton backend in a real Triton Inference Server."""

from __future__ import annotations
