"""Asking two models and a judge, over sockets."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routellm_fast.adaptation.asking import Asked, AskJob, AskProgress, ask, plan
from routellm_fast.adaptation.cases import Case, cases_of, read_cases
from routellm_fast.adaptation.checking import Checker, checker_of
from routellm_fast.adaptation.redaction import redaction_of
from routellm_fast.augmentation import EndpointSettings, JudgeConfig, Mode, Questioner, Template, read_journal
from routellm_fast.augmentation.command import JudgeJob, run_judge
from routellm_fast.augmentation.contests import Contest
from routellm_fast.augmentation.workers import Ending
from routellm_fast.decision import ModelPair
from routellm_fast.errors import DataError, EndpointError, InvalidArgumentError
from routellm_fast.prices import ModelPrice
from tests.support.fake_judge import FakeJudge, Reply, Request, nonsense
from tests.support.fake_judge import fair as fairly

pytestmark = pytest.mark.usefixtures("no_server_settings")

PAIR = ModelPair("big", "small")
PRICES = {"big": ModelPrice(10.0, 100.0), "small": ModelPrice(1.0, 10.0), "judge-1": ModelPrice(10.0, 100.0)}
BIG_USD, SMALL_USD, JUDGE_USD = 0.002, 0.0002, 0.002  # of a call of 100 and 10 tokens


def quality(model: str, prompt: str) -> int:
    """What a model's answer to "question N" is worth: the big one is better, equal or worse in turn."""
    number = int(prompt.rpartition(" ")[2])
    return 3 if model == "api-small" else (5, 3, 1)[number % 3]


def answer(request: Request) -> str:
    """Both models and the judge."""
    if request.body["model"].startswith("api-"):
        return f"quality {quality(request.body['model'], request.user)}"
    return fairly(request)


@pytest.fixture
def server() -> Iterator[FakeJudge]:
    with FakeJudge(answer) as fake:
        yield fake


