"""From a traffic to labels: which prompts to ask about, in rounds, until enough is known or the money is gone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.adaptation.asking import Asked, AskJob, AskProgress, ask
from routellm_fast.adaptation.cases import Case
from routellm_fast.adaptation.goal import Goal, planned
from routellm_fast.adaptation.labels import Labels
from routellm_fast.adaptation.learning import check_sides, learn
from routellm_fast.adaptation.recipes import Ridge, Similarity, checked_prior
from routellm_fast.adaptation.rounds import Enough, disagreement, next_batch, why_enough
from routellm_fast.adaptation.sampling import Plan, plan_labels
from routellm_fast.adaptation.sides import untouched_rows
from routellm_fast.adaptation.sizing import Division, Outlook, half_width, spread_of_ratio
from routellm_fast.arrays import brief_repr
from routellm_fast.augmentation.workers import Ending
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.routers.base import Router
from routellm_fast.thresholds.traffic import Traffic

LABELS: Final = 400
# Recipes whose disagreement is cheap to ask for after every round.
_ASKED: Final = (Ridge.name, Similarity.name)


@dataclass(frozen=True, slots=True)
class Size:
    """How many labels to collect.

    Attributes:
        labels: The most labels, >= 1.
        rounds: In how many rounds; after each but the last, what the routers so far disagree on is asked next.
        half_width: Stop after a round when the 95 % interval of the share of the strong model's quality that is kept
            is as narrow as this on both sides; None never stops for that.
    """

    labels: int
    rounds: int = 1
    half_width: float | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that collect nothing."""
        if self.labels < 1 or self.rounds < 1:
            raise InvalidArgumentError(
                f"labels and rounds are at least 1, found {self.labels} labels and {self.rounds} rounds"
            )
        if self.half_width is not None and not 0.0 < self.half_width < 1.0:
            raise InvalidArgumentError(f"a half-width lies between 0 and 1, e.g. 0.05, found {self.half_width:g}")

    @classmethod
    def of(cls, labels: int | None, rounds: int, half_width: float | None) -> Size:
        """Return a size; without a number of labels, what the half-width takes as traffics usually are."""
        found = cls(LABELS if labels is None else labels, rounds, half_width)
        if labels is not None or half_width is None:
            return found
        return replace(found, labels=Outlook.for_kept(half_width, Division()).labels)

    def after(self, number: int) -> int:
        """Return how many labels there are to be after this round, from 1."""
        return -(-self.labels * number // self.rounds)


@dataclass(frozen=True, slots=True, eq=False)
class Collected:
    """Labels of a traffic.

    Attributes:
        labels: n labels.
        is_untouched: (n,) which of them only prove.
        asked: What asking for them came to, all rounds together.
        rounds: Number of rounds.
        ending: Why no further label was asked for, in words.
        is_interrupted: Whether somebody interrupted it.
    """

    labels: Labels
    is_untouched: NDArray[np.bool_]
    asked: Asked
    rounds: int
    ending: str
    is_interrupted: bool

    __repr__ = brief_repr


class Collection:
    """A traffic, and the order in which its prompts are labelled."""

    def __init__(
        self,
        cases: Sequence[Case],
        traffic: Traffic,
        prior: Router,
        *,
        division: Division | None = None,
        seed: int = 0,
        known: Mapping[str, bool] | None = None,
    ) -> None:
        """Plan the order; nobody is asked.

        Args:
            cases: What is known of each prompt of the traffic.
            traffic: The prompts, each with the number of times it was asked.
            prior: Its embedder tells kinds of requests apart.
            division: How labels are divided between proof and learning.
            seed: Seed of all that is drawn.
            known: By prompt, whether an earlier run left it untouched.
        """
        self._cases = {case.prompt: case for case in cases}
        self._traffic = traffic
        self._prior = prior
        self._seed = seed
        self._known = known
        self._division = division or Division()
        # The words alone tell kinds of requests apart.
        vectors = checked_prior(prior)[1].tokens_only().embed(traffic.prompts)
        groups = [self._cases[prompt].group for prompt in traffic.prompts]
        self.plan: Plan = plan_labels(traffic, vectors, groups=groups, division=self._division, seed=seed)

    def first(self, count: int) -> list[Case]:
        """Return what the first so many labels would be of.

        Raises:
            DataError: Too few of them could be learned from, whatever the answers are, or none could prove anything.
        """
        rows = self.plan.order[:count].tolist()
        if not self._known:  # else there are labels already
            check_sides([self.plan.groups[row] for row in rows], self.plan.is_untouched[:count])
        return [self._case(row) for row in rows]

    def collect(
        self,
        job: AskJob,
        size: Size,
        goal: Goal,
        *,
        on_progress: Callable[[AskProgress], None] | None = None,
        on_interrupt: Callable[[], None] | None = None,
    ) -> Collected:
        """Ask for labels, round after round.

        Args:
            job: Whom to ask.
            size: How many labels, in how many rounds.
            goal: At what share the interval is looked at.
            on_progress: See asking.ask.
            on_interrupt: See asking.ask.

        Raises:
            Whatever asking.ask raises; what was paid for is in the journal.
        """
        chosen: list[int] = []  # places in the plan
        found: Collected | None = None
        for number in range(1, size.rounds + 1):
            wanted = min(size.after(number), len(self.plan))
            chosen += self._next(chosen, wanted - len(chosen), found)
            cases = [self._case(row) for row in self.plan.order[chosen].tolist()]
            asked = ask(job, cases, on_progress=on_progress, on_interrupt=on_interrupt)
            found = self._collected(asked, number, len(chosen), size, goal)
            if found.ending:
                break
        assert found is not None  # noqa: S101 - there is a first round
        return found

    def _case(self, row: int) -> Case:
        prompt = self._traffic.prompts[row]
        case = self._cases[prompt]
        return Case(prompt, self.plan.groups[row], case.reference, case.strong_answer, case.weak_answer, case.place)

    def _next(self, chosen: Sequence[int], take: int, found: Collected | None) -> list[int]:
        """Return the places in the plan of what is asked next."""
        if found is None:
            return list(range(take))
        plan, taken = self.plan, set(chosen)
        wanted_untouched = self._division.untouched(len(chosen) + take)
        open_places = [place for place in range(len(plan)) if place not in taken]
        untouched = [place for place in open_places if plan.is_untouched[place]]
        pool = np.array([place for place in open_places if not plan.is_untouched[place]], dtype=np.int64)
        more = min(len(untouched), max(0, wanted_untouched - int(plan.is_untouched[list(chosen)].sum())))
        doubts = self._doubts(found, pool)
        batch = next_batch(doubts, plan.strata.cell[pool], take - more)
        return [*untouched[:more], *pool[batch.rows].tolist()]

    def _doubts(self, found: Collected, pool: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return how much the routers that were learned so far disagree on each prompt of the pool."""
        none = np.zeros(len(pool))
        if not len(pool):
            return none
        try:
            learning = learn(
                found.labels.select(~found.is_untouched),
                self._prior,
                recipes=_ASKED,
                seed=self._seed,
            )
        except DataError:  # too few labels to learn from: the next ones come in turn
            return none
        prompts = [self._traffic.prompts[row] for row in self.plan.order[pool].tolist()]
        scores = [
            candidate.fitted.router().win_rates(prompts).astype(np.float64)
            for candidate in learning.candidates
            if candidate.fitted is not None
        ]
        return disagreement(np.array(scores))

    def _collected(self, asked: Asked, number: int, asked_for: int, size: Size, goal: Goal) -> Collected:
        labels = asked.labels
        is_untouched = untouched_rows(
            labels.prompts,
            labels.groups,
            share=self._division.untouched_share,
            seed=self._seed,
            known=self._known,
        )
        ending = _ENDINGS.get(asked.ending, "")
        if not ending and number < size.rounds:
            enough = why_enough(
                self._half_width(labels, is_untouched, goal) if size.half_width is not None else None,
                size.half_width,
                prompts_left=len(self.plan) - asked_for,
                left_usd=None,
                label_usd=0.0,
            )
            ending = "" if enough is None else enough.value
        elif not ending:
            ending = Enough.NO_PROMPTS.value if asked_for >= len(self.plan) else "as many labels as were wanted"
        return Collected(labels, is_untouched, asked, number, ending, asked.ending is Ending.INTERRUPTED)

    def _half_width(self, labels: Labels, is_untouched: NDArray[np.bool_], goal: Goal) -> float | None:
        """Return half the width of the interval of the share of quality kept; None where it is not known yet."""
        untouched = labels.select(is_untouched)
        try:
            learning = learn(labels.select(~is_untouched), self._prior, seed=self._seed)
        except DataError:
            return None
        if len(untouched) < 2 or learning.chosen.scores is None or not untouched.strong.any():
            return None
        share = planned(goal, labels.select(~is_untouched), learning.chosen.scores).strong_share
        win_rates = learning.router().win_rates(untouched.prompts)
        routed = np.where(win_rates >= np.quantile(win_rates, 1.0 - share), untouched.strong, untouched.weak)
        return half_width(spread_of_ratio(routed, untouched.strong), len(untouched))


_ENDINGS: Mapping[Ending, str] = {Ending.COST_CAP: Enough.NO_MONEY.value, Ending.INTERRUPTED: "it was interrupted"}
