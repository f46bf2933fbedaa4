"""Write csrc/text/unicode_tables.cpp: what BERT's text normalization knows of every code point.

Usage: python csrc/tools/make_unicode_tables.py [OUTPUT]      (needs `pip install tokenizers==0.22.2`)

Parity with Hugging Face `tokenizers` means parity with the Unicode versions that its parts were built with, and they
differ from one another and from Python's. So every fact is measured: the normalizer's steps are switched on one by one
and shown each code point. The output depends on the version of `tokenizers` alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import tokenizers
from tokenizers.normalizers import NFD, BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

DROPPED, WHITESPACE, PUNCTUATION, IDEOGRAPH, NONSPACING_MARK, DECOMPOSES = (1 << k for k in range(6))

CODE_POINTS = 0x110000
SURROGATES = range(0xD800, 0xE000)
HANGUL = range(0xAC00, 0xD7A4)
BLOCK_BITS = 7
MAX_DECOMPOSITION = 7  # three bits of a decomposition's index hold its length
LINE_WIDTH = 100

# Marks whose combining classes cover every class in use; the classes are fixed for ever by Unicode's stability policy.
CLASS_REPRESENTATIVES = {
    1: 0x334, 6: 0x16FF0, 7: 0x93C, 8: 0x3099, 9: 0x94D, 10: 0x5B0, 11: 0x5B1, 12: 0x5B2, 13: 0x5B3, 14: 0x5B4,
    15: 0x5B5, 16: 0x5B6, 17: 0x5B7, 18: 0x5B8, 19: 0x5B9, 20: 0x5BB, 21: 0x5BC, 22: 0x5BD, 23: 0x5BF, 24: 0x5C1,
    25: 0x5C2, 26: 0xFB1E, 27: 0x64B, 28: 0x64C, 29: 0x64D, 30: 0x64E, 31: 0x64F, 32: 0x650, 33: 0x651, 34: 0x652,
    35: 0x670, 36: 0x711, 84: 0xC55, 91: 0xC56, 103: 0xE38, 107: 0xE48, 118: 0xEB8, 122: 0xEC8, 129: 0xF71,
    130: 0xF72, 132: 0xF74, 202: 0x321, 214: 0x1DCE, 216: 0x31B, 218: 0x302A, 220: 0x316, 222: 0x59A, 224: 0x302E,
    226: 0x1D16D, 228: 0x5AE, 230: 0x300, 232: 0x302C, 233: 0x35C, 234: 0x35D, 240: 0x345,
}  # fmt: skip


def bert_step(**enabled: bool) -> BertNormalizer:
    """Return the normalizer with only the given steps."""
    steps = dict.fromkeys(("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"), False)
    return BertNormalizer(**{**steps, **enabled})


class Probe:
    """Facts about code points, asked of the library."""

    def __init__(self) -> None:
        """Prepare the steps and find the combining classes that the library knows."""
        self._clean = bert_step(clean_text=True)
        self._chinese = bert_step(handle_chinese_chars=True)
        self._strip = bert_step(strip_accents=True)
        self._lower = bert_step(lowercase=True)
        self._nfd = NFD()
        self._split = BertPreTokenizer()
        known = sorted(CLASS_REPRESENTATIVES)
        self._classes = [c for c in known if self._sorts_as_nonstarter(chr(CLASS_REPRESENTATIVES[c]))]

    def nfd(self, character: str) -> str:
        """Return the canonical decomposition."""
        return str(self._nfd.normalize_str(character))

    def strip(self, character: str) -> str:
        """Return the canonical decomposition without nonspacing marks."""
        return str(self._strip.normalize_str(character))

    def lower(self, character: str) -> str:
        """Return the lowercase form."""
        return str(self._lower.normalize_str(character))

    def flags(self, character: str) -> int:
        """Return the flags of unicode::CodePointFacts."""
        flags = 0
        cleaned = self._clean.normalize_str(character)
        words = [word for word, _ in self._split.pre_tokenize_str(f"a{character}b")]
        if not cleaned:
            flags |= DROPPED
        if words == ["a", "b"]:
            flags |= WHITESPACE
        elif words == ["a", character, "b"]:
            flags |= PUNCTUATION
        else:
            expect(words == [f"a{character}b"], character, "splits in an unforeseen way")
        if cleaned not in ("", character):
            expect(cleaned == " " and bool(flags & WHITESPACE), character, "is cleaned in an unforeseen way")
        spaced = self._chinese.normalize_str(character)
        if spaced != character:
            expect(spaced == f" {character} ", character, "is spaced in an unforeseen way")
            flags |= IDEOGRAPH
        decomposed = self.nfd(character)
        if decomposed != character:
            flags |= DECOMPOSES
        elif self.strip(character) == "":
            flags |= NONSPACING_MARK
        return flags

    def combining_class(self, character: str) -> int:
        """Return the canonical combining class, found by what the character changes places with."""
        if self.nfd(character) != character or not self._sorts_as_nonstarter(character):
            return 0
        for value in self._classes:
            mark = chr(CLASS_REPRESENTATIVES[value])
            if not self._swaps(mark, character) and not self._swaps(character, mark):
                return value
        raise SystemExit(f"U+{ord(character):04X} has a combining class without a representative")

    def _swaps(self, first: str, second: str) -> bool:
        return first != second and self.nfd(first + second) == second + first

    def _sorts_as_nonstarter(self, character: str) -> bool:
        lowest, highest = chr(CLASS_REPRESENTATIVES[1]), chr(CLASS_REPRESENTATIVES[240])
        return self._swaps(character, lowest) or self._swaps(highest, character)


def expect(condition: bool, character: str, message: str) -> None:
    """Stop where the library does what the C++ normalizer does not foresee."""
    if not condition:
        raise SystemExit(f"U+{ord(character):04X} {message}: the C++ normalizer has to be revised")


def hangul_decomposition(character: str) -> str:
    """Return the jamo of a syllable (Unicode 3.12)."""
    index = ord(character) - HANGUL.start
    parts = [0x1100 + index // 588, 0x1161 + index % 588 // 28]
    if index % 28:
        parts.append(0x11A7 + index % 28)
    return "".join(map(chr, parts))


class Tables:
    """The facts as arrays."""

    def __init__(self, probe: Probe) -> None:
        """Ask for every fact."""
        facts: list[tuple[int, int, int]] = [(0, 0, 0)]
        fact_ids = {facts[0]: 0}
        fact_of = [0] * CODE_POINTS
        decomposition_of = [0] * CODE_POINTS
        pool: list[int] = [0]
        for code_point in range(CODE_POINTS):
            if code_point in SURROGATES:
                continue
            character = chr(code_point)
            flags = probe.flags(character)
            combining_class = probe.combining_class(character)
            if combining_class:
                expect(not flags & (WHITESPACE | PUNCTUATION | IDEOGRAPH), character, "is a nonstarter that ends words")
            if flags & DECOMPOSES:
                decomposed = probe.nfd(character)
                if code_point in HANGUL:
                    expect(decomposed == hangul_decomposition(character), character, "decomposes unlike Hangul")
                else:
                    expect(len(decomposed) <= MAX_DECOMPOSITION, character, "has a long decomposition")
                    decomposition_of[code_point] = len(pool) << 3 | len(decomposed)
                    pool.extend(map(ord, decomposed))
            stripped = probe.strip(character)
            expect(len(stripped) <= len(character.encode()), character, "may give more tokens than it has bytes")
            lowered = probe.lower(character)
            if code_point == 0x130:
                expect(lowered == "i\u0307", character, "is lowercased in an unforeseen way")
                lowered = "i"
            expect(len(lowered) == 1, character, "is lowercased to several characters")
            fact = (flags, combining_class, ord(lowered) - code_point)
            if fact not in fact_ids:
                fact_ids[fact] = len(facts)
                facts.append(fact)
            fact_of[code_point] = fact_ids[fact]
        self.facts = facts
        self.pool = pool
        self.fact_blocks, self.fact_entries = two_stage(fact_of)
        self.decomposition_blocks, self.decomposition_entries = two_stage(decomposition_of)


def two_stage(values: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return block numbers, and the distinct blocks of 2**BLOCK_BITS values one behind the other."""
    size = 1 << BLOCK_BITS
    numbers: dict[tuple[int, ...], int] = {}
    blocks = [
        numbers.setdefault(tuple(values[begin : begin + size]), len(numbers)) for begin in range(0, len(values), size)
    ]
    return blocks, [value for block in numbers for value in block]


