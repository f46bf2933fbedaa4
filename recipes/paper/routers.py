"""The routers of the paper, made once each: trained on RouteLLM's public data, or read from its own checkpoints."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from recipes.paper.hub import CHECKPOINTS, LLAMA_TOKENIZER, STAGES, fetched
from recipes.paper.vectors import MODEL
from routellm_fast import load_router
from routellm_fast.arrays import FloatArray
from routellm_fast.data.routellm_datasets import MIN_PROMPT_CHARS
from routellm_fast.embedders import CachedEmbedder
from routellm_fast.embedders.base import Embedder
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.evaluation.datasets import PAPER_PAIR
from routellm_fast.routers.base import Router
from routellm_fast.routers.bert import BertRouter
from routellm_fast.routers.causal.router import CausalLLMRouter
from routellm_fast.routers.loading import SHIPPED_KINDS, SHIPPED_ROUTER, router_directory
from routellm_fast.routers.matrix_factorization import MatrixFactorizationRouter
from routellm_fast.tables import LeftOut
from routellm_fast.training.configs import MatrixFactorizationConfig, SimilarityWeightedConfig
from routellm_fast.training.mf_command import train_mf
from routellm_fast.training.sw_ranking_command import train_sw_ranking

KINDS: Final = ("mf", "sw_ranking")
STATIC: Final = "static"
SHIPPED: Final = "as shipped"


class Row(NamedTuple):
    """A router, as a row of the tables.

    Attributes:
        kind: "mf", "sw_ranking", "bert" or "causal_llm".
        stage: What it learned from: a key of STAGES, or SHIPPED.
        embedder: "static" or "text-embedding-3-small"; "" for one that reads prompts itself.
        checkpoint: The repository that holds it; "" where it is trained here.
    """

    kind: str
    stage: str
    embedder: str
    checkpoint: str = ""

    @property
    def name(self) -> str:
        """What the tables call it."""
        return self.checkpoint or ", ".join((self.kind, self.stage, self.embedder))


@dataclass(frozen=True, slots=True)
class Stored:
    """A router directory that is loaded when it is asked: a bank of battles takes a gigabyte.

    Attributes:
        directory: The directory.
        embedder: The cache of its embedder; None takes what the directory holds.
        kind: The kind of router.
    """

    directory: Path
    embedder: CachedEmbedder | None
    kind: str

    def win_rates(self, prompts: Sequence[str]) -> FloatArray:
        """Return (n,) win rates."""
        return _loaded(self.directory, self.embedder).win_rates(prompts)


@functools.lru_cache(maxsize=1)
def _loaded(directory: Path, embedder: CachedEmbedder | None) -> Router:
    return load_router(directory, embedder=embedder)


def rows(embedders: Sequence[str], checkpoints: Sequence[str]) -> list[Row]:
    """Return the routers to compare, those that ship first.

    Args:
        embedders: Those to train with. RouteLLM's mf needs vectors by text-embedding-3-small: it is left out where
            this is not among them.
        checkpoints: Kinds of RouteLLM's own routers.
    """
    found = [Row(kind, SHIPPED, STATIC) for kind in SHIPPED_KINDS]
    found += [Row(kind, stage, embedder) for embedder in embedders for kind in KINDS for stage in STAGES]
    for kind in checkpoints:
        embedder = MODEL if kind == "mf" else ""
        if not embedder or embedder in embedders:
            found += [Row(kind, stage, embedder, place.name) for stage, place in CHECKPOINTS[kind].items()]
    return found


def made(
    row: Row, data: Path, work: Path, *, embedder: Embedder | None, evaluation: Sequence[Path], created: str
) -> Path:
    """Return the directory of a row's router, and make it first where it is not there.

    Args:
        row: Which router.
        data: The folder of repositories.
        work: Routers go to `routers/` in it, and trainings that were interrupted go on from `checkpoints/`.
        embedder: The row's; None for one that reads prompts itself.
        evaluation: Battles on prompts of these files are left out.
        created: Date, for the record.

    Raises:
        RouteLLMError: See train_mf, train_sw_ranking and from_routellm.
    """
    if row.stage == SHIPPED:
        return SHIPPED_ROUTER if row.kind == "mf" else router_directory(row.kind)
    place = "-".join((row.kind, *row.stage.split(" + "), row.embedder)) if not row.checkpoint else row.checkpoint
    out = work / "routers" / place
    if (out / "router.json").is_file():
        return out
    if row.checkpoint:
        _imported(row, data, embedder).save(out)
        return out
    sources = STAGES[row.stage]
    common: dict[str, Any] = {
        "battles": [fetched(source.battles, data) for source in sources],
        "evaluation": evaluation,
        "model_pair": PAPER_PAIR,
        "cap_per_prompt": None,
        "min_prompt_chars": MIN_PROMPT_CHARS,
        "left_out": LeftOut(),  # some rows have no prompt at all; they are counted
        "out": out,
        "created": created,
    }
    if row.kind == "mf":
        config = MatrixFactorizationConfig()  # RouteLLM's settings; the held-out loss chooses the epoch
        state = work / "checkpoints" / place
        train_mf(embedder=_needed(embedder), config=config, balance_sources=False, checkpoint=state, **common)
    else:
        vectors = [] if row.embedder == STATIC else [fetched(source.vectors, data) for source in sources]
        # What all prompts have alike, their surface features, would drown the cosine.
        own = embedder.tokens_only() if isinstance(embedder, StaticEmbedder) else embedder
        train_sw_ranking(embeddings=vectors, embedder=own, config=SimilarityWeightedConfig(), **common)
    return out


def _imported(row: Row, data: Path, embedder: Embedder | None) -> Router:
    folder = fetched(CHECKPOINTS[row.kind][row.stage], data)
    if row.kind == "bert":
        return BertRouter.from_pretrained(folder)
    if row.kind == "causal_llm":
        # Its 16 GB stay where they are.
        return CausalLLMRouter.from_pretrained(folder, tokenizer=fetched(LLAMA_TOKENIZER, data), store="reference")
    return MatrixFactorizationRouter.from_routellm(folder, embedder=_needed(embedder))


def _needed(embedder: Embedder | None) -> Embedder:
    assert embedder is not None  # noqa: S101 - rows() gives one to every kind that embeds
    return embedder
