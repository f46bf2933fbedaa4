from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from names import MODEL2VEC, ROUTE, TEXT_CONTENDERS, WIN_RATE
from peers import TextContender, model2vec_model
from reference import TextReference, agreement
from workloads import example_prompts, texts_of_length

import routellm_fast as rf

each_contender = pytest.mark.parametrize("contender", TEXT_CONTENDERS, indirect=True, ids=lambda name: name)


def check(
    name: str, answers: list[Any], prompts: list[str], router: rf.Router, threshold: float, reference: TextReference
) -> None:
    """Assert that a contender's answers, one a prompt, are those of the float64 path."""
    expected = reference.win_rates(prompts)
    if name == ROUTE:
        win_rates = np.array([decision.win_rate for decision in answers])
        is_strong = np.array([decision.is_strong for decision in answers])
        found = agreement(win_rates, is_strong, expected, threshold)
        assert found["decisions_equal"] == len(prompts)
        assert found["max_win_rate_difference"] <= 1e-5
    elif name == WIN_RATE:
        np.testing.assert_allclose(answers, expected, rtol=0, atol=1e-5)
    elif name == MODEL2VEC:
        # It decides without surface features: that it embeds the same tokens the same way is what can be compared.
        theirs = model2vec_model(reference).encode(prompts)
        ours = router.embedder.embed(prompts)[:, : reference.token_dim]
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-5 * max(1.0, float(np.abs(ours).max())))
        assert len(answers) == len(prompts)
    else:
        tokens = [len(ids) for ids in answers]
        assert max(tokens) <= reference.settings["max_tokens"]
        has_tokens = np.abs(reference.token_embeddings(prompts)).max(axis=1) > 0
        assert np.array_equal(has_tokens, np.array(tokens) > 0)


@each_contender
@pytest.mark.benchmark(group="text to decision, one prompt a call")
def bench_one(
    benchmark: Any,
    request: pytest.FixtureRequest,
    contender: TextContender,
    prompts: list[str],
    router: rf.Router,
    threshold: float,
    reference: TextReference,
) -> None:
    name = request.node.callspec.params["contender"]
    benchmark.extra_info |= {"contender": name, "prompts": len(prompts)}
    one = contender.one
    answers = benchmark(lambda: [one(prompt) for prompt in prompts])
    check(name, answers, prompts, router, threshold, reference)


@each_contender
@pytest.mark.benchmark(group="text to decision, one batch")
def bench_batch(
    benchmark: Any,
    request: pytest.FixtureRequest,
    contender: TextContender,
    prompts: list[str],
    router: rf.Router,
    threshold: float,
    reference: TextReference,
) -> None:
    name = request.node.callspec.params["contender"]
    benchmark.extra_info |= {"contender": name, "prompts": len(prompts)}
    answers = benchmark(contender.many, prompts)
    check(name, list(answers), prompts, router, threshold, reference)


@pytest.mark.parametrize("characters", [16, 256, 4_000, 1_000_000, 10_000_000])
@pytest.mark.benchmark(group="text to decision, by length")
def bench_length(benchmark: Any, router: rf.Router, reference: TextReference, characters: int) -> None:
    text = texts_of_length(characters, 1, example_prompts())[0]
    assert len(text) == characters
    decision = benchmark(router.route, text)
    np.testing.assert_allclose(decision.win_rate, reference.win_rates([text])[0], rtol=0, atol=1e-5)
    # Only the first so many characters are read, which is what bounds the cost.
    assert decision == router.route(text[: reference.settings["max_code_points"]])
