"""Routers behind a server: clients, and what runs on the server's side."""

from __future__ import annotations

from routellm_fast.serving.native_backend import triton_backend_directory

__all__ = ["triton_backend_directory"]
