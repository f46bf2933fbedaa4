"""Judging that is killed while calls are under way, and journals that are damaged."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from routellm_fast.augmentation import (
    Contest,
    EndpointSettings,
    JudgeConfig,
    Mode,
    Questioner,
    Template,
    judged_battles,
    read_journal,
)
from routellm_fast.augmentation.clock import SystemClock
from routellm_fast.augmentation.command import JudgeJob, run_judge
from routellm_fast.augmentation.ledger import Ledger
from routellm_fast.errors import DataError
from routellm_fast.extras import require
from routellm_fast.prices import ModelPrice
from tests.attack.harness import Attack, Campaign
from tests.attack.kills import duration_s, killed
from tests.support.fake_judge import FakeJudge, Reply, Request
from tests.support.processes import started_cli

_PRICES: Final = ModelPrice(10.0, 100.0)
_INPUT_TOKENS: Final = 300
_OUTPUT_TOKENS: Final = 30
_CALL_USD: Final = _PRICES.cost_usd(_INPUT_TOKENS, _OUTPUT_TOKENS)
_CONCURRENCY: Final = 8
_MOST_KILLS_A_JOURNAL: Final = 8
_ROUNDING_USD: Final = 1e-9
_SOON_S: Final = 120.0


class _HastyClock(SystemClock):
    """A clock by which nobody waits long before a retry."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 100.0)


@dataclass(frozen=True, slots=True)
class _Bill:
    """What a judge has billed.

    Attributes:
        calls: Number of calls.
        unanswered: Number of these at which it hung up instead of answering.
        usd: US dollars for all of them.
    """

    calls: int
    unanswered: int

    @property
    def usd(self) -> float:
        return self.calls * _CALL_USD


