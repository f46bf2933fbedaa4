from __future__ import annotations

import math
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from routellm_fast.errors import UnreachableTargetError
from routellm_fast.gateway.budget import Budget
from routellm_fast.gateway.settings import ModelSettings

STRONG = "s", ModelSettings(upstream="a", input_usd_per_1m=10.0, output_usd_per_1m=30.0)
WEAK = "w", ModelSettings(upstream="a", input_usd_per_1m=1.0, output_usd_per_1m=2.0)
HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
JUNE_S = datetime(2026, 6, 1, tzinfo=timezone.utc).timestamp()
JULY_S = datetime(2026, 7, 1, tzinfo=timezone.utc).timestamp()


class Clock:
    def __init__(self, now_s: float = JUNE_S) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def exact(strong_share: float) -> float:
    """The threshold of win rates that are spread evenly over [0, 1]."""
    return 1.0 - strong_share


def budget_of(
    state_dir: Path,
    clock: Clock,
    monthly_usd: float = 30.0,
    threshold_for: Callable[[float], float] = exact,
    router: str = "mf",
) -> Budget:
    budget = Budget(router, state_dir, clock=clock)
    budget.aim(monthly_usd, STRONG, WEAK, threshold_for)
    return budget


class Month:
    """Requests come, are decided by the budget's threshold, and cost what they cost."""

    def __init__(self, state_dir: Path, monthly_usd: float, *, seed: int = 7) -> None:
        self.state_dir, self.monthly_usd = state_dir, monthly_usd
        self.clock = Clock()
        self.random = random.Random(seed)
        self.threshold_for: Callable[[float], float] = exact
        self.win_rate: Callable[[], float] = self.random.random
        self.strong_usd, self.weak_usd = 0.01, 0.001
        self.spent_usd = 0.0
        self.spent_by_day: list[float] = []
        self.shares: list[float] = []
        self.workers = [self.worker()]

    def worker(self) -> Budget:
        return budget_of(self.state_dir, self.clock, self.monthly_usd, self.threshold_for)

    def hour(self, requests: float) -> None:
        """An hour with this many requests on average."""
        begin_s = self.clock.now_s
        count = int(requests) + (self.random.random() < requests % 1.0)
        times = sorted(self.random.random() for _ in range(count))
        for index, time in enumerate(times):
            self.clock.now_s = begin_s + time * HOUR_S
            budget = self.workers[index % len(self.workers)]
            is_strong = self.win_rate() >= budget.threshold()
            # Requests to the strong model are the longer ones, and all are of very different length.
            usd = (self.strong_usd if is_strong else self.weak_usd) * self.random.expovariate(1.0)
            budget.note("s" if is_strong else "w", usd, is_by_threshold=True)
            self.spent_usd += usd
            if index % 8 == 7:
                self.flush()
        self.clock.now_s = begin_s + HOUR_S
        self.flush()

    def flush(self) -> None:
        for worker in self.workers:
            assert worker.flush()

    def run(self, requests_at: Callable[[float], float], until_s: float = JULY_S) -> None:
        while self.clock.now_s < until_s:
            day_before = self.spent_usd
            for _ in range(24):
                self.hour(requests_at(self.clock.now_s))
            self.spent_by_day.append(self.spent_usd - day_before)
            self.shares.append(self.workers[0].strong_share)

    def close(self) -> None:
        for worker in self.workers:
            worker.close()

    @property
    def ratio(self) -> float:
        return self.spent_usd / self.monthly_usd


def constant(_: float) -> float:
    return 15.0


def day_and_night(now_s: float) -> float:
    return 15.0 * (1.0 + 0.9 * math.sin(2.0 * math.pi * (now_s % DAY_S) / DAY_S - 2.0))


def weekdays(now_s: float) -> float:
    return day_and_night(now_s) * (0.2 if datetime.fromtimestamp(now_s, timezone.utc).weekday() >= 5 else 1.3)


