from __future__ import annotations

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.thresholds.token_counts import token_counts
from tests.support.builders import model2vec_folder, static_embedder


def test_tokens_are_counted_whole(tmp_path) -> None:
    embedder = rf.StaticEmbedder.load(model2vec_folder(tmp_path / "model", max_length=4))
    prompts = ["hello", "prove the a b c ?", "hello " * 700, "", "\ud800 hello"]
    counts = token_counts(embedder, prompts)
    assert counts.tolist()[:4] == [1, 6, 700, 0]
    assert counts[4] >= 1
    with pytest.raises(InvalidArgumentError, match="mean number of input tokens"):
        token_counts(None, ["hello"])


def test_the_library_counts_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    from routellm_fast import tokenization

    prompts = ["hello", "prove the a b c ?", "hello " * 700, "", "\ud800 hello"]
    native = token_counts(static_embedder(), prompts)
    monkeypatch.setattr(tokenization, "native_tokenizer", lambda content: tokenization.NativeTokenizer(None, None))
    np.testing.assert_array_equal(token_counts(static_embedder(), prompts), native)
