from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from routellm_fast.augmentation import (
    BattleRow,
    ScoreRules,
    forbidden_groups,
    golden_battles,
    write_battles,
)
from routellm_fast.cli import main
from routellm_fast.data import Labelled, group_of, read_battles, read_golden
from routellm_fast.errors import DataError, InvalidArgumentError, UnknownModelError
from routellm_fast.tables import read_table
from tests.support.processes import assert_refused

LABELLED = [
    Labelled("one", "g1", "bench", {"a": 1.0, "b": 0.0, "c": 0.5}),
    Labelled("two", "g2", "bench", {"a": 0.5, "b": 0.5}),
    Labelled("three", "g3", "marks", {"a": 2.0, "b": 10.0}),
    Labelled("four", "g4", "marks", {"a": 7.0}),
]


def outcomes(rows: tuple[BattleRow, ...]) -> list[tuple[str, str, str, str, float]]:
    return [(row.prompt, row.model_a, row.model_b, row.winner, row.weight) for row in rows]


def test_all_pairs() -> None:
    made = golden_battles(LABELLED)
    assert outcomes(made.rows) == [
        ("one", "a", "b", "model_a", 1.0),
        ("one", "a", "c", "model_a", 1.0),
        ("one", "b", "c", "model_b", 1.0),
        ("two", "a", "b", "tie", 1.0),
        ("three", "a", "b", "model_b", 1.0),
    ]
    assert {row.judge for row in made.rows} == {"golden"}
    assert (made.counts.battles, made.counts.ties, made.counts.prompts) == (5, 1, 3)
    assert made.counts.models == {"a": 4, "b": 4, "c": 2}
    assert made.counts.sources == {"bench": 4, "marks": 1}
    assert (made.forbidden_prompts, made.unpaired_prompts) == (0, 1)


def test_chosen_models_margin_and_ties() -> None:
    made = golden_battles(LABELLED, models=["b", "a"], rules=ScoreRules(margin=1.5))
    assert [row.winner for row in made.rows] == ["tie", "tie", "model_b"]
    dropped = golden_battles(LABELLED, models=["a", "b"], rules=ScoreRules(margin=1.5, ties="drop"))
    assert [row.prompt for row in dropped.rows] == ["three"]
    assert dropped.counts.ties == 0


def test_weights_follow_the_difference_on_the_scale_of_the_source() -> None:
    made = golden_battles(LABELLED, rules=ScoreRules(weights="difference", margin=0.6))
    assert outcomes(made.rows) == [
        ("one", "a", "b", "model_a", 1.0),
        ("one", "a", "c", "tie", 0.5),
        ("one", "b", "c", "tie", 0.5),
        ("two", "a", "b", "tie", 1.0),
        ("three", "a", "b", "model_b", 1.0),
    ]


def test_battles_that_weigh_nothing_are_left_out() -> None:
    rules = ScoreRules(weights="difference", margin=100.0)
    rows = golden_battles([Labelled("p", "g", "s", {"a": 0.0, "b": 1.0}), LABELLED[1]], rules=rules).rows
    assert [row.prompt for row in rows] == ["two"]


def test_a_source_whose_scores_are_all_equal_has_ties_only() -> None:
    made = golden_battles([Labelled("p", "g", "s", {"a": 3.0, "b": 3.0})], rules=ScoreRules(weights="difference"))
    assert outcomes(made.rows) == [("p", "a", "b", "tie", 1.0)]


def test_the_cap_is_stable_and_independent_of_the_order_of_rows() -> None:
    labelled = [
        Labelled(f"p{i}", f"g{i}", "s", {m: float(hash((i, j)) % 3) for j, m in enumerate("abcdef")}) for i in range(9)
    ]
    rules = ScoreRules(cap_per_prompt=4, seed=3)
    made = golden_battles(labelled, rules=rules)
    assert made.counts.battles == 9 * 4
    assert set(golden_battles(labelled[::-1], rules=rules).rows) == set(made.rows)
    other = golden_battles(labelled, rules=ScoreRules(cap_per_prompt=4, seed=4))
    assert set(other.rows) != set(made.rows)
    assert set(other.rows) <= set(golden_battles(labelled).rows)


def test_forbidden_prompts_are_found_by_text_and_by_group(tmp_path: Path) -> None:
    (tmp_path / "eval.jsonl").write_text('{"prompt": "  ONE "}\n{"prompt": "else", "prompt_group": "g3"}\n')
    forbidden = forbidden_groups([tmp_path / "eval.jsonl"])
    assert group_of("one") in forbidden
    # A prompt of a forbidden one's group goes with it.
    near = Labelled("one, rephrased", "g1", "bench", {"a": 1.0, "b": 0.0})
    assert "one, rephrased" not in {row.prompt for row in golden_battles([*LABELLED, near], forbidden=forbidden).rows}
    made = golden_battles(LABELLED, forbidden=forbidden)
    assert [row.prompt for row in made.rows] == ["two"]
    assert made.forbidden_prompts == 2


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(DataError, match="no battle is left of 4 rows"):
        golden_battles(LABELLED, rules=ScoreRules(margin=50.0, ties="drop"))
    with pytest.raises(UnknownModelError, match=r"'z', only of: a, b, c"):
        golden_battles(LABELLED, models=["a", "z"])
    with pytest.raises(InvalidArgumentError, match="at least two models, found a, a"):
        golden_battles(LABELLED, models=["a", "a"])


