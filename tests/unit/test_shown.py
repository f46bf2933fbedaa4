from __future__ import annotations

import json
import sys
import unicodedata

import pytest

from routellm_fast.evaluation.text_table import TextTable
from routellm_fast.shown import as_json, in_code, in_markdown, shown
from tests.support.hostile import HOSTILE_WITH_SLASH, unsafe_characters

EVERY_CHARACTER = "".join(map(chr, range(sys.maxunicode + 1)))


def test_no_character_that_acts_or_hides_is_shown() -> None:
    line = shown(EVERY_CHARACTER)
    assert line.isprintable()
    assert not {unicodedata.category(character) for character in line} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_text_that_prints_is_shown_as_it_is() -> None:
    for text in ("", "gpt-4", "café 漢字 \N{GRINNING FACE}", "[bold] :smile: \\x1b <b>"):
        assert shown(text) is text
    assert shown("a\x1b[2J\n\u202e\udcff") == r"a\x1b[2J\n\u202e\udcff"


@pytest.mark.parametrize("indent", [None, 2])
def test_json_is_safe_to_print_and_loses_nothing(indent: int | None) -> None:
    text = EVERY_CHARACTER.translate(dict.fromkeys(range(0xD800, 0xE000)))
    record = {text: [text]}
    line = as_json(record, indent=indent)
    assert json.loads(line) == record
    assert not unsafe_characters(line)
    assert "漢" in line
    assert json.loads(as_json("\ud800")) == "?"


def test_markdown_shows_names_as_they_are() -> None:
    assert in_markdown("sw_ranking 0.5 [0.4, 0.6] a & b") == "sw_ranking 0.5 [0.4, 0.6] a & b"
    assert in_markdown("<b>|`*_x_ ![a](b) &lt; # \\") == r"&lt;b>\|\`\*\_x\_ ![a\](b) &amp;lt; # \\"
    assert in_markdown("# a\n> b") == r"\# a > b"
    assert in_code("a`b``c\n<i>") == "``` a`b``c <i> ```"
    assert in_code("gpt-4") == "`gpt-4`"


def test_a_cell_of_a_table_stays_one_cell() -> None:
    table = TextTable(("name", "x"), ((HOSTILE_WITH_SLASH, "1"),)).markdown().splitlines()
    assert len(table) == 3
    assert table[2].replace("\\|", "").count("|") == 3
    assert "<script>" not in table[2]
