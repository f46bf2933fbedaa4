"""Two versions of routellm_fast, measured in turns."""

from __future__ import annotations
