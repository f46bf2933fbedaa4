"""What a decision rests on, and the threshold of decisions for which none is given: the same for every kind."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast import FunctionEmbedder, cli
from routellm_fast.routers import MatrixFactorizationRouter, RandomRouter, Router, SimilarityWeightedRouter
from tests.support.builders import PAIR, bert_router, mf_router, static_embedder
from tests.support.sw_builders import sw_router

TABLE = rf.Calibration("test prompts", 3, ((0.0, 1.0), (0.5, 0.4), (1.0, 0.0)))


def _with_function_embedder() -> Router:
    ones = FunctionEmbedder(
        lambda texts: np.ones((len(texts), 9), np.float32), name="ones", dim=9, fingerprint="sha256:1"
    )
    return mf_router(ones)  # type: ignore[arg-type]


def _bert() -> Router:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    return bert_router()


KINDS: dict[str, Callable[[], Router]] = {
    "mf": mf_router,
    "mf, an embedder of Python": _with_function_embedder,
    "sw_ranking": sw_router,
    "sw_ranking, int8": lambda: sw_router("int8"),
    "random": lambda: RandomRouter(PAIR),
    "bert": _bert,
}


@pytest.fixture(params=KINDS)
def router(request: pytest.FixtureRequest) -> Router:
    return KINDS[request.param]().with_calibration(TABLE)


def test_without_a_threshold_the_calibrated_half_decides(router: Router) -> None:
    assert router.default_threshold == router.threshold_for(0.5) == 0.4
    assert router.route("hello") == router.route("hello", 0.4)
    assert router.route_batch(["hello", "a"]) == router.route_batch(["hello", "a"], 0.4)
    other = router.with_calibration(rf.Calibration("others", 3, ((0.0, 1.0), (0.5, 0.7), (1.0, 0.0))))
    assert (router.route("hello").threshold, other.route("hello").threshold) == (0.4, 0.7)


def test_without_a_calibration_a_threshold_is_required_and_the_error_says_why(router: Router) -> None:
    bare = router.with_calibration(None)
    if router.kind == "random":
        assert (bare.default_threshold, bare.threshold_for(0.2)) == (0.5, 0.8)
        return
    for call in (lambda: bare.route("hello"), lambda: bare.route_batch(["hello"]), lambda: bare.default_threshold):
        with pytest.raises(rf.InvalidArgumentError, match=r"no calibration.*give a threshold, or calibrate"):
            call()
    assert bare.route("hello", 0.0).is_strong


@pytest.mark.parametrize("prompt", ["", "  ", "\n\t", "\u2003\u00a0", "\x1c", "\u200b\u00ad", "\ufeff", "\0", "\ud800"])
def test_a_prompt_without_text_gets_what_the_caller_says(router: Router, prompt: str) -> None:
    rate = router.win_rate(prompt)
    # A win rate is at least 0 and below 1.5: whatever it says is overruled.
    for threshold in (0.0, 1.0):
        for no_text, is_strong in (("strong", True), ("weak", False), ("score", rate >= threshold)):
            decision = router.route(prompt, threshold, no_text=no_text)  # type: ignore[arg-type]
            assert decision == (PAIR.strong if is_strong else PAIR.weak, rate, threshold, is_strong, "no_text")
            assert router.route_batch(["hello", prompt], threshold, no_text=no_text)[1] == decision  # type: ignore[arg-type]
    assert router.route(prompt, 1.0).is_strong
    assert router.route("hello", 0.3).basis == "text"
    for call in (router.route, lambda text, **options: router.route_batch([text], **options)):
        with pytest.raises(rf.InvalidArgumentError, match="no_text is one of strong, weak, score, found 'other'"):
            call("hello", no_text="other")  # type: ignore[operator]


@pytest.mark.parametrize("tail_tokens", [0, 2])
def test_a_decision_says_when_text_was_left_out(tail_tokens: int) -> None:
    embedder = static_embedder(max_tokens=5, max_code_points=40, tail_tokens=tail_tokens)
    for made in (mf_router(embedder), sw_router(embedder=embedder)):
        prompts = ["a b c a b", "a b c a b  \n", "a b c a b c", "hello" + " " * 36 + "a", ""]
        expected = ["text", "text", "excerpt", "excerpt", "no_text"]
        assert [decision.basis for decision in made.route_batch(prompts, 0.5)] == expected
        assert [made.route(prompt, 0.5).basis for prompt in prompts] == expected
    assert embedder.reads_whole(prompts) == [True, True, False, False, True]


def test_a_bert_router_says_when_text_was_left_out() -> None:
    router = _bert()
    assert [router.route(text, 0.5).basis for text in ("a " * 40, "a " * 41, "a " * 40 + "\n ")] == [
        "text", "excerpt", "text",
    ]  # fmt: skip


def test_one_model_is_no_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = rf.ModelPair("m", "m")
    for call in (
        lambda: mf_router(model_pair=same),
        lambda: RandomRouter(same),
        lambda: mf_router().for_pair("other-model", "other-model"),
        lambda: mf_router(scoring_pair=rf.ModelPair("other-model", "other-model")),
    ):
        with pytest.raises(rf.InvalidArgumentError, match=r"(nothing to choose between|against itself says nothing)"):
            call()
    mf_router().save(tmp_path / "router")
    with pytest.raises(rf.InvalidArgumentError, match="both 'weak-model'"):
        rf.load_router(tmp_path / "router", strong_model="weak-model")
    assert cli.main(["route", "--router", str(tmp_path / "router"), "--strong-model", "weak-model", "hello"]) == 2
    assert "both 'weak-model'" in capsys.readouterr().err


def test_the_command_line_shows_what_a_decision_rests_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mf_router(static_embedder(max_tokens=5, tail_tokens=2)).save(tmp_path / "router")
    chat = [
        {"role": "user", "content": "prove the a"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "bash", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "ok"}]},
    ]
    (tmp_path / "prompts.jsonl").write_text(
        "".join(json.dumps({"messages": messages}) + "\n" for messages in (chat, chat[2:]))
        + json.dumps({"prompt": "a b c a b c"})
        + "\n"
    )
    arguments = ["route", "--router", str(tmp_path / "router"), "--file", str(tmp_path / "prompts.jsonl")]
    for option, is_strong in ((["--threshold", "1"], True), (["--threshold", "0", "--no-text", "weak"], False)):
        assert cli.main([*arguments, "--jsonl", *option]) == 0
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [record["basis"] for record in found] == ["text", "no_text", "excerpt"]
        assert found[0]["prompt"] == "prove the a"
        assert found[1]["is_strong"] is is_strong
    assert cli.main(arguments) == 0
    shown = capsys.readouterr().out
    assert "1 longer than what is read: the rest was left out" in shown
    assert "1 without text: decided by --no-text" in shown


def test_values_that_python_can_not_make_a_number_of_are_named() -> None:
    for threshold in (10**400, -(10**400), Decimal("sNaN")):
        with pytest.raises(rf.InvalidThresholdError, match=r"threshold"):
            mf_router().route("hello", threshold)  # type: ignore[arg-type]


def test_masked_values_are_not_read_as_numbers() -> None:
    masked = np.ma.masked_array(np.ones((3, 4), np.float32), mask=np.eye(3, 4))
    with pytest.raises(rf.InvalidArgumentError, match="P is a masked array"):
        mf_router(P=masked)
    embeddings = np.ma.masked_array(np.ones((2, 3)), mask=[[0, 1, 0]] * 2)
    with pytest.raises(rf.InvalidEmbeddingError, match="masked array"):
        SimilarityWeightedRouter.build(
            embeddings, ["s", "w"], ["w", "s"], ["model_a"] * 2, strong_model="s", weak_model="w", embedder=None
        )
    embedder = FunctionEmbedder(
        lambda texts: np.ma.masked_array(np.ones((len(texts), 9)), mask=True), name="m", dim=9, fingerprint="sha256:1"
    )
    with pytest.raises(rf.InvalidEmbeddingError, match="masked array"):
        mf_router(embedder).win_rate("hello")  # type: ignore[arg-type]


def test_what_is_no_calibration_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="calibration is a Calibration or None, found float"):
        mf_router(calibration=0.5)


def test_an_embedder_of_a_class_of_its_own_is_asked() -> None:
    class Loud(rf.StaticEmbedder):
        def embed(self, texts: Sequence[str]) -> np.ndarray:
            return super().embed([text.upper() + " prove" for text in texts])

    plain = static_embedder()
    _, tensors, files = plain.stored()
    loud = Loud(
        tensors["embedder.table"], files["tokenizer.json"], name="loud", column_scale=tensors["embedder.column_scale"],
        normalize=False, surface_features=plain.surface_features,
    )  # fmt: skip
    router, expected = mf_router(loud), mf_router(plain)
    assert router.win_rate("hello") == expected.win_rate("HELLO prove")
    assert router.route("hello").win_rate == expected.win_rate("HELLO prove")


def test_logits_that_overflow_float32_are_those_of_the_pair() -> None:
    weights = {"P": np.eye(3, dtype=np.float32), "W": np.full((3, 2), 1e30, np.float32), "w": np.ones(3, np.float32)}
    weights["W"][1, 1] = -1e30
    router = MatrixFactorizationRouter(["a", "b", "c"], **weights, model_pair=rf.ModelPair("a", "b"))
    embeddings = np.array([[3e8, -3e8]], np.float32)
    logits = router.model_logits(embeddings)[0].astype(np.float64)
    assert 1.0 / (1.0 + np.exp(logits[1] - logits[0])) == router.win_rates_from_embeddings(embeddings)[0]


def test_a_share_that_another_row_of_the_calibration_reaches_is_given() -> None:
    for count in range(3, 60):
        win_rates = np.array([0.9] * (count // 2) + [0.4] * (count - count // 2), np.float32)
        calibration = rf.Calibration.from_win_rates(win_rates, dataset="two values")
        router = mf_router().with_calibration(calibration)
        sent = np.mean(win_rates >= np.float32(router.default_threshold))
        assert abs(sent - 0.5) <= max(0.02, 1.0 / count) + 0.002, count


def test_embedders_that_wrap_or_cut_say_when_text_was_left_out(tmp_path: Path) -> None:
    texts = ["a b c", "a b c a b c a b c"]
    inner = static_embedder(max_tokens=4)
    for cached in (rf.CachedEmbedder(inner), rf.CachedEmbedder(inner, path=tmp_path / "store")):
        assert [mf_router(cached).route(text, 0.5).basis for text in texts] == ["text", "excerpt"]  # type: ignore[arg-type]
        assert mf_router(cached).route_batch(texts, 0.5)[1].basis == "excerpt"  # type: ignore[arg-type]
    unknown = rf.CachedEmbedder(
        FunctionEmbedder(lambda found: np.ones((len(found), 9), np.float32), name="m", dim=9, fingerprint="sha256:1")
    )
    assert unknown.reads_whole(texts) == [True, True]
    assert rf.OpenAIEmbedder("m", dim=3, max_chars=5).reads_whole(texts) == [True, False]
    assert rf.OpenAIEmbedder("m", dim=3).reads_whole(texts) == [True, True]


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"max_tokens": True}, "max_tokens must be an integer, found True"),
        ({"tail_tokens": 1.5}, "tail_tokens must be an integer, found 1.5"),
        ({"normalize": 1}, "normalize must be a bool, found 1"),
    ],
)
def test_settings_of_a_near_type_are_refused(settings: dict[str, object], what: str) -> None:
    with pytest.raises(TypeError, match=what):
        static_embedder(**settings)  # type: ignore[arg-type]
    with pytest.raises(rf.InvalidArgumentError, match="from 1 to 2\\^53"):
        static_embedder(max_tokens=2**60)
    found = static_embedder(max_tokens=np.int64(5)).stored()[0]["settings"]  # type: ignore[arg-type]
    assert type(found["max_tokens"]) is int


def test_what_replaces_a_calibration_is_one() -> None:
    with pytest.raises(TypeError, match="found dict"):
        mf_router().with_calibration({"a": 1})  # type: ignore[arg-type]