def array(kind: str, name: str, values: Sequence[int]) -> str:
    """Return the C++ definition of an array."""
    return f"const {kind} {name}[{len(values)}] = {{\n{wrap(map(str, values))}\n}};\n"


def wrap(items: Iterable[str]) -> str:
    """Return the items with commas, in lines."""
    lines, line = [], ""
    for item in items:
        if len(line) + len(item) + 1 > LINE_WIDTH:
            lines.append(line)
            line = ""
        line += item + ","
    return "\n".join([*lines, line])


def render(tables: Tables) -> str:
    """Return the C++ source."""
    facts = wrap(f"{{{flags},{combining_class},{delta}}}" for flags, combining_class, delta in tables.facts)
    parts = [
        f"// Generated from tokenizers {tokenizers.__version__}. Do not edit; run csrc/tools/make_unicode_tables.py.",
        "// clang-format off",
        '#include "text/unicode_tables.hpp"\n',
        "namespace routellm_fast::unicode {\n",
        f"static_assert(kBlockBits == {BLOCK_BITS});\n",
        f"const CodePointFacts kFacts[{len(tables.facts)}] = {{\n{facts}\n}};\n",
        array("std::uint8_t", "kFactBlocks", tables.fact_blocks),
        array("std::uint8_t", "kFactEntries", tables.fact_entries),
        array("std::uint8_t", "kDecompositionBlocks", tables.decomposition_blocks),
        array("std::uint16_t", "kDecompositionEntries", tables.decomposition_entries),
        array("char32_t", "kDecompositions", tables.pool),
        "}  // namespace routellm_fast::unicode\n",
    ]
    for values, limit in (
        (tables.fact_blocks, 1 << 8),
        (tables.fact_entries, 1 << 8),
        (tables.decomposition_blocks, 1 << 8),
        (tables.decomposition_entries, 1 << 16),
    ):
        if max(values) >= limit:
            raise SystemExit(f"a table's largest value {max(values)} does not fit below {limit}")
    return "\n".join(parts)


def main(arguments: Sequence[str]) -> None:
    """Write the file."""
    default = Path(__file__).resolve().parent.parent / "text" / "unicode_tables.cpp"
    output = Path(arguments[0]) if arguments else default
    output.write_text(render(Tables(Probe())), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
