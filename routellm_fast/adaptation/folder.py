"""The folder of a run: its labels, its journal and its report, from which the next run goes on.

It lies beside the router, not in it: it holds the user's prompts, which a router directory does not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast import strict
from routellm_fast.adaptation.labels import Labels
from routellm_fast.arrays import brief_repr
from routellm_fast.decision import ModelPair
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.evaluation.report.files import make_folder, write_output
from routellm_fast.json_file import read_json
from routellm_fast.tables import read_table

FORMAT_VERSION: Final = 1
_LABELS: Final = "labels.jsonl"
_SETTINGS: Final = "run.json"
_COLUMNS: Final = ("prompt", "group", "strong", "weak", "untouched")
_COSTS: Final = ("strong_usd", "weak_usd")


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What all runs of a folder share, or prompts would change sides.

    Attributes:
        strong_model: Name of the strong model.
        weak_model: Name of the weak model.
        seed: Seed of all that is drawn.
        untouched_share: Expected share of the labels that stay untouched.
    """

    strong_model: str
    weak_model: str
    seed: int
    untouched_share: float

    @property
    def pair(self) -> ModelPair:
        """The two models."""
        return ModelPair(self.strong_model, self.weak_model)

    def __str__(self) -> str:
        """All of them in words."""
        return (
            f"{self.strong_model!r} and {self.weak_model!r} with seed {self.seed} and an untouched share of "
            f"{self.untouched_share:g}"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What an earlier run left.

    Attributes:
        settings: Its settings.
        labels: n labels.
        is_untouched: (n,) which of them it did not learn from.
    """

    settings: RunSettings
    labels: Labels
    is_untouched: NDArray[np.bool_]

    __repr__ = brief_repr

    @property
    def sides(self) -> dict[str, bool]:
        """By prompt, whether it was left untouched."""
        return dict(zip(self.labels.prompts, self.is_untouched.tolist(), strict=True))


class RunFolder:
    """The folder of a run."""

    def __init__(self, path: Path) -> None:
        """Name the folder; nothing is read or written."""
        self.path = path

    @classmethod
    def of_router(cls, router: Path) -> RunFolder:
        """Return the folder that lies beside a router directory."""
        return cls(router.parent / f"{router.name}.adapt")

    @property
    def journal(self) -> Path:
        """The file that keeps every answer of a model or judge."""
        return self.path / "answers.journal"

    def make(self) -> None:
        """Make the folder where there is none. Raises DataError where that fails."""
        make_folder(self.path)

    def read(self) -> Kept | None:
        """Return what an earlier run left; None where there is none. Raises DataError where it is damaged."""
        path = self.path / _SETTINGS
        if not path.exists():
            return None
        try:
            found = strict.fields(
                read_json(path), str(path), ("format_version", "strong_model", "weak_model", "seed", "untouched_share")
            )
            version = found.pop("format_version")
            if version != FORMAT_VERSION:
                raise InvalidArgumentError(
                    f"{path} has format version {version!r}, this version of routellm-fast reads {FORMAT_VERSION}"
                )
            settings = RunSettings(
                strict.text(found["strong_model"], "strong_model"),
                strict.text(found["weak_model"], "weak_model"),
                int(strict.number(found["seed"], "seed", 0.0)),
                strict.number(found["untouched_share"], "untouched_share", 0.0, 1.0),
            )
            return Kept(settings, *self._read_labels(settings.pair))
        except InvalidArgumentError as error:
            raise DataError(f"{self.path} holds no run that can be gone on with: {error}") from error

    def write(self, settings: RunSettings, labels: Labels, is_untouched: NDArray[np.bool_]) -> None:
        """Keep labels for the next run; each file appears whole or not at all. Raises DataError where that fails."""
        self.make()
        # Labels first: settings without them would be a run without labels.
        lines = "".join(f"{json.dumps(row)}\n" for row in _rows(labels, is_untouched))
        write_output(self.path / _LABELS, lines.encode())
        record = {"format_version": FORMAT_VERSION, **asdict(settings)}
        write_output(self.path / _SETTINGS, f"{json.dumps(record, indent=1, sort_keys=True)}\n".encode())

    def _read_labels(self, pair: ModelPair) -> tuple[Labels, NDArray[np.bool_]]:
        path = self.path / _LABELS
        rows: list[tuple[str, str, float, float, bool]] = []
        costs: list[tuple[float, float]] = []
        for row in read_table(path):
            numbers = [row.number(column) for column in ("strong", "weak")]
            is_untouched = row.values.get("untouched")
            if None in numbers or not isinstance(is_untouched, bool):
                raise row.error(f"a label has {', '.join(_COLUMNS)}")
            strong, weak = (float(number or 0.0) for number in numbers)
            rows.append((row.text("prompt"), row.text("group"), strong, weak, is_untouched))
            spent = [row.number(column) if column in row.values else None for column in _COSTS]
            if spent[0] is not None and spent[1] is not None:
                costs.append((spent[0], spent[1]))
        prompts, groups, strong_scores, weak_scores, untouched = zip(*rows, strict=True) if rows else ((),) * 5
        labels = Labels(
            pair,
            tuple(prompts),
            tuple(groups),
            np.array(strong_scores, dtype=np.float64),
            np.array(weak_scores, dtype=np.float64),
            np.array(costs) if rows and len(costs) == len(rows) else None,
        )
        return labels, np.array(untouched, dtype=np.bool_)


def _rows(labels: Labels, is_untouched: NDArray[np.bool_]) -> Iterator[dict[str, Any]]:
    for row, prompt in enumerate(labels.prompts):
        found: dict[str, Any] = {
            "prompt": prompt,
            "group": labels.groups[row],
            "strong": float(labels.strong[row]),
            "weak": float(labels.weak[row]),
            "untouched": bool(is_untouched[row]),
        }
        if labels.costs_usd is not None:
            found |= dict(zip(_COSTS, labels.costs_usd[row].tolist(), strict=True))
        yield found
