from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from routellm_fast import FunctionEmbedder, UnknownModelError
from routellm_fast.calibration import PlattMap, Target
from routellm_fast.data import Battle, Labelled
from routellm_fast.decision import ModelPair
from routellm_fast.errors import EmbedderUnavailableError, InvalidArgumentError
from routellm_fast.prices import ModelPrice, PairPrices
from routellm_fast.routers import MatrixFactorizationRouter, Router
from routellm_fast.thresholds import Calibrated, Traffic, calibrate
from tests.support.builders import PAIR, mf_router, mf_weights

TRAFFIC = Traffic.of([f"prompt {index % 150}" for index in range(200)])


def embed(texts: list[str]) -> np.ndarray:
    return np.stack([np.random.default_rng(list(text.encode())).normal(size=9) for text in texts]).astype(np.float32)


def router(**overrides: object) -> Router:
    embedder = FunctionEmbedder(embed, name="hash", dim=9, fingerprint="sha256:1")
    return mf_router(embedder, **overrides)  # type: ignore[arg-type]


def labelled(n: int = 200, seed: int = 0, **shifts: float) -> list[Labelled]:
    rng = np.random.default_rng(seed)
    prompts = [f"labelled {index}" for index in range(n)]
    rates = router().win_rates(prompts)
    return [
        Labelled(prompt, prompt, "test", {
            PAIR.strong: float(rng.random() < 0.3 + 0.5 * rate), PAIR.weak: float(rng.random() < 0.5 - 0.3 * rate),
        })
        for prompt, rate in zip(prompts, rates, strict=True)
    ]  # fmt: skip


def run(**arguments: object) -> Calibrated:
    given = {"router": router(), "traffic": TRAFFIC, "dataset": "test", "resamples": 100, **arguments}
    return calibrate(given.pop("router"), given.pop("traffic"), **given)  # type: ignore[arg-type]


def test_each_prompt_is_embedded_once() -> None:
    seen: list[str] = []

    def counted(texts: list[str]) -> np.ndarray:
        seen.extend(texts)
        return embed(texts)

    embedder = FunctionEmbedder(counted, name="hash", dim=9, fingerprint="sha256:1")
    rows = labelled()
    battles = [Battle(row.prompt, row.group, *PAIR, 1.0, "test") for row in rows[:5]]
    run(router=mf_router(embedder), labelled=rows, battles=battles, probability="best")  # type: ignore[arg-type]
    assert len(seen) == len(set(seen)) == 150 + 200


def test_nothing_is_embedded_where_something_is_missing() -> None:
    def refuse(texts: list[str]) -> np.ndarray:
        raise AssertionError("this would be paid for")

    embedder = FunctionEmbedder(refuse, name="hash", dim=9, fingerprint="sha256:1")
    paid = mf_router(embedder)  # type: ignore[arg-type]
    for arguments in (
        {"targets": [Target("cost_share", 0.5)]},
        {"targets": [Target("pgr", 0.5)]},
        {"probability": "platt"},
        {"probability": "magic"},
        {"prices": PairPrices(ModelPrice(1), ModelPrice())},  # its tokens cannot be counted
    ):
        with pytest.raises(InvalidArgumentError):
            run(router=paid, **arguments)


def test_facts_and_order() -> None:
    targets = [Target("pgr", 0.5), Target("strong_share", 0.5)]
    rows = [*labelled(), Labelled("half", "half", "test", {PAIR.strong: 1.0})]
    found = run(targets=targets, labelled=rows)
    assert found.facts == {
        "requests": 200, "distinct_prompts": 150, "blank_prompts_left_out": 0, "distinct_win_rates": 150,
        "labelled_rows": 200, "labelled_rows_left_out": 1,
        "labelled_strong_shares": found.facts["labelled_strong_shares"],
    }  # fmt: skip
    assert set(found.facts["labelled_strong_shares"]) == {"pgr=0.5", "strong_share=0.5"}
    assert list(found.calibration.operating_points) == ["pgr=0.5", "strong_share=0.5"]
    assert found.calibration.prompt_digest == TRAFFIC.digest
    assert found.calibration.win_rate_quantiles[0] < found.calibration.win_rate_quantiles[-1]
    assert (found.probability, found.warnings) == (None, ())