@pytest.mark.parametrize(
    ("rules", "word"),
    [
        ({"margin": -1.0}, "margin"),
        ({"margin": float("nan")}, "margin"),
        ({"ties": "half"}, "ties"),
        ({"weights": "soft"}, "weights"),
        ({"cap_per_prompt": 0}, "cap"),
    ],
)
def test_bad_rules_are_named(rules: dict[str, Any], word: str) -> None:
    with pytest.raises(InvalidArgumentError, match=word):
        ScoreRules(**rules)


# --- files of battles

ROWS = [
    BattleRow('a "quoted", prompt\nof two lines', "g", "x", "y", "tie", "s", 0.25, "golden"),
    BattleRow("naïve \u2028 \U0001f600", "h", "x", "y", "model_b", "s", 1.0, "judge-1", True),
]


@pytest.mark.parametrize("name", ["b.csv", "b.csv.gz", "b.jsonl", "b.jsonl.gz"])
def test_files_of_battles_are_read_by_training_and_always_the_same_bytes(tmp_path: Path, name: str) -> None:
    contents = []
    for _ in range(2):
        write_battles(tmp_path / name, ROWS)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]
    battles = read_battles(tmp_path / name, drop_ties=False)
    assert [(b.prompt, b.group, b.model_a, b.target) for b in battles] == [
        (ROWS[0].prompt, "g", "x", 0.5),
        (ROWS[1].prompt, "h", "x", 0.0),
    ]
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert [(b.weight, b.judge) for b in battles] == [(0.25, "golden"), (1.0, "judge-1")]
    assert [row.values.get("position_consistent") in ("True", True) for row in read_table(tmp_path / name)] == [
        False,
        True,
    ]


@pytest.mark.parametrize(("name", "read"), [("b.csv", "a\ufffdb"), ("b.jsonl", "a\ud800b")])
def test_lone_surrogates_do_not_break_a_file(tmp_path: Path, name: str, read: str) -> None:
    write_battles(tmp_path / name, [BattleRow("a\ud800b", "g", "x", "y", "tie", "s", 1.0, "j")])
    assert read_battles(tmp_path / name, drop_ties=False)[0].prompt == read


def test_a_file_of_battles_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl"
    write_battles(path, ROWS)
    before = path.read_bytes()

    def broken() -> Any:
        yield ROWS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_battles(path, broken())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(DataError, match="is no directory"):
        write_battles(tmp_path / "no" / "b.jsonl", ROWS)
    with pytest.raises(DataError, match="must be one of"):
        write_battles(tmp_path / "b.txt", ROWS)


# --- the command line


def here(capsys: pytest.CaptureFixture[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `routellm-fast` in this process."""
    status, captured = main(arguments), capsys.readouterr()
    return subprocess.CompletedProcess(arguments, status, captured.out, captured.err)


def test_the_command_makes_battles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bench.csv").write_text("prompt,big,small,task\nhard,1,0,math\neasy,1,1,math\nheld out,1,0,math\n")
    (tmp_path / "eval.csv").write_text("prompt\nHeld  out\n")
    done = here(
        capsys,
        *("augment", "golden", str(tmp_path / "bench.csv"), "--out", str(tmp_path / "battles.csv")),
        *("--not-in", str(tmp_path / "eval.csv"), "--model", "big", "--model", "small"),
    )
    assert done.returncode == 0, done.stderr
    assert "2 battles on 2 prompts, 1 of them ties" in done.stdout
    assert "forbidden: 1" in done.stdout
    battles = read_battles(tmp_path / "battles.csv", drop_ties=False)
    assert [(b.prompt, b.target, b.source) for b in battles] == [
        ("hard", 1.0, "battles/bench/math"),
        ("easy", 0.5, "battles/bench/math"),
    ]


def test_bad_input_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bench.csv").write_text("prompt,big,small\nhard,1,x\n")
    (tmp_path / "good.csv").write_text("prompt,big,small\nhard,1,0\n")
    bench, good, out = (str(tmp_path / name) for name in ("bench.csv", "good.csv", "out.csv"))
    assert_refused(here(capsys, "augment", "golden", bench, "--out", out), "bench.csv, line 2", "'small'")
    assert_refused(here(capsys, "augment", "golden", good, "--out", out, "--model", "big", "--model", "z"), "'z'")
    assert not Path(out).exists()


def test_real_golden_labels(shared_data: Path) -> None:
    path = shared_data / "train" / "golden_mmlu_pro.csv.gz"
    made = golden_battles(read_golden(path), models=["llama-3.1-70b-instruct", "llama-3.1-8b-instruct"])
    assert made.counts.battles > 500
    assert 0 < made.counts.ties < made.counts.battles


def test_what_is_read_is_never_written_over(tmp_path, capsys):
    path = tmp_path / "labels.csv"
    path.write_text("prompt,a,b\nhi,1,0\n")
    assert main(["augment", "golden", str(path), "--out", str(path)]) == 2
    assert "cannot hold both what is read and the battles" in capsys.readouterr().err
    assert main(["augment", "golden", str(path), str(path), "--out", str(tmp_path / "battles.csv")]) == 2
    assert "is given twice" in capsys.readouterr().err
    assert path.read_text().startswith("prompt,a,b")


def test_battles_that_exist_are_replaced_with_force_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bench.csv").write_text("prompt,big,small\nhard,1,0\n")
    out = tmp_path / "battles.csv"
    out.write_text("mine")
    command = ["augment", "golden", str(tmp_path / "bench.csv"), "--out", str(out)]
    assert_refused(here(capsys, *command), f"{out} exists already", "--force")
    assert out.read_text() == "mine"
    assert here(capsys, *command, "--force").returncode == 0
    assert len(read_battles(out)) == 1
