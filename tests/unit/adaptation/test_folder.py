from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from routellm_fast.adaptation.folder import RunFolder, RunSettings
from routellm_fast.errors import DataError
from tests.support.adapt_traffic import PAIR, labels_of, prompts

SETTINGS = RunSettings(*PAIR, 3, 0.4)
ODD = ["with \u2028 a line separator", "with\nline ends\r\n", 'with "quotes"', "\ud800 alone", "写一首诗 🍎", "\x00"]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.of_router(tmp_path / "my-router")


def test_it_lies_beside_the_router(tmp_path: Path, folder: RunFolder) -> None:
    assert folder.path == tmp_path / "my-router.adapt"
    assert folder.journal.parent == folder.path
    assert folder.read() is None


@pytest.mark.parametrize("has_costs", [False, True])
def test_what_is_written_is_read(folder: RunFolder, has_costs: bool) -> None:
    texts = [*prompts(20), *ODD]
    labels = replace(labels_of(texts), strong=np.linspace(0.0, 1.0, len(texts)) / 3.0)
    if has_costs:
        labels = replace(labels, costs_usd=np.linspace(0.0, 1e-7, 2 * len(texts)).reshape(-1, 2))
    sides = np.arange(len(texts)) % 3 == 0
    folder.write(SETTINGS, labels, sides)
    kept = folder.read()
    assert kept is not None
    assert (kept.settings, kept.settings.pair) == (SETTINGS, PAIR)
    assert (kept.labels.prompts, kept.labels.groups) == (labels.prompts, labels.groups)
    np.testing.assert_array_equal(kept.labels.strong, labels.strong)
    np.testing.assert_array_equal(kept.labels.weak, labels.weak)
    np.testing.assert_array_equal(kept.is_untouched, sides)
    assert (kept.labels.costs_usd is None) is not has_costs
    if has_costs:
        np.testing.assert_array_equal(kept.labels.costs_usd, labels.costs_usd)
    assert kept.sides == dict(zip(texts, sides.tolist(), strict=True))


def test_a_later_run_replaces_labels(folder: RunFolder) -> None:
    for count in (30, 10):
        folder.write(SETTINGS, labels_of(prompts(count)), np.zeros(count, dtype=np.bool_))
    kept = folder.read()
    assert kept is not None
    assert len(kept.labels) == 10


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("run.json", '"format_version": 1', '"format_version": 2', "format version 2"),
        ("run.json", '"seed": 3', '"seed": "3"', "seed"),
        ("run.json", "{", "", "run.json"),
        ("run.json", '"seed": 3', '"seeds": 3', "seeds"),
        ("labels.jsonl", '"untouched": false', '"untouched": 0', "labels.jsonl, line 1"),
        ("labels.jsonl", '"strong": 1.0', '"strong": 7', "scores"),
        ("labels.jsonl", '"strong": 1.0', '"strong": null', "labels.jsonl, line 1"),
        ("labels.jsonl", '"prompt"', '"text"', "labels.jsonl, line 1"),
    ],
)
def test_damage_is_named(folder: RunFolder, file: str, old: str, new: str, words: str) -> None:
    folder.write(SETTINGS, labels_of(prompts(3)), np.zeros(3, dtype=np.bool_))
    path = folder.path / file
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=words):
        folder.read()


def test_labels_that_are_gone_are_named(folder: RunFolder) -> None:
    folder.write(SETTINGS, labels_of(prompts(3)), np.zeros(3, dtype=np.bool_))
    (folder.path / "labels.jsonl").unlink()
    with pytest.raises(DataError, match="labels.jsonl"):
        folder.read()


def test_settings_in_words_name_all_of_them() -> None:
    text = str(SETTINGS)
    assert all(str(value) in text for value in (*PAIR, 3, 0.4))
    assert json.loads(json.dumps(text)) == text
