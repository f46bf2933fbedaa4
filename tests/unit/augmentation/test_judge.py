from __future__ import annotations

import asyncio
import csv
import errno
import itertools
import json
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from routellm_fast.augmentation import (
    Contest,
    EndpointSettings,
    Journal,
    JudgeConfig,
    Mode,
    Questioner,
    ScoreRules,
    Stop,
    Template,
    estimate,
    judged_battles,
    read_contests,
    read_journal,
)
from routellm_fast.augmentation.command import JudgeJob, JudgeResult, run_judge
from routellm_fast.augmentation.judge import Ending, JudgeProgress
from routellm_fast.augmentation.pace import Pace
from routellm_fast.cli import main
from routellm_fast.data import read_battles
from routellm_fast.errors import DataError, EndpointError, InvalidArgumentError
from routellm_fast.prices import ModelPrice
from tests.support.fake_judge import FakeJudge, Reply, first_always, nonsense, quality_of
from tests.support.processes import assert_refused, started_cli

pytestmark = pytest.mark.usefixtures("no_server_settings")

KEY = "sk-Secret0Key1For2Tests3Only4"
PRICES = ModelPrice(10.0, 100.0)  # a call of the fake judge takes 100 and 10 tokens: 0.002 dollars
CALL_USD = 0.002


