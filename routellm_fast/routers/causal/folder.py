"""Folders of causal language models: which files make one, where they are fetched, and how a router names one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from routellm_fast.errors import ArtifactFormatError, ArtifactIntegrityError, ArtifactNotFoundError
from routellm_fast.hub import downloaded

CONFIG_FILE: Final = "config.json"
MODEL_FILE: Final = "model.safetensors"
TOKENIZER_FILE: Final = "tokenizer.json"
_HUB_FILES: Final = ("*.json", "*.safetensors", "*.txt", "*.model")


@dataclass(frozen=True, slots=True)
class Reference:
    """A model that a router directory names instead of holding it.

    Attributes:
        path: The folder, absolute.
        files: By name, bytes and sha256 of each file that makes the model.
    """

    path: str
    files: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, folder: Path) -> Reference:
        """Describe a model folder as it is now. Raises ArtifactNotFoundError where it holds no model."""
        return cls(str(folder.resolve()), {path.name: _digest(path) for path in model_files(folder)})

    @classmethod
    def from_json(cls, value: Any) -> Reference:
        """Read what to_json wrote. Raises ArtifactFormatError."""
        fits = isinstance(value, dict) and set(value) == {"path", "files"} and isinstance(value["path"], str)
        fits = fits and isinstance(value["files"], dict) and all(map(_is_file_entry, value["files"].items()))
        if not fits:
            raise ArtifactFormatError(
                "a causal_llm router names its model by path and files (each with bytes and sha256)"
            )
        return cls(value["path"], value["files"])

    def to_json(self) -> dict[str, Any]:
        """Return what a manifest keeps."""
        return {"path": self.path, "files": {name: dict(entry) for name, entry in self.files.items()}}

    def check(self) -> Path:
        """Return the folder if every file in it is as recorded.

        Raises:
            ArtifactNotFoundError: The folder, or a file, is gone.
            ArtifactIntegrityError: A file was changed, or another one was added.
        """
        folder = Path(self.path)
        found = {path.name: path for path in model_files(folder)}
        for name in sorted({*found, *self.files}):
            if name not in found:
                raise ArtifactNotFoundError(f"{folder} lacks {name}, which is part of the router's model: put it back")
            if name not in self.files:
                raise ArtifactIntegrityError(
                    f"{folder / name} was no part of the router's model: take it away, or build the router again"
                )
            recorded, entry = self.files[name], _digest(found[name])
            for key in ("bytes", "sha256"):
                if entry[key] != recorded[key]:
                    raise ArtifactIntegrityError(
                        f"{folder / name} has {key} {entry[key]}, the router was built with {recorded[key]}: its model "
                        "is another one. Put the original file back, or build the router again."
                    )
        return folder


def model_files(folder: Path) -> list[Path]:
    """Return the files that make a model: config.json and safetensors, or a GGUF file. Raises ArtifactNotFoundError."""
    if folder.suffix == ".gguf" and folder.is_file():
        return [folder]
    if folder.is_dir():
        weights = sorted(folder.glob("*.safetensors"))
        if (folder / CONFIG_FILE).is_file() and weights:
            index = folder / f"{MODEL_FILE}.index.json"
            return [folder / CONFIG_FILE, *weights, *([index] if index.is_file() else [])]
        found = sorted(folder.glob("*.gguf"))
        if len(found) == 1:
            return found
        if found:
            raise ArtifactNotFoundError(f"{folder} holds {len(found)} GGUF files: name one")
    raise ArtifactNotFoundError(
        f"{folder} holds no causal language model: expected config.json and *.safetensors, or one *.gguf"
    )


def fetched(directory_or_id: str | Path) -> Path:
    """Return a folder as it is, or a copy of a hub repository.

    Raises:
        ArtifactNotFoundError: It is neither.
        MissingExtraError: A hub's client is not installed.
    """
    path = Path(directory_or_id)
    name = str(directory_or_id)
    if path.exists() or name.count("/") != 1 or name.startswith(("/", ".", "~")):
        model_files(path)
        return path
    return downloaded(name, _HUB_FILES, extra="transformers")


def _is_file_entry(item: tuple[str, Any]) -> bool:
    name, entry = item
    fits = isinstance(entry, dict) and set(entry) == {"bytes", "sha256"} and "/" not in name
    return fits and type(entry["bytes"]) is int and isinstance(entry["sha256"], str)


def _digest(path: Path) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise ArtifactNotFoundError(f"{path} cannot be read ({error.strerror})") from error
    return {"bytes": size, "sha256": digest.hexdigest()}
