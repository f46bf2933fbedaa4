"""Keeps what a router's two models cost within a budget for each calendar month, by moving the router's threshold.

At any moment the plan is to spend evenly what is left of the month's money over the requests that are left of it. With
R requests an hour, T hours left, and mean costs c_s and c_w of a request, a strong share s spends what is left, L, if
R T (s c_s + (1 - s) c_w) = L. R and the costs are means over the last week, so that nights and weekends do not count as
a change of traffic. The router's calibration turns the share into a threshold. Where other traffic than the
calibration's makes the threshold send a larger or smaller share to the strong model than was meant, the share that is
asked for is corrected by the ratio of the two over the last week.

The plan is made anew every second with what was spent until then, so that every error of it is made good by what
follows. What remains is said in the class.
"""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Final, NamedTuple

from routellm_fast.decision import DEFAULT_STRONG_SHARE
from routellm_fast.errors import UnreachableTargetError
from routellm_fast.gateway.settings import ModelSettings
from routellm_fast.gateway.state_file import StateFile, transaction
from routellm_fast.prices import PAPER_TOKENS

_HOUR_S: Final = 3600.0
# Rates and means are of so many hours, this one included: a week holds as many of each hour and day.
_WINDOW_H: Final = 168
_KEPT_H: Final = 24 * 70
_LEAST_ELAPSED_S: Final = 60.0
_PLAN_EVERY_S: Final = 1.0
# The share rises by no more, so that money left over is not thrown out at the end of a month, nor at the start of one.
# It falls at once.
_RISE_PER_H: Final = 0.1
# So many requests at the cost that prices say, and with the share that was meant, are reckoned in with the real ones.
_PRIOR_REQUESTS: Final = 20.0
_PRIOR_SHARED: Final = 200.0
_MOST_CORRECTION: Final = 4.0
_SHARE_STEP: Final = 0.01
_FILE: Final = "budgets.sqlite3"
_SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS hours (
        router TEXT NOT NULL, hour INTEGER NOT NULL, model TEXT NOT NULL, requests INTEGER NOT NULL, usd REAL NOT NULL,
        shared INTEGER NOT NULL, asked REAL NOT NULL, first_s REAL NOT NULL, PRIMARY KEY (router, hour, model)
    ) WITHOUT ROWID""",
)
_ADD: Final = (
    "INSERT INTO hours VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (router, hour, model) DO UPDATE SET "
    "requests = requests + excluded.requests, usd = usd + excluded.usd, shared = shared + excluded.shared, "
    "asked = asked + excluded.asked, first_s = min(first_s, excluded.first_s)"
)


@dataclass(slots=True)
class _Sums:
    """What came of requests to one model.

    Attributes:
        requests: How many there were.
        usd: What they cost.
        shared: How many of them were chosen by the budget's threshold.
        asked: The sum of the strong shares that were asked of the calibration for these.
        first_s: When the first was.
    """

    requests: int = 0
    usd: float = 0.0
    shared: int = 0
    asked: float = 0.0
    first_s: float = math.inf

    def add(self, other: _Sums) -> None:
        self.requests += other.requests
        self.usd += other.usd
        self.shared += other.shared
        self.asked += other.asked
        self.first_s = min(self.first_s, other.first_s)


@dataclass(slots=True)
class _Books:
    """What is on disk.

    Attributes:
        month_s: When the month began that `spent_usd` is of.
        spent_usd: What all models cost in it.
        recent: What came of the last week's requests, by model.
    """

    month_s: float = 0.0
    spent_usd: float = 0.0
    recent: dict[str, _Sums] = field(default_factory=dict)


class _Aim(NamedTuple):
    monthly_usd: float
    strong: str
    weak: str
    strong_usd: float
    weak_usd: float
    threshold_for: Callable[[float], float]


class Budget:
    """One router's budget. Thread-safe.

    How near it comes: a month costs 99 to 100.5 % of the budget, with traffic of days, nights and weekends, where it
    doubles in the middle of the month, and where the calibration is of other traffic (simulated in the tests). Where
    even the weak model alone would cost more than the budget, or the strong model alone less, nothing can be done. When
    the money is gone, everything goes to the weak model until the month ends: what that costs is counted on and
    reported as `overrun_usd`. Requests that are under way at that moment, and those of the second until other worker
    processes know, are in it too.

    Months are of UTC; with a new one the money is there anew. Worker processes share what was spent through a file in
    the state folder, added up in transactions: a process that is killed loses at most what it spent in its last second,
    and nothing is counted twice.
    """

    def __init__(self, router: str, state_dir: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open or create the file. Call `aim` before anything else.

        Args:
            router: The router's name, under which spending is kept.
            state_dir: The folder that the worker processes share.
            clock: Returns seconds since 1970.

        Raises:
            DataError: The folder cannot be written to, or its file is not ours.
        """
        self._router, self._clock = router, clock
        self._aim = _Aim(math.inf, "", "", 0.0, 0.0, lambda _: 0.0)
        self._lock = threading.Lock()
        self._books = _Books()
        # By hour and model: not yet on disk, and being written at this moment.
        self._unsaved: dict[tuple[int, str], _Sums] = {}
        self._writing: dict[tuple[int, str], _Sums] = {}
        self._share: float | None = None
        self._asked = DEFAULT_STRONG_SHARE
        self._threshold = 1.0
        self._bounds_s = 0.0, 0.0
        self._planned_s = 0.0
        self._is_due = True
        self._file = StateFile(state_dir / _FILE, _SCHEMA, self._save)
        self._file.flush()

    def aim(
        self,
        monthly_usd: float,
        strong: tuple[str, ModelSettings],
        weak: tuple[str, ModelSettings],
        threshold_for: Callable[[float], float],
    ) -> None:
        """Say what is to be kept to; again where the settings were changed.

        Args:
            monthly_usd: US dollars that both models may cost in a calendar month.
            strong: The strong model's name and prices.
            weak: The weak model's.
            threshold_for: Strong share → threshold, as a router has it. Where it raises UnreachableTargetError, a
                smaller share that can be reached is taken.
        """

        def reckoned_usd(model: ModelSettings) -> float:
            return model.price.usd_per_1k(PAPER_TOKENS) / 1000.0

        with self._lock:
            self._aim = _Aim(
                monthly_usd, strong[0], weak[0], reckoned_usd(strong[1]), reckoned_usd(weak[1]), threshold_for
            )
            # What was planned with other models and another goal says nothing.
            self._share, self._is_due = None, True

    def threshold(self) -> float:
        """Return the threshold in [0, 1] by which requests are to be decided now; 1 where `is_spent`.

        Takes about a microsecond, and some hundred once a second, when the plan is made anew.
        """
        self._plan_if_due()
        return self._threshold

    @property
    def strong_share(self) -> float:
        """The share of requests that is to go to the strong model, in [0, 1]."""
        self._plan_if_due()
        return self._share or 0.0

    @property
    def monthly_usd(self) -> float:
        """The budget: US dollars for a calendar month."""
        return self._aim.monthly_usd

    @property
    def spent_usd(self) -> float:
        """US dollars spent in this month, by all worker processes."""
        with self._lock:
            return self._spent_usd(self._month(self._clock())[0])

    @property
    def overrun_usd(self) -> float:
        """US dollars by which this month's spending is above the budget; 0 where it is not."""
        return max(0.0, self.spent_usd - self._aim.monthly_usd)

    @property
    def is_spent(self) -> bool:
        """Whether this month's money is gone: everything is then to go to the weak model."""
        return self.spent_usd >= self._aim.monthly_usd

    def note(self, model: str, cost_usd: float | None, *, is_by_threshold: bool) -> None:
        """Count a request that was answered.

        Args:
            model: The model that answered; one that is neither the strong nor the weak one is not counted.
            cost_usd: What it cost; None where nothing says so: it then counts as one of the mean cost.
            is_by_threshold: Whether the model was chosen by the budget's threshold: not by a rule, by a threshold in
                the request, nor since another model failed.
        """
        aim = self._aim
        if model not in (aim.strong, aim.weak):
            return
        now_s = self._clock()
        with self._lock:
            if cost_usd is None:
                strong_usd, weak_usd = self._mean_costs(self._recent())
                cost_usd = strong_usd if model == aim.strong else weak_usd
            added = _Sums(1, cost_usd, int(is_by_threshold), self._asked if is_by_threshold else 0.0, now_s)
            self._unsaved.setdefault((int(now_s // _HOUR_S), model), _Sums()).add(added)
            if self._spent_usd(self._month(now_s)[0]) >= aim.monthly_usd:
                self._is_due = True
        self._file.wake()

    def flush(self) -> bool:
        """Write what is not on disk yet, and read what others wrote; return whether it could be."""
        return self._file.flush()

    def close(self) -> None:
        """Write what is not on disk yet, and close the file."""
        self._file.close()

    # --- the plan

    def _plan_if_due(self) -> None:
        now_s = self._clock()
        # A clock that was set back also makes it due.
        if not self._is_due and 0.0 <= now_s - self._planned_s < _PLAN_EVERY_S:
            return
        with self._lock:
            share = self._planned_share(now_s)
            if self._share is not None:
                share = min(share, self._share + _RISE_PER_H * max(0.0, now_s - self._planned_s) / _HOUR_S)
            asked, threshold_for = min(1.0, share * self._correction()), self._aim.threshold_for
            self._planned_s, self._is_due = now_s, False
        # Outside of the lock: a calibration may lie at a server.
        reached, threshold = _reachable(threshold_for, asked)
        with self._lock:
            self._share, self._asked, self._threshold = share, reached, threshold
        self._file.wake()  # other workers may have spent something

    def _planned_share(self, now_s: float) -> float:
        """Return the share that spends what is left evenly over what is left of the month."""
        month_s, next_month_s = self._month(now_s)
        left_usd = self._aim.monthly_usd - self._spent_usd(month_s)
        if left_usd <= 0.0:
            return 0.0
        recent = self._recent()
        requests = sum(sums.requests for sums in recent.values())
        if not requests:
            return DEFAULT_STRONG_SHARE
        strong_usd, weak_usd = self._mean_costs(recent)
        if strong_usd <= weak_usd:
            return 1.0
        window_s = now_s - (now_s // _HOUR_S - (_WINDOW_H - 1)) * _HOUR_S
        first_s = min(sums.first_s for sums in recent.values())
        elapsed_s = min(max(now_s - first_s, _LEAST_ELAPSED_S), window_s)
        expected = max(1.0, requests / elapsed_s * (next_month_s - now_s))
        return min(1.0, max(0.0, (left_usd / expected - weak_usd) / (strong_usd - weak_usd)))

    def _mean_costs(self, recent: dict[str, _Sums]) -> tuple[float, float]:
        """Return the mean cost of a request to the strong and to the weak model."""
        aim = self._aim
        pairs = [(recent.get(aim.strong, _Sums()), aim.strong_usd), (recent.get(aim.weak, _Sums()), aim.weak_usd)]
        # How much longer requests are than those that prices are reckoned with: known of a model that is asked little
        # from the one that is asked much.
        reckoned = sum((sums.requests + _PRIOR_REQUESTS) * usd for sums, usd in pairs)
        real = sum(sums.usd + _PRIOR_REQUESTS * usd for sums, usd in pairs)
        longer = real / reckoned if reckoned > 0.0 else 1.0
        strong_usd, weak_usd = (
            (sums.usd + _PRIOR_REQUESTS * usd * longer) / (sums.requests + _PRIOR_REQUESTS) for sums, usd in pairs
        )
        return strong_usd, weak_usd

    def _correction(self) -> float:
        """Return the share that was asked of the calibration, by the share that came of it."""
        recent = self._recent()
        asked = sum(sums.asked for sums in recent.values())
        came = recent.get(self._aim.strong, _Sums()).shared
        prior = _PRIOR_SHARED * (self._asked or DEFAULT_STRONG_SHARE)
        return min(_MOST_CORRECTION, max(1.0 / _MOST_CORRECTION, (asked + prior) / (came + prior)))

    # --- the books

    def _month(self, now_s: float) -> tuple[float, float]:
        """Return when the month began and when the next one does; reckoned out once a month, since all ask for it."""
        bounds = self._bounds_s
        if not bounds[0] <= now_s < bounds[1]:
            bounds = self._bounds_s = _month(now_s)
        return bounds

    def _spent_usd(self, month_s: float) -> float:
        spent = self._books.spent_usd if self._books.month_s == month_s else 0.0
        for unsaved in (self._writing, self._unsaved):
            spent += sum(sums.usd for (hour, _), sums in unsaved.items() if hour * _HOUR_S >= month_s)
        return spent

    def _recent(self) -> dict[str, _Sums]:
        if not (self._writing or self._unsaved):
            return self._books.recent
        found: dict[str, _Sums] = {}
        for model, sums in self._books.recent.items():
            found.setdefault(model, _Sums()).add(sums)
        for unsaved in (self._writing, self._unsaved):
            for (_, model), sums in unsaved.items():
                found.setdefault(model, _Sums()).add(sums)
        return found

    def _save(self, connection: sqlite3.Connection) -> None:
        """Add what is not on disk yet, and read what is."""
        with self._lock:
            written = self._writing = self._unsaved
            self._unsaved = {}
        try:
            now_s = self._clock()
            hour = int(now_s // _HOUR_S)
            if written:
                with transaction(connection):
                    connection.executemany(
                        _ADD,
                        [
                            (self._router, at, model, sums.requests, sums.usd, sums.shared, sums.asked, sums.first_s)
                            for (at, model), sums in written.items()
                        ],
                    )
                    connection.execute("DELETE FROM hours WHERE hour < ?", (hour - _KEPT_H,))
        except BaseException:
            with self._lock:
                for key, sums in written.items():
                    self._unsaved.setdefault(key, _Sums()).add(sums)
                self._writing = {}
            raise
        books = self._read(connection, now_s)
        with self._lock:
            self._books, self._writing = books, {}

    def _read(self, connection: sqlite3.Connection, now_s: float) -> _Books:
        month_s, _ = self._month(now_s)
        hour = int(now_s // _HOUR_S)
        (spent_usd,) = connection.execute(
            "SELECT total(usd) FROM hours WHERE router = ? AND hour >= ?", (self._router, int(month_s // _HOUR_S))
        ).fetchone()
        rows = connection.execute(
            "SELECT model, sum(requests), sum(usd), sum(shared), sum(asked), min(first_s) FROM hours "
            "WHERE router = ? AND hour > ? GROUP BY model",
            (self._router, hour - _WINDOW_H),
        )
        return _Books(month_s, spent_usd, {model: _Sums(*sums) for model, *sums in rows})


def _month(now_s: float) -> tuple[float, float]:
    """Return when the month began and when the next one does, in seconds since 1970."""
    now = datetime.fromtimestamp(now_s, timezone.utc)
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = (
        first.replace(year=first.year + 1, month=1) if first.month == 12 else first.replace(month=first.month + 1)
    )
    return first.timestamp(), following.timestamp()


def _reachable(threshold_for: Callable[[float], float], share: float) -> tuple[float, float]:
    """Return the largest share up to this one that the calibration has a threshold for, and the threshold."""
    while share > 0.0:
        with suppress(UnreachableTargetError):
            return share, threshold_for(share)
        share -= _SHARE_STEP
    return 0.0, 1.0
