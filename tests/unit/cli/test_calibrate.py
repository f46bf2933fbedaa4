from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.cli import main
from routellm_fast.cli._prompts import PromptFormat, read_prompts
from routellm_fast.routers import MatrixFactorizationRouter, RandomRouter
from tests.support.builders import PAIR, mf_router, mf_weights
from tests.support.processes import assert_refused, run_cli

WORDS = ["hello", "prove", "the", "writes", "a", "b", "c", "1", "?"]
Run = Callable[..., "tuple[int, str, str]"]


def prompts(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=rng.integers(1, 9))) for _ in range(n)]


@pytest.fixture
def router(tmp_path: Path) -> Path:
    mf_router().save(tmp_path / "router")
    return tmp_path / "router"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "log.txt").write_text("\n".join(prompts(400)) + "\n\nhello\nhello\n")
    return tmp_path / "log.txt"


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    texts = [f"{prompt} {index}" for index, prompt in enumerate(prompts(300, 1))]
    rates = mf_router().win_rates(texts)
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "strong-model", "weak-model", "other-model"])
        for text, rate in zip(texts, rates, strict=True):
            strong, weak = (rng.random(2) < (0.2 + 0.7 * rate, 0.6 - 0.3 * rate)).astype(int)
            writer.writerow([text, strong, weak if rng.random() < 0.95 else "", 1])
    return tmp_path / "labels.csv"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        status = main(["calibrate", *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def test_points_are_found_shown_and_stored(router: Path, log: Path, labels: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    arguments = [
        *(router, log, "--strong-share", 0.3, "--cost-share", 0.5, "--cost-usd-per-1k", 4, "--pgr", 0.5),
        *("--quality", 0.6, "--price", "strong-model=10/30", "--price", "weak=0.5/1.5", "--output-tokens", 250),
        *("--labels", labels, "--probability", "platt", "--resamples", 100, "--created", "2026-11-24"),
    ]
    status, output, _ = run(*arguments, "--out", out)
    assert status == 0
    for word in ("402 prompts", "of them repeated", "1 blank", "labelled rows", "strong_share=0.3", "USD per 1,000"):
        assert word in output
    assert f"written to {out}" in output
    loaded = rf.load_router(out)
    calibration = loaded.calibration
    assert calibration is not None
    assert list(calibration.operating_points) == [
        "cost_share=0.5", "cost_usd_per_1k=4", "pgr=0.5", "quality=0.6", "strong_share=0.3",
    ]  # fmt: skip
    assert (calibration.dataset, calibration.created, calibration.prompt_count) == ("log.txt", "2026-11-24", 402)
    point = calibration.operating_points["strong_share=0.3"]
    lines = [line for line in log.read_text().splitlines() if line]
    achieved = np.mean([loaded.route(line, point.threshold.value).is_strong for line in lines])
    assert achieved == pytest.approx(point.strong_share.value)
    assert achieved == pytest.approx(0.3, abs=0.02)
    assert calibration.operating_points["cost_usd_per_1k=4"].cost_usd_per_1k.value <= 4.0
    assert calibration.operating_points["pgr=0.5"].pgr.value >= 0.5
    assert loaded.threshold_for(0.3) == pytest.approx(point.threshold.value, abs=0.01)
    # The same command writes the same bytes; and reading and writing changes none.
    assert run(*arguments, "--out", tmp_path / "twice")[0] == 0
    loaded.save(tmp_path / "again")
    for name in (file.name for file in out.iterdir()):
        assert (tmp_path / "twice" / name).read_bytes() == (out / name).read_bytes()
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()
        assert name == "router.json" or (router / name).read_bytes() == (out / name).read_bytes()


def test_in_place_and_json(router: Path, log: Path, run: Run) -> None:
    status, output, _ = run(router, log, "--in-place", "--json", "--resamples", 100)
    record = json.loads(output)
    assert status == 0
    assert record["written"] == str(router)
    assert (record["requests"], record["blank_prompts_left_out"]) == (402, 1)
    assert list(record["operating_points"]) == [f"strong_share={share}" for share in (0.1, 0.25, 0.5, 0.75, 0.9)]
    stored = rf.load_router(router).calibration
    assert stored is not None
    assert {name: point.to_json() for name, point in stored.operating_points.items()} == record["operating_points"]


def test_nothing_is_stored_unasked(router: Path, log: Path, run: Run) -> None:
    before = (router / "router.json").read_bytes()
    status, output, _ = run(router, log, "--resamples", 100)
    assert status == 0
    assert "nothing is stored" in output
    assert (router / "router.json").read_bytes() == before


def test_all_forms_of_a_log_give_the_same_calibration(tmp_path: Path, router: Path, run: Run) -> None:
    texts = [*prompts(150), "two\nlines a b", "prove"]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    chats = ({"messages": [{"role": "user", "content": text}]} for text in texts)
    with gzip.open(tmp_path / "chat.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(chat) + "\n" for chat in chats)
    with (tmp_path / "log.csv").open("w", newline="") as table:
        csv.writer(table).writerows([["id", "prompt"], *enumerate(texts)])
    with (tmp_path / "ids.csv").open("w", newline="") as table:
        csv.writer(table).writerows([["prompt_id", "prompt"], *enumerate(texts)])
    (tmp_path / "named.csv").write_text("prompt_id\n" + "".join(f"{index}\n" for index in range(len(texts))))
    found = []
    for name, extra in (("log.jsonl", ()), ("chat.jsonl.gz", ()), ("log.csv", ()),
                        ("named.csv", ("--prompt-ids", tmp_path / "ids.csv"))):  # fmt: skip
        arguments = (router, tmp_path / name, *extra, "--json", "--resamples", 100, "--dataset", "log")
        status, output, error = run(*arguments)
        assert status == 0, error
        found.append(json.loads(output))
    assert all(record == found[0] for record in found)
    lines = [text for text in texts if "\n" not in text]
    piped = run_cli("calibrate", str(router), "-", "--json", "--resamples", "100", stdin="\n".join(lines))
    assert piped.returncode == 0, piped.stderr
    assert json.loads(piped.stdout)["dataset"] == "standard input"


def test_random_and_shipped_routers_are_calibrated_too(tmp_path: Path, log: Path, run: Run) -> None:
    RandomRouter(PAIR, seed=1).save(tmp_path / "random")
    assert run(tmp_path / "random", log, "--in-place", "--resamples", 100)[0] == 0
    for name in ("mf", "sw_ranking"):
        out = tmp_path / f"my-{name}"
        assert run(name, log, "--out", out, "--resamples", 100)[0] == 0
        calibrated, shipped = rf.load_router(out), rf.load_router(name)
        assert calibrated.calibration is not None
        assert calibrated.calibration.prompt_count == 402
        np.testing.assert_array_equal(calibrated.win_rates(WORDS), shipped.win_rates(WORDS))


def test_labels_may_call_the_models_otherwise(router: Path, log: Path, labels: Path, run: Run) -> None:
    status, output, error = run(
        *(router, log, "--labels", labels, "--pgr", 0.5, "--json", "--resamples", 100),
        *("--strong-label", "other-model", "--weak-label", "strong-model"),
    )
    assert status == 0, error
    assert json.loads(output)["operating_points"]["pgr=0.5"]["quality"][0] > 0.5


def test_battles_of_the_pair_make_a_probability_map(router: Path, log: Path, tmp_path: Path, run: Run) -> None:
    rng = np.random.default_rng(2)
    texts = [f"{text} {index}" for index, text in enumerate(prompts(500, 3))]
    rates = mf_router().win_rates(texts)
    with (tmp_path / "battles.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "model_a", "model_b", "winner"])
        for text, rate in zip(texts, rates, strict=True):
            swapped = rng.random() < 0.5
            won = rng.random() < 0.3 + 0.2 * rate
            winner = "tie" if rng.random() < 0.1 else "model_a" if won != swapped else "model_b"
            models = ["strong-model", "weak-model"]
            writer.writerow([text, *(models[::-1] if swapped else models), winner])
            writer.writerow([text, "other-model", "weak-model", "model_a"])
    out = tmp_path / "out"
    arguments = (router, log, "--battles", tmp_path / "battles.csv", "--resamples", 100)
    status, output, error = run(*arguments, "--probability", "best", "--out", out)
    assert status == 0, error
    assert "500 outcomes of" in output
    assert "log loss" in output
    loaded = rf.load_router(out)
    found = loaded.probabilities(texts)
    assert found.mean() == pytest.approx(0.05 + 0.9 * (0.3 + 0.2 * rates.mean()), abs=0.07)
    # Calibrated again without labels, the router keeps its map; unless told otherwise.
    assert run(out, log, "--in-place", "--resamples", 100)[0] == 0
    np.testing.assert_array_equal(rf.load_router(out).probabilities(texts), found)
    assert run(out, log, "--in-place", "--probability", "none", "--resamples", 100)[0] == 0
    assert rf.load_router(out).calibration.probability is None


def test_traffic_is_checked_against_the_calibration(router: Path, log: Path, tmp_path: Path, run: Run) -> None:
    assert run(router, log, "--in-place", "--resamples", 100)[0] == 0
    before = (router / "router.json").read_bytes()
    (tmp_path / "same.txt").write_text("\n".join(prompts(400, 7)))
    (tmp_path / "other.txt").write_text("hello\n" * 300)
    (tmp_path / "few.txt").write_text("\n".join(prompts(8, 7)))
    for name, expected, word in (("same", 0, "matches"), ("other", 1, "drifted"), ("few", 0, "too few to tell")):
        status, output, error = run(router, tmp_path / f"{name}.txt", "--check")
        assert (status, error) == (expected, "")
        assert output.startswith(word)
        assert "strong_share=0.25" in output
    status, output, _ = run(router, tmp_path / "other.txt", "--check", "--json")
    assert (status, json.loads(output)["verdict"]) == (1, "drifted")
    assert (router / "router.json").read_bytes() == before
    finished = run_cli("calibrate", str(router), str(tmp_path / "other.txt"), "--check")
    assert (finished.returncode, finished.stderr) == (1, "")


def test_info_shows_a_calibration(router: Path, log: Path, labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--labels", labels, "--probability", "platt", "--in-place", "--created", "2026-11-24"]
    assert main(["calibrate", str(router), str(log), *map(str, arguments), "--resamples", "100"]) == 0
    capsys.readouterr()
    assert main(["info", str(router), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["calibration"] == "402 prompts of log.txt"
    assert facts["calibrated"] == "2026-11-24"
    assert facts["operating points"]["strong_share=0.5"]["strong share"] == pytest.approx(0.5, abs=0.02)
    assert facts["probability map"]["method"] == "platt"
    assert main(["info", str(router)]) == 0
    assert "strong_share=0.5" in capsys.readouterr().out


def test_what_a_user_should_know_is_said(router: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "few.txt").write_text("hello\n" * 8 + "prove the a?\nb c")
    status, output, error = run(router, tmp_path / "few.txt", "--strong-share", 0.5, "--resamples", 100)
    assert status == 0
    assert "10 prompts only" in error
    assert "strong_share=0.5 cannot be met" in error
    assert "7 of them repeated" in output


def test_bad_input_is_one_line_and_exit_status_two(
    router: Path, log: Path, labels: Path, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "blank.txt").write_text("\n \n")
    (tmp_path / "equal.txt").write_text("hello\nhello\n")
    (tmp_path / "bad.csv").write_text("text\nhello\n")
    (tmp_path / "wrong.csv").write_text("prompt,gpt,llama\nhello,1,0\n")
    (tmp_path / "even.csv").write_text("prompt,strong-model,weak-model\n" + "".join(f"a {i},1,1\n" for i in range(50)))
    MatrixFactorizationRouter(["strong-model", "weak-model", "c"], **mf_weights(), model_pair=PAIR).save(
        tmp_path / "bare"
    )
    plain = mf_router(calibration=None)
    plain.save(tmp_path / "plain")
    priced = ["--price", "strong=10/30", "--price", "weak=1/1", "--output-tokens", 10]
    cases: list[tuple[list[object], str]] = [
        ([router, tmp_path / "absent.txt"], "cannot be read"),
        ([router, tmp_path / "empty.txt"], "no prompt"),
        ([router, tmp_path / "blank.txt"], "only 2 blank"),
        ([router, tmp_path / "equal.txt"], "no threshold divides them"),
        ([router, tmp_path / "bad.csv"], "expected a column prompt"),
        ([tmp_path / "absent", log], "router.json"),
        ([tmp_path / "bare", log], "no embedder"),
        ([router, log, "--strong-share", 1.5], "[0, 1]"),
        ([router, log, "--cost-share", 0.5], "needs prices"),
        ([router, log, "--pgr", 0.5], "needs labelled rows"),
        ([router, log, "--price", "strong=10/30", "--output-tokens", 10], "'weak-model' has no price"),
        ([router, log, "--price", "gpt=10/30"], "names 'gpt'"),
        ([router, log, "--price", "strong=10"], "must be MODEL=IN/OUT"),
        ([router, log, "--request-price", "strong=x"], "must be MODEL=USD"),
        ([router, log, "--price", "strong=nan/1", "--price", "weak=1/1", "--output-tokens", 1], "finite"),
        ([router, log, "--price", "strong=1/1", "--price", "strong-model=1/1"], "second price"),
        ([router, log, "--price", "strong=10/30", "--price", "weak=1/1"], "output tokens"),
        ([router, log, "--output-tokens", 10], "without --price"),
        ([router, log, *priced, "--cost-usd-per-1k", 0.0001], "no threshold reaches cost_usd_per_1k=0.0001"),
        ([router, log, "--labels", tmp_path / "wrong.csv", "--pgr", 0.5], "no scores of 'strong-model', only of: gpt"),
        ([router, log, "--labels", labels, "--quality", 9], "no threshold reaches quality=9"),
        ([router, log, "--labels", tmp_path / "even.csv", "--pgr", 0.5], "no gap"),
        ([router, log, "--labels", tmp_path / "even.csv", "--probability", "platt"], "all 50 outcomes are 0.5"),
        ([router, log, "--probability", "platt"], "needs labelled rows or battles"),
        ([router, log, "--probability", "magic"], "--probability must be one of"),
        ([router, log, "--out", tmp_path / "out", "--in-place"], "not both"),
        ([router, log, "--out", router], "--in-place"),
        ([router, log, "--out", log], "left alone"),
        (["mf", log, "--in-place"], "ships with the package"),
        ([router, log, "--check", "--strong-share", 0.5], "--check only compares"),
        ([router, log, "--check", "--alpha", 0], "alpha"),
        ([tmp_path / "plain", log, "--check"], "no calibration to check"),
        ([router, log, "--resamples", 10], "resamples"),
        ([router], "Missing argument"),
    ]
    before = (router / "router.json").read_bytes()
    for arguments, words in cases:
        status, _, error = run(*arguments)
        assert (status, error.count("\n")) == (2, 1), (arguments, error)
        assert words in error, (arguments, error)
    assert (router / "router.json").read_bytes() == before
    assert not (tmp_path / "out").exists()
    assert_refused(run_cli("calibrate", str(router), str(tmp_path / "empty.txt")), "no prompt")


def test_options_that_would_do_nothing_and_files_of_another_encoding_are_refused(run: Run, tmp_path: Path):
    log = tmp_path / "log.txt"
    log.write_text("one prompt\nanother, longer prompt\n", encoding="utf-16")
    cases = [
        (["mf", log], "is UTF-16, expected UTF-8"),
        (["mf", log, "--alpha", 0.5], "nothing without --check"),
        (["mf", log, "--strong-label", "gpt"], "nothing without --labels or --battles"),
        (["mf", log, "--battles", log], "--battles are used only to fit a map"),
        (["mf", log, "--out", log / "router"], "cannot be written (Not a directory)"),
    ]
    for arguments, words in cases:
        status, _, error = run(*arguments)
        assert (status, error.count("\n")) == (2, 1), (arguments, error)
        assert words in error, (arguments, error)


def test_a_byte_order_mark_is_no_part_of_the_first_prompt(tmp_path: Path):
    log = tmp_path / "log.jsonl"
    log.write_text('{"prompt": "one prompt"}\n{"prompt": "another"}\n', encoding="utf-8-sig")
    assert [prompt.text for prompt in read_prompts([], log, PromptFormat.AUTO)] == ["one prompt", "another"]


def test_a_torn_gzip_file_is_named(run: Run, tmp_path: Path):
    log = tmp_path / "log.txt.gz"
    log.write_bytes(gzip.compress(b"a prompt\n" * 1000)[:-10])
    status, _, error = run("mf", log)
    assert (status, error.count("\n")) == (2, 1)
    assert "log.txt.gz cannot be read" in error


def test_a_router_that_exists_is_replaced_with_force_only(router: Path, log: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    assert run(router, log, "--out", out, "--resamples", 100)[0] == 0
    before = (out / "router.json").read_bytes()
    status, _, error = run(router, log, "--out", out, "--resamples", 100, "--created", "2026-11-25")
    assert (status, error.count("\n")) == (2, 1)
    assert f"{out} exists already" in error
    assert "--force" in error
    assert (out / "router.json").read_bytes() == before
    assert run(router, log, "--out", out, "--resamples", 100, "--created", "2026-11-25", "--force")[0] == 0
    assert (out / "router.json").read_bytes() != before


def test_beside_the_recovered_gap_stands_what_random_routing_recovers(
    router: Path, log: Path, labels: Path, run: Run
) -> None:
    arguments = (router, log, "--labels", labels, "--strong-share", 0.3, "--pgr", 0.5, "--resamples", 100)
    status, output, error = run(*arguments, "--json")
    assert status == 0, error
    record = json.loads(output)
    loaded = rf.load_router(router)
    with labels.open(newline="") as file:
        texts = [row["prompt"] for row in csv.DictReader(file) if row["weak-model"] != ""]
    for name in ("strong_share=0.3", "pgr=0.5"):
        threshold = record["operating_points"][name]["threshold"][0]
        share = float(np.mean(loaded.win_rates(texts) >= threshold))
        assert record["labelled_strong_shares"][name] == pytest.approx(share, abs=1e-9)
    output = run(*arguments)[1]
    lines = [line for line in output.splitlines() if line.startswith(("target", "strong_share", "pgr"))]
    assert "PGR at random" in lines[0]
    assert lines[1].split()[-1] == f"{record['labelled_strong_shares']['strong_share=0.3']:.1%}"
    assert "PGR at random" not in run(router, log, "--strong-share", 0.3, "--resamples", 100)[1]
