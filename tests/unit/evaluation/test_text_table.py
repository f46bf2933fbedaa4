from __future__ import annotations

from routellm_fast.evaluation.text_table import TextTable


def test_markdown_keeps_names_in_their_cells():
    table = TextTable(("model", "USD"), (("a|b\nc", "1"), ("d", "")), frozenset({"model"}))
    assert table.markdown() == "| model | USD |\n|---|---:|\n| a\\|b c | 1 |\n| d |  |"
