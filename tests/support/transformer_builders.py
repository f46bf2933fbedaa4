"""Tiny transformers as folders that Hugging Face's library writes, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "prove", "the", "hello", "write", "##s", "?", "a", "b", "c", "1"]
CLASSES = {0: "strong wins", 1: "tie", 2: "weak wins"}


def wordpiece_json(words: list[str] = WORDS) -> bytes:
    """BERT's tokenizer.json, with its special tokens around a text."""
    special = [
        {"id": index, "content": words[index], "special": True, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False}
        for index in range(5)
    ]  # fmt: skip
    spec = {
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": None,
        "added_tokens": special,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                               "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}},
        },
        "decoder": None,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": {word: i for i, word in enumerate(words)}},
    }  # fmt: skip
    return json.dumps(spec).encode()


def sentencepiece_json() -> bytes:
    """A tokenizer of XLM-RoBERTa's kind: unigram pieces, <s> and </s> around a text, padding 1."""
    pieces = [["<s>", 0.0], ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["▁", -2.0], ["▁prove", -3.0],
              ["▁the", -3.0], ["▁hello", -3.5], ["h", -5.0], ["e", -5.0], ["l", -5.0],
              ["o", -5.0], ["a", -5.0]]  # fmt: skip
    special = [
        {"id": index, "content": pieces[index][0], "special": True, "single_word": False, "lstrip": False,
         "rstrip": False, "normalized": False}
        for index in range(4)
    ]  # fmt: skip
    spec = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]},
                               "</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}},
        },
        "decoder": None,
        "model": {"type": "Unigram", "unk_id": 3, "vocab": pieces, "byte_fallback": False},
    }  # fmt: skip
    return json.dumps(spec).encode()


def classifier_folder(path: Path, kind: str = "bert", *, labels: int = 3, **changes: Any) -> Path:
    """A sequence classifier, with weights large enough for win rates that differ."""
    model = _model(kind, "ForSequenceClassification", labels=labels, **changes)
    return _write(path, kind, model)


def encoder_folder(path: Path, *, pooling: str | None = "mean", normalize: bool = True, limit: int | None = 8) -> Path:
    """An encoder as sentence-transformers writes it; pooling None leaves its files out."""
    _write(path, "bert", _model("bert", "Model"))
    if pooling is not None:
        names = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
        modules = [
            {
                "idx": i,
                "name": str(i),
                "path": "" if i == 0 else f"{i}_{name}",
                "type": f"sentence_transformers.models.{name}",
            }
            for i, name in enumerate(names)
        ]
        (path / "modules.json").write_text(json.dumps(modules))
        (path / "1_Pooling").mkdir()
        modes = {"pooling_mode_mean_tokens": pooling == "mean", "pooling_mode_cls_token": pooling == "cls"}
        modes["pooling_mode_max_tokens"] = pooling == "max"
        (path / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 16, **modes}))
        (path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": limit}))
    return path


def _model(kind: str, head: str, *, labels: int = 3, **changes: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    prefix = {"bert": "Bert", "xlm-roberta": "XLMRoberta"}[kind]
    classes = dict(CLASSES) if labels == 3 else {index: f"class {index}" for index in range(labels)}
    settings = {
        "vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": 32, "pad_token_id": 0,
        "id2label": classes, "label2id": {label: index for index, label in classes.items()},
    }  # fmt: skip
    if kind == "xlm-roberta":
        settings |= {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "max_position_embeddings": 34,
                     "type_vocab_size": 1}  # fmt: skip
    config = getattr(transformers, f"{prefix}Config")(**settings | changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, f"{prefix}{head}")(config)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "LayerNorm" not in name:
                    weight.normal_(std=0.3)
    return model.eval()


def _write(path: Path, kind: str, model: Any) -> Path:
    from transformers.utils import logging

    logging.disable_progress_bar()
    model.save_pretrained(path)
    (path / "tokenizer.json").write_bytes(wordpiece_json() if kind == "bert" else sentencepiece_json())
    named = {"bert": "BertTokenizer", "xlm-roberta": "XLMRobertaTokenizer"}[kind]
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": named, "model_max_length": 32}))
    return path
