"""Checkpoints: what a training has reached, so that it can go on after an interruption.

A checkpoint is a directory like a router's (`docs/artifact-format.md`), with `checkpoint.json` as its manifest: tensors
in `weights.safetensors`, everything else as JSON, no pickle. It is replaced whole after each epoch: an interruption
leaves the last one. What a trainer keeps there is enough to reach the same bytes as without the interruption.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.artifact import Artifact, Layout, is_artifact, read_artifact, write_artifact
from routellm_fast.errors import ArtifactFormatError, ArtifactIntegrityError, CheckpointMismatchError

LAYOUT: Final = Layout(
    "checkpoint.json",
    {
        "format_version": (int,),
        "tensors": (dict,),
        "files": (dict,),
        "identity": (dict,),
        "state": (dict,),
        "sha256": (str,),  # of identity and state: a training that went on from other numbers would end otherwise
    },
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where one training keeps what it has reached.

    Attributes:
        folder: Written by `save`; it need not be there.
        identity: What the training depends on, JSON-able: trainer, settings, digests of data. One that differs in it
            cannot go on from here.
    """

    folder: Path
    identity: Mapping[str, Any]

    def load(self) -> tuple[dict[str, Any], Mapping[str, NDArray[Any]]] | None:
        """Return the state and tensors last saved, None where nothing was.

        Raises:
            CheckpointMismatchError: They are of another training; the text says in what it differs.
            ArtifactError: The directory is damaged.
        """
        if not is_artifact(self.folder, LAYOUT):
            return None
        artifact = read_artifact(self.folder, LAYOUT)
        if artifact.manifest["sha256"] != digest_of(artifact.manifest["identity"], artifact.manifest["state"]):
            raise ArtifactIntegrityError(
                f"{self.folder}/{LAYOUT.manifest_file} was changed: its identity and state do not have the sha256 that "
                "it states. Give an undamaged checkpoint, or another directory to train anew."
            )
        found, expected = _flat(artifact.manifest["identity"]), _flat(json.loads(json.dumps(self.identity)))
        if found != expected:
            names = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
            name = names[0]
            raise CheckpointMismatchError(
                f"{self.folder} is the checkpoint of another training: {', '.join(names)} differ"
                f" ({name} is {found.get(name)!r} there, {expected.get(name)!r} here). Give the same data and settings,"
                " or another checkpoint directory."
            )
        return artifact.manifest["state"], artifact.tensors

    def save(self, state: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> None:
        """Replace what was saved. Raises ArtifactWriteError where it cannot be."""
        manifest = json.loads(json.dumps({"identity": dict(self.identity), "state": dict(state)}))
        manifest["sha256"] = digest_of(manifest["identity"], manifest["state"])
        write_artifact(self.folder, Artifact(manifest, tensors), LAYOUT)

    def tensor(self, tensors: Mapping[str, NDArray[Any]], name: str, like: NDArray[Any]) -> NDArray[Any]:
        """Return a tensor that was saved. Raises ArtifactFormatError unless its shape and type are those of `like`."""
        found = tensors.get(name)
        if found is None or found.shape != like.shape or found.dtype != like.dtype:
            shown = "nothing" if found is None else f"{found.dtype} {found.shape}"
            raise ArtifactFormatError(f"{self.folder}: {name} must be {like.dtype} {like.shape}, found {shown}")
        return np.array(found)  # its own memory, writable


def digest_of(*parts: Any) -> str:
    """Return "sha256:<hex>" of arrays and JSON-able values, for a training's identity."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype.str}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).data)
        else:
            digest.update(json.dumps(part, sort_keys=True).encode())
    return f"sha256:{digest.hexdigest()}"


def _flat(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by their own names, so that a difference is told by the setting's."""
    flat: dict[str, Any] = {}
    for name, value in identity.items():
        flat |= value if isinstance(value, dict) else {name: value}
    return flat
