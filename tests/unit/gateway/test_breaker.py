from __future__ import annotations

import pytest

from routellm_fast.gateway.breaker import Breaker


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(3, 10.0, clock=clock)


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        assert breaker.allows()
        breaker.failed()


def test_it_opens_after_so_many_failures_in_a_row(breaker: Breaker) -> None:
    fail(breaker, 2)
    assert breaker.allows()
    breaker.succeeded()
    fail(breaker, 2)
    assert breaker.retry_after_s == 0.0
    fail(breaker, 1)
    assert not breaker.allows()
    assert breaker.retry_after_s == 10.0


def test_one_probe_is_let_through_and_closes_it(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now_s += 4.0
    assert not breaker.allows()
    assert breaker.retry_after_s == 6.0
    clock.now_s += 6.0
    assert breaker.allows()
    assert not breaker.allows()  # while the probe is under way
    breaker.succeeded()
    assert breaker.allows()
    assert breaker.allows()
    fail(breaker, 2)  # the count began anew
    assert breaker.allows()


def test_a_probe_that_fails_opens_it_again(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now_s += 10.0
    assert breaker.allows()
    clock.now_s += 3.0
    breaker.failed()
    assert breaker.retry_after_s == 10.0
    assert not breaker.allows()
    clock.now_s += 10.0
    assert breaker.allows()


def test_a_probe_that_never_ends_is_given_up(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now_s += 10.0
    assert breaker.allows()  # its client goes away, and nobody says how it ended
    clock.now_s += 9.0
    assert not breaker.allows()
    clock.now_s += 1.0
    assert breaker.allows()


def test_failures_of_requests_from_before_do_not_make_the_pause_longer(breaker: Breaker, clock: Clock) -> None:
    for _ in range(5):
        assert breaker.allows()
    for _ in range(3):
        breaker.failed()
    clock.now_s += 5.0
    breaker.failed()
    assert breaker.retry_after_s == 5.0


def test_any_success_closes_it(breaker: Breaker) -> None:
    fail(breaker, 3)
    breaker.succeeded()  # of a request that was sent before
    assert breaker.allows()


def test_breakers_are_alike_by_their_rule() -> None:
    assert Breaker(3, 10.0).rule == Breaker(3, 10.0).rule == (3, 10.0)
    assert Breaker(3, 10.0).rule != Breaker(4, 10.0).rule
