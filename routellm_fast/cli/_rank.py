"""`routellm-fast rank`."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import typer
from numpy.typing import NDArray

from routellm_fast.cli._prompts import Prompt, PromptFormat, read_prompts
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.pool import ModelPool, PoolDecision, RankedModel, pool_models_of
from routellm_fast.routers import load_router
from routellm_fast.routers.matrix_factorization import MatrixFactorizationRouter

# How many prompts of a file are ranked together. From a pipe, each is answered at once.
_BATCH: Final = 1024
_MAX_SHOWN_CHARACTERS: Final = 300


def rank(
    prompts: list[str] | None = typer.Argument(
        None, help="Prompts; not given: read --file or standard input.", show_default=False
    ),
    models: list[str] | None = typer.Option(
        None,
        help="NAME=COST, where COST is the US dollars that 1,000 requests cost, or a table of models with the columns "
        "model and cost_usd_per_1k, or model, input_usd_per_1m and output_usd_per_1m, and optionally scored_as. May be "
        "given several times.",
        show_default=False,
    ),
    router: Path | None = typer.Option(None, help="Directory of an mf router; not given: the one that ships."),
    file: Path | None = typer.Option(
        None, help="File of prompts: one prompt a line, or JSON lines with `prompt` or `messages`."
    ),
    tau: float | None = typer.Option(
        None,
        help="Choose the cheapest model whose win rate against the best model is at least 1 - tau: 0.5 allows only "
        "the best model, 1 always chooses the cheapest.",
    ),
    budget: float | None = typer.Option(
        None, help="Instead of --tau: US dollars that 1,000 requests may cost, on average over these prompts."
    ),
    best_model: str | None = typer.Option(
        None, help="Compare all models with this one instead of with the best on each prompt; tau then starts at 0."
    ),
    form: PromptFormat = typer.Option(PromptFormat.AUTO, "--format", help="How lines become prompts."),
    jsonl: bool = typer.Option(False, "--jsonl", help="Print one JSON object for each prompt, with all models."),
) -> None:
    """Rank a pool of models for each prompt; with --tau or --budget, choose the cheapest that is good enough."""
    if tau is not None and budget is not None:
        raise InvalidArgumentError("give --tau or --budget, not both")
    pool = _pool(router, models or [], best_model)
    if tau is not None:
        tau = pool.check_tau(tau)
    batches = _admitted(pool, read_prompts(prompts or [], file, form), size=_BATCH if file is not None else 1)
    if budget is not None:
        kept = list(batches)  # the tau for a budget depends on all prompts
        taus = np.concatenate([np.empty((0, len(pool.models))), *(taus for _, taus in kept)])
        tau, batches = pool.tau_within(taus, budget), iter(kept)
    tally = _Tally()
    for batch, taus in batches:
        decisions = [None] * len(batch) if tau is None else pool.decisions(taus, tau)
        for prompt, ranked, decision in zip(batch, pool.rankings(taus), decisions, strict=True):
            sys.stdout.write(_json(prompt, ranked, decision) if jsonl else _text(prompt, ranked, decision))
            tally.add(decision)
        if file is None:
            sys.stdout.flush()
    if not jsonl:
        sys.stdout.write(tally.summary(tau))


def _pool(directory: Path | None, entries: list[str], best_model: str | None) -> ModelPool:
    if not entries:
        raise InvalidArgumentError(
            "name the models of the pool and what they cost: --models NAME=COST, or --models FILE"
        )
    router = load_router(directory)
    if not isinstance(router, MatrixFactorizationRouter):
        raise InvalidArgumentError(
            f"rank needs a router of kind 'mf', which has a vector for each model; {directory} is of kind "
            f"{router.kind!r}"
        )
    return ModelPool(router, [model for entry in entries for model in pool_models_of(entry)], best_model=best_model)


def _admitted(
    pool: ModelPool, prompts: Iterable[Prompt], *, size: int
) -> Iterator[tuple[list[Prompt], NDArray[np.float64]]]:
    iterator = iter(prompts)
    while batch := list(islice(iterator, size)):
        yield batch, pool.admission_taus([prompt.text for prompt in batch])


def _json(prompt: Prompt, ranked: list[RankedModel], decision: PoolDecision | None) -> str:
    record = {
        **({} if prompt.id is None else {"id": prompt.id}),
        "prompt": prompt.text,
        **({} if decision is None else {"model": decision.model, "tau": decision.tau}),
        "ranking": [
            {"model": name, "win_rate": round(win_rate, 7), "cost_usd_per_1k": cost} for name, win_rate, cost in ranked
        ],
    }
    line = json.dumps(record, ensure_ascii=False)
    # A lone surrogate has no place in UTF-8 output.
    return line.encode("utf-8", "replace").decode() + "\n"


def _text(prompt: Prompt, ranked: list[RankedModel], decision: PoolDecision | None) -> str:
    """Return the prompt and its models as text, best first, with a mark at the chosen one."""
    text = " ".join(prompt.text[:_MAX_SHOWN_CHARACTERS].split())
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    width = max(len(model.model) for model in ranked)
    lines = [text + ("…" if len(prompt.text) > _MAX_SHOWN_CHARACTERS else "")]
    for name, win_rate, cost in ranked:
        mark = "*" if decision is not None and name == decision.model else " "
        lines.append(f" {mark} {win_rate:8.4f}  {name:{width}}  {cost:10.4f} USD per 1,000")
    return "\n".join(lines) + "\n\n"


class _Tally:
    """Counts the choices in constant memory."""

    def __init__(self) -> None:
        self._prompts = 0
        self._chosen: Counter[str] = Counter()
        self._cost = 0.0

    def add(self, decision: PoolDecision | None) -> None:
        self._prompts += 1
        if decision is not None:
            self._chosen[decision.model] += 1
            self._cost += decision.cost_usd_per_1k

    def summary(self, tau: float | None) -> str:
        if self._prompts == 0:
            return "no prompts\n"
        counted = f"{self._prompts:,} prompt{'' if self._prompts == 1 else 's'}"
        if tau is None:
            return f"{counted}; win rates are against the best model on each prompt\n"
        shares = ", ".join(f"{count / self._prompts:.1%} {name}" for name, count in self._chosen.most_common())
        return f"{counted} at tau {tau:.6g}: {shares}; {self._cost / self._prompts:.4f} USD per 1,000\n"
