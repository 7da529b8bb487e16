"""Clustered intervals against hand arithmetic, scipy and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from metrics.stats import bootstrap
from metrics.stats.bootstrap import (
    clustered_difference,
    clustered_mean,
    clustered_means,
    clustered_slope,
    crossed_components,
    crossed_interval,
    kaplan_meier,
)


def test_mean_is_over_all_values_and_not_over_clusters():
    # clusters a: 1 1 1, b: 0 -> 3/4, not (1 + 0) / 2
    interval = clustered_mean([1, 1, 1, 0], ["a", "a", "a", "b"], seed=1)
    assert interval.value == 0.75 and interval.n == 4
    assert (interval.low, interval.high) == (0.0, 1.0)  # resamples bb and aa both happen often


def test_interval_equals_scipys_bootstrap_over_clusters():
    rng = np.random.default_rng(0)
    clusters = rng.integers(30, size=400)
    values = rng.normal(size=30)[clusters] + rng.normal(size=400)
    mine = clustered_mean(values, clusters, resamples=20_000, seed=1)
    total, count = np.bincount(clusters, values), np.bincount(clusters)
    scipys = stats.bootstrap(
        (total, count),
        lambda t, c, axis: t.sum(axis) / c.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert mine.low == pytest.approx(scipys.low, abs=0.02) and mine.high == pytest.approx(scipys.high, abs=0.02)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    # 25 clusters of 8 values that share their cluster's offset; true mean 0
    rng, clusters = np.random.default_rng(5), np.repeat(np.arange(25), 8)
    covered = naive = 0
    for seed in range(300):
        values = rng.normal(size=25)[clusters] + rng.normal(size=200)
        interval = clustered_mean(values, clusters, resamples=400, seed=seed)
        alone = clustered_mean(values, np.arange(200), resamples=400, seed=seed)
        covered += interval.low <= 0 <= interval.high
        naive += alone.low <= 0 <= alone.high
    assert 0.89 <= covered / 300 <= 0.98  # says .95; percentile intervals are a little short at 25 clusters
    assert naive / 300 < 0.75  # what forgetting the clusters would have claimed


def test_one_cluster_has_a_value_and_no_interval():
    interval = clustered_mean([0.0, 1.0], [7, 7])
    assert interval.value == 0.5 and interval.n == 2 and math.isnan(interval.low) and math.isnan(interval.high)


def test_empty_gives_nan_and_n_0():
    for interval in (clustered_mean([], []), clustered_slope([], [], []), clustered_difference([], [], [])):
        assert interval.n == 0 and all(math.isnan(value) for value in (interval.value, interval.low, interval.high))
    assert clustered_means([], [], []) == {} and kaplan_meier([], []).median().n == 0


def test_same_seed_gives_the_same_interval_and_another_seed_another():
    values, clusters = np.random.default_rng(3).normal(size=60), np.repeat(np.arange(12), 5)
    assert clustered_mean(values, clusters, seed=4) == clustered_mean(values, clusters, seed=4)
    assert clustered_mean(values, clusters, seed=4) != clustered_mean(values, clusters, seed=5)


def test_pieces_change_nothing(monkeypatch):
    rng = np.random.default_rng(3)
    values, clusters, groups = rng.normal(size=90), rng.integers(9, size=90), rng.integers(10, size=90)
    whole = clustered_means(values, clusters, groups, resamples=200)
    monkeypatch.setattr(bootstrap, "COLUMNS", 3)
    assert clustered_means(values, clusters, groups, resamples=200) == whole
    monkeypatch.setattr(bootstrap, "CELLS", 50)
    pieced = clustered_means(values, clusters, groups, resamples=200)
    assert all(math.isfinite(pieced[key].low) and pieced[key].value == whole[key].value for key in whole)


def test_group_seen_in_one_cluster_has_no_interval_and_others_have():
    intervals = clustered_means([1, 0, 1], ["a", "b", "a"], [0, 0, 8])
    assert (intervals[0].value, intervals[0].n, intervals[0].low, intervals[0].high) == (0.5, 2, 0.0, 1.0)
    assert (intervals[8].value, intervals[8].n) == (1.0, 1) and math.isnan(intervals[8].low)


def test_slope_on_three_points_by_hand():
    # x 0 1 2, y 0 0 1: mean x 1, mean y 1/3; sum (x - 1)(y - 1/3) = 1/3 + 0 + 2/3 = 1; sum (x - 1)^2 = 2; slope 1/2
    interval = clustered_slope([0, 1, 2], [0, 0, 1], ["a", "b", "c"])
    assert interval.value == pytest.approx(0.5) and interval.n == 3


def test_slope_without_spread_is_nan_and_far_from_zero_keeps_its_digits():
    assert math.isnan(clustered_slope([2, 2, 2], [0, 1, 0], [1, 2, 3]).value)
    assert clustered_slope([1e6, 1e6 + 1, 1e6 + 2], [0, 0, 1], [1, 2, 3]).value == pytest.approx(0.5)


def test_slope_interval_finds_a_trend_and_not_its_absence():
    rng = np.random.default_rng(8)
    x, clusters = np.tile(np.arange(20), 40), np.repeat(np.arange(40), 20)
    rising, flat = rng.random(800) < 0.1 + 0.03 * x, rng.random(800) < 0.4
    trend, none = clustered_slope(x, rising, clusters), clustered_slope(x, flat, clusters)
    assert 0.02 < trend.low < 0.03 < trend.high < 0.04
    assert none.low < 0 < none.high


def test_difference_by_hand():
    # later: 1 1 0 -> 2/3, earlier: 0 1 -> 1/2
    interval = clustered_difference([1, 1, 0, 0, 1], [True, True, True, False, False], [1, 2, 3, 1, 2])
    assert interval.value == pytest.approx(2 / 3 - 1 / 2) and interval.n == 5
    assert math.isnan(clustered_difference([1, 0], [True, True], [1, 2]).value)


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
