from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from routellm_fast import ModelPair
from routellm_fast.cli import main
from routellm_fast.evaluation import Evaluation
from routellm_fast.routers import RandomRouter
from tests.support.builders import mf_router
from tests.support.processes import assert_refused, run_cli, run_python
from tests.support.terminal import run_in_terminal

FEW = ("--resamples", "30")
MODELS = ("--strong-model", "large", "--weak-model", "small")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A router of three models, another one, a table, benchmarks in RouteLLM's layout, and files that are wrong."""
    place = tmp_path_factory.mktemp("evaluate")
    mf_router().save(place / "tiny")
    RandomRouter(ModelPair("large", "small"), seed=1).save(place / "dice")
    texts = ["hello", "prove the a", "b c ?", "write 1", "a b c hello", "{ }", "the the the", "proves", "c", "hello ?"]
    rows = [(f"{text} {number}", number % 4 != 0, number % 2) for number, text in enumerate(texts * 4)]
    table = "".join(f'"{prompt}",{int(strong)},{weak},{"law" if weak else "maths"}\n' for prompt, strong, weak in rows)
    (place / "mine.csv").write_text("prompt,large,small,domain\n" + table)
    many = "".join(f'"{prompt}",{int(strong)},{weak},0,0.02,0.001,0.0001\n' for prompt, strong, weak in rows)
    costs = ",".join(f"{name}|total_cost" for name in ("strong-model", "weak-model", "other-model"))
    (place / "many.csv").write_text(f"prompt,strong-model,weak-model,other-model,{costs}\n" + many)
    (place / "train.csv").write_text("prompt,model_a,model_b,winner\nHELLO  0,a,b,tie\n")
    (place / "evals" / "gsm8k").mkdir(parents=True)
    (place / "evals" / "gsm8k" / "gsm8k_responses.csv").write_text("prompt,large,small\n" + "".join(
        f'"{prompt}",{bool(strong)},{bool(weak)}\n' for prompt, strong, weak in rows
    ))  # fmt: skip
    (place / "evals" / "gsm8k" / "contaminated_prompts.jsonl").write_text('{"eval_prompt": "hello 0"}\n')
    (place / "log.jsonl").write_text("".join(
        json.dumps({"prompt": prompt, "large": int(strong), "small": weak}) + "\n" for prompt, strong, weak in rows
    ) + '{"prompt": 3}\n')  # fmt: skip
    (place / "even.csv").write_text("prompt,large,small\na,1,0\nb,0,1\n")
    (place / "empty.csv").write_text("")
    (place / "mine.txt").write_text("prompt")
    return place


