from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import routellm_fast as rf
from benchmarks.harness.prompts import DataMissingError, example_prompts, natural_prompts
from benchmarks.harness.suites import present_or_skip
from benchmarks.text.names import MODEL2VEC, ROUTE, TEXT_CONTENDERS, WIN_RATE
from benchmarks.text.peers import TextContender, model2vec_model, text_contender
from benchmarks.text.reference import TextReference, agreement
from benchmarks.text.task import router_of_starts
from benchmarks.text.workload import decision_threshold, texts_of_length


@dataclass(frozen=True, slots=True)
class Case:
    """One contender and its prompts, and what its answers are held against."""

    name: str
    contender: TextContender
    prompts: list[str]
    router: rf.Router
    threshold: float
    reference: TextReference

    def check(self, answers: list[Any]) -> None:
        """Assert that answers, one a prompt, are those of the float64 path."""
        expected = self.reference.win_rates(self.prompts)
        if self.name == ROUTE:
            win_rates = np.array([decision.win_rate for decision in answers])
            is_strong = np.array([decision.is_strong for decision in answers])
            found = agreement(win_rates, is_strong, expected, self.threshold)
            assert found["decisions_equal"] == len(self.prompts)
            assert found["max_win_rate_difference"] <= 1e-5
        elif self.name == WIN_RATE:
            np.testing.assert_allclose(answers, expected, rtol=0, atol=1e-5)
        elif self.name == MODEL2VEC:
            # It decides without surface features: that it embeds the same tokens the same way is what can be compared.
            theirs = model2vec_model(self.reference).encode(self.prompts)
            ours = self.router.embedder.embed(self.prompts)[:, : self.reference.token_dim]
            np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-5 * max(1.0, float(np.abs(ours).max())))
            assert len(answers) == len(self.prompts)
        else:
            tokens = [len(ids) for ids in answers]
            assert max(tokens) <= self.reference.settings["max_tokens"]
            has_tokens = np.abs(self.reference.token_embeddings(self.prompts)).max(axis=1) > 0
            assert np.array_equal(has_tokens, np.array(tokens) > 0)


@pytest.fixture(scope="module")
def router() -> rf.Router:
    return router_of_starts()


@pytest.fixture(scope="module")
def reference(router: rf.Router, tmp_path_factory: pytest.TempPathFactory) -> TextReference:
    pytest.importorskip("tokenizers", reason="the reference path needs tokenizers")
    return TextReference(router, tmp_path_factory.mktemp("reference") / "router")


@pytest.fixture(scope="module", params=["examples", "natural"])
def prompts(request: pytest.FixtureRequest) -> list[str]:
    """The repository's own examples, and 256 real prompts spread over all sources."""
    if request.param == "examples":
        return example_prompts()
    try:
        return natural_prompts()[::29][:256]
    except DataMissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=TEXT_CONTENDERS)
def case(request: pytest.FixtureRequest, prompts: list[str], router: rf.Router, reference: TextReference) -> Case:
    name, threshold = request.param, decision_threshold(router)
    contender = present_or_skip(lambda: text_contender(name, router, threshold, reference))
    return Case(name, contender, prompts, router, threshold, reference)


@pytest.mark.benchmark(group="text to decision, one prompt a call")
def bench_one(benchmark: Any, case: Case) -> None:
    benchmark.extra_info |= {"contender": case.name, "prompts": len(case.prompts)}
    one = case.contender.one
    case.check(benchmark(lambda: [one(prompt) for prompt in case.prompts]))


@pytest.mark.benchmark(group="text to decision, one batch")
def bench_batch(benchmark: Any, case: Case) -> None:
    benchmark.extra_info |= {"contender": case.name, "prompts": len(case.prompts)}
    case.check(list(benchmark(case.contender.many, case.prompts)))


@pytest.mark.parametrize("characters", [16, 256, 4_000, 1_000_000, 10_000_000])
@pytest.mark.benchmark(group="text to decision, by length")
def bench_length(benchmark: Any, router: rf.Router, reference: TextReference, characters: int) -> None:
    text = texts_of_length(characters, 1, example_prompts())[0]
    assert len(text) == characters
    decision = benchmark(router.route, text)
    np.testing.assert_allclose(decision.win_rate, reference.win_rates([text])[0], rtol=0, atol=1e-5)
    # Only the first so many characters are read, which is what bounds the cost.
    assert decision[:4] == router.route(text[: reference.settings["max_code_points"]])[:4]
