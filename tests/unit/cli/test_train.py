from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.cli import main
from routellm_fast.training.gap_regression import RIDGES
from tests.support.builders import mf_router, static_embedder
from tests.support.fake_openai import FakeOpenAI
from tests.support.processes import assert_refused, run_cli, run_python

PAIR = ["--strong-model", "big", "--weak-model", "small", "--created", "2026-11-24"]
MF = [
    "--max-epochs",
    "8",
    "--patience",
    "8",
    "--learning-rate",
    "0.02",
    "--batch-size",
    "16",
    "--d",
    "4",
]
WORDS = ["prove", "the", "hello", "write", "a", "b", "c", "1"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Battles in which the big model wins on prompts that ask for a proof, and golden labels that agree."""
    rng = np.random.default_rng(0)
    prompts = [" ".join(rng.choice(WORDS, size=rng.integers(2, 9))) + f" {i}" for i in range(200)]
    with (tmp_path / "battles.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "model_a", "model_b", "winner", "license"])
        for prompt in prompts:
            hard = "prove" in prompt
            winner = ("model_a" if hard else "model_b") if rng.random() < 0.9 else "tie"
            writer.writerow([prompt, "big", "small", winner, "mit" if rng.random() < 0.8 else "unstated"])
    with (tmp_path / "golden.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "big", "small"])
        for prompt in prompts[:50]:
            writer.writerow([prompt, 1, 0 if "prove" in prompt else 1])
    static_embedder(surface_features=("constant", "log_tokens")).save(tmp_path / "embedder")
    return tmp_path


def train(folder: Path, out: str, *arguments: str) -> object:
    embedder = str(folder / "embedder")
    return run_cli("train", "mf", "--out", str(folder / out), "--embedder", embedder, *PAIR, *MF, *arguments)


def train_sw(folder: Path, out: str, *arguments: str) -> object:
    return run_cli("train", "sw_ranking", "--out", str(folder / out), *PAIR, "--num-tiers", "2", *arguments)


def in_folder(folder: Path, arguments: list[str]) -> list[str]:
    return [str(folder / a) if a.endswith(".csv") and "/" not in a else a for a in arguments]


def test_training_learns_and_the_same_seed_gives_the_same_bytes(folder: Path) -> None:
    files = ["--battles", str(folder / "battles.csv"), "--golden", str(folder / "golden.csv")]
    for out in ("one", "two"):
        run = train(folder, out, *files, "--seed", "7", "--metrics", str(folder / f"{out}.json"))
        assert run.returncode == 0, run.stderr  # type: ignore[attr-defined]
        assert "█" not in run.stderr  # type: ignore[attr-defined]
    train(folder, "other", *files, "--seed", "8")
    contents = [{f.name: f.read_bytes() for f in (folder / out).iterdir()} for out in ("one", "two", "other")]
    assert contents[0] == contents[1]
    assert contents[0]["weights.safetensors"] != contents[2]["weights.safetensors"]
    metrics = json.loads((folder / "one.json").read_text())
    digest = metrics.pop("digest")
    assert f"digest: {digest}\n" in run.stdout  # type: ignore[attr-defined]
    assert metrics == rf.load_router(folder / "one", digest=digest).provenance["training"]
    router = rf.load_router(folder / "one")
    assert router.model_pair == ("big", "small")
    assert router.win_rate("prove prove prove") > router.win_rate("hello hello hello")
    assert router.calibration is not None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["at least one file"]),
        (["--battles", "no/such/file.csv"], ["no/such/file.csv"]),
        (["--battles", "battles.csv", "--seed", "-1"], ["seed"]),
        (["--battles", "battles.csv", "--strong-model", "huge"], ["huge"]),
        (["--battles", "battles.csv", "--license", "gpl"], ["no row of license gpl"]),
        (["--battles", "battles.csv", "--learning-rate", "nan"], ["learning rate"]),
        (["--battles", "golden.csv"], ["line 2", "winner"]),
        (["--battles", "battles.csv", "--metrics", "no/such/folder/m.json"], ["no/such/folder"]),
    ],
)
def test_bad_input_is_one_line_and_exit_status_two(folder: Path, arguments: list[str], words: list[str]) -> None:
    assert_refused(train(folder, "out", *in_folder(folder, arguments)), *words)  # type: ignore[arg-type]
    assert not (folder / "out").exists()


def test_a_similarity_weighted_router_is_built_from_the_same_files(folder: Path) -> None:
    files = ["--battles", str(folder / "battles.csv"), "--golden", str(folder / "golden.csv")]
    options = ["--embedder", str(folder / "embedder"), "--min-prompt-chars", "8"]
    for out in ("one", "two"):
        run = train_sw(folder, out, *files, *options, "--metrics", str(folder / f"{out}.json"))
        assert run.returncode == 0, run.stderr  # type: ignore[attr-defined]
        assert run.stderr == ""  # type: ignore[attr-defined]
        assert "held out loss: " in run.stdout  # type: ignore[attr-defined]
    contents = [{f.name: f.read_bytes() for f in (folder / out).iterdir()} for out in ("one", "two")]
    assert contents[0] == contents[1]
    metrics = json.loads((folder / "one.json").read_text())
    router = rf.load_router(folder / "one")
    assert router.kind == "sw_ranking"
    assert router.model_pair == ("big", "small")
    assert metrics.pop("tiers") == [["big"], ["small"]]
    assert metrics.pop("pair_tiers") == [0, 1]
    digest = metrics.pop("digest")
    assert metrics == router.provenance["training"]
    rf.load_router(folder / "one", digest=digest)
    assert metrics["ties"] > 0
    assert metrics["config"]["num_tiers"] == 2
    assert router.embedder.dim == 6, "surface features would drown a cosine"
    assert router.calibration is not None
    assert router.win_rate("prove prove prove") > router.win_rate("hello hello hello")


def test_a_similarity_weighted_router_may_use_the_embedder_that_ships(folder: Path) -> None:
    run = train_sw(folder, "out", "--battles", str(folder / "battles.csv"), "--license", "mit", "--same-tier", "ignore")
    assert run.returncode == 0, run.stderr  # type: ignore[attr-defined]
    router = rf.load_router(folder / "out")
    assert router.embedder.dim == 256
    assert router.provenance["training"]["licenses"] == ["mit"]


def test_a_pair_in_one_tier_is_refused(folder: Path) -> None:
    with (folder / "battles.csv").open("a", newline="") as file:
        for i in range(50):
            csv.writer(file).writerow(
                [f"prove the a b c {i}", "small", "tiny", ["model_a", "model_b"][i % 9 == 0], "mit"]
            )
    run = train_sw(folder, "out", "--battles", str(folder / "battles.csv"))
    assert_refused(run, "big and small are in one tier, 0 of 2", "--num-tiers")  # type: ignore[arg-type]
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["at least one file"]),
        (["--battles", "battles.csv", "--seed", "-1"], ["seed"]),
        (["--battles", "battles.csv", "--num-tiers", "1"], ["num-tiers"]),
        (["--battles", "battles.csv", "--precision", "float128"], ["float128"]),
        (["--battles", "battles.csv", "--strong-model", "huge"], ["huge"]),
        (["--battles", "battles.csv", "--min-prompt-chars", "999"], ["too short"]),
        (["--battles", "battles.csv", "--embedder", "none"], ["give an embedder"]),
        (["--battles", "battles.csv", "--embeddings", "e.npy"], ["--embedder"]),
        (["--battles", "battles.csv", "--embeddings", "e.npy", "--embedder", "none"], ["RouteLLM's datasets"]),
        (["--battles", "no/such/file.csv"], ["no/such/file.csv"]),
    ],
)
def test_what_no_similarity_weighted_router_is_made_of_is_refused(
    folder: Path, arguments: list[str], words: list[str]
) -> None:
    assert_refused(train_sw(folder, "out", *in_folder(folder, arguments)), *words)  # type: ignore[arg-type]
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--license", "mit", "--golden", "none.csv"], "--license does nothing without --battles"),
        (["--refuse-overlap", "--golden", "none.csv"], "--refuse-overlap does nothing without --evaluation"),
        (["--keep-ties", "--golden", "none.csv"], "--keep-ties does nothing without --battles"),
        (["--soft-labels", "--battles", "none.csv"], "--soft-labels does nothing without --golden"),
        (["--metrics", ".", "--battles", "none.csv"], "is a directory: name a file"),
        (["--battles", "none.csv", "--strong-model", "one", "--weak-model", "one"], "are both 'one'"),
        (["--battles", "none.csv", "--other-pairs-weight", "inf"], "above 0 and finite"),
    ],
)
def test_what_would_do_nothing_or_fail_at_the_end_is_refused_first(tmp_path, capsys, monkeypatch, arguments, word):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "mf", "--out", "router", *arguments]) == 2
    assert word in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["mf", "sw_ranking", "bert", "causal_llm"])
def test_every_kind_refuses_options_that_would_do_nothing(tmp_path, capsys, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    for arguments, words in (
        (["--license", "mit", "--golden", "none.csv"], "--license does nothing without --battles"),
        (["--refuse-overlap", "--battles", "none.csv"], "--refuse-overlap does nothing without --evaluation"),
    ):
        assert main(["train", kind, "--out", "router", *arguments]) == 2
        assert words in capsys.readouterr().err


def test_bert_refuses_soft_labels_without_golden_labels(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "bert", "--out", "router", "--soft-labels", "--battles", "none.csv"]) == 2
    assert "--soft-labels does nothing without --golden" in capsys.readouterr().err


def test_places_that_cannot_be_written_are_refused_before_anything_is_read(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    for arguments in (["--out", "file/router"], ["--out", "router", "--checkpoint", "file"]):
        assert main(["train", "mf", *arguments, "--battles", "none.csv"]) == 2
        assert "file" in (text := capsys.readouterr().err)
        assert "cannot be written (Not a directory)" in text
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def here(folder: Path, out: str, *arguments: str, kind: str = "mf") -> int:
    """Run `train` in this process, on the battles of the folder."""
    files = ["--battles", str(folder / "battles.csv"), "--out", str(folder / out)]
    return main(["train", kind, *files, "--embedder", str(folder / "embedder"), *PAIR, *arguments])


def test_mf_is_trained_by_gap_regression_without_an_extra_unless_told_otherwise(folder: Path) -> None:
    program = "import sys; sys.modules['torch'] = None; from routellm_fast.cli import main; sys.exit(main())"
    files = ["--battles", str(folder / "battles.csv"), "--golden", str(folder / "golden.csv")]
    run = run_python("-c", program, "train", "mf", "--out", str(folder / "out"), *files, *PAIR)
    assert run.returncode == 0, run.stderr
    assert "  method: gap_regression\n" in run.stdout
    assert run.stdout.splitlines()[-1].startswith("verdict: ")
    router = rf.load_router(folder / "out")
    assert router.provenance["training"]["method"] == "gap_regression"
    assert router.provenance["training"]["config"]["ridge"] in RIDGES  # chosen on the training part
    assert router.win_rate("prove prove prove") > router.win_rate("hello hello hello")


@pytest.mark.parametrize(
    ("arguments", "method"),
    [
        ([], "gap_regression"),
        (["--ridge", "3"], "gap_regression"),
        (["--length-weight", "0"], "gap_regression"),
        (["--method", "gradient_descent", "--max-epochs", "1"], "gradient_descent"),
        (["--max-epochs", "1"], "gradient_descent"),
        (["--keep-ties", "--patience", "1", "--max-epochs", "1"], "gradient_descent"),
    ],
)
def test_options_of_one_method_choose_it(folder, capsys, arguments, method):
    if method == "gradient_descent":
        pytest.importorskip("torch")
    assert here(folder, "out", *arguments) == 0, capsys.readouterr().err
    assert f"  method: {method}\n" in capsys.readouterr().out
    assert f"* method: {method}\n" in rf.load_router(folder / "out").model_card


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "magic"], "--method is gap_regression or gradient_descent, found 'magic'"),
        (["--method", "gap_regression", "--refit"], "--refit does nothing with --method gap_regression"),
        (["--method", "gradient_descent", "--ridge", "1"], "--ridge does nothing with --method gradient_descent"),
        (["--ridge", "1", "--max-epochs", "2"], "--ridge belongs to gap_regression and --max-epochs to"),
        (["--ridge", "0"], "ridges are above 0"),
        (["--require-better", "luck"], "--require-better is constant or length, found 'luck'"),
        (["--embedder", "none"], "name an embedder"),
    ],
)
def test_methods_refuse_what_does_nothing_with_them(folder, capsys, arguments, words):
    assert here(folder, "out", *arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (folder / "out").exists()


def test_an_embedder_without_surface_features_is_trained_with_by_gradient_descent(folder, capsys):
    pytest.importorskip("torch")
    static_embedder(surface_features=()).save(folder / "plain")
    assert here(folder, "out", "--embedder", str(folder / "plain")) == 0, capsys.readouterr().err
    assert "  method: gradient_descent\n" in capsys.readouterr().out
    assert here(folder, "no", "--embedder", str(folder / "plain"), "--method", "gap_regression") == 2
    assert "surface features constant and log_tokens" in capsys.readouterr().err


def test_mf_takes_an_embedder_behind_a_server(folder, capsys, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("openai")
    with FakeOpenAI(dim=1536) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-tests-own")
        options = ["--embedder", "openai:text-embedding-ada-002", "--max-epochs", "1"]
        assert here(folder, "out", *options) == 0, capsys.readouterr().err
        assert len(server.texts) >= 200
        router = rf.load_router(folder / "out")
        assert router.embedder.name == "openai:text-embedding-ada-002"
        assert 0.0 < router.win_rate("prove it") < 1.0


@pytest.fixture
def noise(folder: Path) -> Path:
    """The same battles, won by chance."""
    rng = np.random.default_rng(3)
    lines = (folder / "battles.csv").read_text().splitlines()
    fields = [line.split(",") for line in lines[1:]]
    won = [",".join([prompt, a, b, str(rng.choice(["model_a", "model_b"])), of]) for prompt, a, b, _, of in fields]
    (folder / "battles.csv").write_text("\n".join([lines[0], *won]) + "\n")
    return folder


@pytest.mark.parametrize("kind", ["mf", "sw_ranking"])
def test_a_router_that_learned_something_says_so_everywhere(folder, capsys, kind):
    options = ["--num-tiers", "2", "--min-prompt-chars", "1"] if kind == "sw_ranking" else ["--held-out-share", "0.4"]
    metrics = folder / "metrics.json"
    needed = "length" if kind == "mf" else "constant"
    status = here(folder, "out", *options, "--require-better", needed, "--metrics", str(metrics), kind=kind)
    output, error = capsys.readouterr()
    assert (status, error) == (0, "")
    line = output.splitlines()[-1]
    assert line.startswith("verdict: better than a constant, ")
    assert ("better than prompt length" in line) == (kind == "mf")
    found = json.loads(metrics.read_text())["verdict"]
    assert found["line"] == line
    assert found["gain"][1] > 0.0
    assert line.removeprefix("verdict") in rf.load_router(folder / "out").model_card


@pytest.mark.parametrize("kind", ["mf", "sw_ranking"])
def test_a_router_that_learned_nothing_says_so_and_a_script_can_see_it(noise, capsys, kind):
    options = ["--num-tiers", "2", "--min-prompt-chars", "1"] if kind == "sw_ranking" else ["--held-out-share", "0.4"]
    if kind == "sw_ranking":  # by chance alone the tiers may not differ; the verdict is what is tested
        options += ["--same-tier", "ignore"]
    assert here(noise, "out", *options, kind=kind) == 0, capsys.readouterr().err
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith(("verdict: no different from a constant", "verdict: worse than a constant"))
    for needed in ("constant", "length"):
        assert here(noise, needed, *options, "--require-better", needed, kind=kind) == 3
        output, error = capsys.readouterr()
        assert output.splitlines()[-1] == line
        assert f"--require-better {needed} asks" in error
        assert error.count("\n") == 1
        assert rf.load_router(noise / needed).kind == kind


@pytest.mark.parametrize("kind", ["mf", "sw_ranking"])
def test_a_router_that_exists_is_replaced_with_force_only(folder, capsys, kind):
    options = ["--num-tiers", "2"] if kind == "sw_ranking" else []
    metrics = ["--metrics", str(folder / "metrics.json")]
    assert here(folder, "out", *options, *metrics, kind=kind) == 0, capsys.readouterr().err
    before = {file.name: file.read_bytes() for file in (folder / "out").iterdir()}
    capsys.readouterr()
    for arguments, path in ((options, folder / "out"), ([*options, *metrics], folder / "metrics.json")):
        out = "out" if path.name == "out" else "other"
        assert here(folder, out, *arguments, "--held-out-share", "0.3", kind=kind) == 2
        error = capsys.readouterr().err
        assert f"{path} exists already" in error
        assert "--force" in error
    assert {file.name: file.read_bytes() for file in (folder / "out").iterdir()} == before
    assert here(folder, "out", *options, *metrics, "--held-out-share", "0.3", "--force", kind=kind) == 0
    assert (folder / "out" / "router.json").read_bytes() != before["router.json"]
    (folder / "empty").mkdir()
    assert here(folder, "empty", *options, kind=kind) == 0


@pytest.mark.parametrize("kind", ["bert", "causal_llm"])
def test_transformers_are_not_replaced_unasked_either(folder, capsys, kind):
    mf_router().save(folder / "out")
    arguments = ["train", kind, "--battles", str(folder / "battles.csv"), "--out", str(folder / "out"), *PAIR]
    assert main(arguments) == 2
    assert "exists already" in capsys.readouterr().err
