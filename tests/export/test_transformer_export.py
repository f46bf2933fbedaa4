"""Routers that hold a graph, and scorers behind an encoder's graph: tiny ones, made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routellm_fast.embedders.onnx import OnnxEmbedder
from routellm_fast.errors import UnsupportedExportError
from routellm_fast.routers import BertRouter, MatrixFactorizationRouter
from tests.support.builders import PAIR, WORDS, mf_weights, tokenizer_json
from tests.support.exported_example import argument, by_example
from tests.support.sw_builders import battle_texts, sw_router

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from routellm_fast.export import export_onnx, export_tensorrt, exportable  # noqa: E402
from routellm_fast.export.graph import Graph  # noqa: E402

PROMPTS = ["prove the", "hello ? a b c", "write {1} " * 20, *battle_texts(20)]
DIM = 9


def encoder(output: str) -> bytes:
    """A mean of token vectors and a layer, to embeddings or to one win rate."""
    rng, graph = np.random.default_rng(2), Graph("encoder")
    ids = graph.input("input_ids", np.int64, ("batch", "length"))
    mask = graph.cast(graph.input("attention_mask", np.int64, ("batch", "length")), np.float32)
    table = graph.constant(rng.normal(size=(len(WORDS), DIM)), np.float32)
    weighed = graph.add("Mul", graph.add("Gather", table, ids), graph.add("Unsqueeze", mask, graph.constant([2])))
    total = graph.reduce("ReduceSum", weighed, 1, keepdims=False)
    mean = graph.add("Div", total, graph.add("Max", graph.reduce("ReduceSum", mask, 1), graph.constant(1, np.float32)))
    width = DIM if output == "embedding" else 1
    value = graph.add("MatMul", mean, graph.constant(rng.normal(size=(DIM, width)), np.float32), name="dense")
    if width == 1:
        value = graph.add("Squeeze", graph.add("Sigmoid", value), graph.constant([1]))
    graph.output(value, output, np.float32, ("batch", DIM) if width > 1 else ("batch",))
    return graph.model({"author": "tests"}, "0").SerializeToString()


def bert_router() -> BertRouter:
    return BertRouter(encoder("win_rate"), tokenizer_json(), max_tokens=32, pad_id=0, model_pair=PAIR)


def onnx_embedder() -> OnnxEmbedder:
    return OnnxEmbedder(encoder("embedding"), tokenizer_json(), name="onnx:tiny", max_tokens=32, pad_id=0)


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16", "int8", "int8-static"])
def test_bert_takes_its_own_graph_over(tmp_path: Path, precision: str) -> None:
    router = bert_router()
    router.save(tmp_path / "router")
    report = export_onnx(tmp_path / "router", tmp_path / "out", precision=precision, prompts=PROMPTS)
    assert (report.kind, report.inputs) == ("bert", "tokens")
    session = onnxruntime.InferenceSession(
        str(tmp_path / "out" / "model.onnx"), providers=["CPUExecutionProvider"]
    ) if precision != "bfloat16" else None  # fmt: skip
    if session is not None:
        found = session.run(["win_rate"], exportable(router).feeds(PROMPTS))[0]
        np.testing.assert_allclose(found, router.win_rates(PROMPTS), rtol=0, atol=report.bound)
        metadata = session.get_modelmeta().custom_metadata_map
        assert metadata["author"] == "tests"
        assert metadata["routellm_fast.router_digest"] == report.router_digest
        example = by_example(tmp_path / "out", [argument(prompt) for prompt in PROMPTS])
        np.testing.assert_allclose(example, router.win_rates(PROMPTS), rtol=0, atol=report.bound + 1e-6)
    with pytest.raises(UnsupportedExportError, match="reads text"):
        export_onnx(tmp_path / "router", tmp_path / "out", inputs="embeddings")


@pytest.mark.parametrize("kind", ["mf", "sw_ranking"])
def test_a_scorer_behind_an_encoder_is_one_graph_from_tokens(tmp_path: Path, kind: str) -> None:
    embedder = onnx_embedder()
    router = (
        MatrixFactorizationRouter(
            (*PAIR, "other"), **mf_weights(dim=DIM), model_pair=PAIR, embedder=embedder
        )
        if kind == "mf"
        else sw_router(embedder=embedder)
    )  # fmt: skip
    router.save(tmp_path / "router")
    report = export_onnx(tmp_path / "router", tmp_path / "out", prompts=PROMPTS, embedder=embedder)
    assert report.inputs == "tokens"
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"), providers=["CPUExecutionProvider"])
    assert {entry.name for entry in session.get_inputs()} == {"input_ids", "attention_mask"}
    found = session.run(["win_rate"], exportable(router).feeds(PROMPTS))[0]
    np.testing.assert_allclose(found, router.win_rates(PROMPTS), rtol=0, atol=1e-5)
    example = by_example(tmp_path / "out", [argument(prompt) for prompt in PROMPTS])
    np.testing.assert_allclose(example, router.win_rates(PROMPTS), rtol=0, atol=1e-5)


def test_an_older_encoder_is_refused(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(encoder("embedding"))
    model.opset_import[0].version = 17
    from routellm_fast.export.composition import behind

    with pytest.raises(UnsupportedExportError, match="opset 17"):
        behind(model.SerializeToString(), "embedding", model, "embeddings", {})


def test_a_plan_of_a_bert_router(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    bert_router().save(tmp_path / "router")
    report = export_tensorrt(
        tmp_path / "router", tmp_path / "out", precision="float16", runtime="tensorrt_rtx", prompts=PROMPTS,
        length=(1, 16, 32), targets=["8.9"],
    )  # fmt: skip
    assert report.precision == "float16"
    assert (tmp_path / "out" / "model.plan").stat().st_size > 0


def causal_router(folder: Path, **changes: Any) -> Any:
    """A Llama of two layers that scores, as RouteLLM's checkpoints are laid out."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    pytest.importorskip("onnxscript")
    from routellm_fast.routers import CausalLLMRouter
    from tests.support.causal_builders import checkpoint

    options = {"score_tokens": True, "writes_header": True} | changes
    return CausalLLMRouter.from_pretrained(checkpoint(folder, **options))


