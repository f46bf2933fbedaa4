"""What comes from outside is escaped wherever it is printed, by every command and in every field."""

from __future__ import annotations

import ast
import csv
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import routellm_fast as rf
from routellm_fast import Calibration, ModelPair
from routellm_fast.cli import _progress, main
from routellm_fast.cli._printing import one_line, say
from routellm_fast.cli._streams import standard_streams
from tests.support.builders import mf_router, model2vec_folder, static_embedder
from tests.support.fake_judge import FakeJudge, Reply
from tests.support.hostile import HOSTILE, HOSTILE_WITH_SLASH, unsafe_characters
from tests.support.terminal import run_in_terminal

CLI = Path(rf.__file__).parent / "cli"
STRONG, WEAK, OTHER = (f"{name} {HOSTILE_WITH_SLASH}" for name in ("strong", "weak", "other"))
Run = Callable[..., tuple[int, str, str]]


def _csv(path: Path, *rows: list[object]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files with hostile text in every field, in a folder of a hostile name."""
    place = tmp_path_factory.mktemp("printing") / HOSTILE
    place.mkdir()
    points = ((0.0, 1.0), (0.5, 0.4), (1.0, 0.0))
    router = mf_router(
        model_names=(STRONG, WEAK, OTHER),
        model_pair=ModelPair(STRONG, WEAK),
        provenance={HOSTILE_WITH_SLASH: {HOSTILE: [HOSTILE_WITH_SLASH]}},
        calibration=Calibration(HOSTILE_WITH_SLASH, 300, points),
    )
    router.save(place / "router")
    prompts = [f"{HOSTILE_WITH_SLASH} prove {'a b ' * (n % 9)} {n}" for n in range(60)]
    rows = [[prompt, int(n % 4 > 0), n % 2, 1, HOSTILE, HOSTILE] for n, prompt in enumerate(prompts)]
    _csv(place / "golden.csv", ["prompt", STRONG, WEAK, OTHER, "domain", "source"], *rows)
    battles = [
        [prompt, STRONG, WEAK, ("model_a", "model_b", "tie")[n % 3], HOSTILE] for n, prompt in enumerate(prompts)
    ]
    _csv(place / "battles.csv", ["prompt", "model_a", "model_b", "winner", "source"], *battles)
    _csv(place / "odd.csv", ["prompt", HOSTILE, HOSTILE_WITH_SLASH], ["p", HOSTILE, HOSTILE], ["q", 1])
    records = ({"id": HOSTILE, "prompt": prompt} for prompt in prompts)
    (place / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (place / "lines.txt").write_text("\n".join(prompts), encoding="utf-8")
    responses = (
        {"prompt": prompt, f"response:{STRONG}": "quality 5", f"response:{WEAK}": HOSTILE} for prompt in prompts
    )
    (place / "responses.jsonl").write_text("".join(json.dumps(record) + "\n" for record in list(responses)[:3]))
    static_embedder().save(place / "embedder", provenance={"name": HOSTILE})
    model2vec_folder(place / "model2vec")
    (place / "broken").mkdir()
    (place / "broken" / "router.json").write_text(json.dumps({HOSTILE: HOSTILE, "kind": HOSTILE}))
    return place


def _names(folder: Path, out: Path) -> dict[str, str]:
    return {"folder": str(folder), "out": str(out), "hostile": HOSTILE_WITH_SLASH, "strong": STRONG, "weak": WEAK}


@pytest.fixture
def run(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        names = _names(folder, tmp_path / f"out {HOSTILE}")
        status = main([argument.format_map(names) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


PAIR = ("--strong-model", "{strong}", "--weak-model", "{weak}")
ROUTER, GOLDEN, LOG = "{folder}/router", "{folder}/golden.csv", "{folder}/lines.txt"
POOL = ("--models", "{strong}=2", "--models", "{weak}=1")
TRAIN = ("train", "mf", "--battles", "{folder}/battles.csv", "--out", "{out}")
GOOD = {
    "info": ["info", ROUTER],
    "info json": ["info", ROUTER, "--json"],
    "info verify": ["info", ROUTER, "--verify"],
    "route": ["route", "{hostile}", "--router", ROUTER],
    "route lines": ["route", "--file", LOG, "--router", ROUTER],
    "route jsonl": ["route", "--file", "{folder}/log.jsonl", "--router", ROUTER, "--jsonl"],
    "route left out": ["route", "--file", "{folder}/odd.csv", "--router", ROUTER],
    "rank": ["rank", "--file", "{folder}/log.jsonl", "--router", ROUTER, *POOL, "--tau", "0.6"],
    "rank jsonl": ["rank", "{hostile}", "--router", ROUTER, *POOL, "--jsonl"],
    "calibrate": ["calibrate", ROUTER, LOG, "--resamples", "100", "--out", "{out}"],
    "calibrate json": ["calibrate", ROUTER, "{folder}/log.jsonl", "--json", "--dataset", "{hostile}"],
    "calibrate labels": [
        *("calibrate", ROUTER, GOLDEN, "--labels", GOLDEN, "--resamples", "100"),
        *("--quality", "0.5", "--probability", "platt", "--dataset", "{hostile}"),
    ],
    "calibrate check": ["calibrate", ROUTER, LOG, "--check"],
    "evaluate": ["evaluate", ROUTER, "--golden", GOLDEN, *PAIR, "--domains", "--out", "{out}"],
    "evaluate json": ["evaluate", ROUTER, "--golden", GOLDEN, *PAIR, "--json"],
    "evaluate markdown": ["evaluate", ROUTER, "--golden", GOLDEN, *PAIR, "--domains", "--markdown"],
    "evaluate log": ["evaluate", ROUTER, "--log", GOLDEN, *PAIR, "--domain-column", "domain"],
    "evaluate pool": [
        *("evaluate", ROUTER, "--golden", GOLDEN, "--pool", "{strong}=2"),
        *("--pool", "{weak}=1", "--models", "{strong}", "--models", "{weak}", "--out", "{out}"),
    ],
    "augment golden": ["augment", "golden", GOLDEN, "--out", "{out}.csv"],
    "train mf": [
        *("train", "mf", "--golden", GOLDEN, "--battles", "{folder}/battles.csv", "--out", "{out}"),
        *("--embedder", "{folder}/embedder", *PAIR, "--models", "{strong}", "--models", "{weak}"),
    ],
    "train sw_ranking": [
        *("train", "sw_ranking", "--battles", "{folder}/battles.csv", "--out", "{out}", *PAIR),
        *("--min-prompt-chars", "0", "--embedder", "{folder}/embedder", "--num-tiers", "2"),
    ],
    "import": ["import", "{folder}/model2vec", "{out}"],
    "export onnx": ["export", "onnx", ROUTER, "{out}"],
    "export triton": ["export", "triton", ROUTER, "{out}"],
}  # fmt: skip
# Each quotes hostile text in its message.
REFUSED = {
    "no such option": ["route", "--{hostile}"],
    "no such command": ["{hostile}"],
    "bad choice": ["route", "--format", "{hostile}"],
    "no such router": ["info", "{hostile}"],
    "broken router": ["info", "{folder}/broken"],
    "no such file": ["route", "--file", "{folder}/{hostile}"],
    "no such model": [*TRAIN, "--strong-model", "{hostile}"],
    "unknown price": ["calibrate", ROUTER, LOG, "--price", "{hostile}=1/1"],
    "bad table": ["calibrate", ROUTER, LOG, "--labels", "{folder}/odd.csv"],
    "no such column": ["evaluate", ROUTER, "--golden", "{folder}/odd.csv"],
    "unknown benchmark": ["evaluate", "--benchmarks", "{folder}", "--benchmark", "{hostile}"],
    "bad embedder": [*TRAIN, "--embedder", "openai:x,{hostile}"],
    "bad method": [*TRAIN, "--method", "{hostile}"],
    "bad mode": ["export", "triton", ROUTER, "{out}", "--mode", "{hostile}"],
    "bad triton name": ["export", "triton", ROUTER, "{out}", "--name", "{hostile}"],
    "bad precision": ["export", "onnx", ROUTER, "{out}", "--precision", "{hostile}"],
    "import of nothing": ["import", "{folder}/broken", "{out}"],
    "judge's mode": [
        *("augment", "judge", "{folder}/responses.jsonl", "--judge-model", "x", "--out", "{out}.csv"),
        *("--mode", "{hostile}"),
    ],
    "bad address": [
        *("augment", "judge", "{folder}/responses.jsonl", "--judge-model", "x", "--out", "{out}.csv"),
        *("--base-url", "http://{hostile}"),
    ],
}  # fmt: skip


def assert_safe(output: str, errors: str) -> None:
    assert not unsafe_characters(output)
    assert not unsafe_characters(errors)
    # Nothing from outside begins a line of its own.
    assert not re.search(r"(?m)^forged", output + errors)


@pytest.mark.parametrize("name", GOOD)
def test_a_command_prints_no_character_that_acts_on_a_terminal(name: str, run: Run) -> None:
    status, output, errors = run(*GOOD[name])
    assert_safe(output, errors)
    assert status in (0, 1), errors
    assert r"\x1b" in output + errors or "\\u001b" in output + errors, "nothing hostile was printed"


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_one_line_without_characters_that_act_on_a_terminal(name: str, run: Run) -> None:
    status, output, errors = run(*REFUSED[name])
    assert_safe(output, errors)
    assert (status, output, errors.count("\n")) == (2, "", 1), errors
    assert errors.startswith("routellm-fast: ")
    assert r"\x1b" in errors, "nothing hostile was printed"


def test_what_a_server_answers_is_escaped(run: Run) -> None:
    with FakeJudge() as server:
        server.otherwise = Reply(status=400, body={"error": {"message": HOSTILE_WITH_SLASH}})
        status, output, errors = run(
            *("augment", "judge", "{folder}/responses.jsonl", "--judge-model", "x", "--out", "{out}.csv"),
            *("--base-url", server.url),
        )
    assert_safe(output, errors)
    assert status == 2
    assert r"\x1b" in errors


def test_json_holds_the_same_text(run: Run) -> None:
    _, output, _ = run(*GOOD["route jsonl"])
    record = json.loads(output.splitlines()[0])
    assert record["id"] == HOSTILE
    assert record["prompt"].startswith(HOSTILE_WITH_SLASH)
    assert record["model"] in (STRONG, WEAK)
    _, output, _ = run(*GOOD["info json"])
    assert json.loads(output)["strong model"] == STRONG


@pytest.mark.parametrize("arguments", ["info", "route lines", "rank", "calibrate", "evaluate"])
def test_a_terminal_gets_colours_and_nothing_else(arguments: str, folder: Path, tmp_path: Path) -> None:
    names = _names(folder, tmp_path / "out")
    shown = run_in_terminal(*(argument.format_map(names) for argument in GOOD[arguments]), columns=100)
    # run_in_terminal has taken away what a terminal shows in colours.
    assert not unsafe_characters(shown)
    assert r"\x1b" in shown
    assert "[bold]" in shown.replace("\n", "")
    assert ":smile:" in re.sub(r"\s", "", shown)


def test_help_and_errors_on_a_terminal_keep_their_looks() -> None:
    assert "─" in run_in_terminal("--help")
    assert r"\x1b" not in run_in_terminal("--help")


def test_progress_is_escaped(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_progress, "FIRST_LINE_S", 0.01)
    with _progress.told_when_long(), _progress.progress_bar(HOSTILE):
        while "evil" not in (errors := capfd.readouterr().err):
            pass
    assert not unsafe_characters(errors)


def test_a_bar_on_a_terminal_shows_names_as_they_are(folder: Path) -> None:
    program = (
        "import sys; from routellm_fast.cli import _progress; from tests.support.hostile import *\n"
        "with _progress.progress_bar(HOSTILE_WITH_SLASH) as move: move(HOSTILE_WITH_SLASH, 1, 2)\n"
        "with _progress.busy(HOSTILE_WITH_SLASH): pass"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "TERM": "xterm", "FORCE_COLOR": "1"}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr


def test_what_libraries_print_is_escaped(folder: Path) -> None:
    program = (
        "import sys, warnings, logging; from routellm_fast.cli._streams import standard_streams\n"
        "from tests.support.hostile import HOSTILE\n"
        "with standard_streams():\n"
        "    warnings.warn(HOSTILE)\n"
        "    logging.getLogger('x').error(HOSTILE)\n"
        "    print(HOSTILE + '\\t.')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment)
    assert run.returncode == 0, run.stderr
    assert unsafe_characters(run.stdout.decode()) == {"\t"}
    assert not unsafe_characters(run.stderr.decode())
    assert run.stderr.count(b"\\x1b") >= 2


def test_a_message_is_one_line_and_not_endless() -> None:
    assert one_line("a\nb\x1b") == r"a b\x1b"
    line = one_line("x" * 1_000_000)
    assert len(line) < 5_000
    assert "996,000 more characters" in line


def test_no_other_module_of_the_command_line_prints() -> None:
    """So that nothing from outside passes by: whoever prints, prints through _printing."""
    doors = {"_printing.py", "_streams.py", "__init__.py"}  # the last where the others cannot be loaded
    for path in sorted(CLI.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        found = names & {"print", "typer.echo", "typer.secho", "Console", "sys.stdout.write", "sys.stderr.write"}
        assert path.name in doors or not found, f"{path.name} prints by {found}"


def test_files_that_are_written_hold_names_without_markup(run: Run, tmp_path: Path) -> None:
    run(*GOOD["train mf"])
    (card,) = tmp_path.glob("*/README.md")
    text = card.read_text(encoding="utf-8")
    assert not unsafe_characters(text)
    assert "<script>" not in re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", text)
    (line,) = (line for line in text.splitlines() if "battles.csv" in line and "sha256" in line)
    assert len(re.findall(r"(?<!\\)\|", line)) == 3


@pytest.mark.parametrize("name", ["evaluate", "evaluate pool", "export triton"])
def test_pages_and_configurations_hold_no_character_that_acts(name: str, run: Run, tmp_path: Path) -> None:
    status, _, errors = run(*GOOD[name])
    assert status == 0, errors
    written = [path for path in tmp_path.rglob("*") if path.suffix in (".html", ".md", ".json", ".pbtxt")]
    assert written
    for path in written:
        if "router" in path.parent.name or path.name == "tokenizer.json":
            continue  # the router itself, whose manifest holds names as they are
        text = path.read_text(encoding="utf-8")
        assert not unsafe_characters(text), path.name
        assert path.suffix in (".json", ".pbtxt") or "<script>alert" not in text, path.name


def test_a_router_whose_name_begins_with_a_line_is_drawn_like_others(folder: Path, tmp_path: Path, run: Run) -> None:
    """matplotlib leaves lines out of a legend whose names begin with an underscore."""
    arguments = ["evaluate", "_hidden={folder}/router", *GOOD["evaluate"][2:]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        status, _, errors = run(*arguments)
    assert status == 0, errors


def test_lines_are_written_whole_by_say(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\nb", "")
    assert capsys.readouterr().out == "a\\nb\n\n"
    with standard_streams():
        say()
    assert capsys.readouterr().out == "\n"