class _Judge:
    """A judge in a process of its own, so that the process that forks has one thread. Each call is billed at once."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self._bills = folder / "bills.jsonl"
        self._bills.touch()
        reader, writer = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            try:
                self._serve(writer, rng)
            finally:
                os._exit(1)
        os.close(writer)
        with os.fdopen(reader) as lines:
            self.url = lines.readline().strip()

    def _serve(self, writer: int, rng: random.Random) -> None:
        with FakeJudge() as judge, self._bills.open("ab", buffering=0) as bills:
            judge.input_tokens, judge.output_tokens = _INPUT_TOKENS, _OUTPUT_TOKENS

            def rule(request: Request) -> Reply:
                if rng.random() < 0.03:
                    return Reply(status=503)
                hangs_up = rng.random() < 0.02
                bills.write(json.dumps([request.tag("prompt"), hangs_up]).encode() + b"\n")
                return Reply(hang_up=hangs_up, delay_s=rng.uniform(0.0, 0.03))

            judge.rule = rule
            os.write(writer, f"{judge.url}\n".encode())
            while True:
                signal.pause()

    def close(self) -> None:
        os.kill(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)

    def bill(self, name: str) -> _Bill:
        """What was billed for the prompts that begin with a name."""
        lines = [json.loads(line) for line in self._bills.read_text().splitlines()]
        mine = [hangs_up for prompt, hangs_up in lines if prompt.startswith(f"{name} ")]
        return _Bill(len(mine), sum(mine))


@contextlib.contextmanager
def _judge(campaign: Campaign) -> Iterator[_Judge]:
    judge = _Judge(campaign.folder, random.Random(campaign.rng.random()))
    try:
        yield judge
    finally:
        judge.close()


def _job(judge: _Judge, folder: Path, name: str, count: int = 60) -> JudgeJob:
    contests = tuple(
        Contest(
            f"{name} question {i}", f"group {i}", "data", "big", "small", f"{i}: quality {i % 5}", f"{i}; quality 2"
        )
        for i in range(count)
    )
    settings = EndpointSettings("judge-1", base_url=judge.url, prices=_PRICES, max_tokens=40)
    return JudgeJob(
        contests,
        Questioner(settings, Template.shipped(Mode.PAIRWISE)),
        folder / f"{name}.jsonl.journal",
        config=JudgeConfig(max_concurrency=_CONCURRENCY, max_failure_share=1.0),
    )


def _run(job: JudgeJob) -> None:
    os.environ["SSL_CERT_DIR"] = str(job.journal.parent)  # reading the system's certificates takes long
    run_judge(job, clock=_HastyClock())


def _ledger(job: JudgeJob) -> Ledger:
    return read_journal(job.journal) if job.journal.exists() and job.journal.stat().st_size else Ledger()


@dataclass(slots=True)
class _Watch:
    """Checks one journal after each kill, and at the end."""

    judge: _Judge
    job: JudgeJob
    name: str
    kills: int = 0
    highest_cap_usd: float = 0.0

    def check(self) -> None:
        # The bill first: it may only grow while the journal is read.
        bill, ledger = self.judge.bill(self.name), _ledger(self.job)
        counted_usd = ledger.committed_usd
        assert bill.usd <= self.highest_cap_usd + _ROUNDING_USD, (
            f"${bill.usd:.4f} was billed, and the cap was ${self.highest_cap_usd:.4f}"
        )
        assert bill.usd <= counted_usd + _ROUNDING_USD, (
            f"${bill.usd:.4f} was billed, and the journal counts ${counted_usd:.4f}"
        )
        lost = bill.calls - bill.unanswered - ledger.calls
        assert lost <= _CONCURRENCY * self.kills, f"{lost} answers were lost by {self.kills} kills"

    def check_finished(self) -> int:
        """Check a journal after a run that nobody disturbed; return how many questions were asked again."""
        self.check()
        ledger, bill = _ledger(self.job), self.judge.bill(self.name)
        rows, report = judged_battles(ledger)
        assert (report.judged, report.unfinished) == (len(self.job.contests), 0), (
            f"{report.unfinished} contests have no verdict"
        )
        winners = {row.prompt: row.winner for row in rows}
        for i, contest in enumerate(self.job.contests):
            expected = "model_a" if i % 5 > 2 else "model_b" if i % 5 < 2 else "tie"
            assert winners[contest.prompt] == expected, f"{contest.prompt} was decided as {winners[contest.prompt]}"
        assert {judgement.attempts for judgement in ledger.judgements.values()} == {1}, "an answer counts twice"
        return bill.calls - bill.unanswered - 2 * len(self.job.contests)


def _kill(campaign: Campaign) -> None:
    with _judge(campaign) as judge:
        require("openai", "openai")  # here, so that no child has to load it
        duration_s(partial(_run, _job(judge, campaign.folder, "warm")))
        first = partial(_run, _job(judge, campaign.folder, "first"))
        whole_s, idle_s = duration_s(first), duration_s(first)
        journals = 0
        while campaign.tally["kills while it judged"] < campaign.count:
            journals += 1
            name = f"journal-{journals}"
            watch = _Watch(judge, _job(judge, campaign.folder, name), name)
            for _ in range(campaign.rng.randint(1, _MOST_KILLS_A_JOURNAL)):
                cap_usd = campaign.rng.uniform(0.1, 5.0)
                watch.highest_cap_usd = max(watch.highest_cap_usd, cap_usd)
                work = partial(_run, replace(watch.job, max_cost_usd=cap_usd))
                if killed(work, campaign.rng.uniform(0.8 * idle_s, 0.4 * idle_s + 0.6 * whole_s)):
                    watch.kills += 1
                    campaign.tally["kills while it judged"] += 1
                else:
                    campaign.tally["runs that ended before their kill"] += 1
                watch.check()
                if _ledger(watch.job).calls == 2 * len(watch.job.contests):
                    break
            campaign.tally["calls under way at a kill"] += len(_ledger(watch.job).unsettled)
            watch.highest_cap_usd = 1e6
            assert not killed(partial(_run, replace(watch.job, max_cost_usd=1e6)), _SOON_S), "the last run did not end"
            campaign.tally["questions asked again"] += watch.check_finished()
            campaign.tally["journals"] += 1


def _kill_command(campaign: Campaign) -> None:
    with _judge(campaign) as judge:
        for index in range(campaign.count):
            name = f"command-{index}"
            watch = _Watch(judge, _job(judge, campaign.folder, name, 20), name)
            source, out = campaign.folder / f"{name}.csv", campaign.folder / f"{name}.jsonl"
            with source.open("w", newline="") as file:
                rows = csv.writer(file)
                rows.writerow(["prompt", "prompt_group", "source", "model_a", "model_b", "response_a", "response_b"])
                for c in watch.job.contests:
                    rows.writerow([c.prompt, c.group, c.source, c.model_a, c.model_b, c.response_a, c.response_b])
            command = [
                *("augment", "judge", str(source), "--out", str(out), "--judge-model", "judge-1"),
                *("--base-url", judge.url, "--price-in", "10", "--price-out", "100", "--max-tokens", "40"),
                *("--max-failure-share", "1", "--max-cost-usd"),
            ]
            watch.highest_cap_usd = 0.4
            with started_cli(*command, "0.4") as process:
                until_s = time.monotonic() + _SOON_S
                while not judge.bill(name).calls and process.poll() is None:
                    assert time.monotonic() < until_s, "the command asks nothing"
                    time.sleep(0.005)
                time.sleep(campaign.rng.uniform(0.0, 0.3))
                process.kill()
            watch.kills = 1
            watch.check()
            campaign.tally["calls under way at a kill"] += len(_ledger(watch.job).unsettled)
            watch.highest_cap_usd = 1e6
            with started_cli(*command, "1000000") as process:
                _, errors = process.communicate(timeout=_SOON_S)
                assert process.returncode == 0, errors
            campaign.tally["questions asked again"] += watch.check_finished()


def _check_named(path: Path, error: DataError) -> None:
    assert str(path) in str(error), f"an error without the name of the journal: {error}"


def _damage(campaign: Campaign) -> None:
    with _judge(campaign) as judge:
        job = _job(judge, campaign.folder, "whole", 6)
        whole_s = duration_s(partial(_run, replace(job, journal=campaign.folder / "first.jsonl.journal")))
        # Answers and calls under way.
        while not ((ledger := _ledger(job)).unsettled and ledger.calls > 2):
            if ledger.calls == 2 * len(job.contests):
                job.journal.unlink()
            killed(partial(_run, job), campaign.rng.uniform(0.3 * whole_s, whole_s))
    content, path = job.journal.read_bytes(), campaign.folder / "damaged"
    for _ in range(campaign.count):
        damaged = bytearray(content)
        at = campaign.rng.randrange(len(content))
        if campaign.rng.random() < 0.5:
            damaged[at] ^= 1 << campaign.rng.randrange(8)
        else:
            burst = campaign.rng.randbytes(campaign.rng.randint(1, 8))[: len(content) - at]
            damaged[at : at + len(burst)] = burst
        path.write_bytes(damaged)
        try:
            found = read_journal(path)
        except DataError as error:
            _check_named(path, error)
            campaign.tally["named as damaged"] += 1
            continue
        assert found.committed_usd >= ledger.committed_usd - _ROUNDING_USD, (
            f"byte {at} of {len(content)}: ${found.committed_usd} instead of ${ledger.committed_usd} are counted"
        )
        known = {key: judgement.verdict for key, judgement in ledger.judgements.items()}
        wrong = [key for key, judgement in found.judgements.items() if judgement.verdict != known.get(key)]
        assert not wrong, f"byte {at} of {len(content)}: a verdict changed"
        campaign.tally["read as before" if damaged == content or found == ledger else "read without its end"] += 1


ATTACKS = [
    Attack(
        name="judging, under kills",
        tried=(
            "a run that judges with eight calls at once, under a cap on cost that changes from run to run, is killed "
            "at a random moment, several times for each journal; the last run is left alone."
        ),
        held=(
            "the judge never bills more than the cap, the journal never counts less than was billed, a kill makes at "
            "most eight questions be asked again, and in the end each question has one answer, and the right verdict."
        ),
        unit="kills",
        whole=320,
        brief=4,
        run=_kill,
    ),
    Attack(
        name="the command that judges, under kills",
        tried="`routellm-fast augment judge` is killed while its calls are under way, and started again.",
        held="the same as of judging under kills; and the second run ends with status 0.",
        unit="kills",
        whole=10,
        brief=1,
        run=_kill_command,
    ),
    Attack(
        name="a damaged journal",
        tried="a bit of a journal of judging is flipped, or up to eight bytes in a row are replaced, and it is read.",
        held="it is refused by name, or it counts as much money as before and holds no other verdict.",
        unit="journals",
        whole=20_000,
        brief=400,
        run=_damage,
    ),
]