def output(capsys: pytest.CaptureFixture[str], arguments: Sequence[object]) -> str:
    assert main(["evaluate", *map(str, arguments), *FEW]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_a_table_of_ones_own(folder, capsys):
    found = output(capsys, [folder / "tiny", "--golden", folder / "mine.csv", *MODELS, "--domains"])
    lines = found.splitlines()
    assert lines[0] == "mine: 40 prompts"
    assert lines[1].startswith("tiny on mine: ")
    assert any(line.startswith("How sure: APGR ") for line in lines)
    (quality,) = (index for index, line in enumerate(lines) if line.startswith("quality: "))
    assert "75.0 % large (strong), 50.0 % small (weak); best single model: large, 75.0 %" in lines[quality]
    starts = [line.split("  ")[0].strip() for line in lines[quality + 2 : quality + 6]]
    assert starts == ["tiny", "prompt length", "random", "oracle"]
    assert "tiny less prompt length: APGR" in found
    assert "note: 40 prompts are few" in found
    assert "maths" in found
    assert "\x1b" not in found
    assert "saving in dollars" not in found  # nobody said what these models cost
    assert "saving in dollars" in output(
        capsys,
        ["random", "--golden", folder / "mine.csv", *MODELS, "--prices", "large=10", "--prices", "small=1"],
    )


def test_routers_side_by_side_as_json(folder, capsys):
    found = output(
        capsys,
        [folder / "tiny", f"dull={folder / 'dice'}", "mf", "--benchmarks", folder, "--benchmark", "gsm8k",
         "--golden", folder / "mine.csv", *MODELS, "--json", "--train-data", folder / "train.csv"],
    )  # fmt: skip
    evaluation = Evaluation.from_json(json.loads(found))
    assert list(evaluation.routers) == ["tiny", "dull", "mf"]
    assert [evaluation.routers[name]["kind"] for name in evaluation.routers] == ["mf", "random", "mf"]
    assert all(entry["digest"].startswith("sha256:") for entry in evaluation.routers.values())
    gsm8k, mine = evaluation.benchmarks
    assert (gsm8k.name, gsm8k.prompts, gsm8k.dropped, gsm8k.overlapping) == ("gsm8k", 39, 1, 0)
    assert (mine.name, mine.prompts, mine.dropped, mine.overlapping) == ("mine", 39, 0, 1)
    assert [row.name for row in mine.routers] == ["tiny", "dull", "mf", "prompt length", "random", "oracle"]
    assert evaluation.settings["resamples"] == 30


def test_report_and_cache(folder, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    arguments = [folder / "tiny", "--golden", folder / "mine.csv", *MODELS, "--cache", tmp_path / "kept"]
    found = output(capsys, [*arguments, "--out", tmp_path / "report"])
    assert f"wrote {tmp_path / 'report' / 'report.html'}" in found
    assert (tmp_path / "report" / "report.html").stat().st_size > 1000
    assert Evaluation.read(tmp_path / "report" / "evaluation.json").benchmarks[0].prompts == 40
    assert len(list((tmp_path / "kept").glob("*.win-rates"))) == 1
    output(capsys, arguments)
    assert len(list((tmp_path / "kept").glob("*.win-rates"))) == 1


def test_a_report_that_exists_is_replaced_with_force_only(folder, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    arguments = ["evaluate", "mf", "--golden", str(folder / "mine.csv"), *MODELS, *FEW]
    arguments += ["--out", str(tmp_path / "report")]
    assert main(arguments) == 0, capsys.readouterr().err
    before = (tmp_path / "report" / "report.html").read_bytes()
    capsys.readouterr()
    for name in ("report.html", "evaluation.json"):
        assert main(arguments) == 2
        assert f"{tmp_path / 'report' / name} exists already" in capsys.readouterr().err
        (tmp_path / "report" / name).unlink()
    assert main(arguments) == 0
    assert main([*arguments, "--force"]) == 0
    assert len((tmp_path / "report" / "report.html").read_bytes()) == len(before)


def test_two_tables_of_one_name_are_told_apart(folder, capsys):
    table = folder / "mine.csv"
    found = output(capsys, ["random", "--golden", table, "--golden", table, *MODELS])
    assert "mine: 40 prompts" in found
    assert "mine (2): 40 prompts" in found


def test_pool_and_transfer(folder, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    found = output(
        capsys,
        [folder / "tiny", "--golden", folder / "many.csv", "--pool", "costs", "--transfer", "strong-model,other-model",
         "--out", tmp_path],
    )  # fmt: skip
    assert (
        "many.csv: tiny chooses among 3 models on 40 prompts\nbest single model: strong-model, quality 0.750" in found
    )
    assert "|" not in found
    assert (tmp_path / "pool.md").read_text().startswith("## many.csv: tiny chooses among 3 models")
    assert "| strong-model alone (best single model) | 0.750 [" in (tmp_path / "pool.md").read_text()
    assert (tmp_path / "transfer.md").read_text().startswith("## many.csv: tiny on 0 of 1 pairs")
    assert "many.csv: tiny on 0 of 1 pairs; left out: 1, with too small a gap" in found  # 40 prompts are too few
    assert json.loads((tmp_path / "pool.json").read_text())[0]["best_single"] == "strong-model"
    assert json.loads((tmp_path / "transfer.json").read_text()) == []
    priced = ["--pool", "strong-model=5", "--pool", "weak-model=1", "--json"]
    record = json.loads(output(capsys, [folder / "tiny", "--golden", folder / "many.csv", *priced]))
    assert [model["name"] for model in record["pool"][0]["models"]] == ["weak-model", "strong-model"]


def test_tables_are_drawn_on_a_terminal_and_markdown_where_asked(folder, capsys):
    arguments = [str(folder / "tiny"), "--golden", str(folder / "many.csv"), "--pool", "costs"]
    shown = run_in_terminal("evaluate", *arguments, *FEW, columns=170)
    assert "|" not in shown
    assert any(
        line.startswith("who answers ") and line.rstrip().endswith("dominated by") for line in shown.splitlines()
    )
    # What a narrow terminal has no room for stands in a second table; no number and no title is cut.
    narrow = run_in_terminal("evaluate", *arguments, *FEW, columns=60)
    assert max(map(len, narrow.splitlines())) <= 60
    assert sum(line.startswith("who answers ") for line in narrow.splitlines()) > 1
    words = [set(re.findall(r"[^\s,()\[\]]+", text)) for text in (shown, narrow)]
    assert words[0] <= words[1]
    assert "| who answers | quality |" in output(capsys, [*arguments, "--markdown"])
    mine = output(capsys, [folder / "tiny", "--golden", folder / "mine.csv", *MODELS, "--domains", "--markdown"])
    assert "| router | APGR, RouteLLM's code |" in mine
    assert "| maths |" in mine


def test_a_log_is_streamed(folder, capsys):
    arguments = [folder / "tiny", "--log", folder / "log.jsonl", *MODELS]
    for option in ([], ["--skip-bad-rows"]):
        found = output(capsys, [*arguments, *option])
        assert "log.jsonl: 40 prompts" in found
        assert "log.jsonl, line 41" in found, "what was left out is named"
    assert main(["evaluate", *map(str, arguments), "--strict"]) == 2
    assert "log.jsonl, line 41" in capsys.readouterr().err


def test_a_log_with_an_empty_cell_is_read_as_a_table_is(folder, tmp_path, capsys):
    lines = (folder / "mine.csv").read_text().splitlines()
    lines[3] = ",".join(cell if column != 2 else "" for column, cell in enumerate(lines[3].split(",")))
    (tmp_path / "mine.csv").write_text("\n".join(lines) + "\n")
    left_out = "39 prompts; 1 left out because one of the models was not run on them"
    for option in ("--golden", "--log"):
        found = output(capsys, ["random", option, tmp_path / "mine.csv", *MODELS])
        assert left_out in found.splitlines()[0]
        assert found.count("left out") == 1


def test_names_from_files_cannot_harm_a_terminal(tmp_path, capsys):
    rows = [
        {"prompt": f"p {n}", "large": 1, "small": n % 2, "domain": ("\x1b[2J", "a\ud800\n")[n % 2]} for n in range(40)
    ]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["random", "--golden", tmp_path / "mine.jsonl", *MODELS]
    found = output(capsys, [*arguments, "--domains"])
    assert "\x1b" not in found
    assert "\\x1b[2J" in found
    assert "a?" in output(capsys, [*arguments, "--json"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["nothing to evaluate on", "--benchmarks", "--golden"]),
        (["--golden", "mine.csv"], ["mine.csv has no column 'gpt-4-1106-preview'", "'large'"]),
        (["--golden", "even.csv", *MODELS], ["even: 'large' scores 0.5", "compare other models"]),
        (["--golden", "mine.csv", "--strong-model", "small", "--weak-model", "large"], ["swap the two"]),
        (["--golden", "empty.csv", *MODELS], ["empty.csv holds no rows"]),
        (["--golden", "absent.csv", *MODELS], ["absent.csv cannot be read"]),
        (["--golden", "mine.txt", *MODELS], ["mine.txt", ".csv"]),
        (["--benchmarks", "tiny"], ["tiny is no folder of benchmarks"]),
        (["--benchmarks", "evals", "--benchmark", "arena"], ["no benchmark 'arena'"]),
        (["--benchmarks", "evals", *MODELS], ["holds no mmlu_<domain>.csv"]),
        (["nowhere", "--golden", "mine.csv", *MODELS], ["nowhere"]),
        (["tiny", "tiny", "--golden", "mine.csv", *MODELS], ["'tiny' is named twice"]),
        (["random=tiny", "--golden", "mine.csv", *MODELS], ["'random' is the name of a baseline"]),
        (["--golden", "mine.csv", *MODELS, "--prices", "large"], ["large cannot be read"]),
        (["--golden", "mine.csv", *MODELS, "--prices", "other=1"], ["'other'", "not one of the two models"]),
        (["--golden", "mine.csv", *MODELS, "--benchmark", "mmlu"], ["--benchmarks"]),
        (["--golden", "mine.csv", *MODELS, "--engine", "ray"], ["--engine", "--log"]),
        (["--golden", "mine.csv", *MODELS, "--skip-bad-rows"], ["--skip-bad-rows", "--log"]),
        (["--golden", "mine.csv", *MODELS, "--prices", "large=cheap"], ["MODEL=USD", "'large=cheap'"]),
        (["--golden", "mine.csv", *MODELS, "--prices", "large=-1"], ["a price is zero or more"]),
        (["--golden", "mine.csv", *MODELS, "--tokens-per-prompt", "0"], ["tokens per prompt"]),
        (["--golden", "mine.csv", *MODELS, "--resamples", "0"], ["--resamples"]),
        (["--golden", "mine.csv", *MODELS, "--out", "mine.csv"], ["mine.csv"]),
        (["--golden", "mine.csv", *MODELS, "--cache", "mine.csv"], ["another cache folder"]),
        (["--golden", "mine.csv", *MODELS, "--train-data", "mine.csv"], ["all 40 prompts are in the training data"]),
        (["--pool", "costs"], ["nothing to evaluate on"]),
        (["--golden", "mine.csv", *MODELS, "--json", "--markdown"], ["--json or --markdown, not both"]),
        (["--pool", "costs", "--benchmarks", "evals"], ["--pool and --transfer need --golden"]),
        (["dice", "--pool", "costs", "--golden", "many.csv"], ["kind mf"]),
        (["tiny", "--pool", "costs", "--golden", "even.csv"], ["no cost of any model"]),
        (
            ["tiny", "--pool", "strong-model=free", "--golden", "many.csv"],
            ["strong-model=free", "must be a number of USD"],
        ),
        (["tiny", "--pool", "strong-model=-1", "--golden", "many.csv"], ["at least 0, found -1"]),
        (["tiny", "--transfer", "large", "--golden", "many.csv"], ["STRONG,WEAK or all", "'large'"]),
        (["tiny", "--transfer", "large,none", "--golden", "many.csv"], ["no row has a score of large, none"]),
        (["--log", "log.jsonl", "--engine", "spark"], ["no engine 'spark', only local and ray"]),
    ],
)
def test_bad_input_is_one_line_and_exit_status_two(folder, capsys, monkeypatch, arguments, words):
    if "--out" in arguments:
        pytest.importorskip("matplotlib")
    monkeypatch.chdir(folder)
    assert main(["evaluate", *arguments, *(() if "--resamples" in arguments else FEW)]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("routellm-fast: ")
    for word in words:
        assert word in captured.err


def test_in_a_process_of_its_own(folder):
    run = run_cli("evaluate", str(folder / "tiny"), "--golden", str(folder / "mine.csv"), *MODELS, *FEW)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""  # no bar where there is no terminal
    assert_refused(run_cli("evaluate", "--golden", str(folder / "mine.csv")), "gpt-4-1106-preview")


def test_nothing_heavy_is_imported_before_it_is_needed():
    heavy = ("matplotlib", "ray", "pandas", "torch", "pyarrow", "sklearn", "scipy", "openai")
    code = f"import sys, routellm_fast.cli, routellm_fast.evaluation; print([m for m in {heavy} if m in sys.modules])"
    run = run_python("-c", code)
    assert run.stdout.strip() == "[]", run.stderr
