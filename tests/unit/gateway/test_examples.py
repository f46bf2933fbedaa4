"""The settings that examples and documents show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from routellm_fast.gateway.settings import Settings
from routellm_fast.gateway.settings_file import read_settings, settings_of

REPOSITORY = Path(__file__).resolve().parents[3]
PAGE = (REPOSITORY / "docs" / "gateway.md").read_text("utf-8")


def test_the_example_is_read():
    assert read_settings(REPOSITORY / "examples" / "gateway.yaml").routers["mf"].strong == "large"


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
def test_what_the_document_shows_is_read(text):
    settings_of(text, "docs/gateway.md")


def test_the_rules_that_the_document_shows_are_read():
    (whole,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (rules,) = re.findall(r"```\n(rules:\n.*?)```", PAGE, re.DOTALL)
    assert len(settings_of(whole + rules, "docs/gateway.md").rules) == len(yaml.safe_load(rules)["rules"])


def test_the_document_names_every_section():
    table = PAGE.partition("| Section |")[2].partition("\n\n")[0]
    named = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    assert set(Settings.model_fields) == named