@pytest.fixture
def month(tmp_path: Path) -> Iterator[Month]:
    # All strong costs 108 dollars, all weak 10.8: the budget is a share of about 0.35.
    made = Month(tmp_path, 45.0)
    yield made
    made.close()


@pytest.mark.parametrize("traffic", [constant, day_and_night, weekdays])
def test_a_month_costs_the_budget_to_within_a_percent(month: Month, traffic: Callable[[float], float]) -> None:
    month.run(traffic)
    assert 0.99 <= month.ratio <= 1.005
    assert month.workers[0].spent_usd == 0.0  # July has begun
    month.clock.now_s -= 1.0
    month.flush()
    assert month.workers[0].spent_usd == pytest.approx(month.spent_usd)


def test_the_money_is_spent_evenly(month: Month) -> None:
    month.run(constant)
    for week in range(4):
        assert sum(month.spent_by_day[7 * week : 7 * week + 7]) == pytest.approx(7 * 45.0 / 30.0, rel=0.15)


def test_day_and_night_leave_the_share_alone(month: Month) -> None:
    month.run(day_and_night, JUNE_S + 8 * DAY_S)
    shares = []
    for _ in range(48):
        month.hour(day_and_night(month.clock.now_s))
        shares.append(month.workers[0].strong_share)
    assert max(shares) - min(shares) < 0.08


def test_a_doubling_in_the_middle_is_made_good(month: Month) -> None:
    month.run(lambda now_s: 15.0 if now_s < JUNE_S + 14 * DAY_S else 30.0)
    assert 0.99 <= month.ratio <= 1.005
    assert month.shares[-2] < 0.6 * month.shares[13]


def test_a_tenth_of_the_traffic_after_a_while_is_spent_on_the_strong_model(month: Month) -> None:
    month.run(lambda now_s: 15.0 if now_s < JUNE_S + 14 * DAY_S else 1.5)
    # All strong, what is left cannot be spent any more.
    assert month.ratio < 0.9
    assert month.shares[-2] == 1.0


def test_a_calibration_that_is_wrong_is_corrected(month: Month) -> None:
    # Twice as many requests as the calibration says have a high win rate.
    month.win_rate = lambda: math.sqrt(month.random.random())
    month.run(day_and_night)
    assert 0.99 <= month.ratio <= 1.005
    for week in range(1, 4):
        assert sum(month.spent_by_day[7 * week : 7 * week + 7]) == pytest.approx(7 * 45.0 / 30.0, rel=0.2)


def test_requests_of_another_length_than_prices_reckon_with(month: Month) -> None:
    month.strong_usd, month.weak_usd, month.monthly_usd = 0.3, 0.02, 1_200.0
    month.workers[0].aim(1_200.0, STRONG, WEAK, exact)
    month.run(day_and_night)
    assert 0.98 <= month.ratio <= 1.005


def test_two_workers_and_a_restart_share_a_budget(month: Month) -> None:
    month.workers.append(month.worker())
    month.run(day_and_night, JUNE_S + 10 * DAY_S)
    month.close()
    month.workers = [month.worker(), month.worker()]
    assert month.workers[1].spent_usd == pytest.approx(month.spent_usd)
    month.run(day_and_night, JUNE_S + 20 * DAY_S)
    month.workers[0].close()
    month.workers = month.workers[1:]
    month.run(day_and_night)
    assert 0.99 <= month.ratio <= 1.005


def test_a_budget_below_the_weak_model_is_overrun_and_says_so(month: Month) -> None:
    month.monthly_usd = 5.0
    month.workers[0].aim(5.0, STRONG, WEAK, exact)
    month.run(constant)
    month.clock.now_s = JULY_S - 1.0
    month.flush()
    budget = month.workers[0]
    assert budget.is_spent
    assert budget.overrun_usd == pytest.approx(month.spent_usd - 5.0)
    # A share that was guessed before anything was known, and then the weak model alone.
    assert month.spent_usd == pytest.approx(10.8, rel=0.1)
    assert month.shares[-2] == 0.0


