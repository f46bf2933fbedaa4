from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from routellm_fast import ModelPair
from routellm_fast.adaptation.proving import SHIPPED, Choice
from routellm_fast.adaptation.replacing import Replacement
from routellm_fast.adaptation.saving import monthly
from routellm_fast.adaptation.sentences import (
    headline,
    number_of,
    percent,
    percent_of,
    reasons,
    replacement,
    usd,
    usd_of,
)
from routellm_fast.adaptation.verdict import Verdict, verdict_on
from routellm_fast.evaluation.results import LENGTH
from routellm_fast.interval import Interval
from tests.support.proof_builders import known_traffic, made_labels, quick_proof


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0"), (0.0004, "0.0"), (0.0123, "1.2"), (0.0994, "9.9"), (0.0996, "10"), (0.41, "41"), (0.4149, "41"),
        (0.99, "99"), (0.9951, "99.5"), (0.99949, "99.9"), (1.0, "100"), (1.012, "101"), (-0.05, "-5.0"),
        (-0.0001, "0.0"), (-0.3, "-30"),
    ],
)  # fmt: skip
def test_percent(share, text):
    assert percent(share) == text


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ((0.41, 0.33, 0.48), "41 % (33 to 48)"),
        ((0.05, 0.011, 0.123), "5.0 % (1.1 to 12.3)"),
        ((0.5, 0.5, 0.5), "50 %"),
        ((0.98, 0.949, 1.012), "98 % (95 to 101)"),
    ],
)
def test_an_interval_has_the_decimals_of_its_value(parts, text):
    assert percent_of(Interval(*parts)) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0.0, "0.00"), (1234.5, "1,234.50"), (0.00312345, "0.00312"), (0.5, "0.5"), (-2.0, "-2.00")],
)
def test_dollars(amount, text):
    assert usd(amount) == text


def test_other_numbers():
    assert usd_of(Interval(120.0, 80.0, 160.0)) == "120.00 USD (80.00 to 160.00)"
    assert usd_of(Interval.exactly(3.0)) == "3.00 USD"
    assert number_of(Interval(0.6, 0.55, 0.65)) == "0.600 (0.550 to 0.650)"
    assert number_of(Interval(0.01, -0.02, 0.04), sign=True) == "+0.010 (-0.020 to +0.040)"


LABELS, SCORE = known_traffic(costs_usd=np.tile([0.01, 0.001], (400, 1)))


@pytest.fixture(scope="module")
def proof():
    """A proof whose numbers are set, so that sentences can be compared whole."""
    found = quick_proof(
        LABELS, SCORE, Choice("95 % of the strong model's quality", 0.456789123, 0.95), shipped=SCORE**2
    )
    point = dataclasses.replace(
        found.points[0],
        strong_share=Interval(0.59, 0.52, 0.67),
        saved_calls=Interval(0.41, 0.33, 0.48),
        kept=Interval(0.98, 0.96, 1.0),
        mixture_share=Interval(0.9, 0.8, 1.0),
        beyond_mixture=Interval(0.31, 0.2, 0.4),
    )
    assert point.money is not None
    money = dataclasses.replace(
        point.money,
        strong_usd=Interval.exactly(0.01),
        routed_usd=Interval(0.006, 0.005, 0.007),
        saved_usd=Interval(0.004, 0.003, 0.005),
        saved_share=Interval(0.4, 0.3, 0.5),
        mixture_usd=Interval(0.009, 0.008, 0.01),
    )
    return dataclasses.replace(found, points=(dataclasses.replace(point, money=money),))


def with_point(proof, **fields):
    return dataclasses.replace(proof, points=(dataclasses.replace(proof.points[0], **fields),))


def test_saves(proof):
    assert headline(proof, Verdict("saves")) == (
        "Routing saves 41 % (33 to 48) of the calls to the strong model at 98 % (96 to 100) of the strong model's "
        "quality."
    )
    scored = with_point(proof, kept=None, quality=Interval(0.5, 0.4, 0.6))
    assert headline(scored, Verdict("saves")).endswith("at a mean score of 50 % (40 to 60).")
    short = headline(with_point(proof, kept=Interval(0.93, 0.9, 0.97)), Verdict("saves"))
    assert short.endswith(
        "at 93 % (90 to 97) of the strong model's quality, which may be less than the 95 % that was asked for."
    )


def test_a_missed_quality(proof):
    missed = with_point(proof, kept=Interval(0.9, 0.88, 0.92))
    assert headline(missed, Verdict("missed_quality")) == (
        "The quality asked for is not reached: at the chosen threshold the router keeps 90 % (88 to 92) of the strong "
        "model's quality, and 95 % was asked for."
    )


def test_nothing_beyond_a_mixture(proof):
    assert headline(proof, Verdict("saves_nothing_here")) == (
        "The router tells prompts apart, but at the chosen threshold it saves nothing beyond a fixed mixture of the "
        "same quality: choose another quality, share or budget."
    )
    lines = dict(reasons(with_point(proof, beyond_mixture=Interval(-0.02, -0.1, 0.1)), Verdict("saves_nothing_here")))
    assert lines["Beyond a fixed mixture"].endswith("the router sends it 59 %, which is no less.")


