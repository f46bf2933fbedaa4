from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from routellm_fast import InvalidArgumentError
from routellm_fast.adaptation.proving import Money
from routellm_fast.adaptation.saving import monthly, priced, requests_a_month
from routellm_fast.interval import Interval
from routellm_fast.prices import ModelPrice, PairPrices
from tests.support.proof_builders import made_labels

MONEY = Money(
    Interval(0.01, 0.009, 0.011),
    Interval(0.001, 0.0009, 0.0011),
    Interval(0.006, 0.005, 0.007),
    Interval(0.004, 0.002, 0.005),
    Interval(0.4, 0.3, 0.5),
    Interval(0.009, 0.008, 0.01),
    Interval(0.003, 0.002, 0.004),
)
LABELS = made_labels(np.ones(3), np.zeros(3))


def test_a_month_by_hand():
    found = monthly(MONEY, 1000)
    assert found.strong_usd.to_list() == [10.0, 9.0, 11.0]
    assert found.routed_usd.to_list() == [6.0, 5.0, 7.0]
    assert found.saved_usd.to_list() == [4.0, 2.0, 5.0]
    assert found.beyond_mixture_usd is not None
    assert found.beyond_mixture_usd.to_list() == [3.0, 2.0, 4.0]
    assert found.labelling_usd is found.paid_after_days is found.paid_after_requests is None


def test_when_labels_are_paid():
    found = monthly(MONEY, 1000, 8.0)
    month = 365.25 / 12
    assert found.paid_after_requests == 2000
    assert found.paid_after_days == pytest.approx(2 * month)
    assert found.soonest_paid_after_days == pytest.approx(1.6 * month)
    assert found.latest_paid_after_days == pytest.approx(4 * month)


def test_labels_that_cost_nothing_are_paid_at_once():
    assert monthly(MONEY, 1000, 0.0).paid_after_requests == 0.0


def test_labels_that_may_never_be_paid():
    found = monthly(dataclasses.replace(MONEY, saved_usd=Interval(0.004, -0.001, 0.005)), 1000, 8.0)
    assert found.paid_after_requests == 2000
    assert found.latest_paid_after_days is None
    assert monthly(dataclasses.replace(MONEY, saved_usd=Interval.exactly(0.0)), 10, 8.0).paid_after_requests is None


@pytest.mark.parametrize("requests", [0, -1, np.inf, np.nan])
def test_no_requests(requests):
    with pytest.raises(InvalidArgumentError, match="requests"):
        monthly(MONEY, requests)


def test_no_cost_of_labels():
    with pytest.raises(InvalidArgumentError, match="what the labels cost"):
        monthly(MONEY, 10, -1.0)


def test_a_log_says_how_many_come_in_a_month():
    week = 7 * 86_400.0
    assert requests_a_month(1001, week) == pytest.approx(1000 * 365.25 / 12 / 7)


@pytest.mark.parametrize(("requests", "seconds"), [(0, 10.0), (1, 10.0), (5, 0.0), (5, -1.0), (5, np.inf), (5, np.nan)])
def test_a_log_that_does_not(requests, seconds):
    with pytest.raises(InvalidArgumentError, match="give their number"):
        requests_a_month(requests, seconds)


def test_prices_times_tokens():
    prices = PairPrices(ModelPrice(10.0, 20.0), ModelPrice(1.0, 2.0, 0.5), output_tokens=100)
    costs = priced(LABELS, prices, np.array([1000, 0, 500])).costs_usd
    assert costs is not None
    np.testing.assert_allclose(costs, [[0.012, 0.5012], [0.002, 0.5002], [0.007, 0.5007]])


def test_what_answers_cost_goes_before_prices():
    measured = made_labels(np.ones(2), np.zeros(2), costs_usd=np.ones((2, 2)))
    assert priced(measured, PairPrices(ModelPrice(1.0), ModelPrice(0.0)), np.ones(2, dtype=np.int64)) is measured
    assert priced(LABELS, None) is LABELS


def test_prices_of_requests_and_mean_lengths_need_no_tokens():
    by_request = PairPrices(ModelPrice(request_usd=0.2), ModelPrice(request_usd=0.1))
    by_mean = PairPrices(ModelPrice(1e6), ModelPrice(0.0), input_tokens=2.0)
    for prices, expected in ((by_request, [0.2, 0.1]), (by_mean, [2.0, 0.0])):
        costs = priced(LABELS, prices).costs_usd
        assert costs is not None
        np.testing.assert_allclose(costs, np.tile(expected, (3, 1)))


@pytest.mark.parametrize("tokens", [None, np.ones(2, dtype=np.int64)])
def test_tokens_that_are_missing(tokens):
    with pytest.raises(InvalidArgumentError, match="tokens"):
        priced(LABELS, PairPrices(ModelPrice(1.0), ModelPrice(1.0)), tokens)
