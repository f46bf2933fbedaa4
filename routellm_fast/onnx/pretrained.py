"""Folders as Hugging Face's transformers write them: what is read of them besides weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from routellm_fast.arrays import brief_repr
from routellm_fast.errors import ArtifactFormatError, ArtifactNotFoundError
from routellm_fast.extras import quiet_transformers, require
from routellm_fast.hub import downloaded
from routellm_fast.json_file import read_json_object
from routellm_fast.memory import enough_memory

CONFIG_FILE: Final = "config.json"
WEIGHTS_FILE: Final = "model.safetensors"
TOKENIZER_FILE: Final = "tokenizer.json"
_PATTERNS: Final = ("*.json", "*.safetensors", "*.txt")
# Models whose positions start behind the id of the padding, of which that many are lost.
_POSITIONS_AFTER_PADDING: Final = ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "mpnet", "data2vec-text")


@dataclass(frozen=True, slots=True)
class PretrainedText:
    """A folder with a text model.

    Attributes:
        folder: The folder.
        config: The contents of its config.json.
        tokenizer_json: Its tokenizer.json.
        max_tokens: Most tokens that both tokenizer and model take.
        pad_id: Id of the token that shorter texts are padded with.
    """

    folder: Path
    config: Mapping[str, Any]
    tokenizer_json: bytes
    max_tokens: int
    pad_id: int

    __repr__ = brief_repr

    def weights_sha256(self) -> str:
        """Return the digest of model.safetensors, hexadecimal; "" where weights are in several files."""
        path = self.folder / WEIGHTS_FILE
        if not path.is_file():
            return ""
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
        return digest.hexdigest()


def read_pretrained(source: str | Path) -> PretrainedText:
    """Read a folder, or a repository of Hugging Face's hub where no folder has that name.

    Raises:
        ArtifactNotFoundError: Neither can be read, or a file is missing.
        ArtifactFormatError: A file is damaged, or texts are cut on the left.
        MissingExtraError: The hub is needed, and transformers is not installed.
    """
    folder = _folder(source)
    for name in (CONFIG_FILE, TOKENIZER_FILE):
        if not (folder / name).is_file():
            raise ArtifactNotFoundError(
                f"{folder} lacks {name}: expected a folder written by transformers' save_pretrained, with "
                f"{CONFIG_FILE}, {WEIGHTS_FILE} and {TOKENIZER_FILE}"
            )
    config = read_json_object(folder / CONFIG_FILE)
    path = folder / "tokenizer_config.json"
    tokenizer_config = read_json_object(path) if path.is_file() else {}
    if tokenizer_config.get("truncation_side", "right") != "right":
        raise ArtifactFormatError(
            f"{path}: long texts are cut on the {tokenizer_config['truncation_side']}; known is the right only"
        )
    pad_id = config.get("pad_token_id")
    pad_id = pad_id if type(pad_id) is int and pad_id >= 0 else 0
    return PretrainedText(
        folder=folder,
        config=config,
        tokenizer_json=_read(folder / TOKENIZER_FILE),
        max_tokens=_max_tokens(config, tokenizer_config, pad_id, folder),
        pad_id=pad_id,
    )


def load_model(auto_class: str, source: PretrainedText, *, optional: str | None = None, **options: Any) -> Any:
    """Return a float32 model on the CPU, all weights of which were in the folder.

    Args:
        auto_class: Name of a class of transformers, e.g. AutoModel.
        source: The folder.
        optional: Weights whose names start so may be missing; they are then random.
        options: Further arguments for from_pretrained.

    Raises:
        ArtifactFormatError: Weights are missing, in pickle, or do not fit; or it needs code of its own.
        MissingExtraError: torch or transformers is not installed.
    """
    torch = require("torch", "transformers")
    transformers = require("transformers", "transformers")
    try:
        with quiet_transformers(transformers):
            model, info = getattr(transformers, auto_class).from_pretrained(
                source.folder,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
                **options,
            )
    except Exception as error:  # of any class, from several libraries
        reason = (str(error).strip() or repr(error)).splitlines()[0][:300]
        raise ArtifactFormatError(
            f"{source.folder} could not be read as {auto_class} from {WEIGHTS_FILE}: {reason}"
        ) from error
    missing = sorted(name for name in info["missing_keys"] if optional is None or not name.startswith(optional))
    if missing:
        raise ArtifactFormatError(
            f"{source.folder}/{WEIGHTS_FILE} lacks {', '.join(missing[:3])}"
            f"{' and others' if len(missing) > 3 else ''}: it holds another kind of model than {auto_class} reads"
        )
    return model.eval()


def _read(path: Path) -> bytes:
    with enough_memory(path):
        return path.read_bytes()


def _folder(source: str | Path) -> Path:
    path = Path(source)
    if path.is_dir():
        return path
    if path.exists() or isinstance(source, Path) or str(source).count("/") > 1 or str(source).startswith("."):
        raise ArtifactNotFoundError(
            f"{path} is no folder: expected one written by transformers, or the name of one on a hub"
        )
    return downloaded(source, _PATTERNS, extra="transformers")


def _max_tokens(config: Mapping[str, Any], tokenizer: Mapping[str, Any], pad_id: int, folder: Path) -> int:
    positions = config.get("max_position_embeddings")
    limits: list[float] = []
    if type(positions) is int:
        offset = pad_id + 1 if config.get("model_type") in _POSITIONS_AFTER_PADDING else 0
        limits.append(positions - offset)
    named = tokenizer.get("model_max_length")
    if isinstance(named, (int, float)):  # 1e30 stands for no limit
        limits.append(named)
    least = min(limits, default=0)
    if not 1 <= least <= 1 << 20:
        raise ArtifactFormatError(
            f"{folder}: neither max_position_embeddings ({positions}) of {CONFIG_FILE} nor model_max_length ({named}) "
            "of tokenizer_config.json say how many tokens the model reads"
        )
    return int(least)
