"""The figures of studies: means and shares of units, ratios, entropy, by hand arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest

from metrics.stats.intervals import Interval
from metrics.studies.protocol import (
    OptionScores,
    Test,
    above,
    below,
    entropy_bits,
    mean_of,
    proportion_of,
    share_of,
)
from metrics.studies.verdict import INCONCLUSIVE, study_verdict


def wilson(hits: int, n: int) -> tuple[float, float]:
    z, p = 1.959964, hits / n
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)


@pytest.mark.parametrize("hits", [20, 19, 10, 1, 0])
def test_twenty_of_twenty_and_nineteen_get_intervals_from_one_method(hits):
    share = proportion_of([True] * hits + [False] * (20 - hits))
    assert (share.value, share.n) == (hits / 20, 20)
    assert (share.low, share.high) == pytest.approx(wilson(hits, 20), abs=1e-6)


def test_a_share_counts_units_leaves_out_what_is_missing_and_subtracts_chance():
    share = proportion_of([[1.0, math.nan], [0.5, 1.0], [math.nan, math.nan]], 0.25)
    assert share.n == 2 and share.value == pytest.approx(2.5 / 3 - 0.25) and share.low < share.value < share.high
    alike = proportion_of([[1.0] * 5, [0.0] * 5] * 5), proportion_of([[1.0, 0.0, 1.0, 0.0, 1.0]] * 10)
    widths = [interval.high - interval.low for interval in alike]
    assert widths[0] > 1.5 * widths[1], "what the values of a unit have in common counts once"
    for empty in ([], [[math.nan]]):
        for nothing in (proportion_of(empty), mean_of(empty)):
            assert nothing.n == 0 and all(map(math.isnan, (nothing.value, nothing.low, nothing.high)))
    single = proportion_of([1.0])
    assert single.value == 1.0 and single.n == 1 and math.isnan(single.low)


def test_a_unit_counts_once_and_missing_values_are_left_out():
    rows = np.array([[1.0, 1.0], [0.0, math.nan], [1.0, 0.0]])
    interval = mean_of(rows)
    assert interval.value == pytest.approx(3 / 5) and interval.n == 3 and interval.low < 3 / 5 < interval.high
    assert mean_of([[math.nan], [2.0], [2.0]]) == Interval(2.0, 2.0, 2.0, 2)
    nothing = mean_of([[math.nan]])
    assert math.isnan(nothing.value) and nothing.n == 0


def test_a_share_is_known_where_the_whole_is_above_nothing():
    assert share_of(np.array([1.0, 1]), np.array([2.0, 2])) == Interval(0.5, 0.5, 0.5, 2)
    # the second unit alone has a whole of -1, of which no share is known
    interval = share_of(np.array([[1.0, 0], [0, 1]]), np.array([[2.0, 2], [-1, 0]]))
    assert (interval.value, interval.n) == (pytest.approx(2 / 3), 2)
    assert math.isnan(interval.low) and math.isnan(interval.high)
    assert study_verdict({}, {"x": Test(interval, above(0.1), below(0.1))}).word == INCONCLUSIVE
    nothing = share_of(np.array([1.0, 1]), np.array([1.0, -3]))
    assert all(map(math.isnan, (nothing.value, nothing.low, nothing.high)))


def test_entropy_in_bits_and_shares_of_a_choice():
    assert entropy_bits(np.array([[0.25] * 4, [1.0, 0, 0, 0]])).tolist() == [2.0, 0.0]
    assert OptionScores((math.log(0.3), math.log(0.1)), (1, 2)).p == pytest.approx([0.75, 0.25])
