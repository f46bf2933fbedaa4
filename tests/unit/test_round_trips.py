"""Whatever this package writes, its own readers read; or they say by name what the file is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from routellm_fast import DataError, ModelPair, data
from routellm_fast.augmentation import BattleRow, forbidden_groups, read_contests, write_battles
from routellm_fast.cli import main
from routellm_fast.cli._prompts import PromptFormat, read_prompts
from routellm_fast.data.split import group_of
from routellm_fast.evaluation import read_table_benchmark, training_groups
from routellm_fast.evaluation.streaming import LogColumns, evaluate_log, score_log
from routellm_fast.tables import read_table
from tests.support.builders import mf_router

PROMPTS = ["plain", "two\nlines", "a\rb", "a\r\nb", 'say "hi"; or\tnot, as you like', "[1, 2]", '{"a": 1}', "\u2028 é"]
SUFFIXES = [".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".CSV", ".JSONL.GZ"]
PAIR = ModelPair("big; the 2nd", "small")


@pytest.fixture(params=SUFFIXES)
def battles(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    rows = [
        BattleRow(prompt, f"g{number}", *PAIR, "tie" if number % 3 else "model_a", "s", 0.5, "judge", bool(number % 2))
        for number, prompt in enumerate(PROMPTS)
    ]
    path = tmp_path / f"battles{request.param}"
    write_battles(path, rows)
    return path


def test_battles_are_read_by_all_readers_of_battles_and_prompts(battles: Path) -> None:
    readers: dict[str, Callable[[], list[str]]] = {
        "read_battles": lambda: [b.prompt for b in data.read_battles(battles, drop_ties=False)],
        "read_prompts": lambda: [p.text for p in read_prompts([], battles, PromptFormat.AUTO)],
        "read_table": lambda: [row.text("prompt") for row in read_table(battles)],
    }
    for name, read in readers.items():
        assert read() == PROMPTS, name
    groups = {group_of(prompt) for prompt in PROMPTS}
    assert training_groups([battles]) == groups
    assert data.evaluation_groups([battles]) == groups
    assert forbidden_groups([battles]) == groups | {f"g{number}" for number in range(len(PROMPTS))}


def test_battles_say_that_they_are_no_golden_labels_and_no_responses(battles: Path) -> None:
    with pytest.raises(DataError, match="this is a battle"):
        data.read_golden(battles)
    with pytest.raises(DataError, match="there is no column 'response_a'"):
        read_contests(battles)


@pytest.fixture(params=[*SUFFIXES, ".parquet", ".PARQUET"])
def scored(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if "parquet" in request.param.lower():
        pytest.importorskip("pyarrow")
    log = tmp_path / "log.jsonl"
    rows = [{"prompt": text, PAIR.strong: True, PAIR.weak: number / 8} for number, text in enumerate(PROMPTS)]
    rows.append({"prompt": "not run", PAIR.strong: None, PAIR.weak: False})
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / f"scored{request.param}"
    score_log(mf_router(), log, path, keep=["prompt", *PAIR])
    return path


def test_a_scored_log_is_read_by_all_readers_of_scores_and_prompts(scored: Path) -> None:
    labelled = data.read_golden(scored)
    assert [row.prompt for row in labelled] == [*PROMPTS, "not run"]
    assert [dict(row.scores) for row in labelled] == [
        *({PAIR.strong: 1.0, PAIR.weak: number / 8} for number in range(len(PROMPTS))),
        {PAIR.weak: 0.0},
    ]
    benchmark = read_table_benchmark(scored, PAIR)
    assert (benchmark.prompts, benchmark.unscored) == (tuple(PROMPTS), 1)
    assert [p.text for p in read_prompts([], scored, PromptFormat.AUTO)] == [*PROMPTS, "not run"]
    found = evaluate_log({"r": mf_router()}, [scored], LogColumns(*PAIR), on_bad_row="skip")
    assert found.result("log").prompts == len(PROMPTS)


def test_chats_stay_chats_in_a_scored_log(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hello"}]
    log, out = tmp_path / "log.jsonl", tmp_path / "scored.csv"
    log.write_text(json.dumps({"prompt": chat, "big": 1, "small": 0}) + "\n" + json.dumps({"messages": chat}) + "\n")
    router = mf_router()
    assert score_log(router, log, out, on_bad_row="skip") == (1, 1), "the second row has no column to keep"
    (row,) = read_table(out)
    assert float(row.text("win_rate")) == router.win_rates(["hello"])[0]
    assert [p.text for p in read_prompts([], out, PromptFormat.AUTO)] == ["hello"]
    found = evaluate_log({"r": router}, [log], LogColumns("big", "small"), on_bad_row="skip")
    assert found.result("log").prompts == 1


@pytest.mark.parametrize("command", ["route", "rank"])
def test_decisions_are_read_as_prompts(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": p, "id": p[:3]}) + "\n" for p in PROMPTS))
    mf_router().save(tmp_path / "router")
    options = ["--models", "strong-model=2", "--models", "weak-model=1", "--tau", "0.6"] if command == "rank" else []
    arguments = [command, "--router", str(tmp_path / "router"), "--file", str(tmp_path / "prompts.jsonl"), "--jsonl"]
    assert main([*arguments, *options]) == 0
    out = tmp_path / "decisions.jsonl"
    out.write_text(capsys.readouterr().out, encoding="utf-8")
    assert [(p.text, p.id) for p in read_prompts([], out, PromptFormat.AUTO)] == [(p, p[:3]) for p in PROMPTS]
    assert {group_of(p) for p in PROMPTS} == data.evaluation_groups([out])
