"""Verdicts: controls decide first, then tests, by hand arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest

from metrics.stats.bootstrap import Interval
from metrics.studies.protocol import (
    CONFIRMS,
    FAILED,
    FEWEST,
    INCONCLUSIVE,
    NEVER,
    REFUTES,
    Control,
    OptionScores,
    Test,
    above,
    below,
    entropy_bits,
    mean_of,
    share_of,
    study_verdict,
)

GOOD, BAD = Control(True, "as planted"), Control(False, "0.1 of 0.9")


ABOVE, BELOW = above(0.2), below(0.2)


def bounded(value: float, low: float, high: float, n: int = 10, confirms=ABOVE, refutes=BELOW) -> Test:
    return Test(Interval(value, low, high, n), confirms, refutes)


def test_a_failed_control_is_told_before_anything_that_was_found():
    decided = study_verdict({"a": GOOD, "b": BAD}, {"x": bounded(0.9, 0.8, 1.0)})
    assert decided.word == FAILED and "b (0.1 of 0.9)" in decided.why and decided.needed is None


def test_all_tests_must_confirm_and_one_refutes():
    yes, no, wide = bounded(0.9, 0.8, 1.0), bounded(0.1, 0.0, 0.15), bounded(0.3, 0.1, 0.5)
    assert study_verdict({"a": GOOD}, {"x": yes, "y": yes}).word == CONFIRMS
    assert study_verdict({"a": GOOD}, {"x": yes, "y": no}).word == REFUTES
    assert study_verdict({"a": GOOD}, {"x": yes, "y": wide}).word == INCONCLUSIVE
    assert study_verdict({"a": GOOD}, {"x": wide, "y": no}).word == REFUTES


def test_an_interval_too_wide_says_how_many_units_would_decide():
    # half width 1/4 at n = 10, and 1/8 from the bound of 3/8: twice too wide, four times as many
    bounds = {"confirms": above(0.375), "refutes": below(0.375)}
    assert study_verdict({}, {"x": bounded(0.5, 0.25, 0.75, **bounds)}).needed == 40
    assert study_verdict({}, {"x": bounded(0.25, 0.0, 0.5, **bounds)}).needed == 40


def test_too_few_units_neither_confirm_nor_refute_however_alike():
    for value in (0.9, 0.1):
        decided = study_verdict({}, {"x": bounded(value, value, value, n=FEWEST - 1)})
        assert (
            decided.word == INCONCLUSIVE
            and decided.why == f"too few units for an interval (at least {FEWEST}): x, 5"
            and decided.needed is None
        )
    assert study_verdict({}, {"x": bounded(0.9, 0.9, 0.9, n=FEWEST)}).word == CONFIRMS


def test_what_is_needed_is_told_of_each_test_with_its_own_units():
    bounds = {"confirms": above(0.375), "refutes": below(0.375)}
    decided = study_verdict(
        {}, {"x": bounded(0.5, 0.25, 0.75, n=10, **bounds), "y": bounded(0.5, 0.25, 0.75, n=6, **bounds)}
    )
    assert (
        decided.needed == 40
        and "about 40 units in place of 10" in decided.why
        and "about 24 units in place of 6" in decided.why
    )


def test_a_share_that_all_units_agree_on_has_the_exact_interval():
    # of six units all say yes with p to the sixth power, which is 2.5% at p = .541
    assert mean_of([1.0] * 6, 1, proportion=True) == Interval(1.0, pytest.approx(0.541, abs=1e-3), 1.0, 6)
    assert mean_of([False] * 6, 1, proportion=True) == Interval(0.0, 0.0, pytest.approx(0.459, abs=1e-3), 6)
    assert mean_of([1.0] * 6, 1) == Interval(1.0, 1.0, 1.0, 6)


def test_between_two_bounds_no_number_decides():
    decided = study_verdict({}, {"x": bounded(0.6, 0.4, 0.7, confirms=below(0.5), refutes=above(0.8))})
    assert decided.word == INCONCLUSIVE and decided.needed is None and "between" in decided.why


def test_what_never_refutes_by_itself_is_at_most_inconclusive():
    decided = study_verdict({}, {"x": bounded(-0.9, -1.0, -0.8, confirms=above(0), refutes=NEVER)})
    assert decided.word == INCONCLUSIVE and decided.needed is None and "nowhere (refutes)" in decided.why


def test_nothing_measured_is_inconclusive():
    assert study_verdict({}, {"x": bounded(math.nan, math.nan, math.nan, 0)}).word == INCONCLUSIVE


def test_units_are_resampled_whole_and_missing_values_left_out():
    rows = np.array([[1.0, 1.0], [0.0, math.nan], [1.0, 0.0]])
    interval = mean_of(rows, 1)
    assert interval.value == pytest.approx(3 / 5) and interval.n == 3 and interval.low < 3 / 5 < interval.high
    assert mean_of([[math.nan], [2.0], [2.0]], 1) == Interval(2.0, 2.0, 2.0, 2)
    nothing = mean_of([[math.nan]], 1)
    assert math.isnan(nothing.value) and nothing.n == 0


def test_a_share_is_known_where_the_whole_is_above_nothing():
    assert share_of(np.array([1.0, 1]), np.array([2.0, 2]), 1) == Interval(0.5, 0.5, 0.5, 2)
    # units drawn: both the first 1/4, one of each 2/3, both the second: a whole of -2, of which no share is known
    interval = share_of(np.array([[1.0, 0], [0, 1]]), np.array([[2.0, 2], [-1, 0]]), 1)
    assert (
        interval.value == pytest.approx(2 / 3)
        and interval.low == pytest.approx(1 / 4)
        and not math.isfinite(interval.high)
        and interval.n == 2
    )
    assert study_verdict({}, {"x": Test(interval, above(0.1), below(0.1))}).word == INCONCLUSIVE
    nothing = share_of(np.array([1.0, 1]), np.array([1.0, -3]), 1)
    assert all(map(math.isnan, (nothing.value, nothing.low, nothing.high)))


def test_entropy_in_bits_and_shares_of_a_choice():
    assert entropy_bits(np.array([[0.25] * 4, [1.0, 0, 0, 0]])).tolist() == [2.0, 0.0]
    assert OptionScores((math.log(0.3), math.log(0.1)), (1, 2)).p == pytest.approx([0.75, 0.25])
