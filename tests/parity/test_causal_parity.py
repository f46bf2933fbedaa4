"""One prefill pass against generation as RouteLLM does it, on tiny models of Llama 3's layout."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from routellm_fast.routers import CausalLLMRouter
from tests.support.causal_builders import checkpoint, generated_win_rate

PROMPTS = ["Hi", "What is 2 + 2?", "", "  spaces {braces} \n", "An é 中文 one. " * 9]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scores", [True, False], ids=["scores", "no score"])
@pytest.mark.parametrize("score_tokens", [True, False], ids=["with tokens", "tokens added"])
def test_equal_where_the_model_writes_the_header(tmp_path, seed, scores, score_tokens):
    folder = checkpoint(tmp_path, seed=seed, writes_header=True, scores=scores, score_tokens=score_tokens)
    expected = [generated_win_rate(folder, prompt) for prompt in PROMPTS]
    router = CausalLLMRouter.from_pretrained(folder, faithful=True)
    np.testing.assert_allclose(router.win_rates(PROMPTS), expected, atol=1e-5)
    np.testing.assert_allclose(router.as_faithful(False).win_rates(PROMPTS), expected, atol=1e-5)
    assert router.counts.decoded == (0 if scores else len(PROMPTS))
    assert router.unscored_count == expected.count(1.0) == (0 if scores else len(PROMPTS))


@pytest.mark.parametrize("seed", range(6))
def test_faithful_is_equal_whatever_the_model_writes(tmp_path, seed):
    folder = checkpoint(tmp_path, seed=seed, writes_header=False, scores=seed % 2 == 0)
    expected = [generated_win_rate(folder, prompt) for prompt in PROMPTS]
    router = CausalLLMRouter.from_pretrained(folder, faithful=True)
    np.testing.assert_allclose(router.win_rates(PROMPTS), expected, atol=1e-5)
    assert router.counts.decoded == len(PROMPTS)


@pytest.mark.parametrize("threshold", [2, 3, 5])
def test_other_score_thresholds(tmp_path, threshold):
    folder = checkpoint(tmp_path, writes_header=True)
    router = CausalLLMRouter.from_pretrained(folder, score_threshold=threshold)
    expected = [generated_win_rate(folder, prompt, score_threshold=threshold) for prompt in PROMPTS]
    np.testing.assert_allclose(router.win_rates(PROMPTS), expected, atol=1e-5)
