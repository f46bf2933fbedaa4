from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routellm_fast.adaptation.redaction import (
    BUILT_IN,
    Redaction,
    passes_luhn,
    passes_mod_97,
    read_rules,
    redaction_of,
)
from routellm_fast.errors import DataError, InvalidArgumentError

ALL = redaction_of(["all"])


def redacted(text: str, rule: str = "all") -> str:
    return redaction_of([rule]).redacted(text)


@pytest.mark.parametrize(
    ("rule", "text", "expected"),
    [
        ("email", "Write to ann.lee+x@mail.example.co.uk, please.", "Write to [email], please."),
        ("email", "<a@b.de> and müller@bücher.example", "<[email]> and [email]"),
        ("email", "a@b, @home, x@ y", "a@b, @home, x@ y"),
        ("ipv4", "from 10.0.0.1 to 255.255.255.255.", "from [ipv4] to [ipv4]."),
        ("ipv4", "256.1.1.1, 1.2.3, 1.2.3.4.5, v1.2.3.4", "256.1.1.1, 1.2.3, 1.2.3.4.5, v1.2.3.4"),
        ("card", "4111 1111 1111 1111", "[card]"),
        ("card", "card 4111-1111-1111-1111 12/27", "card [card] 12/27"),
        ("card", "pay 12 4111 1111 1111 1111 99", "pay 12 [card] 99"),
        ("card", "378282246310005 and 6011111111111117", "[card] and [card]"),
        ("card", "4111 1111 1111 1112", "4111 1111 1111 1112"),  # the check digit is wrong
        ("card", "41111111111111110000000000", "41111111111111110000000000"),  # no card is so long
        ("iban", "GB82 WEST 1234 5698 7654 32 is mine", "[iban] is mine"),
        ("iban", "DE89370400440532013000.", "[iban]."),
        ("iban", "gb82west12345698765432", "[iban]"),
        ("iban", "GB82 WEST 1234 5698 7654 33", "GB82 WEST 1234 5698 7654 33"),
        ("iban", "XX00 to GB82 WEST 1234 5698 7654 32", "XX00 to [iban]"),
        ("phone", "call +1 (212) 555-0123 or +44 20 7946 0958", "call [phone] or [phone]"),
        ("phone", "call 212-555-0123, (415) 555-2671", "call [phone], [phone]"),
        ("phone", "Tel. 030 / 1234567", "Tel. [phone]"),
        (
            "phone",
            "2024-10-21, 1,234,567, 12:30, 3.14159, 05-06-2024",
            "2024-10-21, 1,234,567, 12:30, 3.14159, 05-06-2024",
        ),
        ("key", "sk-proj-abc123DEF456ghi789 is it", "[key] is it"),
        ("key", "sk-learn-contrib-of-many-people", "sk-learn-contrib-of-many-people"),
        ("key", "ghp_0123456789abcdefghijABCDEFGHIJ012345", "[key]"),
        ("key", "AKIAIOSFODNN7EXAMPLE", "[key]"),
        ("key", "password: hunter22 and API_KEY='abcdef123'", "password: [key] and API_KEY='[key]'"),
        ("key", "Authorization: Bearer abcdef", "Authorization: Bearer [key]"),
        ("key", "the bearer instruments", "the bearer instruments"),
        ("key", "max_tokens: 100000, token: many words", "max_tokens: 100000, token: many words"),
        ("key", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-DEF_123", "[key]"),
        (
            "key",
            "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\nxyz\n-----END RSA PRIVATE KEY-----\nb",
            "a\n[key]\nb",
        ),
        ("key", "-----BEGIN PRIVATE KEY-----\ncut off", "[key]"),
        ("key", "password: sk-abcdefgh12345678ijkl;x", "password: [key];x"),
        ("key", "password: [key]", "password: [key]"),
    ],
)
def test_built_in_rules(rule: str, text: str, expected: str) -> None:
    assert redacted(text, rule) == expected


def test_all_rules_together_and_their_counts() -> None:
    counts: Counter[str] = Counter()
    text = "a@b.de a@b.de 4111 1111 1111 1111 at 10.0.0.1, +1 212 555 0123, DE89 3704 0044 0532 0130 00"
    assert ALL.redacted(text, counts) == "[email] [email] [card] at [ipv4], [phone], [iban]"
    assert counts == {"email": 2, "card": 1, "ipv4": 1, "phone": 1, "iban": 1}
    assert [rule.name for rule in ALL.rules] == list(BUILT_IN)


@given(st.text(max_size=300))
def test_places_stand_in_order_and_the_rest_of_the_text_stays(text: str) -> None:
    for rule in ALL.rules:
        spans = list(rule.find(text))
        ends = [place for span in spans for place in span]
        assert all(low <= high for low, high in itertools.pairwise([0, *ends, len(text)]))
        kept = "".join(text[low:high] for low, high in zip([0, *ends[1::2]], [*ends[::2], len(text)], strict=True))
        applied, count = rule.applied(text)
        assert (len(applied), count) == (len(kept) + count * len(rule.replacement), len(spans))
    assert Redaction().redacted(text) == text


@given(
    st.text(alphabet=" .,;:!?\nabc", max_size=40),
    st.sampled_from(
        ["ann@mail.example", "4111 1111 1111 1111", "10.1.2.3", "DE89370400440532013000", "+1 212 555 0123"]
    ),
    st.text(alphabet=" .,;:!?\nabc", max_size=40),
)
def test_no_secret_survives_what_stands_around_it(before: str, secret: str, after: str) -> None:
    assert secret not in ALL.redacted(f"{before} {secret} {after}")


@given(st.text(alphabet="0123456789", min_size=12, max_size=18))
def test_check_digits_of_cards(digits: str) -> None:
    valid = [last for last in "0123456789" if passes_luhn(digits + last)]
    assert len(valid) == 1
    assert "[card]" in redacted(f"x {digits}{valid[0]} y", "card")


@given(st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=11, max_size=30))
def test_check_digits_of_account_numbers(account: str) -> None:
    valid = [f"DE{check:02}{account}" for check in range(2, 99) if passes_mod_97(f"DE{check:02}{account}")]
    assert len(valid) == 1
    grouped = " ".join(valid[0][place : place + 4] for place in range(0, len(valid[0]), 4))
    for text in (valid[0], grouped):
        assert redacted(f"it is {text}.", "iban").startswith("it is [iban]")


