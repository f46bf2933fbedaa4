from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from routellm_fast import InvalidArgumentError
from routellm_fast.data.split import held_out
from routellm_fast.routers.matrix_factorization import fold_models
from routellm_fast.training import TrainedMatrixFactorization, train_ensemble
from routellm_fast.training.ensemble import folded
from routellm_fast.training.matrix_factorization import train
from tests.support.builders import mf_weights, static_embedder
from tests.support.mf_builders import CONFIG, EMBEDDER, PAIR, battles

pytest.importorskip("torch")

NAMES = ("a", "b", "c")


def member(seed: int, names: tuple[str, ...] = NAMES, **shape: int) -> TrainedMatrixFactorization:
    return TrainedMatrixFactorization(names, **mf_weights(models=len(names), seed=seed, **shape))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 16])
def test_logits_are_the_mean_of_the_members(count: int) -> None:
    members = [member(seed, d=4 + seed % 3) for seed in range(count)]
    one = folded(members)
    np.testing.assert_allclose(np.linalg.norm(one.P, axis=1), np.sqrt(count), rtol=1e-6)
    expected = np.mean([fold_models(m.P, m.W, m.w) for m in members], axis=0)
    found = fold_models(one.P, one.W, one.w)
    np.testing.assert_allclose(found, expected, atol=4 * np.finfo(np.float32).eps * np.abs(expected).max())


def test_members_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="needs members"):
        folded([])
    with pytest.raises(InvalidArgumentError, match="same models in the same order"):
        folded([member(0), member(1, ("b", "a", "c"))])
    with pytest.raises(InvalidArgumentError, match="same dimensions"):
        folded([member(0), member(1, dim=8)])
    zero = member(1)
    zero.P[1] = 0.0
    with pytest.raises(InvalidArgumentError, match="vector of 'b' is zero"):
        folded([member(0), zero])
    with pytest.raises(InvalidArgumentError, match="at least 2 members"):
        train_ensemble(battles(), EMBEDDER, CONFIG, members=1)


@pytest.mark.parametrize("refit", [False, True])
def test_an_ensemble_is_judged_on_groups_that_no_member_saw(refit: bool) -> None:
    arrays, embedder = battles(), static_embedder()
    trained = train_ensemble(arrays, embedder, CONFIG, members=3, refit=refit)
    assert [of["config"]["seed"] for of in trained.metrics["members"]] == [3, 4, 5]
    assert len({of["battles"]["train"] for of in trained.metrics["members"]}) == 1
    assert all(("refit" in of) == refit for of in trained.metrics["members"])
    first = train(arrays, embedder, CONFIG, refit=refit)
    assert trained.metrics["members"][0] == first.metrics
    assert trained.model_names == first.model_names
    if not refit:
        router = trained.router(model_pair=PAIR, embedder=embedder)
        index = np.array([trained.model_names.index(name) for name in arrays.models])
        logits = router.model_logits(embedder.embed(arrays.prompts)).astype(np.float64)[:, index]
        difference = logits[arrays.prompt, arrays.model_a] - logits[arrays.prompt, arrays.model_b]
        np.testing.assert_allclose(difference, trained.logits, atol=1e-5)
        out = held_out(arrays.groups, CONFIG.held_out_share, seed=CONFIG.seed)[arrays.prompt]
        losses = np.logaddexp(0.0, difference) - arrays.target * difference
        expected = np.average(losses[out], weights=arrays.weight[out])
        assert trained.metrics["held_out"]["loss"] == pytest.approx(expected, abs=2e-6)


def test_a_refit_trains_on_all_battles_for_the_epochs_that_were_best() -> None:
    arrays = battles()
    plain, again = (train(arrays, EMBEDDER, CONFIG, refit=refit) for refit in (False, True))
    found = dict(again.metrics)
    refit = found.pop("refit")
    assert found == plain.metrics
    assert refit["battles"] == len(arrays) > plain.metrics["battles"]["train"]
    assert len(refit["epochs"]) == plain.metrics["best_epoch"]
    assert set(refit["epochs"][0]) == {"train_loss", "train_accuracy"}
    assert again.W.tobytes() != plain.W.tobytes()
    assert again.logits.tobytes() == plain.logits.tobytes()
    assert replace(again, metrics={}).model_names == plain.model_names
