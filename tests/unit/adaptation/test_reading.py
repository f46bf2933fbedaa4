from __future__ import annotations

import json
from pathlib import Path

import pytest

from routellm_fast.adaptation.cases import cases_of, read_cases
from routellm_fast.adaptation.reading import read_scores, read_votes
from routellm_fast.data import group_of
from routellm_fast.decision import ModelPair
from routellm_fast.errors import DataError, InvalidArgumentError, UnknownModelError
from routellm_fast.tables import LeftOut

PAIR = ModelPair("big", "small")


def write(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def vote(prompt: str, winner: str, a: str = "big", b: str = "small", **more: object) -> dict[str, object]:
    return {"prompt": prompt, "model_a": a, "model_b": b, "winner": winner, **more}


# --- votes


def test_votes_become_scores(tmp_path: Path) -> None:
    path = write(
        tmp_path / "v.jsonl",
        vote("p", "model_a"),
        vote("q", "model_a", "small", "big"),
        vote("r", "tie"),
        vote("s", "model_a", "big", "other"),
    )
    read = read_votes(path, PAIR)
    labels = read.labels
    assert (labels.pair, labels.prompts) == (PAIR, ("p", "q", "r"))
    assert labels.strong.tolist() == [1.0, 0.0, 0.5]
    assert labels.weak.tolist() == [0.0, 1.0, 0.5]
    assert labels.costs_usd is None
    assert (read.rows, read.repeated, read.others, read.scale) == (3, 0, 1, 1.0)


def test_several_votes_on_one_prompt_are_their_mean(tmp_path: Path) -> None:
    rows = [vote("p", "model_a"), vote("q", "tie"), vote("p", "model_b"), vote("p", "model_a", weight=2.0)]
    read = read_votes(write(tmp_path / "v.jsonl", *rows), PAIR)
    assert read.labels.prompts == ("p", "q")
    assert read.labels.strong.tolist() == [0.75, 0.5]
    assert read.labels.weak.tolist() == [0.25, 0.5]
    assert (read.rows, read.repeated) == (4, 2)


def test_prompts_of_one_group_are_of_one_group(tmp_path: Path) -> None:
    rows = [vote("Hi there", "tie", prompt_group="g"), vote("hi  THERE", "tie", prompt_group="h"), vote("x", "tie")]
    labels = read_votes(write(tmp_path / "v.jsonl", *rows), PAIR).labels
    assert labels.groups == ("g", "g", group_of("x"))


def test_models_go_by_their_other_names(tmp_path: Path) -> None:
    pair = ModelPair("gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1")
    other = "mistralai/Mixtral-8x7B-Instruct-v0.1"
    labels = read_votes(write(tmp_path / "v.jsonl", vote("p", "model_a", pair.strong, other)), pair).labels
    assert (labels.pair, labels.strong.tolist()) == (pair, [1.0])


def test_votes_on_other_models_alone_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "v.jsonl", vote("p", "tie", "big", "mid"), vote("p", "tie", "mid", "small"))
    with pytest.raises(DataError, match="has 2 votes, and none is between 'big' and 'small'"):
        read_votes(path, PAIR)
    with pytest.raises(UnknownModelError, match="no vote of 'smal'.*Did you mean small"):
        read_votes(path, ModelPair("big", "smal"))


def test_rows_that_are_no_votes_can_be_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "v.jsonl", vote("p", "model_a"), vote("q", "nobody"))
    with pytest.raises(DataError, match="line 2: winner must be one of"):
        read_votes(path, PAIR)
    left_out = LeftOut()
    assert len(read_votes(path, PAIR, left_out=left_out).labels) == 1
    assert left_out.rows == 1


# --- scores


def test_scores_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text(
        "prompt,big,small,other,big|total_cost,small|total_cost\np,1,0,1,0.2,0.1\nq,,1,0,,0.1\nr,true,no,1,0.4,0.2\n"
    )
    read = read_scores(tmp_path / "s.csv", PAIR)
    assert read.labels.prompts == ("p", "r")
    assert (read.labels.strong.tolist(), read.labels.weak.tolist()) == ([1.0, 1.0], [0.0, 0.0])
    assert read.labels.costs_usd is not None
    assert read.labels.costs_usd.tolist() == [[0.2, 0.1], [0.4, 0.2]]
    assert (read.rows, read.repeated, read.others, read.scale) == (2, 0, 1, 1.0)


@pytest.mark.parametrize(("highest", "scale"), [(1.0, 1.0), (4.0, 5.0), (10.0, 10.0), (63.0, 100.0), (250.0, 250.0)])
def test_scores_beyond_1_are_scaled(tmp_path: Path, highest: float, scale: float) -> None:
    path = write(
        tmp_path / "s.jsonl", {"prompt": "p", "big": highest, "small": 0.5}, {"prompt": "q", "big": 0, "small": 0}
    )
    read = read_scores(path, PAIR)
    assert read.scale == scale
    assert read.labels.strong.tolist() == [highest / scale, 0.0]
    assert read.labels.weak.tolist() == [0.5 / scale, 0.0]


