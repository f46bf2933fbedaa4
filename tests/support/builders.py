"""Tiny embedders and routers, made in memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from routellm_fast import Calibration, ModelPair, StaticEmbedder
from routellm_fast.routers import BertRouter, MatrixFactorizationRouter

WORDS = ["[PAD]", "[UNK]", "prove", "the", "hello", "write", "##s", "?", "a", "b", "c", "1", "{", "}"]
PAIR = ModelPair("strong-model", "weak-model")


def tokenizer_json(words: Sequence[str] = WORDS) -> bytes:
    spec = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": {word: i for i, word in enumerate(words)}},
    }  # fmt: skip
    return json.dumps(spec).encode()


def model2vec_folder(
    path: Path, *, normalize: bool = True, max_length: int | None = 512, **tensors: np.ndarray
) -> Path:
    path.mkdir()
    if "embeddings" not in tensors:
        tensors["embeddings"] = np.random.default_rng(1).normal(size=(len(WORDS), 5)).astype(np.float16)
    save_file(tensors, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps({"normalize": normalize, "max_length": max_length}))
    (path / "tokenizer.json").write_bytes(tokenizer_json())
    return path


def static_embedder(
    *,
    normalize: bool = False,
    int8: bool = True,
    isa: str | None = None,
    surface_features: Sequence[str] = ("constant", "log_tokens", "question_marks"),
    **limits: int,
) -> StaticEmbedder:
    rng = np.random.default_rng(7)
    table = rng.normal(size=(len(WORDS), 6)).astype(np.float32)
    scale = (np.abs(table).max(axis=0) / 127).astype(np.float32)
    return StaticEmbedder(
        np.rint(table / scale).astype(np.int8) if int8 else table,
        tokenizer_json(),
        name="static:tiny",
        column_scale=scale if int8 else None,
        normalize=normalize,
        surface_features=surface_features,
        isa=isa,
        **limits,
    )


def mf_weights(models: int = 3, d: int = 4, dim: int = 9, seed: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {"P": (models, d), "W": (d, dim), "w": (d,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def mf_router(embedder: StaticEmbedder | None = None, **overrides: object) -> MatrixFactorizationRouter:
    embedder = static_embedder() if embedder is None else embedder
    arguments = {
        "model_names": ("strong-model", "weak-model", "other-model"),
        **mf_weights(dim=embedder.dim),
        "model_pair": PAIR,
        "embedder": embedder,
        "calibration": Calibration("test prompts", 3, ((0.0, 1.0), (0.5, 0.4), (1.0, 0.0))),
        "provenance": {"created": "2026-11-24"},
        "model_card": "# A tiny router\n",
        **overrides,
    }
    return MatrixFactorizationRouter(**arguments)  # type: ignore[arg-type]


def bert_router() -> BertRouter:
    """A sum of token scores, as a graph made by hand; needs onnx and onnxruntime."""
    from routellm_fast.export.graph import Graph

    rng, graph = np.random.default_rng(2), Graph("classifier")
    ids = graph.input("input_ids", np.int64, ("batch", "length"))
    mask = graph.cast(graph.input("attention_mask", np.int64, ("batch", "length")), np.float32)
    table = graph.constant(rng.normal(size=14), np.float32)
    total = graph.reduce("ReduceSum", graph.add("Mul", graph.add("Gather", table, ids), mask), 1, keepdims=False)
    graph.output(graph.add("Sigmoid", total), "win_rate", np.float32, ("batch",))
    model = graph.model({}, "0").SerializeToString()
    return BertRouter(model, tokenizer_json(), max_tokens=40, pad_id=0, model_pair=PAIR)
