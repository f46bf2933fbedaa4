"""Router directories, of whatever kind."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from routellm_fast.artifact import ROUTER_LAYOUT, Artifact, faults_of, read_artifact
from routellm_fast.decision import ModelPair, checked_pair
from routellm_fast.embedders.base import Embedder
from routellm_fast.embedders.stored import server_of_spec
from routellm_fast.endpoints import allowed_servers
from routellm_fast.errors import ArtifactFormatError, InvalidArgumentError
from routellm_fast.origin import Origin
from routellm_fast.routers.base import Router

if TYPE_CHECKING:
    from routellm_fast.onnx.session import Device
    from routellm_fast.routers.bert import BertRouter
    from routellm_fast.routers.causal.router import CausalLLMRouter
    from routellm_fast.routers.matrix_factorization import MatrixFactorizationRouter
    from routellm_fast.routers.random import RandomRouter
    from routellm_fast.routers.similarity.router import SimilarityWeightedRouter

# Where each kind lives; a module is imported when a router of its kind is loaded.
ROUTER_KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "mf": ("matrix_factorization", "MatrixFactorizationRouter"),
    "sw_ranking": ("similarity.router", "SimilarityWeightedRouter"),
    "bert": ("bert", "BertRouter"),
    "causal_llm": ("causal.router", "CausalLLMRouter"),
    "random": ("random", "RandomRouter"),
}
_ASSETS: Final = Path(__file__).parent.parent / "assets"
SHIPPED_ROUTER: Final = _ASSETS / "mf"
SHIPPED_KINDS: Final = ("mf", "sw_ranking")


def router_class(kind: str) -> type[Router]:
    """Return the class of a kind of router."""
    module, name = ROUTER_KINDS[kind]
    found: type[Router] = getattr(importlib.import_module(f"routellm_fast.routers.{module}"), name)
    return found


def router_directory(name: str | Path | None) -> Path:
    """Return where a router lies: a directory, or by its kind one that ships where no file has that name."""
    if name is None:
        return SHIPPED_ROUTER
    return _ASSETS / name if str(name) in SHIPPED_KINDS and not Path(name).exists() else Path(name)


# For type checkers: what each call returns, and which options it takes. "auto" and "cpu" are where every router runs.
@overload
def load_router(
    path: Literal["mf"] | None = None,
    *,
    kind: Literal["mf"] | None = None,
    strong_model: str | None = None,
    weak_model: str | None = None,
    digest: str | None = None,
    embedder: Embedder | None = None,
    allow_server: str | Sequence[str] | None = None,
    device: Literal["auto", "cpu"] = ...,
) -> MatrixFactorizationRouter: ...


@overload
def load_router(
    path: str | Path,
    *,
    kind: Literal["mf"],
    strong_model: str | None = None,
    weak_model: str | None = None,
    digest: str | None = None,
    embedder: Embedder | None = None,
    allow_server: str | Sequence[str] | None = None,
    device: Literal["auto", "cpu"] = ...,
) -> MatrixFactorizationRouter: ...


@overload
def load_router(
    path: Literal["sw_ranking"],
    *,
    kind: Literal["sw_ranking"] | None = None,
    strong_model: str | None = None,
    weak_model: str | None = None,
    digest: str | None = None,
    embedder: Embedder | None = None,
    allow_server: str | Sequence[str] | None = None,
    device: Literal["auto", "cpu"] = ...,
) -> SimilarityWeightedRouter: ...


@overload
def load_router(
    path: str | Path | None = None,
    *,
    kind: Literal["sw_ranking"],
    strong_model: str | None = None,
    weak_model: str | None = None,
    digest: str | None = None,
    embedder: Embedder | None = None,
    allow_server: str | Sequence[str] | None = None,
    device: Literal["auto", "cpu"] = ...,
) -> SimilarityWeightedRouter: ...


@overload
def load_router(
    path: str | Path,
    *,
    kind: Literal["bert"],
    strong_model: str | None = None,
    weak_model: str | None = None,
    digest: str | None = None,
    device: Device = ...,
    threads: int | None = ...,
    allow_fallback: bool = ...,
    optimized_cache: str | Path | None = ...,
    run_timeout_s: float | None = ...,
    allow_any_graph: bool = ...,
) -> BertRouter: ...


@overload
def load_router(
    path: str | Path,
    *,
    kind: Literal["causal_llm"],
    strong_model: str | None = None,
    weak_model: str | None = None,
    digest: str | None = None,
    device: str = ...,
    dtype: str = ...,
    batch_size: int = ...,
) -> CausalLLMRouter: ...


@overload
def load_router(
    path: str | Path,
    *,
    kind: Literal["random"],
    strong_model: str | None = None,
    weak_model: str | None = None,
    digest: str | None = None,
    device: Literal["auto", "cpu"] = ...,
) -> RandomRouter: ...


@overload
def load_router(
    path: str | Path | None = None,
    *,
    kind: None = None,
    strong_model: str | None = None,
    weak_model: str | None = None,
    digest: str | None = None,
    embedder: Embedder | None = None,
    allow_server: str | Sequence[str] | None = None,
    device: str = ...,
    threads: int | None = ...,
    allow_fallback: bool = ...,
    optimized_cache: str | Path | None = ...,
    run_timeout_s: float | None = ...,
    allow_any_graph: bool = ...,
    dtype: str = ...,
    batch_size: int = ...,
) -> Router: ...


def load_router(
    path: str | Path | None = None,
    *,
    kind: str | None = None,
    strong_model: str | None = None,
    weak_model: str | None = None,
    digest: str | None = None,
    embedder: Embedder | None = None,
    allow_server: str | Sequence[str] | None = None,
    **runtime: Any,
) -> Router:
    """Load a router directory, or a router that ships with the package.

    The large tensors of a sw_ranking router are mapped into memory, and their data is not read before it is scored
    with: `routellm-fast info PATH --verify` checks it, once after a directory was copied. Replace a directory that is
    in use by another one: a router whose mapped files are changed in place (cp, rsync --inplace) raises
    ArtifactIntegrityError when it scores.

    Args:
        path: The directory; None for the shipped router, which needs neither network nor key. "mf" and "sw_ranking"
            name the shipped routers of these kinds, unless a file or directory has that name.
        kind: The kind of router that the caller needs: "mf", "sw_ranking", "bert", "causal_llm" or "random"; None for
            whatever the directory holds. A type checker then knows the class that is returned. Without a path it names
            the shipped router of this kind, "mf" or "sw_ranking".
        strong_model: Send prompts to this model instead of the stored name. Any name: the router keeps scoring the
            pair that it was trained on, and holds for others (section 5 of the paper).
        weak_model: The same for the weak model.
        digest: What the directory's digest must be: "sha256:<hex>", as `save` returns and `routellm-fast info --digest`
            prints it, or the 64 hexadecimal digits alone. What is loaded then is to the byte what was saved, the model
            card aside. Memory-mapped tensors, which loading otherwise only maps, are read whole for that. The digest
            does not reach what the directory only names: a server that embeds texts, or files of a cache. None for no
            check.
        embedder: The embedder that the router was trained with, where the directory does not hold it, or a cache
            around it.
        allow_server: Address of the server that the directory's embedder may ask for vectors, e.g.
            "http://localhost:8000/v1", or several: an address that came with a directory is asked only where it is
            allowed here. OpenAI's own addresses, the server that OPENAI_BASE_URL names, and an embedder that is given
            need no such word.
        **runtime: Where and how a transformer runs: bert takes device ("auto", "cpu", "cuda", "tensorrt"), threads,
            allow_fallback, optimized_cache, run_timeout_s and allow_any_graph (see SessionOptions); causal_llm takes
            device ("auto", "cpu", "cuda"), dtype and batch_size.
            The other kinds run on the CPU, in the native core.

    Raises:
        InvalidArgumentError: The directory holds a router of another kind than `kind`, the kind does not take such an
            option, no router of this kind ships, a model's name is empty, or the digest has another form.
        ArtifactError: The directory is missing, newer than this version, damaged or incomplete, or has another digest;
            see the subclasses.
        EmbedderMismatchError: The embedder is not the one that the router was trained with.
        UntrustedServerError: The directory names a server that allow_server does not.
    """
    for what, name in (("strong_model", strong_model), ("weak_model", weak_model)):
        if name is not None and not (isinstance(name, str) and name):
            raise InvalidArgumentError(f"{what} is a model's name, found {name!r}; None leaves the model as stored")
    directory = _directory_of_kind(path, kind)
    artifact = read_artifact(directory, ROUTER_LAYOUT, digest=digest)
    found = artifact.manifest["kind"]
    if kind is not None and found != kind:
        raise InvalidArgumentError(
            f"{directory} holds a router of kind {found!r}, but kind={kind!r} was asked for: leave kind out, or name "
            "another directory"
        )
    return restore_router(
        artifact,
        directory,
        strong_model=strong_model,
        weak_model=weak_model,
        embedder=embedder,
        allow_server=allow_server,
        **runtime,
    )


def _directory_of_kind(path: str | Path | None, kind: str | None) -> Path:
    if kind is None:
        return router_directory(path)
    if kind not in ROUTER_KINDS:
        raise InvalidArgumentError(f"a router's kind is one of {', '.join(ROUTER_KINDS)}, found {kind!r}")
    if path is not None:
        return router_directory(path)
    if kind not in SHIPPED_KINDS:
        raise InvalidArgumentError(
            f"no router of kind {kind!r} ships with the package, only {' and '.join(SHIPPED_KINDS)}: give the path of "
            "its directory"
        )
    return _ASSETS / kind


def restore_router(
    artifact: Artifact,
    directory: Path,
    *,
    strong_model: str | None = None,
    weak_model: str | None = None,
    embedder: Embedder | None = None,
    allow_server: str | Sequence[str] | None = None,
    **runtime: Any,
) -> Router:
    """Build a router from a directory's contents, which were read before.

    Args:
        artifact: The contents.
        directory: Where they were read, for the text of errors.
        strong_model: See load_router, as for the rest and for the errors.
        weak_model: See load_router.
        embedder: See load_router.
        allow_server: See load_router.
        **runtime: See load_router.
    """
    allowed = allowed_servers(allow_server)
    kind, stored = artifact.manifest["kind"], artifact.manifest["model_pair"]
    if kind not in ROUTER_KINDS:
        raise ArtifactFormatError(
            f"{directory} holds a router of kind {kind!r}; this version knows {', '.join(ROUTER_KINDS)}"
        )
    runtime = _accepted(router_class(kind), runtime)
    if set(stored) != {"strong", "weak"}:
        raise ArtifactFormatError(f"{directory}: model_pair holds strong and weak, found {sorted(stored)}")
    pair = ModelPair(strong_model or stored["strong"], weak_model or stored["weak"])
    if strong_model or weak_model:
        checked_pair(*pair)  # a fault of the caller's, not of the directory's
    with faults_of(directory):
        return router_class(kind).from_artifact(
            artifact,
            model_pair=pair,
            embedder=embedder,
            origin=Origin.of(directory, ROUTER_LAYOUT, artifact),
            allowed_servers=allowed,
            **runtime,
        )


def restore_unasked(artifact: Artifact, directory: Path) -> Router:
    """Build a router that is only shown or written again: whatever server it names, the caller will not ask it.

    Arguments and errors are those of restore_router; no server needs to be allowed.
    """
    with faults_of(directory):
        allowed = allowed_servers(server_of_spec(artifact.manifest["embedder"]))
    return restore_router(artifact, directory, allow_server=allowed)


def _accepted(kind: type[Router], runtime: dict[str, Any]) -> dict[str, Any]:
    """Return the options that a kind takes; "auto" and "cpu" are where every router runs."""
    given = {
        name: value
        for name, value in runtime.items()
        if name in kind.runtime_options or name != "device" or value not in ("auto", "cpu")
    }
    unknown = sorted(set(given) - kind.runtime_options)
    if unknown:
        takes = ", ".join(sorted(kind.runtime_options)) or "none: it runs on the CPU, in the native core"
        raise InvalidArgumentError(
            f"a router of kind {kind.kind!r} does not take {', '.join(unknown)}; its options are {takes}"
        )
    return given