@pytest.mark.parametrize(("rival", "name"), [(SHIPPED, "the router as shipped"), (LENGTH, "a rule on prompt length")])
def test_a_rival(proof, rival, name):
    assert headline(proof, Verdict("rival", rival=rival)) == (
        f"The adapted router is not shown to beat a fixed mixture here, but {name} is: use that instead."
    )


@pytest.mark.parametrize(
    ("more", "least", "text"),
    [
        (3000, 400, "About 3,000 more labels could change that, if what was seen here holds."),
        (None, 400, "It would take at least 400 more labels to change that."),
        (200_000, 400, "It would take at least 400 more labels to change that."),
        (None, 200_000, "It would take more than 100,000 more labels to change that."),
        (None, None, "More labels are not likely to change that."),
    ],
)
def test_no_router(proof, more, least, text):
    verdict = Verdict("no_router", more_labels=more, least_more_labels=least)
    assert headline(proof, verdict) == f"No router beats a fixed mixture here: do not route. {text}"


def test_the_weak_model_is_as_good():
    better = quick_proof(made_labels(np.arange(60) % 2, np.ones(60)), np.arange(60) / 60)
    assert headline(better, verdict_on(better)).startswith(
        "The weak model is as good or better here: it scores 100 %, the strong one 50 % ("
    )
    assert headline(better, verdict_on(better)).endswith("Send everything to the weak model.")
    lines = dict(reasons(better, verdict_on(better)))
    assert lines["The difference"].startswith("The strong model's score less the weak one's is -50 % (")
    assert lines["The difference"].endswith(").")
    unsure = dataclasses.replace(better, gap=Interval(-0.02, -0.1, 0.06))
    assert dict(reasons(unsure, Verdict("send_weak")))["The difference"] == (
        "The strong model's score less the weak one's is -2.0 % (-10.0 to 6.0). More labels could still show that the "
        "strong model is better."
    )


def test_the_weak_model_keeps_what_was_asked_for(proof):
    kept = dataclasses.replace(proof, weak_kept=Interval(0.97, 0.95, 0.99))
    assert headline(kept, Verdict("send_weak")) == (
        "The weak model alone keeps 97 % (95 to 99) of the strong model's quality, and 95 % was asked for: send "
        "everything to the weak model."
    )


def test_the_strong_model(proof):
    assert headline(proof, Verdict("send_strong")) == (
        "The strong model is better nearly everywhere, and routing cannot save at this quality: send everything to the "
        "strong model."
    )
    cheap = dataclasses.replace(proof.points[0].money, strong_usd=Interval.exactly(0.0001))
    assert headline(with_point(proof, money=cheap), Verdict("send_strong")) == (
        "The strong model is better and costs no more: send everything to it."
    )


def test_labels_that_say_nothing():
    def first(strong, weak, groups=None):
        score = np.random.default_rng(0).random(len(strong))
        found = quick_proof(made_labels(strong, weak, groups), score, all_labels=3 * len(strong))
        return headline(found, verdict_on(found))

    assert first(np.ones(60), np.ones(60)) == (
        "Both models do equally well on all 60 prompts of the proof: nothing here needs the strong model, and no label "
        "says which prompt might. Send everything to the weak model, or add at least 120 labels."
    )
    assert first(np.ones(12), np.zeros(12)) == (
        "Too few labels to say anything: the proof has 12 prompts, and needs 20 at least. Add at least 24 labels."
    )
    assert first(np.ones(1), np.zeros(1)).startswith("Too few labels to say anything: the proof has 1 prompt, and")
    assert first(np.ones(50), np.zeros(50), np.zeros(50)) == (
        "Too few labels to say anything: the proof has 50 prompts in 1 group of prompts that are alike, and needs 20 "
        "groups at least. Add at least 57 labels."
    )
    assert first(np.where(np.arange(60) < 3, 1.0, 0.2), np.full(60, 0.2)) == (
        "Too few labels to say anything: the models differ otherwise than usual on only 3 of 60 prompts of the proof, "
        "and 5 are needed. Add at least 120 labels."
    )


def test_what_follows_the_verdict(proof):
    money = proof.points[0].money
    lines = dict(reasons(proof, Verdict("saves", as_good=(SHIPPED,)), monthly(money, 100_000, 20.0)))
    assert lines["What to set"] == (
        "Threshold 0.456789 (95 % of the strong model's quality) sends 59 % (52 to 67) of these prompts to large, and "
        "keeps 98 % (96 to 100) of its quality. 95 % was asked for."
    )
    assert lines["Beyond a fixed mixture"] == (
        "Picked at random, 90 % (80 to 100) of requests at the strong model would keep the same quality (a fixed "
        "mixture); the router sends it 59 %. The difference is what looking at prompts saves: 31 % (20 to 40) of all "
        "requests."
    )
    assert lines["In money"] == (
        "Routing saves 40 % (30 to 50) of what the strong model alone would cost: 1,000 requests cost 6.00 USD instead "
        "of 10.00. A fixed mixture of the same quality would cost 9.00."
    )
    assert lines["A month"] == (
        "At 100,000 requests a month routing saves 400.00 USD (300.00 to 500.00): 600.00 USD instead of 1,000.00."
    )
    assert lines["What the labels cost"] == (
        "The labels cost 20.00 USD, which 5,000 requests earn back: 2 days at this volume, 2 days at the latest (95 %)."
    )
    assert lines["Both models"].startswith("large scores ")
    assert "; they do equally well on " in lines["Both models"]
    assert "does as well here: the adapted router's APGR exceeds its by" in lines["As shipped"]
    assert lines["How sure"].startswith(
        "Measured on 400 different prompts that nothing was learned from or chosen on, each counted once, however "
        "often it is asked; in brackets: 95 % intervals over the choice of these prompts. APGR 0."
    )


