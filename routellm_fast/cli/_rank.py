"""`routellm-fast rank`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import typer
from numpy.typing import NDArray

from routellm_fast.cli._allowed import AllowServer
from routellm_fast.cli._digest import Digest
from routellm_fast.cli._left_out import Strict, left_out_of, say_left_out
from routellm_fast.cli._printing import say, say_json
from routellm_fast.cli._prompts import Prompt, PromptFormat, read_prompts
from routellm_fast.cli._text_tables import show_table, show_text
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.evaluation.text_table import TextTable
from routellm_fast.evaluation.verdict import percent
from routellm_fast.pool import ModelPool, PoolDecision, RankedModel, pool_models_of
from routellm_fast.pool.domination import dominators
from routellm_fast.routers import load_router
from routellm_fast.routers.matrix_factorization import MatrixFactorizationRouter
from routellm_fast.shown import shown

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
    digest: Digest = None,
    file: Path | None = typer.Option(
        None,
        help="File of prompts: one prompt a line, JSON lines with `prompt` or `messages`, or a table with a prompt.",
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
    allow_server: AllowServer = None,
    strict: Strict = False,
) -> None:
    """Rank a pool of models for each prompt; with --tau or --budget, choose the cheapest that is good enough."""
    if tau is not None and budget is not None:
        raise InvalidArgumentError("give --tau or --budget, not both")
    pool = _pool(router, digest, models or [], best_model, allow_server)
    if tau is not None:
        tau = pool.check_tau(tau)
    left_out = left_out_of(strict=strict, at_once=True)
    found = read_prompts(prompts or [], file, form, left_out=left_out)
    batches = _admitted(pool, found, size=_BATCH if file is not None else 1)
    if budget is not None:
        kept = list(batches)  # the tau for a budget depends on all prompts
        taus = np.concatenate([np.empty((0, len(pool.models))), *(taus for _, taus in kept)])
        tau, batches = pool.tau_within(taus, budget), iter(kept)
    tally = _Tally(pool)
    for batch, taus in batches:
        decisions = [None] * len(batch) if tau is None else pool.decisions(taus, tau)
        for entry in zip(batch, pool.rankings(taus), decisions, _dominated(pool, taus), strict=True):
            if jsonl:
                say_json(_record(*entry), indent=None)
            else:
                say(*_lines(*entry), "")
        tally.add(pool.win_rates(taus), decisions)
        if file is None:
            sys.stdout.flush()
    if not jsonl:
        tally.show(tau)
    say_left_out(left_out)


def _pool(
    directory: Path | None,
    digest: str | None,
    entries: list[str],
    best_model: str | None,
    allow_server: list[str] | None,
) -> ModelPool:
    if not entries:
        raise InvalidArgumentError(
            "name the models of the pool and what they cost: --models NAME=COST, or --models FILE"
        )
    router = load_router(directory, digest=digest, allow_server=allow_server)
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


def _dominated(pool: ModelPool, taus: NDArray[np.float64]) -> Iterator[dict[str, str]]:
    """Yield for each prompt: the dominated models by name, each with the model that dominates it."""
    names = [model.name for model in pool.models]
    for columns in pool.dominators(taus).tolist():
        yield {name: names[column] for name, column in zip(names, columns, strict=True) if column >= 0}


def _record(
    prompt: Prompt, ranked: list[RankedModel], decision: PoolDecision | None, by: Mapping[str, str]
) -> dict[str, Any]:
    return {
        **({} if prompt.id is None else {"id": prompt.id}),
        "prompt": prompt.text,
        **({} if decision is None else {"model": decision.model, "tau": decision.tau}),
        "ranking": [
            {
                "model": name,
                "win_rate": round(win_rate, 7),
                "cost_usd_per_1k": cost,
                **({"dominated_by": by[name]} if name in by else {}),
            }
            for name, win_rate, cost in ranked
        ],
    }


def _lines(
    prompt: Prompt, ranked: list[RankedModel], decision: PoolDecision | None, by: Mapping[str, str]
) -> list[str]:
    """Return the prompt and its models, a line each, best first, with a mark at the chosen one."""
    text = " ".join(prompt.text[:_MAX_SHOWN_CHARACTERS].split())
    width = max(len(shown(model.model)) for model in ranked)
    lines = [text + ("…" if len(prompt.text) > _MAX_SHOWN_CHARACTERS else "")]
    for name, win_rate, cost in ranked:
        mark = "*" if decision is not None and name == decision.model else " "
        note = f"  dominated by {by[name]}" if name in by else ""
        padded = f"{shown(name):{width}}"
        lines.append(f" {mark} win rate {win_rate:.4f}  {padded}  {cost:10.4f} USD per 1,000 requests{note}")
    return lines


class _Tally:
    """Adds up prompts in constant memory, and shows what their models and choices come to."""

    def __init__(self, pool: ModelPool) -> None:
        self._pool = pool
        self._prompts = 0
        self._win_rates = np.zeros(len(pool.models))
        self._chosen: Counter[str] = Counter()
        self._chosen_win_rate = 0.0
        self._chosen_cost = 0.0

    def add(self, win_rates: NDArray[np.float64], decisions: Iterable[PoolDecision | None]) -> None:
        """Take in (n, m) win rates of n prompts, and what was chosen for them."""
        self._prompts += len(win_rates)
        self._win_rates += win_rates.sum(axis=0)
        for decision in decisions:
            if decision is not None:
                self._chosen[decision.model] += 1
                self._chosen_win_rate += decision.win_rate
                self._chosen_cost += decision.cost_usd_per_1k

    def show(self, tau: float | None) -> None:
        """Print the best single model first, then the choices at tau and each model alone, means over the prompts."""
        if self._prompts == 0:
            show_text("no prompts")
            return
        names = [model.name for model in self._pool.models]
        costs = np.array([model.cost_usd_per_1k for model in self._pool.models])
        win_rates = self._win_rates / self._prompts
        order = np.lexsort((costs, -win_rates)).tolist()
        lines = [f"best single model: {_summed_up(names[order[0]], win_rates[order[0]], costs[order[0]])}"]
        by = dominators(costs, win_rates, costs, win_rates).tolist()
        rows = [
            [
                names[i],
                f"{win_rates[i]:.4f}",
                f"{costs[i]:.4f}",
                self._share(names[i]),
                names[by[i]] if by[i] >= 0 else "",
            ]
            for i in order
        ]
        if tau is not None:
            win_rate, cost = self._chosen_win_rate / self._prompts, self._chosen_cost / self._prompts
            (best,) = dominators(np.array([cost]), np.array([win_rate]), costs, win_rates).tolist()
            name = f"chosen at tau {tau:.6g}"
            rows.insert(1, [name, f"{win_rate:.4f}", f"{cost:.4f}", "", names[best] if best >= 0 else ""])
            lines.append(_summed_up(name, win_rate, cost))
            if best >= 0:
                lines.append(
                    f"Choosing does not pay on these prompts: {names[best]} alone costs no more, and its mean win rate "
                    "is no lower."
                )
        kept = [0, 1, 2, *([3] if tau is not None else []), 4]
        cells = tuple(tuple(row[column] for column in kept) for row in rows)
        heads = ("model", "mean win rate", "USD per 1,000 requests", "chosen for", "dominated by")
        show_text(*lines)
        show_table(TextTable(tuple(heads[column] for column in kept), cells, frozenset({"model", "dominated by"})))
        other = self._pool.best_model or "the best model on each prompt"
        count = "1 prompt" if self._prompts == 1 else f"{self._prompts:,} prompts"
        show_text(f"{count}; win rates are predicted, and against {other}")

    def _share(self, name: str) -> str:
        return percent(self._chosen[name] / self._prompts)


def _summed_up(name: str, win_rate: float, cost_usd_per_1k: float) -> str:
    return f"{name}, mean win rate {win_rate:.4f}, {cost_usd_per_1k:.4f} USD per 1,000 requests"
