"""What a proof says, in plain sentences. The first one is the verdict; everything that is shown begins with it.

How numbers are written: percent are whole, or have one decimal where they are below 10 or between 99 and 100, so that
nothing becomes 0 or 100 that is not; the ends of an interval have the decimals of its value. Money has two decimals, or
three significant digits below one US dollar. APGR has three decimals. Names of models come from outside: what does not
print in them is escaped, so that every sentence is one line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from routellm_fast.adaptation.proving import ADAPTED, SHIPPED, AtThreshold, Proof
from routellm_fast.adaptation.replacing import Replacement
from routellm_fast.adaptation.saving import Monthly
from routellm_fast.adaptation.verdict import LEAST_DIFFERENT, LEAST_GROUPS, LEVEL, Verdict
from routellm_fast.evaluation.results import LENGTH, ORACLE
from routellm_fast.evaluation.verdict import threshold_text
from routellm_fast.interval import Interval
from routellm_fast.shown import shown

_NAMES: Final = {SHIPPED: "the router as shipped", LENGTH: "a rule on prompt length"}
# Beyond this, nobody labels.
_MANY_LABELS: Final = 100_000
# What a smaller lead in APGR is worth is less than a rule that needs no router.
_AS_WELL: Final = 0.02


def headline(proof: Proof, verdict: Verdict) -> str:
    """Return the verdict: one sentence, one line."""
    return _HEADLINES[verdict.kind](proof, verdict)


def reasons(proof: Proof, verdict: Verdict, monthly: Monthly | None = None) -> tuple[tuple[str, str], ...]:
    """Return labels and sentences that follow the verdict: what to set, what that saves, and how sure this is."""
    return tuple((label, text) for label, text in _reasons(proof, verdict, monthly))


def percent(share: float, decimals: int | None = None) -> str:
    """Return a share as percent without its sign: whole, or with one decimal below 10 and between 99 and 100.

    Args:
        share: The share, 0.41 for "41".
        decimals: Write so many decimals; None: as the rule says.
    """
    places = _decimals(share) if decimals is None else decimals
    text = f"{100.0 * share:.{places}f}"
    return text.removeprefix("-") if float(text) == 0.0 else text


def percent_of(interval: Interval) -> str:
    """Return a share with its interval, e.g. "41 % (33 to 48)"."""
    places = _decimals(interval.value)
    value, low, high = (percent(part, places) for part in interval.to_list())
    return f"{value} %" if interval.width == 0.0 else f"{value} % ({low} to {high})"


def usd(amount: float) -> str:
    """Return an amount of US dollars, e.g. "1,234.50" or "0.00312"."""
    return f"{amount:,.2f}" if abs(amount) >= 1.0 or amount == 0.0 else f"{amount:.3g}"


def usd_of(interval: Interval) -> str:
    """Return an amount of US dollars with its interval, e.g. "120.00 USD (80.00 to 160.00)"."""
    value, low, high = map(usd, interval.to_list())
    return f"{value} USD" if interval.width == 0.0 else f"{value} USD ({low} to {high})"


def number_of(interval: Interval, *, sign: bool = False) -> str:
    """Return an APGR, or a difference of two, with its interval."""
    value, low, high = (f"{part:{'+' if sign else ''}.3f}" for part in interval.to_list())
    return f"{value} ({low} to {high})"


def replacement(found: Replacement) -> str:
    """Return what an update comes to: one line."""
    what = {
        "better": "The new router is better than the old one and takes its place",
        "worse": "The new router is worse than the old one, which stays",
    }.get(found.outcome)
    if what is None or (found.outcome == "better") != found.takes_place:
        what = (
            "The new router is not clearly better or worse than the old one, and takes its place since it has learned "
            "from more labels"
            if found.takes_place
            else "The new router looks worse than the old one, though not beyond doubt, and the old one stays"
        )
    value, low, high = (f"{100.0 * part:+.1f}" for part in found.quality.to_list())
    mean = f"{100.0 * found.mean_quality.value:+.1f}"
    apgr = "" if found.apgr is None else f", APGR {number_of(found.apgr, sign=True)}"
    return (
        f"{what}: on {found.prompts:,} prompts that neither learned from, its quality differs by {mean} points on "
        f"average over all strong shares, and by {value} ({low} to {high}) at today's strong share of "
        f"{percent(found.strong_share)} %{apgr}."
    )


def _decimals(share: float) -> int:
    size = abs(100.0 * share)
    return int(0.0 < size < 9.95 or 99.0 < size < 100.0)


def _saves(proof: Proof, _: Verdict) -> str:
    point = proof.points[0]
    found = f"Routing saves {percent_of(point.saved_calls)} of the calls to the strong model at {_kept(point)}"
    wanted = point.choice.kept_quality
    if wanted is not None and point.kept is not None and round(point.kept.value, 2) < wanted:
        return f"{found}, which may be less than the {_wanted(point)} that was asked for."
    return f"{found}."


def _missed_quality(proof: Proof, _: Verdict) -> str:
    point = proof.points[0]
    assert point.kept is not None  # noqa: S101  (a quality that was missed was measured)
    return (
        f"The quality asked for is not reached: at the chosen threshold the router keeps {percent_of(point.kept)} of "
        f"the strong model's quality, and {_wanted(point)} was asked for."
    )


def _saves_nothing_here(_: Proof, __: Verdict) -> str:
    return (
        "The router tells prompts apart, but at the chosen threshold it saves nothing beyond a fixed mixture of the "
        "same quality: choose another quality, share or budget."
    )


def _rival(_: Proof, verdict: Verdict) -> str:
    name = _NAMES[str(verdict.rival)]
    return f"The adapted router is not shown to beat a fixed mixture here, but {name} is: use that instead."


def _no_router(_: Proof, verdict: Verdict) -> str:
    return f"No router beats a fixed mixture here: do not route. {_more_labels(verdict)}"


def _more_labels(verdict: Verdict) -> str:
    if verdict.least_more_labels is None:
        return "More labels are not likely to change that."
    if verdict.least_more_labels > _MANY_LABELS:
        return f"It would take more than {_MANY_LABELS:,} more labels to change that."
    if verdict.more_labels is None or verdict.more_labels > _MANY_LABELS:
        return f"It would take at least {verdict.least_more_labels:,} more labels to change that."
    return f"About {verdict.more_labels:,} more labels could change that, if what was seen here holds."


def _send_weak(proof: Proof, _: Verdict) -> str:
    if proof.gap.value <= 0.0:
        return (
            f"The weak model is as good or better here: it scores {percent_of(proof.weak_quality)}, the strong one "
            f"{percent_of(proof.strong_quality)}. Send everything to the weak model."
        )
    assert proof.weak_kept is not None  # noqa: S101  (it is what the verdict rests on)
    return (
        f"The weak model alone keeps {percent_of(proof.weak_kept)} of the strong model's quality, and "
        f"{_wanted(proof.points[0])} was asked for: send everything to the weak model."
    )


def _send_strong(proof: Proof, _: Verdict) -> str:
    money = proof.points[0].money
    if money is not None and money.strong_usd.value <= money.weak_usd.value:
        return "The strong model is better and costs no more: send everything to it."
    return (
        "The strong model is better nearly everywhere, and routing cannot save at this quality: send everything to the "
        "strong model."
    )


def _all_ties(proof: Proof, verdict: Verdict) -> str:
    return (
        f"Both models do equally well on all {proof.prompts:,} prompts of the proof: nothing here needs the strong "
        "model, and no label says which prompt might. Send everything to the weak model, or add at least "
        f"{verdict.more_labels:,} labels."
    )


def _too_few(proof: Proof, verdict: Verdict) -> str:
    if proof.groups < LEAST_GROUPS:
        found, what = f"{_counted(proof.prompts, 'prompt')}", ""
        if proof.groups != proof.prompts:
            found, what = f"{found} in {_counted(proof.groups, 'group')} of prompts that are alike", " groups"
        return (
            f"Too few labels to say anything: the proof has {found}, and needs {LEAST_GROUPS}{what} at least. Add at "
            f"least {verdict.more_labels:,} labels."
        )
    return (
        f"Too few labels to say anything: the models differ otherwise than usual on only {proof.different:,} of "
        f"{proof.groups:,} prompts of the proof, and {LEAST_DIFFERENT} are needed. Add at least "
        f"{verdict.more_labels:,} labels."
    )


_HEADLINES: Final[dict[str, Callable[[Proof, Verdict], str]]] = {
    "saves": _saves,
    "missed_quality": _missed_quality,
    "saves_nothing_here": _saves_nothing_here,
    "rival": _rival,
    "no_router": _no_router,
    "send_weak": _send_weak,
    "send_strong": _send_strong,
    "all_ties": _all_ties,
    "too_few": _too_few,
}


def _kept(point: AtThreshold) -> str:
    if point.kept is None:
        return f"a mean score of {percent_of(point.quality)}"
    return f"{percent_of(point.kept)} of the strong model's quality"


def _wanted(point: AtThreshold) -> str:
    return f"{percent(point.choice.kept_quality or 0.0)} %"


def _reasons(proof: Proof, verdict: Verdict, monthly: Monthly | None) -> Iterator[tuple[str, str]]:
    point = proof.points[0]
    yield "Both models", _both_models(proof)
    for name in verdict.as_good:
        lead = proof.lead(name)
        if lead is not None:
            yield _label(name), _beside(name, lead)
    if verdict.kind in ("saves", "missed_quality", "saves_nothing_here"):
        yield "What to set", _what_to_set(point, proof)
        yield "Beyond a fixed mixture", _beyond_mixture(point)
        if point.money is not None:
            yield "In money", _in_money(point)
    if monthly is not None and verdict.kind == "saves":
        yield "A month", _a_month(monthly)
        if monthly.labelling_usd is not None:
            yield "What the labels cost", _paid_back(monthly)
    if verdict.kind in ("no_router", "rival"):
        yield "Why", _why_not(proof)
        mixture = _mixture_for(proof, point)
        if mixture is not None:
            yield "What to do instead", mixture
    if verdict.kind == "send_weak":
        yield "The difference", _difference(proof)
    if verdict.kind == "send_weak" and proof.p_values[ADAPTED] <= LEVEL:
        yield "If quality counts more than money", _raises_quality()
    yield "How sure", _how_sure(proof)


def _both_models(proof: Proof) -> str:
    return (
        f"{shown(proof.strong_model)} scores {percent_of(proof.strong_quality)}, {shown(proof.weak_model)} "
        f"{percent_of(proof.weak_quality)}; they do equally well on {proof.ties:,} of {proof.prompts:,} prompts."
    )


def _beside(name: str, lead: Interval) -> str:
    found = f"the adapted router's APGR exceeds its by {number_of(lead, sign=True)}"
    if lead.value > _AS_WELL:
        return f"It is not sure that the adapted router does better than {_NAMES[name]}: {found}."
    how = "does better" if lead.high < 0.0 else "does as well"
    return f"{_NAMES[name][:1].upper()}{_NAMES[name][1:]} {how} here: {found}."


def _difference(proof: Proof) -> str:
    text = f"The strong model's score less the weak one's is {percent_of(proof.gap)}."
    if proof.gap.value > 0.0 or proof.gap.high <= 0.0:
        return text
    return f"{text} More labels could still show that the strong model is better."


def _raises_quality() -> str:
    return (
        "The router finds prompts on which the strong model is better: routing can raise the quality above that of "
        "both models."
    )


def _label(name: str) -> str:
    return {SHIPPED: "As shipped", LENGTH: "Prompt length"}[name]


def _what_to_set(point: AtThreshold, proof: Proof) -> str:
    asked = ""
    if point.choice.kept_quality is not None and point.kept is not None:
        inside = point.kept.low < point.choice.kept_quality
        asked = f" {_wanted(point)} was asked for" + (
            f"; the true figure may be as low as {percent(point.kept.low)} %." if inside else "."
        )
    kept = "" if point.kept is None else f", and keeps {percent_of(point.kept)} of its quality"
    return (
        f"Threshold {threshold_text(point.choice.threshold)} ({shown(point.choice.goal)}) sends "
        f"{percent_of(point.strong_share)} of these prompts to {shown(proof.strong_model)}{kept}.{asked}"
    )


def _beyond_mixture(point: AtThreshold) -> str:
    if point.mixture_share is None or point.beyond_mixture is None:
        return "The strong model is not better here, so that no mixture gains anything."
    points = point.beyond_mixture
    if points.value <= 0.0:
        return (
            f"Picked at random, {percent_of(point.mixture_share)} of requests at the strong model would keep the same "
            f"quality (a fixed mixture); the router sends it {percent(point.strong_share.value)} %, which is no less."
        )
    return (
        f"Picked at random, {percent_of(point.mixture_share)} of requests at the strong model would keep the same "
        f"quality (a fixed mixture); the router sends it {percent(point.strong_share.value)} %. The difference is what "
        f"looking at prompts saves: {percent_of(points)} of all requests."
    )


def _in_money(point: AtThreshold) -> str:
    money = point.money
    assert money is not None  # noqa: S101  (asked for only then)
    text = (
        f"Routing saves {percent_of(money.saved_share)} of what the strong model alone would cost: 1,000 requests cost "
        f"{usd(1000.0 * money.routed_usd.value)} USD instead of {usd(1000.0 * money.strong_usd.value)}."
    )
    if money.mixture_usd is None:
        return text
    return f"{text} A fixed mixture of the same quality would cost {usd(1000.0 * money.mixture_usd.value)}."


def _a_month(monthly: Monthly) -> str:
    return (
        f"At {monthly.requests:,.0f} requests a month routing saves {usd_of(monthly.saved_usd)}: "
        f"{usd(monthly.routed_usd.value)} USD instead of {usd(monthly.strong_usd.value)}."
    )


def _paid_back(monthly: Monthly) -> str:
    cost = f"The labels cost {usd(monthly.labelling_usd or 0.0)} USD"
    if monthly.paid_after_requests is None or monthly.paid_after_days is None:
        return f"{cost}, which routing does not earn back."
    latest = (
        "possibly never"
        if monthly.latest_paid_after_days is None
        else f"{_days(monthly.latest_paid_after_days)} at the latest"
    )
    return (
        f"{cost}, which {monthly.paid_after_requests:,.0f} requests earn back: {_days(monthly.paid_after_days)} at "
        f"this volume, {latest} (95 %)."
    )


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _days(days: float) -> str:
    return "less than a day" if days < 1.0 else _counted(round(days), "day")


def _why_not(proof: Proof) -> str:
    apgr = proof.apgr(ADAPTED)
    p = proof.p_values[ADAPTED]
    measured = "" if apgr is None else f" Its APGR is {number_of(apgr)}; a fixed mixture has 0.5."
    return (
        f"A router that guesses would look as good as this one in {percent(p)} of 100 tries; to be believed, that must "
        f"be {percent(LEVEL)} at most.{measured}"
    )


def _mixture_for(proof: Proof, point: AtThreshold) -> str | None:
    wanted = point.choice.kept_quality
    if wanted is None:
        return (
            f"Send a fixed {percent(point.strong_share.value)} % of requests, whichever, to "
            f"{shown(proof.strong_model)}: that does as well at the same cost."
        )
    strong, weak = proof.strong_quality.value, proof.weak_quality.value
    share = (wanted * strong - weak) / (strong - weak)
    if not 0.0 < share < 1.0:
        return None
    return (
        f"If {_wanted(point)} of the strong model's quality will do, send a fixed {percent(share)} % of requests, "
        f"whichever, to {shown(proof.strong_model)}."
    )


def _how_sure(proof: Proof) -> str:
    groups = "" if proof.groups == proof.prompts else f" in {proof.groups:,} groups"
    apgr, oracle = proof.apgr(ADAPTED), proof.apgr(ORACLE)
    text = (
        f"Measured on {proof.prompts:,} different prompts{groups} that nothing was learned from or chosen on, each "
        "counted once, however often it is asked; in brackets: 95 % intervals over the choice of these prompts."
    )
    if apgr is None or oracle is None:
        return f"{text} APGR, which divides by what the strong model is better by, is undefined here."
    return (
        f"{text} APGR {number_of(apgr)}; a fixed mixture has 0.5, and no router could have more than "
        f"{oracle.value:.3f}."
    )
