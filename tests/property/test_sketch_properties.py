from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from routellm_fast.evaluation.datasets import Benchmark
from routellm_fast.evaluation.levels import Levels
from routellm_fast.evaluation.metrics import sweep
from routellm_fast.evaluation.streaming import QualitySketch
from routellm_fast.evaluation.streaming.resampling import resampled_cells

RATES = st.one_of(
    st.floats(0.0, 1.0, width=32),
    st.floats(0.5, 0.5 + 2.0**-13, width=32),
    st.sampled_from([0.0, 0.25, 0.5, 1.0]),
)
QUALITIES = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(-1024.0, 1024.0))
ROWS = st.lists(st.tuples(RATES, QUALITIES, QUALITIES), min_size=1, max_size=60)


def sketch_of(rows: list[tuple[float, float, float]], bits: int = 20) -> QualitySketch:
    sketch = QualitySketch(bits)
    sketch.add(*np.array(rows, dtype=np.float64).reshape(-1, 3).T)
    return sketch


@given(ROWS, st.data())
@settings(max_examples=150, deadline=None)
def test_any_order_and_any_cut_give_the_same_bits(rows, data):
    expected = sketch_of(rows)
    shuffled = data.draw(st.permutations(rows))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    parts = [shuffled[a:b] for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    whole = QualitySketch()
    for part in data.draw(st.permutations(parts)):
        whole.merge(sketch_of(part))
    assert whole.digest == expected.digest
    assert whole.rows == len(rows)


# A quantile that falls on a win rate: the last bit says on which side.
@example([(0.0, 0.0, 0.0)] * 6 + [(1.0, 0.0, 0.0)] * 3 + [(0.25, 0.0, 0.0), (0.28125, 0.0, 0.0)], 5)
@given(ROWS, st.integers(1, 24))
@settings(max_examples=150, deadline=None)
def test_the_curve_is_that_of_win_rates_rounded_down(rows, bits):
    rates, strong, weak = np.array(rows, dtype=np.float64).T
    rounded = np.floor(rates * 2.0**bits) / 2.0**bits
    expected = sweep(rounded, Benchmark("log", ("p",) * len(rows), strong, weak, 1.0, 0))
    found = sketch_of(rows, bits).levels().sweep()
    np.testing.assert_allclose(found.strong_share, expected.strong_share, rtol=0, atol=1e-12)
    # Qualities are rounded to 2^-22.
    np.testing.assert_allclose(found.quality, expected.quality, rtol=0, atol=2.0**-22)


@given(ROWS, st.integers(1, 24), st.integers(1, 50))
@settings(max_examples=100, deadline=None)
def test_a_table_and_its_sketch_come_down_to_the_same_levels(rows, bits, bins):
    rates, strong, weak = np.array(rows, dtype=np.float64).T
    expected = Levels.of(np.floor(rates * 2.0**bits) / 2.0**bits, strong, weak)
    found = sketch_of(rows, bits).levels()
    np.testing.assert_array_equal(found.win_rates, expected.win_rates)
    np.testing.assert_array_equal(found.counts, expected.counts)
    # Qualities are rounded to 2^-22.
    np.testing.assert_allclose(found.gains, expected.gains, rtol=0, atol=len(rows) * 2.0**-22)
    for one, other in zip(found.histogram(bins), expected.histogram(bins), strict=True):
        np.testing.assert_array_equal(one, other)
    assert found.histogram(bins)[1].sum() == len(rows)
    one, other = found.curve(bins), expected.curve(bins)
    np.testing.assert_array_equal(one.strong_share, other.strong_share)
    np.testing.assert_array_equal(one.threshold, other.threshold)
    np.testing.assert_allclose(one.quality, other.quality, rtol=0, atol=2.0**-20)


@given(ROWS, st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_resamples_are_curves(rows, cells):
    win_rates, sums = sketch_of(rows).cells(cells)
    assert (np.diff(win_rates) > 0.0).all()
    assert sums[:, 0].sum() == len(rows)
    for counts, gains in resampled_cells(sums, 20, seed=1):
        assert (counts[:, -1] == len(rows)).all()
        assert (np.diff(counts, prepend=0) >= 0).all()
        assert np.isfinite(gains).all()
