"""Which recipe the labels speak for: each is judged on labels that it did not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.adaptation.labels import Labels
from routellm_fast.adaptation.recipes import (
    DEFAULT,
    RECIPES,
    AsBefore,
    Fitted,
    Material,
    Recipe,
    Scores,
    check_names,
)
from routellm_fast.arrays import brief_repr
from routellm_fast.data.battles import Battles, to_arrays
from routellm_fast.errors import DataError, RouteLLMError
from routellm_fast.interval import Interval
from routellm_fast.routers.base import Router
from routellm_fast.training.progress import OnProgress, Progress, ignore_progress
from routellm_fast.training.verdict import compared

# Fewer groups of prompts cannot be cut into parts that say anything.
LEAST_GROUPS: Final = 20


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A recipe, and what the labels say about it.

    Attributes:
        name: Name of the recipe; "as shipped" is the router before.
        scores: (n,) of each label, by what was learned of the labels of other groups.
        gain: How much more of the strong model's wins an order by these scores collects than a random one, averaged
            over all strong shares; see training.verdict. With its 95 % interval over prompt groups.
        lead: The gain less that of the recipe that is taken unless another is clearly better.
        fitted: What it learned of all labels.
        failure: Why it could not learn; "" where it did, and then all of the above but the name are there.
    """

    name: str
    scores: Scores | None = None
    gain: Interval | None = None
    lead: Interval | None = None
    fitted: Fitted | None = None
    failure: str = ""

    __repr__ = brief_repr

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        if self.failure:
            return {"name": self.name, "failure": self.failure}
        gain, lead = (None if found is None else found.to_list() for found in (self.gain, self.lead))
        return {
            "name": self.name,
            "gain": gain,
            "lead": lead,
            **({} if self.fitted is None else self.fitted.facts),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Learning:
    """What came of all recipes.

    Attributes:
        chosen: The recipe whose router is taken.
        before: The router before, judged on the same labels.
        candidates: All of them, the router before first.
    """

    chosen: Candidate
    before: Candidate
    candidates: tuple[Candidate, ...]

    __repr__ = brief_repr

    def router(self, **common: Any) -> Router:
        """Return the chosen router; takes calibration, provenance and model_card."""
        assert self.chosen.fitted is not None  # noqa: S101 - a candidate that failed is never chosen
        return self.chosen.fitted.router(**common)


def learn(
    labels: Labels,
    prior: Router,
    *,
    recipes: Sequence[str] = (DEFAULT,),
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Learning:
    """Learn from labels by several recipes, and choose.

    The default recipe holds the router before as its own special case and weighs both by the evidence, so it is taken
    unless the whole 95 % interval of another's lead is above 0.

    Args:
        labels: The labels to learn from.
        prior: The router before: an mf router with a static embedder.
        recipes: Names of recipes; the default is always among them.
        seed: Draws the parts into which prompt groups are cut.
        on_progress: Called as prompts are embedded and recipes are fitted.

    Raises:
        DataError: There are too few groups of prompts.
        InvalidArgumentError: There is no recipe of a name, or the prior is of another kind.
        MissingExtraError: A recipe needs a library that is not installed.
    """
    check_names(recipes)
    if (groups := len(set(labels.groups))) < LEAST_GROUPS:
        raise DataError(
            f"there are labels of {groups:,} groups of prompts to learn from, which is too few: at least "
            f"{LEAST_GROUPS} are needed, and from some 100 on they begin to tell"
        )
    material = Material(labels, prior, on_progress)
    names = tuple(dict.fromkeys((DEFAULT, *recipes)))
    made: list[Recipe] = [AsBefore(material), *(RECIPES[name](material) for name in names)]
    report = on_progress or ignore_progress
    judge = _Judge(material, seed)
    found: list[Candidate] = []
    for number, recipe in enumerate(made):
        report(Progress(f"learning by {recipe.name}", number, len(made)))
        default = next((candidate for candidate in found if candidate.name == DEFAULT), None)
        found.append(_candidate(recipe, _parts(labels.groups, recipe.folds, seed), judge, default))
    before, default, *others = found
    if default.failure:
        raise DataError(default.failure)
    clearly = [other for other in others if other.lead is not None and other.lead.low > 0.0]
    chosen = max(clearly, key=lambda other: other.lead.value if other.lead else 0.0, default=default)
    return Learning(chosen, before, tuple(found))


def check_sides(groups: Sequence[str], is_untouched: NDArray[np.bool_]) -> None:
    """Refuse labels of which too few can be learned from, or none can prove anything.

    Args:
        groups: n names of groups of prompts.
        is_untouched: (n,) which of them only prove.

    Raises:
        DataError: There are too few groups on one side.
    """
    sides = is_untouched.tolist()
    proving, learned = ({group for group, side in zip(groups, sides, strict=True) if side is s} for s in (True, False))
    if proving and len(learned) >= LEAST_GROUPS:
        return
    several = len(proving) + len(learned)
    raise DataError(
        f"labels of {len(groups):,} prompts in {several:,} {'group' if several == 1 else 'groups'} are too few: "
        f"{len(learned):,} groups could be learned from, of at least {LEAST_GROUPS}, and {len(proving):,} would prove. "
        "Prompts that are alike or have one prompt_group are a group, and stay together. From some 200 groups on "
        "labels begin to tell"
    )


def _candidate(recipe: Recipe, part: NDArray[np.int64], judge: _Judge, default: Candidate | None) -> Candidate:
    """Fit a recipe to the labels of all parts but one, in turn, and then to all."""
    rows = np.arange(len(part))
    scores = np.empty(len(part))
    try:
        for index in range(recipe.folds):
            out = part == index
            if out.any():
                scores[out] = _standardized(recipe.fit(rows[~out]), rows, out)
        fitted = recipe.fit(rows)
    except RouteLLMError as error:
        return Candidate(recipe.name, failure=str(error))
    gain, lead = judge.of(scores, scores if default is None or default.scores is None else default.scores)
    return Candidate(recipe.name, scores, gain, lead, fitted)


def _standardized(fitted: Fitted, rows: NDArray[np.int64], out: NDArray[np.bool_]) -> Scores:
    """Return the scores of the rows left out, on a scale that parts share: that of the rows learned from."""
    learned = fitted.scores(rows[~out])
    deviation = float(learned.std())
    scores: Scores = (fitted.scores(rows[out]) - learned.mean()) / (deviation if deviation > 0.0 else 1.0)
    return scores


class _Judge:
    """Holds orders of the labelled prompts against each other."""

    def __init__(self, material: Material, seed: int) -> None:
        self._battles: Battles = to_arrays(material.battles, keep_order=True)
        self._seed = seed

    def of(self, first: Scores, second: Scores) -> tuple[Interval, Interval]:
        """Return the gain of the first order, and its lead over the second."""
        everything = np.ones(len(self._battles), dtype=np.bool_)
        target = self._battles.target.astype(np.float64)
        gain, _, lead = compared(self._battles, target, everything, first, second, seed=self._seed)
        return gain, lead


def _parts(groups: Sequence[str], parts: int, seed: int) -> NDArray[np.int64]:
    """Return (n,) the number of the part that each label is in; parts hold about as many groups each."""
    names = sorted(set(groups))
    order = np.random.default_rng(seed).permutation(len(names))
    number = {name: int(at) % parts for name, at in zip(names, order, strict=True)}
    return np.array([number[group] for group in groups], dtype=np.int64)
