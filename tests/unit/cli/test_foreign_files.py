"""Files of prompts, labels and battles as other programs write them, at the command line."""

from __future__ import annotations

import csv
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from routellm_fast import data
from routellm_fast.cli import main
from routellm_fast.cli._prompts import PipedLines, PromptFormat, read_prompts
from routellm_fast.errors import DataError
from routellm_fast.tables import LeftOut
from tests.support.builders import mf_router
from tests.support.processes import run_cli

Run = Callable[..., tuple[int, str, str]]
POOL = ("--models", "strong-model=2", "--models", "weak-model=1")
CHAT = {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hello"}]}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        status, captured = main([str(argument) for argument in arguments]), capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def router(tmp_path: Path) -> Path:
    path = tmp_path / "router"
    mf_router().save(path)
    return path


def texts(path: Path, form: PromptFormat = PromptFormat.AUTO, **options: LeftOut) -> list[str]:
    return [prompt.text for prompt in read_prompts([], path, form, **options)]


def routed(output: str) -> list[str]:
    return [json.loads(line)["prompt"] for line in output.splitlines()]


# --- files of prompts


def test_a_table_of_prompts_is_a_table_for_every_command(router: Path, tmp_path: Path, run: Run) -> None:
    prompts = [f"hello {'a ' * (number % 40)}{number}" for number in range(120)]
    path = tmp_path / "LOG.CSV"
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=";").writerows([["", "prompt"], *enumerate(prompts), [7, ""]])
    assert texts(path) == prompts
    status, output, error = run("route", "--router", router, "--file", path, "--jsonl")
    assert (status, routed(output)) == (0, prompts)
    assert error == "routellm-fast: 1 blank line was skipped\n"
    status, output, _ = run("rank", "--router", router, "--file", path, "--jsonl", *POOL)
    assert (status, routed(output)) == (0, prompts)
    status, output, error = run("calibrate", router, path, "--json", "--resamples", 100)
    assert (status, error) == (0, "")
    record = json.loads(output)
    assert (record["requests"], record["blank_prompts_left_out"]) == (120, 1)
    assert texts(path, PromptFormat.TEXT)[0] == ";prompt", "asked for by name, its lines are prompts"


def test_a_table_of_prompts_may_have_ids_and_chats(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["id", "messages"], ["a1", json.dumps(CHAT["messages"])]])
    assert [(p.text, p.id) for p in read_prompts([], path, PromptFormat.AUTO)] == [("hello", "a1")]


