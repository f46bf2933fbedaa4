"""Manifests of directories, for tests that edit them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def editable_manifest(path: Path) -> dict[str, Any]:
    """Return a manifest without its digest of itself: with it, no edit would get further than that digest."""
    manifest: dict[str, Any] = json.loads(path.read_bytes())
    manifest.pop("manifest_sha256", None)
    return manifest
