from __future__ import annotations

import json

import numpy as np
import pytest

from routellm_fast import InvalidArgumentError, ModelPair, data
from routellm_fast.training import MatrixFactorizationConfig
from routellm_fast.training.matrix_factorization import train
from routellm_fast.training.scaling import Scaling
from tests.support.builders import static_embedder

torch = pytest.importorskip("torch")

CONFIG = MatrixFactorizationConfig(d=8, learning_rate=0.02, batch_size=16, max_epochs=6, held_out_share=0.3, seed=1)
PAIR = ModelPair("s", "w")


def battles(count: int = 120) -> data.Battles:
    """The strong model wins where the prompt asks to prove something, and loses where it says hello."""
    rows = []
    for i in range(count):
        hard = i % 2 == 0
        text = ("prove the a " if hard else "hello b ") + "c " * (i % 7) + ("1 " * (i % 5))
        rows.append(data.Battle(f"{text}{'?' * (i % 3)}", f"g{i}", *PAIR, float(hard), "even" if i % 4 else "odd"))
        rows.append(data.Battle(f"{text}{'?' * (i % 3)}", f"g{i}", "other", "w", 0.5, "ties"))
    return data.to_arrays(rows)


def test_it_learns_and_reports():
    seen = []
    embedder = static_embedder()
    trained = train(battles(), embedder, CONFIG, on_progress=seen.append)
    metrics = json.loads(json.dumps(trained.metrics))
    assert [p.epoch for p in seen if p.epoch] == list(range(1, len(metrics["epochs"]) + 1))
    assert metrics["epochs"][metrics["best_epoch"] - 1]["held_out_loss"] == min(
        epoch["held_out_loss"] for epoch in metrics["epochs"]
    )
    assert metrics["held_out_by_source"]["even"]["accuracy"] > 0.9
    assert set(metrics["held_out_by_source"]) == {"even", "odd", "ties"}
    router = trained.router(model_pair=PAIR, embedder=embedder)
    hard, easy = router.win_rates(["prove the a", "hello b"])
    assert hard > 0.5 > easy


@pytest.mark.parametrize("noise", [0.0, 0.5])
@pytest.mark.parametrize("features", [("constant", "log_tokens"), ("log_tokens",), ()])
def test_training_and_inference_have_one_formula(noise, features):
    """What the router computes from text reproduces the held-out loss that training reported."""
    arrays, embedder = battles(), static_embedder(surface_features=features)
    config = MatrixFactorizationConfig(
        d=8, max_epochs=2, held_out_share=0.3, noise=noise, token_scale=0.5, surface_scale=3.0, seed=2
    )
    trained = train(arrays, embedder, config)
    router = trained.router(model_pair=PAIR, embedder=embedder)
    index = np.array([trained.model_names.index(name) for name in arrays.models])
    logits = router.model_logits(embedder.embed(arrays.prompts)).astype(np.float64)[:, index]
    difference = logits[arrays.prompt, arrays.model_a] - logits[arrays.prompt, arrays.model_b]
    losses = np.logaddexp(0.0, difference) - arrays.target * difference
    for index_, source in enumerate(arrays.sources):
        reported = trained.metrics["held_out_by_source"][source]["loss"]
        out = data_held_out(arrays, config) & (arrays.source == index_)
        assert np.average(losses[out], weights=arrays.weight[out]) == pytest.approx(reported, abs=2e-6)


def data_held_out(arrays: data.Battles, config: MatrixFactorizationConfig) -> np.ndarray:
    from routellm_fast.data.split import held_out

    return held_out(arrays.groups, config.held_out_share, seed=config.seed)[arrays.prompt]


def test_scaling_folds_exactly():
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(50, 6)).astype(np.float32)
    embeddings[:, 4] = 1.0
    scaling = Scaling.fit(embeddings, np.ones(50), ("constant", "log_tokens"), MatrixFactorizationConfig())
    scaled = scaling.apply(embeddings)
    np.testing.assert_array_equal(scaled[:, 4], 1.0)
    np.testing.assert_allclose(scaled[:, 5].std(), 1.0, rtol=1e-5)
    projection = rng.normal(size=(3, 6))
    np.testing.assert_allclose(embeddings @ scaling.fold(projection).T, scaled @ projection.T, atol=1e-5)


def test_same_seed_same_bytes_and_torch_left_as_it_was():
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    first, second = (train(battles(), static_embedder(), CONFIG) for _ in range(2))
    for name in ("P", "W", "w"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()
    assert first.metrics == second.metrics
    other = train(
        battles(), static_embedder(), MatrixFactorizationConfig(d=8, max_epochs=2, held_out_share=0.3, seed=5)
    )
    assert other.W.tobytes() != first.W.tobytes()
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()


def test_nothing_to_hold_out_is_an_error():
    rows = [data.Battle(f"p{i}", "one group", *PAIR, 1.0, "s") for i in range(5)]
    with pytest.raises(InvalidArgumentError, match="both sides need some"):
        train(data.to_arrays(rows), static_embedder(), CONFIG)


@pytest.mark.parametrize(
    "wrong",
    [
        {"d": 0},
        {"learning_rate": float("nan")},
        {"held_out_share": 1.0},
        {"noise": -1.0},
        {"noise": float("nan")},
        {"seed": -1},
        {"learning_rate": 1e39},
    ],
)
def test_config_is_checked(wrong):
    with pytest.raises(InvalidArgumentError):
        MatrixFactorizationConfig(**wrong)
