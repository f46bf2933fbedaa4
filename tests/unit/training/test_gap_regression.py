from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from routellm_fast import DataError, InvalidArgumentError, ModelPair
from routellm_fast.data import Battle, Battles, to_arrays
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.routers.loading import SHIPPED_ROUTER
from routellm_fast.training.configs import GapRegressionConfig
from routellm_fast.training.gap_regression import (
    LENGTH_WEIGHTS,
    RIDGES,
    chosen,
    crossed_need,
    gaps_of,
    need_vector,
    regress,
    scaled_gaps,
    train,
    train_on_battles,
)
from routellm_fast.training.item_response import fit_item_response

PAIR = ModelPair("s", "w")
WORDS = ("proof", "integral", "theorem", "poem", "song", "hello")


@pytest.fixture(scope="module")
def embedder() -> StaticEmbedder:
    return StaticEmbedder.load(SHIPPED_ROUTER)


def gap(prompt: str, value: float, source: str = "x") -> Battle:
    return Battle(prompt, f"g{prompt}", *PAIR, 0.5 + value / 2, source)


def gaps(count: int = 240) -> list[Battle]:
    """Prompts on mathematics need the strong model, others do not."""
    rows = []
    for i in range(count):
        word = WORDS[i % len(WORDS)]
        rows.append(gap(f"{word} number {i} " + "and more " * (i % 7), float(i % len(WORDS) < 3), "xyz"[i % 3]))
    return rows


def test_gaps_are_in_standard_deviations_of_their_source() -> None:
    rows = to_arrays([gap("a", 1.0), gap("b", 0.0), gap("c", 0.5, "even"), gap("d", 0.5, "even")])
    np.testing.assert_allclose(scaled_gaps(rows), [np.nan, np.nan, 2.0, 0.0])


def test_the_regression_is_the_normal_equations_with_equal_sources() -> None:
    random = np.random.default_rng(0)
    tokens, labels = random.normal(size=(60, 4)), random.normal(size=60)
    sources = np.array([0] * 50 + [1] * 10)
    weight = np.where(sources == 0, 1 / 50, 1 / 10) / 2
    centred = tokens - weight @ tokens
    scale = (weight @ centred**2).mean()
    # Ridge regression as least squares with rows added.
    rows = np.vstack([centred * np.sqrt(weight)[:, None], np.sqrt(3.0 * scale) * np.eye(4)])
    right = np.append((labels - weight @ labels) * np.sqrt(weight), np.zeros(4))
    expected = np.linalg.lstsq(rows, right, rcond=None)[0]
    np.testing.assert_allclose(regress(tokens, labels, sources, ridge=3.0), expected, rtol=1e-10)
    unknown = np.append(labels, np.nan)
    more = np.vstack([tokens, random.normal(size=4)])
    np.testing.assert_allclose(regress(more, unknown, np.append(sources, 1), ridge=3.0), expected, rtol=1e-10)


def test_length_has_the_weight_it_is_given(embedder: StaticEmbedder) -> None:
    rows = to_arrays(gaps())
    embeddings = embedder.embed(rows.prompts)
    features = embedder.surface_features
    parts = {
        weight: embeddings @ need_vector(rows, embeddings, features, ridge=10.0, length_weight=weight)
        for weight in (0.0, 1.5)
    }
    length = embeddings[:, -1]
    assert parts[0.0].std() == pytest.approx(1.0, abs=1e-4)
    np.testing.assert_allclose(parts[1.5] - parts[0.0], 1.5 * length / length.std(), rtol=1e-4)


