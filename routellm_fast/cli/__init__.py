"""The command line `routellm-fast`. Each command is a thin face over the package; only this room prints."""

from __future__ import annotations

from routellm_fast.cli._app import main

__all__ = ["main"]
