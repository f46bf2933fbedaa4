from __future__ import annotations

import gzip
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast import cli
from tests.support.builders import bert_router, mf_router, model2vec_folder
from tests.support.fake_openai import FakeOpenAI
from tests.support.processes import assert_refused, run_cli, run_python

REPOSITORY = Path(__file__).resolve().parents[3]
CHECKPOINT = REPOSITORY / "tests" / "parity" / "routellm_checkpoint"


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "router"
    mf_router().save(path)
    return path


def records(output: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines()]


def test_the_shipped_router_answers_offline_with_no_key() -> None:
    run = run_cli("route", stdin="Prove that there are infinitely many primes.\n", environment={"OPENAI_API_KEY": ""})
    assert run.returncode == 0, run.stderr
    assert "Prove that there are infinitely many primes." in run.stdout
    assert re.search(r"\n1 prompt, to the (strong|weak) model; [0-9.]+ µs\n$", run.stdout)
    assert "p99" not in run.stdout


def test_json_lines_hold_the_decision(router: Path) -> None:
    run = run_cli("route", "--router", str(router), "--jsonl", "--threshold", "0.4", "hello", "prove the a?")
    loaded = rf.load_router(router)
    found = records(run.stdout)
    assert [record["prompt"] for record in found] == ["hello", "prove the a?"]
    for record in found:
        decision = loaded.route(str(record["prompt"]), 0.4)
        assert record["win_rate"] == pytest.approx(decision.win_rate, abs=1e-6)
        assert (record["model"], record["is_strong"], record["threshold"]) == (decision.model, decision.is_strong, 0.4)
        assert float(str(record["microseconds"])) > 0


def test_a_share_becomes_the_calibrated_threshold_and_is_the_default(router: Path) -> None:
    for arguments in (["--strong-share", "0.5"], []):
        run = run_cli("route", "--router", str(router), "--jsonl", *arguments, "hello")
        assert records(run.stdout)[0]["threshold"] == 0.4


def test_standard_input_takes_text_and_json_lines(router: Path) -> None:
    lines = [
        "hello",
        "",
        json.dumps({"prompt": "write", "id": 7}),
        json.dumps({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}),
        "{ not json, a prompt",
        "caf\udce9",
    ]
    stdin = "\n".join(lines).encode("utf-8", "surrogateescape")
    run = run_cli("route", "--router", str(router), "--jsonl", stdin=stdin)
    assert run.returncode == 0, run.stderr
    found = records(run.stdout)
    assert [r["prompt"] for r in found] == ["hello", "write", "hi", "{ not json, a prompt", "caf�"]
    assert found[1]["id"] == 7
    assert run.stderr == "routellm-fast: 1 blank line was skipped\n"


def test_a_file_may_be_compressed_and_text_may_look_like_json(router: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.txt.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\nhello'))
    run = run_cli("route", "--router", str(router), "--jsonl", "--format", "text", "--file", str(path))
    assert [r["prompt"] for r in records(run.stdout)] == ['{"a": 1}', "hello"]
    run = run_cli("route", "--router", str(router), "--jsonl", "--file", str(path))
    assert [r["prompt"] for r in records(run.stdout)] == ["hello"]
    assert "line 1: a JSON line needs `prompt`" in run.stderr
    strict = run_cli("route", "--router", str(router), "--file", str(path), "--strict")
    assert_refused(strict, "line 1", "--format text")


def test_the_table_is_readable(router: Path) -> None:
    run = run_cli("route", "--router", str(router), "--strong-model", "big", "hello\x1b[31m\nworld", "漢字" * 200)
    lines = run.stdout.splitlines()
    assert lines[0].startswith("big from win rate")
    assert "\x1b" not in run.stdout
    assert "hello" in lines[3]
    assert lines[4].endswith("…")
    assert "2 prompts" in lines[-1]
    assert "p50" in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--threshold", "7", "x"], ["threshold 7", "outside [0, 1]"]),
        (["--threshold", "nan", "x"], ["outside"]),
        (["--threshold", "high", "x"], ["threshold"]),
        (["--strong-share", "-1", "x"], ["strong share"]),
        (["--threshold", "0.5", "--strong-share", "0.5", "x"], ["not both"]),
        (["--router", "no/such/place", "x"], ["no/such/place"]),
        (["--file", "no/such/file"], ["no/such/file"]),
        (["--file", "f", "x"], ["not both"]),
        (["--nonsense"], ["--nonsense"]),
    ],
)
def test_bad_arguments_are_one_line_and_exit_status_two(arguments: list[str], words: list[str]) -> None:
    assert_refused(run_cli("route", *arguments), *words)


