"""The mf router on embeddings that exist already."""

from __future__ import annotations
