"""Labels of a user's traffic: how well both models answered each prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routellm_fast.arrays import brief_repr
from routellm_fast.data.split import joined_groups
from routellm_fast.decision import ModelPair
from routellm_fast.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Prompts of a user's traffic, each once, and how well both models answered them.

    A judge who compares two answers gives the scores (1, 0), (0, 1) or (0.5, 0.5).

    Attributes:
        pair: The two models.
        prompts: n distinct prompts.
        groups: n names; prompts of one group stay on one side of every split.
        strong: (n,) score of the strong model's answer, from 0 (useless) to 1 (perfect).
        weak: (n,) the same of the weak model's.
        costs_usd: (n, 2) US dollars that the answers cost, the strong model's first; None where one of them is not
            known.
    """

    pair: ModelPair
    prompts: tuple[str, ...]
    groups: tuple[str, ...]
    strong: NDArray[np.float64]
    weak: NDArray[np.float64]
    costs_usd: NDArray[np.float64] | None = None

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        """Refuse columns that do not fit the prompts, and scores that are none."""
        count = len(self.prompts)
        if len(self.groups) != count or len(set(self.prompts)) != count:
            raise InvalidArgumentError(
                f"labels have distinct prompts and a group for each, found {count:,} prompts, "
                f"{len(set(self.prompts)):,} of them distinct, and {len(self.groups):,} groups"
            )
        for name, shape in (("strong", (count,)), ("weak", (count,)), ("costs_usd", (count, 2))):
            values = getattr(self, name)
            if values is not None and (values.shape != shape or not np.isfinite(values).all() or (values < 0.0).any()):
                raise InvalidArgumentError(f"{name} must be {shape} finite numbers of at least 0, found {values.shape}")
        if count and max(self.strong.max(), self.weak.max()) > 1.0:
            raise InvalidArgumentError(
                f"scores lie in [0, 1], found {max(self.strong.max(), self.weak.max()):g}: divide them by what a "
                "perfect answer scores"
            )

    def __len__(self) -> int:
        """Number of prompts."""
        return len(self.prompts)

    @property
    def gap(self) -> NDArray[np.float64]:
        """(n,) by how much the strong model's answer scored better, from -1 to 1."""
        return self.strong - self.weak

    def select(self, rows: NDArray[Any]) -> Labels:
        """Return the labels of some rows: an (n,) mask, or indices."""
        chosen = np.arange(len(self))[rows]
        return replace(
            self,
            prompts=tuple(self.prompts[row] for row in chosen),
            groups=tuple(self.groups[row] for row in chosen),
            strong=self.strong[chosen],
            weak=self.weak[chosen],
            costs_usd=None if self.costs_usd is None else self.costs_usd[chosen],
        )


def joined(parts: Sequence[Labels]) -> Labels:
    """Return the labels of several sources as one.

    A prompt that two sources have keeps its first labels. Groups that share a prompt, or prompts that differ only in
    case, spacing and Unicode form, become one group.

    Raises:
        InvalidArgumentError: There is no part, or their pairs differ.
    """
    if not parts or any(part.pair != parts[0].pair for part in parts):
        pairs = " and ".join(dict.fromkeys(f"{part.pair.strong}, {part.pair.weak}" for part in parts))
        raise InvalidArgumentError(f"labels to join are of one pair of models, found {pairs or 'none'}")
    first: dict[str, tuple[int, int]] = {}
    for number, part in enumerate(parts):
        for row, prompt in enumerate(part.prompts):
            first.setdefault(prompt, (number, row))
    chosen = [
        part.select(np.array([row for of, row in first.values() if of == number], dtype=np.int64))
        for number, part in enumerate(parts)
    ]
    prompts = tuple(prompt for part in chosen for prompt in part.prompts)
    named = [(prompt, group) for part in parts for prompt, group in zip(part.prompts, part.groups, strict=True)]
    group_of = joined_groups(named)
    costs = [part.costs_usd for part in chosen if len(part)]
    return Labels(
        parts[0].pair,
        prompts,
        tuple(group_of[prompt] for prompt in prompts),
        np.concatenate([part.strong for part in chosen]),
        np.concatenate([part.weak for part in chosen]),
        None
        if any(cost is None for cost in costs) or not costs
        else np.concatenate([c for c in costs if c is not None]),
    )
