"""Who else runs a sequence classifier, each from raw text to win rate, with one and the same weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.peers import PeerMissingError, import_routellm
from routellm_fast.errors import MissingExtraError
from routellm_fast.training.packaged_base import MINILM

# (n,) float32 of n prompts.
WinRates = Callable[[list[str]], Any]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A classifier as transformers writes it.

    Attributes:
        folder: Where it lies.
        max_tokens: Most tokens of a prompt.
    """

    folder: Path
    max_tokens: int


def checkpoint(folder: Path) -> Checkpoint:
    """Write all-MiniLM-L6-v2 with a random head of three classes, wide enough for win rates that differ.

    Raises:
        PeerMissingError: The model's package, torch or transformers is not installed.
    """
    try:
        import torch
        import transformers

        base = MINILM.find().parent
    except (ImportError, MissingExtraError) as error:
        raise PeerMissingError(str(error)) from error
    torch.manual_seed(0)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=3).eval()
    with torch.no_grad():
        model.classifier.weight *= 20.0
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    limit = int(json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))["model_max_length"])
    return Checkpoint(folder, min(limit, model.config.max_position_embeddings))


def torch_eager(made: Checkpoint) -> WinRates:
    """Return what transformers' documentation shows: tokenizer, model, softmax, a batch at once."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.set_num_threads(1)
    model = AutoModelForSequenceClassification.from_pretrained(made.folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(made.folder)

    def win_rates(prompts: list[str]) -> Any:
        inputs = tokenizer(prompts, padding=True, truncation=True, max_length=made.max_tokens, return_tensors="pt")
        with torch.inference_mode():
            return torch.softmax(model(**inputs).logits, dim=-1)[:, 0].numpy()

    return win_rates


def routellm_bert(made: Checkpoint) -> WinRates:
    """Return RouteLLM's own router, which takes one prompt a call. Raises PeerMissingError."""
    module = import_routellm("routers.routers")
    router = module.BERTRouter(checkpoint_path=str(made.folder), num_labels=3)
    score = router.calculate_strong_win_rate

    def win_rates(prompts: list[str]) -> Any:
        return np.array([score(prompt) for prompt in prompts], dtype=np.float32)

    return win_rates


def plain_runtime(made: Checkpoint, graph: bytes) -> WinRates:
    """Return the same graph as ours, written as one would: the tokenizers library, one thread, all options as given."""
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(made.folder / "tokenizer.json"))
    tokenizer.enable_truncation(made.max_tokens)
    tokenizer.enable_padding()

    def win_rates(prompts: list[str]) -> Any:
        encodings = tokenizer.encode_batch(prompts)
        ids = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
        mask = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)
        return session.run(["win_rate"], {"input_ids": ids, "attention_mask": mask})[0]

    return win_rates


def bare_products(made: Checkpoint, rows: int) -> Callable[[], Any]:
    """Return the products of every layer's weights with that many tokens, and nothing else: a floor for float32."""
    config = json.loads((made.folder / "config.json").read_text(encoding="utf-8"))
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    rng = np.random.default_rng(0)
    shapes = [*[(hidden, hidden)] * 4, (hidden, inner), (inner, hidden)]
    weights = [[rng.normal(size=shape).astype(np.float32) for shape in shapes] for _ in range(layers)]
    narrow, wide = (np.zeros((rows, size), dtype=np.float32) + 0.5 for size in (hidden, inner))

    def products() -> Any:
        for *square, up, down in weights:
            for weight in square:
                narrow @ weight
            narrow @ up
            found = wide @ down
        return found

    return products


def texts_of_tokens(count: int, texts: int, prompts: Sequence[str], made: Checkpoint) -> list[str]:
    """Return different natural texts of exactly `count` tokens, special ones included: beginnings of prompts.

    Where a prompt is too short the next ones follow it.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(made.folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    found: list[str] = []
    for first in range(len(prompts)):
        text, ahead = prompts[first], first
        while len((encoding := tokenizer.encode(text)).ids) < count:
            ahead += 1
            text += " " + prompts[ahead % len(prompts)]
        text = text[: encoding.offsets[count - 2][1]]  # before the token that ends a text
        if len(tokenizer.encode(text).ids) == count and text not in found:
            found.append(text)
        if len(found) == texts:
            return found
    raise ValueError(f"the prompts give {len(found)} texts of {count} tokens, wanted {texts}")


def agreement(results: dict[str, NDArray[Any]], expected: NDArray[Any]) -> dict[str, dict[str, float]]:
    """Return each contender's largest difference of win rates, and how many decisions at the median differ."""
    middle = float(np.median(expected))
    return {
        name: {
            "max_difference": float(np.abs(found - expected).max()),
            "decisions_changed": int(((found >= middle) != (expected >= middle)).sum()),
        }
        for name, found in results.items()
    }
