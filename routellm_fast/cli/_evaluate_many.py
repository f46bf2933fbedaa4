"""`routellm-fast evaluate --pool` and `--transfer`: golden tables with many models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from routellm_fast.cli._text_tables import show_table, show_text
from routellm_fast.data import Labelled, Prompts, group_of, known_aliases, read_golden
from routellm_fast.decision import ModelPair
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.evaluation.text_table import TextTable
from routellm_fast.routers import Router
from routellm_fast.routers.matrix_factorization import MatrixFactorizationRouter
from routellm_fast.shown import in_markdown
from routellm_fast.tables import LeftOut

ALL_PAIRS: Final = "all"
TABLE_COSTS: Final = "costs"


@dataclass(frozen=True, slots=True)
class Shown:
    """What one table of golden labels came to.

    Attributes:
        records: JSON-able: one record for a pool, one for each pair.
        lines: What is printed above the table.
        table: The table.
    """

    records: list[dict[str, Any]]
    lines: tuple[str, ...]
    table: TextTable

    def show(self, *, markdown: bool) -> None:
        """Print it."""
        show_text(*self.lines, *([""] if markdown else []))
        show_table(self.table, markdown=markdown)
        show_text("")

    def markdown(self) -> str:
        """Return it as a section of a Markdown file."""
        title, *rest = self.lines
        items = (f"* {in_markdown(line)}" for line in rest)
        return "\n".join([f"## {in_markdown(title)}", "", *items, *([""] if rest else [])]) + (
            f"\n{self.table.markdown()}\n"
        )


def labelled_rows(
    path: Path, prompts: Prompts | None, groups: frozenset[str], models: Sequence[str] | None, left_out: LeftOut
) -> list[Labelled]:
    """Return a golden table without prompts of these groups. Raises DataError where none is left."""
    labelled = read_golden(path, prompts=prompts, models=models or None, left_out=left_out)
    rows = [row for row in labelled if group_of(row.prompt) not in groups]
    if not rows:
        raise DataError(f"{path}: all prompts are in the training data")
    return rows


def evaluated_pool(
    routers: Mapping[str, Router],
    rows: Sequence[Labelled],
    path: Path,
    entries: Sequence[str],
    resamples: int,
    seed: int,
) -> Shown:
    """Evaluate a pool of models on a table with the first router."""
    from routellm_fast.evaluation.pool import evaluate_pool, pool_rows, pool_verdict, priced_pool
    from routellm_fast.pool import ModelPool, pool_models_of

    name, router = next(iter(routers.items()), ("", None))
    if not isinstance(router, MatrixFactorizationRouter):
        raise InvalidArgumentError(
            "--pool needs a router of kind mf, the only kind that ranks more than two models, as the first router"
        )
    if TABLE_COSTS in entries:
        chosen = priced_pool(router, rows)
    else:
        chosen = ModelPool(router, [model for entry in entries for model in pool_models_of(entry)])
    result = evaluate_pool(chosen, rows, name=path.name, resamples=resamples, seed=seed)
    left_out = f"; {result.dropped:,} left out because a model was not run on them" if result.dropped else ""
    title = f"{path.name}: {name} chooses among {len(result.models)} models on {result.prompts:,} prompts{left_out}"
    return Shown([result.to_json()], (title, *pool_verdict(result)), pool_rows(result))


def evaluated_pairs(
    routers: Mapping[str, Router],
    tables: Mapping[Path, Sequence[Labelled]],
    entries: Sequence[str],
    resamples: int,
    seed: int,
) -> list[Shown]:
    """Evaluate every router on the named pairs of every table."""
    from routellm_fast.evaluation.transfer import eligible_pairs, transfer_rows, transfer_table

    asked = [_pair(entry) for entry in entries if entry != ALL_PAIRS]
    shown: list[Shown] = []
    for name, router in routers.items():
        for path, rows in tables.items():
            pairs = eligible_pairs(rows) if ALL_PAIRS in entries else asked
            found = transfer_table(router, rows, pairs, table=path.name, resamples=resamples, seed=seed)
            left_out = len(pairs) - len(found)
            note = f"; left out: {left_out:,}, with too small a gap or too few prompts" if left_out else ""
            title = f"{path.name}: {name} on {len(found):,} of {len(pairs):,} pairs{note}"
            records = [{"router": name, **row.to_json()} for row in found]
            shown.append(Shown(records, (title,), transfer_rows(found)))
    return shown


def _pair(entry: str) -> ModelPair:
    strong, mark, weak = entry.partition(",")
    if not mark or not strong or not weak:
        raise InvalidArgumentError(f"--transfer takes STRONG,WEAK or {ALL_PAIRS}, found {entry!r}")
    aliases = known_aliases()  # reading a golden table replaces its names of models by these
    return ModelPair(aliases.get(strong, strong), aliases.get(weak, weak))
