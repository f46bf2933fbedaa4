from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from routellm_fast.augmentation import Mode, Template, judged_battles, parse_verdict, read_journal
from routellm_fast.augmentation.completion import most_input_tokens, parse_completion
from routellm_fast.augmentation.verdict import is_verdict
from routellm_fast.errors import DataError

MODES = st.sampled_from(list(Mode))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
# Pieces of which near misses are made.
PIECES = st.lists(
    st.sampled_from(
        ["VERDICT", "SCORE", ":", "A", "B", "TIE", "5", "6", "0", " ", "**", "`", "\n", "\r", ".", "Ａ", "tie"]
    ),
    max_size=12,
).map("".join)


@given(st.text() | PIECES, MODES, st.booleans())
@example("[" * 100_000, Mode.SCORE, True)
@example('{"score": ' + "9" * 10_000 + "}", Mode.SCORE, True)
def test_whatever_a_judge_writes_is_a_verdict_or_none(text: str, mode: Mode, as_json: bool) -> None:
    verdict = parse_verdict(text, mode, as_json=as_json)
    assert verdict is None or is_verdict(verdict, mode)


@given(st.text(), st.sampled_from(["A", "B", "TIE"]), st.sampled_from(["", "\n", " \n\n", "\r\n"]))
def test_a_fixed_last_line_is_read_whatever_stands_before(before: str, verdict: str, after: str) -> None:
    expected = {"A": "first", "B": "second", "TIE": "tie"}[verdict]
    assert parse_verdict(f"{before}\nVERDICT: {verdict}{after}", Mode.PAIRWISE) == expected


@given(st.text(alphabet=st.characters(codec="ascii", categories=["L", "N"]), min_size=1), st.integers(1, 5))
def test_anything_after_the_verdict_is_no_verdict(more: str, score: int) -> None:
    assert parse_verdict(f"SCORE: {score}\n{more}", Mode.SCORE) is None
    assert parse_verdict(f"SCORE: {score} {more}", Mode.SCORE) is None
    assert parse_verdict(f"{more} SCORE: {score}", Mode.SCORE) is None


def test_near_misses() -> None:
    for text in (
        "VERDICT: C",
        "VERDICT A",
        "VERDICT:",
        "A",
        "VERDICT: A.",
        "VERDICT: A or B",
        "VERDICT: \uff21",
        "",
        "\n",
    ):
        assert parse_verdict(text, Mode.PAIRWISE) is None, text
    for text in ("SCORE: 0", "SCORE: 6", "SCORE: 4.5", "SCORE: 45", "SCORE: -1", "SCORE: \u0665", "SCORE: 4/5"):
        assert parse_verdict(text, Mode.SCORE) is None, text
    for text in ("**VERDICT: A**", "`VERDICT: A`", "verdict: a", "VERDICT: **A**", "### VERDICT: A", "  VERDICT:A  "):
        assert parse_verdict(text, Mode.PAIRWISE) == "first", text
    for text in (
        '{"verdict": "C"}',
        '["A"]',
        '{"verdict": 1}',
        '{"verdict": "A", "verdict": "B"}',
        'so: {"verdict": "A"}',
    ):
        assert parse_verdict(text, Mode.PAIRWISE, as_json=True) is None, text
    for text in ('{"score": true}', '{"score": 4.0}', '{"score": "4"}', '{"score": 6}', '{"score": NaN}'):
        assert parse_verdict(text, Mode.SCORE, as_json=True) is None, text
    assert parse_verdict(' {"score": 4, "reason": "x"}\n', Mode.SCORE, as_json=True) == 4


@given(JSON | st.fixed_dictionaries({"choices": JSON, "usage": JSON}))
def test_whatever_a_server_answers_is_a_completion_or_none(answer: object) -> None:
    body = json.dumps(answer).encode()
    for content in (body, body[:-1], b"\xff" + body):
        parsed = parse_completion(content, most_input=7, most_output=3)
        assert parsed is None or (parsed.input_tokens >= 0 and parsed.output_tokens >= 0)


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just([]) | st.just({"a": 1})
FIELDS = (
    "key",
    "verdict",
    "text",
    "input_tokens",
    "cost_usd",
    "usd",
    "calls",
    "prompt",
    "id",
    "format_version",
    "mode",
    "judge",
)
KINDS = st.sampled_from(["settings", "judge", "contest", "judgement", "response", "loss", "failure", "hm"])
RECORDS = st.fixed_dictionaries({"record": KINDS | VALUES}, optional=dict.fromkeys(FIELDS, VALUES)).map(json.dumps)


@given(
    st.sampled_from([*(mode.value for mode in Mode), "answers"]),
    st.lists(RECORDS | st.text(max_size=20), max_size=4),
    st.integers(0, 40),
)
def test_whatever_stands_in_a_journal_is_read_or_named(mode: str, lines: list[str], cut: int) -> None:
    first = json.dumps({"record": "settings", "format_version": 1, "mode": mode, "judge": "j"})
    content = "\n".join([first, *lines, ""]).encode("utf-8", "replace")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "j")
        path.write_bytes(content[: len(content) - cut])
        try:
            judged_battles(read_journal(path))
        except DataError:
            return


@given(st.text(), st.text(), st.text(), st.none() | st.text(), st.booleans())
def test_texts_stand_in_a_question_as_they_are(
    prompt: str, a: str, b: str, reference: str | None, remind: bool
) -> None:
    messages = Template.shipped(Mode.PAIRWISE).messages(prompt, (a, b), reference, remind=remind)
    user = messages[-1]["content"]
    code = code_of(user)
    for tag, text in (("prompt", prompt), ("response_a", a), ("response_b", b), ("reference_answer", reference)):
        if text is not None:
            assert f"<{tag}-{code}>\n{text}\n</{tag}-{code}>" in user
    assert ("<reference_answer-" in user) >= (reference is not None)
    assert user.count(code) == 2 * (3 + (reference is not None))
    assert most_input_tokens(messages) >= len(user)


def code_of(user: str) -> str:
    found = re.search("<prompt-([0-9a-f]{16})>", user)
    assert found is not None
    return found[1]