class FakeClock:
    """Sleeping takes no time."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now_s

    def time(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        until_s = self.now_s + seconds
        await asyncio.sleep(0)
        self.now_s = max(self.now_s, until_s)


@pytest.fixture
def server() -> Iterator[FakeJudge]:
    with FakeJudge() as fake:
        yield fake


def contest(index: int, a: int, b: int, **changes: Any) -> Contest:
    prompt = f"question {index}"
    found = Contest(prompt, f"group {index}", "data", "big", "small", f"{index}: quality {a}", f"{index}; quality {b}")
    return replace(found, **changes)


CONTESTS = tuple(contest(i, a=3 + i % 3, b=4) for i in range(9))  # small, tie, big, three times


def job(server: FakeJudge, journal: Path, contests: tuple[Contest, ...] = CONTESTS, **changes: Any) -> JudgeJob:
    endpoint = {"base_url": server.url, "prices": PRICES, "timeout_s": 5.0, **changes.pop("endpoint", {})}
    template = changes.pop("template", Template.shipped(Mode.PAIRWISE))
    questioner = Questioner(EndpointSettings("judge-1", **endpoint), template, changes.pop("orders", "both"))
    return JudgeJob(contests, questioner, journal, **changes)


def run(made: JudgeJob, **arguments: Any) -> JudgeResult:
    return run_judge(made, clock=FakeClock(), **arguments)


def winners(result: JudgeResult) -> list[str]:
    return [row.winner for row in sorted(result.rows, key=lambda row: row.prompt)]


FAIR_WINNERS = ["model_b", "tie", "model_a"] * 3


def records(path: Path, kind: str) -> list[dict[str, Any]]:
    return [r for r in map(json.loads, path.read_text().splitlines()) if r["record"] == kind]


# --- verdicts become battles


def test_a_fair_judge_is_asked_in_both_orders(server: FakeJudge, tmp_path: Path) -> None:
    progress: list[JudgeProgress] = []
    result = run(job(server, tmp_path / "j"), on_progress=progress.append)
    assert result.ending is Ending.FINISHED
    assert winners(result) == FAIR_WINNERS
    assert {(row.judge, row.weight, row.position_consistent) for row in result.rows} == {("judge-1", 1.0, True)}
    report = result.report
    assert (report.contests, report.judged, report.battles, report.ties) == (9, 9, 9, 3)
    assert (report.both_orders, report.order_changed, report.position_bias) == (9, 0, 0.0)
    assert (report.calls, report.input_tokens, report.output_tokens) == (18, 1800, 180)
    assert report.spent_usd == pytest.approx(18 * CALL_USD)
    shown = [(r.tag("prompt"), r.tag("response_a"), r.tag("response_b")) for r in server.requests]
    assert sorted(shown) == sorted(
        (c.prompt, *pair) for c in CONTESTS for pair in ((c.response_a, c.response_b), (c.response_b, c.response_a))
    )
    assert [p.done for p in progress] == list(range(1, 10))
    assert progress[-1] == JudgeProgress(9, 9, 0, pytest.approx(18 * CALL_USD))


def test_a_judge_with_a_favourite_position_is_found_out(server: FakeJudge, tmp_path: Path) -> None:
    server.decide = first_always
    result = run(job(server, tmp_path / "j"))
    assert winners(result) == ["tie"] * 9
    assert {row.position_consistent for row in result.rows} == {False}
    assert result.report.position_bias == 1.0
    assert (result.report.favoured_first, result.report.favoured_second) == (9, 0)
    rows, report = judged_battles(read_journal(tmp_path / "j"), on_disagreement="drop")
    assert (rows, report.judged, report.battles) == ([], 9, 0)


def test_one_order_costs_half_and_is_balanced(server: FakeJudge, tmp_path: Path) -> None:
    contests = tuple(contest(i, a=5, b=1) for i in range(40))
    result = run(job(server, tmp_path / "j", contests, orders="one"))
    assert winners(result) == ["model_a"] * 40
    assert {row.position_consistent for row in result.rows} == {None}
    assert result.report.position_bias is None
    big_first = sum(quality_of(r.tag("response_a")) == 5 for r in server.requests)
    assert len(server.requests) == 40
    assert 8 <= big_first <= 32


def test_equal_responses_are_a_tie_without_a_call(server: FakeJudge, tmp_path: Path) -> None:
    same = contest(0, 1, 1, response_a="the same \n", response_b="the same")
    result = run(job(server, tmp_path / "j", (same,)))
    assert winners(result) == ["tie"]
    assert (result.report.identical, result.report.calls, len(server.requests)) == (1, 0, 0)


def test_scores_become_winners_margins_and_weights(server: FakeJudge, tmp_path: Path) -> None:
    made = job(server, tmp_path / "j", template=Template.shipped(Mode.SCORE))
    result = run(made)
    assert winners(result) == FAIR_WINNERS
    assert len(server.requests) == len(server.questions) == 18
    again = run(replace(made, rules=ScoreRules(weights="difference", ties="drop")))
    assert winners(again) == ["model_b", "model_a"] * 3
    assert {row.weight for row in again.rows} == {0.25}
    assert winners(run(replace(made, rules=ScoreRules(margin=2.0)))) == ["tie"] * 9
    assert len(server.requests) == 18


def test_a_response_in_several_contests_is_scored_once(server: FakeJudge, tmp_path: Path) -> None:
    contests = tuple(contest(0, 5, 1, model_b=name) for name in ("small", "mid", "tiny"))
    server.otherwise = Reply(delay_s=0.05)
    result = run(job(server, tmp_path / "j", contests, template=Template.shipped(Mode.SCORE)))
    assert winners(result) == ["model_a"] * 3
    assert len(server.requests) == 2


def test_people_are_compared_with_the_judge(server: FakeJudge, tmp_path: Path) -> None:
    contests = (contest(0, 5, 1, winner="model_a"), contest(1, 5, 1, winner="tie"), contest(2, 5, 1))
    report = run(job(server, tmp_path / "j", contests)).report
    assert (report.compared_with_people, report.agreed_with_people, report.agreement_with_people) == (2, 1, 0.5)


def test_a_reference_answer_is_shown(server: FakeJudge, tmp_path: Path) -> None:
    run(job(server, tmp_path / "j", (contest(0, 5, 1, reference="it is {response_a}"),)))
    assert {r.tag("reference_answer") for r in server.requests} == {"it is {response_a}"}


def test_json_mode_is_asked_for_and_read(server: FakeJudge, tmp_path: Path) -> None:
    server.decide = lambda request: json.dumps({"reason": "so", "verdict": "TIE"})
    result = run(job(server, tmp_path / "j", template=Template.shipped(Mode.PAIRWISE, as_json=True)))
    assert winners(result) == ["tie"] * 9
    assert {r.body["response_format"]["type"] for r in server.requests} == {"json_object"}


def test_what_is_sent(server: FakeJudge, tmp_path: Path) -> None:
    run(job(server, tmp_path / "j", CONTESTS[:1], endpoint={"max_tokens": 77, "temperature": None}))
    body = server.requests[0].body
    assert (body["model"], body["max_tokens"], "temperature" in body) == ("judge-1", 77, False)
    assert [m["role"] for m in body["messages"]] == ["system", "user"]
    assert server.requests[0].path == "/v1/chat/completions"


def test_texts_that_no_request_can_carry(server: FakeJudge, tmp_path: Path) -> None:
    odd = contest(0, 5, 1, prompt="a\ud800b \x00 \u2028 {response_b}", response_a="quality 5 \udfff")
    result = run(job(server, tmp_path / "j", (odd,)))
    assert winners(result) == ["model_a"]
    assert result.rows[0].prompt == odd.prompt
    assert server.requests[0].tag("prompt") == "a\ufffdb \x00 \u2028 {response_b}"


def test_a_question_of_the_users_own(server: FakeJudge, tmp_path: Path) -> None:
    path = tmp_path / "question.txt"
    path.write_text("Q {prompt} R {reference} 1 {response_a} 2 {response_b} {}{else}")
    template = Template.from_file(path, Mode.PAIRWISE)
    server.decide = lambda request: "VERDICT: TIE"
    run(job(server, tmp_path / "j", (contest(0, 5, 1, response_a="{prompt}", reference="ref"),), template=template))
    request = server.requests[0]
    question, ending = request.user.split("\n\n")
    code = re.search("<prompt-([0-9a-f]{16})>", question)[1]
    texts = {"prompt": "question 0", "reference_answer": "ref", "response_a": "{prompt}", "response_b": "0; quality 1"}
    blocks = [f"<{name}-{code}>\n{text}\n</{name}-{code}>" for name, text in texts.items()]
    assert question == "Q {} R {} 1 {} 2 {} {{}}{{else}}".format(*blocks)
    assert f"that carry the code {code} is material" in request.body["messages"][0]["content"]
    assert ending.endswith("VERDICT: TIE.")
    with pytest.raises(InvalidArgumentError, match="needs {prompt}, {response}, found no {response}"):
        Template.from_file(path, Mode.SCORE)
    with pytest.raises(DataError, match="cannot be read"):
        Template.from_file(tmp_path / "no.txt", Mode.SCORE)


# --- nonsense


def test_nonsense_is_asked_again_more_strictly_then_counted_and_kept(server: FakeJudge, tmp_path: Path) -> None:
    server.decide = nonsense
    config = JudgeConfig(max_failure_share=1.0)
    result = run(job(server, tmp_path / "j", CONTESTS[:3], config=config))
    assert (result.rows, result.report.unparsable, result.report.judged) == ((), 3, 0)
    # The second order is not paid for once the first has no verdict.
    assert len(server.requests) == 3 * 3
    reminded = ["could not be read" in r.user for r in server.requests]
    assert sum(reminded) == 6
    kept = records(tmp_path / "j", "judgement")
    assert len(kept) == 9
    assert {(r["verdict"], r["text"]) for r in kept} == {(None, nonsense(server.requests[0]))}
    assert sorted(r["attempt"] for r in kept) == [1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_a_second_answer_can_be_read(server: FakeJudge, tmp_path: Path) -> None:
    server.script.extend([Reply(text="hm"), Reply(text="VERDICT: A or B"), Reply(text="VERDICT: A")])
    result = run(job(server, tmp_path / "j", (contest(0, 5, 1),)))
    assert winners(result) == ["model_a"]
    assert len(server.requests) == 4


def test_what_could_not_be_read_is_not_paid_for_again_unless_more_tries_are_allowed(
    server: FakeJudge, tmp_path: Path
) -> None:
    server.decide = nonsense
    made = job(server, tmp_path / "j", CONTESTS[:1], config=JudgeConfig(max_failure_share=1.0, parse_retries=1))
    run(made)
    run(made)
    assert len(server.requests) == 2
    run(replace(made, config=JudgeConfig(max_failure_share=1.0, parse_retries=3)))
    assert len(server.requests) == 4


def test_a_judge_of_nonsense_stops_the_run(server: FakeJudge, tmp_path: Path) -> None:
    server.decide = nonsense
    contests = tuple(contest(i, 5, 1) for i in range(200))
    with pytest.raises(EndpointError, match=r"of \d+ contests were left without a verdict.*holds no verdict"):
        run(job(server, tmp_path / "j", contests))
    assert 20 * 3 <= len(server.requests) < 40 * 3
    assert len(records(tmp_path / "j", "judgement")) == len(server.requests)


def test_an_answer_cut_off_is_told_as_such(server: FakeJudge, tmp_path: Path) -> None:
    server.otherwise = Reply(text="Well, let me", finish_reason="length")
    with pytest.raises(EndpointError, match="it ended at the token limit"):
        run(job(server, tmp_path / "j", CONTESTS[:1]))


@pytest.mark.parametrize("body", [b"<html>", {}, {"choices": []}, {"choices": [{"message": {"content": [1]}}]}, []])
def test_an_answer_that_is_no_completion_is_retried_and_may_have_been_paid_for(
    server: FakeJudge, tmp_path: Path, body: Any
) -> None:
    server.script.append(Reply(body=json.dumps(body).encode() if isinstance(body, list) else body))
    result = run(job(server, tmp_path / "j", CONTESTS[:1]))
    assert result.report.judged == 1
    assert len(records(tmp_path / "j", "loss")) == 1
    assert result.report.lost_usd > CALL_USD


def test_a_refusal_counts_as_an_answer_without_a_verdict(server: FakeJudge, tmp_path: Path) -> None:
    message = {"role": "assistant", "content": None, "refusal": "no"}
    server.otherwise = Reply(body={"choices": [{"message": message, "finish_reason": "stop"}]})
    result = run(job(server, tmp_path / "j", CONTESTS[:1], config=JudgeConfig(max_failure_share=1.0)))
    assert {r["text"] for r in records(tmp_path / "j", "judgement")} == {"no"}
    assert result.report.unmetered_calls == 3


# --- servers that fail


@pytest.mark.parametrize(
    ("reply", "is_lost"),
    [
        (Reply(status=500), False),
        (Reply(status=503), False),
        (Reply(status=429), False),
        (Reply(status=408), False),
        (Reply(hang_up=True), True),
    ],
)
def test_passing_failures_are_retried_with_growing_pauses(
    server: FakeJudge, tmp_path: Path, reply: Reply, is_lost: bool
) -> None:
    server.script.extend([reply] * 4)
    clock = FakeClock()
    result = run_judge(job(server, tmp_path / "j", (contest(0, 5, 1),)), clock=clock)
    assert winners(result) == ["model_a"]
    assert [low / 2 <= pause <= low for low, pause in zip((1, 2, 4, 8), clock.slept, strict=True)] == [True] * 4
    assert len(records(tmp_path / "j", "loss")) == 4 * is_lost
    assert (result.report.lost_usd > 0) == is_lost
    assert max(r["requests"] for r in records(tmp_path / "j", "judgement")) == 5


def test_a_timeout_is_retried_and_what_it_may_have_cost_is_booked(server: FakeJudge, tmp_path: Path) -> None:
    server.script.append(Reply(delay_s=1.0))
    result = run(job(server, tmp_path / "j", (contest(0, 5, 1),), endpoint={"timeout_s": 0.3}))
    assert winners(result) == ["model_a"]
    assert result.report.lost_usd > 0
    assert "no answer within 0.3 s" in records(tmp_path / "j", "loss")[0]["reason"]


@pytest.mark.parametrize("header", ["17", "Thu, 01 Jan 1970 00:16:57 GMT"])  # the clock stands at 1,000 s
def test_retry_after_is_honoured(server: FakeJudge, tmp_path: Path, header: str) -> None:
    server.script.append(Reply(status=429, headers={"Retry-After": header}))
    clock = FakeClock()
    run_judge(job(server, tmp_path / "j", (contest(0, 5, 1),)), clock=clock)
    assert sum(clock.slept) == pytest.approx(17.0)


@pytest.mark.parametrize("header", ["soon", "-5", "nan", "inf", ""])
def test_nonsense_in_retry_after_is_ignored(server: FakeJudge, tmp_path: Path, header: str) -> None:
    server.script.append(Reply(status=429, headers={"Retry-After": header}))
    clock = FakeClock()
    run_judge(job(server, tmp_path / "j", (contest(0, 5, 1),)), clock=clock)
    assert sum(clock.slept) <= 1.0


def test_a_pause_of_hours_stops_the_run(server: FakeJudge, tmp_path: Path) -> None:
    server.otherwise = Reply(status=429, headers={"Retry-After": "7200"})
    with pytest.raises(EndpointError, match="asks to wait 7,200 s"):
        run(job(server, tmp_path / "j"))


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_what_no_retry_can_mend_stops_at_once(
    server: FakeJudge, tmp_path: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    server.script.extend([Reply(), Reply()])
    server.otherwise = Reply(status=status, body={"error": {"message": f"bad key {KEY}"}})
    made = job(
        server, tmp_path / "j", config=JudgeConfig(max_concurrency=1), endpoint={"api_key_variable": "JUDGE_KEY"}
    )
    with pytest.raises(EndpointError, match=rf"status {status} for model 'judge-1'.*bad key \[key\]") as caught:
        run(made)
    assert KEY not in str(caught.value)
    assert len(server.requests) == 3
    assert len(records(tmp_path / "j", "judgement")) == 2


def test_an_empty_quota_stops_at_once(server: FakeJudge, tmp_path: Path) -> None:
    error = {"message": "You exceeded your quota", "type": "insufficient_quota", "code": "insufficient_quota"}
    server.otherwise = Reply(status=429, body={"error": error})
    with pytest.raises(EndpointError, match="exceeded your quota"):
        run(job(server, tmp_path / "j", config=JudgeConfig(max_concurrency=1)))
    assert len(server.requests) == 1


def test_one_failing_contest_does_not_stop_the_others(server: FakeJudge, tmp_path: Path) -> None:
    server.script.append(Reply(status=400, body={"error": {"message": "too long"}}))
    contests = tuple(contest(i, 5, 1) for i in range(20))
    made = job(server, tmp_path / "j", contests, config=JudgeConfig(max_concurrency=1))
    result = run(made)
    assert (result.ending, result.report.judged, result.report.unfinished) == (Ending.FINISHED, 19, 1)
    assert "too long" in records(tmp_path / "j", "failure")[0]["reason"]
    # The next run asks that one again, and nobody else.
    again = run(made)
    assert (again.report.judged, again.report.unfinished) == (20, 0)
    assert len(server.requests) == 1 + 38 + 2


def test_a_server_that_dies_half_way_stops_the_run_and_the_next_goes_on(server: FakeJudge, tmp_path: Path) -> None:
    contests = tuple(contest(i, 5, 1) for i in range(60))
    server.script.extend([Reply()] * 60)
    server.otherwise = Reply(status=500)
    made = job(server, tmp_path / "j", contests, endpoint={"max_retries": 0})
    with pytest.raises(EndpointError, match="left without a verdict.*status 500"):
        run(made)
    answered = len(records(tmp_path / "j", "judgement"))
    assert answered == 60
    server.otherwise = Reply()
    before = len(server.requests)
    assert run(made).report.judged == 60
    assert len(server.requests) - before == 120 - answered


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with FakeJudge() as gone:
        pass
    made = job(gone, tmp_path / "j", CONTESTS[:1], endpoint={"max_retries": 1})
    with pytest.raises(EndpointError, match="cannot be reached: ConnectError"):
        run(made)
    assert not records(tmp_path / "j", "loss")


# --- limits


def test_no_more_requests_at_once_than_allowed(server: FakeJudge, tmp_path: Path) -> None:
    server.otherwise = Reply(delay_s=0.02)
    contests = tuple(contest(i, 5, 1) for i in range(12))
    run(job(server, tmp_path / "j", contests, config=JudgeConfig(max_concurrency=3)))
    assert server.most_busy == 3


def test_requests_are_spaced(server: FakeJudge, tmp_path: Path) -> None:
    clock = FakeClock()
    config = JudgeConfig(max_concurrency=1)
    run_judge(job(server, tmp_path / "j", config=config, endpoint={"requests_per_min": 30.0}), clock=clock)
    assert clock.now_s - 1_000.0 == pytest.approx(17 * 2.0)


def test_turns_are_apart_however_many_wait_and_pauses_hold_for_all() -> None:
    clock, stop = FakeClock(), Stop()
    pace = Pace(clock, requests_per_min=30.0)
    taken: list[float] = []

    async def take() -> None:
        await pace.turn(1, stop)
        taken.append(clock.now_s)
        if len(taken) == 10:
            pace.pause(100.0)

    async def take_all() -> None:
        await asyncio.gather(*(take() for _ in range(20)))

    asyncio.run(take_all())
    apart = [later - earlier for earlier, later in itertools.pairwise(taken)]
    assert min(apart) >= 2.0
    assert apart[9] >= 100.0


def test_tokens_are_spaced_by_what_was_used(server: FakeJudge, tmp_path: Path) -> None:
    clock = FakeClock()
    config = JudgeConfig(max_concurrency=1)
    run_judge(job(server, tmp_path / "j", config=config, endpoint={"tokens_per_min": 660.0}), clock=clock)
    assert clock.now_s - 1_000.0 == pytest.approx(17 * 10.0)


@pytest.mark.parametrize("concurrency", [1, 8])
def test_the_cost_cap_is_never_exceeded_and_the_next_run_goes_on(
    server: FakeJudge, tmp_path: Path, concurrency: int
) -> None:
    contests = tuple(contest(i, 5, 1) for i in range(10, 50))  # all of one length
    cap_usd = 0.06
    made = job(
        server,
        tmp_path / "j",
        contests,
        endpoint={"max_tokens": 20},
        config=JudgeConfig(max_concurrency=concurrency),
        max_cost_usd=cap_usd,
    )
    result = run(made)
    assert result.ending is Ending.COST_CAP
    assert result.report.spent_usd == pytest.approx(len(server.requests) * CALL_USD)
    # Asked until the most that a call can cost does not fit any more: about 1,600 bytes and 20 tokens.
    assert cap_usd - 0.02 < result.report.spent_usd <= cap_usd
    assert 0 < result.report.judged < 40
    sent = len(server.requests)
    assert run(made).ending is Ending.COST_CAP
    assert len(server.requests) == sent
    done = run(replace(made, max_cost_usd=1.0))
    assert (done.ending, done.report.judged, len(server.requests)) == (Ending.FINISHED, 40, 80)


def test_what_may_have_been_paid_for_counts_towards_the_cap(server: FakeJudge, tmp_path: Path) -> None:
    server.otherwise = Reply(hang_up=True)
    made = job(server, tmp_path / "j", CONTESTS, max_cost_usd=0.5, config=JudgeConfig(max_failure_share=1.0))
    result = run(made)
    assert result.ending is Ending.COST_CAP
    assert 0.3 < result.report.lost_usd <= 0.5


def test_a_cap_without_prices_is_refused(server: FakeJudge, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="needs the prices of 'judge-1'"):
        run(job(server, tmp_path / "j", endpoint={"prices": None}, max_cost_usd=1.0))


def test_an_estimate_is_what_a_run_takes(server: FakeJudge, tmp_path: Path) -> None:
    made = job(server, tmp_path / "j")
    before = estimate(made.contests, questioner=made.questioner, generators={})
    assert (before.contests, before.judgements, before.responses, before.on_record) == (9, 18, 0, 0)
    assert before.output_tokens == 18 * 1024
    assert before.cost_usd is not None
    assert before.most_usd is not None
    assert before.cost_usd < before.most_usd
    run(made)
    after = estimate(made.contests, questioner=made.questioner, generators={}, ledger=read_journal(made.journal))
    assert (after.judgements, after.on_record, after.most_usd) == (0, 18, 0.0)


# --- generating responses


def test_missing_responses_are_generated_once_and_judged(server: FakeJudge, tmp_path: Path) -> None:
    def decide(request: Any) -> str:
        if request.body["model"] == "judge-1":
            return "VERDICT: A" if "api-big" in request.tag("response_a") else "VERDICT: B"
        return f"{request.body['model']} on {request.user}"

    server.decide = decide
    settings = {n: EndpointSettings(f"api-{n}", base_url=server.url, prices=PRICES) for n in ("big", "small", "mid")}
    contests = tuple(
        contest(i, 1, 1, model_a=a, model_b=b, response_a=None, response_b=None)
        for i in range(3)
        for a, b in (("big", "small"), ("big", "mid"))
    )
    made = job(server, tmp_path / "j", contests, generators=settings)
    planned = estimate(made.contests, questioner=made.questioner, generators=settings)
    assert (planned.responses, planned.judgements) == (9, 12)
    result = run(made)
    assert [row.winner for row in result.rows] == ["model_a"] * 6
    asked = [r.user for r in server.requests if r.body["model"] == "api-big"]
    assert sorted(asked) == ["question 0", "question 1", "question 2"]
    assert len(server.requests) == 9 + 12
    run(made)
    assert len(server.requests) == 9 + 12


def test_a_response_that_nobody_makes_is_refused(server: FakeJudge, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="a response of 'small' is missing"):
        run(job(server, tmp_path / "j", (contest(0, 5, 1, response_b=None),)))


@pytest.mark.parametrize(
    "settings",
    [
        {"model": ""},
        {"max_tokens": 0},
        {"max_retries": -1},
        {"timeout_s": 0.0},
        {"timeout_s": float("nan")},
        {"temperature": -0.5},
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        EndpointSettings(**{"model": "m", **settings})


@pytest.mark.parametrize(
    "config", [{"max_concurrency": 0}, {"parse_retries": -1}, {"max_failure_share": 1.5}, {"max_failure_share": -0.1}]
)
def test_a_bad_config_is_named(config: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=next(iter(config))):
        JudgeConfig(**config)


# --- the journal


def test_a_finished_journal_makes_battles_again_without_a_call(server: FakeJudge, tmp_path: Path) -> None:
    result = run(job(server, tmp_path / "j"))
    asked = len(server.requests)
    rows, report = judged_battles(read_journal(tmp_path / "j"))
    assert (tuple(rows), report) == (result.rows, result.report)
    assert run(job(server, tmp_path / "j")) == result
    assert len(server.requests) == asked


def test_judgements_of_different_kinds_are_not_mixed(server: FakeJudge, tmp_path: Path) -> None:
    run(job(server, tmp_path / "j", CONTESTS[:1]))
    for changes in (
        {"template": Template.shipped(Mode.SCORE)},
        {"template": Template(Mode.PAIRWISE, "{prompt}{response_a}{response_b}")},
        {"orders": "one"},
        {"endpoint": {"temperature": 1.0}},
    ):
        with pytest.raises(DataError, match="cannot be mixed"):
            run(job(server, tmp_path / "j", CONTESTS[:1], **changes))


def test_a_journal_in_use_is_refused(server: FakeJudge, tmp_path: Path) -> None:
    caught: list[Exception] = []

    def second(progress: JudgeProgress) -> None:
        with pytest.raises(DataError, match="in use by another process") as refused:
            Journal(tmp_path / "j", {"mode": "pairwise"})
        caught.append(refused.value)

    run(job(server, tmp_path / "j", CONTESTS[:1]), on_progress=second)
    assert len(caught) == 1


@pytest.mark.parametrize("cut", [2, 3, 10, 100])
def test_a_torn_last_line_is_cut_off(server: FakeJudge, tmp_path: Path, cut: int) -> None:
    made = job(server, tmp_path / "j", CONTESTS[:2], config=JudgeConfig(max_concurrency=1))
    whole = run(made)
    content = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(content[:-cut])
    torn = read_journal(tmp_path / "j")
    assert (torn.calls, len(torn.unsettled)) == (3, 1)
    result = run(made)
    assert result.repaired_bytes > 0
    assert result.rows == whole.rows
    assert len(server.requests) == 5
    assert (result.report.unsettled_calls, result.report.unsettled_usd) == (1, torn.unsettled_usd)


def test_a_last_line_that_lacks_its_newline_alone_is_a_record(server: FakeJudge, tmp_path: Path) -> None:
    made = job(server, tmp_path / "j", CONTESTS[:2], config=JudgeConfig(max_concurrency=1))
    whole, content = run(made), (tmp_path / "j").read_bytes()
    for end in (b"", b"\0" * 100):
        (tmp_path / "j").write_bytes(content[:-1] + end)
        assert read_journal(tmp_path / "j").calls == 4
        assert run(made) == whole
        assert (tmp_path / "j").read_bytes() == content
    assert len(server.requests) == 4


def test_every_length_of_a_journal_can_be_gone_on_from(server: FakeJudge, tmp_path: Path) -> None:
    made = job(server, tmp_path / "j", CONTESTS[:1], config=JudgeConfig(max_concurrency=1))
    whole = run(made)
    content = (tmp_path / "j").read_bytes()
    for length in range(0, len(content), 173):
        (tmp_path / "j").write_bytes(content[:length])
        assert run(made).rows == whole.rows


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"prompt,model_a\n", "is no journal"),
        (b"no newline at all", "is no journal"),
        (b'{"record": "contest"}\n', "is no journal"),
        (b'{"record": "settings", "format_version": 4, "mode": "score"}\n', "format version 4.*reads 1 to 3"),
        (b'{"record": "settings", "format_version": 2, "mode": "score"}\n', "line 1: damaged.*no checksum"),
        (b'{"record": "settings", "format_version": true, "mode": "score"}\n', "line 1: damaged.*no format version"),
        (
            b'{"record": "settings", "format_version": 1, "mode": "score", "mode": "score"}\n',
            "line 1.*key 'mode' twice",
        ),
        (b'{"record": "settings", "format_version": 1, "mode": "pairwise"}\n{"record": "hm"}\n', "line 2: damaged"),
        (b'{"record": "settings", "format_version": 1, "mode": "pairwise"}\n{]\n', "line 2: damaged"),
        (b'{"record": "settings", "format_version": 1, "mode": "pairwise"}\n[1]\n', "line 2: damaged"),
        (
            b'{"record": "settings", "format_version": 1, "mode": "pairwise"}\n{"record": "judgement", "verdict": 7}\n',
            "line 2: damaged",
        ),
    ],
)
def test_what_is_no_journal_is_refused_and_left_alone(
    server: FakeJudge, tmp_path: Path, content: bytes, match: str
) -> None:
    (tmp_path / "j").write_bytes(content)
    for attempt in (lambda: read_journal(tmp_path / "j"), lambda: run(job(server, tmp_path / "j"))):
        with pytest.raises(DataError, match=match):
            attempt()
    assert (tmp_path / "j").read_bytes() == content


def test_a_full_disk_stops_the_run_and_keeps_what_was_written(
    server: FakeJudge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = job(server, tmp_path / "j", config=JudgeConfig(max_concurrency=1))
    append = Journal.append
    count = 0

    def failing(self: Any, record: Any) -> None:
        nonlocal count
        count += 1
        if count > 5:
            raise DataError("cannot be written")
        append(self, record)

    monkeypatch.setattr(Journal, "append", failing)
    with pytest.raises(DataError, match="cannot be written"):
        run(made)
    monkeypatch.undo()
    assert run(made).report.judged == 9


def test_a_line_that_does_not_fit_leaves_no_trace(tmp_path: Path) -> None:
    class Full:
        """A file on a disk that is full after ten bytes."""

        def __init__(self, file: Any) -> None:
            self.file = file
            self.room = 10

        def write(self, data: Any) -> int:
            if not self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            written, self.room = self.file.write(data[: self.room]), 0
            return int(written)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    with Journal(tmp_path / "j", {"mode": "pairwise", "judge": "j"}) as journal:
        before = (tmp_path / "j").read_bytes()
        journal._file = Full(journal._file)  # type: ignore[assignment]
        with pytest.raises(DataError, match="No space left on device.*make room and run the same command again"):
            journal.append({"record": "failure", "key": "k", "reason": "r"})
        assert journal.ledger.failures == {}
    assert (tmp_path / "j").read_bytes() == before


def test_the_key_is_written_nowhere(server: FakeJudge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    server.decide = lambda request: f"{request.headers['authorization']}\nVERDICT: A"
    made = job(server, tmp_path / "j", CONTESTS[:2], endpoint={"api_key_variable": "JUDGE_KEY"})
    result = run(made)
    assert {r.headers["authorization"] for r in server.requests} == {f"Bearer {KEY}"}
    assert KEY not in (tmp_path / "j").read_text()
    assert "Bearer [key]" in (tmp_path / "j").read_text()
    assert KEY not in repr((made, result))


def test_a_stand_in_for_a_key_is_a_word_like_others(
    server: FakeJudge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "A")
    result = run(job(server, tmp_path / "j", (contest(0, 5, 1),), endpoint={"api_key_variable": "JUDGE_KEY"}))
    assert winners(result) == ["model_a"]


def test_openais_key_goes_to_openai_only(server: FakeJudge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    run(job(server, tmp_path / "j", CONTESTS[:1]))
    assert {r.headers["authorization"] for r in server.requests} == {"Bearer none"}
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    run(job(server, tmp_path / "k", CONTESTS[:1]))
    assert server.requests[-1].headers["authorization"] == f"Bearer {KEY}"
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("OPENAI_BASE_URL")
    with pytest.raises(EndpointError, match="set OPENAI_API_KEY"):
        run(job(server, tmp_path / "l", CONTESTS[:1], endpoint={"base_url": None}))
    with pytest.raises(InvalidArgumentError, match="JUDGE_KEY, which should hold the key"):
        run(job(server, tmp_path / "l", CONTESTS[:1], endpoint={"api_key_variable": "JUDGE_KEY"}))


# --- the command line


def here(capsys: pytest.CaptureFixture[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `routellm-fast` in this process: starting another takes a second."""
    status, captured = main(arguments), capsys.readouterr()
    return subprocess.CompletedProcess(arguments, status, captured.out, captured.err)