def test_a_router_learns_which_prompts_need_the_strong_model(embedder: StaticEmbedder) -> None:
    rows = gaps()
    others = [Battle(row.prompt, row.group, "w", "third", 1.0 - (k % 3 == 0), "more") for k, row in enumerate(rows)]
    config = GapRegressionConfig(length_weight=0.0, held_out_share=0.2)
    trained = train(to_arrays(rows), to_arrays([*rows, *others]), embedder, config)
    router = trained.router(model_pair=PAIR, embedder=embedder)
    hard, easy = router.win_rate("a proof of the theorem"), router.win_rate("sing a song")
    assert hard > easy + 0.1
    assert {"s", "w", "third"} == set(router.model_names)
    assert router.for_pair("w", "third").win_rate("hello") == pytest.approx(2 / 3, abs=0.1)
    held_out = trained.metrics["held_out_by_source"]
    assert trained.metrics["battles"]["held_out"] == sum(source["battles"] for source in held_out.values())
    again = train(to_arrays(rows[::-1]), to_arrays([*others, *rows]), embedder, config)
    for name in ("P", "W", "w"):
        np.testing.assert_array_equal(getattr(trained, name), getattr(again, name))


def test_item_response_is_the_maximum_of_its_likelihood() -> None:
    random = np.random.default_rng(1)
    rows = [
        Battle(f"p{i % 40}", "g", *random.permutation(["a", "b", "c"])[:2].tolist(), float(random.random() < 0.6), "x")
        for i in range(400)
    ]
    battles = to_arrays(rows)
    need = random.normal(size=len(battles.prompts))
    every = np.ones(len(battles), dtype=bool)
    found = fit_item_response(battles, need, every, ridge=1e-3)

    def objective(slope: np.ndarray, strength: np.ndarray) -> float:
        z = replace(found, slope=slope, strength=strength).logits(battles, need)
        loss = np.average(np.logaddexp(0, z) - battles.target * z, weights=battles.weight)
        return float(loss + 0.5e-3 * (slope @ slope + strength @ strength))

    least = objective(found.slope, found.strength)
    for _ in range(50):
        step = 1e-3 * random.normal(size=(2, 3))
        assert objective(found.slope + step[0], found.strength + step[1]) > least


def test_factors_give_the_logits_back() -> None:
    battles = to_arrays([Battle(f"p{i}", "g", "a", "b", float(i % 3 > 0), "x") for i in range(9)])
    need = np.linspace(-1, 2, 9)
    found = fit_item_response(battles, need, np.ones(9, dtype=bool), ridge=1e-3)
    P, W, w = found.factors(np.array([1.0, 0.0]), 1)
    np.testing.assert_allclose(np.linalg.norm(P, axis=1), 1.0, rtol=1e-6)
    logits = (w * P) @ W @ np.stack([need, np.ones(9)])
    np.testing.assert_allclose(
        logits[0] - logits[1], found.logits(battles, need)[np.argsort(battles.prompt)], atol=1e-6
    )


def few(battles: Battles) -> Battles:
    return replace(battles, target=np.full(len(battles), 0.5, dtype=np.float32))


def test_what_cannot_be_learned_from_is_named(embedder: StaticEmbedder) -> None:
    rows = to_arrays(gaps())
    with pytest.raises(DataError, match="no source has gaps that differ"):
        train(few(rows), rows, embedder)
    same = to_arrays([Battle("hello", f"g{i}", *PAIR, float(i % 2), "x") for i in range(20)])
    with pytest.raises(DataError, match="alike"):
        need_vector(same, embedder.embed(same.prompts), embedder.surface_features, ridge=1.0, length_weight=1.0)
    with pytest.raises(InvalidArgumentError, match="log_tokens"):
        train(rows, rows, embedder.replace(surface_features=["constant"]))
    with pytest.raises(InvalidArgumentError, match="constant"):
        train(rows, rows, embedder.replace(surface_features=["log_tokens"]))
    with pytest.raises(InvalidArgumentError, match="held out"):
        train(rows, rows, embedder, GapRegressionConfig(held_out_share=1e-9))


