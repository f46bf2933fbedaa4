"""Golden labels and battles as other programs write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from routellm_fast import DataError, UnknownModelError, data
from routellm_fast.data.counts import UNREADABLE
from routellm_fast.data.score_columns import is_known
from routellm_fast.tables import LeftOut

ISSUE = ",prompt,big,small\n0,hi,1,0\n1,ho,0,1\n2,hu,1,0\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def lines(path: Path, *rows: dict[str, object]) -> Path:
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


# --- columns that are no models


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        ("", "0 1 2"),
        ("Unnamed: 0", "0 1 2"),
        ("index", "0 1 2"),
        ("__index_level_0__", "0 1 2"),
        ("id", "a7 b8 c9"),
        ("conversation_id", "71 72 73"),
        ("prompt_tokens", "12 700 31"),
        ("completion_tokens", "12 700 31"),
        ("n_chars", "12 700 31"),
        ("date", "2026-01-01 2026-01-02 2026-01-03"),
        ("Created At", "2026-01-01 2026-01-02 2026-01-03"),
        ("timestamp", "1767225600 1767225601 1767225602"),
        ("latency_ms", "120 88 97"),
        ("big_latency", "0.4 0.5 0.2"),
        ("cost", "0.1 0.2 0.3"),
        ("big_cost_usd", "0.1 0.2 0.3"),
        ("price", "1 2 3"),
        ("big_response", "yes no maybe"),
        ("language", "en de fr"),
        ("win_rate", "0.51 0.62 0.7"),
    ],
)
def test_known_columns_are_no_models_and_are_named(tmp_path: Path, column: str, cells: str) -> None:
    table = [f"{cell},p{row},1,{row % 2}" for row, cell in enumerate(cells.split())]
    path = write(tmp_path / "g.csv", "\n".join([f"{column},prompt,big,small", *table]) + "\n")
    left_out = LeftOut()
    labelled = data.read_golden(path, left_out=left_out)
    assert [sorted(row.scores) for row in labelled] == [["big", "small"]] * 3
    assert left_out.columns == {path: (column or "Unnamed: 0",)}
    assert left_out.rows == 0
    assert [sorted(row.scores) for row in data.read_golden(path)] == [["big", "small"]] * 3


def test_no_model_of_this_project_has_a_known_column_s_name(shared_data: Path) -> None:
    names = {name for pair in data.known_aliases().items() for name in pair}
    assert {name for name in names if is_known(name)} == set()
    for path in sorted((shared_data / "train").glob("golden_*.csv.gz")) + sorted((shared_data / "traffic").glob("*")):
        left_out = LeftOut()
        labelled = data.read_golden(path, left_out=left_out)
        assert (left_out.columns, left_out.rows) == ({}, 0), path
        assert labelled


def test_the_issue_s_table_makes_three_battles(tmp_path: Path) -> None:
    labelled = data.read_golden(write(tmp_path / "g.csv", ISSUE))
    assert [(b.model_a, b.model_b, b.target) for b in data.pairs(labelled)] == [
        ("big", "small", 1.0),
        ("big", "small", 0.0),
        ("big", "small", 1.0),
    ]


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([640, 712, 80], r"'other' reaches 712 and '(big|small)' only 1, so one of them is no model"),
        ([0.0003, 0.0021] * 5, r"'big' reaches 1 and 'other' only 0.0021"),
        (list(range(1, 12)), "'other' counts the rows, from 1 to 11"),
    ],
)
def test_numbers_that_are_no_scores_of_one_scale_are_refused(tmp_path: Path, cells: list[float], words: str) -> None:
    table = [f"p{row},1,{row % 2},{cell}" for row, cell in enumerate(cells)]
    path = write(tmp_path / "g.csv", "\n".join(["prompt,big,small,other", *table]) + "\n")
    with pytest.raises(DataError, match=f"g.csv: {words}.*--models"):
        data.read_golden(path, left_out=LeftOut())
    assert {tuple(row.scores) for row in data.read_golden(path, models=["big", "small"])} == {("big", "small")}


def test_scores_of_one_scale_are_never_refused(tmp_path: Path) -> None:
    """Marks that a weak model never gets, per cents of which it has none, and right or wrong beside marks elsewhere."""
    for name, table in {
        "marks": "p,10,1\nq,9,1\nr,10,1\n",
        "percent": "p,100,0\nq,100,0\nr,87.5,0\n",
        "f1": "p,0.9,0.03\nq,1,0.01\n",
        "logprob": "p,-300,-20\nq,-280,-250\n",
    }.items():
        assert len(data.read_golden(write(tmp_path / f"{name}.csv", f"prompt,big,small\n{table}"))) == 3 - (
            name in ("f1", "logprob")
        )
    path = write(tmp_path / "two.csv", "prompt,source,big,small\np,exam,1,0\nq,judge,100,80\n")
    assert len(data.read_golden(path)) == 2


def test_models_are_chosen_by_any_of_their_names(tmp_path: Path) -> None:
    path = write(tmp_path / "g.csv", "prompt,mixtral-8x7b-instruct-v0.1,id,notes\np,1,0,good\n")
    name = "mistralai/Mixtral-8x7B-Instruct-v0.1"
    assert data.read_golden(path, models=["mistralai/mixtral-8x7b-chat", "id"])[0].scores == {name: 1.0, "id": 0.0}
    counts = data.Counts()
    with pytest.raises(UnknownModelError, match=f"g.csv has no scores of 'gpt', only of: {name}"):
        data.read_golden(path, models=["gpt"], counts=counts)
    assert counts.models == {name}


def test_a_table_of_known_columns_only_and_a_file_of_battles_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column with scores of a model, only 'id', which are not taken for models"):
        data.read_golden(write(tmp_path / "g.csv", "prompt,id\np,1\n"))
    battles = write(tmp_path / "b.csv", "prompt,model_a,model_b,winner\np,x,y,model_a\n")
    with pytest.raises(DataError, match="this is a battle .* expected golden labels"):
        data.read_golden(battles, left_out=LeftOut())


# --- prompts


def prompts_of(path: Path) -> list[str]:
    return [battle.prompt for battle in data.read_battles(path, drop_ties=False)]


BATTLE = {"model_a": "x", "model_b": "y", "winner": "model_a"}
ARENA = {"model_a": "x", "model_b": "y", "winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0}
SYSTEM = {"role": "system", "content": "You are helpful."}
USER = {
    "role": "user",
    "content": [{"type": "text", "text": "Why"}, {"type": "image_url"}, {"type": "text", "text": "?"}],
}
ANSWER = {"role": "assistant", "content": "Because."}


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({**BATTLE, "conversation_a": [USER, ANSWER]}, "Why\n?"),
        ({**BATTLE, "conversation_a": [SYSTEM, USER, ANSWER]}, "Why\n?"),
        ({**BATTLE, "conversation_a": json.dumps([SYSTEM, USER, ANSWER])}, "Why\n?"),
        ({**BATTLE, "conversation_a": [{"role": "user", "content": None}, USER]}, "Why\n?"),
        ({**BATTLE, "conversation_a": [USER, ANSWER, {"role": "user", "content": "And then?"}]}, "Why\n?"),
        ({**BATTLE, "prompt": [SYSTEM, USER]}, "Why\n?"),
        ({**BATTLE, "prompt": json.dumps([SYSTEM, USER])}, "Why\n?"),
        ({**BATTLE, "prompt": ["first", "second"]}, "first"),
        ({**BATTLE, "prompt": [{"type": "text", "text": "parts"}]}, "parts"),
        ({**BATTLE, "prompt": '["a", "b"]'}, '["a", "b"]'),
        ({**BATTLE, "prompt": "[1, 2] sorted?"}, "[1, 2] sorted?"),
        ({**BATTLE, "messages": [SYSTEM, USER]}, "Why\n?"),
        ({**BATTLE, "prompt": None, "messages": [USER]}, "Why\n?"),
        ({**ARENA, "prompt": "plain text"}, "plain text"),
        ({**ARENA, "prompt": "[1, 2]"}, "[1, 2]"),
        ({**ARENA, "prompt": json.dumps(["first", "second"])}, "first"),
        ({**ARENA, "prompt": json.dumps([None, " second "])}, "second"),
        ({**ARENA, "prompt": [None, "second"]}, "second"),
        ({**ARENA, "prompt": json.dumps([SYSTEM, USER])}, "Why\n?"),
    ],
)
def test_layouts_of_a_prompt(tmp_path: Path, row: dict[str, Any], prompt: str) -> None:
    assert prompts_of(lines(tmp_path / "b.jsonl", row)) == [prompt]


def test_plain_prompts_beside_winner_columns_in_csv(tmp_path: Path) -> None:
    path = write(
        tmp_path / "b.csv",
        "prompt,model_a,model_b,winner_model_a,winner_model_b,winner_tie\n"
        "one,x,y,TRUE,FALSE,FALSE\ntwo,x,y,0,1,0\nthree,x,y,no,no,yes\n",
    )
    assert [(b.prompt, b.target) for b in data.read_battles(path, drop_ties=False)] == [
        ("one", 1.0),
        ("two", 0.0),
        ("three", 0.5),
    ]


@pytest.mark.parametrize("flags", [(1, 1, 0), (0, 0, 0), (1, 0, 1), (1, 1, None)])
def test_winner_columns_that_contradict_one_another_are_refused(tmp_path: Path, flags: tuple[int | None, ...]) -> None:
    row = {**ARENA, **dict(zip(("winner_model_a", "winner_model_b", "winner_tie"), flags, strict=True)), "prompt": "p"}
    with pytest.raises(DataError, match=r"line 1: one of winner_model_a, winner_model_b and winner_tie must be 1"):
        data.read_battles(lines(tmp_path / "b.jsonl", row))


def test_a_conversation_without_words_of_the_user_is_not_read(tmp_path: Path) -> None:
    for conversation in ([SYSTEM], [SYSTEM, ANSWER], [{"role": "user", "content": [{"type": "image_url"}]}]):
        with pytest.raises(DataError, match="line 1: 'conversation_a' must be a list of messages"):
            data.read_battles(lines(tmp_path / "b.jsonl", {**BATTLE, "conversation_a": conversation}))


def test_empty_prompts_are_left_out_and_counted(tmp_path: Path) -> None:
    counts = data.Counts()
    path = write(tmp_path / "b.csv", 'prompt,model_a,model_b,winner\n" ",x,y,model_a\nhi,x,y,model_a\n')
    assert len(data.read_battles(path, counts=counts)) == 1
    assert counts.left_out == {"on an empty prompt": 1}
    counts = data.Counts()
    path = write(tmp_path / "g.csv", "prompt,x,y\n,1,0\nhi,1,0\n")
    assert len(data.read_golden(path, counts=counts)) == 1
    assert counts.left_out == {"on an empty prompt": 1}


def test_ids_may_be_numbers(tmp_path: Path) -> None:
    ids = lines(tmp_path / "p.jsonl", {"prompt_id": 7, "prompt": "seven"}, {"prompt_id": 8.0, "prompt": "eight"})
    path = write(tmp_path / "b.csv", "prompt_id,model_a,model_b,winner\n7,x,y,model_a\n8,x,y,model_b\n")
    assert [b.prompt for b in data.read_battles(path, prompts=data.read_prompts(ids))] == ["seven", "eight"]


def test_evaluation_sets_have_all_layouts_of_a_prompt(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "e.jsonl",
        {"note": "the first line has no prompt"},
        {"conversation_a": [SYSTEM, USER]},
        {"messages": [{"role": "user", "content": "two"}]},
        {"turns": [None, "three"]},
    )
    assert data.evaluation_groups([path]) == {data.group_of(text) for text in ("Why\n?", "two", "three")}


# --- rows that cannot be read


def test_one_bad_row_does_not_end_the_reading(tmp_path: Path) -> None:
    path = write(
        tmp_path / "b.csv",
        "prompt,model_a,model_b,winner\none,x,y,model_a\ntwo,x,y,nobody\nthree,x\nfour,x,y,model_b\n",
    )
    left_out, counts = LeftOut(), data.Counts()
    battles = data.read_battles(path, left_out=left_out, counts=counts)
    assert [b.prompt for b in battles] == ["one", "four"]
    assert (counts.rows, counts.battles, counts.left_out) == (4, 2, {UNREADABLE: 2})
    assert [line.split(", ", 1)[1].split(":")[0] for line in left_out.named] == ["line 3", "line 4"]
    with pytest.raises(DataError, match="line 3: winner must be one of"):
        data.read_battles(path)
    with pytest.raises(DataError, match="line 3: winner must be one of"):
        data.read_battles(path, left_out=LeftOut(strict=True))


def test_bad_cells_of_golden_labels_are_named_with_the_way_out(tmp_path: Path) -> None:
    path = write(tmp_path / "g.csv", "prompt,big,small\none,1,0\ntwo,1,oops\nthree,0,1\n")
    left_out, counts = LeftOut(), data.Counts()
    assert [row.prompt for row in data.read_golden(path, left_out=left_out, counts=counts)] == ["one", "three"]
    assert (counts.rows, counts.left_out) == (3, {UNREADABLE: 1})
    assert "line 3: 'small' must be a finite number, found 'oops'" in left_out.named[0]
    assert "--models" in left_out.named[0]
    text = write(tmp_path / "t.csv", "prompt,big,small,mood\none,1,0,good\ntwo,1,0,bad\n")
    with pytest.raises(DataError, match=r"line 2: 'mood' must be .*--models.* None of the 2 rows can be read"):
        data.read_golden(text, left_out=LeftOut())


def test_prompts_and_evaluation_sets_go_on_too(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", "prompt_id,prompt\n1,one\n1,again\n2,two\n")
    left_out = LeftOut()
    assert list(data.read_prompts(path, left_out=left_out)) == ["1", "2"]
    assert "line 3: prompt_id '1' appears twice" in left_out.named[0]
    path = lines(tmp_path / "e.jsonl", {"prompt": "one"}, {"prompt": 5}, {"prompt": "two"})
    left_out = LeftOut()
    assert len(data.evaluation_groups([path], left_out=left_out)) == 2
    assert left_out.rows == 1
    with pytest.raises(DataError, match="line 2"):
        data.evaluation_groups([path])


def test_a_filter_of_licenses_names_a_missing_column(tmp_path: Path) -> None:
    path = write(tmp_path / "b.csv", "prompt,model_a,model_b,winner\none,x,y,model_a\n")
    with pytest.raises(DataError, match="no row of license mit: it has no column 'license'"):
        data.read_battles(path, licenses={"mit"})


def test_folders_hold_tables_in_capital_letters(tmp_path: Path) -> None:
    write(tmp_path / "TRAIN.CSV", "prompt,model_a,model_b,winner\none,x,y,model_a\n")
    assert prompts_of(tmp_path) == ["one"]
