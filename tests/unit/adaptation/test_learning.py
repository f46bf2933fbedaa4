from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from routellm_fast import DataError, InvalidArgumentError, ModelPair, load_router
from routellm_fast.adaptation.labels import Labels
from routellm_fast.adaptation.learning import Candidate, learn
from routellm_fast.adaptation.recipes import DEFAULT, RECIPES, Fitted, Material, available
from routellm_fast.embedders.static import SURFACE_FEATURES
from routellm_fast.routers import MatrixFactorizationRouter, RandomRouter
from routellm_fast.training.packaged_base import PackagedBase
from tests.support.transformer_builders import encoder_folder

PAIR = ModelPair("large", "small")
TOPICS = ("the proof of a theorem", "an integral", "a poem about rain", "a greeting", "a shopping list", "an equation")


@cache
def shipped() -> MatrixFactorizationRouter:
    router = load_router()
    assert isinstance(router, MatrixFactorizationRouter)
    return router


def labels(count: int, *, noise: float = 0.2, seed: int = 0) -> Labels:
    """The weak model fails on mathematics, whatever the prior thinks of it."""
    rng = np.random.default_rng(seed)
    topic = rng.integers(0, len(TOPICS), count)
    prompts = tuple(f"Write {TOPICS[number]}, version {row}." for row, number in enumerate(topic.tolist()))
    needs = np.isin(topic, (0, 1, 5)) ^ (rng.random(count) < noise)
    return Labels(PAIR, prompts, prompts, np.ones(count), 1.0 - needs)


def test_a_few_labels_put_prompts_in_the_right_order() -> None:
    found = learn(labels(150), shipped())
    router = found.router()
    assert (found.chosen.name, router.kind, router.model_pair) == (DEFAULT, "mf", PAIR)
    hard, easy = router.win_rates(["Write the proof of a theorem, please.", "Write a shopping list, please."])
    assert hard > easy
    assert found.chosen.gain is not None
    assert found.before.gain is not None
    assert found.chosen.gain.low > max(0.0, found.before.gain.value)


def test_the_router_orders_prompts_by_the_scores_of_its_recipe() -> None:
    given = labels(120)
    rows = np.arange(len(given))
    material = Material(given, shipped())
    for name in available():
        fitted = RECIPES[name](material).fit(rows)
        scores = fitted.scores(rows)
        win_rates = fitted.router().win_rates(given.prompts)
        order = np.argsort(scores)
        assert (np.diff(win_rates[order]) >= -1e-6).all(), name
        assert np.ptp(win_rates) > 0.01, name


def test_win_rates_are_about_as_often_wins_as_they_say() -> None:
    given = labels(600, noise=0.05)
    router = learn(given, shipped()).router()
    win_rates = router.win_rates(given.prompts)
    assert abs(float(win_rates.mean()) - float((np.sign(given.gap) / 2 + 0.5).mean())) < 0.03


def test_scores_are_of_labels_that_were_not_learned_from() -> None:
    """With noise alone, no order of its own labels may look good."""
    found = [learn(labels(100, noise=0.5, seed=seed), shipped()).chosen.gain for seed in range(6)]
    assert abs(np.mean([gain.value for gain in found if gain])) < 0.02


def test_a_recipe_replaces_the_default_only_where_it_is_clearly_better() -> None:
    noise = learn(labels(120, noise=0.5), shipped(), recipes=("sw_ranking",))
    assert noise.chosen.name == DEFAULT
    assert [candidate.name for candidate in noise.candidates] == ["as shipped", DEFAULT, "sw_ranking"]


def test_a_recipe_that_cannot_learn_says_why_and_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unable:
        name = "unable"
        folds = 10

        def __init__(self, material: Material) -> None:
            pass

        def fit(self, rows: object) -> Fitted:
            raise DataError("there is nothing to learn from")

    monkeypatch.setitem(RECIPES, "unable", Unable)
    found = learn(labels(60), shipped(), recipes=("unable",))
    assert found.candidates[-1].to_json() == {"name": "unable", "failure": "there is nothing to learn from"}
    assert found.chosen.name == DEFAULT


