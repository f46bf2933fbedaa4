"""Answers that are asked for without a judge, and the journal that keeps them."""

from __future__ import annotations

import json
from collections.abc import Iterator
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
    Template,
    estimate,
    judged_battles,
    read_journal,
)
from routellm_fast.augmentation.command import JudgeJob, run_judge
from routellm_fast.augmentation.ledger import ANSWERS_SETTINGS
from routellm_fast.augmentation.questions import response_key
from routellm_fast.augmentation.session import ask_all
from routellm_fast.augmentation.workers import Ending
from routellm_fast.errors import DataError, EndpointError, InvalidArgumentError
from routellm_fast.prices import ModelPrice
from tests.support.fake_judge import FakeJudge, Reply

pytestmark = pytest.mark.usefixtures("no_server_settings")

PRICES = ModelPrice(10.0, 100.0)  # a call of the fake server takes 100 and 10 tokens: 0.002 dollars
CALL_USD = 0.002


@pytest.fixture
def server() -> Iterator[FakeJudge]:
    with FakeJudge() as fake:
        yield fake


def contests(count: int, **changes: Any) -> tuple[Contest, ...]:
    fields = {"response_a": None, "response_b": None, **changes}
    return tuple(Contest(f"question {i}", f"group {i}", "data", "big", "small", **fields) for i in range(count))


def settings_of(server: FakeJudge, name: str, **changes: Any) -> EndpointSettings:
    return EndpointSettings(name, **{"base_url": server.url, "prices": PRICES, "timeout_s": 5.0, **changes})


def generators(server: FakeJudge, **changes: Any) -> dict[str, EndpointSettings]:
    return {name: settings_of(server, f"api-{name}", **changes) for name in ("big", "small")}


def answer(server: FakeJudge, path: Path, count: int = 5, **changes: Any) -> Ending:
    config = changes.pop("config", JudgeConfig())
    made = changes.pop("contests", contests(count))
    with Journal(path, ANSWERS_SETTINGS) as journal:
        ending, _ = ask_all(
            made,
            journal=journal,
            questioner=None,
            generators=changes.pop("generators", generators(server)),
            config=config,
            **changes,
        )
    return ending


def questioner(server: FakeJudge, name: str = "judge-1", mode: Mode = Mode.PAIRWISE) -> Questioner:
    return Questioner(settings_of(server, name), Template.shipped(mode))


def judge(server: FakeJudge, path: Path, count: int = 5, **changes: Any) -> list[str]:
    asked = questioner(server, **changes)
    result = run_judge(JudgeJob(contests(count), asked, path, generators=generators(server)))
    return [row.winner for row in result.rows]


def asked_of(server: FakeJudge) -> list[str]:
    return [request.body["model"] for request in server.requests]


def test_answers_are_asked_for_once_and_kept_with_their_cost(server: FakeJudge, tmp_path: Path) -> None:
    assert answer(server, tmp_path / "j") is Ending.FINISHED
    assert answer(server, tmp_path / "j", 6) is Ending.FINISHED
    assert sorted(asked_of(server)) == ["api-big"] * 6 + ["api-small"] * 6
    ledger = read_journal(tmp_path / "j")
    assert (ledger.has_judge, ledger.began_with_answers, ledger.contests) == (False, True, {})
    response = ledger.responses[response_key(generators(server)["big"], "question 3")]
    assert (response.text, response.input_tokens, response.output_tokens) == ("api-big says: question 3", 100, 10)
    assert response.cost_usd == pytest.approx(CALL_USD)
    assert ledger.spent_usd == pytest.approx(12 * CALL_USD)


def test_a_judge_goes_on_with_answers_and_another_judge_after_it(server: FakeJudge, tmp_path: Path) -> None:
    path = tmp_path / "j"
    answer(server, path)
    assert len(server.requests) == 10
    assert judge(server, path) == ["tie"] * 5
    assert asked_of(server)[10:] == ["judge-1"] * 10
    assert judge(server, path) == ["tie"] * 5
    assert len(server.requests) == 20
    # Another judge begins anew, with the same answers.
    assert judge(server, path, name="judge-2", mode=Mode.SCORE) == ["tie"] * 5
    assert asked_of(server)[20:] == ["judge-2"] * 10
    rows, report = judged_battles(read_journal(path))
    assert ({row.judge for row in rows}, report.mode, report.contests) == ({"judge-2"}, "score", 5)
    assert report.calls == 30
    # And the first one is not paid again.
    assert judge(server, path) == ["tie"] * 5
    assert len(server.requests) == 30
    assert judged_battles(read_journal(path))[1].judge == "judge-1"


def test_a_journal_of_a_judge_keeps_answers_too_and_stays_that_judges(server: FakeJudge, tmp_path: Path) -> None:
    path = tmp_path / "j"
    judge(server, path, 3)
    asked = len(server.requests)
    answer(server, path, 5)
    assert sorted(asked_of(server)[asked:]) == ["api-big"] * 2 + ["api-small"] * 2
    with pytest.raises(DataError, match="cannot be mixed"):
        judge(server, path, name="judge-2")
    assert judge(server, path, 5) == ["tie"] * 5


