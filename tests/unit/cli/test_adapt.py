"""`routellm-fast adapt` as its users run it, with both models and the judge behind a real server."""

from __future__ import annotations

import contextlib
import functools
import gzip
import html
import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.adaptation import adapting
from routellm_fast.adaptation.folder import Kept, RunFolder
from routellm_fast.adaptation.proving import prove
from routellm_fast.cli import main
from tests.support.adapt_traffic import PAIR, Models, is_hard, prompts, scores, write_lines, write_scores
from tests.support.c_library import CRouter
from tests.support.fake_judge import Reply, Request, nonsense
from tests.support.processes import assert_refused, run_cli, started_cli

pytestmark = pytest.mark.usefixtures("no_server_settings", "no_pictures")

Run = Callable[..., "tuple[int, str, str]"]
COUNT = 80


@pytest.fixture(autouse=True)
def with_few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals as wide as ever, in a tenth of the time."""
    monkeypatch.setattr(adapting, "prove", functools.partial(prove, resamples=200, random_runs=5, deals=399))


@pytest.fixture
def models() -> Iterator[Models]:
    with Models() as server:
        yield server


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        status = main(["adapt", *map(str, arguments), *_common(tmp_path)])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return status, captured.out, captured.err

    return call


def _common(folder: Path) -> list[str]:
    """What every run here is told."""
    return ["--strong", PAIR.strong, "--weak", PAIR.weak, "--out", str(folder / "out"), "--recipe", "ridge"]


def asking(models: Models, file: Path) -> list[object]:
    """Options of a run that asks both models and the judge."""
    prices = [part for who in ("strong=10/10", "weak=1/1", "judge=1/1") for part in ("--price", who)]
    return [file, "--judge", "judge-1", "--base-url", models.url, "--max-retries", 0, *prices]


def kept(folder: Path) -> Kept:
    found = RunFolder.of_router(folder / "out").read()
    assert found is not None
    return found


def text_file(folder: Path, texts: Sequence[str], name: str = "prompts.txt") -> Path:
    (folder / name).write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return folder / name


def check_labels(folder: Path) -> None:
    """The labels of the run are those that were built into the traffic."""
    labels = kept(folder).labels
    expected = [scores(prompt) for prompt in labels.prompts]
    np.testing.assert_array_equal(np.stack([labels.strong, labels.weak], axis=1), expected)


def check_judged(folder: Path) -> None:
    """The same, by a judge who compares: equal answers have half each."""
    labels = kept(folder).labels
    expected = [(1.0, 0.0) if is_hard(prompt) else (0.5, 0.5) for prompt in labels.prompts]
    np.testing.assert_array_equal(np.stack([labels.strong, labels.weak], axis=1), expected)


def assert_is_refused(found: tuple[int, str, str], *words: str) -> None:
    status, _, errors = found
    line = errors.splitlines()[-1]
    assert (status, line.startswith("routellm-fast: ")) == (2, True), errors
    for word in words:
        assert word in line, line


# --- labels that are there


def test_scores_become_a_router_with_a_proof(run: Run, tmp_path: Path) -> None:
    table = write_scores(tmp_path / "labels.csv", prompts(300))
    status, output, _ = run("--labels", table, "--created", "2026-12-01")
    assert status == 0
    first, *_ = output.splitlines()
    assert first.startswith("Routing saves ")
    assert first.endswith("of the strong model's quality.")
    router = rf.load_router(tmp_path / "out")
    assert (router.kind, router.model_pair) == ("mf", PAIR)
    hard, easy = router.win_rates(["Write an integral, please.", "Write a greeting, please."])
    assert hard > easy
    check_labels(tmp_path)
    page = (tmp_path / "out.adapt" / "report.html").read_text(encoding="utf-8")
    assert f"<h1>{html.escape(first)}</h1>" in page
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "Routing saves" in card
    assert not any(prompt in card or prompt in page for prompt in prompts(300))


def test_votes_become_labels(run: Run, tmp_path: Path) -> None:
    votes = [
        {"prompt": text, "model_a": "small", "model_b": "large", "winner": "model_b" if is_hard(text) else "tie"}
        for text in prompts(COUNT)
    ]
    other = {"prompt": "Hello", "model_a": "small", "model_b": "another", "winner": "model_a"}
    file = write_lines(tmp_path / "votes.jsonl", [*votes, other])
    assert run("--votes", file)[0] == 0
    check_judged(tmp_path)
    assert len(kept(tmp_path).labels) == COUNT
    report = (tmp_path / "out.adapt" / "report.md").read_text(encoding="utf-8")
    assert "1 rows that are not of both models left out" in report


def test_several_files_of_labels_are_one(run: Run, tmp_path: Path) -> None:
    first = write_scores(tmp_path / "a.csv", prompts(50))
    second = write_scores(tmp_path / "b.csv", prompts(50, first=40))
    assert run("--labels", first, "--labels", second)[0] == 0
    assert kept(tmp_path).labels.prompts == tuple(prompts(90))


def test_costs_and_volume_give_a_month_in_money(run: Run, tmp_path: Path) -> None:
    texts = prompts(300)
    costs = {"large|total_cost": [0.01] * 300, "small|total_cost": [0.001] * 300}
    table = write_scores(tmp_path / "labels.csv", texts, columns=costs)
    status, output, _ = run("--labels", table, "--requests-a-month", 100_000)
    assert status == 0
    assert "At 100,000 requests a month routing saves " in output
    assert "instead of 1,000.00" in output


def test_prices_do_for_costs(run: Run, tmp_path: Path) -> None:
    table = write_scores(tmp_path / "labels.csv", prompts(300))
    prices = ["--price", "strong=10/30", "--price", "weak=1/3"]
    status, output, _ = run("--labels", table, *prices, "--output-tokens", 200, "--usd-per-1k", 3)
    assert status == 0
    assert "1,000 requests cost " in output
    assert_is_refused(run("--labels", table, *prices, "--force"), "--output-tokens")
    assert_is_refused(run("--labels", table, *prices[:2], "--output-tokens", 9, "--force"), "the prices of both models")


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ((1.0, 1.0), "Both models do equally well on all"),
        ((1.0, 0.0), "Send everything to the strong model"),
        ((0.0, 1.0), "Send everything to the weak model"),
        ((0.0, 0.0), "Both models do equally well on all"),
    ],
)
def test_where_one_model_does_the_first_line_says_so(
    run: Run, tmp_path: Path, pair: tuple[float, float], words: str
) -> None:
    table = write_scores(tmp_path / "labels.csv", prompts(200), [pair] * 200)
    status, output, _ = run("--labels", table)
    assert status == 0
    assert words.lower() in output.splitlines()[0].lower()
    rf.load_router(tmp_path / "out").route("Write an integral.", threshold=0.5)


def test_noise_is_not_called_a_router(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = write_scores(tmp_path / "labels.csv", prompts(300), rng.choice([0.0, 1.0], (300, 2), p=[0.3, 0.7]).tolist())
    status, output, _ = run("--labels", table)
    assert status == 0
    assert "Routing saves" not in output.splitlines()[0]


def test_one_group_of_prompts_cannot_be_divided(run: Run, tmp_path: Path) -> None:
    table = write_scores(tmp_path / "labels.csv", prompts(100), columns={"prompt_group": ["one"] * 100})
    assert_is_refused(run("--labels", table), "100 prompts in 1 group", "100 labels so far are kept in")
    assert not (tmp_path / "out").exists()
    assert len(kept(tmp_path).labels) == 100


def test_too_few_labels_say_how_many_are_needed(run: Run, tmp_path: Path) -> None:
    table = write_scores(tmp_path / "labels.csv", prompts(25))
    assert_is_refused(run("--labels", table), "at least 20", "25 labels so far are kept in")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "labels.csv holds no rows"),
        ("prompt,large,small\n", "labels.csv"),
        ("prompt,large\nHello,1\n", "no scores of 'small', only of: large"),
        ("a,b\n1,2\n", "labels.csv, line 2"),
    ],
)
def test_tables_without_labels_are_refused(run: Run, tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "labels.csv").write_text(content)
    assert_is_refused(run("--labels", tmp_path / "labels.csv"), words)
    assert not (tmp_path / "out.adapt").exists()


def test_a_name_that_is_no_model_is_answered_by_similar_ones(tmp_path: Path) -> None:
    table = write_scores(tmp_path / "labels.csv", prompts(50))
    found = run_cli(
        "adapt", "--labels", str(table), "--strong", "larg", "--weak", "small", "--out", str(tmp_path / "o")
    )
    assert_refused(found, "'larg'", "large")


def test_what_is_missing_is_named(run: Run, tmp_path: Path) -> None:
    assert_is_refused(run("--labels", tmp_path / "none.csv"), "none.csv")
    assert_is_refused(run(tmp_path / "none.jsonl", "--judge", "judge-1"), "none.jsonl")
    assert_is_refused(run(tmp_path / "none.txt", "--judge", "judge-1"), "none.txt")
    assert not (tmp_path / "out.adapt").exists()


def test_json_has_the_verdict_and_all_numbers(run: Run, tmp_path: Path) -> None:
    table = write_scores(tmp_path / "labels.csv", prompts(200))
    status, output, _ = run("--labels", table, "--json")
    record = json.loads(output)
    assert (status, record["is_recommended"], record["verdict"]["kind"]) == (0, True, "saves")
    assert record["digest"].startswith("sha256:")
    assert record["proof"]["prompts"] == int(kept(tmp_path).is_untouched.sum())
    assert record["replacement"] is None


# --- options that do not go together


def test_what_contradicts_is_refused_before_anything_is_done(run: Run, tmp_path: Path, models: Models) -> None:
    table = write_scores(tmp_path / "labels.csv", prompts(60))
    file = text_file(tmp_path, prompts(60))
    labelled: list[object] = ["--labels", table]
    ask = asking(models, file)
    for arguments, words in [
        ([], "there is nothing to adapt to"),
        ([file], "--judge or --check"),
        ([*ask, "--check", "exact"], "one of the two"),
        ([*labelled, file], "PROMPTS"),
        ([*labelled, "--dry-run"], "--dry-run"),
        ([*labelled, "--max-cost-usd", 1], "--max-cost-usd"),
        ([*labelled, "--redact", "all"], "--redact"),
        ([*labelled, "--quality", 0.9, "--strong-share", 0.5], "one goal"),
        ([*labelled, "--quality", 1.5], "quality"),
        ([*labelled, "--usd-per-1k", 3], "--price strong=IN/OUT"),
        ([*labelled, "--requests-a-month", 1000], "--price strong=IN/OUT"),
        ([*labelled, "--recipe", "magic"], "no recipe 'magic'"),
        ([*labelled, "--router", "sw_ranking"], "mf router"),
        ([*labelled, "--update"], "no earlier run to update"),
        ([*labelled, "--work", tmp_path / "out" / "inside"], "beside one another"),
        ([*labelled, "--work", tmp_path / "out"], "beside one another"),
        ([*ask, "--half-width", 2], "half-width"),
        ([*ask, "--price", "strong=1/2"], "names strong twice"),
        ([*ask, "--price", "me=1/2"], "WHO=IN/OUT"),
        ([*ask, "--base-url", models.url], "twice for all"),
        ([*ask, "--api-key-env", "judge=A", "--api-key-env", "judge=B"], "twice for judge"),
        ([*ask, "--mode", "guess"], "--mode"),
        ([*ask, "--redact", "nothing-like-it"], "nothing-like-it"),
        ([file, "--check", "magic"], "magic"),
        ([file, "--check", "exact", "--answers"], "--answers needs a table"),
    ]:
        assert_is_refused(run(*arguments), words)
    assert models.requests == []
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.adapt").exists()


def test_an_output_that_exists_is_replaced_by_force_only(run: Run, tmp_path: Path) -> None:
    table = write_scores(tmp_path / "labels.csv", prompts(60))
    assert run("--labels", table)[0] == 0
    before = (tmp_path / "out" / "router.json").read_bytes()
    write_scores(table, prompts(70))
    assert_is_refused(run("--labels", table), "out", "--force")
    assert (tmp_path / "out" / "router.json").read_bytes() == before
    assert run("--labels", table, "--force")[0] == 0
    assert (tmp_path / "out" / "router.json").read_bytes() != before


def test_a_folder_of_somebody_else_is_never_replaced(run: Run, tmp_path: Path) -> None:
    table = write_scores(tmp_path / "labels.csv", prompts(60))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    assert_is_refused(run("--labels", table, "--force"), "out")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_another_pair_or_seed_needs_another_folder(run: Run, tmp_path: Path) -> None:
    table = write_scores(tmp_path / "labels.csv", prompts(60))
    assert run("--labels", table)[0] == 0
    assert_is_refused(run("--labels", table, "--force", "--seed", 1), "seed 0", "seed 1", "--work")


# --- prompts, a judge and checkers


def test_a_judge_makes_labels(run: Run, tmp_path: Path, models: Models) -> None:
    status, output, _ = run(*asking(models, text_file(tmp_path, prompts(COUNT))))
    assert status == 0
    check_judged(tmp_path)
    assert "80 of 80 prompts asked about" in output
    assert set(models.asked.values()) == {1}
    # Equal answers of easy prompts differ by the model's name here, so all are judged, in both orders.
    assert models.asked_by(*PAIR) == 2 * COUNT
    assert models.asked_by("judge-1") == 2 * COUNT
    record = json.loads((tmp_path / "out.adapt" / "verdict.json").read_text())
    assert record["proof"]["points"][0]["money"] is not None


def test_a_judge_that_scores(run: Run, tmp_path: Path, models: Models) -> None:
    assert run(*asking(models, text_file(tmp_path, prompts(COUNT))), "--mode", "score")[0] == 0
    check_labels(tmp_path)


CHECKED = {
    "exact": ("42", "42", "41"),
    "contains": ("forty-two", "It is forty-two, I think.", "It is forty-one, I think."),
    "choice": ("B", "The answer is B.", "The answer is C."),
    "numeric": ("42", "I get 42.0.", "I get 43."),
    "numeric:0.1": ("42", "I get 42.05.", "I get 43."),
    "regex:^four": (None, "fourteen", "fifteen"),
    "python:check.py:check": ("42", "42", "41"),
    "tests": ("assert double(2) == 4", "def double(n):\n    return 2 * n", "def double(n):\n    return n"),
}


@pytest.mark.parametrize("check", CHECKED)
def test_each_checker_makes_labels(
    check: str, run: Run, tmp_path: Path, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, right, wrong = CHECKED[check]
    monkeypatch.chdir(tmp_path)
    Path("check.py").write_text("def check(prompt, answer, reference):\n    return float(answer == reference)\n")
    models.decide = lambda request: right if scores(request.user)[list(PAIR).index(request.body["model"])] else wrong
    count = 48
    rows = [{"prompt": text, **({} if reference is None else {"reference": reference})} for text in prompts(count)]
    file = write_lines(tmp_path / "prompts.jsonl", rows)
    status, _, errors = run(file, "--check", check, "--base-url", models.url)
    assert (status, models.asked_by("judge-1")) == (0, 0), errors
    assert len(kept(tmp_path).labels) == count
    check_labels(tmp_path)


def test_answers_that_are_there_ask_nobody_but_the_judge(run: Run, tmp_path: Path, models: Models) -> None:
    rows = [
        {"prompt": text, "response:large": "quality 5", "response:small": f"quality {5 * int(scores(text)[1])}"}
        for text in prompts(COUNT)
    ]
    file = write_lines(tmp_path / "answers.jsonl", [*rows, {"prompt": "Without answers"}])
    status, _, _ = run(file, "--answers", "--judge", "judge-1", "--base-url", f"judge={models.url}")
    assert status == 0
    assert (models.asked_by(*PAIR), len(kept(tmp_path).labels)) == (0, COUNT)
    check_judged(tmp_path)


def test_rounds_end_where_the_interval_is_narrow_enough(run: Run, tmp_path: Path, models: Models) -> None:
    file = text_file(tmp_path, prompts(400))
    status, output, _ = run(*asking(models, file), "--size", 300, "--rounds", 3, "--half-width", 0.3)
    assert status == 0
    assert "ended because the interval is as narrow as was wanted" in output
    assert len(kept(tmp_path).labels) == 100
    check_judged(tmp_path)


def test_rounds_collect_as_many_labels_as_are_wanted(run: Run, tmp_path: Path, models: Models) -> None:
    file = text_file(tmp_path, prompts(200))
    assert run(*asking(models, file), "--size", 120, "--rounds", 3)[0] == 0
    assert len(kept(tmp_path).labels) == 120
    assert set(models.asked.values()) == {1}


def test_a_dry_run_asks_nobody_and_writes_nothing(run: Run, tmp_path: Path, models: Models) -> None:
    file = text_file(tmp_path, prompts(COUNT))
    status, output, _ = run(*asking(models, file), "--dry-run", "--max-cost-usd", 0.6)
    assert status == 0
    for words in (
        "80 of 80 different prompts would be labelled: 40 to learn from, 40 to prove",
        "calls: 320 (160 answers, 160 judgements); on record already: 0",
        "cap: $0.6000, which is enough for about 33 of these labels",
    ):
        assert words in output
    record = json.loads(run(*asking(models, file), "--dry-run", "--json")[1])
    assert (record["outlook"]["labels"], record["estimate"]["responses"]) == (80, 160)
    assert models.requests == []
    assert not (tmp_path / "out.adapt").exists()
    assert not (tmp_path / "out").exists()


def test_a_dry_run_says_how_many_labels_an_interval_takes(run: Run, tmp_path: Path, models: Models) -> None:
    file = text_file(tmp_path, prompts(2000))
    status, output, _ = run(*asking(models, file), "--dry-run", "--half-width", 0.05)
    assert status == 0
    assert "963 of 2,000 different prompts" in output
    assert "within about 5.0%" in output


def test_a_dry_run_after_a_run_says_what_is_on_record(run: Run, tmp_path: Path, models: Models) -> None:
    file = text_file(tmp_path, prompts(100))
    assert run(*asking(models, file), "--size", 60)[0] == 0
    status, output, _ = run(*asking(models, file), "--size", 80, "--dry-run")
    assert (status, "on record already: 240" in output) == (0, True)


# --- what goes wrong


def test_the_cap_ends_the_asking_and_what_is_there_is_used(run: Run, tmp_path: Path, models: Models) -> None:
    # A call of 20 and 10 tokens: $0.0003 of the strong model, $0.00003 of the others, but it may cost more beforehand.
    models.input_tokens = 20
    file = text_file(tmp_path, prompts(200))
    arguments = [*asking(models, file), "--max-tokens", 10, "--max-concurrency", 1, "--max-cost-usd"]
    status, output, errors = run(*arguments, 0.045)
    assert status == 0, errors
    assert "ended because the money is spent" in output
    first = kept(tmp_path)
    assert 60 < len(first.labels) < 200
    check_judged(tmp_path)
    assert run(*arguments, 10, "--force")[0] == 0
    assert len(kept(tmp_path).labels) == 200
    assert set(models.asked.values()) == {1}


def test_a_cap_that_ends_the_asking_too_soon_is_named(run: Run, tmp_path: Path, models: Models) -> None:
    models.input_tokens = 20
    arguments = [*asking(models, text_file(tmp_path, prompts(COUNT))), "--max-tokens", 10, "--max-concurrency", 1]
    found = run(*arguments, "--max-cost-usd", 0.012)
    assert_is_refused(found, "are too few", "labels so far are kept in", "since the money is spent")
    assert models.requests
    assert 0 < len(kept(tmp_path).labels) < COUNT


def test_a_budget_of_nothing_asks_nobody(run: Run, tmp_path: Path, models: Models) -> None:
    found = run(*asking(models, text_file(tmp_path, prompts(COUNT))), "--max-cost-usd", 0)
    assert_is_refused(found, "no label", "the money is spent", "80 were not asked about")
    assert models.requests == []


def test_a_cap_without_prices_is_refused(run: Run, tmp_path: Path, models: Models) -> None:
    file = text_file(tmp_path, prompts(COUNT))
    found = run(file, "--judge", "judge-1", "--base-url", models.url, "--max-cost-usd", 5)
    assert_is_refused(found, "price")
    assert models.requests == []


def test_a_judge_of_nonsense_ends_the_run_and_its_answers_are_kept(run: Run, tmp_path: Path, models: Models) -> None:
    sane = models.decide
    models.decide = lambda request: sane(request) if request.body["model"] in PAIR else nonsense(request)
    file = text_file(tmp_path, prompts(COUNT))
    status, _, errors = run(*asking(models, file))
    assert (status, "judge" in errors) == (2, True)
    assert not (tmp_path / "out").exists()
    answered = models.asked_by(*PAIR)
    models.decide = sane
    assert answered
    # Another judge takes the same answers.
    arguments = [judge if judge != "judge-1" else "judge-2" for judge in asking(models, file)]
    assert run(*arguments)[0] == 0
    check_judged(tmp_path)
    assert all(count == 1 for (model, _), count in models.asked.items() if model in PAIR)


def test_a_server_that_fails_half_way_loses_nothing(run: Run, tmp_path: Path, models: Models) -> None:
    def breaks(_: Request) -> Reply | None:
        return Reply(status=500) if len(models.requests) > 100 else None

    models.rule = breaks
    file = text_file(tmp_path, prompts(COUNT))
    assert_is_refused(run(*asking(models, file)), "the same command goes on from")
    assert not (tmp_path / "out").exists()
    answered = models.asked
    models.requests, models.rule = [], None
    assert run(*asking(models, file))[0] == 0
    check_judged(tmp_path)
    assert len(kept(tmp_path).labels) == COUNT
    # Exactly the calls that were answered before are not made again.
    assert sum(models.asked.values()) == 4 * COUNT - 100
    assert set((answered + models.asked).values()) <= {1, 2}


def process_arguments(models: Models, file: Path, folder: Path) -> list[str]:
    return ["adapt", *map(str, asking(models, file)), *_common(folder), "--max-concurrency", "4"]


@pytest.mark.slow
@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_goes_on_by_the_same_command(
    signal_: signal.Signals, run: Run, tmp_path: Path, models: Models
) -> None:
    models.otherwise = Reply(delay_s=0.01)
    file, journal = text_file(tmp_path, prompts(COUNT)), tmp_path / "out.adapt" / "answers.journal"
    with started_cli(*process_arguments(models, file, tmp_path)) as process:
        until_s = time.monotonic() + 60.0
        while len(models.requests) < 120 and process.poll() is None and time.monotonic() < until_s:
            time.sleep(0.01)
        process.send_signal(signal_)
        _, errors = process.communicate(timeout=60.0)
    assert 120 <= len(models.requests) < 4 * COUNT
    if signal_ is signal.SIGINT:
        assert process.returncode == 130
        assert "The same command goes on from there" in errors
        assert "Traceback" not in errors
    assert not (tmp_path / "out").exists()
    assert journal.exists()
    assert run(*asking(models, file), "--max-concurrency", 4)[0] == 0
    check_judged(tmp_path)
    assert len(kept(tmp_path).labels) == COUNT
    # Who is interrupted waits for the calls under way; of a process that is killed up to four are lost.
    lost = 0 if signal_ is signal.SIGINT else 4
    assert 4 * COUNT <= sum(models.asked.values()) <= 4 * COUNT + lost


def test_too_few_prompts_are_refused_before_anybody_is_asked(run: Run, tmp_path: Path, models: Models) -> None:
    assert_is_refused(run(*asking(models, text_file(tmp_path, prompts(25)))), "25 prompts", "at least 20")
    assert_is_refused(
        run(*asking(models, text_file(tmp_path, prompts(COUNT))), "--size", 20), "20 prompts in 20 groups"
    )
    assert_is_refused(run(*asking(models, text_file(tmp_path, ["", " "]))), "blank")
    assert_is_refused(run(*asking(models, text_file(tmp_path, []))), "no prompt")
    assert models.requests == []


def test_prompts_of_one_group_are_refused_before_anybody_is_asked(run: Run, tmp_path: Path, models: Models) -> None:
    rows = [{"prompt": text, "prompt_group": "one"} for text in prompts(COUNT)]
    found = run(*asking(models, write_lines(tmp_path / "prompts.jsonl", rows)))
    assert_is_refused(found, "group")
    assert models.requests == []


def test_prompts_of_a_group_stay_on_one_side(run: Run, tmp_path: Path, models: Models) -> None:
    rows = [{"prompt": text, "prompt_group": str(row // 2)} for row, text in enumerate(prompts(160))]
    assert run(*asking(models, write_lines(tmp_path / "prompts.jsonl", rows)))[0] == 0
    sides = kept(tmp_path).sides
    both = [
        (sides[first["prompt"]], sides[second["prompt"]]) for first, second in zip(rows[::2], rows[1::2], strict=True)
    ]
    assert all(first == second for first, second in both)
    assert 0 < sum(first for first, _ in both) < len(both)


def test_secrets_reach_no_server(run: Run, tmp_path: Path, models: Models) -> None:
    texts = [f"{text[:-1]}, and send it to jane.doe@example.com, badge Z-4711." for text in prompts(COUNT)]
    file = text_file(tmp_path, texts)
    status, _, errors = run(*asking(models, file), "--redact", "all")
    assert status == 0, errors
    sent = json.dumps([request.body for request in models.requests])
    assert "jane.doe" not in sent
    assert "version 7" in sent
    # The router learns from what its users write.
    assert set(kept(tmp_path).labels.prompts) == set(texts)
    assert "email" in (tmp_path / "out.adapt" / "report.md").read_text()


# --- files of prompts


def test_files_of_every_form_hold_the_same_prompts(run: Run, tmp_path: Path, models: Models) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import csv as arrow_csv
    from pyarrow import parquet

    texts = [*prompts(60), "Schreibe ein Gedicht über Äpfel 🍎", "写一首诗", "اكتب قصيدة", "x " * 20_000]
    table = pyarrow.table({"prompt": texts})
    arrow_csv.write_csv(table, tmp_path / "p.csv")
    parquet.write_table(table, tmp_path / "p.parquet")
    files = [
        text_file(tmp_path, [*texts, "", "  ", texts[0]], "p.txt"),
        text_file(tmp_path, texts, "p.log"),
        tmp_path / "p.csv",
        tmp_path / "p.parquet",
        write_lines(tmp_path / "p.jsonl", [{"prompt": text} for text in texts]),
        write_lines(tmp_path / "m.jsonl", [{"messages": [{"role": "user", "content": text}]} for text in texts]),
    ]
    with gzip.open(tmp_path / "p.txt.gz", "wt", encoding="utf-8") as packed:
        packed.write("\n".join(texts))
    for file in [*files, tmp_path / "p.txt.gz"]:
        status, output, errors = run(*asking(models, file), "--dry-run")
        assert (status, "64 of 64 different prompts" in output) == (0, True), (file, output, errors)


def test_prompts_are_looked_up_by_their_ids(run: Run, tmp_path: Path, models: Models) -> None:
    ids = write_lines(tmp_path / "ids.jsonl", [{"prompt_id": str(n), "prompt": t} for n, t in enumerate(prompts(60))])
    file = write_lines(tmp_path / "log.jsonl", [{"prompt_id": str(n)} for n in range(60)])
    status, output, errors = run(*asking(models, file), "--prompt-ids", ids, "--dry-run")
    assert (status, "60 of 60" in output) == (0, True), errors


def test_lines_of_braces_are_prompts_where_the_format_says_so(run: Run, tmp_path: Path, models: Models) -> None:
    file = text_file(tmp_path, [f'{{"a": {row}}}' for row in range(60)], "p.jsonl")
    status, output, errors = run(*asking(models, file), "--format", "text", "--dry-run")
    assert (status, "60 of 60" in output) == (0, True), errors


# --- going on


def test_an_update_learns_from_more_and_keeps_the_sides(run: Run, tmp_path: Path) -> None:
    table = write_scores(tmp_path / "labels.csv", prompts(100))
    assert run("--labels", table)[0] == 0
    first = kept(tmp_path)
    more = write_scores(tmp_path / "more.csv", prompts(200, first=50))
    status, output, _ = run("--labels", more, "--update")
    assert status == 0
    assert "Update: The new router " in output
    second = kept(tmp_path)
    assert len(second.labels) == 250
    assert {prompt: second.sides[prompt] for prompt in first.labels.prompts} == first.sides
    assert "Update" in (tmp_path / "out.adapt" / "report.html").read_text(encoding="utf-8")


def test_an_update_by_more_prompts_asks_only_about_these(run: Run, tmp_path: Path, models: Models) -> None:
    assert run(*asking(models, text_file(tmp_path, prompts(80))))[0] == 0
    first = kept(tmp_path)
    models.requests = []
    assert run(*asking(models, text_file(tmp_path, prompts(140))), "--update")[0] == 0
    assert sum(models.asked.values()) == 4 * 60
    second = kept(tmp_path)
    assert len(second.labels) == 140
    assert {prompt: second.sides[prompt] for prompt in first.labels.prompts} == first.sides


def test_a_new_router_that_is_worse_does_not_take_the_place(run: Run, tmp_path: Path) -> None:
    table = write_scores(tmp_path / "labels.csv", prompts(240))
    assert run("--labels", table)[0] == 0
    before = (tmp_path / "out" / "router.json").read_bytes()
    # By hash, new prompts of the untouched part agree with the old ones, and those that are learned from contradict.
    sides = RunFolder.of_router(tmp_path / "out").read()
    assert sides is not None
    from routellm_fast.adaptation.sides import groups_of, untouched_rows
    from routellm_fast.data.split import group_of

    texts = prompts(900, first=240)
    groups = groups_of(texts, [group_of(text) for text in texts])
    lies = ~untouched_rows(texts, groups, share=0.4, seed=0)
    pairs = [(1.0, float(is_hard(text)) if lie else scores(text)[1]) for text, lie in zip(texts, lies, strict=True)]
    more = write_scores(tmp_path / "more.csv", texts, pairs)
    status, output, _ = run("--labels", more, "--update")
    assert status == 0
    assert output.startswith("The old router stays. Of the new one: ")
    assert "The new router is worse than the old one, which stays" in output
    assert "router: " not in output
    assert (tmp_path / "out" / "router.json").read_bytes() == before
    assert len(kept(tmp_path).labels) == 1140


# --- one router, whoever loads it


def test_every_interface_gives_the_win_rates_of_the_proof(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from routellm_fast.export import ExportedRouter, export_onnx, exportable, router_digest

    made: list[adapting.Adapted] = []
    original = adapting.adapt

    def kept_in_memory(*arguments: Any, **options: Any) -> adapting.Adapted:
        made.append(original(*arguments, **options))
        return made[-1]

    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr("routellm_fast.adaptation.command.adapt", kept_in_memory)
        assert run("--labels", write_scores(tmp_path / "labels.csv", prompts(120)))[0] == 0
    texts = [*prompts(20, first=500), "", "写一首诗", "a" * 5000]
    expected = made[0].router.win_rates(texts)
    assert np.ptp(expected) > 0.1
    np.testing.assert_array_equal(rf.load_router(tmp_path / "out").win_rates(texts), expected)
    np.testing.assert_array_equal(CRouter(tmp_path / "out").win_rates([text.encode() for text in texts]), expected)
    export_onnx(tmp_path / "out", tmp_path / "graph")
    native = exportable(rf.load_router(tmp_path / "out"))
    exported = ExportedRouter(tmp_path / "graph" / "model.onnx", native, router_digest(tmp_path / "out")).win_rates(
        texts
    )
    np.testing.assert_allclose(exported, expected, atol=2e-6)
