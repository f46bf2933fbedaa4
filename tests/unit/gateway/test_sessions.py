from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from routellm_fast.gateway import sessions as module
from routellm_fast.gateway.sessions import Sessions, moved_threshold
from routellm_fast.gateway.settings import ModelSettings, SessionSettings

STRONG = ModelSettings(upstream="a", input_usd_per_1m=10.0, output_usd_per_1m=30.0, cached_input_usd_per_1m=1.0)
WEAK = ModelSettings(upstream="a", input_usd_per_1m=1.0, output_usd_per_1m=2.0, cached_input_usd_per_1m=0.5)
FREE = ModelSettings(upstream="a")


class Clock:
    now_s = 1e9

    def __call__(self) -> float:
        return self.now_s


def moved(threshold: float = 0.4, strong: ModelSettings = STRONG, weak: ModelSettings = WEAK, **changes: Any) -> float:
    given = {"input_tokens": 2000, "held_tokens": 1000, "strong_output_tokens": 100, "weak_output_tokens": 200}
    return moved_threshold(threshold, strong, weak, **{"is_strong_held": True, **given, **changes})


# By hand, in millionths of a dollar: strong 2000 x 10 + 100 x 30 = 23,000, weak 2000 x 1 + 200 x 2 = 2,400.
APART = 23_000 - 2_400


def test_the_strong_models_cache_lowers_the_threshold() -> None:
    # The strong model saves 1000 x 9.
    assert moved() == pytest.approx(0.4 * (APART - 9_000) / APART)


def test_the_weak_models_cache_raises_the_threshold() -> None:
    # The weak model saves 1000 x 0.5.
    assert moved(is_strong_held=False) == pytest.approx(0.4 * (APART + 500) / APART)


def test_without_history_nothing_moves() -> None:
    assert moved(held_tokens=0) == moved(held_tokens=0, is_strong_held=False) == pytest.approx(0.4)


def test_without_a_price_for_cached_tokens_nothing_moves() -> None:
    uncached = STRONG.model_copy(update={"cached_input_usd_per_1m": None})
    assert moved(strong=uncached) == pytest.approx(0.4)


def test_a_strong_model_that_costs_no_more_with_its_cache_is_taken() -> None:
    near = WEAK.model_copy(update={"input_usd_per_1m": 6.0})
    # Strong 20,000 + 3,000 - 9,000 = 14,000; weak 12,000 + 400 = 12,400: still dearer.
    assert moved(weak=near) == pytest.approx(0.4 * 1_600 / 10_600)
    # 15 more of the 2000 tokens are in the cache until they cost the same.
    assert moved(weak=near, held_tokens=1_200) == 0.0


def test_it_stays_within_the_range_of_win_rates() -> None:
    # Strong 23,000; weak 22,400 without a cache and 12,400 with it: times 10,600 / 600.
    near = WEAK.model_copy(update={"input_usd_per_1m": 11.0, "cached_input_usd_per_1m": 1.0})
    assert moved(0.05, weak=near, is_strong_held=False) == pytest.approx(0.05 * 10_600 / 600)
    assert moved(0.4, weak=near, is_strong_held=False) == 1.0


def test_where_the_strong_model_is_cheaper_only_without_the_cache_the_conversation_stays() -> None:
    dear = WEAK.model_copy(update={"input_usd_per_1m": 12.0, "cached_input_usd_per_1m": 1.0})
    # Weak 24,400 without a cache, 13,400 with it; strong 23,000.
    assert moved(weak=dear, is_strong_held=False) == 1.0
    assert moved(weak=dear, is_strong_held=True) == 0.0


@pytest.mark.parametrize(("strong", "weak"), [(FREE, WEAK), (STRONG, FREE), (FREE, FREE)])
def test_without_prices_a_conversation_stays_with_its_model(strong: ModelSettings, weak: ModelSettings) -> None:
    assert moved(strong=strong, weak=weak, is_strong_held=True) == 0.0
    assert moved(strong=strong, weak=weak, is_strong_held=False) == 1.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(tmp_path: Path, clock: Clock) -> Iterator[Sessions]:
    made = Sessions(SessionSettings(ttl_s=300.0), tmp_path, clock=clock)
    yield made
    made.close()


def other(tmp_path: Path, clock: Clock, settings: SessionSettings | None = None) -> Sessions:
    """Another worker's."""
    return Sessions(settings or SessionSettings(ttl_s=300.0), tmp_path, clock=clock)


def test_tokens_are_estimated_from_characters_and_answers(sessions: Sessions) -> None:
    for tokens in (50, 150):
        sessions.note_output("s", tokens)
    for _ in range(3):
        sessions.note_output("w", 200)
    assert sessions.output_tokens("s") == 100.0
    given = sessions.moved_threshold(
        0.4, ("s", STRONG), ("w", WEAK), is_strong_held=True, history_chars=4_000, text_chars=4_000
    )
    assert given == pytest.approx(moved())


def test_the_mean_length_of_answers_forgets_slowly(sessions: Sessions) -> None:
    assert sessions.output_tokens("s") == 264
    for _ in range(1_000):
        sessions.note_output("s", 10)
    assert sessions.output_tokens("s") == pytest.approx(10.0)
    for _ in range(5_000):
        sessions.note_output("s", 20)
    assert sessions.output_tokens("s") == pytest.approx(20.0, abs=0.1)