@pytest.mark.parametrize("command", ["route", "rank", "calibrate", "export"])
@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("p.txt", "one\ntwo\n".encode("utf-16"), "is UTF-16, expected UTF-8: save it as UTF-8"),
        ("p.txt", "one\ntwo\n".encode("utf-16-le"), "is UTF-16, expected UTF-8: save it as UTF-8"),
        ("p.jsonl", '{"prompt": "one"}\n'.encode("utf-16"), "is UTF-16, expected UTF-8: save it as UTF-8"),
        ("p.csv", "prompt\none\n".encode("utf-16"), "is UTF-16, expected UTF-8: save it as UTF-8"),
        ("p.tsv", b"prompt\tbig\none\t1\n", "save it as CSV in UTF-8, whose cells may be separated by tabs"),
        ("p.xlsx", b"PK\x03\x04", "save it as CSV in UTF-8"),
        ("p.txt", b"PK\x03\x04", "is a workbook or a zip archive"),
        ("p.csv", b"text\none\n", "expected a column prompt"),
        ("p.jsonl", b'[\n{"prompt": "one"},\n{"prompt": "two"}\n]\n', "line 1: must be a JSON object, found the"),
    ],
)
def test_files_that_hold_no_prompts_are_one_clear_line_in_every_command(
    router: Path, tmp_path: Path, run: Run, command: str, name: str, content: bytes, words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    arguments = {
        "route": ["route", "--router", router, "--file", path],
        "rank": ["rank", "--router", router, "--file", path, *POOL],
        "calibrate": ["calibrate", router, path],
        "export": ["export", "onnx", router, tmp_path / "out", "--prompts", path],
    }[command]
    status, output, error = run(*arguments)
    assert (status, output, error.count("\n")) == (2, "", 1), error
    assert words in error


def test_utf_16_on_standard_input_has_the_same_message(router: Path) -> None:
    done = run_cli("route", "--router", str(router), stdin="one\ntwo\n".encode("utf-16"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "standard input is UTF-16, expected UTF-8: save it as UTF-8" in done.stderr


def test_blank_lines_are_skipped_and_counted(router: Path, tmp_path: Path, run: Run) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('\n{"prompt": "one"}\n   \n\r\n{"prompt": "two"}\n\n')
    left_out = LeftOut()
    assert texts(path, left_out=left_out) == ["one", "two"]
    assert (left_out.blank, left_out.rows) == (4, 0)
    assert texts(path, PromptFormat.JSONL) == ["one", "two"]
    status, output, error = run("route", "--router", router, "--file", path, "--jsonl", "--strict")
    assert (status, routed(output), error) == (0, ["one", "two"], "routellm-fast: 4 blank lines were skipped\n")
    (tmp_path / "p.txt").write_text("one\n\n \ntwo\n")
    assert texts(tmp_path / "p.txt") == ["one", "two"]


def test_a_line_that_cannot_be_read_is_named_and_passed_over(router: Path, tmp_path: Path, run: Run) -> None:
    path = tmp_path / "p.jsonl"
    rows = ['{"prompt": "one"}', '{"prompt": 5}', '{"prompt": "tw', '{"text": "x"}', json.dumps(CHAT)]
    path.write_text("\n".join(rows))
    status, output, error = run("route", "--router", router, "--file", path, "--jsonl")
    assert (status, routed(output)) == (0, ["one", "hello"])
    for number, words in ((2, "'prompt' must be text"), (3, "not valid JSON"), (4, "a JSON line needs `prompt`")):
        assert f"routellm-fast: left out: {path}, line {number}: {words}" in error
    assert error.endswith(
        "routellm-fast: 3 rows could not be read and were left out; --strict stops at the first such row\n"
    )
    status, output, error = run("route", "--router", router, "--file", path, "--jsonl", "--strict")
    assert (status, error.count("\n")) == (2, 1)
    assert "line 2: 'prompt' must be text" in error
    path.write_text("\n".join(rows[1:3]))
    status, output, error = run("route", "--router", router, "--file", path, "--jsonl")
    assert (status, output, error.count("\n")) == (2, "", 1)
    assert "None of the 2 rows can be read" in error


def test_a_pipe_with_blank_lines_keeps_nobody_waiting() -> None:
    """A writer that waits for the answer to its last prompt gets it, though a blank line followed."""
    reader, writer = os.pipe()
    try:
        lines = PipedLines(reader)
        os.write(writer, b"one\n\n")
        source = iter(lines)
        assert next(source) == "one\n"
        assert not lines.is_at_hand(0.0)
        threading.Timer(0.05, os.write, (writer, b"two\n")).start()
        assert lines.is_at_hand(5.0)
    finally:
        os.close(reader)
        os.close(writer)


# --- golden labels and battles

ISSUE = ",prompt,prompt_tokens,big,small\n0,hi,11,1,0\n1,ho,700,0,1\n2,hu,12,TRUE,No\n"


def test_an_index_is_no_model(tmp_path: Path, run: Run) -> None:
    labels, out = tmp_path / "g.csv", tmp_path / "b.csv"
    labels.write_text(ISSUE)
    status, output, error = run("augment", "golden", labels, "--out", out)
    assert status == 0, error
    assert "3 battles on 3 prompts" in output
    assert error == (
        f"routellm-fast: {labels}: not taken for models: 'Unnamed: 0', 'prompt_tokens' "
        "(--models names the columns to take)\n"
    )
    assert {name for b in data.read_battles(out) for name in (b.model_a, b.model_b)} == {"big", "small"}


def test_models_chooses_columns(tmp_path: Path, run: Run) -> None:
    labels, out = tmp_path / "g.csv", tmp_path / "b.csv"
    labels.write_text("prompt,big,small,id,mood\nhi,1,0,1,good\nho,0,1,0,bad\n")
    status, _, error = run("augment", "golden", labels, "--out", out)
    assert (status, error.count("\n")) == (2, 1)
    assert "'mood' must be a finite number, found 'good'" in error
    assert "--models" in error
    chosen = ["--models", "big", "--models", "id"]
    status, output, error = run("augment", "golden", labels, "--out", out, *chosen)
    assert (status, error) == (0, "")
    assert "battles by model: big 2, id 2" in output
    status, _, error = run(
        "augment", "golden", labels, "--out", tmp_path / "c.csv", "--models", "big", "--models", "smal"
    )
    assert status == 2
    assert "the data has no scores of 'smal', only of: big, mood, small. Did you mean small" in error


def test_one_bad_row_does_not_end_augment(tmp_path: Path, run: Run) -> None:
    labels, out = tmp_path / "g.csv", tmp_path / "b.csv"
    labels.write_text("prompt,big,small\nhi,1,0\nho,oops,1\nhu,1\nha,0,1\n")
    status, output, error = run("augment", "golden", labels, "--out", out)
    assert (status, "2 battles on 2 prompts" in output) == (0, True)
    assert "line 3: 'big' must be a finite number, found 'oops'" in error
    assert "line 4: found 2 cells, expected 3" in error
    status, _, error = run("augment", "golden", labels, "--out", tmp_path / "strict.csv", "--strict")
    assert (status, error.count("\n")) == (2, 1)
    assert "line 3" in error


def test_calibrate_reads_the_labels_of_its_two_models_only(router: Path, tmp_path: Path, run: Run) -> None:
    prompts = [f"hello {'a ' * (number % 40)}{number}" for number in range(120)]
    (tmp_path / "log.txt").write_text("\n".join(prompts))
    labels = tmp_path / "labels.csv"
    rows = [
        f"{number},{prompt},{number % 3 > 0:d},{number % 7 == 0:d},great\n" for number, prompt in enumerate(prompts)
    ]
    labels.write_text(",prompt,strong-model,weak-model,remark\n" + "".join(rows) + "x,y,maybe,0,\n")
    arguments = [
        "calibrate",
        router,
        tmp_path / "log.txt",
        "--labels",
        labels,
        "--pgr",
        0.5,
        "--json",
        "--resamples",
        100,
    ]
    status, output, error = run(*arguments)
    assert status == 0, error
    assert json.loads(output)["labelled_rows"] == 120
    assert "labels.csv, line 122: 'strong-model' must be a finite number, found 'maybe'" in error
    status, _, error = run(*arguments, "--strict")
    assert (status, error.count("\n")) == (2, 1)


def test_evaluate_goes_on_without_a_bad_row(router: Path, tmp_path: Path, run: Run) -> None:
    table = tmp_path / "exam.csv"
    rows = [f"hello {'a ' * (number % 40)}{number},{number % 3 > 0:d},{number % 7 == 0:d}\n" for number in range(60)]
    table.write_text("prompt,big,small\n" + "".join(rows) + "bad,maybe,1\n")
    pair = ["--strong-model", "big", "--weak-model", "small", "--resamples", 10, "--json"]
    for option in ("--golden", "--log"):
        status, output, error = run("evaluate", router, option, table, *pair)
        assert status == 0, error
        assert json.loads(output)["benchmarks"][0]["prompts"] == 60
        assert "line 62: 'big' must be a finite number" in error or option == "--log"
        status, _, error = run("evaluate", router, option, table, *pair, "--strict")
        assert (status, error.count("\n")) == (2, 1)
        assert "line 62" in error
    status, _, error = run("evaluate", router, "--log", table, *pair, "--strict", "--skip-bad-rows")
    assert (status, "not both" in error) == (2, True)


def test_models_chooses_columns_for_transfer(router: Path, tmp_path: Path, run: Run) -> None:
    table = tmp_path / "exam.csv"
    rows = [f"hello {'a ' * (n % 40)}{n},{n % 3 > 0:d},{n % 7 == 0:d},{n * 7 % 900}\n" for n in range(250)]
    table.write_text("prompt,big,small,extra\n" + "".join(rows))
    arguments = ["evaluate", router, "--golden", table, "--transfer", "big,small", "--resamples", 10, "--json"]
    status, _, error = run(*arguments)
    assert (status, error.count("\n")) == (2, 1)
    assert "'extra' reaches" in error
    status, output, error = run(*arguments, "--models", "big", "--models", "small")
    assert (status, error) == (0, "")
    assert len(json.loads(output)["transfer"]) == 1
    status, _, error = run("evaluate", router, "--golden", table, "--models", "big")
    assert (status, "--transfer" in error) == (2, True)


def test_training_leaves_out_and_names_rows_and_columns(tmp_path: Path, run: Run) -> None:
    labels, battles = tmp_path / "g.csv", tmp_path / "b.jsonl"
    prompts = [f"a prompt of {'many ' * (number % 9)}words, number {number}" for number in range(60)]
    rows = [f"{number},{prompt!r},{number % 2},{number % 3 == 0:d}\n" for number, prompt in enumerate(prompts)]
    labels.write_text(",prompt,big,small\n" + "".join(row.replace("'", '"') for row in rows))
    chat = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    battle = {"model_a": "big", "model_b": "small", "winner": "model_a"}
    battles.write_text(
        json.dumps({**battle, "conversation_a": chat})
        + "\n"
        + json.dumps({**battle, "conversation_a": chat[:1]})
        + "\n"
    )
    metrics = tmp_path / "metrics.json"
    arguments = ["train", "sw_ranking", "--golden", labels, "--battles", battles, "--out", tmp_path / "router"]
    arguments += ["--strong-model", "big", "--weak-model", "small", "--metrics", metrics, "--min-prompt-chars", 0]
    status, _, error = run(*arguments, "--num-tiers", 2)
    assert status == 0, error
    assert f"{labels}: not taken for models: 'Unnamed: 0'" in error
    assert "b.jsonl, line 2: 'conversation_a' must be a list of messages" in error
    counts = json.loads(metrics.read_text())["data"]
    assert counts["b"]["left_out"] == {"that cannot be read": 1}
    assert (counts["b"]["rows"], counts["b"]["battles"], counts["g"]["battles"]) == (2, 1, 60)
    status, _, error = run(*arguments, "--strict")
    assert (status, error.count("\n")) == (2, 1)


def test_prompts_of_a_router_in_python_raise(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "one"}\n{"prompt": 5}\n')
    with pytest.raises(DataError, match="line 2: 'prompt' must be text, found 5"):
        texts(tmp_path / "p.jsonl")
