"""How good routers are, without timings."""

from __future__ import annotations