@pytest.mark.parametrize(
    "text",
    [
        "a" * 300_000,
        "a." * 150_000,
        "a@" * 100_000,
        "1" * 300_000,
        "1 " * 30_000,
        "1-" * 30_000,
        "+1 " * 100_000,
        "GB82 " * 50_000,
        "AB12CD34 " * 30_000,
        "eyJ" * 100_000,
        "-----BEGIN PRIVATE KEY-----" * 10_000,
        "password:" * 30_000,
        "sk-" * 100_000,
        "1.1." * 80_000,
        "(0" * 100_000,
    ],
)
def test_long_texts_take_time_in_proportion(text: str) -> None:
    ALL.redacted(text)


# --- rules of the user's own


def test_rules_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "rules.txt"
    path.write_text("# ours\n\nproject \\w+\t[project]\n[Aa]nn\t\\1 as it stands\n\\bCUST-[0-9]+\\b\t\r\n")
    counts: Counter[str] = Counter()
    found = redaction_of([str(path), "email"])
    text = "Ann of project Zeus, CUST-12, a@b.de"
    assert found.redacted(text, counts) == "\\1 as it stands of [project], , [email]"
    assert counts == {"email": 1, "rules.txt, line 3": 1, "rules.txt, line 4": 1, "rules.txt, line 5": 1}


def test_rules_as_json(tmp_path: Path) -> None:
    path = tmp_path / "rules.jsonl"
    rules = [{"pattern": "a\tb", "replacement": "X"}, {"name": "names", "pattern": "Ann|Bob", "replacement": "[name]"}]
    path.write_text("".join(json.dumps(rule) + "\n" for rule in rules))
    counts: Counter[str] = Counter()
    assert redaction_of([str(path)]).redacted("a\tb Ann Bob", counts) == "X [name] [name]"
    assert counts == {"rules.jsonl, line 1": 1, "names": 2}


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("r.txt", "# only\n", "holds no rule of redaction"),
        ("r.txt", "ok\tx\nno tab\n", "r.txt, line 2: no rule of redaction: expected a regular expression, a tab"),
        ("r.txt", "(\tx\n", "line 1: no rule of redaction: missing"),
        ("r.txt", "a*\tx\n", "line 1: .*'a\\*' is found in an empty text"),
        ("r.txt", "\tx\n", "line 1: .*is found in an empty text"),
        ("r.jsonl", "[]\n", "line 1: .*expected an object with pattern"),
        ("r.jsonl", '{"pattern": "a"}\n', "line 1: .*expected an object with pattern"),
        ("r.jsonl", '{"pattern": "a", "replacement": 3}\n', "line 1: .*are texts"),
        ("r.jsonl", '{"pattern": "a", "replacement": "b", "flags": "i"}\n', "line 1: .*expected an object"),
        ("r.jsonl", '{"pattern": "a", \n', "line 1: no rule"),
    ],
)
def test_what_is_no_rule_is_named_with_its_line(tmp_path: Path, name: str, content: str, match: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=match):
        read_rules(tmp_path / name)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_bytes(b"\xff\xfea\0")
    for path in (tmp_path / "r.txt", tmp_path):
        with pytest.raises(DataError, match="cannot be read as text in UTF-8"):
            redaction_of([str(path)])


def test_what_is_neither_a_rule_nor_a_file_is_refused_with_a_list() -> None:
    with pytest.raises(
        InvalidArgumentError, match="'names' is no rule of redaction and no file: expected all, key, email"
    ):
        redaction_of(["names"])


def test_a_pattern_without_width_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("(?=a)\tX\nb\tY\n")
    assert redaction_of([str(tmp_path / "r.txt")]).redacted("abc") == "aYc"
