"""The command line `routellm-fast`. Commands read options, call the package and print; no other module prints."""

from __future__ import annotations

from routellm_fast.cli._app import main

__all__ = ["main"]
