"""Two real language models behind real servers, asked and judged; of the judge there is a stand-in only."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pytest

from routellm_fast.augmentation import read_journal
from routellm_fast.tables import read_table
from tests.support.processes import started_cli
from tests.support.real_pair import (
    JUDGE_PRICE,
    ROUNDING_USD,
    STRONG,
    STRONG_PRICE,
    WEAK,
    WEAK_PRICE,
    WEAK_TOKENS,
    RealPair,
)
from tests.support.small_tasks import is_right, tasks, write_prompts

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_server_settings")]

SOME = tasks()[:32]
MOST_TOKENS = 40
CONCURRENCY = 4
END_S = 1200.0


def arguments(pair: RealPair, folder: Path) -> list[str]:
    """`augment judge` of SOME, whose answers both models still have to give."""
    write_prompts(folder / "prompts.jsonl", SOME)
    command = ["augment", "judge", str(folder / "prompts.jsonl"), "--out", str(folder / "battles.jsonl")]
    command += ["--judge-model", "judge-1", "--base-url", pair.judge.url, "--report", str(folder / "report.json")]
    command += ["--price-in", str(JUDGE_PRICE.input_usd_per_1m), "--price-out", str(JUDGE_PRICE.output_usd_per_1m)]
    for name, server, price in ((STRONG, pair.strong, STRONG_PRICE), (WEAK, pair.weak, WEAK_PRICE)):
        command += ["--generate", name, "--generate-base-url", server.url]
        command += ["--generate-price-in", str(price.input_usd_per_1m)]
        command += ["--generate-price-out", str(price.output_usd_per_1m)]
    command += ["--generate-max-tokens", str(MOST_TOKENS), "--max-concurrency", str(CONCURRENCY)]
    return [*command, "--max-cost-usd", "5"]


def finish(command: list[str]) -> None:
    with started_cli(*command) as process:
        _, errors = process.communicate(timeout=END_S)
    assert process.returncode == 0, errors


def test_each_model_is_asked_once_its_tokens_are_booked_and_right_answers_win(pair: RealPair, tmp_path: Path) -> None:
    finish(arguments(pair, tmp_path))
    for model in pair.models:
        assert model.asked == Counter(task.prompt for task in SOME)
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["unmetered_calls"], report["lost_usd"], report["unsettled_calls"]) == (0, 0.0, 0)
    assert report["spent_usd"] == pytest.approx(pair.billed_usd, abs=ROUNDING_USD)
    assert len(SOME) < pair.weak.output_tokens <= WEAK_TOKENS * len(SOME) < pair.strong.output_tokens

    rows = list(read_table(tmp_path / "battles.jsonl"))
    assert sorted(row.text("prompt") for row in rows) == sorted(task.prompt for task in SOME)
    answers = {STRONG: pair.strong.answers, WEAK: pair.weak.answers}
    for row in rows:
        prompt = row.text("prompt")
        right_a, right_b = (is_right(prompt, answers[row.text(name)][prompt]) for name in ("model_a", "model_b"))
        assert row.text("winner") == ("tie" if right_a == right_b else "model_a" if right_a else "model_b")
    right = [sum(is_right(task.prompt, model.answers[task.prompt]) for task in SOME) for model in pair.models]
    assert len(SOME) > right[0] > right[1] > 0, "the models do not differ as the tests want"


def test_a_killed_run_goes_on_and_asks_nothing_twice(pair: RealPair, tmp_path: Path) -> None:
    command = arguments(pair, tmp_path)
    with started_cli(*command) as process:
        deadline = time.monotonic() + END_S
        while pair.asked < len(SOME):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "nothing is asked"
            time.sleep(0.005)
        process.kill()
    killed = read_journal(tmp_path / "battles.jsonl.journal")
    under_way = len(killed.unsettled)
    assert 0 < len(killed.responses) < 2 * len(SOME)
    assert under_way <= CONCURRENCY

    finish(command)
    found = read_journal(tmp_path / "battles.jsonl.journal")
    assert len(found.responses) == 2 * len(SOME)
    # Whether a request that was under way was answered, nobody can know: these alone are asked again.
    assert 0 <= pair.asked - found.calls <= under_way
    assert max(max(model.asked.values()) for model in pair.models) <= 2
    assert pair.billed_usd <= found.committed_usd + ROUNDING_USD
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["judged"], report["unsettled_calls"]) == (len(SOME), under_way)
