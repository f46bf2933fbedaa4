"""The metadata of an exported graph: what it is, and from which router it was made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from routellm_fast import _core
from routellm_fast.artifact import ROUTER_LAYOUT, Artifact, read_artifact
from routellm_fast.errors import ForeignExportError
from routellm_fast.routers.base import Router

_PREFIX: Final = "routellm_fast."
# Calibration, provenance and the names that prompts are sent to change no win rate.
_SCORING_KEYS: Final = ("kind", "settings", "embedder", "tensors", "files")


def router_digest(directory: Path) -> str:
    """Return the digest_of a router directory.

    Raises:
        ArtifactError: There is no such router directory.
    """
    return digest_of(read_artifact(directory, ROUTER_LAYOUT))


def digest_of(artifact: Artifact) -> str:
    """Return "sha256:<hex>" of everything in a router directory that a win rate depends on.

    A router that is calibrated anew, or whose models get other names, keeps its digest.

    Args:
        artifact: The directory as read_artifact read it, in the current format.
    """
    manifest = {**artifact.manifest, **artifact.recorded}
    scoring = {key: manifest[key] for key in _SCORING_KEYS}
    return f"sha256:{hashlib.sha256(json.dumps(scoring, sort_keys=True).encode()).hexdigest()}"


def metadata_of(router: Router, digest: str, inputs: str, precision: str) -> dict[str, str]:
    """Return the metadata of an exported graph."""
    facts = {
        "version": _core.__version__,
        "router_digest": digest,
        "kind": router.kind,
        "strong_model": router.model_pair.strong,
        "weak_model": router.model_pair.weak,
        "inputs": inputs,
        "precision": precision,
    }
    return {_PREFIX + key: value for key, value in facts.items()}


def check_metadata(found: Mapping[str, str], digest: str, where: Any) -> dict[str, str]:
    """Return the metadata without their prefix. Raises ForeignExportError unless they are of the router of a digest."""
    own = {key.removeprefix(_PREFIX): value for key, value in found.items() if key.startswith(_PREFIX)}
    if "router_digest" not in own:
        raise ForeignExportError(
            f"{where} does not say which router it is of: it was not written by `routellm-fast export`"
        )
    if own["router_digest"] != digest:
        raise ForeignExportError(
            f"{where} was exported from the router {own['router_digest']}, this one is {digest}: its win rates mean "
            "something else. Export this router."
        )
    return own
