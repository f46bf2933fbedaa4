"""Directories of weights with a manifest: written whole, read strictly.

`docs/artifact-format.md` is the specification. This module knows files, shapes and digests, and no router. Reading goes
through the compiled core, which reads the same directories for C and for Triton; writing is done here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import safetensors.numpy

from routellm_fast import _core, _mapped
from routellm_fast.arrays import brief_repr
from routellm_fast.errors import (
    ArtifactError,
    ArtifactFormatError,
    ArtifactNotFoundError,
    ArtifactWriteError,
    EmbedderMismatchError,
    InvalidArgumentError,
    OutputExistsError,
)
from routellm_fast.memory import ask_for, enough_memory

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routellm_fast.owned import Owned

FORMAT_VERSION: Final = _core.FORMAT_VERSION
WEIGHTS_FILE: Final = "weights.safetensors"
MODEL_CARD_FILE: Final = "README.md"
# The manifest's digest of itself, by which a reader finds that a bit of it has changed.
_OWN_DIGEST_KEY: Final = "manifest_sha256"
_NO_DIGEST: Final = "0" * 64
_DIGEST_PREFIX: Final = "sha256:"

# What reading takes of a manifest at most.
_MOST_MANIFEST_BYTES: Final = 64 << 20

Manifest = dict[str, Any]

_TYPE_NAMES: Final[Mapping[type, str]] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "list",
    dict: "object",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """What a kind of directory must hold.

    Attributes:
        manifest_file: The manifest's name.
        keys: The manifest's keys, and of which type each is: bool, int, float, str, list or dict, and NoneType where it
            may be null.
    """

    manifest_file: str
    keys: Mapping[str, tuple[type, ...]]

    def native(self) -> tuple[str, list[tuple[str, str, bool]]]:
        """Return the layout as the core takes it: the manifest's name, and name, type and "may be null" of each key."""
        return self.manifest_file, [
            (key, next(_TYPE_NAMES[kind] for kind in types if kind is not type(None)), type(None) in types)
            for key, types in self.keys.items()
        ]


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
        sha256: Digest of the manifest's file, hexadecimal, by which a change of the directory shows; "" for an artifact
            that was not read. See digest.
        native: The same contents as the core read them; None for an artifact that was not read.
    """

    manifest: Manifest
    tensors: Mapping[str, NDArray[Any]]
    files: Mapping[str, bytes] = field(default_factory=dict)
    model_card: str = ""
    mapped: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    file_sha256: Mapping[str, str] = field(default_factory=dict)
    recorded: Manifest = field(default_factory=dict)
    sha256: str = ""
    native: _core.DirectoryContents | None = None

    __repr__ = brief_repr

    @property
    def digest(self) -> str:
        """The directory's digest, "sha256:<hex>", which read_artifact(digest=) takes.

        It is that of the manifest, which holds the digests of all other files but the model card.
        """
        return f"{_DIGEST_PREFIX}{self.sha256}"


def write_artifact(path: str | Path, artifact: Artifact, layout: Layout) -> str:
    """Write a directory, whole or not at all; equal contents give equal bytes.

    Where such a directory stands already, the files that its manifest names are replaced; all else that lies in it
    stays. The model card is replaced where the artifact has another one. See `atomic.staged_directory`.

    Returns:
        The directory's digest; see Artifact.digest.

    Raises:
        ArtifactIntegrityError: A tensor has a value that is not finite.
        ArtifactWriteError: The file system refused, or something that is no such directory stands there.
        OutputExistsError: A file would have the name of one that the manifest there does not name.
    """
    _encoded(path, layout, ArtifactWriteError)
    target = Path(path)
    check_replaceable(target, layout)
    tensors = {name: np.ascontiguousarray(array) for name, array in sorted(artifact.tensors.items())}
    _check_finite(tensors, target)
    mapped = dict(sorted(artifact.mapped.items()))
    _check_mapped(mapped, artifact, target)
    contents = dict(artifact.files)
    if tensors:
        ask_for(3 * sum(array.nbytes for array in tensors.values()))  # the copies that it makes
        contents[WEIGHTS_FILE] = safetensors.numpy.save(tensors)
    files = {name: _digest(content) for name, content in contents.items()}
    manifest = {
        **artifact.manifest,
        "format_version": FORMAT_VERSION,
        "tensors": {name: _describe(array) for name, array in tensors.items()}
        | {name: {**_describe(array), "file": name + _mapped.SUFFIX} for name, array in mapped.items()},
        "files": files,
    }
    _core.check_manifest(_manifest_content(manifest, target), os.fsencode(target), *layout.native())
    if artifact.model_card:
        contents[MODEL_CARD_FILE] = artifact.model_card.encode("utf-8", "replace")  # data may hold lone surrogates
    from routellm_fast.atomic import staged_directory, synced_file  # most programs only read

    try:
        with staged_directory(target, lambda place: _owned(place, layout)) as staging:
            for name, array in mapped.items():
                file_path = staging / (name + _mapped.SUFFIX)
                entry = _mapped.link_tensor(file_path, name, array)
                if entry is None:
                    with synced_file(file_path) as file:
                        entry = _mapped.write_tensor(file, name, array, target)
                files[file_path.name] = entry
            # The manifest last: it states the digests of all others.
            written = contents[layout.manifest_file] = _manifest_content(manifest, target)
            for name, content in contents.items():
                with synced_file(staging / name) as file:
                    file.write(content)
    except OSError as error:
        raise _unwritable(target, error) from error
    return f"{_DIGEST_PREFIX}{hashlib.sha256(written).hexdigest()}"


def check_replaceable(path: str | Path, layout: Layout) -> None:
    """Refuse to write a directory over what this package did not write; nothing and an empty directory are fine.

    Raises:
        ArtifactWriteError: Something else stands there, or it cannot be looked at.
    """
    from routellm_fast.places import holds_nothing  # most programs only read

    target = Path(path)
    try:
        if target.exists() and not holds_nothing(target):
            _owned(target, layout)
    except OSError as error:
        raise _unwritable(target, error) from error


def read_artifact(path: str | Path, layout: Layout, *, digest: str | None = None) -> Artifact:
    """Read and verify a directory, but for the data of mapped tensors: of those only sizes and headers are read.

    Args:
        path: The directory.
        layout: What it must hold.
        digest: What the directory's digest must be, "sha256:<hex>" or 64 hexadecimal digits. The mapped tensors are
            then read and verified, too: what is returned is what the digest was taken of, to the byte, but for the
            model card. None for no check.

    Raises:
        ArtifactNotFoundError, ArtifactVersionError, ArtifactFormatError, ArtifactIntegrityError, ArtifactMemoryError:
            See their classes.
        InvalidArgumentError: The digest has another form.
    """
    with enough_memory(path):
        contents = _core.read_directory(_encoded(path, layout, ArtifactNotFoundError), *layout.native(), digest)
        manifest, files = contents.manifest, contents.files
        return Artifact(
            manifest={
                key: value for key, value in manifest.items() if key not in ("format_version", "tensors", "files")
            },
            tensors=contents.tensors,
            files=files,
            model_card=contents.model_card.decode("utf-8", errors="replace"),
            mapped=contents.mapped,
            file_sha256={name: manifest["files"][name]["sha256"] for name in files},
            recorded={key: manifest[key] for key in ("tensors", "files")},
            sha256=contents.manifest_sha256,
            native=contents,
        )


def verify_artifact(path: str | Path, layout: Layout, *, on_progress: Callable[[int, int], None] | None = None) -> int:
    """Read and verify a directory whole, the data of mapped tensors too, in bounded memory.

    Args:
        path: The directory.
        layout: What it must hold.
        on_progress: Called now and then with the bytes that were verified, and those that there are.

    Returns:
        The bytes of all files with digests.

    Raises:
        ArtifactNotFoundError, ArtifactVersionError, ArtifactFormatError, ArtifactIntegrityError, ArtifactMemoryError:
            See their classes.
    """
    with enough_memory(path):
        return _core.verify_directory(_encoded(path, layout, ArtifactNotFoundError), *layout.native(), on_progress)


@contextmanager
def faults_of(directory: str | Path) -> Iterator[None]:
    """Name the directory in the errors of a block that makes something of its contents.

    An InvalidArgumentError becomes an ArtifactFormatError: what the directory holds was the argument. A MemoryError
    becomes an ArtifactMemoryError.
    """
    try:
        with enough_memory(directory):
            yield
    except (ArtifactError, EmbedderMismatchError, InvalidArgumentError) as error:
        kind = ArtifactFormatError if isinstance(error, InvalidArgumentError) else type(error)
        is_named = str(directory) in str(error)
        if is_named and kind is type(error):
            raise
        raise kind(str(error) if is_named else f"{directory}: {error}") from error


def is_artifact(path: str | Path, layout: Layout) -> bool:
    """Say whether a directory holds a manifest of this layout."""
    return is_file(Path(path) / layout.manifest_file)


def is_file(path: Path) -> bool:
    """Say whether a path leads to a regular file; no, too, where it is too long or may not be looked at."""
    try:
        return path.is_file()
    except OSError:
        return False


def _encoded(path: str | Path, layout: Layout, refusal: type[ArtifactError]) -> bytes:
    """Return a path as the file system takes it. Raises the refusal for text that no path can be."""
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError:
        encoded = b"\0"
    if b"\0" in encoded or not encoded:
        raise refusal(f"{os.fspath(path)!r} is no path. Expected that of a directory with a {layout.manifest_file}.")
    return encoded


def _manifest_content(manifest: Manifest, where: Path) -> bytes:
    """The manifest's file, with its digest of itself: that of its bytes with zeros for the 64 digits.

    Raises ArtifactFormatError where a value is none that JSON can hold.
    """
    try:
        content = _canonical_json({**manifest, _OWN_DIGEST_KEY: _NO_DIGEST})
    except (ValueError, RecursionError) as error:
        raise ArtifactFormatError(
            f"{where}: what the router is to keep cannot be written as JSON ({error}). Leave it out of its provenance."
        ) from error
    line = f'\n"{_OWN_DIGEST_KEY}": "'.encode()  # no string holds a line feed: this stands once
    return content.replace(line + _NO_DIGEST.encode(), line + hashlib.sha256(content).hexdigest().encode())


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


def _owned(path: Path, layout: Layout) -> Owned:
    """Return which files of a directory its manifest names. Raises ArtifactWriteError for what has no such manifest."""
    from routellm_fast.owned import Owned

    if not is_artifact(path, layout):
        raise ArtifactWriteError(
            f"{path} exists and is no directory with a {layout.manifest_file}: it is left alone. Choose another path."
        )
    try:
        with (path / layout.manifest_file).open("rb") as file:
            content = file.read(_MOST_MANIFEST_BYTES)
        _core.check_manifest(content, os.fsencode(path), *layout.native())
        names = set(_core.parse_json(content)["files"])
    except (OSError, ArtifactError) as error:
        raise ArtifactWriteError(
            f"{path} is left alone: nothing says which of its files may be replaced, as its {layout.manifest_file} is "
            f"no manifest that this version reads ({error}). Choose another path, or move it away."
        ) from error
    unsafe = sorted(name for name in names if name.startswith(".") or not name or set(name) & set("/\\\0"))
    if unsafe:
        raise ArtifactWriteError(
            f"{path} is left alone: its {layout.manifest_file} names {unsafe[0]!r} among its files, and only bare "
            "names are allowed. Choose another path, or move it away."
        )
    return Owned(layout.manifest_file, frozenset({*names, layout.manifest_file}), frozenset({MODEL_CARD_FILE}))


def _unwritable(target: Path, error: OSError) -> ArtifactError | OutputExistsError:
    if isinstance(error, (ArtifactError, OutputExistsError)):
        return error
    reason = error.strerror or error
    return ArtifactWriteError(
        error.errno or 0, f"{target} could not be written ({reason}). What stood there is unchanged."
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
