"""Against RouteLLM's own way: transformers' tokenizer and model, one prompt at a time, then its formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from routellm_fast.routers import BertRouter
from tests.support.transformer_builders import classifier_folder, sentencepiece_json, wordpiece_json

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

PROMPTS = ["prove the hello", "hello", "", "the " * 100, "PROVE  the\thello?", "a\nb", "[SEP] hello </s>", "żółw 日本"]


def routellm_win_rate(model, tokenizer, prompt: str) -> float:
    """What BERTRouter.calculate_strong_win_rate does in RouteLLM 0.2.0, with its tokenizer's truncation."""
    inputs = tokenizer(prompt, return_tensors="pt", padding=True, truncation=True)
    with torch.no_grad():
        logits = model(**inputs).logits.numpy()[0]
    scores = np.exp(logits - np.max(logits))
    return float(1 - np.sum((scores / np.sum(scores))[-2:]))


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
def test_win_rates_are_routellms(kind: str, tmp_path: Path) -> None:
    folder = classifier_folder(tmp_path / "classifier", kind)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    content = wordpiece_json() if kind == "bert" else sentencepiece_json()
    names = (
        {"pad_token": "[PAD]", "unk_token": "[UNK]"} if kind == "bert" else {"pad_token": "<pad>", "unk_token": "<unk>"}
    )
    (tmp_path / "tokenizer.json").write_bytes(content)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "tokenizer.json"), model_max_length=32, **names
    )
    router = BertRouter.from_pretrained(folder)
    assert router.text_graph.tokens.is_native == (kind == "bert")
    expected = [routellm_win_rate(model, tokenizer, prompt) for prompt in PROMPTS]
    assert np.std(expected) > 0.01
    np.testing.assert_allclose(router.win_rates(PROMPTS), expected, atol=1e-5)
    alone = np.array([router.win_rate(prompt) for prompt in PROMPTS], dtype=np.float32)
    np.testing.assert_array_equal(router.win_rates(PROMPTS), alone)
