"""What a proof comes to: one kind of verdict, decided by rules that were fixed before any label was seen.

"Better than a fixed mixture" is said only if the exact test of `association` says so. The levels of all tests that
could say it sum up to 2.5 %: at most one traffic in forty on which no score knows anything is called better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from routellm_fast.adaptation.proving import ADAPTED, SHIPPED, AtThreshold, Proof
from routellm_fast.adaptation.sizing import labels_to_tell, spread_of_interval
from routellm_fast.evaluation.results import LENGTH
from routellm_fast.interval import Interval

Kind = Literal[
    "saves",
    "missed_quality",
    "saves_nothing_here",
    "rival",
    "no_router",
    "send_weak",
    "send_strong",
    "all_ties",
    "too_few",
]
# The level of the test of the adapted router, and of each rival's.
LEVEL: Final = 0.02
RIVAL_LEVEL: Final = 0.0025
RIVALS: Final = (SHIPPED, LENGTH)
# Intervals from fewer prompt groups are too short to be believed.
LEAST_GROUPS: Final = 20
# Groups on which the models must differ from what is usual: fewer could be anything.
LEAST_DIFFERENT: Final = 5
# With a smaller share of calls saved, or fewer prompts that the strong model does not win, nothing is to be saved.
_NOTHING: Final = 0.01
_EVERYWHERE: Final = 0.95
_CHANCE: Final = 0.5
# If none of n prompts did something, fewer than 3 of n do it (95 %).
_RULE_OF_THREE: Final = 3.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, and why.

    Attributes:
        kind: "saves": route. "missed_quality": the router tells prompts apart, but keeps less quality than was asked
            for. "saves_nothing_here": it tells prompts apart, but at this threshold a fixed mixture does as well.
            "rival": not the adapted router but another is better than a fixed mixture. "no_router": none is.
            "send_weak", "send_strong": one model does. "all_ties", "too_few": the labels say nothing.
        rival: The router, or prompt length, that "rival" speaks of; else None.
        more_labels: With "no_router": about how many more labels would tell, if the effect is what it looks like; None
            where it looks like none. With "all_ties" and "too_few": how many more are needed at least.
        least_more_labels: With "no_router": how many more it takes at least, if the effect is as large as its interval
            allows; None where even that is no effect.
        as_good: Rivals that are not worse than the adapted router beyond noise, where it is worth using.
    """

    kind: Kind
    rival: str | None = None
    more_labels: int | None = None
    least_more_labels: int | None = None
    as_good: tuple[str, ...] = ()


def verdict_on(proof: Proof) -> Verdict:
    """Return the verdict on the first threshold of a proof."""
    if proof.groups < LEAST_GROUPS:
        return Verdict("too_few", more_labels=_scaled(LEAST_GROUPS - proof.groups, proof))
    if proof.ties == proof.prompts:
        wanted = math.ceil(LEAST_DIFFERENT * proof.groups / _RULE_OF_THREE)
        return Verdict("all_ties", more_labels=_scaled(max(wanted - proof.groups, 1), proof))
    point = proof.points[0]
    if proof.gap.value <= 0.0 or _weak_suffices(proof, point):
        return Verdict("send_weak")
    is_proved = proof.p_values[ADAPTED] <= LEVEL
    is_everywhere = proof.strong_wins >= _EVERYWHERE and not is_proved
    if point.saved_calls.value < _NOTHING or is_everywhere or _costs_no_more(point):
        return Verdict("send_strong")
    if proof.different < LEAST_DIFFERENT or proof.least_p_value > LEVEL:
        wanted = math.ceil(LEAST_DIFFERENT * proof.groups / max(proof.different, 1))
        return Verdict("too_few", more_labels=_scaled(max(wanted - proof.groups, 1), proof))
    if is_proved:
        if point.choice.kept_quality is not None and point.kept and point.kept.high < point.choice.kept_quality:
            return Verdict("missed_quality", as_good=_as_good(proof))
        if point.beyond_mixture is None or point.beyond_mixture.value <= 0.0:
            return Verdict("saves_nothing_here", as_good=_as_good(proof))
        return Verdict("saves", as_good=_as_good(proof))
    rivals = [(p, name) for name in RIVALS if (p := proof.p_values.get(name, 1.0)) <= RIVAL_LEVEL]
    if rivals:
        return Verdict("rival", rival=min(rivals)[1])
    apgr = proof.apgr(ADAPTED)
    if apgr is None:
        return Verdict("no_router")
    likely, least = _groups_to_tell(proof.groups, apgr)
    alike = proof.prompts / proof.groups
    return Verdict(
        "no_router",
        more_labels=None if likely is None else _scaled(likely * alike, proof),
        least_more_labels=None if least is None else _scaled(least * alike, proof),
    )


def is_recommended(verdict: Verdict) -> bool:
    """Whether the verdict is to route by the adapted router."""
    return verdict.kind == "saves"


def _weak_suffices(proof: Proof, point: AtThreshold) -> bool:
    wanted = point.choice.kept_quality
    return wanted is not None and proof.weak_kept is not None and proof.weak_kept.value >= wanted


def _costs_no_more(point: AtThreshold) -> bool:
    return point.money is not None and point.money.strong_usd.value <= point.money.weak_usd.value


def _as_good(proof: Proof) -> tuple[str, ...]:
    leads = {name: proof.lead(name) for name in RIVALS}
    return tuple(name for name, lead in leads.items() if lead is not None and lead.low <= 0.0)


def _groups_to_tell(groups: int, apgr: Interval) -> tuple[int | None, int | None]:
    """Return how many more groups would tell an APGR from that of a mixture, as likely as 80 %.

    The first is for the APGR that was measured, the second for the upper end of its interval; None where that is no
    more than a mixture has.
    """
    spread = spread_of_interval(apgr, groups)

    def more(effect: float) -> int | None:
        if effect <= 0.0 or spread == 0.0:
            return None
        found = labels_to_tell(effect, spread, groups, confidence=1.0 - 2.0 * LEVEL)
        # Measured or not, an effect that one more tenth of the labels would settle is not sure to be there.
        return None if found is None else max(found, math.ceil(groups / 10.0))

    return more(apgr.value - _CHANCE), more(apgr.high - _CHANCE)


def _scaled(untouched: float, proof: Proof) -> int:
    """Return how many labels must be added in all for so many in the untouched part, to two digits, rounded up."""
    total = math.ceil(round(untouched * max(proof.labels, proof.prompts) / proof.prompts, 6))
    step: int = 10 ** max(len(str(total)) - 2, 0)
    return -(-total // step) * step