@pytest.mark.parametrize("is_on_disk", [False, True])
def test_a_conversation_is_remembered_until_the_cache_forgets_it(
    sessions: Sessions, clock: Clock, is_on_disk: bool
) -> None:
    assert sessions.model_of("c") is None
    sessions.note("c", "s")
    sessions.note("d", "w")
    if is_on_disk:
        assert sessions.flush()
    assert (sessions.model_of("c"), sessions.model_of("d"), sessions.model_of("e")) == ("s", "w", None)
    clock.now_s += 299.0
    assert sessions.model_of("c") == "s"
    sessions.note("c", "w")
    clock.now_s += 1.0
    assert (sessions.model_of("c"), sessions.model_of("d")) == ("w", None)


def test_workers_and_restarts_know_what_was_noted(sessions: Sessions, tmp_path: Path, clock: Clock) -> None:
    worker = other(tmp_path, clock)
    sessions.note("c", "s")
    sessions.note_response("resp_1", "s")
    sessions.flush()
    assert worker.model_of("c") == "s"
    assert worker.owner_of("resp_1") == "s"
    clock.now_s += 1.0
    worker.note("c", "w")
    worker.flush()
    assert sessions.model_of("c") == "w"  # and not what it noted itself, which is older
    worker.close()
    sessions.close()
    later = other(tmp_path, clock)
    assert later.model_of("c") == "w"
    assert later.owner_of("resp_1") == "s"
    later.close()


def test_of_two_workers_the_later_one_counts_whatever_order_they_write_in(tmp_path: Path, clock: Clock) -> None:
    first, second = other(tmp_path, clock), other(tmp_path, clock)
    first.note("c", "s")
    clock.now_s += 1.0
    second.note("c", "w")
    second.flush()
    assert first.model_of("c") == "w"
    first.flush()
    assert first.model_of("c") == second.model_of("c") == "w"
    first.close()
    second.close()


def test_an_answers_owner_has_no_time_limit(sessions: Sessions, clock: Clock) -> None:
    sessions.note_response("resp_1", "s")
    clock.now_s += 1e8
    assert sessions.owner_of("resp_1") == "s"
    sessions.flush()
    clock.now_s += 1e8
    assert sessions.owner_of("resp_1") == "s"
    assert sessions.owner_of("resp_2") is None


def test_the_oldest_answers_are_forgotten(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_RESPONSES", 3)
    for index in range(5):
        sessions.note_response(f"r{index}", "s")
        sessions.flush()
    assert [sessions.owner_of(f"r{index}") for index in range(5)] == [None, None, "s", "s", "s"]


def test_the_conversations_that_were_used_longest_ago_are_forgotten(tmp_path: Path, clock: Clock) -> None:
    sessions = other(tmp_path, clock, SessionSettings(ttl_s=300.0, max_sessions=3))
    for name in ("a", "b", "c", "a", "d"):
        clock.now_s += 1.0
        sessions.note(name, "s")
        sessions.flush()
    assert [name for name in "abcd" if sessions.model_of(name)] == ["a", "c", "d"]
    sessions.close()


def test_expired_conversations_leave_the_disk(tmp_path: Path, clock: Clock) -> None:
    sessions = other(tmp_path, clock, SessionSettings(ttl_s=10.0, max_sessions=5))
    sessions.note("a", "s")
    sessions.flush()
    clock.now_s += 11.0
    sessions.note("b", "s")
    sessions.close()
    connection = sqlite3.connect(tmp_path / "sessions.sqlite3")
    assert connection.execute("SELECT count(*) FROM conversations").fetchone() == (1,)
    connection.close()


def test_without_settings_only_answers_are_remembered(tmp_path: Path, clock: Clock) -> None:
    sessions = Sessions(None, tmp_path, clock=clock)
    sessions.note("c", "s")
    sessions.note_response("resp_1", "w")
    sessions.flush()
    assert sessions.model_of("c") is None
    assert sessions.owner_of("resp_1") == "w"
    sessions.close()


def test_no_name_is_on_disk(sessions: Sessions, tmp_path: Path) -> None:
    sessions.note("a conversation's name", "s")
    sessions.note_response("resp_secret", "s")
    sessions.close()
    for path in tmp_path.iterdir():
        data = path.read_bytes()
        assert b"conversation's" not in data
        assert b"resp_secret" not in data


def test_a_name_of_any_characters_is_remembered(sessions: Sessions) -> None:
    for name in ("\ud800", "ü\0", "x" * 100_000):
        sessions.note(name, "s")
        sessions.note_response(name, "w")
        assert (sessions.model_of(name), sessions.owner_of(name)) == ("s", "w")


def test_while_the_disk_fails_memory_answers(
    sessions: Sessions, tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    breaker = sqlite3.connect(tmp_path / "sessions.sqlite3", isolation_level=None)
    breaker.execute("ALTER TABLE conversations RENAME TO hidden")
    with caplog.at_level(logging.WARNING):
        sessions.note("c", "s")
        sessions.note_response("resp_1", "w")
        assert not sessions.flush()
        assert sessions.model_of("c") == "s"
        assert sessions.owner_of("resp_1") == "w"
        breaker.execute("ALTER TABLE hidden RENAME TO conversations")
        breaker.close()
        assert sessions.flush()
    again = other(tmp_path, clock)
    assert again.model_of("c") == "s"
    assert again.owner_of("resp_1") == "w"
    again.close()


def test_what_waits_for_a_failing_disk_is_bounded(
    sessions: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_MOST_WAITING", 2)
    breaker = sqlite3.connect(tmp_path / "sessions.sqlite3", isolation_level=None)
    breaker.execute("ALTER TABLE responses RENAME TO hidden")
    with caplog.at_level(logging.WARNING):
        for index in range(4):
            sessions.note_response(f"r{index}", "s")
        assert not sessions.flush()
        assert [sessions.owner_of(f"r{index}") for index in range(4)] == [None, None, "s", "s"]
    breaker.close()
