"""`routellm-fast evaluate --pool` and `--transfer`: golden tables with many models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from routellm_fast.data import Labelled, Prompts, group_of, known_aliases, read_golden
from routellm_fast.decision import ModelPair
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.routers import Router
from routellm_fast.routers.matrix_factorization import MatrixFactorizationRouter
from routellm_fast.tables import LeftOut

ALL_PAIRS: Final = "all"
TABLE_COSTS: Final = "costs"


def labelled_rows(
    path: Path, prompts: Prompts | None, groups: frozenset[str], models: Sequence[str] | None, left_out: LeftOut
) -> list[Labelled]:
    """Return a golden table without prompts of these groups. Raises DataError where none is left."""
    labelled = read_golden(path, prompts=prompts, models=models or None, left_out=left_out)
    rows = [row for row in labelled if group_of(row.prompt) not in groups]
    if not rows:
        raise DataError(f"{path}: all prompts are in the training data")
    return rows


def pool_record(
    routers: Mapping[str, Router],
    rows: Sequence[Labelled],
    path: Path,
    entries: Sequence[str],
    resamples: int,
    seed: int,
    texts: list[str],
) -> dict[str, Any]:
    """Evaluate a pool of models on a table with the first router. Appends the text to print to `texts`."""
    from routellm_fast.evaluation.pool import evaluate_pool, pool_table, priced_pool
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
    texts.append(f"{path.name}: {name} chooses among {len(result.models)} models\n{pool_table(result)}\n")
    return result.to_json()


def transfer_records(
    routers: Mapping[str, Router],
    tables: Mapping[Path, Sequence[Labelled]],
    entries: Sequence[str],
    resamples: int,
    seed: int,
    texts: list[str],
) -> list[dict[str, Any]]:
    """Evaluate every router on the named pairs of every table. Appends the text to print to `texts`."""
    from routellm_fast.evaluation.transfer import eligible_pairs, transfer_markdown, transfer_table

    asked = [_pair(entry) for entry in entries if entry != ALL_PAIRS]
    records: list[dict[str, Any]] = []
    for name, router in routers.items():
        for path, rows in tables.items():
            pairs = eligible_pairs(rows) if ALL_PAIRS in entries else asked
            found = transfer_table(router, rows, pairs, table=path.name, resamples=resamples, seed=seed)
            records += [{"router": name, **row.to_json()} for row in found]
            left_out = len(pairs) - len(found)
            note = f" ({left_out} pairs left out: too small a gap, or too few prompts)" if left_out else ""
            texts.append(f"{path.name}: {name} on pairs it was not trained for{note}\n{transfer_markdown(found)}\n")
    return records


def _pair(entry: str) -> ModelPair:
    strong, mark, weak = entry.partition(",")
    if not mark or not strong or not weak:
        raise InvalidArgumentError(f"--transfer takes STRONG,WEAK or {ALL_PAIRS}, found {entry!r}")
    aliases = known_aliases()  # reading a golden table replaces its names of models by these
    return ModelPair(aliases.get(strong, strong), aliases.get(weak, weak))
