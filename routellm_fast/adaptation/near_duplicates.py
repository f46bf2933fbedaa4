"""Which prompts ask the same in almost the same words, so that one label is enough for all of them.

Prompts are near-duplicates where nothing is left of their difference once these are taken away: capitals, spacing,
Unicode form, the style of quotation marks and dashes, and the marks that end or part sentences, at the end of a word.
Every word, number, operator and bracket must be the same, in the same order. `x - 3` and `x + 3`, or a template filled
with another number or name, are different requests.

Why not by similar vectors or shared runs of words: of real prompts that are nearly parallel in the static embedding
and as long as one another, hardly any pair asks the same. They are templates filled with another question, twins of a
test that differ by "full" and "empty" or "larger" and "smaller", sums with other numbers, and in scripts that the
vocabulary lacks anything at all. Those that share nine tenths of their runs of three words are long texts with another
question below. What gives such pairs different answers is the one word in which they differ, and it makes no vector
turn. They may stay: they fall into one stratum, of which few are labelled.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.arrays import brief_repr
from routellm_fast.data.split import marks, plain

# Marks of one meaning that keyboards, word processors and web pages write differently.
_SAME_MARKS: Final = str.maketrans(
    {
        "\u2018": "'", "\u2019": "'", "\u201b": "'", "\u2032": "'",
        "\u201c": '"', "\u201d": '"', "\u201e": '"', "\u00ab": '"', "\u00bb": '"',
        "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u2014": "-", "\u2212": "-",
    }
)  # fmt: skip
# At the end of a word; after a digit "!" can be a factorial. The pattern begins with the mark and looks back from it:
# to look back from every character takes much longer.
_SENTENCE_MARKS: Final = re.compile(
    r"[.,;:!?\u3001\u3002\u061f\u060c](?:(?<=[^\W\d_].)|(?<=[\"')].)|(?<=\d[.,;:?\u3001\u3002]))"
    r"[.,;:!?\u3001\u3002\u061f\u060c]*(?= |\Z)"
)


def request_of(prompt: str) -> str:
    """Return the name of what a prompt asks: 32 hexadecimal digits, the same for near-duplicates.

    It depends on this prompt alone, so no other prompt of a file can move it to another set.
    """
    text = plain(prompt)
    kept = _SENTENCE_MARKS.sub("", text if text.isascii() else text.translate(_SAME_MARKS))
    return hashlib.blake2b(kept.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """Distinct prompts, those that ask the same taken together.

    Attributes:
        names: k names of what is asked, sorted, so that the order of the prompts does not matter.
        of_prompt: (n,) int64 index in `names` of each prompt.
        representative: (k,) int64 index of the prompt that stands for the others.
        counts: (k,) int64 how often each was asked, in any of its forms.
    """

    names: tuple[str, ...]
    of_prompt: NDArray[np.int64]
    representative: NDArray[np.int64]
    counts: NDArray[np.int64]

    __repr__ = brief_repr

    def __len__(self) -> int:
        """Number of different requests."""
        return len(self.names)


def collapsed(prompts: Sequence[str], counts: NDArray[np.int64], *, seed: int) -> Requests:
    """Take near-duplicates together.

    The representative is drawn among the prompts of a set in proportion to how often each was asked, by a hash of the
    prompt: it is what a user who asks this most likely writes, and a further prompt of the set seldom takes its place.

    Args:
        prompts: n distinct prompts.
        counts: (n,) how often each was asked, >= 1.
        seed: Another seed draws other representatives; in [0, 2^63).
    """
    found = [request_of(prompt) for prompt in prompts]
    names, of_prompt = np.unique(np.array(found, dtype="U32"), return_inverse=True)
    of_prompt = of_prompt.reshape(-1).astype(np.int64)
    several = np.bincount(of_prompt, minlength=len(names))[of_prompt] > 1
    # The first of clocks that ring at random, each as often as its prompt was asked. One alone needs no clock.
    rings = np.zeros(len(prompts))
    rows = np.flatnonzero(several)
    rings[rows] = waiting_times([prompts[row] for row in rows.tolist()], counts[rows], seed=seed, use="representative")
    order = np.lexsort((rings, of_prompt))
    starts = np.searchsorted(of_prompt[order], np.arange(len(names)))
    total = np.zeros(len(names), dtype=np.int64)
    np.add.at(total, of_prompt, counts)
    return Requests(tuple(names.tolist()), of_prompt, order[starts].astype(np.int64), total)


def waiting_times(names: Sequence[str], rates: NDArray[np.int64], *, seed: int, use: str) -> NDArray[np.float64]:
    """Return (n,) exponential waiting times of mean 1 / rate, each drawn by the hash of its name.

    Whoever takes the names in the order of these times draws them one by one without putting them back, each time in
    proportion to the rates of those that are left. A new name, or a changed rate, moves no other name.

    Args:
        names: n names.
        rates: (n,) > 0.
        seed: See data.split.marks.
        use: See data.split.marks.

    Source: P. S. Efraimidis and P. G. Spirakis, Weighted random sampling with a reservoir, 2006.
    """
    drawn = (marks(names, seed=seed, use=use) >> np.uint64(11)).astype(np.float64)
    return np.asarray(-np.log((drawn + 0.5) * 2.0**-53) / rates)