def test_answers_alone_are_no_battles(server: FakeJudge, tmp_path: Path) -> None:
    answer(server, tmp_path / "j")
    with pytest.raises(DataError, match="no judge was asked about them yet"):
        judged_battles(read_journal(tmp_path / "j"))


@pytest.mark.parametrize(
    ("record", "match"),
    [
        ({"record": "judgement", "key": "k", "verdict": "first"}, "a judgement, and no judge is asked"),
        ({"record": "contest", "id": "i"}, "a contest, and no judge is asked"),
        ({"record": "judge", "mode": "answers", "judge": "j"}, "not a valid Mode"),
        ({"record": "judge", "mode": "score"}, "KeyError.*judge"),
        ({"record": "judge", "mode": "score", "judge": 3}, "a judge has a name"),
    ],
)
def test_records_that_have_no_place_are_damage(tmp_path: Path, record: dict[str, Any], match: str) -> None:
    from routellm_fast.augmentation.journal_lines import line_of

    with Journal(tmp_path / "j", ANSWERS_SETTINGS):
        pass
    with (tmp_path / "j").open("ab") as file:
        file.write(line_of(record))
    with pytest.raises(DataError, match=f"line 2: damaged.*{match}"):
        read_journal(tmp_path / "j")


def test_a_judge_cannot_follow_another_that_began_the_journal(tmp_path: Path) -> None:
    from routellm_fast.augmentation.journal_lines import line_of

    with Journal(tmp_path / "j", {"mode": "pairwise", "judge": "one"}):
        pass
    with (tmp_path / "j").open("ab") as file:
        file.write(line_of({"record": "judge", "mode": "pairwise", "judge": "two"}))
    with pytest.raises(DataError, match="line 2: damaged.*another judge's"):
        read_journal(tmp_path / "j")


def test_a_journal_of_format_2_is_gone_on_with(server: FakeJudge, tmp_path: Path) -> None:
    """Its lines have checksums; of format 3 are answers without a judge, and judges one after another."""
    from routellm_fast.augmentation.journal_lines import line_of

    path = tmp_path / "j"
    judge(server, path, 2)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records[0]["format_version"] = 2
    path.write_bytes(b"".join(line_of({k: v for k, v in r.items() if k != "crc"}) for r in records))
    old = path.read_bytes()
    assert judge(server, path, 2) == ["tie"] * 2
    assert len(server.requests) == 8
    added = json.loads(path.read_bytes().removeprefix(old))
    assert (added["record"], added["format_version"]) == ("format", 3)


def test_a_model_that_fails_half_way_stops_the_run_and_the_next_goes_on(server: FakeJudge, tmp_path: Path) -> None:
    server.script.extend([Reply()] * 60)
    server.otherwise = Reply(status=500)
    asked = generators(server, max_retries=0)
    with pytest.raises(EndpointError, match=r"prompts were left without an answer, more than.*status 500.*is in .*j$"):
        answer(server, tmp_path / "j", 60, generators=asked)
    kept = len(read_journal(tmp_path / "j").responses)
    assert kept == 60
    before = len(server.requests)
    server.otherwise = Reply()
    assert answer(server, tmp_path / "j", 60) is Ending.FINISHED
    assert len(server.requests) - before == 120 - kept


def test_a_cap_holds_and_a_higher_one_goes_on(server: FakeJudge, tmp_path: Path) -> None:
    asked = generators(server, max_tokens=20)
    capped = {"generators": asked, "config": JudgeConfig(max_concurrency=1)}
    assert answer(server, tmp_path / "j", max_cost_usd=0.0, **capped) is Ending.COST_CAP
    assert server.requests == []
    assert answer(server, tmp_path / "j", max_cost_usd=3.5 * CALL_USD, **capped) is Ending.COST_CAP
    sent = len(server.requests)
    assert 0 < sent <= 3
    assert answer(server, tmp_path / "j", max_cost_usd=1.0, **capped) is Ending.FINISHED
    assert len(server.requests) == 10


def test_an_answer_that_nobody_gives_is_refused(server: FakeJudge, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="a response of 'small' is missing"):
        answer(server, tmp_path / "j", generators={"big": generators(server)["big"]})
    there = contests(2, response_a="one", response_b="two")
    assert answer(server, tmp_path / "j", contests=there, generators={}) is Ending.FINISHED


def test_an_estimate_without_a_judge(server: FakeJudge, tmp_path: Path) -> None:
    asked = generators(server)
    before = estimate(contests(4), questioner=None, generators=asked)
    assert (before.contests, before.responses, before.judgements) == (4, 8, 0)
    answer(server, tmp_path / "j", 3)
    after = estimate(contests(4), questioner=None, generators=asked, ledger=read_journal(tmp_path / "j"))
    assert (after.responses, after.on_record) == (2, 6)
