"""Kinds of requests: by what they are about, how long they are, and the script in which they are written.

A stratum is a kind, a length and a script together. Kinds are clusters of the embedding (k-means on the sphere), found
on a sample that a hash chooses and begun from directions that only the seed decides; borders of length are fixed. So
further prompts in a file move few of the others to another stratum.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.arrays import FloatArray, brief_repr
from routellm_fast.data.split import marks
from routellm_fast.errors import InvalidEmbeddingError

# More kinds tell gaps apart hardly better, and give each prompt that is added more places to move others to.
KINDS: Final = 16
# Characters up to which a prompt is a line, a paragraph, a page; beyond, it is longer.
LENGTHS: Final = (80, 400, 2000)
SCRIPTS: Final = (
    "none", "latin", "greek", "cyrillic", "armenian", "hebrew", "arabic", "indic", "thai", "hangul", "japanese",
    "chinese", "other",
)  # fmt: skip
# The first code point of each run of blocks, and the script of the letters in it. "none" has signs, not letters.
_BLOCKS: Final = (
    (0x0000, "none"), (0x0041, "latin"), (0x005B, "none"), (0x0061, "latin"), (0x007B, "none"), (0x00C0, "latin"),
    (0x0250, "other"), (0x02B0, "none"), (0x0370, "greek"), (0x0400, "cyrillic"), (0x0530, "armenian"),
    (0x0590, "hebrew"), (0x0600, "arabic"), (0x0780, "other"), (0x08A0, "arabic"), (0x0900, "indic"), (0x0E00, "thai"),
    (0x0F00, "other"), (0x1100, "hangul"), (0x1200, "other"), (0x1E00, "latin"), (0x1F00, "greek"), (0x2000, "none"),
    (0x2C00, "other"), (0x2E00, "none"), (0x3040, "japanese"), (0x3100, "chinese"), (0x3130, "hangul"),
    (0x3190, "none"), (0x31F0, "japanese"), (0x3200, "none"), (0x3400, "chinese"), (0x4DC0, "none"),
    (0x4E00, "chinese"), (0xA000, "other"), (0xAC00, "hangul"), (0xD800, "none"), (0xF900, "chinese"),
    (0xFB00, "latin"), (0xFB1D, "hebrew"), (0xFB50, "arabic"), (0xFE00, "none"), (0xFE70, "arabic"), (0xFEFF, "none"),
    (0xFF21, "latin"), (0xFF3B, "none"), (0xFF41, "latin"), (0xFF5B, "none"), (0xFF66, "japanese"), (0xFFA0, "hangul"),
    (0xFFE0, "none"), (0x10000, "other"), (0x1F000, "none"), (0x20000, "chinese"), (0x40000, "none"),
)  # fmt: skip
_STARTS: Final = np.array([start for start, _ in _BLOCKS], dtype=np.uint32)
_SCRIPT_OF_BLOCK: Final = np.array([SCRIPTS.index(script) for _, script in _BLOCKS])
_LATIN, _JAPANESE, _CHINESE = (SCRIPTS.index(script) for script in ("latin", "japanese", "chinese"))
_ASCII_LETTER: Final = re.compile("[A-Za-z]")
# Enough of a text to see its script.
_READ_CHARACTERS: Final = 4096
# Requests on which kinds are found, and how often their centres move: further steps tell hardly more.
_SAMPLE: Final = 4096
_STEPS: Final = 5
# Rows whose similarities to all centres are held at once.
_CHUNK: Final = 1 << 14


@dataclass(frozen=True, slots=True, eq=False)
class Strata:
    """The stratum of each of n requests.

    Attributes:
        kind: (n,) int64 number of a cluster, below KINDS; KINDS where the embedder knows no word of the prompt.
        length: (n,) int64 how many of LENGTHS are shorter than the prompt.
        script: (n,) int64 index in SCRIPTS.
    """

    kind: NDArray[np.int64]
    length: NDArray[np.int64]
    script: NDArray[np.int64]

    __repr__ = brief_repr

    @property
    def cell(self) -> NDArray[np.int64]:
        """(n,) one number for kind, length and script together."""
        return (self.kind * (len(LENGTHS) + 1) + self.length) * len(SCRIPTS) + self.script

    def select(self, rows: NDArray[np.int64]) -> Strata:
        """Return the strata of some of the requests."""
        return Strata(self.kind[rows], self.length[rows], self.script[rows])


def strata_of(
    names: Sequence[str], prompts: Sequence[str], vectors: FloatArray, rows: NDArray[np.int64], *, seed: int
) -> Strata:
    """Return the strata of n requests.

    Args:
        names: n distinct names of the requests, in an order that does not depend on the file's.
        prompts: n texts, one of each request.
        vectors: (m, dim) float32 token dimensions, of any length: only their directions count.
        rows: (n,) the row of `vectors` that belongs to each text.
        seed: Another seed may find other kinds; in [0, 2^63).

    Raises:
        InvalidEmbeddingError: A vector is not finite.
    """
    kind = kinds_of(names, vectors, rows, seed=seed)
    characters = np.fromiter(map(len, prompts), dtype=np.int64, count=len(prompts))
    script = np.fromiter(map(script_of, prompts), dtype=np.int64, count=len(prompts))
    return Strata(kind, np.searchsorted(LENGTHS, characters), script)


def script_of(text: str) -> int:
    """Return the index in SCRIPTS of the script of most letters in the text's first 4,096 characters.

    It stands for the language, for which no table of words is needed here: languages of one script share it, and the
    words, which the kinds are made of, tell them apart. Chinese signs in a text with kana are Japanese.
    """
    text = text[:_READ_CHARACTERS]
    if text.isascii():
        return _LATIN if _ASCII_LETTER.search(text) else 0
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    letters = np.bincount(_SCRIPT_OF_BLOCK[np.searchsorted(_STARTS, codes, side="right") - 1], minlength=len(SCRIPTS))
    letters[0] = 0
    if letters[_JAPANESE]:
        letters[_JAPANESE] += letters[_CHINESE]
        letters[_CHINESE] = 0
    return int(letters.argmax()) if letters.any() else 0


def kinds_of(
    names: Sequence[str], vectors: FloatArray, rows: NDArray[np.int64], *, seed: int, kinds: int = KINDS
) -> NDArray[np.int64]:
    """Return (n,) the kind of each request: the cluster whose mean direction is nearest, `kinds` for a zero vector.

    Args:
        names: See strata_of.
        vectors: See strata_of.
        rows: See strata_of.
        seed: See strata_of.
        kinds: The most kinds, >= 1.

    Raises:
        InvalidEmbeddingError: A vector is not finite.

    Source: I. S. Dhillon and D. S. Modha, Concept decompositions for large sparse text data using clustering, 2001.
    """
    norms = np.empty(len(rows))
    for start in range(0, len(rows), _CHUNK):
        part = vectors[rows[start : start + _CHUNK]].astype(np.float64)
        norms[start : start + _CHUNK] = np.sqrt((part * part).sum(axis=1))
    if not np.isfinite(norms).all():
        row = rows[~np.isfinite(norms)].min()
        raise InvalidEmbeddingError(f"the vector in row {row} has a value that is not finite: expected finite numbers")
    found = np.full(len(rows), kinds, dtype=np.int64)
    with_words = np.flatnonzero(norms > 0.0)
    if not len(with_words):
        return found
    drawn = marks([names[request] for request in with_words.tolist()], seed=seed, use="kinds")
    sample = with_words[np.argsort(drawn, kind="stable")[:_SAMPLE]]
    centres = _centres(vectors[rows[sample]] / norms[sample, None], kinds, seed)
    for start in range(0, len(with_words), _CHUNK):
        chunk = with_words[start : start + _CHUNK]
        found[chunk] = _nearest(vectors[rows[chunk]] / norms[chunk, None], centres)
    return found


def _centres(sample: NDArray[np.float64], kinds: int, seed: int) -> NDArray[np.float64]:
    """Return (kinds, dim) mean directions of clusters; a cluster that lost its last member keeps its place."""
    middle = sample.mean(axis=0)
    directions = np.random.default_rng(seed).normal(size=(kinds, sample.shape[1]))
    kind = _nearest(sample - middle, directions)
    centres = np.tile(_directions(middle[None]), (kinds, 1))
    for _ in range(_STEPS):
        sums = np.zeros_like(centres)
        np.add.at(sums, kind, sample)
        is_there = (sums != 0.0).any(axis=1)
        centres[is_there] = _directions(sums[is_there])
        kind = _nearest(sample, centres)
    return centres


def _directions(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    norms = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    return vectors / np.where(norms > 0.0, norms, 1.0)


def _nearest(vectors: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.asarray((vectors @ centres.T).argmax(axis=1))
