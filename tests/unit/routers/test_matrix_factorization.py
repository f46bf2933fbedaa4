from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.decision import ModelPair
from routellm_fast.errors import InvalidEmbeddingError
from routellm_fast.routers import MatrixFactorizationRouter
from routellm_fast.routers.matrix_factorization import fold_models
from tests.support.builders import PAIR, mf_router, mf_weights, static_embedder

PROMPTS = ["hello", "prove the a b c?", "", "write 1 { }", "ünknown wörds", "?" * 40]


def exact_win_rates(weights: dict[str, np.ndarray], embeddings: np.ndarray, strong: int, weak: int) -> np.ndarray:
    """The formula as RouteLLM states it, in float64, without folding."""
    P, W, w = (weights[name].astype(np.float64) for name in ("P", "W", "w"))
    unit = P / np.linalg.norm(P, axis=1, keepdims=True)
    projected = embeddings.astype(np.float64) @ W.T
    logits = (unit[[strong, weak]][None] * projected[:, None]) @ w
    return 1 / (1 + np.exp(logits[:, 1] - logits[:, 0]))


@pytest.mark.parametrize("normalize", [False, True])
def test_win_rates_follow_the_unfolded_formula(normalize: bool) -> None:
    router = mf_router(static_embedder(normalize=normalize))
    embeddings = router.embedder.embed(PROMPTS)
    expected = exact_win_rates(mf_weights(dim=router.dim), embeddings, 0, 1)
    np.testing.assert_allclose(router.win_rates_from_embeddings(embeddings), expected, atol=1e-6)
    np.testing.assert_allclose(router.win_rates(PROMPTS), expected, atol=1e-6)


def test_alone_in_a_batch_and_routed_a_prompt_gets_the_same_win_rate() -> None:
    router = mf_router()
    rates = router.win_rates(PROMPTS)
    for prompt, rate in zip(PROMPTS, rates, strict=True):
        assert router.win_rate(prompt) == float(rate)
        assert router.win_rates([*PROMPTS, prompt])[-1] == rate
        assert router.route(prompt, threshold=0.3) == router.route_batch(["x", prompt], threshold=0.3)[1]


def test_the_strong_model_is_chosen_from_the_threshold_on() -> None:
    router = mf_router()
    rate = router.win_rate("hello")
    assert router.route("hello", threshold=rate) == rf.Decision("strong-model", rate, rate, True)
    assert router.route("hello", threshold=np.nextafter(rate, 1)).model == "weak-model"
    assert router.route("hello", threshold=0).is_strong
    assert router.route("hello", 1).model == "weak-model"


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), float("inf"), 7])
def test_a_threshold_outside_the_unit_interval_is_refused(threshold: float) -> None:
    router = mf_router()
    for call in (lambda: router.route("x", threshold), lambda: router.route_batch(["x"], threshold)):
        with pytest.raises(rf.InvalidThresholdError, match="outside"):
            call()
    with pytest.raises(rf.InvalidThresholdError):
        router.threshold_for(strong_share=threshold)


@pytest.mark.parametrize("threshold", ["0.5", True, [0.5]])
def test_a_threshold_that_is_no_number_is_a_type_error(threshold: object) -> None:
    with pytest.raises(TypeError, match="threshold must be a number"):
        mf_router().route("x", threshold)  # type: ignore[arg-type]


@pytest.mark.parametrize("prompt", [None, 3, b"bytes", ["hello"], {"role": "user"}])
def test_a_prompt_that_is_not_text_is_a_type_error(prompt: object) -> None:
    router = mf_router()
    with pytest.raises(TypeError, match="must be str, not"):
        router.route(prompt)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"text 1 must be str|sequence"):
        router.win_rates(["fine", prompt])  # type: ignore[list-item]


def test_one_string_is_not_taken_for_a_batch_of_letters() -> None:
    with pytest.raises(TypeError, match="put it into a list"):
        mf_router().win_rates("hello")


@pytest.mark.parametrize(
    ("embeddings", "found"),
    [
        (np.zeros((2, 8), np.float32), r"float32 \(2, 8\)"),
        (np.zeros(9, np.float32), r"float32 \(9,\)"),
        (np.zeros((2, 9), np.float64), r"float64"),
        (np.zeros((9, 2), np.float32).T, "not C-contiguous"),
        ([[0.0] * 9], "list"),
        (np.zeros((2, 9), np.int32), "int32"),
    ],
)
def test_embeddings_of_another_shape_or_type_are_refused(embeddings: object, found: str) -> None:
    with pytest.raises(rf.InvalidEmbeddingError, match=found):
        mf_router().win_rates_from_embeddings(embeddings)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_by_row_and_column(bad: float) -> None:
    embeddings = np.zeros((4, 9), np.float32)
    embeddings[2, 5] = bad
    router = mf_router()
    with pytest.raises(rf.InvalidEmbeddingError, match="embedding 2 has .* in column 5"):
        router.win_rates_from_embeddings(embeddings)
    with pytest.raises(rf.InvalidEmbeddingError, match="embedding 0"):
        router.win_rate_from_embedding(embeddings[2])
    with pytest.raises(rf.InvalidEmbeddingError, match="embedding 2"):
        router.model_logits(embeddings)


def test_no_prompts_give_no_win_rates() -> None:
    router = mf_router()
    assert router.win_rates([]).shape == (0,)
    assert router.route_batch([]) == []
    assert router.win_rates_from_embeddings(np.zeros((0, 9), np.float32)).shape == (0,)


