"""Files of battles, as training reads them: written whole or not at all."""

from __future__ import annotations

import gzip
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from routellm_fast.atomic import replaced_file
from routellm_fast.errors import DataError
from routellm_fast.places import check_writable
from routellm_fast.tables import csv_writer, form_of

COLUMNS: Final = ("prompt", "prompt_group", "model_a", "model_b", "winner", "source", "weight", "judge")
_SUFFIXES: Final = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz")
_LONE_SURROGATES: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class BattleRow:
    """One row of a file of battles.

    Attributes:
        prompt: Text of the prompt.
        group: Name of the prompt group; a group is held out as a whole.
        model_a: Name of the first model.
        model_b: Name of the second model.
        winner: "model_a", "model_b" or "tie".
        source: Name of the data set.
        weight: How much the battle counts, > 0.
        judge: Who decided: the name of the judge's model, or "golden" for golden labels.
        position_consistent: Whether the judge named the same winner in both orders of the responses; None where fewer
            than two orders were asked.
    """

    prompt: str
    group: str
    model_a: str
    model_b: str
    winner: str
    source: str
    weight: float
    judge: str
    position_consistent: bool | None = None


@dataclass(frozen=True, slots=True)
class BattleCounts:
    """What a file of battles holds.

    Attributes:
        battles: Number of rows.
        ties: Number of rows without a winner.
        prompts: Number of distinct prompts.
        models: Number of battles by model, the largest first.
        sources: Number of battles by source, the largest first.
    """

    battles: int
    ties: int
    prompts: int
    models: dict[str, int]
    sources: dict[str, int]

    @classmethod
    def of(cls, rows: Sequence[BattleRow]) -> BattleCounts:
        """Count the rows of a file."""
        models = Counter(name for row in rows for name in (row.model_a, row.model_b))
        return cls(
            battles=len(rows),
            ties=sum(row.winner == "tie" for row in rows),
            prompts=len({row.prompt for row in rows}),
            models=dict(sorted(models.items(), key=lambda entry: (-entry[1], entry[0]))),
            sources=dict(Counter(row.source for row in rows).most_common()),
        )


def check_battles_path(path: Path) -> None:
    """Raise DataError where a file of battles cannot go, before anything is paid for."""
    if not path.name.lower().endswith(_SUFFIXES):
        raise DataError(f"{path}, where the battles should go, must be one of {', '.join(_SUFFIXES)}")
    if not path.parent.is_dir():
        raise DataError(f"{path.parent}, where the battles should go, is no directory")
    if path.is_dir():
        raise DataError(f"{path}, where the battles should go, is a directory: name a file")
    try:
        check_writable(path.parent)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error})") from error


def write_battles(path: Path, rows: Iterable[BattleRow]) -> None:
    """Write a file of battles; readers see the old one or the whole new one. The same rows make the same bytes.

    Args:
        path: The file; its name says whether it is CSV or JSON lines, plain or gzipped.
        rows: The battles, in the order to write.

    Raises:
        DataError: The file cannot be written.
    """
    check_battles_path(path)
    write = _write_csv if form_of(path) == "csv" else _write_json
    try:
        with replaced_file(path) as file:
            if path.suffix.lower() == ".gz":
                with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
                    write(packed, rows)
            else:
                write(file, rows)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error})") from error


def _cells(row: BattleRow) -> dict[str, str | float | bool]:
    values = (row.prompt, row.group, row.model_a, row.model_b, row.winner, row.source, row.weight, row.judge)
    return dict(zip(COLUMNS, values, strict=True))


def _write_json(file: BinaryIO | gzip.GzipFile, rows: Iterable[BattleRow]) -> None:
    for row in rows:
        cells = _cells(row)
        if row.position_consistent is not None:
            cells["position_consistent"] = row.position_consistent
        line = json.dumps(cells, ensure_ascii=False)
        # A lone surrogate has no UTF-8; as an escape it survives.
        line = json.dumps(cells) if _LONE_SURROGATES.search(line) else line
        file.write(line.encode() + b"\n")


def _write_csv(file: BinaryIO | gzip.GzipFile, rows: Iterable[BattleRow]) -> None:
    stream = io.TextIOWrapper(file, encoding="utf-8", newline="")
    write = csv_writer(stream)
    write([*COLUMNS, "position_consistent"])
    for row in rows:
        cells = [*_cells(row).values(), "" if row.position_consistent is None else row.position_consistent]
        write([_LONE_SURROGATES.sub("\ufffd", c) if isinstance(c, str) else c for c in cells])
    stream.flush()
    stream.detach()