def test_what_is_left_when_labels_say_nothing_is_the_router_before() -> None:
    given = labels(60)
    even = Labels(PAIR, given.prompts, given.groups, np.ones(60), np.ones(60))
    router = learn(even, shipped()).router()
    order = np.argsort(shipped().win_rates(given.prompts))
    assert (np.diff(router.win_rates(given.prompts)[order]) >= -1e-6).all()


def test_the_router_before_keeps_its_win_rates_under_the_names_of_the_pair() -> None:
    given = labels(60)
    before = learn(given, shipped()).before
    assert before.fitted is not None
    router = before.fitted.router()
    assert router.model_pair == PAIR
    np.testing.assert_array_equal(router.win_rates(given.prompts), shipped().win_rates(given.prompts))


def test_a_group_is_on_one_side_of_every_cut() -> None:
    """Copies of few prompts: whoever had seen a copy would know the noise of its label."""
    rng = np.random.default_rng(0)
    prompts = tuple(f"{TOPICS[row % 6]} {row % 30} {'!' * (row // 30)}" for row in range(300))
    groups = tuple(str(row % 30) for row in range(300))
    needs = np.tile(rng.random(30) < 0.5, 10).astype(float)
    found = learn(Labels(PAIR, prompts, groups, np.ones(300), 1.0 - needs), shipped())
    assert found.chosen.gain is not None
    assert found.chosen.gain.low < 0.0


def test_the_same_labels_give_the_same_router() -> None:
    once, again = (learn(labels(80), shipped()).router() for _ in range(2))
    np.testing.assert_array_equal(once.weights["W"], again.weights["W"])  # type: ignore[attr-defined]


def test_the_vector_of_the_prior_is_the_same_among_all_features() -> None:
    given = labels(30)
    material = Material(given, shipped())
    logits = material.embeddings @ material.prior_vector
    win_rates = shipped().win_rates(given.prompts).astype(np.float64)
    np.testing.assert_allclose(1.0 / (1.0 + np.exp(-logits)), win_rates, atol=2e-6)
    assert material.embedder.surface_features == SURFACE_FEATURES


def test_bad_input_is_named() -> None:
    with pytest.raises(DataError, match="labels of 12 groups of prompts to learn from, which is too few: at least 20"):
        learn(labels(12), shipped())
    with pytest.raises(InvalidArgumentError, match="there is no recipe 'magic', only ridge"):
        learn(labels(30), shipped(), recipes=("magic",))
    with pytest.raises(InvalidArgumentError, match="found a random router"):
        learn(labels(30), RandomRouter(PAIR))


def test_candidates_are_json() -> None:
    found = learn(labels(60), shipped())
    record = found.chosen.to_json()
    assert set(record) == {"name", "gain", "lead", "said_by_features", "said_by_words"}
    assert isinstance(found.chosen, Candidate)


@pytest.mark.slow
def test_an_encoder_is_fine_tuned_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    base = encoder_folder(tmp_path / "encoder", pooling=None)
    monkeypatch.setattr(PackagedBase, "find", lambda _: base / "model.safetensors")
    found = learn(labels(60), shipped(), recipes=("bert",))
    candidate = found.candidates[-1]
    assert (candidate.name, candidate.failure) == ("bert", "")
    assert candidate.fitted is not None
    router = candidate.fitted.router()
    assert (router.kind, router.model_pair) == ("bert", PAIR)
    np.testing.assert_array_equal(
        candidate.fitted.scores(np.arange(3)), router.win_rates(labels(60).prompts[:3]).astype(np.float64)
    )


def test_slow_recipes_are_tried_by_name_only() -> None:
    assert "bert" in RECIPES
    assert "bert" not in available()