def test_when_the_money_is_gone_the_weak_model_answers_until_the_month_ends(tmp_path: Path) -> None:
    clock = Clock(JUNE_S + 5 * DAY_S)
    budget = budget_of(tmp_path, clock, 1.0)
    for _ in range(4):
        budget.note("s", 0.2, is_by_threshold=True)
        clock.now_s += HOUR_S
        assert not budget.is_spent
    budget.note("s", 0.3, is_by_threshold=False)
    assert budget.is_spent
    assert (budget.threshold(), budget.strong_share) == (1.0, 0.0)
    assert budget.overrun_usd == pytest.approx(0.1)
    budget.note("w", 0.05, is_by_threshold=True)
    assert budget.overrun_usd == pytest.approx(0.15)
    clock.now_s = JULY_S
    assert (budget.spent_usd, budget.overrun_usd, budget.is_spent) == (0.0, 0.0, False)
    assert budget.threshold() < 1.0
    budget.close()


def test_another_workers_spending_ends_it_too(tmp_path: Path) -> None:
    clock = Clock()
    first, second = budget_of(tmp_path, clock, 1.0), budget_of(tmp_path, clock, 1.0)
    first.note("s", 2.0, is_by_threshold=True)
    assert first.flush()
    assert second.flush()
    clock.now_s += 1.0
    assert second.is_spent
    assert second.threshold() == 1.0
    first.close()
    second.close()


def test_the_share_rises_slowly(tmp_path: Path) -> None:
    clock = Clock()
    budget = budget_of(tmp_path, clock, 1.0)
    for _ in range(100):
        clock.now_s += 1.0
        budget.note("w", 0.001, is_by_threshold=True)
        budget.threshold()
    assert budget.strong_share == 0.0  # so many a minute would cost far too much
    # Then hardly anything comes, and after some days the money would be enough for the strong model alone.
    clock.now_s += 5 * DAY_S
    budget.threshold()
    for _ in range(3):
        before = budget.strong_share
        clock.now_s += HOUR_S
        assert budget.strong_share <= before + 0.1 + 1e-9
    budget.close()


def test_before_the_first_request_half_of_them_are_to_be_strong(tmp_path: Path) -> None:
    budget = budget_of(tmp_path, Clock())
    assert (budget.threshold(), budget.strong_share) == (0.5, 0.5)
    assert budget.monthly_usd == 30.0
    budget.close()


def test_a_strong_model_that_costs_no_more_gets_everything(tmp_path: Path) -> None:
    clock = Clock()
    budget = Budget("mf", tmp_path, clock=clock)
    budget.aim(5.0, ("s", WEAK[1]), ("w", STRONG[1]), exact)
    budget.note("w", 0.02, is_by_threshold=True)
    assert budget.threshold() == 0.0
    budget.close()


def test_other_models_do_not_count(tmp_path: Path) -> None:
    budget = budget_of(tmp_path, Clock())
    budget.note("another", 5.0, is_by_threshold=False)
    assert budget.spent_usd == 0.0
    budget.close()


def test_an_answer_of_unknown_cost_counts_as_one_of_the_mean(tmp_path: Path) -> None:
    budget = budget_of(tmp_path, Clock())
    budget.note("s", None, is_by_threshold=True)
    # What RouteLLM's paper reckons with, 95 and 264 tokens: 950 + 7,920 millionths.
    assert budget.spent_usd == pytest.approx(0.00887)
    for _ in range(10_000):
        budget.note("s", 0.05, is_by_threshold=True)
    before = budget.spent_usd
    budget.note("s", None, is_by_threshold=True)
    assert budget.spent_usd - before == pytest.approx(0.05, rel=0.01)
    budget.close()


def test_routers_have_budgets_of_their_own(tmp_path: Path) -> None:
    clock = Clock()
    first, second = budget_of(tmp_path, clock, router="a"), budget_of(tmp_path, clock, router="b")
    first.note("s", 1.0, is_by_threshold=True)
    first.flush()
    second.flush()
    assert (first.spent_usd, second.spent_usd) == (1.0, 0.0)
    first.close()
    second.close()


