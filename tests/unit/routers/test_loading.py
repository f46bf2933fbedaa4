from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast import _core
from routellm_fast.calibration.operating_points import OperatingPoint, Target
from routellm_fast.interval import Interval
from routellm_fast.routers import embedding
from routellm_fast.routers.embedding import EmbeddingRouter
from routellm_fast.routers.similarity import router as similarity
from tests.support.builders import mf_router
from tests.support.sw_builders import sw_router


@pytest.mark.parametrize("option", ["strong_model", "weak_model"])
@pytest.mark.parametrize("name", ["", 3, b"big"])
def test_a_model_without_a_name_is_refused(option: str, name: Any) -> None:
    with pytest.raises(rf.InvalidArgumentError, match=f"{option} is a model's name, found {name!r}"):
        rf.load_router(**{option: name})
    assert rf.load_router(**{option: None}).model_pair == rf.load_router().model_pair


def test_a_batch_gets_the_threads_that_the_process_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    make_router = _core.make_router

    def spy(contents: Any, embedder: Any, *, threads: int = 1) -> Any:
        given.append(threads)
        return make_router(contents, embedder, threads=threads)

    monkeypatch.setattr(embedding._core, "make_router", spy)
    monkeypatch.setattr(similarity, "available_threads", lambda: 7)
    sw_router().save(tmp_path / "router")
    rf.load_router(tmp_path / "router")
    sw_router(threads=3)
    assert given == [7, 7, 3]


def test_bank_and_weights_are_borrowed_and_outlive_all_else() -> None:
    router = sw_router()
    rows = router.blocks[0].rows
    expected = router.win_rates(["hello", "a b c"])
    native = router._native
    del router
    np.testing.assert_array_equal(native.win_rates(["hello", "a b c"]), expected)
    rows.setflags(write=True)
    rows *= -1.0
    assert not np.array_equal(native.win_rates(["hello", "a b c"]), expected)  # the very memory


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"w": [1.0]}, "tensor w must be an array, found list"),
        ({"w": np.zeros((2, 4))[:, ::2]}, "tensor w must be a C-contiguous array of numbers"),
        ({"w": np.zeros(2, ">f4")}, "in the machine's byte order"),
        ({"w": np.zeros(2, np.complex64)}, "complex64"),
        ({"w": np.zeros(2, np.float64)}, "the router needs w, float32 \\(n,\\); found float64 \\(2,\\)"),
        ({}, "the router needs w, float32 \\(n,\\); found nothing"),
    ],
)
def test_parts_that_are_none_are_refused(tensors: dict[str, Any], words: str) -> None:
    settings = {"models": ["a", "b"], "scoring_pair": {"strong": "a", "weak": "b"}}
    with pytest.raises(rf.InvalidArgumentError, match=words):
        _core.make_router(embedding.contents_in_memory("mf", settings, tensors, {}), None)


def test_routers_that_score_vectors_have_one_face() -> None:
    for router in (mf_router(), sw_router(), sw_router("int8")):
        assert isinstance(router, EmbeddingRouter)
        embeddings = router.embedder.embed(["hello", "a b c"])
        found = router.win_rates_from_embeddings(embeddings)
        exact = router.exact_win_rates_from_embeddings(embeddings)
        assert exact.dtype == np.float64
        assert np.abs(exact - found).max() <= max(router.error_bound, 1e-7)
        assert router.win_rate_from_embedding(embeddings[0]) == found[0]
        assert router.scoring_pair == router.model_pair
        assert set(router.scoring_pair) <= set(router.model_names)
        assert router.has_embedder
        assert router.dim == 9


def test_an_embedder_that_python_runs_gets_the_native_one_s_decisions() -> None:
    for router in (mf_router(), sw_router(), sw_router("moments")):
        own = router.embedder
        function = rf.FunctionEmbedder(lambda texts, own=own: own.embed(texts), dim=9, name="own")
        other = (
            mf_router(embedder=function)  # type: ignore[arg-type]
            if router.kind == "mf"
            else sw_router(router.precision, embedder=function)  # type: ignore[attr-defined]
        )
        prompts = ["hello", "", "prove the a?"]
        np.testing.assert_allclose(other.win_rates(prompts), router.win_rates(prompts), atol=1e-6)
        for threshold in (0.0, 0.4, 0.5, 1.0):
            decisions = other.route_batch(prompts, threshold)
            assert [decision.is_strong for decision in decisions] == [
                decision.is_strong for decision in router.route_batch(prompts, threshold)
            ]
            assert [other.route(prompt, threshold) for prompt in prompts] == decisions


def test_the_kind_that_is_asked_for_is_what_comes(tmp_path: Path) -> None:
    sw_router().save(tmp_path / "router")
    assert rf.load_router(tmp_path / "router", kind="sw_ranking").kind == "sw_ranking"
    with pytest.raises(rf.InvalidArgumentError, match="holds a router of kind 'sw_ranking', but kind='mf' was asked"):
        rf.load_router(tmp_path / "router", kind="mf")
    assert rf.load_router(kind="sw_ranking").win_rate("hi") == rf.load_router("sw_ranking").win_rate("hi")
    assert rf.load_router(kind="mf").win_rate("hi") == rf.load_router().win_rate("hi")
    with pytest.raises(rf.InvalidArgumentError, match="no router of kind 'bert' ships.*only mf and sw_ranking"):
        rf.load_router(kind="bert")  # type: ignore[call-overload]
    with pytest.raises(rf.InvalidArgumentError, match="a router's kind is one of mf, sw_ranking, .*found 'mff'"):
        rf.load_router("mf", kind="mff")  # type: ignore[call-overload]


def test_operating_points_are_found_by_name() -> None:
    with pytest.raises(rf.InvalidArgumentError, match=r"no operating point 'pgr=0\.8': it has none.*calibrate"):
        mf_router().operating_point("pgr=0.8")
    point = OperatingPoint(Target("pgr", 0.8), *[Interval(0.4, 0.3, 0.5)] * 2)
    plain = mf_router().calibration
    assert plain is not None
    router = mf_router(calibration=replace(plain, operating_points={point.target.name: point}))
    assert router.operating_point("pgr=0.8") is point
    with pytest.raises(rf.InvalidArgumentError, match=r"no operating point 'pgr=0\.9': it has pgr=0\.8"):
        router.operating_point("pgr=0.9")
