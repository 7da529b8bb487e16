"""Clustered intervals against hand arithmetic, scipy, statsmodels and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from metrics.stats import intervals
from metrics.stats.intervals import (
    clustered_mean,
    clustered_means,
    clustered_slope,
    clustered_statistic,
    crossed_components,
    crossed_interval,
)
from metrics.stats.kaplan_meier import kaplan_meier


def test_mean_is_over_all_values_and_not_over_clusters_with_an_interval_by_hand():
    # clusters a: 1 1 1, b: 0, c: 0 -> 3/5; without a 0, without b or c 3/4; mean of these 1/2,
    # se² = 2/3 (1/4 + 1/16 + 1/16) = 1/4; t of two degrees of freedom 4.3027
    interval = clustered_mean([1, 1, 1, 0, 0], ["a", "a", "a", "b", "c"])
    assert (interval.value, interval.n, interval.units) == (0.6, 5, 3)
    assert (interval.low, interval.high) == pytest.approx((0.6 - 4.3027 / 2, 0.6 + 4.3027 / 2), abs=1e-4)
    assert interval.p == pytest.approx(2 * stats.t.sf(0.6 / 0.5, 2))


def test_clusters_of_one_value_have_the_t_interval_and_p_of_scipy():
    values = np.random.default_rng(0).normal(0.3, 1, size=40)
    mine, scipys = clustered_mean(values, np.arange(40)), stats.ttest_1samp(values, 0)
    assert (mine.low, mine.high) == pytest.approx(tuple(scipys.confidence_interval(0.95)))
    assert mine.p == pytest.approx(scipys.pvalue)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    # 25 clusters of 8 values that share their cluster's offset; true mean 0
    rng, clusters = np.random.default_rng(5), np.repeat(np.arange(25), 8)
    covered = naive = 0
    for _ in range(300):
        values = rng.normal(size=25)[clusters] + rng.normal(size=200)
        interval = clustered_mean(values, clusters)
        alone = clustered_mean(values, np.arange(200))
        covered += interval.low <= 0 <= interval.high
        naive += alone.low <= 0 <= alone.high
    assert 0.92 <= covered / 300 <= 0.98  # says .95
    assert naive / 300 < 0.75  # what forgetting the clusters would have claimed


def test_one_cluster_has_a_value_and_no_interval():
    interval = clustered_mean([0.0, 1.0], [7, 7])
    assert interval.value == 0.5 and interval.n == 2 and math.isnan(interval.low) and math.isnan(interval.high)


def test_empty_gives_nan_and_n_0():
    for interval in (clustered_mean([], []), clustered_slope([], [], [])):
        assert interval.n == 0 and all(math.isnan(value) for value in (interval.value, interval.low, interval.high))
    assert clustered_means([], [], []) == {} and kaplan_meier([], []).median().n == 0


def test_a_statistic_with_a_range_keeps_its_interval_inside():
    # 9 of 10 right: on the logit scale ln 9 ± t h, h = se / (.9 * .1)
    sums = np.column_stack([[1.0] * 9 + [0.0], np.ones(10)])
    plain = clustered_statistic(sums, lambda s: s[:, :1] / s[:, 1:], n=10)
    logit = clustered_statistic(sums, lambda s: s[:, :1] / s[:, 1:], n=10, within=(0, 1))
    log = clustered_statistic(sums, lambda s: s[:, :1] / s[:, 1:], n=10, within=(0, math.inf))
    half = plain.high - plain.value
    assert plain.high > 1 and 0 < logit.low < 0.9 < logit.high < 1
    assert math.log(logit.high / (1 - logit.high)) == pytest.approx(math.log(9) + half / 0.09)
    assert (log.low, log.high) == pytest.approx((0.9 * math.exp(-half / 0.9), 0.9 * math.exp(half / 0.9)))
    all_right = clustered_statistic(np.ones((10, 2)), lambda s: s[:, :1] / s[:, 1:], n=10, within=(0, 1))
    assert (all_right.low, all_right.high) == (1, 1) and math.isnan(all_right.p), "no spread, and so no test"


def test_pieces_change_nothing(monkeypatch):
    rng = np.random.default_rng(3)
    values, clusters, groups = rng.normal(size=90), rng.integers(9, size=90), rng.integers(10, size=90)
    whole = clustered_means(values, clusters, groups)
    monkeypatch.setattr(intervals, "COLUMNS", 3)
    assert clustered_means(values, clusters, groups) == whole
    monkeypatch.setattr(intervals, "CELLS", 50)
    pieced = clustered_means(values, clusters, groups)
    assert all(math.isfinite(pieced[key].low) and pieced[key].value == whole[key].value for key in whole)


def test_group_seen_in_one_cluster_has_no_interval_and_others_have():
    intervals = clustered_means([1, 0, 1], ["a", "b", "a"], [0, 0, 8])
    # 1/2 with 0 and 1 without one of the two: se 1/2; t of one degree of freedom 12.706
    assert (intervals[0].value, intervals[0].n) == (0.5, 2)
    assert (intervals[0].low, intervals[0].high) == pytest.approx((0.5 - 6.3531, 0.5 + 6.3531), abs=1e-3)
    assert (intervals[8].value, intervals[8].n) == (1.0, 1) and math.isnan(intervals[8].low)


def test_slope_is_within_clusters_by_hand():
    # a: x 0 1 2, y 0 0 1 -> Sxy 1, Sxx 2; b: x 0 2, y 5 5 -> 0 and 2; c has one x only: slope 1 / 4
    interval = clustered_slope([0, 1, 2, 0, 2, 7], [0, 0, 1, 5, 5, 9], list("aaabbc"))
    assert (interval.value, interval.n, interval.units) == (0.25, 5, 2)
    # without a 0, without b 1/2: se² = 1/2 (1/16 + 1/16) = 1/16
    assert interval.high == pytest.approx(0.25 + 12.7062 / 4, abs=1e-3)


def test_clusters_that_differ_in_length_and_level_are_no_trend():
    # three short conversations without a contradiction and three long ones that always contradict: none of them drifts
    lengths, level = [4, 4, 4, 40, 40, 40], [0, 0, 0, 1, 1, 1]
    x, clusters = np.concatenate([np.arange(n) for n in lengths]), np.repeat(np.arange(6), lengths)
    interval = clustered_slope(x, np.repeat(level, lengths), clusters)
    assert interval.value == 0 and interval.low < 0 < interval.high


def test_conversations_may_be_centred_apart_and_count_as_one_person():
    x, y = [0, 1, 0, 1, 0, 1], [0, 1, 5, 5, 0, 0]
    people, conversations = [1, 1, 1, 1, 2, 2], [1, 1, 2, 2, 3, 3]
    together = clustered_slope(x, y, people, centred=conversations)
    assert together.value == clustered_slope(x, y, conversations).value and together.units == 2


def test_a_slope_where_hardly_anything_happens_has_a_width():
    x, clusters = np.tile(np.arange(10), 6), np.repeat(np.arange(6), 10)
    none = clustered_slope(x, np.zeros(60), clusters)
    # q = 2 / 64; sum of Sxx = 6 * 82.5; t of five degrees of freedom 2.5706
    error = math.sqrt(2 / 64 * 62 / 64 / 495)
    assert none.value == 0 and (none.low, none.high) == pytest.approx((-2.5706 * error, 2.5706 * error), abs=1e-5)
    assert none.p == 1


def test_slope_equals_statsmodels_with_an_intercept_for_each_cluster():
    formula = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(2)
    clusters = rng.integers(8, size=120)
    x, y = rng.normal(size=120), rng.normal(size=120)
    design = np.column_stack([x, clusters[:, None] == np.arange(8)])
    fitted = [
        formula.OLS(y[clusters != out], design[clusters != out][:, [0, *[1 + c for c in range(8) if c != out]]])
        .fit()
        .params[0]
        for out in (-1, *range(8))
    ]
    interval = clustered_slope(x, y, clusters)
    assert interval.value == pytest.approx(fitted[0], abs=1e-9)
    error = math.sqrt(7 / 8 * ((np.array(fitted[1:]) - np.mean(fitted[1:])) ** 2).sum())
    assert interval.high - interval.value == pytest.approx(stats.t.ppf(0.975, 7) * error, abs=1e-9)


def test_slope_without_spread_is_nan_and_far_from_zero_keeps_its_digits():
    assert math.isnan(clustered_slope([2, 2, 2, 2], [0, 1, 0, 1], [1, 1, 2, 2]).value)
    assert clustered_slope([1e6, 1e6 + 1, 1e6 + 2], [0, 0, 1], [1, 1, 1]).value == pytest.approx(0.5)


def test_slope_interval_finds_a_trend_and_not_its_absence():
    rng = np.random.default_rng(8)
    x, clusters = np.tile(np.arange(20), 40), np.repeat(np.arange(40), 20)
    rising, flat = rng.random(800) < 0.1 + 0.03 * x, rng.random(800) < 0.4
    trend, none = clustered_slope(x, rising, clusters), clustered_slope(x, flat, clusters)
    assert 0.02 < trend.low < 0.03 < trend.high < 0.04
    assert none.low < 0 < none.high


def test_kaplan_meier_on_five_subjects_by_hand():
    # events at 1, 3, 3, 5; one censored at 2. At risk 5, 3, 1 at times 1, 3, 5:
    # S(1) = 4/5, S(2) = 4/5, S(3) = 4/5 * (1 - 2/3) = 4/15, S(5) = 0
    curve = kaplan_meier([1, 2, 3, 3, 5], [False, True, False, False, False])
    assert curve.times.tolist() == [1, 2, 3, 5]
    assert curve.survival == pytest.approx([4 / 5, 4 / 5, 4 / 15, 0])
    assert curve.at_risk.tolist() == [5, 4, 3, 1]
    assert curve.median().value == 3 and curve.median().n == 5
    assert curve.median().low <= 3


def test_median_is_where_the_curve_is_one_half_in_spite_of_rounding():
    # at risk 10, 9, 7, 5 at lines 1, 2, 3, 6: S(3) = 9/10 * 7/9 * 5/7 = 1/2, in floating point a little more
    assert kaplan_meier([3, 6, 3, 1, 8, 8, 8, 2, 2, 6], [False] * 6 + [True] + [False] * 3).median().value == 3


def test_median_is_nan_while_more_than_half_survive():
    median = kaplan_meier([2, 9, 9, 9], [False, True, True, True]).median()
    assert math.isnan(median.value) and math.isnan(median.high) and median.n == 4


def test_values_and_clusters_of_different_length_and_unscored_values_are_refused():
    with pytest.raises(ValueError, match="2 values but 1 clusters"):
        clustered_mean([1, 0], [1])
    with pytest.raises(ValueError, match="nan"):
        clustered_mean([1, float("nan")], [1, 2])
    with pytest.raises(ValueError, match="confidence 95"):
        clustered_mean([1, 0], [1, 2], confidence=95)


def test_crossed_components_by_hand():
    # rows 4, 7 about 5.5: 2 * 4.5 / 1 = 9; columns 2.5, 8.5: 2 * 18 / 1 = 36; 1 -1 / -1 1 beside: 4 / 1 = 4; (9 - 4) /
    # 2, (36 - 4) / 2
    assert crossed_components([[2, 6], [3, 11]]) == pytest.approx({(0,): 2.5, (1,): 16, (0, 1): 4})
    # a third factor that takes one off or adds one everywhere: 4 * 2 / 1 = 8, over the four cells of each of its levels
    # 8 / 4 = 2
    components = crossed_components([[[1, 3], [5, 7]], [[2, 4], [10, 12]]])
    assert components == pytest.approx({(0,): 2.5, (1,): 16, (2,): 2, (0, 1): 4, (0, 2): 0, (1, 2): 0, (0, 1, 2): 0})
    assert math.isnan(crossed_components([[1, 2]])[0,]), "one row"


def test_crossed_components_find_what_was_put_in():
    rng = np.random.default_rng(3)
    rows, columns, both = (
        rng.normal(size=(200, 1, 1)),
        2 * rng.normal(size=(1, 200, 1)),
        0.5 * rng.normal(size=(200, 200, 1)),
    )
    components = crossed_components(
        rows + columns + both + 3 * rng.normal(size=(1, 200, 2)) + 1.5 * rng.normal(size=(200, 200, 2))
    )
    assert [components[axes] for axes in ((0,), (1,), (0, 1), (1, 2), (0, 1, 2))] == pytest.approx(
        [1, 4, 0.25, 9, 2.25], rel=0.2
    )


def test_crossed_interval_by_hand():
    # without a row 5 or 1, ((5 - 3)^2 + (1 - 3)^2) / 2 = 4; without a column 4 or 2, (1 + 1) / 2 = 1; t of one degree
    # of freedom
    interval = crossed_interval([[0, 2], [4, 6]], np.mean)
    assert (interval.value, interval.n) == (3, 2) and interval.high == pytest.approx(
        3 + 12.7062 * math.sqrt(5), abs=1e-3
    )
    assert math.isnan(crossed_interval([[0, 2]], np.mean).low)


def test_crossed_interval_covers_the_truth_where_rows_and_columns_are_draws():
    rng, covered = np.random.default_rng(4), 0
    for _ in range(300):
        interval = crossed_interval(
            rng.normal(size=(12, 1)) + rng.normal(size=(1, 20)) + rng.normal(size=(12, 20)), np.mean
        )
        covered += interval.low < 0 < interval.high
    assert 0.93 <= covered / 300 <= 0.99
