"""Every dollar that may have been billed is in the journal before it can be, whatever becomes of the call."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from routellm_fast.augmentation import (
    Budget,
    Contest,
    EndpointSettings,
    Journal,
    JudgeConfig,
    Mode,
    Questioner,
    Stop,
    Template,
    journal_lines,
    judged_battles,
    read_journal,
)
from routellm_fast.augmentation.budget import CostCapReachedError
from routellm_fast.augmentation.clock import StoppedError, SystemClock
from routellm_fast.augmentation.command import JudgeJob, JudgeResult, run_judge
from routellm_fast.augmentation.journal_lines import line_of, record_of
from routellm_fast.augmentation.judge import Ending
from routellm_fast.cli import main
from routellm_fast.errors import DataError, EndpointError
from routellm_fast.prices import ModelPrice
from tests.attack.kills import killed
from tests.support.fake_judge import FakeJudge, Reply, Request
from tests.support.processes import started_cli

pytestmark = pytest.mark.usefixtures("no_server_settings")

PRICES = ModelPrice(10.0, 100.0)  # a call of the fake judge takes 100 and 10 tokens: 0.002 dollars
CALL_USD = 0.002
SETTINGS = {"mode": "pairwise", "judge": "j", "temperature": 0.0, "template": "t", "orders": "both"}


class Hasty(SystemClock):
    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


@pytest.fixture
def server() -> Iterator[FakeJudge]:
    with FakeJudge() as fake:
        yield fake


def contest(index: int, **changes: Any) -> Contest:
    texts = (f"{index}: quality 5", f"{index}; quality 1")
    return replace(Contest(f"question {index}", f"group {index}", "data", "big", "small", *texts), **changes)


def job(server: FakeJudge, journal: Path, count: int = 4, **changes: Any) -> JudgeJob:
    endpoint = {"base_url": server.url, "prices": PRICES, "timeout_s": 5.0, **changes.pop("endpoint", {})}
    questioner = Questioner(EndpointSettings("judge-1", **endpoint), Template.shipped(Mode.PAIRWISE))
    return JudgeJob(tuple(contest(i) for i in range(count)), questioner, journal, **changes)


def run(made: JudgeJob, clock: SystemClock | None = None) -> JudgeResult:
    return run_judge(made, clock=clock or Hasty())


def records(path: Path, kind: str) -> list[dict[str, Any]]:
    return [r for r in map(json.loads, path.read_text().splitlines()) if r["record"] == kind]


def append(path: Path, *added: dict[str, Any]) -> None:
    with path.open("ab") as file:
        for record in added:
            file.write(line_of(record))


# --- reservations


def test_what_a_request_can_cost_is_on_the_disk_before_it_is_sent(
    server: FakeJudge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "j"
    synced: list[int] = [0]
    fsync = os.fsync

    def counting(descriptor: int) -> None:
        reserved = len(records(path, "reservation")) if path.stat().st_size else 0
        fsync(descriptor)
        synced.append(reserved)

    monkeypatch.setattr(os, "fsync", counting)
    late: list[str] = []

    def rule(request: Request) -> None:
        if max(synced) < len(server.requests):
            late.append(request.user)

    server.rule = rule
    run(job(server, path, 8))
    assert not late
    reserved = records(path, "reservation")
    assert [r["number"] for r in reserved] == list(range(1, 17))
    assert {r["model"] for r in reserved} == {"judge-1"}
    assert min(r["usd"] for r in reserved) > CALL_USD


def test_reservations_that_go_out_together_are_synced_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs: list[int] = []
    with Journal(tmp_path / "j", SETTINGS) as journal:
        budget, stop, fsync = Budget(journal), Stop(), os.fsync

        def counting(descriptor: int) -> None:
            syncs.append(journal.ledger.last_reservation)
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", counting)

        async def reserve_all() -> list[int]:
            return await asyncio.gather(*(budget.reserve(0.1, "m", stop) for _ in range(12)))

        assert asyncio.run(reserve_all()) == list(range(1, 13))
        assert syncs == [12]
        assert journal.ledger.unsettled_usd == pytest.approx(1.2)


def test_what_costs_nothing_waits_for_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(tmp_path / "j", SETTINGS) as journal:
        monkeypatch.setattr(os, "fsync", lambda descriptor: pytest.fail("synced"))
        assert asyncio.run(Budget(journal).reserve(0.0, "m", Stop())) == 1
        monkeypatch.undo()


def test_a_disk_that_fails_to_sync_sends_nothing(
    server: FakeJudge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = job(server, tmp_path / "j")
    run(replace(made, contests=made.contests[:1]))
    asked = len(server.requests)

    def failing(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(DataError, match="cannot be written .Input/output error"):
        run(made)
    monkeypatch.undo()
    assert len(server.requests) == asked
    assert run(made).report.judged == 4
    assert read_journal(tmp_path / "j").unsettled == {}


def test_a_disk_that_fails_at_the_end_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(DataError, match="Input/output error"), Journal(tmp_path / "j", SETTINGS):
        monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(ZeroDivisionError), Journal(tmp_path / "j", SETTINGS):
        _ = 1 / 0


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(status=500), "release"),
        (Reply(status=429), "release"),
        (Reply(status=400), "release"),
        (Reply(hang_up=True), "loss"),
        (Reply(delay_s=0.6), "loss"),
        (Reply(body=b"<html>"), "loss"),
    ],
)
def test_every_ending_of_an_attempt_settles_its_reservation(
    server: FakeJudge, tmp_path: Path, reply: Reply, kind: str
) -> None:
    server.script.append(reply)
    result = run(job(server, tmp_path / "j", endpoint={"timeout_s": 0.3}, config=JudgeConfig(max_failure_share=1.0)))
    ledger = read_journal(tmp_path / "j")
    assert (ledger.unsettled, result.report.unsettled_calls) == ({}, 0)
    settled = [*records(tmp_path / "j", "judgement"), *records(tmp_path / "j", kind)]
    assert sorted(r["reservation"] for r in settled) == list(range(1, ledger.last_reservation + 1))
    assert (ledger.lost_usd > 0.0) == (kind == "loss")
    lost = {r["number"]: r["usd"] for r in records(tmp_path / "j", "reservation")}
    assert all(r["usd"] == lost[r["reservation"]] for r in records(tmp_path / "j", "loss"))


def test_a_server_that_is_not_there_costs_nothing(tmp_path: Path) -> None:
    with FakeJudge() as gone:
        pass
    with pytest.raises(EndpointError, match="cannot be reached"):
        run(job(gone, tmp_path / "j", endpoint={"max_retries": 1}))
    ledger = read_journal(tmp_path / "j")
    assert ledger.last_reservation > 0
    assert ledger.committed_usd == 0.0


def test_a_call_that_is_abandoned_is_settled(server: FakeJudge, tmp_path: Path) -> None:
    held = threading.Event()
    server.otherwise = Reply(held=held)
    rows = tmp_path / "r.jsonl"
    rows.write_text(
        "".join(
            json.dumps({"prompt": f"p{i}", "model_a": "a", "model_b": "b", "response_a": "1", "response_b": "2"}) + "\n"
            for i in range(3)
        )
    )
    arguments = ["augment", "judge", str(rows), "--out", str(tmp_path / "b.csv"), "--judge-model", "j"]
    with started_cli(*arguments, "--base-url", server.url, "--price-in", "10", "--price-out", "100") as process:
        until_s = time.monotonic() + 60.0
        while server.busy < 3:
            assert time.monotonic() < until_s
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    held.set()
    assert process.returncode == 130, errors
    ledger = read_journal(tmp_path / "b.csv.journal")
    assert ledger.unsettled == {}
    assert ledger.lost_usd == pytest.approx(sum(r["usd"] for r in records(tmp_path / "b.csv.journal", "reservation")))


def test_whoever_is_asked_to_stop_while_a_reservation_is_synced_sends_nothing(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", SETTINGS) as journal:
        budget, stop = Budget(journal, 1.0), Stop()

        async def stopped() -> None:
            waiting = asyncio.ensure_future(budget.reserve(0.5, "m", stop))
            await asyncio.sleep(0)
            assert journal.ledger.unsettled == {1: 0.5}
            stop.ask()
            with pytest.raises(StoppedError):
                await waiting

        asyncio.run(stopped())
        assert (journal.ledger.unsettled, journal.ledger.committed_usd) == ({}, 0.0)


def test_the_most_that_a_call_can_cost_goes_by_the_prices_of_its_model(server: FakeJudge, tmp_path: Path) -> None:
    generators = {
        name: EndpointSettings(f"api-{name}", base_url=server.url, prices=ModelPrice(price, price), max_tokens=1000)
        for name, price in (("big", 1.0), ("small", 1000.0))
    }
    made = job(server, tmp_path / "j", generators=generators, max_cost_usd=100.0)
    run(replace(made, contests=(contest(0, response_a=None, response_b=None),)))
    usd = {r["model"]: r["usd"] for r in records(tmp_path / "j", "reservation")}
    assert usd["api-small"] == pytest.approx(1000.0 * usd["api-big"])
    assert usd["api-small"] > usd["judge-1"] > usd["api-big"] > 0.0
    assert read_journal(tmp_path / "j").unsettled == {}


def test_one_cap_holds_for_all_models_and_a_cheap_call_may_fit_where_a_dear_one_does_not(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", SETTINGS) as journal:
        budget, stop = Budget(journal, 1.0), Stop()

        async def spend() -> None:
            dear = await budget.reserve(0.9, "dear", stop)
            waiting = asyncio.ensure_future(budget.reserve(0.5, "dear", stop))
            cheap = await budget.reserve(0.1, "cheap", stop)
            await asyncio.sleep(0.01)
            assert not waiting.done()
            budget.lose(cheap, 0.1, "lost")
            budget.release(dear, "refused")
            assert await waiting == 3
            budget.lose(3, 0.5, "lost")
            with pytest.raises(CostCapReachedError):
                await budget.reserve(0.41, "dear", stop)
            assert await budget.reserve(0.4, "cheap", stop) == 4

        asyncio.run(spend())
        assert journal.ledger.committed_usd == pytest.approx(1.0)


# --- what a kill leaves behind


def left_by_a_kill(server: FakeJudge, path: Path, usd: float = 0.05) -> JudgeJob:
    """A journal with two answers, and a call that was under way when its run was killed."""
    made = job(server, path, 6, endpoint={"max_tokens": 20})
    run(replace(made, contests=made.contests[:1]))
    append(path, {"record": "reservation", "number": 3, "usd": usd, "model": "judge-1", "time_s": 0.0})
    return made


def test_what_a_killed_run_reserved_counts_as_spent_in_all_later_ones(server: FakeJudge, tmp_path: Path) -> None:
    made = left_by_a_kill(server, tmp_path / "j")
    asked = len(server.requests)
    result = run(replace(made, max_cost_usd=0.06))
    assert (result.ending, len(server.requests)) == (Ending.COST_CAP, asked)
    assert (result.report.unsettled_calls, result.report.unsettled_usd) == (1, 0.05)
    assert result.report.committed_usd == pytest.approx(2 * CALL_USD + 0.05)
    # Lower than what is spent, then enough.
    assert run(replace(made, max_cost_usd=0.001)).ending is Ending.COST_CAP
    assert len(server.requests) == asked
    done = run(replace(made, max_cost_usd=0.2))
    assert (done.ending, done.report.judged, done.report.unsettled_calls) == (Ending.FINISHED, 6, 1)
    assert done.report.committed_usd == pytest.approx(12 * CALL_USD + 0.05)
    assert read_journal(tmp_path / "j").unsettled == {3: 0.05}


def test_the_next_run_says_in_words_and_money_what_a_kill_left(
    server: FakeJudge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, out = tmp_path / "r.jsonl", tmp_path / "b.csv"
    row = {"prompt": "p", "model_a": "a", "model_b": "b", "response_a": "quality 5", "response_b": "quality 1"}
    rows.write_text(json.dumps(row) + "\n")
    arguments = ["augment", "judge", str(rows), "--out", str(out), "--judge-model", "judge-1", "--base-url", server.url]
    arguments += ["--price-in", "10", "--price-out", "100", "--report", str(tmp_path / "r.json"), "--max-cost-usd"]
    assert main([*arguments, "1"]) == 0
    assert "  cost: $0.0040\n" in capsys.readouterr().out
    append(tmp_path / "b.csv.journal", {"record": "reservation", "number": 3, "usd": 0.125, "model": "judge-1"})
    assert main([*arguments, "1"]) == 0
    said = capsys.readouterr().out
    assert "calls under way when a run broke off, which may have been billed: 1\n" in said
    assert "cost: $0.0040, and at most $0.1250 for calls under way when a run broke off\n" in said
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["unsettled_calls"], report["unsettled_usd"]) == (1, 0.125)
    assert main([*arguments, "0.13", "--dry-run"]) == 0
    assert "cap: $0.1300, of which is spent: $0.0040, and at most $0.1250 for calls" in capsys.readouterr().out
    rows.write_text(json.dumps(row) + "\n" + json.dumps({**row, "prompt": "q"}) + "\n")
    assert main([*arguments, "0.1"]) == 0
    said = capsys.readouterr().err
    assert "stopped at the cost cap of $0.1000: spent are $0.0040, and at most $0.1250 for calls under" in said
    assert "$0.0000 are left" in said


def test_a_torn_reservation_was_never_sent_and_a_torn_answer_leaves_its_reservation(
    server: FakeJudge, tmp_path: Path
) -> None:
    path = tmp_path / "j"
    run(job(server, path, 1))
    content = path.read_bytes()
    line = line_of({"record": "reservation", "number": 3, "usd": 7.0, "model": "judge-1"})
    for length in range(1, len(line) - 1):
        path.write_bytes(content + line[:length])
        assert read_journal(path).unsettled == {}
    path.write_bytes(content + line[:-1])
    assert read_journal(path).unsettled == {3: 7.0}
    start = content.rstrip().rindex(b"\n") + 1
    for length in range(start, len(content) - 1):
        path.write_bytes(content[:length])
        assert read_journal(path).unsettled.keys() == {2}


def test_a_record_without_its_reservation_counts_what_it_cost(server: FakeJudge, tmp_path: Path) -> None:
    """Somebody cut out a damaged line, as the error says."""
    path = tmp_path / "j"
    made = job(server, path, 1)
    whole = run(made)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for line in lines if b'"reservation", "number": 1,' not in line))
    assert run(made) == whole
    path.write_bytes(b"".join(line for line in lines if b'"verdict"' not in line))
    assert read_journal(path).unsettled.keys() == {1, 2}


# --- what servers count


@pytest.mark.parametrize(
    "usage",
    [
        '{"prompt_tokens": NaN, "completion_tokens": NaN}',
        '{"prompt_tokens": -5, "completion_tokens": -1}',
        '{"prompt_tokens": 1000000000000000000, "completion_tokens": 1000000000000000000}',
        '{"prompt_tokens": 1e999, "completion_tokens": Infinity}',
        '{"prompt_tokens": true, "completion_tokens": "7"}',
        '{"prompt_tokens": 3.5}',
        "[]",
    ],
)
def test_a_count_that_cannot_be_is_none_and_the_most_is_counted(server: FakeJudge, tmp_path: Path, usage: str) -> None:
    message = '{"message": {"role": "assistant", "content": "VERDICT: A"}, "finish_reason": "stop"}'
    server.otherwise = Reply(body=f'{{"choices": [{message}], "usage": {usage}}}'.encode())
    report = run(job(server, tmp_path / "j", 1, max_cost_usd=1.0)).report
    reserved = sum(r["usd"] for r in records(tmp_path / "j", "reservation"))
    assert report.unmetered_calls == 2
    assert 0.5 * reserved < report.spent_usd <= reserved


def test_a_server_that_counts_more_than_it_was_asked_for_breaks_a_cap_once_and_by_name(
    server: FakeJudge, tmp_path: Path
) -> None:
    server.output_tokens = 5_000
    made = job(server, tmp_path / "j", config=JudgeConfig(max_concurrency=1), max_cost_usd=100.0)
    with pytest.raises(
        EndpointError, match="counts 5,100 tokens for a call that can take .* no cap on cost can be kept"
    ):
        run(made)
    assert len(server.requests) == 1
    ledger = read_journal(tmp_path / "j")
    assert (ledger.calls, ledger.output_tokens, ledger.spent_usd) == (1, 5_000, pytest.approx(0.501))
    result = run(replace(made, max_cost_usd=None))
    assert result.report.judged == 4
    assert [note for note in result.departures if "counts 5,100 tokens" in note]


def test_counting_more_does_not_hold_all_further_calls_back(server: FakeJudge, tmp_path: Path) -> None:
    server.input_tokens = 900_000_000
    began_s = time.monotonic()
    run(job(server, tmp_path / "j", 1, endpoint={"tokens_per_min": 1e6}))
    assert time.monotonic() - began_s < 30.0


def test_a_clock_that_goes_back_changes_nothing(server: FakeJudge, tmp_path: Path) -> None:
    class Falling(Hasty):
        now_s = 2e9

        def time(self) -> float:
            self.now_s -= 1e6
            return self.now_s

    result = run(job(server, tmp_path / "j"), Falling())
    assert (result.report.judged, run(job(server, tmp_path / "j")).rows) == (4, result.rows)


# --- what judges write


def test_the_last_line_of_an_answer_that_was_cut_off_is_no_verdict(server: FakeJudge, tmp_path: Path) -> None:
    server.script.append(Reply(text="The response ends with\nVERDICT: B", finish_reason="length"))
    result = run(job(server, tmp_path / "j", 1, config=JudgeConfig(max_concurrency=1)))
    assert [row.winner for row in result.rows] == ["model_a"]
    assert [r["verdict"] for r in records(tmp_path / "j", "judgement")] == [None, "first", "second"]


def test_what_a_server_does_otherwise_is_told_when_no_verdict_comes_of_it(server: FakeJudge, tmp_path: Path) -> None:
    words = {"error": {"message": "temperature is not supported with this model"}}
    server.rule = lambda request: Reply(400, words) if "temperature" in request.body else Reply(text="I cannot say.")
    with pytest.raises(EndpointError, match=r"holds no verdict.*Note: judge-1 takes no temperature of 0: it answers"):
        run(job(server, tmp_path / "j"))


# --- journals that something else touches


@pytest.mark.parametrize(
    ("touch", "words"),
    [
        (lambda path: os.truncate(path, path.stat().st_size // 2), "bytes instead of the"),
        (lambda path: path.write_bytes(path.read_bytes() + b"mine\n"), "bytes instead of the"),
        (lambda path: path.unlink(), "was moved, replaced or removed"),
        (lambda path: path.rename(path.with_name("moved")), "was moved, replaced or removed"),
        (lambda path: _copy_of(path).replace(path), "was moved, replaced or removed"),
    ],
)
def test_a_journal_that_changes_under_the_run_ends_it(
    server: FakeJudge, tmp_path: Path, touch: Callable[[Path], object], words: str
) -> None:
    path = tmp_path / "j"

    def rule(request: Request) -> None:
        if len(server.requests) == 3:
            touch(path)

    server.rule = rule
    with pytest.raises(DataError, match=f"{words}.*run the same command again"):
        run(job(server, path, config=JudgeConfig(max_concurrency=1)))
    assert len(server.requests) == 3


def _copy_of(path: Path) -> Path:
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    return copy


def test_a_folder_that_the_program_leaves_is_no_change(
    server: FakeJudge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    server.rule = lambda request: os.chdir("/")
    assert run(job(server, Path("j"))).report.judged == 4


def test_what_is_no_file_is_no_journal(server: FakeJudge, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null"), Path("/dev/full"), tmp_path):
        for attempt in (read_journal, lambda path: run(job(server, path))):
            with pytest.raises(DataError, match=f"{path} cannot be used as a journal: it is no regular file"):
                attempt(path)


def test_a_journal_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(path: Path, *arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "open", refusing)
    with pytest.raises(DataError, match="j cannot be used as a journal .Read-only file system"):
        Journal(tmp_path / "j", SETTINGS)


def test_a_journal_that_outgrows_its_disk_ends_the_command_and_the_next_one_goes_on(
    server: FakeJudge, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows, out = tmp_path / "r.jsonl", tmp_path / "b.csv"
    texts = {"model_a": "a", "model_b": "b", "response_a": "quality 5", "response_b": "quality 1"}
    rows.write_text("".join(json.dumps({"prompt": f"p{i}", **texts}) + "\n" for i in range(20)))
    arguments = ["augment", "judge", str(rows), "--out", str(out), "--judge-model", "judge-1", "--base-url", server.url]
    arguments += ["--price-in", "10", "--price-out", "100", "--max-cost-usd", "9"]

    def limited() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000))
        os._exit(main(arguments) + 40)

    with pytest.raises(AssertionError):  # the work leaves by a status of its own
        killed(limited, 60.0)
    said = capfd.readouterr().err
    assert re.search(
        r"^routellm-fast: \S+ cannot be written \(File too large\).*run the same command again$", said, re.M
    )
    assert "Traceback" not in said
    journal = tmp_path / "b.csv.journal"
    ledger = read_journal(journal)
    assert 0 < ledger.calls < 40
    assert ledger.committed_usd >= CALL_USD * len(server.requests) - 1e-9
    assert journal.stat().st_size <= 8_000
    asked = len(server.requests)
    assert main(arguments) == 0
    assert read_journal(journal).calls == 40
    assert len(server.requests) == asked + 40 - ledger.calls


def test_two_commands_do_not_share_a_journal(
    server: FakeJudge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = threading.Event()
    server.script.append(Reply(held=held))
    rows = tmp_path / "r.jsonl"
    row = {"prompt": "p", "model_a": "a", "model_b": "b", "response_a": "quality 5", "response_b": "quality 1"}
    rows.write_text(json.dumps(row) + "\n")
    arguments = ["augment", "judge", str(rows), "--out", str(tmp_path / "b.csv"), "--judge-model", "judge-1"]
    arguments += ["--base-url", server.url, "--max-concurrency", "1"]
    with started_cli(*arguments) as process:
        until_s = time.monotonic() + 60.0
        while not server.busy:
            assert time.monotonic() < until_s
            time.sleep(0.01)
        assert main(arguments) == 2
        assert "b.csv.journal is in use by another process" in capsys.readouterr().err
        held.set()
        assert process.wait(60) == 0
    assert len(server.requests) == 2


# --- lines


def test_a_line_is_what_was_written_or_named() -> None:
    record = {"record": "failure", "key": 'k, "crc": "00000000"}', "reason": "\u00e9\ud800\x00"}
    line = line_of(record)
    assert line.isascii()
    assert record_of(line[:-1], needs_checksum=True) == record
    for at in range(len(line) - 1):
        for bit in range(8):
            damaged = bytearray(line[:-1])
            damaged[at] ^= 1 << bit
            with pytest.raises(ValueError):
                record_of(bytes(damaged), needs_checksum=True)
    with pytest.raises(ValueError, match="key 'usd' twice"):
        record_of(b'{"record": "loss", "usd": 5.0, "usd": 0.0}', needs_checksum=False)


def test_lines_without_end_are_neither_written_nor_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("journal", "journal_lines"):
        monkeypatch.setattr(f"routellm_fast.augmentation.{module}.MAX_LINE_BYTES", 1_000)
    assert journal_lines.MAX_LINE_BYTES == 1_000
    with Journal(tmp_path / "j", SETTINGS) as journal:
        with pytest.raises(DataError, match="j cannot hold a record of 1,0.. bytes.*leave out the row"):
            journal.append({"record": "failure", "key": "k", "reason": "r" * 1_000})
        journal.append({"record": "failure", "key": "k", "reason": "r"})
    content = (tmp_path / "j").read_bytes()
    for end in (b"", b"\n"):
        (tmp_path / "j").write_bytes(content + b"x" * 1_000_000 + end)
        with pytest.raises(DataError, match="line 3: damaged.*longer than 1,000 bytes"):
            read_journal(tmp_path / "j")


def test_zeros_in_place_of_what_did_not_reach_the_disk(server: FakeJudge, tmp_path: Path) -> None:
    path = tmp_path / "j"
    made = job(server, path, 1)
    whole, content = run(made), path.read_bytes()
    path.write_bytes(content + b"\0" * 4096)
    assert (read_journal(path).calls, run(made).rows) == (2, whole.rows)
    assert path.read_bytes() == content
    path.write_bytes(content[:-20].replace(b"question", b"quest\0on"))
    with pytest.raises(DataError, match=r"line \d+: damaged.*checksum"):
        read_journal(path)


def test_an_end_that_was_damaged_is_not_taken_for_one_that_was_torn(server: FakeJudge, tmp_path: Path) -> None:
    path = tmp_path / "j"
    run(job(server, path, 1))
    line = line_of({"record": "reservation", "number": 3, "usd": 7.0, "model": "judge-1"})
    append(path, {"record": "reservation", "number": 3, "usd": 7.0, "model": "judge-1"})
    content = path.read_bytes()
    for end in (b"\x0b", b"x", b"}", b'"}x', b"00000000000", b'00000000"}x', b"\xff", b"deadbeef}\x00\x01"):
        path.write_bytes(content[: len(content) - len(end)] + end)
        with pytest.raises(DataError, match="damaged"):
            read_journal(path)
    assert content.endswith(line)


def test_a_reservation_that_comes_twice_is_damage(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", SETTINGS) as journal:
        asyncio.run(Budget(journal).reserve(0.5, "m", Stop()))
    append(tmp_path / "j", {"record": "reservation", "number": 1, "usd": 0.5, "model": "m"})
    with pytest.raises(DataError, match="line 3: damaged.*reservation 1 does not follow number 1"):
        read_journal(tmp_path / "j")


# --- journals of format 1


def old_journal(server: FakeJudge, path: Path) -> JudgeResult:
    """Write a journal as versions of the package before format 2 did."""
    result = run(job(server, path))
    lines = []
    for record in map(json.loads, path.read_text().splitlines()):
        if record["record"] == "reservation":
            continue
        if record["record"] == "settings":
            record["format_version"] = 1
        lines.append(json.dumps({key: value for key, value in record.items() if key not in ("crc", "reservation")}))
    path.write_text("\n".join(lines) + "\n")
    return result


def test_a_journal_of_format_1_is_read_and_gone_on_with(server: FakeJudge, tmp_path: Path) -> None:
    path = tmp_path / "j"
    before = old_journal(server, path)
    old = path.read_bytes()
    rows, report = judged_battles(read_journal(path))
    assert (tuple(rows), report) == (before.rows, before.report)
    result = run(job(server, path, 6, max_cost_usd=1.0))
    assert (result.report.judged, result.report.calls) == (6, 12)
    assert len(server.requests) == 12
    new = path.read_bytes()
    assert new.startswith(old)
    added = [json.loads(line) for line in new[len(old) :].splitlines()]
    assert added[0] == {"record": "format", "format_version": 3, "crc": added[0]["crc"]}
    assert run(job(server, path, 6)).rows == result.rows
    # From there on a line needs its checksum.
    path.write_bytes(new + b'{"record": "release"}\n')
    with pytest.raises(DataError, match="damaged.*no checksum"):
        read_journal(path)


def test_a_journal_whose_questions_had_another_form_is_named_and_still_makes_battles(
    server: FakeJudge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "j"
    before = old_journal(server, path)
    settings, _, rest = path.read_text().partition("\n")
    path.write_text(json.dumps({**json.loads(settings), "template": "5e3c"}) + "\n" + rest)
    content = path.read_bytes()
    with pytest.raises(DataError, match="begun by an earlier version.*give another --journal; `augment judge --from-j"):
        run(job(server, path))
    assert path.read_bytes() == content
    assert main(["augment", "judge", "--from-journal", str(path), "--out", str(tmp_path / "b.csv")]) == 0
    assert f"{len(before.rows)} battles" in capsys.readouterr().out


def test_a_torn_end_of_format_1_is_cut_off(server: FakeJudge, tmp_path: Path) -> None:
    path = tmp_path / "j"
    old_journal(server, path)
    path.write_bytes(path.read_bytes()[:-1])
    assert read_journal(path).calls == 7
    result = run(job(server, path))
    assert (result.repaired_bytes > 100, result.report.judged, result.report.calls) == (True, 4, 8)
