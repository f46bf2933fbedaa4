"""The sw_ranking router: embeddings and texts, against the number of battles."""

from __future__ import annotations