def test_an_unsupported_isa_is_one_line_and_exit_status_two() -> None:
    assert_refused(run_cli("route", "x", environment={"ROUTELLM_FAST_ISA": "sse9"}), "sse9", "scalar")


def test_a_damaged_router_is_one_line_and_exit_status_two(tmp_path: Path) -> None:
    mf_router().save(tmp_path / "r")
    (tmp_path / "r" / "weights.safetensors").write_bytes(b"")
    assert_refused(run_cli("info", str(tmp_path / "r")), "weights.safetensors")


def test_info_says_what_a_router_holds(router: Path) -> None:
    run = run_cli("info", str(router))
    for word in ("mf", "strong-model", "static:tiny", "log_tokens", "test prompts", "2026-11-24"):
        assert word in run.stdout
    facts = json.loads(run_cli("info", str(router), "--json").stdout)
    assert facts["tensors"]["W"] == "float32 (4, 9)"
    assert run_cli("info").returncode == 0


def test_a_checkpoint_becomes_a_router(tmp_path: Path) -> None:
    run = run_cli("import", str(CHECKPOINT), str(tmp_path / "out"), "--embedder", "none")
    assert run.returncode == 0, run.stderr
    router = rf.load_router(tmp_path / "out")
    assert router.model_pair.strong == "gpt-4-1106-preview"
    assert router.win_rates_from_embeddings(np.zeros((1, 96), np.float32))[0] == 0.5  # type: ignore[attr-defined]
    assert_refused(run_cli("import", str(CHECKPOINT), str(tmp_path / "b")), "96 dimensions")
    assert_refused(
        run_cli("import", str(CHECKPOINT), str(tmp_path / "b"), "--embedder", "none", "--weak-model", "mixtral"),
        "mixtral-8x7b",
    )


def test_a_model2vec_folder_becomes_an_embedder(tmp_path: Path) -> None:
    folder = model2vec_folder(tmp_path / "m")
    assert run_cli("import", str(folder), str(tmp_path / "out"), "--int8").returncode == 0
    assert rf.StaticEmbedder.load(tmp_path / "out").table.dtype == np.int8
    assert_refused(run_cli("import", str(tmp_path), str(tmp_path / "x")), "neither")


def test_what_import_would_replace_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = model2vec_folder(tmp_path / "m"), tmp_path / "out"
    assert cli.main(["import", str(folder), str(out), "--int8"]) == 0
    before = (out / "embedder.json").read_bytes()
    assert cli.main(["import", str(folder), str(out)]) == 2
    assert f"{out} exists already" in capsys.readouterr().err
    assert (out / "embedder.json").read_bytes() == before
    assert cli.main(["import", str(folder), str(out), "--force"]) == 0
    assert rf.StaticEmbedder.load(out).table.dtype == np.float32


