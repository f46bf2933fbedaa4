"""Trained routers in other formats. Ships as routellm_fast.export; import it by that name only."""

from __future__ import annotations