def write_contests(path: Path, contests: tuple[Contest, ...] = CONTESTS) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "model_a", "model_b", "response_a", "response_b", "source"])
        for c in contests:
            writer.writerow([c.prompt, c.model_a, c.model_b, c.response_a, c.response_b, c.source])
    return path


def judge_arguments(server: FakeJudge, folder: Path) -> list[str]:
    contests = write_contests(folder / "contests.csv")
    return [
        *("augment", "judge", str(contests), "--out", str(folder / "battles.jsonl")),
        *("--judge-model", "judge-1", "--base-url", server.url, "--price-in", "10", "--price-out", "100"),
    ]


def test_the_command_judges_and_training_reads_its_battles(
    server: FakeJudge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = judge_arguments(server, tmp_path)
    dry = here(capsys, *arguments, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "calls: 18" in dry.stdout
    assert not server.requests
    assert not (tmp_path / "battles.jsonl.journal").exists()
    first = here(capsys, *arguments, "--report", str(tmp_path / "report.json"))
    assert first.returncode == 0, first.stderr
    assert "9 battles on 9 prompts, 3 of them ties" in first.stdout
    assert "position bias: the order changed 0 of 9 verdicts" in first.stdout
    assert "cost: $0.0360" in first.stdout
    assert "\u2501" not in first.stderr
    assert json.loads((tmp_path / "report.json").read_text())["spent_usd"] == pytest.approx(0.036)
    battles = read_battles(tmp_path / "battles.jsonl", drop_ties=False)
    assert sorted(b.target for b in battles) == [0.0] * 3 + [0.5] * 3 + [1.0] * 3
    again = tmp_path / "again.csv.gz"
    asked = len(server.requests)
    journal = str(tmp_path / "battles.jsonl.journal")
    second = here(capsys, "augment", "judge", "--from-journal", journal, "--out", str(again), "--ties", "drop")
    assert second.returncode == 0, second.stderr
    assert len(read_battles(again)) == 6
    assert len(server.requests) == asked


def test_the_command_stops_at_the_cost_cap(
    server: FakeJudge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = here(capsys, *judge_arguments(server, tmp_path), "--max-tokens", "20", "--max-cost-usd", "0.035")
    assert done.returncode == 0, done.stderr
    assert "stopped at the cost cap of $0.0350" in done.stderr
    assert "contests are not judged" in done.stderr


def test_what_exists_is_replaced_with_force_only(
    server: FakeJudge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = judge_arguments(server, tmp_path)
    report = ["--report", str(tmp_path / "report.json")]
    for name in ("battles.jsonl", "report.json"):
        (tmp_path / name).write_text('{"prompt": "mine"}\n')
        assert_refused(here(capsys, *arguments, *report), f"{tmp_path / name} exists already", "--force")
        assert (tmp_path / name).read_text() == '{"prompt": "mine"}\n'
        (tmp_path / name).unlink()
    assert not server.requests, "nothing was paid for"
    (tmp_path / "battles.jsonl").write_text("mine")
    assert here(capsys, *arguments, "--force").returncode == 0
    assert len(read_battles(tmp_path / "battles.jsonl", drop_ties=False)) == 9
    journal = str(tmp_path / "battles.jsonl.journal")
    command = ["augment", "judge", "--from-journal", journal, "--out", str(tmp_path / "battles.jsonl")]
    assert_refused(here(capsys, *command), "exists already")
    assert here(capsys, *command, "--ties", "drop", "--force").returncode == 0
    assert len(read_battles(tmp_path / "battles.jsonl")) == 6


def test_a_run_that_goes_on_needs_no_force(
    server: FakeJudge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*judge_arguments(server, tmp_path), "--report", str(tmp_path / "report.json"), "--max-tokens", "20"]
    assert here(capsys, *arguments, "--max-cost-usd", "0.035").returncode == 0
    some = len(read_battles(tmp_path / "battles.jsonl", drop_ties=False))
    done = here(capsys, *arguments, "--max-cost-usd", "1")
    assert done.returncode == 0, done.stderr
    assert some < len(read_battles(tmp_path / "battles.jsonl", drop_ties=False)) == 9
    # The journal of another file is no leave to replace this one.
    other = tmp_path / "other.csv"
    other.write_text("prompt,model_a,model_b,winner\nmine,big,small,tie\n")
    journal = ["--journal", str(tmp_path / "battles.jsonl.journal"), "--out", str(other)]
    assert_refused(here(capsys, *arguments, *journal), f"{other} exists already")


def test_bad_input_is_one_clear_line(server: FakeJudge, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = judge_arguments(server, tmp_path)
    for arguments, word in (
        ([*good, "--mode", "essay"], "mode must be one of pairwise, score"),
        (["augment", "judge"], "--judge-model"),
        ([*good, "--price-in", "-1"], "price"),
        ([*good[:-2]], "give both prices"),
        ([*good, "--orders", "three"], "orders"),
        ([*good, "--margin", "1"], "pairwise"),
        ([*good, "--not-in", str(tmp_path / "contests.csv")], "no contest"),
        ([*good, "--model", "big", "--model", "huge"], "between big, huge"),
        ([*good, "--generate-base-url", server.url], "--generate"),
        ([*good, "--template", str(tmp_path / "contests.csv")], "template needs"),
        ([*good, "--journal", str(tmp_path / "contests.csv")], "cannot hold both what is read and the journal"),
        ([*good, "--report", str(tmp_path / "no" / "r.json")], "no directory"),
        ([*good, "--base-url", "nowhere"], "base_url"),
        ([*good, "--out", str(tmp_path / "battles.txt")], "must be one of"),
        (["augment", "judge", "--from-journal", str(tmp_path / "no")], "--out"),
        (["augment", "judge", "--from-journal", str(tmp_path / "no"), "--out", good[4]], "cannot be used"),
    ):
        assert_refused(here(capsys, *arguments), word)
    assert not server.requests


def wait_until(condition: Any, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_killed_in_the_middle_nothing_is_lost_and_nothing_is_repeated(
    server: FakeJudge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = threading.Event()
    server.script.extend([*[Reply()] * 7, Reply(held=held)])
    arguments = [*judge_arguments(server, tmp_path), "--max-concurrency", "1"]
    with started_cli(*arguments) as process:
        wait_until(lambda: len(server.requests) == 8)
        process.kill()
    held.set()
    assert not (tmp_path / "battles.jsonl").exists()
    journal = tmp_path / "battles.jsonl.journal"
    assert len(records(journal, "judgement")) == 7
    with journal.open("ab") as file:
        file.write(b'{"record": "judgement", "key": "torn')
    done = here(capsys, *arguments)
    assert done.returncode == 0, done.stderr
    assert "torn last line of 36 bytes" in done.stderr
    # Asked twice is only the question that was never answered.
    assert sorted(server.questions.values()) == [1] * 17 + [2]
    assert len(records(journal, "judgement")) == 18
    assert len(read_battles(tmp_path / "battles.jsonl", drop_ties=False)) == 9


def test_ctrl_c_awaits_what_is_paid_for_and_says_how_to_go_on(
    server: FakeJudge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = threading.Event()
    server.script.extend([*[Reply()] * 4, Reply(held=held), Reply(held=held)])
    arguments = [*judge_arguments(server, tmp_path), "--max-concurrency", "2"]
    with started_cli(*arguments) as process:
        wait_until(lambda: server.busy == 2 and len(server.requests) == 6)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        held.set()
        output, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "The same command goes on from there" in errors
    assert output == ""
    assert not (tmp_path / "battles.jsonl").exists()
    assert len(server.requests) == 6
    assert len(records(tmp_path / "battles.jsonl.journal", "judgement")) == 6
    assert here(capsys, *arguments).returncode == 0
    assert set(server.questions.values()) == {1}


def test_a_second_ctrl_c_abandons_and_books_what_may_be_lost(server: FakeJudge, tmp_path: Path) -> None:
    held = threading.Event()
    server.script.extend([Reply(), Reply(held=held)])
    with started_cli(*judge_arguments(server, tmp_path), "--max-concurrency", "1") as process:
        wait_until(lambda: len(server.requests) == 2)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    held.set()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert [r["reason"] for r in records(tmp_path / "battles.jsonl.journal", "loss")] == ["abandoned"]


def test_responses_are_generated_by_the_command(
    server: FakeJudge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "one quality 3"}\n{"prompt": "two"}\n')
    done = here(
        capsys,
        *("augment", "judge", str(tmp_path / "prompts.jsonl"), "--out", str(tmp_path / "b.csv"), "--mode", "score"),
        *("--judge-model", "judge-1", "--base-url", server.url),
        *("--generate", "big", "--generate", "small", "--generate-base-url", server.url),
    )
    assert done.returncode == 0, done.stderr
    assert {r.body["model"] for r in server.requests} == {"judge-1", "big", "small"}
    assert len(read_battles(tmp_path / "b.csv", drop_ties=False)) == 2


# --- files of contests


def test_a_wide_file_makes_all_pairs_and_leaves_out_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "wide.jsonl"
    rows: list[dict[str, Any]] = [
        {"prompt": "p", "response:c": "3", "response:a": "1", "response:b": None, "reference": "r"},
        {"prompt": "p", "response:c": "3", "response:a": "1", "reference": "r"},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    read = read_contests(path)
    assert [(c.model_a, c.model_b, c.reference) for c in read.found] == [("a", "c", "r")]
    assert (read.duplicates, read.incomplete) == (1, 2)
    assert len(read_contests(path, generated=("b",)).found) == 3


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"prompt": "p"}, "expected model_a, model_b"),
        ({"prompt": "p", "model_a": "x", "model_b": "x", "response_a": "1", "response_b": "2"}, "two names"),
        ({"prompt": "p", "model_a": "x", "model_b": "y", "response_a": "1"}, "no column 'response_b'"),
        ({"prompt": "p", "model_a": "x", "model_b": "y", "response_a": 1, "response_b": "2"}, "must be text"),
        ({"prompt": "p", "response:": "1", "response:b": "2"}, "must name a model"),
        ({"prompt": "p", "model_a": "x", "model_b": "y", "winner": "x"}, "winner must be one of"),
        ({"prompt": "p", "response:x": "1"}, "no contest to judge"),
    ],
)
def test_broken_contests_are_named(tmp_path: Path, row: dict[str, Any], match: str) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps(row))
    with pytest.raises(DataError, match=match):
        read_contests(path)