def test_a_share_that_the_calibration_cannot_reach_becomes_a_smaller_one(tmp_path: Path) -> None:
    def steps(share: float) -> float:
        if share > 0.2:
            raise UnreachableTargetError("many prompts have the same win rate")
        return 0.8

    budget = budget_of(tmp_path, Clock(), threshold_for=steps)
    assert budget.threshold() == 0.8
    budget.close()

    def never(share: float) -> float:
        raise UnreachableTargetError("all prompts have the same win rate")

    budget = budget_of(tmp_path, Clock(), threshold_for=never)
    assert budget.threshold() == 1.0
    budget.close()


def test_what_a_killed_process_spent_is_lost_by_no_more_than_a_second(tmp_path: Path) -> None:
    code = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        sys.path.insert(0, sys.argv[2])
        from tests.unit.gateway.test_budget import budget_of, Clock
        budget = budget_of(Path(sys.argv[1]), Clock())
        print("ready", flush=True)
        while True:
            budget.note("s", 1.0, is_by_threshold=True)
            print(time.monotonic(), flush=True)
            time.sleep(0.01)
    """)
    root = str(Path(__file__).parents[3])
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), root], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    lines: list[str] = []

    def on_disk() -> float:
        connection = sqlite3.connect(tmp_path / "budgets.sqlite3")
        (usd,) = connection.execute("SELECT total(usd) FROM hours").fetchone()
        connection.close()
        return usd

    # Until the thread has written more than once, however slow the machine is.
    while len(lines) < 100 or on_disk() < 20.0:
        lines.append(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.readlines()
    process.wait()
    process.stdout.close()
    noted = [line for line in lines if line.endswith("\n")]
    budget = budget_of(tmp_path, Clock())
    # Nothing is counted twice; the last line may not have been printed.
    assert 20.0 <= budget.spent_usd <= len(noted) + 1
    budget.close()


def test_nothing_is_lost_or_counted_twice_where_the_disk_fails_for_a_while(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    budget = budget_of(tmp_path, clock)
    budget.note("s", 1.0, is_by_threshold=True)
    assert budget.flush()
    other = sqlite3.connect(tmp_path / "budgets.sqlite3", isolation_level=None)
    other.execute("ALTER TABLE hours RENAME TO hidden")
    for _ in range(3):
        budget.note("w", 0.25, is_by_threshold=True)
        assert not budget.flush()
    assert budget.spent_usd == 1.75
    other.execute("ALTER TABLE hidden RENAME TO hours")
    other.close()
    assert budget.flush()
    assert budget.flush()
    assert budget.spent_usd == 1.75
    assert caplog.text.count("cannot be written") == 1
    budget.close()
    again = budget_of(tmp_path, clock)
    assert again.spent_usd == 1.75
    again.close()


def test_months_begin_in_utc_and_old_hours_leave_the_disk(tmp_path: Path) -> None:
    clock = Clock(datetime(2026, 12, 31, 23, 59, 59, tzinfo=timezone.utc).timestamp())
    budget = budget_of(tmp_path, clock)
    budget.note("s", 1.0, is_by_threshold=True)
    assert budget.spent_usd == 1.0
    clock.now_s += 1.0
    assert budget.spent_usd == 0.0
    budget.flush()
    clock.now_s += 80 * DAY_S
    budget.note("s", 1.0, is_by_threshold=True)
    budget.close()
    connection = sqlite3.connect(tmp_path / "budgets.sqlite3")
    assert connection.execute("SELECT count(*) FROM hours").fetchone() == (1,)
    connection.close()


def test_a_clock_that_is_set_back_does_no_harm(tmp_path: Path) -> None:
    clock = Clock(JUNE_S + 5 * DAY_S)
    budget = budget_of(tmp_path, clock)
    budget.note("s", 0.01, is_by_threshold=True)
    budget.threshold()
    clock.now_s -= 2 * HOUR_S
    budget.note("s", 0.01, is_by_threshold=True)
    assert 0.0 <= budget.threshold() <= 1.0
    assert budget.spent_usd == 0.02
    budget.close()
