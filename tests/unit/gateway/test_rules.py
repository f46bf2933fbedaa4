from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from routellm_fast.errors import DataError
from routellm_fast.gateway.exchange import Asked, Traits
from routellm_fast.gateway.rules import Rules
from routellm_fast.gateway.settings import RuleSettings
from routellm_fast.gateway.settings_file import settings_of


def asked(text: str = "hello there", **changes: Any) -> Asked:
    traits = Traits(**{name: changes.pop(name) for name in list(changes) if name in Traits._fields})
    return Asked("router-mf", text, traits, {"x-team": "search-eu"}, "alice", "", False)._replace(**changes)


def rules(*conditions: dict[str, Any]) -> Rules:
    return Rules([RuleSettings(name=f"r{i}", when=when, use="strong") for i, when in enumerate(conditions)])  # type: ignore[arg-type]


def holds(when: dict[str, Any], request: Asked) -> bool:
    return rules(when).first(request) is not None


@pytest.mark.parametrize(
    ("when", "yes", "no"),
    [
        ({"model": "router-*"}, asked(), asked(model="cheap")),
        ({"client": "alice"}, asked(), asked(client="bob")),
        ({"client": "alice"}, asked(), asked(client="")),
        ({"header": {"X-Team": "search-*"}}, asked(), asked(headers={"x-team": "ads"})),
        ({"header": {"X-Team": "*"}}, asked(), asked(headers={})),
        ({"tools": True}, asked(has_tools=True), asked()),
        ({"tools": False}, asked(), asked(has_tools=True)),
        ({"image": True}, asked(has_image=True), asked(has_audio=True)),
        ({"audio": True}, asked(has_audio=True), asked(has_image=True)),
        ({"min_chars": 11}, asked(), asked("hello")),
        ({"max_chars": 11}, asked(), asked("hello there!")),
        ({"max_chars": 0}, asked(""), asked("x")),
        ({"min_turns": 3}, asked(turns=3), asked(turns=2)),
        ({"regex": r"(?i)\bthere$"}, asked("Hello There"), asked("there it is")),
        ({"language": ["fr", "de"]}, asked("Was ist die Hauptstadt von Frankreich?"), asked("What is this good for?")),
        ({"language": ["de"]}, asked("Was ist die Hauptstadt von Frankreich?"), asked("Hallo")),
    ],
)
def test_each_condition(when: dict[str, Any], yes: Asked, no: Asked) -> None:
    assert holds(when, yes)
    assert not holds(when, no)


def test_all_conditions_must_hold() -> None:
    when = {"client": "alice", "tools": True, "min_chars": 5}
    assert holds(when, asked(has_tools=True))
    assert not holds(when, asked(has_tools=True, client="bob"))
    assert not holds(when, asked(has_tools=False))
    assert not holds(when, asked("abc", has_tools=True))


def test_the_first_rule_that_holds_decides() -> None:
    found = rules({"tools": True}, {"min_chars": 5}, {"min_chars": 1})
    assert found.first(asked(has_tools=True)).name == "r0"  # type: ignore[union-attr]
    assert found.first(asked()).name == "r1"  # type: ignore[union-attr]
    assert found.first(asked("abc")).name == "r2"  # type: ignore[union-attr]
    assert found.first(asked("")) is None
    assert rules().first(asked()) is None


def test_a_regular_expression_reads_the_first_ten_thousand_characters() -> None:
    assert holds({"regex": "end"}, asked("x" * 9_997 + "end"))
    assert not holds({"regex": "end"}, asked("x" * 9_998 + "end"))


def test_blanks_of_a_regular_expression_count() -> None:
    assert holds({"regex": " ok "}, asked("is it ok now"))
    assert not holds({"regex": " ok "}, asked("ok"))


def test_no_language_library_is_loaded_where_no_rule_asks_for_a_language() -> None:
    code = (
        "import sys; from routellm_fast.gateway.rules import Rules; from routellm_fast.gateway.settings import *; "
        "Rules([RuleSettings(name='a', when=Condition(regex='x'), use='strong')]); print('py3langid' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


FILE = """\
upstreams: {{a: {{base_url: "http://localhost:1/v1"}}}}
models: {{s: {{upstream: a}}, w: {{upstream: a}}}}
routers: {{mf: {{strong: s, weak: w}}}}
rules:
  - name: first
    when: {{tools: true}}
    use: strong
  - name: second
    when:
      min_turns: 2
      {condition}
    use: weak
"""


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ('regex: "(a"', r"line 11: rules.1.when.regex: no regular expression that RE2 takes: missing \)"),
        ('regex: "(?!a)b"', r"line 11: rules.1.when.regex: .*look-around"),
        (
            "language: [de, xx]",
            r"line 11: rules.1.when.language: no language that can be told apart: xx\. There are: .*en",
        ),
        ("language: [English]", r"line 11: rules.1.when.language: .*English"),
        ("min_chars: 5\n      max_chars: 4", "line 9: rules.1.when: no text has 5 characters or more and 4 or fewer"),
    ],
)
def test_what_no_rule_can_be_is_refused_with_its_line(condition: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        settings_of(FILE.format(condition=condition), "gateway.yaml")


@pytest.mark.parametrize("when", ["{}", "{header: {}}", "{tools: null}", "{language: []}"])
def test_a_rule_that_asks_nothing_is_refused(when: str) -> None:
    text = FILE.format(condition="max_turns_is_no_key: 1").split("  - name: second")[0].replace("{tools: true}", when)
    with pytest.raises(DataError, match=r"rules.0.when.*give at least one condition: model, client"):
        settings_of(text, "gateway.yaml")
