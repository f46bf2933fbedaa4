"""Import, loading and cold starts, each in fresh interpreters."""

from __future__ import annotations
