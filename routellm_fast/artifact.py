"""Directories of weights with a manifest: written whole, read strictly.

`docs/artifact-format.md` is the specification. This module knows files, shapes and digests, and no router.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import safetensors
import safetensors.numpy

from routellm_fast import _mapped
from routellm_fast.errors import (
    ArtifactError,
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
_SHA256: Final = re.compile(r"[0-9a-f]{64}")

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
        mapped: More arrays by name, for tensors too large to be read whole: each has a file of its own. Those that
            read_artifact gives are read-only and backed by their files; write_artifact links to such a file instead of
            writing it again. No name is also in `tensors`.
        file_sha256: Digests of `files`, hexadecimal, as read_artifact verified them; write_artifact makes its own.
        recorded: `tensors` and `files` of the manifest that read_artifact read; write_artifact makes its own.
    """

    manifest: Manifest
    tensors: Mapping[str, NDArray[Any]]
    files: Mapping[str, bytes] = field(default_factory=dict)
    model_card: str = ""
    mapped: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    file_sha256: Mapping[str, str] = field(default_factory=dict)
    recorded: Manifest = field(default_factory=dict)


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
    mapped = dict(sorted(artifact.mapped.items()))
    _check_mapped(mapped, artifact, target)
    contents = dict(artifact.files)
    if tensors:
        contents[WEIGHTS_FILE] = safetensors.numpy.save(tensors)
    files = {name: _digest(content) for name, content in contents.items()}
    manifest = {
        **artifact.manifest,
        "format_version": FORMAT_VERSION,
        "tensors": {name: _describe(array) for name, array in tensors.items()}
        | {name: {**_describe(array), "file": name + _mapped.SUFFIX} for name, array in mapped.items()},
        "files": files,
    }
    _check_keys(manifest, layout, target)
    if artifact.model_card:
        contents[MODEL_CARD_FILE] = artifact.model_card.encode("utf-8", "replace")  # data may hold lone surrogates
    from routellm_fast.atomic import staged_directory, synced_file  # most programs only read

    try:
        with staged_directory(target) as staging:
            for name, array in mapped.items():
                file_path = staging / (name + _mapped.SUFFIX)
                entry = _mapped.link_tensor(file_path, name, array)
                if entry is None:
                    with synced_file(file_path) as file:
                        entry = _mapped.write_tensor(file, name, array, target)
                files[file_path.name] = entry
            # The manifest last: it states the digests of all others.
            contents[layout.manifest_file] = _canonical_json(manifest)
            for name, content in contents.items():
                with synced_file(staging / name) as file:
                    file.write(content)
    except OSError as error:
        raise ArtifactWriteError(
            error.errno or 0,
            f"{target} could not be written ({error.strerror or error}). What stood there is unchanged.",
        ) from error


def read_artifact(path: str | Path, layout: Layout) -> Artifact:
    """Read and verify a directory, but for the data of mapped tensors: of those only sizes and headers are read.

    Raises:
        ArtifactNotFoundError, ArtifactVersionError, ArtifactFormatError, ArtifactIntegrityError: See their classes.
    """
    directory = Path(path)
    with _opened(directory, layout) as handle:
        return _read_contents(directory, handle, _read_manifest(directory, handle, layout))


def verify_artifact(path: str | Path, layout: Layout, *, on_progress: Callable[[int, int], None] | None = None) -> int:
    """Read and verify a directory whole, the data of mapped tensors too, in bounded memory.

    Args:
        path: The directory.
        layout: What it must hold.
        on_progress: Called now and then with the bytes that were verified, and those that there are.

    Returns:
        The bytes of all files with digests.

    Raises:
        ArtifactNotFoundError, ArtifactVersionError, ArtifactFormatError, ArtifactIntegrityError: See their classes.
    """
    directory = Path(path)
    with _opened(directory, layout) as handle:
        manifest = _read_manifest(directory, handle, layout)
        mapped = _read_contents(directory, handle, manifest).mapped
        files = manifest["files"]
        total: int = sum(entry["bytes"] for entry in files.values())
        verified = total - sum(files[name + _mapped.SUFFIX]["bytes"] for name in mapped)

        def count(size: int) -> None:
            nonlocal verified
            verified += size
            if on_progress is not None:
                on_progress(verified, total)

        for name, array in mapped.items():
            file_name = name + _mapped.SUFFIX
            with _opened_file(directory, handle, file_name) as descriptor:
                _mapped.verify_tensor(descriptor, directory / file_name, name, array, files[file_name], count)
    return total


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
        raise ArtifactFormatError(f"{where}: format_version must be an integer from 1 to {current}, found {version!r}")
    if version > current:
        raise ArtifactVersionError(
            f"{where} has format version {version}; this routellm-fast reads up to {current}. "
            "It was written by a newer version: upgrade routellm-fast, or save the router again with this one."
        )
    for step in range(version, current):
        manifest = {**migrations[step](manifest), "format_version": step + 1}
    return manifest