def test_a_share_that_no_threshold_yields_stops_the_route(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flat = rf.Calibration.from_win_rates(np.full(1000, 0.5, np.float32), dataset="flat")
    mf_router(calibration=flat).save(tmp_path / "router")
    assert cli.main(["route", "--router", str(tmp_path / "router"), "--strong-share", "0.3", "hello"]) == 2
    error = capsys.readouterr().err
    assert "no threshold sends a share of 0.3" in error
    assert "Nearest is a share of 0, at threshold 1" in error


def test_a_million_prompts_need_constant_memory(router: Path) -> None:
    # Peak memory in kB for 300,000 prompts against 1,000: a list of them would cost tens of megabytes.
    program = (
        "import re, sys; from routellm_fast.cli import main; main(sys.argv[1:]);"
        "sys.stderr.write(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    )
    peaks = []
    for count in (1_000, 300_000):
        run = run_python("-c", program, "route", "--router", str(router), "--jsonl", stdin="prove the a b c\n" * count)
        assert run.stdout.count("\n") == count
        peaks.append(int(run.stderr))
    assert peaks[1] - peaks[0] < 8_000, peaks


def test_a_reader_that_goes_away_is_no_error(router: Path) -> None:
    command = (
        f"yes hello | head -n 20000 | {sys.executable} -m routellm_fast route --router {router} --jsonl | head -n 1"
    )
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd="/")
    assert run.stdout.count("\n") == 1
    assert run.stderr == ""


def test_a_remote_embedder_gets_the_prompts_in_batches_and_nothing_else(tmp_path: Path) -> None:
    with FakeOpenAI(dim=9) as server:
        embedder = rf.OpenAIEmbedder(model="tiny", base_url=server.url, dim=9, api_key="unused")
        mf_router(embedder).save(tmp_path / "r")  # type: ignore[arg-type]
        prompts = [f"prompt {i}" for i in range(100)]
        command = ["route", "--router", str(tmp_path / "r"), "--allow-server", server.url, "--jsonl"]
        run = run_cli(*command, stdin="\n".join(prompts))
        assert run.returncode == 0, run.stderr
        assert [record["prompt"] for record in records(run.stdout)] == prompts
        assert server.texts == prompts
        assert len(server.requests) == 2


def scored_batches(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The prompts of each run of a bert router's graph."""
    from routellm_fast.onnx.text_graph import TextGraph

    batches = []
    run = TextGraph.run
    monkeypatch.setattr(TextGraph, "run", lambda graph, texts: batches.append(list(texts)) or run(graph, texts))
    return batches


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    path = tmp_path_factory.mktemp("cli") / "bert"
    half = rf.Calibration("test prompts", 2, ((0.0, 1.0), (0.5, 0.5), (1.0, 0.0)))
    bert_router().with_calibration(half).save(path)
    return path


def test_a_transformer_scores_a_file_in_batches_and_says_what_a_prompt_costs(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    batches = scored_batches(monkeypatch)
    prompts = [f"prove the {'a b c ' * (i % 5)}" for i in range(100)]
    (tmp_path / "prompts.txt").write_text("\n".join(prompts) + "\n")
    assert cli.main(["route", "--router", str(bert), "--jsonl", "--file", str(tmp_path / "prompts.txt")]) == 0
    found = records(capsys.readouterr().out)
    # No warm-up of its own, and two runs for a hundred prompts.
    assert batches == [prompts[:64], prompts[64:]]
    assert [record["batch_size"] for record in found] == [64] * 64 + [36] * 36
    assert len({record["microseconds"] for record in found[:64]}) == 1
    alone = rf.load_router(bert)
    for prompt, record in zip(prompts, found, strict=True):
        decision = alone.route(prompt, 0.5)
        assert (record["prompt"], record["model"]) == (prompt, decision.model)
        assert record["win_rate"] == round(decision.win_rate, 7)
    assert cli.main(["route", "--router", str(bert), "--file", str(tmp_path / "prompts.txt")]) == 0
    *_, row, _, summary = capsys.readouterr().out.splitlines()
    assert "~" in row
    assert "~ the time of a batch of up to 64 prompts, divided by their number" in summary
    del batches[:]
    assert cli.main(["route", "--router", str(bert), "--jsonl", "hello"]) == 0
    assert batches == [["hello"]]
    assert "batch_size" not in records(capsys.readouterr().out)[0]


def test_a_pipe_that_falls_silent_gets_the_answers_that_are_due(bert: Path) -> None:
    command = [sys.executable, "-u", "-m", "routellm_fast", "route", "--router", str(bert), "--jsonl"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for lines in ([b"hello\n"], [b"prove\n", b"the\n"]):
            process.stdin.write(b"".join(lines))
            process.stdin.flush()
            for line in lines:  # a hundred lines would be waited for here without end
                assert json.loads(process.stdout.readline())["prompt"] == line.decode().strip()
        process.stdin.close()
        assert process.stdout.read() == b""
    assert process.returncode == 0


def test_somebody_who_types_gets_each_answer_at_once(bert: Path) -> None:
    master, slave = pty.openpty()
    with os.fdopen(master, "wb", buffering=0) as terminal:
        command = [sys.executable, "-m", "routellm_fast", "route", "--router", str(bert), "--jsonl"]
        with subprocess.Popen(command, stdin=slave, stdout=subprocess.PIPE, cwd="/") as process:
            os.close(slave)
            assert process.stdout is not None
            terminal.write(b"hello\nprove\n")
            found = [json.loads(process.stdout.readline()) for _ in range(2)]
            terminal.write(b"\x04")  # ^D
            assert process.stdout.read() == b""
    assert [record["prompt"] for record in found] == ["hello", "prove"]
    assert not any("batch_size" in record for record in found)
    assert process.returncode == 0


def test_a_pipe_has_the_prompts_that_a_file_has(bert: Path, tmp_path: Path) -> None:
    content = b"first\n\nlong " + b"x" * 200_000 + b"\ncaf\xe9\r\n\xef\xbb\xbflast"
    (tmp_path / "prompts.txt").write_bytes(content)
    arguments = ["route", "--router", str(bert), "--jsonl", "--format", "text"]
    file, pipe = run_cli(*arguments, "--file", str(tmp_path / "prompts.txt")), run_cli(*arguments, stdin=content)
    found = [[(record["prompt"], record["win_rate"]) for record in records(run.stdout)] for run in (file, pipe)]
    assert len(found[0]) == 4
    assert found[0] == found[1]


def test_version() -> None:
    assert run_cli("--version").stdout.strip() == rf.__version__
