"""Checkpoints of RouteLLM's MFModel."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import safetensors

from routellm_fast.arrays import brief_repr
from routellm_fast.errors import ArtifactFormatError, ArtifactNotFoundError, InvalidArgumentError
from routellm_fast.json_file import read_json_object
from routellm_fast.tensor_file import read_tensors

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The rows of the published checkpoints, in order; the checkpoint itself does not name them.
ROUTELLM_MODELS: Final = (
    "RWKV-4-Raven-14B",
    "alpaca-13b",
    "chatglm-6b",
    "chatglm2-6b",
    "chatglm3-6b",
    "claude-1",
    "claude-2.0",
    "claude-2.1",
    "claude-instant-1",
    "codellama-34b-instruct",
    "deepseek-llm-67b-chat",
    "dolly-v2-12b",
    "dolphin-2.2.1-mistral-7b",
    "falcon-180b-chat",
    "fastchat-t5-3b",
    "gemini-pro",
    "gemini-pro-dev-api",
    "gpt-3.5-turbo-0125",
    "gpt-3.5-turbo-0314",
    "gpt-3.5-turbo-0613",
    "gpt-3.5-turbo-1106",
    "gpt-4-0125-preview",
    "gpt-4-0314",
    "gpt-4-0613",
    "gpt-4-1106-preview",
    "gpt4all-13b-snoozy",
    "guanaco-33b",
    "koala-13b",
    "llama-13b",
    "llama-2-13b-chat",
    "llama-2-70b-chat",
    "llama-2-7b-chat",
    "llama2-70b-steerlm-chat",
    "mistral-7b-instruct",
    "mistral-7b-instruct-v0.2",
    "mistral-medium",
    "mixtral-8x7b-instruct-v0.1",
    "mpt-30b-chat",
    "mpt-7b-chat",
    "nous-hermes-2-mixtral-8x7b-dpo",
    "oasst-pythia-12b",
    "openchat-3.5",
    "openchat-3.5-0106",
    "openhermes-2.5-mistral-7b",
    "palm-2",
    "pplx-70b-online",
    "pplx-7b-online",
    "qwen-14b-chat",
    "qwen1.5-4b-chat",
    "qwen1.5-72b-chat",
    "qwen1.5-7b-chat",
    "solar-10.7b-instruct-v1.0",
    "stablelm-tuned-alpha-7b",
    "starling-lm-7b-alpha",
    "stripedhyena-nous-7b",
    "tulu-2-dpo-70b",
    "vicuna-13b",
    "vicuna-33b",
    "vicuna-7b",
    "wizardlm-13b",
    "wizardlm-70b",
    "yi-34b-chat",
    "zephyr-7b-alpha",
    "zephyr-7b-beta",
)

# save_pretrained writes modules wrapped in Sequential; the training script's own state dict has bare ones, and
# besides them the prompts' embeddings (Q), which only training needs.
_KEYS: Final = {
    "P": ("P.weight",),
    "W": ("text_proj.0.weight", "text_proj.weight"),
    "w": ("classifier.0.weight", "classifier.weight"),
}


@dataclass(frozen=True, slots=True)
class RouteLLMCheckpoint:
    """P (models, d), W (d, dim), w (d,), all float32, with the models' names and the file's digest."""

    model_names: tuple[str, ...]
    P: NDArray[np.float32]
    W: NDArray[np.float32]
    w: NDArray[np.float32]
    sha256: str

    __repr__ = brief_repr


def is_checkpoint(directory: Path) -> bool:
    """Say whether a folder holds an MFModel checkpoint."""
    path = directory / "model.safetensors"
    if not path.is_file():
        return False
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return "P.weight" in file.keys()  # noqa: SIM118 - not a mapping
    except (safetensors.SafetensorError, OSError):
        return False


def read_checkpoint(directory: Path, model_names: Sequence[str] | None = None) -> RouteLLMCheckpoint:
    """Read model.safetensors, and config.json where there is one.

    Raises:
        ArtifactNotFoundError: The folder or model.safetensors is not there.
        ArtifactFormatError: Tensors are missing, of another shape, or at odds with config.json.
        InvalidArgumentError: The number of model names is not the number of rows.
    """
    path = directory / "model.safetensors"
    if path.exists() and not path.is_file():
        raise ArtifactNotFoundError(f"{path} is no regular file: expected a checkpoint of RouteLLM's mf router")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactNotFoundError(
            f"{path} cannot be read ({error.strerror}): expected a checkpoint of RouteLLM's mf router"
        ) from error
    tensors, held = read_tensors(content, path, wanted={key for keys in _KEYS.values() for key in keys})
    found = {name: _tensor(tensors, keys, held, path) for name, keys in _KEYS.items()}
    P, W, w = found["P"], found["W"], found["w"]  # noqa: N806 - the paper's letters
    d = P.shape[1]
    if w.shape != (1, d) or W.shape[0] != d:
        raise ArtifactFormatError(
            f"{path}: P {P.shape}, text_proj {W.shape} and classifier {w.shape} do not fit together"
        )
    _check_config(directory / "config.json", {"dim": d, "num_models": P.shape[0], "text_dim": W.shape[1]})
    names = tuple(ROUTELLM_MODELS if model_names is None else model_names)
    if len(names) != P.shape[0]:
        raise InvalidArgumentError(
            f"{path} has vectors for {P.shape[0]} models, but {len(names)} names were given: name all, in order"
        )
    return RouteLLMCheckpoint(names, P, W, w[0], hashlib.sha256(content).hexdigest())


def _tensor(
    tensors: dict[str, NDArray[Any]], keys: Sequence[str], held: Sequence[str], path: Path
) -> NDArray[np.float32]:
    for key in keys:
        if key in tensors:
            array = tensors[key].astype(np.float32)
            if array.ndim != 2 or not np.isfinite(array).all():
                raise ArtifactFormatError(
                    f"{path}: {key} must be a matrix of finite numbers, found shape {array.shape}"
                )
            return np.ascontiguousarray(array)
    raise ArtifactFormatError(
        f"{path} lacks {keys[0]}; it holds {', '.join(held) or 'nothing'}. It is no mf checkpoint."
    )


def _check_config(path: Path, shapes: dict[str, int]) -> None:
    if not path.is_file():
        return
    config = read_json_object(path)
    for key, value in shapes.items():
        if config.get(key, value) != value:
            raise ArtifactFormatError(f"{path} says {key} = {config[key]}, the weights have {value}")
    if config.get("num_classes", 1) != 1:
        raise ArtifactFormatError(f"{path} says num_classes = {config['num_classes']}; RouteLLM's mf has 1")