def test_a_language_model_is_one_graph_whatever_the_lengths(tmp_path: Path) -> None:
    router = causal_router(tmp_path / "model")
    router.save(tmp_path / "router")
    report = export_onnx(tmp_path / "router", tmp_path / "out", prompts=PROMPTS)
    assert (report.kind, report.inputs, report.bound) == ("causal_llm", "tokens", 1e-5)
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["padding"] == "left"
    together = session.run(["win_rate"], router.onnx_inputs(PROMPTS))[0]
    np.testing.assert_allclose(together, router.win_rates(PROMPTS), rtol=0, atol=1e-5)
    alone = [session.run(["win_rate"], router.onnx_inputs([prompt]))[0][0] for prompt in PROMPTS]
    np.testing.assert_allclose(alone, together, rtol=0, atol=1e-5)
    example = by_example(tmp_path / "out", [argument(prompt) for prompt in PROMPTS])
    np.testing.assert_allclose(example, together, rtol=0, atol=1e-5)


def test_decoding_step_by_step_is_no_graph(tmp_path: Path) -> None:
    router = causal_router(tmp_path / "model").as_faithful()
    router.save(tmp_path / "router")
    with pytest.raises(UnsupportedExportError, match="as_faithful"):
        export_onnx(tmp_path / "router", tmp_path / "out", prompts=PROMPTS)
    assert not (tmp_path / "out").exists()


def test_a_plan_of_a_language_model(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    causal_router(tmp_path / "model").save(tmp_path / "router")
    report = export_tensorrt(
        tmp_path / "router", tmp_path / "out", precision="float16", runtime="tensorrt_rtx", prompts=PROMPTS,
        length=(16, 64, 256), targets=["8.9"],
    )  # fmt: skip
    assert report.precision == "float16"
    assert (tmp_path / "out" / "model.plan").stat().st_size > 0