@pytest.mark.parametrize(
    "wrong", [{"ridge": 0.0}, {"length_weight": -1.0}, {"item_ridge": np.nan}, {"held_out_share": 1.0}, {"seed": -1}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidArgumentError, match="ridges are above 0"):
        GapRegressionConfig(**wrong)  # type: ignore[arg-type]


def test_what_the_config_leaves_open_is_chosen_on_the_gaps_trained_on(embedder: StaticEmbedder) -> None:
    """Here words tell everything and length nothing, or the other way round."""
    by_words = to_arrays(gaps())
    embeddings = embedder.embed(by_words.prompts)
    found = chosen(by_words, embeddings, embedder.surface_features, GapRegressionConfig())
    assert found.length_weight == 0.0
    assert found.ridge in RIDGES
    long = [gap(f"{'more ' * (i % 40)}{WORDS[i % 6]} {i}", float(i % 40 > 19)) for i in range(240)]
    by_length = to_arrays(long)
    found = chosen(
        by_length, embedder.embed(by_length.prompts), embedder.surface_features, GapRegressionConfig(ridge=30.0)
    )
    assert (found.ridge, found.length_weight) == (30.0, max(LENGTH_WEIGHTS))
    given = GapRegressionConfig(ridge=2.0, length_weight=0.25)
    assert chosen(by_words, embeddings, embedder.surface_features, given) == given
    few = to_arrays(gaps(3))
    plain = chosen(few, embedder.embed(few.prompts), embedder.surface_features, GapRegressionConfig(seed=1))
    assert None not in (plain.ridge, plain.length_weight)


def test_needs_of_prompts_are_crossed(embedder: StaticEmbedder) -> None:
    """A prompt's need comes of the gaps of other parts: whatever its own gap is, the need stays."""
    rows = to_arrays(gaps())
    embeddings = embedder.embed(rows.prompts)
    config = GapRegressionConfig(ridge=1.0, length_weight=0.5)
    arguments = (embeddings, rows, embeddings, embedder.surface_features, config)
    found = crossed_need(rows, *arguments)
    own = embeddings @ need_vector(rows, embeddings, embedder.surface_features, ridge=1.0, length_weight=0.5)
    assert np.corrcoef(found, own)[0, 1] > 0.8
    target = rows.target.copy()
    one = int(rows.prompt[np.argmax(target)])
    target[rows.prompt == one] = 0.0
    changed = crossed_need(replace(rows, target=target), *arguments)
    assert changed[one] == found[one]
    assert not np.array_equal(changed, found)


def test_win_rates_are_no_surer_than_they_should_be(embedder: StaticEmbedder) -> None:
    """Of gaps that are noise a constant is all there is to learn: the loss on other prompts hardly exceeds its."""
    random = np.random.default_rng(0)
    texts = [f"{random.choice(WORDS)} {random.choice(WORDS)} {i}" for i in range(600)]
    rows = [gap(text, float(random.choice([-1, 1]))) for text in texts]
    trained = train_on_battles(to_arrays(rows), PAIR, embedder, GapRegressionConfig(held_out_share=0.4))
    assert trained.metrics["held_out_loss"] < np.log(2.0) + 0.01


def test_gaps_of_other_pairs_count_where_ratings_differ(embedder: StaticEmbedder) -> None:
    rows = gaps(120)
    others = [Battle(row.prompt, row.group, "strongish", "weakish", row.target, "x") for row in rows]
    alike = [Battle(row.prompt, row.group, "one", "another", float(k % 2), "x") for k, row in enumerate(rows)]
    battles = to_arrays([*rows, *others, *alike])
    found = gaps_of(battles, PAIR, GapRegressionConfig())
    names = [found.sources[index] for index in found.source]
    assert len(found) == 240
    assert names.count("x, other pairs") == sum(row.source == "x" for row in others)
    turned = [replace(b, model_a=b.model_b, model_b=b.model_a, target=1.0 - b.target) for b in [*rows, *others, *alike]]
    other_way = gaps_of(to_arrays(turned), PAIR, GapRegressionConfig())
    assert sorted(other_way.target.tolist()) == sorted(found.target.tolist())
    # The pair need not have met at all.
    trained = train_on_battles(to_arrays([*others, *alike]), ModelPair("strongish", "one"), embedder)
    router = trained.router(model_pair=PAIR, scoring_pair=ModelPair("strongish", "weakish"), embedder=embedder)
    assert router.win_rate("a proof of the theorem") > router.win_rate("sing a song")
