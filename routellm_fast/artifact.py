"""Directories of weights with a manifest: written whole, read strictly.

`docs/artifact-format.md` is the specification. This module knows files, shapes and digests, and no router.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import safetensors
import safetensors.numpy

from routellm_fast.errors import (
    ArtifactFormatError,
    ArtifactIntegrityError,
    ArtifactNotFoundError,
    ArtifactVersionError,
    ArtifactWriteError,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT_VERSION: Final = 1
WEIGHTS_FILE: Final = "weights.safetensors"
MODEL_CARD_FILE: Final = "README.md"
_MAX_MANIFEST_BYTES: Final = 64 << 20

Manifest = dict[str, Any]
Migration = Callable[[Manifest], Manifest]

# Migration n turns a manifest of version n into one of version n + 1.
MIGRATIONS: Final[Mapping[int, Migration]] = {}


@dataclass(frozen=True, slots=True)
class Layout:
    """What a kind of directory must hold: its manifest's name and the manifest's keys with their types."""

    manifest_file: str
    keys: Mapping[str, tuple[type, ...]]


_COMMON_KEYS: Final = {"format_version": (int,), "tensors": (dict,), "files": (dict,), "provenance": (dict,)}

ROUTER_LAYOUT: Final = Layout(
    "router.json",
    {
        **_COMMON_KEYS,
        "kind": (str,),
        "model_pair": (dict,),
        "embedder": (dict, type(None)),
        "settings": (dict,),
        "calibration": (dict, type(None)),
    },
)
EMBEDDER_LAYOUT: Final = Layout("embedder.json", {**_COMMON_KEYS, "embedder": (dict,)})


@dataclass(frozen=True, slots=True)
class Artifact:
    """The contents of a directory.

    Attributes:
        manifest: What the manifest says besides format_version, tensors and files, which are made from the contents.
        tensors: Arrays by name; float tensors are finite.
        files: Further files by bare name, e.g. tokenizer.json.
        model_card: README.md, or "" for none. The only file without a digest: it is prose, free to be edited.
    """

    manifest: Manifest
    tensors: Mapping[str, NDArray[Any]]
    files: Mapping[str, bytes] = field(default_factory=dict)
    model_card: str = ""


def write_artifact(path: str | Path, artifact: Artifact, layout: Layout) -> None:
    """Write a directory, whole or not at all; equal contents give equal bytes.

    Raises:
        ArtifactIntegrityError: A tensor has a value that is not finite.
        ArtifactWriteError: The file system refused, or something that is no such directory stands there.
    """
    target = Path(path)
    _check_replaceable(target, layout)
    tensors = {name: np.ascontiguousarray(array) for name, array in sorted(artifact.tensors.items())}
    _check_finite(tensors, target)
    files = dict(artifact.files)
    if tensors:
        files[WEIGHTS_FILE] = safetensors.numpy.save(tensors)
    manifest = {
        **artifact.manifest,
        "format_version": FORMAT_VERSION,
        "tensors": {name: _describe(array) for name, array in tensors.items()},
        "files": {name: _digest(content) for name, content in files.items()},
    }
    _check_keys(manifest, layout, target)
    contents = {**files, layout.manifest_file: _canonical_json(manifest)}
    if artifact.model_card:
        contents[MODEL_CARD_FILE] = artifact.model_card.encode()
    from routellm_fast._atomic import write_directory  # most programs only read

    try:
        write_directory(target, contents)
    except OSError as error:
        message = f"{target} could not be written ({error.strerror or error}). What stood there is unchanged."
        raise ArtifactWriteError(error.errno or 0, message) from error


def read_artifact(path: str | Path, layout: Layout) -> Artifact:
    """Read and verify a directory.

    Raises:
        ArtifactNotFoundError, ArtifactVersionError, ArtifactFormatError, ArtifactIntegrityError: See their classes.
    """
    directory = Path(path)
    try:
        # All files through one handle: should the directory be replaced meanwhile, this keeps reading the old one.
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        message = (
            f"{directory} is no directory that can be read ({error.strerror}). "
            f"Expected one with a {layout.manifest_file}."
        )
        raise ArtifactNotFoundError(message) from error
    try:
        manifest = _read_manifest(directory, handle, layout)
        files = {name: _read_verified(directory, handle, name, entry) for name, entry in manifest["files"].items()}
        card = _read_optional(handle, MODEL_CARD_FILE).decode("utf-8", errors="replace")
    finally:
        os.close(handle)
    tensors = _load_tensors(directory, files.pop(WEIGHTS_FILE, None), manifest["tensors"])
    rest = {key: value for key, value in manifest.items() if key not in ("format_version", "tensors", "files")}
    return Artifact(manifest=rest, tensors=tensors, files=files, model_card=card)


def is_artifact(path: str | Path, layout: Layout) -> bool:
    """Say whether a directory holds a manifest of this layout."""
    return (Path(path) / layout.manifest_file).is_file()


def migrate(
    manifest: Manifest, where: Path, *, migrations: Mapping[int, Migration] = MIGRATIONS, current: int = FORMAT_VERSION
) -> Manifest:
    """Bring a manifest of an older version up to the current one.

    Raises:
        ArtifactVersionError: It is newer than `current`.
        ArtifactFormatError: Its version is no positive integer, or one that was never written.
    """
    version = manifest.get("format_version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        message = f"{where}: format_version must be an integer from 1 to {current}, found {version!r}"
        raise ArtifactFormatError(message)
    if version > current:
        message = (
            f"{where} has format version {version}; this routellm-fast reads up to {current}. "
            "It was written by a newer version: upgrade routellm-fast, or save the router again with this one."
        )
        raise ArtifactVersionError(message)
    for step in range(version, current):
        manifest = {**migrations[step](manifest), "format_version": step + 1}
    return manifest


def _canonical_json(manifest: Manifest) -> bytes:
    """One key a line: readable by hand, comparable by diff, and tables of numbers stay on one line."""
    lines = [
        f"{json.dumps(key)}: {json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)}"
        for key, value in sorted(manifest.items())
    ]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _digest(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _describe(array: NDArray[Any]) -> dict[str, Any]:
    return {"dtype": array.dtype.name, "shape": list(array.shape)}


def _check_replaceable(target: Path, layout: Layout) -> None:
    """Never replace what we did not write."""
    if target.is_dir() and (is_artifact(target, layout) or not any(target.iterdir())):
        return
    if target.exists() or target.is_symlink():
        message = (
            f"{target} exists and is no directory with a {layout.manifest_file}: it is left alone. Choose another path."
        )
        raise ArtifactWriteError(message)


def _check_finite(tensors: Mapping[str, NDArray[Any]], where: Path) -> None:
    for name, array in tensors.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            message = f"{where}: tensor {name} has {array[index]} at {index}; every weight must be finite"
            raise ArtifactIntegrityError(message)


def _check_keys(manifest: Manifest, layout: Layout, where: Path) -> None:
    missing, unknown = sorted(set(layout.keys) - set(manifest)), sorted(set(manifest) - set(layout.keys))
    if missing or unknown:
        found = "; ".join(
            f"{what} {', '.join(keys)}" for what, keys in (("missing", missing), ("unknown", unknown)) if keys
        )
        message = f"{where}/{layout.manifest_file} does not hold format {FORMAT_VERSION}'s keys: {found}"
        raise ArtifactFormatError(message)
    for key, types in layout.keys.items():
        if not isinstance(manifest[key], types):
            expected = " or ".join("null" if kind is type(None) else kind.__name__ for kind in types)
            message = f"{where}/{layout.manifest_file}: {key} must be {expected}, found {type(manifest[key]).__name__}"
            raise ArtifactFormatError(message)


def _read_manifest(directory: Path, handle: int, layout: Layout) -> Manifest:
    where = directory / layout.manifest_file
    content = _read_file(directory, handle, layout.manifest_file, limit=_MAX_MANIFEST_BYTES)
    try:
        manifest = json.loads(content, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        message = f"{where} is not valid JSON ({error}). The directory is damaged: copy or save it again."
        raise ArtifactFormatError(message) from error
    if not isinstance(manifest, dict):
        message = f"{where} must hold a JSON object, found {type(manifest).__name__}"
        raise ArtifactFormatError(message)
    manifest = migrate(manifest, where)
    _check_keys(manifest, layout, directory)
    for name, entry in manifest["files"].items():
        _check_file_entry(name, entry, where)
    return manifest


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        message = "a key stands twice"
        raise ValueError(message)
    return result


def _refuse_constant(name: str) -> None:
    message = f"{name} is no JSON number"
    raise ValueError(message)


def _check_file_entry(name: str, entry: Any, where: Path) -> None:
    if not name or name.startswith(".") or "/" in name or "\\" in name or "\0" in name:
        message = f"{where}: files names {name!r}; only bare names inside the directory are allowed"
        raise ArtifactFormatError(message)
    fits = isinstance(entry, dict) and set(entry) == {"bytes", "sha256"}
    if not fits or type(entry["bytes"]) is not int or not isinstance(entry["sha256"], str):
        message = f"{where}: files.{name} must be an object of bytes (an integer) and sha256 (hexadecimal)"
        raise ArtifactFormatError(message)


def _read_file(directory: Path, handle: int, name: str, *, limit: int) -> bytes:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=handle)
    except OSError as error:
        message = (
            f"{directory} lacks {name} ({error.strerror}): it is incomplete, or no such directory. "
            "Copy or save it again."
        )
        raise ArtifactNotFoundError(message) from error
    with os.fdopen(descriptor, "rb") as file:
        try:
            content = file.read(limit + 1)
        except OSError as error:
            message = f"{directory / name} cannot be read ({error.strerror})"
            raise ArtifactIntegrityError(message) from error
    if len(content) > limit:
        message = f"{directory / name} is larger than the {limit} bytes that were expected. Copy or save it again."
        raise ArtifactIntegrityError(message)
    return content


def _read_verified(directory: Path, handle: int, name: str, entry: Mapping[str, Any]) -> bytes:
    content = _read_file(directory, handle, name, limit=max(entry["bytes"], 0))
    found = _digest(content)
    for key in ("bytes", "sha256"):
        if found[key] != entry[key]:
            message = (
                f"{directory / name} has {key} {found[key]}, the manifest says {entry[key]}: "
                "it is truncated or was changed. Copy or save the directory again."
            )
            raise ArtifactIntegrityError(message)
    return content


def _read_optional(handle: int, name: str) -> bytes:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=handle)
    except OSError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        return file.read(_MAX_MANIFEST_BYTES)


def _load_tensors(directory: Path, content: bytes | None, declared: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    where = directory / WEIGHTS_FILE
    if content is None:
        tensors: dict[str, NDArray[Any]] = {}
    else:
        try:
            tensors = safetensors.numpy.load(content)
        except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
            message = f"{where} is no safetensors file that can be read ({error})"
            raise ArtifactFormatError(message) from error
    found = {name: _describe(array) for name, array in tensors.items()}
    if found != declared:
        differing = sorted(name for name in {*found, *declared} if found.get(name) != declared.get(name))
        name = differing[0]
        message = (
            f"{where}: tensor {name} is {found.get(name, 'absent')}, the manifest says {declared.get(name, 'nothing')}"
        )
        raise ArtifactFormatError(message)
    _check_finite(tensors, directory)
    return tensors