@pytest.mark.parametrize(
    ("lead", "text"),
    [
        ((-0.05, -0.1, -0.01), "A rule on prompt length does better here"),
        ((0.01, -0.03, 0.05), "A rule on prompt length does as well here"),
        ((0.1, -0.03, 0.2), "It is not sure that the adapted router does better than a rule on prompt length"),
    ],
)
def test_prompt_length_that_does_as_well(proof, lead, text):
    differences = tuple(
        dataclasses.replace(found, apgr=Interval(*lead)) if found.other == LENGTH else found
        for found in proof.measured.differences
    )
    measured = dataclasses.replace(proof.measured, differences=differences)
    changed = dataclasses.replace(proof, measured=measured)
    assert dict(reasons(changed, verdict_on(changed)))["Prompt length"].startswith(text)


def test_a_quality_that_is_not_proved(proof):
    lines = dict(reasons(with_point(proof, kept=Interval(0.95, 0.9, 0.99)), Verdict("saves")))
    assert lines["What to set"].endswith("95 % was asked for; the true figure may be as low as 90 %.")


def test_labels_that_routing_does_not_earn_back(proof):
    losing = dataclasses.replace(proof.points[0].money, saved_usd=Interval(-0.001, -0.002, 0.001))
    lines = dict(reasons(proof, Verdict("saves"), monthly(losing, 1000, 5.0)))
    assert lines["What the labels cost"] == "The labels cost 5.00 USD, which routing does not earn back."
    unsure = dataclasses.replace(proof.points[0].money, saved_usd=Interval(0.01, -0.002, 0.02))
    lines = dict(reasons(proof, Verdict("saves"), monthly(unsure, 1_000_000, 5.0)))
    assert lines["What the labels cost"].endswith("less than a day at this volume, possibly never (95 %).")


def test_what_to_do_instead_of_routing():
    labels, _ = known_traffic()
    score = np.random.default_rng(1).random(len(labels))
    for choice, text in (
        (Choice("q", 0.5, 0.95), "If 95 % of the strong model's quality will do, send a fixed "),
        (Choice("half", 0.5), "Send a fixed "),
    ):
        proof = quick_proof(labels, score, choice)
        verdict = verdict_on(proof)
        assert verdict.kind == "no_router"
        lines = dict(reasons(proof, verdict))
        assert lines["What to do instead"].startswith(text)
        assert "of 100 tries; to be believed, that must be 2.0 at most. Its APGR is " in lines["Why"]


def test_a_better_quality_than_either_model_has():
    rng = np.random.default_rng(0)
    score = rng.random(200)
    strong, weak = (score > 0.6).astype(float), np.ones(200) - 0.9 * (score > 0.6)
    proof = quick_proof(made_labels(strong, weak), score)
    verdict = verdict_on(proof)
    assert verdict.kind == "send_weak"
    assert "above that of both models" in dict(reasons(proof, verdict))["If quality counts more than money"]


def test_names_from_outside_are_one_line_and_harmless():
    labels = dataclasses.replace(LABELS, pair=ModelPair("la\nrge\x1b[2J", "sm\u202eall"))
    proof = quick_proof(labels, SCORE, Choice("go\nal\x07", 0.5))
    for _, text in reasons(proof, verdict_on(proof)):
        assert text.isprintable()


@pytest.mark.parametrize(
    ("takes", "outcome", "text"),
    [
        (True, "better", "The new router is better than the old one and takes its place: on 40 prompts that neither"),
        (False, "worse", "The new router is worse than the old one, which stays: on"),
        (True, "no difference", "The new router is not clearly better or worse than the old one, and takes its place"),
        (False, "no difference", "The new router looks worse than the old one, though not beyond doubt, and the old"),
    ],
)
def test_an_update(takes, outcome, text):
    step = Interval(0.012, -0.01, 0.03)
    found = Replacement(takes, outcome, step, 0.01, 0.4, step, Interval(0.02, -0.01, 0.05), 40)
    line = replacement(found)
    assert line.startswith(text)
    assert line.endswith(
        "its quality differs by +1.2 points on average over all strong shares, and by +1.2 (-1.0 to +3.0) at today's "
        "strong share of 40 %, APGR +0.020 (-0.010 to +0.050)."
    )
    assert ", APGR" not in replacement(dataclasses.replace(found, apgr=None))
