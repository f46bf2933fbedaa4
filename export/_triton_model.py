"""The modes native and python: one model, which is the router directory with a backend that serves it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.embedders.stored import server_of_spec, store_embedder
from routellm_fast.endpoints import address_of
from routellm_fast.errors import EmbedderUnavailableError, InvalidArgumentError, UnsupportedExportError
from routellm_fast.routers.base import Router
from routellm_fast.routers.embedding import EmbeddingRouter
from routellm_fast.serving.triton_protocol import (
    ALLOW_SERVER,
    DEVICE,
    DIRECTORY_DIGEST,
    PROMPT,
    ROUTER_FOLDER,
    THREADS,
)

from ._triton_config import DECISION, WARMUP_PROMPT, Model, Tensor, router_inputs
from ._triton_options import Serving

# What the core loads by itself: the native backend has no other run time.
_NATIVE_KINDS: Final = ("mf", "sw_ranking")
_MODEL_FILE: Final = "model.py"
_MODEL_TEXT: Final = '''"""Written by `routellm-fast export triton`; the code is in the installed package."""

from {module} import {name} as TritonPythonModel

__all__ = ["TritonPythonModel"]
'''
_ROUTER_MODEL: Final = ("routellm_fast.serving.triton_backend", "RouterModel")


def write_router_model(
    repository: Path, router: Router, serving: Serving, *, is_native: bool, threads: int | None, is_checked: bool
) -> list[Model]:
    """Write the one model of the modes native and python: the router directory itself is served.

    Args:
        repository: Where the model's folder is made.
        router: Saved into it.
        serving: How it is served.
        is_native: Whether this package's own backend serves it, or Triton's Python backend.
        threads: Threads of each copy; None for 1.
        is_checked: Whether the backend is to serve only what is written here, by the directory's digest.

    Raises:
        UnsupportedExportError: The mode does not serve such a router.
        InvalidArgumentError: Threads were given for a router that has none of its own in this mode.
    """
    if is_native and router.kind not in _NATIVE_KINDS:
        raise UnsupportedExportError(
            f"the native backend serves {', '.join(_NATIVE_KINDS)}, not {router.kind}: take mode python, or onnx"
        )
    own: dict[str, str] = {}
    if is_native or THREADS in router.runtime_options:
        own[THREADS] = str(threads or 1)
    elif threads is not None:
        raise InvalidArgumentError(
            f"a router of kind {router.kind} has no threads of its own in mode python, found threads {threads}: leave "
            "it out, or take mode native for mf and sw_ranking, or mode onnx"
        )
    if not is_native and DEVICE in router.runtime_options:
        own[DEVICE] = "cpu"
    if not is_native:
        own |= asked_server(router)
    inputs = router_inputs(
        takes_prompts=_takes_prompts(router, by_core=is_native),
        dim=router.dim if isinstance(router, EmbeddingRouter) else None,
    )
    if len(inputs) == 1:
        raise UnsupportedExportError("the router takes neither prompts nor embeddings in this mode")
    # Saved again, a router that refers to a table of the package holds it.
    digest = router.save(repository / serving.name / str(serving.version) / ROUTER_FOLDER)
    if is_checked:
        own[DIRECTORY_DIGEST] = digest
    model = Model(
        serving.name,
        "routellm" if is_native else "python",
        inputs,
        DECISION,
        serving.batching,
        parameters={**serving.parameters, **own},
        warmup=requests(inputs, serving.batching.max_size),
        response_cache=serving.response_cache,
    )
    folder = model.write(repository, serving.version)
    if not is_native:
        write_python_model(folder, *_ROUTER_MODEL)
    return [model]


def write_python_model(folder: Path, module: str, name: str) -> None:
    """Write the file by which Triton's Python backend finds a model's class in the installed package."""
    (folder / _MODEL_FILE).write_text(_MODEL_TEXT.format(module=module, name=name), encoding="utf-8")


def requests(inputs: Sequence[Tensor], most: int) -> list[tuple[int, dict[str, Any]]]:
    """Return the warmup of a model that reads prompts or embeddings: one row alone, and as many as a batch holds."""
    first = inputs[0]
    row = WARMUP_PROMPT if first.name == PROMPT else np.ones(first.dims, np.float32)
    return [(count, {first.name: row}) for count in sorted({1, most})]


def asked_server(router: Router) -> dict[str, str]:
    """Return the parameter that allows the server which the router's embedder asks: who exports it has allowed it."""
    server = server_of_spec(store_embedder(router.embedder)[0]) if router.has_embedder else None
    return {} if server is None else {ALLOW_SERVER: address_of(server)}


def _takes_prompts(router: Router, *, by_core: bool) -> bool:
    if not isinstance(router, EmbeddingRouter):
        return True
    try:
        embedder = router.embedder
    except EmbedderUnavailableError:
        return False
    if by_core:
        return isinstance(embedder, StaticEmbedder) and embedder.native is not None
    return bool(store_embedder(embedder)[0]["kind"] != "external")
