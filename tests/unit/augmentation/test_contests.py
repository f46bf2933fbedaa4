"""Responses to be judged, as other programs write them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from routellm_fast.augmentation import read_contests
from routellm_fast.errors import DataError
from routellm_fast.tables import LeftOut

ROW = {"prompt": "Why?", "model_a": "x", "model_b": "y", "response_a": "Because.", "response_b": "No."}


def write(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("columns", "winner"),
    [
        ({}, None),
        ({"winner": None}, None),
        ({"winner": "tie (bothbad)"}, "tie"),
        ({"winner": "model_b"}, "model_b"),
        ({"winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0}, "model_a"),
        ({"winner_model_a": 0, "winner_model_b": 0}, "tie"),
    ],
)
def test_the_verdict_of_people_is_spelled_as_in_battles(
    tmp_path: Path, columns: dict[str, object], winner: str | None
) -> None:
    (contest,) = read_contests(write(tmp_path / "c.jsonl", {**ROW, **columns})).found
    assert contest.winner == winner


def test_first_turns_are_compared_with_first_turns(tmp_path: Path) -> None:
    """The Arena's table of 55,000 battles holds all turns of both conversations as JSON text."""
    row = {
        **ROW,
        "prompt": json.dumps(["Why?", "And then?"]),
        "response_a": json.dumps(["Because.", "Nothing."]),
        "response_b": json.dumps(["No.", None]),
        "winner_model_a": 1,
        "winner_model_b": 0,
    }
    (contest,) = read_contests(write(tmp_path / "c.jsonl", row)).found
    assert (contest.prompt, contest.response_a, contest.response_b) == ("Why?", "Because.", "No.")


def test_one_bad_row_does_not_end_the_reading(tmp_path: Path) -> None:
    path = write(
        tmp_path / "c.jsonl", ROW, {**ROW, "prompt": " "}, {**ROW, "winner": "nobody"}, {**ROW, "prompt": "So?"}
    )
    left_out = LeftOut()
    assert [contest.prompt for contest in read_contests(path, left_out=left_out).found] == ["Why?", "So?"]
    assert [problem.split(": ", 1)[1][:14] for problem in left_out.named] == ["the prompt is ", "winner must be"]
    with pytest.raises(DataError, match="line 2: the prompt is empty"):
        read_contests(path)
