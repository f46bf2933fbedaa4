"""`routellm-fast adapt` from prompts to a router, with real language models behind real servers; a stand-in judges."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path

import pytest

import routellm_fast as rf
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
from tests.support.small_tasks import tasks, write_prompts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("no_server_settings"),
    pytest.mark.skipif(importlib.util.find_spec("routellm_fast.cli._adapt") is None, reason="there is no adapt yet"),
]

SOME = tasks()[:120]
END_S = 600.0
# What the first line may say; which of these is true of so few prompts is not for a test to know.
VERDICTS = ("routing saves", "do not route", "fixed mixture", "send everything", "quality asked for is not reached")
CONCURRENCY = 4


def arguments(pair: RealPair, folder: Path, *, max_cost_usd: float = 20.0) -> list[str]:
    write_prompts(folder / "prompts.jsonl", SOME)
    command = ["adapt", str(folder / "prompts.jsonl"), "--out", str(folder / "router")]
    for role, name, server, price in (
        ("strong", STRONG, pair.strong, STRONG_PRICE),
        ("weak", WEAK, pair.weak, WEAK_PRICE),
        ("judge", "judge-1", pair.judge, JUDGE_PRICE),
    ):
        command += [f"--{role}-model", name, f"--{role}-base-url", server.url]
        command += [f"--{role}-price-in", str(price.input_usd_per_1m)]
        command += [f"--{role}-price-out", str(price.output_usd_per_1m)]
    command += ["--max-tokens", "40", "--max-concurrency", str(CONCURRENCY)]
    return [*command, "--max-cost-usd", str(max_cost_usd)]


def finished(command: list[str]) -> str:
    """What the command prints."""
    with started_cli(*command) as process:
        said, errors = process.communicate(timeout=END_S)
    assert process.returncode == 0, errors
    return said


def check_router(folder: Path) -> None:
    """The router is of these two models, and tells kinds of requests apart."""
    router = rf.load_router(folder / "router")
    assert (router.model_pair.strong, router.model_pair.weak) == (STRONG, WEAK)
    win_rates = router.win_rates([task.prompt for task in tasks()])
    assert len(set(win_rates.tolist())) > len(tasks()) // 2


def test_prompts_become_a_router_with_a_verdict_and_nothing_is_asked_twice(pair: RealPair, tmp_path: Path) -> None:
    said = finished(arguments(pair, tmp_path))
    verdict = said.splitlines()[0].casefold()
    assert any(words in verdict for words in VERDICTS), verdict
    check_router(tmp_path)
    for server in pair.models:
        assert set(server.asked) <= {task.prompt for task in SOME}
        assert set(server.asked.values()) == {1}
    assert pair.strong.asked == pair.weak.asked
    # All of it is there: a second run asks nobody.
    asked = pair.asked
    finished([*arguments(pair, tmp_path), "--force"])
    assert pair.asked == asked


def test_a_killed_run_goes_on_and_asks_nothing_twice(pair: RealPair, tmp_path: Path) -> None:
    command = arguments(pair, tmp_path)
    with started_cli(*command) as process:
        deadline = time.monotonic() + END_S
        while pair.asked < len(SOME):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "nothing is asked"
            time.sleep(0.005)
        process.kill()
    finished(command)
    again = sum(sum(server.asked.values()) - len(server.asked) for server in pair.models)
    again += sum(pair.judge.questions.values()) - len(pair.judge.questions)
    # Whether a request that was under way was answered, nobody can know: these alone are asked again.
    assert again <= CONCURRENCY
    check_router(tmp_path)


def test_the_cap_on_cost_holds(pair: RealPair, tmp_path: Path) -> None:
    with started_cli(*arguments(pair, tmp_path, max_cost_usd=0.02)) as process:
        process.communicate(timeout=END_S)
    assert 0.0 < pair.billed_usd <= 0.02 + ROUNDING_USD