def test_several_rows_on_one_prompt_are_their_mean_and_costs_are_all_or_none(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"prompt": "p", "big": 1.0, "small": 0.25, "big|total_cost": 0.5, "small|total_cost": 0.25},
        {"prompt": "p", "big": 0.5, "small": 0.75, "big|total_cost": 1.0, "small|total_cost": 0.75},
    ]
    read = read_scores(write(tmp_path / "s.jsonl", *rows), PAIR)
    assert (read.labels.strong.tolist(), read.labels.weak.tolist(), read.repeated) == ([0.75], [0.5], 1)
    assert read.labels.costs_usd is not None
    assert read.labels.costs_usd.tolist() == [[0.75, 0.5]]
    rows.append({"prompt": "q", "big": 1.0, "small": 1.0, "big|total_cost": 0.5})
    assert read_scores(write(tmp_path / "s.jsonl", *rows), PAIR).labels.costs_usd is None


@pytest.mark.parametrize(
    ("row", "error", "match"),
    [
        ({"big": -1.0, "small": 0.0}, DataError, "a score is zero or more, found -1"),
        ({"big": 1.0, "small": 0.0, "big|total_cost": -2.0}, DataError, "a cost is zero or more, found -2"),
        ({"big": 1.0, "small": None}, DataError, "no prompt with scores of both"),
        ({"big": 1.0, "tiny": 0.0}, UnknownModelError, "no scores of 'small'"),
        ({"big": "much", "small": 1.0}, DataError, "line 1: 'big' must be a finite number"),
    ],
)
def test_tables_without_labels_are_named(
    tmp_path: Path, row: dict[str, object], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        read_scores(write(tmp_path / "s.jsonl", {"prompt": "p", **row}), PAIR)


# --- cases


def test_prompts_alone_are_cases_to_ask_about(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.jsonl", {"prompt": "p", "reference": "r"}, {"prompt": "q"}, {"prompt": "p", "reference": "r"}
    )
    read = read_cases(path, PAIR)
    assert [(c.prompt, c.group, c.reference) for c in read.found] == [
        ("p", group_of("p"), "r"),
        ("q", group_of("q"), None),
    ]
    assert {(c.strong_answer, c.weak_answer) for c in read.found} == {(None, None)}
    assert (read.repeated, read.incomplete) == (1, 0)


def test_answers_that_are_there_find_their_model(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        {"prompt": "p", "model_a": "small", "model_b": "big", "response_a": "s", "response_b": "b"},
        {"prompt": "q", "model_a": "big", "model_b": "small", "response_a": "b", "response_b": ""},
        {"prompt": "r", "model_a": "big", "model_b": "mid", "response_a": "b", "response_b": "m"},
        {"prompt": "p", "model_a": "small", "model_b": "big", "response_a": "another", "response_b": "b"},
    )
    read = read_cases(path, PAIR)
    assert [(c.prompt, c.strong_answer, c.weak_answer) for c in read.found] == [("p", "b", "s"), ("q", "b", None)]
    assert (read.repeated, read.incomplete) == (1, 0)
    alone = read_cases(path, PAIR, asks=False)
    assert [c.prompt for c in alone.found] == ["p"]
    assert (alone.repeated, alone.incomplete) == (1, 1)


def test_answers_in_a_column_a_model(tmp_path: Path) -> None:
    row = {"prompt": "p", "response:small": "s", "response:big": "b", "response:mid": "m"}
    (case,) = read_cases(write(tmp_path / "a.jsonl", row), PAIR).found
    assert (case.strong_answer, case.weak_answer) == ("b", "s")


def test_cases_of_prompts() -> None:
    cases = cases_of(["Hi", "hi ", "x"], references=["a", None, "c"])
    assert [case.group for case in cases] == [group_of("hi"), group_of("hi"), group_of("x")]
    assert [case.reference for case in cases] == ["a", None, "c"]
    assert cases_of(["Hi", "hi"], ["g", "h"])[1].group == "g"
    with pytest.raises(InvalidArgumentError, match="found twice: 'x'"):
        cases_of(["x", "y", "x"])
    with pytest.raises(InvalidArgumentError, match="as many groups"):
        cases_of(["x"], ["g", "h"])


def test_what_errors_call_a_case() -> None:
    (case,) = cases_of(["line\n\x1b" + "x" * 100])
    assert case.name.startswith("the prompt 'line\\\\n\\\\x1bxxx")
    assert case.name.endswith("…")
