from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from routellm_fast import InvalidArgumentError, MissingExtraError, load_router
from routellm_fast.adaptation import recipes
from routellm_fast.adaptation.recipes import RECIPES, AsBefore, Material, available, check_names, checked_prior
from routellm_fast.embedders.static import SURFACE_FEATURES
from routellm_fast.routers import MatrixFactorizationRouter, RandomRouter
from routellm_fast.routers.base import Router
from tests.support.adapt_traffic import PAIR, is_hard, labels_of, prompts


@cache
def shipped() -> Router:
    return load_router()


@cache
def material() -> Material:
    return Material(labels_of(prompts(120)), shipped())


@pytest.mark.parametrize("name", available())
def test_each_recipe_learns_what_is_hard(name: str) -> None:
    recipe = RECIPES[name](material())
    assert recipe.name == name
    fitted = recipe.fit(np.arange(80))
    # Rows that it has not seen.
    found = fitted.scores(np.arange(80, 120))
    hard = np.array([is_hard(prompt) for prompt in prompts(120)[80:]])
    assert found[hard].min() > found[~hard].max()
    router = fitted.router()
    assert router.model_pair == PAIR
    win_rates = router.win_rates(prompts(40, first=80))
    assert ((win_rates >= 0.0) & (win_rates <= 1.0)).all()
    assert win_rates[hard].min() > win_rates[~hard].max()


def test_the_prior_scores_as_before() -> None:
    fitted = AsBefore(material()).fit(np.arange(5))
    texts = prompts(30, first=500)
    np.testing.assert_array_equal(fitted.router().win_rates(texts), shipped().win_rates(texts))
    assert fitted.router().model_pair == PAIR
    order = np.argsort(fitted.scores(np.arange(120)))
    assert (np.diff(shipped().win_rates(material().labels.prompts)[order]) >= -1e-6).all()


def test_features_that_the_prior_lacks_say_nothing_at_first() -> None:
    prior = shipped()
    assert isinstance(prior, MatrixFactorizationRouter)
    words = material().embedder.dim - len(SURFACE_FEATURES)
    tail = material().prior_vector[words:]
    known = getattr(prior.embedder, "surface_features", ())
    missing = [name not in known for name in SURFACE_FEATURES]
    assert not tail[np.array(missing)].any()
    np.testing.assert_array_equal(material().prior_vector[:words], prior.pair_vector[:words])


def test_battles_say_by_how_much_the_strong_model_won() -> None:
    battles = material().battles
    assert [battle.target for battle in battles] == [1.0 if is_hard(battle.prompt) else 0.5 for battle in battles]
    assert len(material().battles_of(np.array([3, 5]))) == 2


def test_only_some_routers_can_be_learned_on() -> None:
    prior, embedder = checked_prior(shipped())
    assert (prior, embedder) == (shipped(), shipped().embedder)
    for other in (load_router("sw_ranking"), RandomRouter(PAIR)):
        with pytest.raises(InvalidArgumentError, match="on top of an mf router with a static embedder"):
            checked_prior(other)


def test_names_are_checked_and_so_are_their_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    check_names(["ridge", "sw_ranking"])
    with pytest.raises(InvalidArgumentError, match="no recipe 'magic', only ridge, mf, sw_ranking"):
        check_names(["ridge", "magic"])
    monkeypatch.setitem(recipes._NEEDS, "mf", ("no_such_library", "train"))  # type: ignore[index]
    assert available() == ("ridge", "sw_ranking")
    with pytest.raises(MissingExtraError, match="no_such_library"):
        check_names(["mf"])