def test_any_pair_of_the_models_can_be_scored() -> None:
    router = mf_router()
    embeddings = router.embedder.embed(PROMPTS)
    other = router.for_pair("other-model", "strong-model")
    expected = exact_win_rates(mf_weights(dim=9), embeddings, 2, 0)
    np.testing.assert_allclose(other.win_rates(PROMPTS), expected, atol=1e-6)
    assert other.model_pair == ("other-model", "strong-model")
    logits = router.model_logits(embeddings)
    np.testing.assert_allclose(1 / (1 + np.exp(logits[:, 0] - logits[:, 2])), expected, atol=1e-6)
    with pytest.raises(rf.InvalidArgumentError, match="no calibration"):
        other.threshold_for(0.5)


def test_an_unknown_model_is_named_with_those_that_are_close() -> None:
    with pytest.raises(rf.UnknownModelError, match="Did you mean other-model"):
        mf_router().for_pair("strong-model", "other-modell")


def test_renaming_the_pair_keeps_what_is_scored(tmp_path: object) -> None:
    plain, renamed = mf_router(), mf_router(model_pair=rf.ModelPair("big", "small"), scoring_pair=PAIR)
    assert renamed.win_rate("hello") == plain.win_rate("hello")
    assert renamed.route("hello", 0.0).model == "big"
    renamed.save(f"{tmp_path}/router")
    loaded = rf.load_router(f"{tmp_path}/router", weak_model="tiny")
    assert loaded.model_pair == ("big", "tiny")
    assert loaded.win_rate("hello") == plain.win_rate("hello")


@pytest.mark.parametrize(
    "change",
    [{"P": (3, 5)}, {"W": (5, 9)}, {"w": (3,)}, {"P": (2, 4)}],
    ids=str,
)
def test_weights_that_do_not_fit_together_are_refused(change: dict[str, tuple[int, ...]]) -> None:
    weights = {**mf_weights(), **{name: np.zeros(shape, np.float32) for name, shape in change.items()}}
    with pytest.raises(rf.InvalidArgumentError, match="the router needs [PW], float32 .*; found float32"):
        mf_router(**weights)


def test_an_embedder_of_another_dimension_is_refused() -> None:
    with pytest.raises(rf.EmbedderMismatchError, match="7 dimensions"):
        mf_router(static_embedder(), W=np.zeros((4, 7), np.float32))


def test_folding_equals_the_formula_for_all_models() -> None:
    weights = mf_weights(models=5, d=8, dim=12)
    rows = fold_models(**weights)
    embedding = np.linspace(-1, 1, 12, dtype=np.float32)
    P, W, w = weights["P"], weights["W"], weights["w"]
    direct = [w @ ((row / np.linalg.norm(row)) * (W @ embedding)) for row in P]
    np.testing.assert_allclose(rows @ embedding, direct, atol=1e-5)


def test_a_router_without_embedder_scores_embeddings_only() -> None:
    router = MatrixFactorizationRouter(["strong-model", "weak-model", "c"], **mf_weights(), model_pair=PAIR)
    assert router.win_rates_from_embeddings(np.zeros((1, 9), np.float32))[0] == 0.5
    with pytest.raises(rf.EmbedderUnavailableError, match="embeddings only"):
        router.win_rate("hello")


def test_arrays_changed_later_change_no_router() -> None:
    weights = mf_weights()
    router = MatrixFactorizationRouter(("s", "w", "o"), **weights, model_pair=ModelPair("s", "w"))
    embeddings = np.ones((2, weights["W"].shape[1]), np.float32)
    before = router.win_rates_from_embeddings(embeddings)
    weights["w"] *= -1
    assert np.array_equal(router.for_pair("s", "w").win_rates_from_embeddings(embeddings), before)
    with pytest.raises(ValueError, match="read-only"):
        router.weights["w"][:] = 0


class ShortEmbedder:
    """One row too few."""

    name, dim, fingerprint = "short", 9, "sha256:0"

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        return np.ones((max(len(texts) - 1, 0), 9), np.float32)


def test_an_embedder_owes_a_vector_a_prompt_and_prompts_are_texts() -> None:
    router = MatrixFactorizationRouter(
        ("s", "w", "o"), **mf_weights(), model_pair=ModelPair("s", "w"), embedder=ShortEmbedder()
    )
    for ask in (
        lambda: router.win_rates(["a", "b"]),
        lambda: router.route_batch(["a", "b"], 0.5),
        lambda: router.route("a", 0.5),
    ):
        with pytest.raises(InvalidEmbeddingError, match=r"expected real numbers of shape"):
            ask()
    with pytest.raises(TypeError, match="text 0 must be str"):
        router.route(None, 0.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="put it into a list"):
        router.win_rates("abc")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"P": "x"}, "P is an array of real numbers, found <U1"),
        ({"P": [[1.0, 2.0], [3.0]]}, "P is an array of real numbers"),
        ({"W": np.ones((4, 9), np.complex64)}, "W is an array of real numbers, found complex64"),
        ({"w": None}, "w is an array of real numbers, found object"),
        ({"model_names": "abc"}, "model_names is a sequence of names, found 'abc'"),
        ({"model_names": ("strong-model", "weak-model", float("nan"))}, "sequence of names"),
    ],
)
def test_parts_of_another_type_are_named(changes: dict[str, object], words: str) -> None:
    with pytest.raises(rf.InvalidArgumentError, match=words):
        mf_router(**changes)
