"""`routellm-fast import`."""

from __future__ import annotations

from pathlib import Path

import typer

from routellm_fast.cli._embedder import OPENAI_NAME, named_embedder
from routellm_fast.cli._outputs import Force, check_vacant_outputs
from routellm_fast.cli._printing import say
from routellm_fast.embedders import StaticEmbedder
from routellm_fast.embedders.model2vec import is_model2vec_folder
from routellm_fast.errors import ArtifactNotFoundError
from routellm_fast.routers import MatrixFactorizationRouter
from routellm_fast.routers.routellm_checkpoint import is_checkpoint


def import_source(
    source: Path = typer.Argument(help="A checkpoint of RouteLLM's mf router, or a model2vec folder."),
    out: Path = typer.Argument(help="Directory to write."),
    strong_model: str = typer.Option(
        "gpt-4-1106-preview", help="For a checkpoint: the strong model, by RouteLLM's name."
    ),
    weak_model: str = typer.Option(
        "mixtral-8x7b-instruct-v0.1", help="For a checkpoint: the weak model, by RouteLLM's name."
    ),
    embedder: str = typer.Option(
        "openai:text-embedding-3-small",
        help=f"For a checkpoint: the embedder that it was trained with, as {OPENAI_NAME}; as onnx:DIR, an embedder "
        "directory, or `none` to score embeddings only.",
    ),
    int8: bool = typer.Option(
        False, "--int8", help="For a model2vec folder: store int8, a quarter of the size of float32."
    ),
    force: Force = False,
) -> None:
    """Make a router directory from a RouteLLM checkpoint, or an embedder directory from a model2vec folder."""
    check_vacant_outputs(out, force=force)
    if is_checkpoint(source):
        router = MatrixFactorizationRouter.from_routellm(
            source, strong_model=strong_model, weak_model=weak_model, embedder=named_embedder(embedder)
        )
        digest = router.save(out)
        say(f"{out}: mf router of {len(router.model_names)} models, {router.dim} dimensions", f"digest: {digest}")
    elif is_model2vec_folder(source):
        static = StaticEmbedder.load(source)
        static = static.quantize() if int8 else static
        digest = static.save(out, provenance={"source": "model2vec folder", "name": source.resolve().name})
        tokens = f"{static.table.shape[0]:,} tokens"
        say(f"{out}: static embedder, {tokens}, {static.dim} dimensions", f"digest: {digest}")
    else:
        raise ArtifactNotFoundError(
            f"{source} is neither a checkpoint of RouteLLM's mf router (model.safetensors with P.weight) "
            "nor a model2vec folder (config.json, model.safetensors, tokenizer.json)"
        )