def test_costs_need_no_tokenizer_where_lengths_are_given() -> None:
    prices = PairPrices(ModelPrice(10), ModelPrice(1), input_tokens=100)
    found = run(targets=[Target("strong_share", 1.0)], prices=prices)
    point = found.calibration.operating_points["strong_share=1"]
    assert point.cost_usd_per_1k is not None
    assert point.cost_usd_per_1k.value == pytest.approx(1.0)
    assert found.calibration.prices == prices


def test_a_map_is_kept_fitted_or_dropped() -> None:
    old = PlattMap(2.0, 0.0)
    own = router().calibration
    assert own is not None
    mapped = router(calibration=replace(own, probability=old))
    assert run(router=mapped).calibration.probability == old
    assert run(router=mapped, probability="none").calibration.probability is None
    assert run(router=router(calibration=None)).calibration.probability is None
    fitted = run(router=mapped, labelled=labelled(), probability="platt")
    assert fitted.probability is not None
    assert fitted.calibration.probability == fitted.probability.map != old


def test_a_map_that_does_harm_is_not_stored() -> None:
    rows = [replace(row, scores={PAIR.strong: row.scores[PAIR.weak], PAIR.weak: row.scores[PAIR.strong]})
            for row in labelled()]  # fmt: skip
    found = run(labelled=rows, probability="platt")
    assert found.probability is not None
    assert found.probability.refusal
    assert found.calibration.probability is None
    assert any("not stored" in warning for warning in found.warnings)


def test_ties_are_half_and_battles_count_from_either_side() -> None:
    rows = labelled(100)
    battles = []
    for index, row in enumerate(rows):
        strong, weak = (row.scores[model] for model in PAIR)
        target = 0.5 + (strong - weak) / 2
        swapped = index % 2 == 0
        names = PAIR[::-1] if swapped else PAIR
        battles.append(Battle(row.prompt, row.group, *names, 1.0 - target if swapped else target, "test"))
    by_rows = run(labelled=rows, probability="platt").probability
    by_battles = run(battles=battles, probability="platt").probability
    assert by_rows is not None
    assert by_battles is not None
    assert by_rows.map == by_battles.map


def test_models_that_are_not_there_are_named() -> None:
    with pytest.raises(UnknownModelError, match=r"no scores of 'gpt', only of: strong-model, weak-model"):
        run(labelled=labelled(), labelled_pair=ModelPair("gpt", PAIR.weak))
    apart = [Labelled("a", "a", "t", {PAIR.strong: 1.0}), Labelled("b", "b", "t", {PAIR.weak: 1.0})]
    with pytest.raises(UnknownModelError, match="no row with scores of both"):
        run(labelled=apart)
    with pytest.raises(UnknownModelError, match=r"no battle is between .* only of: strong-model, x"):
        run(battles=[Battle("a", "a", PAIR.strong, "x", 1.0, "t")], probability="platt")


def test_a_router_of_embeddings_only_cannot_be_calibrated() -> None:
    bare = MatrixFactorizationRouter(("strong-model", "weak-model", "other-model"), **mf_weights(), model_pair=PAIR)
    with pytest.raises(EmbedderUnavailableError, match="no embedder"):
        run(router=bare)


def test_progress_is_told() -> None:
    calls: list[tuple[str, int, int]] = []
    run(targets=[Target("strong_share", 0.5)], on_progress=lambda *call: calls.append(call))
    assert ("scoring prompts", 150, 150) in calls
    assert calls[-1] == ("resampling", 100, 100)


def test_the_whole_is_repeatable() -> None:
    targets = [Target("strong_share", 0.5), Target("pgr", 0.5)]
    first, again = (run(targets=targets, labelled=labelled(), probability="best", seed=3) for _ in range(2))
    assert first.calibration == again.calibration