def _canonical_json(manifest: Manifest) -> bytes:
    """One key a line: readable by hand, comparable by diff, and tables of numbers stay on one line."""
    try:
        return _lines_of(manifest, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # a lone surrogate has no UTF-8; as an escape it survives
        return _lines_of(manifest, ensure_ascii=True).encode()


def _lines_of(manifest: Manifest, *, ensure_ascii: bool) -> str:
    lines = [
        f"{json.dumps(key)}: {json.dumps(value, sort_keys=True, ensure_ascii=ensure_ascii, allow_nan=False)}"
        for key, value in sorted(manifest.items())
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _digest(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _describe(array: NDArray[Any]) -> dict[str, Any]:
    return {"dtype": array.dtype.name, "shape": list(array.shape)}


def _check_replaceable(target: Path, layout: Layout) -> None:
    """Never replace what we did not write."""
    if target.is_dir() and (is_artifact(target, layout) or not any(target.iterdir())):
        return
    if target.exists() or target.is_symlink():
        raise ArtifactWriteError(
            f"{target} exists and is no directory with a {layout.manifest_file}: it is left alone. Choose another path."
        )


def _check_finite(tensors: Mapping[str, NDArray[Any]], where: Path) -> None:
    for name, array in tensors.items():
        position = _mapped.first_non_finite(array)
        if position is not None:
            raise _mapped.non_finite(where, name, array.flat[position], position, array.shape)


def _check_mapped(mapped: Mapping[str, NDArray[Any]], artifact: Artifact, where: Path) -> None:
    for name, array in mapped.items():
        _mapped.check_tensor(name, array, where)
        if name in artifact.tensors or name + _mapped.SUFFIX in artifact.files:
            raise ArtifactFormatError(
                f"{where}: {name} names two tensors, or a tensor and a file; each needs a name of its own"
            )


def _check_keys(manifest: Manifest, layout: Layout, where: Path) -> None:
    missing, unknown = sorted(set(layout.keys) - set(manifest)), sorted(set(manifest) - set(layout.keys))
    if missing or unknown:
        found = "; ".join(
            f"{what} {', '.join(keys)}" for what, keys in (("missing", missing), ("unknown", unknown)) if keys
        )
        raise ArtifactFormatError(
            f"{where}/{layout.manifest_file} does not hold format {FORMAT_VERSION}'s keys: {found}"
        )
    for key, types in layout.keys.items():
        if not isinstance(manifest[key], types):
            expected = " or ".join("null" if kind is type(None) else kind.__name__ for kind in types)
            raise ArtifactFormatError(
                f"{where}/{layout.manifest_file}: {key} must be {expected}, found {type(manifest[key]).__name__}"
            )


def _read_manifest(directory: Path, handle: int, layout: Layout) -> Manifest:
    where = directory / layout.manifest_file
    content = _read_file(directory, handle, layout.manifest_file, limit=_MAX_MANIFEST_BYTES)
    try:
        manifest = json.loads(content, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise ArtifactFormatError(
            f"{where} is not valid JSON ({error}). The directory is damaged: copy or save it again."
        ) from error
    if not isinstance(manifest, dict):
        raise ArtifactFormatError(f"{where} must hold a JSON object, found {type(manifest).__name__}")
    manifest = migrate(manifest, where)
    _check_keys(manifest, layout, directory)
    for name, entry in manifest["files"].items():
        _check_file_entry(name, entry, where)
    for name, entry in _in_own_files(manifest["tensors"]).items():
        _mapped.check_entry(name, entry, where)
        if entry["file"] not in manifest["files"]:
            raise ArtifactFormatError(f"{where}: tensors.{name} is in {entry['file']}, which files does not list")
    return manifest


def _in_own_files(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {name: entry for name, entry in entries.items() if isinstance(entry, dict) and "file" in entry}


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice")
    return result


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _check_file_entry(name: str, entry: Any, where: Path) -> None:
    surrogates = any("\ud800" <= character <= "\udfff" for character in name)  # no file system can be asked for them
    if not name or name.startswith(".") or "/" in name or "\\" in name or "\0" in name or surrogates:
        raise ArtifactFormatError(f"{where}: files names {name!r}; only bare names inside the directory are allowed")
    fits = isinstance(entry, dict) and set(entry) == {"bytes", "sha256"}
    fits = fits and type(entry["bytes"]) is int and isinstance(entry["sha256"], str)
    if not fits or not _SHA256.fullmatch(entry["sha256"]):
        raise ArtifactFormatError(
            f"{where}: files.{name} must be an object of bytes (an integer) and sha256 (64 hexadecimal digits)"
        )


@contextmanager
def _opened(directory: Path, layout: Layout) -> Iterator[int]:
    """All files through one handle: should the directory be replaced meanwhile, this keeps reading the old one."""
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ArtifactNotFoundError(
            f"{directory} is no directory that can be read ({error.strerror}). "
            f"Expected one with a {layout.manifest_file}."
        ) from error
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _opened_file(directory: Path, handle: int, name: str) -> Iterator[int]:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=handle)
    except OSError as error:
        raise ArtifactNotFoundError(
            f"{directory} lacks {name} ({error.strerror}): it is incomplete, or no such directory. "
            "Copy or save it again."
        ) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ArtifactIntegrityError(f"{directory / name} is no regular file. Copy or save the directory again.")
        yield descriptor
    finally:
        os.close(descriptor)


def _read_file(directory: Path, handle: int, name: str, *, limit: int) -> bytes:
    with _opened_file(directory, handle, name) as descriptor, os.fdopen(descriptor, "rb", closefd=False) as file:
        try:
            content = file.read(limit + 1)
        except OSError as error:
            raise ArtifactIntegrityError(f"{directory / name} cannot be read ({error.strerror})") from error
    if len(content) > limit:
        raise ArtifactIntegrityError(
            f"{directory / name} is larger than the {limit} bytes that were expected. Copy or save it again."
        )
    return content


def _read_contents(directory: Path, handle: int, manifest: Manifest) -> Artifact:
    own = _in_own_files(manifest["tensors"])
    apart = {entry["file"] for entry in own.values()}
    files = {
        name: _read_verified(directory, handle, name, entry)
        for name, entry in manifest["files"].items()
        if name not in apart
    }
    mapped = {}
    for name, entry in own.items():
        with _opened_file(directory, handle, entry["file"]) as descriptor:
            recorded = manifest["files"][entry["file"]]
            mapped[name] = _mapped.map_tensor(descriptor, directory / entry["file"], name, entry, recorded)
    declared = {name: entry for name, entry in manifest["tensors"].items() if name not in own}
    tensors = _load_tensors(directory, files.pop(WEIGHTS_FILE, None), declared)
    rest = {key: value for key, value in manifest.items() if key not in ("format_version", "tensors", "files")}
    return Artifact(
        manifest=rest,
        tensors=tensors,
        files=files,
        model_card=_read_card(directory, handle),
        mapped=mapped,
        file_sha256={name: manifest["files"][name]["sha256"] for name in files},
        recorded={key: manifest[key] for key in ("tensors", "files")},
    )


def _read_verified(directory: Path, handle: int, name: str, entry: Mapping[str, Any]) -> bytes:
    content = _read_file(directory, handle, name, limit=max(entry["bytes"], 0))
    found = _digest(content)
    for key in ("bytes", "sha256"):
        if found[key] != entry[key]:
            raise ArtifactIntegrityError(
                f"{directory / name} has {key} {found[key]}, the manifest says {entry[key]}: "
                "it is truncated or was changed. Copy or save the directory again."
            )
    return content


def _read_card(directory: Path, handle: int) -> str:
    try:
        content = _read_file(directory, handle, MODEL_CARD_FILE, limit=_MAX_MANIFEST_BYTES)
    except ArtifactError:
        return ""
    return content.decode("utf-8", errors="replace")


def _load_tensors(directory: Path, content: bytes | None, declared: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    where = directory / WEIGHTS_FILE
    if content is None:
        tensors: dict[str, NDArray[Any]] = {}
    else:
        try:
            tensors = safetensors.numpy.load(content)
        except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
            raise ArtifactFormatError(f"{where} is no safetensors file that can be read ({error})") from error
    found = {name: _describe(array) for name, array in tensors.items()}
    if found != declared:
        differing = sorted(name for name in {*found, *declared} if found.get(name) != declared.get(name))
        name = differing[0]
        raise ArtifactFormatError(
            f"{where}: tensor {name} is {found.get(name, 'absent')}, the manifest says {declared.get(name, 'nothing')}"
        )
    _check_finite(tensors, directory)
    return tensors
