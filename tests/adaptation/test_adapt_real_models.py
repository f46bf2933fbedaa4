"""`routellm-fast adapt` from prompts to a router, with real language models behind real servers; a stand-in judges."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import routellm_fast as rf
from routellm_fast.tables import read_table
from tests.support.processes import started_cli
from tests.support.real_pair import (
    JUDGE_PRICE,
    ROUNDING_USD,
    STRONG,
    STRONG_PRICE,
    WEAK,
    WEAK_PRICE,
    RealPair,
)
from tests.support.small_tasks import is_right, tasks, write_prompts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("no_server_settings"),
]

SOME = tasks()[:64]
END_S = 1200.0
# What the first line may say; which of these is true of so few prompts is not for a test to know.
VERDICTS = (
    "routing saves", "do not route", "fixed mixture", "send everything", "quality asked for is not reached",
    "do equally well", "too few labels",
)  # fmt: skip
CONCURRENCY = 4


def arguments(pair: RealPair, folder: Path, *, max_cost_usd: float = 20.0) -> list[str]:
    write_prompts(folder / "prompts.jsonl", SOME)
    command = ["adapt", str(folder / "prompts.jsonl"), "--out", str(folder / "router")]
    command += ["--strong-model", STRONG, "--weak-model", WEAK, "--judge", "judge-1", "--size", str(len(SOME))]
    for role, server, price in (
        ("strong", pair.strong, STRONG_PRICE),
        ("weak", pair.weak, WEAK_PRICE),
        ("judge", pair.judge, JUDGE_PRICE),
    ):
        command += ["--base-url", f"{role}={server.url}"]
        command += ["--price", f"{role}={price.input_usd_per_1m}/{price.output_usd_per_1m}"]
    command += ["--max-tokens", "40", "--max-concurrency", str(CONCURRENCY)]
    return [*command, "--recipe", "ridge", "--max-cost-usd", str(max_cost_usd)]


def finished(command: list[str]) -> str:
    """What the command prints."""
    with started_cli(*command) as process:
        said, errors = process.communicate(timeout=END_S)
    assert process.returncode == 0, errors
    return said


def test_a_run_that_was_killed_goes_on_to_a_router_and_a_verdict_and_asks_nothing_twice(
    pair: RealPair, tmp_path: Path
) -> None:
    command = arguments(pair, tmp_path)
    with started_cli(*command) as process:
        deadline = time.monotonic() + END_S
        while pair.asked < len(SOME):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "nothing is asked"
            time.sleep(0.005)
        process.kill()
    assert not (tmp_path / "router").exists()

    verdict = finished(command).splitlines()[0].casefold()
    assert any(words in verdict for words in VERDICTS), verdict
    prompts = {task.prompt for task in SOME}
    asked = [pair.strong.asked, pair.weak.asked, pair.judge.questions]
    assert set(asked[0]) == set(asked[1]) == prompts
    # Whether a request that was under way was answered, nobody can know: these alone are asked again.
    assert sum(sum(server.values()) - len(server) for server in asked) <= CONCURRENCY

    labels = {row.text("prompt"): row for row in read_table(tmp_path / "router.adapt" / "labels.jsonl")}
    assert set(labels) == prompts
    for prompt, row in labels.items():
        strong, weak = (is_right(prompt, server.answers[prompt]) for server in pair.models)
        expected = (0.5, 0.5) if strong == weak else (1.0, 0.0) if strong else (0.0, 1.0)
        assert (row.number("strong"), row.number("weak")) == expected, prompt

    router = rf.load_router(tmp_path / "router")
    assert (router.model_pair.strong, router.model_pair.weak) == (STRONG, WEAK)
    assert len(set(router.win_rates(sorted(prompts)).tolist())) > len(prompts) // 2

    before = pair.asked
    assert finished([*command, "--force"]).splitlines()[0].casefold() == verdict
    assert pair.asked == before, "what is in the journal was asked again"


def test_no_more_is_billed_than_the_cap_and_a_higher_cap_goes_on(pair: RealPair, tmp_path: Path) -> None:
    cap_usd = 0.02
    with started_cli(*arguments(pair, tmp_path, max_cost_usd=cap_usd)) as process:
        _, errors = process.communicate(timeout=END_S)
    assert process.returncode == 2, errors  # too few labels for a router
    assert 0.0 < pair.billed_usd <= cap_usd + ROUNDING_USD
    before = pair.asked
    with started_cli(*arguments(pair, tmp_path, max_cost_usd=2 * cap_usd)) as process:
        process.communicate(timeout=END_S)
    assert pair.asked > before
    assert cap_usd < pair.billed_usd <= 2 * cap_usd + ROUNDING_USD
    assert all(set(server.asked.values()) == {1} for server in pair.models)
