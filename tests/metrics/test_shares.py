"""Intervals of shares at the edge: against hand arithmetic, scipy and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from metrics.stats.shares import ICC, ICC_CLUSTERS, clustered_share, clustered_shares, share_of_counts
from scenarios.records import derive_seed


def test_all_rows_agree_and_the_interval_has_the_width_of_wilson_at_the_effective_sample_size_by_hand():
    # 4 conversations of 3 lines, no contradiction: deff = 1 + (3 - 1) * 0.1 = 1.2, n_eff = 12 / 1.2 (t11 / t3)²
    interval = clustered_share(np.ones(12), np.repeat(np.arange(4), 3))
    z2 = 1.959964**2
    assert (interval.value, interval.high, interval.n) == (1.0, 1.0, 12)
    n = 10 * (2.200985 / 3.182446) ** 2
    assert interval.low == pytest.approx(n / (n + z2), abs=1e-6)  # Wilson at p = 1: n / (n + z²)
    none = clustered_share(np.zeros(12), np.repeat(np.arange(4), 3))
    assert (none.value, none.low) == (0.0, 0.0) and none.high == pytest.approx(1 - interval.low)


def test_clusters_of_one_row_have_scipys_wilson_interval():
    values = np.arange(50) < 45
    wilson = stats.binomtest(45, 50).proportion_ci(method="wilson")
    interval = clustered_share(values, np.arange(50))
    assert (interval.low, interval.high) == pytest.approx((wilson.low, wilson.high))


def test_design_effect_of_two_unlike_clusters_by_hand():
    # hits 4 of 4 and 0 of 4: p = 1/2, variance 2/1 * (2² + 2²) / 8² = 1/4, binomial 1/32, deff 8, estimate (8 - 1) / 3
    # kept at 1; the rarer outcome (equal shares: the hits) is in one cluster: icc = (5 * 0.1 + 1) / 6 = 1/4,
    # deff = 1 + 3/4, n_eff = 8 / 1.75 (t7 / t1)²
    icc = (ICC_CLUSTERS * ICC + 1) / (ICC_CLUSTERS + 1)
    assert icc == pytest.approx(0.25)
    n, z2 = 8 / 1.75 * (2.364624 / 12.706205) ** 2, 1.959964**2
    half = math.sqrt(z2 / (4 * n) + z2**2 / (4 * n**2)) / (1 + z2 / n)
    interval = share_of_counts([4, 0], [4, 4])
    assert (interval.low, interval.high) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)


def test_many_clusters_that_differ_make_the_interval_as_wide_as_the_number_of_clusters_allows():
    # 400 conversations, in each of which all ten lines agree: little more is known than from 400 lines
    hits = np.where(np.arange(400) < 300, 10.0, 0.0)
    interval, alone = share_of_counts(hits, np.full(400, 10)), share_of_counts(hits / 10, np.ones(400))
    assert interval.value == alone.value == 0.75
    assert interval.high - interval.low == pytest.approx(alone.high - alone.low, rel=0.05)


@pytest.mark.parametrize(
    ("share", "conversations", "lines", "icc"),
    [(0.97, 6, 10, 0.1), (0.99, 6, 20, 0.05), (0.9, 6, 20, 0.1), (0.97, 20, 10, 0.1), (0.97, 40, 10, 0.3)],
)
def test_interval_covers_the_share_nearly_as_often_as_it_says(share, conversations, lines, icc):
    rng = np.random.default_rng(derive_seed(3, "coverage", share, conversations, icc))
    spread = 1 / icc - 1  # of the beta distribution whose binomials have this intraclass correlation
    covered = 0
    for _ in range(600):
        hits = rng.binomial(lines, rng.beta(share * spread, (1 - share) * spread, conversations))
        interval = share_of_counts(hits, np.full(conversations, lines))
        covered += interval.low <= share <= interval.high
    assert covered / 600 >= 0.90


def test_nothing_scored_is_nan_and_one_conversation_has_a_value_and_no_interval():
    for empty in (clustered_share([], []), share_of_counts([], []), share_of_counts([0], [0])):
        assert empty.n == 0 and all(math.isnan(value) for value in (empty.value, empty.low, empty.high))
    alone = clustered_share([1, 1, 1], [7, 7, 7])
    assert (alone.value, alone.n) == (1.0, 3) and math.isnan(alone.low) and math.isnan(alone.high)
    assert clustered_shares([], [], []) == {}


def test_shares_by_group_are_those_of_each_group_alone_and_hold_their_value():
    rng = np.random.default_rng(4)
    values, clusters, groups = rng.random(300) < 0.9, rng.integers(7, size=300), rng.integers(9, size=300)
    by_group = clustered_shares(values, clusters, groups, confidence=0.8)
    assert sorted(by_group) == list(range(9))
    for group, interval in by_group.items():
        here = groups == group
        assert interval == clustered_share(values[here], clusters[here], confidence=0.8)
        assert 0 <= interval.low <= interval.value <= interval.high <= 1 and interval.low < interval.high


def test_what_is_no_share_is_refused():
    with pytest.raises(ValueError, match=r"value 0\.5: expected 0 or 1"):
        clustered_share([1, 0.5], [1, 2])
    with pytest.raises(ValueError, match="expected one cluster a value"):
        clustered_share([1, 0], [1])
    with pytest.raises(ValueError, match=r"confidence 95"):
        clustered_share([1, 0], [1, 2], confidence=95)
