from __future__ import annotations

from functools import cache

import numpy as np

from routellm_fast import load_router
from routellm_fast.adaptation.card import adapted_card
from routellm_fast.adaptation.learning import Candidate, Learning, learn
from routellm_fast.adaptation.sentences import headline
from routellm_fast.adaptation.verdict import verdict_on
from tests.support.adapt_traffic import labels_of, prompts
from tests.support.proof_builders import known_traffic, made_labels, quick_proof


@cache
def learned() -> Learning:
    return learn(labels_of(prompts(60)), load_router())


def test_it_says_the_verdict_how_it_came_about_and_what_it_does_not_say() -> None:
    proof = quick_proof(*known_traffic(200))
    card = adapted_card(proof, learned(), created="2026-12-01", monthly=None)
    lines = card.splitlines()
    assert lines[0] == "# Adapted router: large against small"
    assert lines[2] == f"**{headline(proof, verdict_on(proof))}**"
    assert "on 2026-12-01." in card
    assert [line for line in lines if line.startswith("## ")] == ["## Proof", "## Learning", "## Limits"]
    assert "200 labels; 200 of them were kept apart for the proof" in card
    (taken,) = [line for line in lines if line.endswith("| yes |")]
    assert taken.startswith("| ridge | +0.")
    assert "| as shipped | " in card
    assert "APGR on the labels kept apart: 0." in card
    assert "routellm-fast adapt --update" in card.replace("\n", " ")
    assert not any(prompt in card for prompt in prompts(60))


def test_recipes_that_failed_are_named_with_the_reason() -> None:
    found = learned()
    failed = Learning(found.chosen, found.before, (*found.candidates, Candidate("mf", failure="no | torch")))
    card = adapted_card(quick_proof(*known_traffic(200)), failed, created="", monthly=None)
    assert "| mf | failed: no \\| torch | |" in card
    assert "Made by `routellm-fast adapt`.\n" in card


def test_without_a_better_model_there_is_no_apgr() -> None:
    proof = quick_proof(made_labels(np.zeros(60), np.ones(60)), np.linspace(0.0, 1.0, 60))
    card = adapted_card(proof, learned(), created="", monthly=None)
    assert "APGR on the labels kept apart" not in card
    assert "end everything to the weak model" in card