class HastyClock:
    """A clock by which nobody waits."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic(self) -> float:
        return self.now_s

    def time(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        await asyncio.sleep(0)


def endpoint(server: FakeJudge, name: str, **changes: Any) -> EndpointSettings:
    fields = {"base_url": server.url, "prices": PRICES[name.removeprefix("api-")], "timeout_s": 5.0, **changes}
    return EndpointSettings(name, **fields)


def questioner(server: FakeJudge, mode: Mode = Mode.PAIRWISE, **changes: Any) -> Questioner:
    return Questioner(endpoint(server, "judge-1", **changes), Template.shipped(mode))


def job(server: FakeJudge, path: Path, **changes: Any) -> AskJob:
    asked = changes.pop("endpoint", {})
    fields = {"strong": endpoint(server, "api-big", **asked), "weak": endpoint(server, "api-small", **asked), **changes}
    if "checker" not in fields and "judge" not in fields:
        fields["judge"] = questioner(server, **asked)
    return AskJob(PAIR, path, **fields)


def cases(count: int, **changes: Any) -> tuple[Case, ...]:
    return tuple(replace(case, **changes) for case in cases_of([f"question {i}" for i in range(count)]))


def run(made: AskJob, asked: tuple[Case, ...], **arguments: Any) -> Asked:
    return ask(made, asked, clock=HastyClock(), **arguments)


def models_asked(server: FakeJudge) -> list[str]:
    return sorted(request.body["model"] for request in server.requests)


STRONG = [1.0, 0.5, 0.0] * 3
IS_FIVE = Checker("five", lambda prompt, answer, reference: float(answer == "quality 5"), needs_reference=False)


# --- judging


def test_both_models_and_the_judge_make_labels(server: FakeJudge, tmp_path: Path) -> None:
    progress: list[AskProgress] = []
    asked = run(job(server, tmp_path / "j"), cases(9), on_progress=progress.append)
    labels, report = asked.labels, asked.report
    assert asked.ending is Ending.FINISHED
    assert (labels.pair, labels.prompts) == (PAIR, tuple(f"question {i}" for i in range(9)))
    assert labels.strong.tolist() == STRONG
    assert labels.weak.tolist() == [1.0 - score for score in STRONG]
    assert labels.costs_usd is not None
    np.testing.assert_allclose(labels.costs_usd, [[BIG_USD, SMALL_USD]] * 9)
    # Three of nine are equal, and take no judge.
    assert models_asked(server) == ["api-big"] * 9 + ["api-small"] * 9 + ["judge-1"] * 12
    assert (report.prompts, report.answered, report.labelled, report.identical) == (9, 9, 9, 3)
    assert (report.failed, report.unreadable, report.unfinished) == (0, 0, 0)
    assert (report.new_calls, report.calls, report.input_tokens, report.output_tokens) == (30, 30, 3000, 300)
    assert report.spent_usd == pytest.approx(9 * (BIG_USD + SMALL_USD) + 12 * JUDGE_USD)
    assert report.to_json()["labelled"] == 9
    assert {entry.stage for entry in progress} == {"asking"}
    assert (progress[-1].done, progress[-1].total, progress[-1].failed) == (9, 9, 0)


def test_a_judge_that_scores_makes_labels_between_0_and_1(server: FakeJudge, tmp_path: Path) -> None:
    labels = run(job(server, tmp_path / "j", judge=questioner(server, Mode.SCORE)), cases(3)).labels
    assert labels.strong.tolist() == [1.0, 0.5, 0.0]
    assert labels.weak.tolist() == [0.5, 0.5, 0.5]


def test_further_rounds_ask_only_what_is_new(server: FakeJudge, tmp_path: Path) -> None:
    made = job(server, tmp_path / "j")
    run(made, cases(3))
    asked = len(server.requests)
    again = run(made, cases(3))
    assert (len(server.requests), again.report.new_calls, again.labels.strong.tolist()) == (asked, 0, STRONG[:3])
    more = run(made, cases(9)[6:])
    assert more.labels.prompts == ("question 6", "question 7", "question 8")
    assert more.report.new_calls == len(server.requests) - asked == asked
    assert more.report.prompts == 3
    assert more.report.calls == 2 * asked


def test_the_plan_is_what_a_run_takes(server: FakeJudge, tmp_path: Path) -> None:
    made = job(server, tmp_path / "j")
    before = plan(made, cases(9))
    assert (before.contests, before.responses, before.judgements, before.on_record) == (9, 18, 18, 0)
    assert before.most_usd is not None
    assert not (tmp_path / "j").exists()
    run(made, cases(9))
    after = plan(made, cases(10))
    assert (after.responses, after.judgements, after.on_record) == (2, 2, 30)
    assert plan(job(server, tmp_path / "k", checker=IS_FIVE), cases(9)).judgements == 0


# --- checking


def test_a_checker_scores_what_the_models_answer(server: FakeJudge, tmp_path: Path) -> None:
    progress: list[AskProgress] = []
    asked = run(job(server, tmp_path / "j", checker=IS_FIVE), cases(6), on_progress=progress.append)
    assert asked.labels.strong.tolist() == [1.0, 0.0, 0.0] * 2
    assert asked.labels.weak.tolist() == [0.0] * 6
    assert asked.labels.costs_usd is not None
    assert models_asked(server) == ["api-big"] * 6 + ["api-small"] * 6
    assert asked.report.identical == 2
    assert [entry.stage for entry in progress] == ["asking"] * 6 + ["checking"] * 6


def test_who_checks_first_and_judges_later_pays_for_the_answers_once(server: FakeJudge, tmp_path: Path) -> None:
    run(job(server, tmp_path / "j", checker=IS_FIVE), cases(9))
    asked = len(server.requests)
    judged = run(job(server, tmp_path / "j"), cases(9))
    assert judged.labels.strong.tolist() == STRONG
    assert models_asked(server)[asked:] == ["judge-1"] * 12
    # And the other way round, and with another judge.
    assert run(job(server, tmp_path / "j", checker=IS_FIVE), cases(9)).labels.strong.tolist() == [1.0, 0.0, 0.0] * 3
    assert len(server.requests) == asked + 12
    scored = run(job(server, tmp_path / "j", judge=questioner(server, Mode.SCORE)), cases(3))
    assert scored.labels.strong.tolist() == [1.0, 0.5, 0.0]
    assert scored.labels.costs_usd is not None


def test_another_judge_judges_the_same_answers(server: FakeJudge, tmp_path: Path) -> None:
    run(job(server, tmp_path / "j"), cases(9))
    asked = len(server.requests)
    other = replace(questioner(server), judge=replace(endpoint(server, "judge-1"), model="judge-2"))
    assert run(job(server, tmp_path / "j", judge=other), cases(9)).labels.strong.tolist() == STRONG
    assert models_asked(server)[asked:] == ["judge-2"] * 12
    assert run(job(server, tmp_path / "j"), cases(9)).report.new_calls == 0


def test_several_threads_check_in_order(server: FakeJudge, tmp_path: Path) -> None:
    seen: set[int] = set()
    together = threading.Barrier(3, timeout=30.0)

    def check(prompt: str, answer: str, reference: str | None) -> float:
        seen.add(threading.get_ident())
        together.wait()
        return int(prompt.rpartition(" ")[2]) / 10.0

    checker = Checker("number", check, needs_reference=False, max_threads=3)
    given = cases(3, strong_answer="same", weak_answer="same")
    asked = run(AskJob(PAIR, tmp_path / "j", checker=checker), given)
    assert asked.labels.strong.tolist() == [0.0, 0.1, 0.2]
    assert len(seen) == 3


def test_a_checker_that_fails_names_the_prompt_and_keeps_the_answers(server: FakeJudge, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def check(prompt, answer, reference):\n    return {'question 0': 1.0}[prompt]\n")
    made = job(server, tmp_path / "j", checker=checker_of(f"python:{path}:check"))
    given = (cases(2)[0], replace(cases(2)[1], place="prompts.jsonl, line 7"))
    with pytest.raises(
        DataError, match=r"^prompts.jsonl, line 7: .*mine.py, line 2: check\(\) failed: KeyError.*is kept"
    ):
        run(made, given)
    assert len(read_journal(tmp_path / "j").responses) == 4


@pytest.mark.parametrize(
    ("checker", "reference", "match"),
    [
        ("exact", None, "line 3 has no reference, and the checker exact compares answers with one"),
        ("numeric", "many", "line 3: its reference does not fit the checker numeric: it holds no number: 'many'"),
        ("tests", "assert (", "line 3: its reference does not fit the checker tests: it is no Python"),
    ],
)
def test_references_are_looked_at_before_anything_is_paid_for(
    server: FakeJudge, tmp_path: Path, checker: str, reference: str | None, match: str
) -> None:
    made = job(server, tmp_path / "j", checker=checker_of(checker))
    with pytest.raises(DataError, match=match):
        run(made, cases(1, reference=reference, place="p.jsonl, line 3"))
    assert server.requests == []
    assert not (tmp_path / "j").exists()


def test_with_neither_judge_nor_checker_answers_are_kept_for_later(server: FakeJudge, tmp_path: Path) -> None:
    asked = run(job(server, tmp_path / "j", judge=None), cases(4))
    assert (len(asked.labels), asked.report.answered, asked.report.labelled) == (0, 4, 0)
    assert len(read_journal(tmp_path / "j").responses) == 8
    with pytest.raises(InvalidArgumentError, match="a judge or a checker, not both"):
        job(server, tmp_path / "j", judge=questioner(server), checker=IS_FIVE)


# --- answers that are there


def test_answers_that_are_there_are_not_asked_for(server: FakeJudge, tmp_path: Path) -> None:
    given = (
        replace(cases(1)[0], strong_answer="quality 4", weak_answer="quality 2"),
        replace(cases(2)[1], weak_answer="quality 2"),
    )
    asked = run(job(server, tmp_path / "j"), given)
    assert asked.labels.strong.tolist() == [1.0, 1.0]
    assert models_asked(server) == ["api-big"] + ["judge-1"] * 4
    assert asked.labels.costs_usd is None  # of what others paid for, nothing is known


def test_answers_of_a_file_can_be_checked_without_any_call(tmp_path: Path) -> None:
    rows = [
        {"prompt": "1 + 1?", "response:big": "It is 2.", "response:small": "3", "reference": "2"},
        {"prompt": "2 + 2?", "response:big": "4", "response:small": "four, so 4", "reference": "4"},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = read_cases(tmp_path / "a.jsonl", PAIR, asks=False)
    asked = ask(AskJob(PAIR, tmp_path / "j", checker=checker_of("numeric")), read.found)
    assert (asked.labels.strong.tolist(), asked.labels.weak.tolist()) == ([1.0, 1.0], [0.0, 1.0])
    assert (asked.report.calls, asked.report.committed_usd, asked.labels.costs_usd) == (0, 0.0, None)
    assert not (tmp_path / "j").exists()


def test_an_answer_that_nobody_is_asked_for_is_named(server: FakeJudge, tmp_path: Path) -> None:
    made = job(server, tmp_path / "j", weak=None)
    with pytest.raises(InvalidArgumentError, match="line 2: an answer of 'small' is missing, and no endpoint"):
        run(made, cases(1, place="p.csv, line 2"))
    with pytest.raises(InvalidArgumentError, match="found twice"):
        run(made, (*cases(1), *cases(1)))


def test_a_journal_of_augment_judge_is_gone_on_with(server: FakeJudge, tmp_path: Path) -> None:
    made = job(server, tmp_path / "j")
    contests = tuple(
        Contest(case.prompt, case.group, "mine", "small", "big", None, None) for case in cases(3)
    )  # the other way round
    assert made.judge is not None
    run_judge(JudgeJob(contests, made.judge, tmp_path / "j", generators=made.generators))
    asked = len(server.requests)
    assert run(made, cases(3)).labels.strong.tolist() == STRONG[:3]
    assert len(server.requests) == asked


def test_two_servers_that_call_their_models_the_same_are_two(tmp_path: Path) -> None:
    with FakeJudge(lambda request: "yes") as one, FakeJudge(lambda request: "no") as other:
        made = AskJob(
            PAIR,
            tmp_path / "j",
            endpoint(one, "api-big"),
            endpoint(other, "api-big"),
            checker=Checker("yes", lambda prompt, answer, reference: float(answer == "yes"), needs_reference=False),
        )
        for _ in range(2):
            labels = run(made, cases(2)).labels
            assert (labels.strong.tolist(), labels.weak.tolist()) == ([1.0, 1.0], [0.0, 0.0])
        assert (len(one.requests), len(other.requests)) == (2, 2)
        with pytest.raises(InvalidArgumentError, match="both model 'api-big' of one server.*nothing to compare"):
            replace(made, weak=made.strong)


# --- redaction


SECRET = "ann@mail.example"


def test_nobody_sees_a_prompt_and_the_router_learns_from_the_original(server: FakeJudge, tmp_path: Path) -> None:
    server.decide = lambda request: "VERDICT: A" if request.body["model"] == "judge-1" else request.body["model"]
    prompts = [f"Write to {SECRET}: question 1", "Nothing here"]
    given = cases_of(prompts, references=[f"It is {SECRET}", None])
    made = job(server, tmp_path / "j", redaction=redaction_of(["email"]))
    asked = run(made, given)
    assert asked.labels.prompts == tuple(prompts)
    assert (asked.report.redacted, asked.report.redacted_prompts) == ({"email": 2}, 1)
    sent = json.dumps([request.body for request in server.requests])
    assert SECRET not in sent
    assert "Write to [email]: question 1" in sent
    assert "It is [email]" in sent
    assert SECRET not in (tmp_path / "j").read_text()
    # Without the rule it is another question.
    assert plan(job(server, tmp_path / "j"), given).responses == 2


def test_answers_that_are_there_are_redacted_for_the_judge_and_not_for_a_checker(
    server: FakeJudge, tmp_path: Path
) -> None:
    given = cases(1, strong_answer=f"quality 5, says {SECRET}", weak_answer="quality 1", reference=SECRET)
    rules = redaction_of(["all"])
    asked = run(job(server, tmp_path / "j", redaction=rules), given)
    assert (asked.labels.strong.tolist(), asked.report.redacted) == ([1.0], {"email": 2})
    assert SECRET not in json.dumps([request.body for request in server.requests])
    checked = run(job(server, tmp_path / "j", redaction=rules, checker=checker_of("contains")), given)
    assert (checked.labels.strong.tolist(), checked.labels.weak.tolist()) == ([1.0], [0.0])
    assert checked.report.redacted == {}


def test_prompts_that_are_one_when_redacted_share_their_answers(server: FakeJudge, tmp_path: Path) -> None:
    server.decide = lambda request: "VERDICT: TIE" if request.body["model"] == "judge-1" else request.body["model"]
    given = cases_of(["To a@b.de", "To c@d.de"])
    asked = run(job(server, tmp_path / "j", redaction=redaction_of(["email"])), given)
    assert len(asked.labels) == 2
    assert models_asked(server) == ["api-big", "api-small", "judge-1", "judge-1"]


# --- failures


def test_an_endpoint_that_fails_half_way_says_how_to_go_on(server: FakeJudge, tmp_path: Path) -> None:
    made = job(server, tmp_path / "j", endpoint={"max_retries": 0})
    server.script.extend([Reply()] * 100)
    server.otherwise = Reply(status=500)
    with pytest.raises(EndpointError, match=r"status 500.*\d+ of 60 prompts have a verdict.*the same command goes on"):
        run(made, cases(60))
    kept = read_journal(tmp_path / "j").calls
    assert kept == 100
    server.otherwise = Reply()
    before = len(server.requests)
    done = run(made, cases(60))
    assert (done.report.labelled, done.report.failed) == (60, 0)
    assert done.report.calls == 60 * 2 + 40 * 2
    assert len(server.requests) - before == done.report.calls - kept


def test_a_server_that_refuses_every_call_ends_the_run_at_once(server: FakeJudge, tmp_path: Path) -> None:
    server.otherwise = Reply(status=401, body={"error": {"message": "no key"}})
    made = job(server, tmp_path / "j", checker=IS_FIVE, config=JudgeConfig(max_concurrency=1))
    with pytest.raises(EndpointError, match=r"status 401.*0 of 5 prompts have answers"):
        run(made, cases(5))
    assert len(server.requests) == 1


def test_a_judge_of_nonsense_ends_the_run_and_its_answers_are_kept(server: FakeJudge, tmp_path: Path) -> None:
    server.decide = lambda request: (
        nonsense(request) if request.body["model"] == "judge-1" else f"{request.body['model']} {request.user}"
    )
    with pytest.raises(EndpointError, match=r"holds no verdict.*0 of 200 prompts have a verdict"):
        run(job(server, tmp_path / "j", config=JudgeConfig(max_concurrency=1)), cases(200))
    kept = read_journal(tmp_path / "j")
    assert len(kept.responses) == 2 * 20
    # What is there can be checked instead.
    checked = run(job(server, tmp_path / "j", checker=IS_FIVE, max_cost_usd=0.0), cases(20))
    assert checked.report.labelled == 20


def test_what_has_no_verdict_has_no_label_and_is_counted(server: FakeJudge, tmp_path: Path) -> None:
    def decide(request: Request) -> str:
        if request.body["model"] == "judge-1" and request.tag("prompt") == "question 0":
            return nonsense(request)
        return answer(request)

    server.decide = decide
    server.rule = lambda request: (
        Reply(status=400, body={"error": {"message": "too long"}}) if request.user == "question 5" else None
    )
    asked = run(job(server, tmp_path / "j", config=JudgeConfig(max_failure_share=0.5)), cases(9))
    report = asked.report
    assert asked.ending is Ending.FINISHED
    assert asked.labels.prompts == tuple(f"question {i}" for i in range(9) if i not in (0, 5))
    assert (report.labelled, report.unreadable, report.failed, report.unfinished) == (7, 1, 1, 0)
    assert report.answered == 8


def test_a_budget_of_nothing_asks_nobody(server: FakeJudge, tmp_path: Path) -> None:
    asked = run(job(server, tmp_path / "j", max_cost_usd=0.0), cases(3))
    assert (asked.ending, len(asked.labels), server.requests) == (Ending.COST_CAP, 0, [])
    assert (asked.report.unfinished, asked.report.committed_usd) == (3, 0.0)
    free = {"prices": ModelPrice()}
    assert run(job(server, tmp_path / "k", endpoint=free, max_cost_usd=0.0), cases(3)).report.labelled == 3
    with pytest.raises(InvalidArgumentError, match="needs the prices of"):
        run(job(server, tmp_path / "l", endpoint={"prices": None}, max_cost_usd=1.0), cases(3))


def test_without_prices_costs_are_not_known_and_with_them_later_they_are(server: FakeJudge, tmp_path: Path) -> None:
    unpriced = run(job(server, tmp_path / "j", endpoint={"prices": None}), cases(2))
    assert (unpriced.labels.costs_usd, unpriced.report.spent_usd) == (None, 0.0)
    priced = run(job(server, tmp_path / "j"), cases(2))
    assert priced.report.new_calls == 0
    assert priced.labels.costs_usd is not None
    np.testing.assert_allclose(priced.labels.costs_usd, [[BIG_USD, SMALL_USD]] * 2)


def test_a_cap_is_kept_and_a_higher_one_goes_on(server: FakeJudge, tmp_path: Path) -> None:
    made = job(
        server,
        tmp_path / "j",
        endpoint={"max_tokens": 20},
        config=JudgeConfig(max_concurrency=2),
        max_cost_usd=0.08,
    )
    asked = run(made, cases(30))
    assert asked.ending is Ending.COST_CAP
    assert 0 < asked.report.labelled < 30
    assert asked.report.labelled + asked.report.unfinished == 30
    assert asked.labels.strong.tolist() == [STRONG[int(p.rpartition(" ")[2]) % 3] for p in asked.labels.prompts]
    assert asked.report.committed_usd <= 0.08
    done = run(replace(made, max_cost_usd=1.0), cases(30))
    assert (done.ending, done.report.labelled) == (Ending.FINISHED, 30)
    assert len(server.requests) == 60 + 40


# --- interrupts


@pytest.fixture
def heeds_ctrl_c() -> Iterator[None]:
    """Take SIGINT as a program at a terminal does: in the background it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_the_first_ctrl_c_ends_the_asking_and_returns_the_labels_so_far(server: FakeJudge, tmp_path: Path) -> None:
    told: list[int] = []

    def interrupt(progress: AskProgress) -> None:
        if progress.done == 4:
            signal.raise_signal(signal.SIGINT)

    made = job(server, tmp_path / "j", config=JudgeConfig(max_concurrency=1))
    asked = run(made, cases(9), on_progress=interrupt, on_interrupt=lambda: told.append(1))
    assert (asked.ending, told) == (Ending.INTERRUPTED, [1])
    assert 4 <= asked.report.labelled < 9
    assert asked.labels.strong.tolist() == STRONG[: asked.report.labelled]
    assert asked.report.labelled + asked.report.unfinished == 9
    done = run(made, cases(9))
    assert (done.ending, done.labels.strong.tolist()) == (Ending.FINISHED, STRONG)
    assert len(server.requests) == 30


