"""What holds of the native tokenizer for any text."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routellm_fast._core import WordPieceTokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
VOCABULARY = [
    "[PAD]",
    "[UNK]",
    *LETTERS,
    *(f"##{c}" for c in LETTERS),
    *"!?.,[]()中文éß\ufffd",
    *(f"##{c}" for c in "éß\ufffd\u0301"),
    "the",
    "international",
    "##ization",
]
ADDED = [("[PAD]", 0), ("[UNK]", 1)]

TEXTS = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from([*LETTERS, *" \t\n!?[]É中\x01\u0301"])), max_size=60
)
PIECES = st.sampled_from(["the", "internationalization", "[PAD]", "[UNK", " ", "É", "中", "\u200b", "!", "zzz", "THE"])
WORDY_TEXTS = st.lists(st.one_of(PIECES, TEXTS), max_size=12).map("".join)
BYTES = st.lists(
    st.one_of(
        st.binary(max_size=8), st.sampled_from([b"the", b"\xe4\xb8", b"\xed\xa0\x80", b"\xf0\x9f", b"\xc0\xaf", b" "])
    ),
    max_size=12,
).map(b"".join)


@pytest.fixture(scope="module")
def tokenizer() -> WordPieceTokenizer:
    return WordPieceTokenizer(VOCABULARY, unk_id=1, added_tokens=ADDED)


@pytest.fixture(scope="module")
def plain_tokenizer() -> WordPieceTokenizer:
    """Without normalization, so that U+FFFD can be seen."""
    steps = dict.fromkeys(("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"), False)
    return WordPieceTokenizer(VOCABULARY, unk_id=1, **steps)


@given(text=WORDY_TEXTS, cap=st.integers(0, 80))
def test_a_cap_gives_a_prefix(tokenizer: WordPieceTokenizer, text: str, cap: int) -> None:
    ids = tokenizer.encode(text)
    assert ids.dtype == np.uint32
    assert np.array_equal(tokenizer.encode(text, cap), ids[:cap])


@given(text=WORDY_TEXTS)
def test_ids_lie_in_the_vocabulary_and_are_no_more_than_bytes(tokenizer: WordPieceTokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert len(ids) <= len(text.encode())
    assert (ids < tokenizer.vocabulary_size).all()


@given(left=WORDY_TEXTS, right=WORDY_TEXTS)
def test_a_space_separates(tokenizer: WordPieceTokenizer, left: str, right: str) -> None:
    apart = [*tokenizer.encode(left), *tokenizer.encode(right)]
    assert tokenizer.encode(f"{left} {right}").tolist() == apart


@given(text=WORDY_TEXTS, space=st.text(st.sampled_from(" \t\r\n\u00a0\u2003\u3000"), min_size=1, max_size=20))
def test_all_white_space_is_one_space(tokenizer: WordPieceTokenizer, text: str, space: str) -> None:
    assert np.array_equal(tokenizer.encode(text.replace(" ", space)), tokenizer.encode(text))


@given(text=st.text(st.sampled_from([*LETTERS, *" !?中É\u0301"]), max_size=60))
def test_case_does_not_matter(tokenizer: WordPieceTokenizer, text: str) -> None:
    assert np.array_equal(tokenizer.encode(text.upper()), tokenizer.encode(text))


@given(text=WORDY_TEXTS)
def test_text_and_its_utf8_are_the_same(tokenizer: WordPieceTokenizer, text: str) -> None:
    assert np.array_equal(tokenizer.encode(text.encode()), tokenizer.encode(text))


@given(data=BYTES)
def test_ill_formed_utf8_reads_as_python_replaces_it(
    tokenizer: WordPieceTokenizer, plain_tokenizer: WordPieceTokenizer, data: bytes
) -> None:
    text = data.decode("utf-8", errors="replace")
    assert np.array_equal(plain_tokenizer.encode(data), plain_tokenizer.encode(text))
    assert np.array_equal(tokenizer.encode(data), tokenizer.encode(text))


def test_threads_share_a_tokenizer(tokenizer: WordPieceTokenizer) -> None:
    texts = [f"internationalization {i} É中! the" * 50 for i in range(64)]
    expected = [tokenizer.encode(text).tolist() for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert [ids.tolist() for ids in pool.map(tokenizer.encode, texts)] == expected