def test_ctrl_c_while_answers_are_checked_loses_nothing(server: FakeJudge, tmp_path: Path) -> None:
    def check(prompt: str, answer: str, reference: str | None) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(job(server, tmp_path / "j", checker=Checker("c", check, needs_reference=False)), cases(3))
    assert run(job(server, tmp_path / "j", checker=IS_FIVE), cases(3)).report.labelled == 3
    assert len(server.requests) == 6


PROGRAM = """
import sys
from pathlib import Path
from routellm_fast.adaptation.asking import AskJob, ask
from routellm_fast.adaptation.cases import cases_of
from routellm_fast.augmentation import EndpointSettings, Mode, Questioner, Template
from routellm_fast.decision import ModelPair
from routellm_fast.prices import ModelPrice

url, journal = sys.argv[1:]
def endpoint(name): return EndpointSettings(name, base_url=url, prices=ModelPrice(10.0, 100.0), max_tokens=20)
job = AskJob(ModelPair("big", "small"), Path(journal), endpoint("api-big"), endpoint("api-small"),
    Questioner(endpoint("judge-1"), Template.shipped(Mode.PAIRWISE)), max_cost_usd=5.0)
asked = ask(job, cases_of([f"question {i}" for i in range(30)]))
print(asked.report.labelled, asked.labels.strong.tolist())
"""


@pytest.mark.slow
def test_a_process_that_is_killed_pays_for_nothing_twice(server: FakeJudge, tmp_path: Path) -> None:
    server.otherwise = Reply(delay_s=0.01)
    program, journal = tmp_path / "program.py", tmp_path / "j"
    program.write_text(textwrap.dedent(PROGRAM))
    command = [sys.executable, str(program), server.url, str(journal)]
    for answered in (20, 60):
        process = subprocess.Popen(command)
        while process.poll() is None and len(server.requests) < answered:
            threading.Event().wait(0.005)
        process.kill()
        assert process.wait(30.0) == -signal.SIGKILL
    done = subprocess.run(command, capture_output=True, text=True, timeout=60.0, check=True)
    assert done.stdout.startswith("30 [1.0, 0.5, 0.0, 1.0,")
    needed = 60 + 40
    # Of each killed run at most eight calls were under way, which count as spent.
    assert needed <= len(server.requests) <= needed + 2 * 8
    ledger = read_journal(journal)
    assert ledger.calls == needed
    assert len(ledger.unsettled) >= len(server.requests) - needed
