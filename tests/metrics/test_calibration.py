"""What judges are worth beside labels, against hand arithmetic and scipy."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from event_streams import row as judged_row
from scipy import stats

from metrics.stats import intervals
from metrics.stats.intervals import clustered_mean, clustered_rows
from metrics.validation import calibration
from metrics.validation.agreement import agreement

ONCE = np.ones((1, 4))


def test_auroc_by_hand_counts_a_tie_as_half():
    # positives .9 .4, negatives .4 .1: .9 beats both, .4 ties one and beats one: (1 + 1 + .5 + 1) / 4
    assert calibration.auroc([0.9, 0.4, 0.4, 0.1], [True, True, False, False], ONCE) == pytest.approx([3.5 / 4])
    assert calibration.auroc([0.2] * 4, [True, True, False, False], ONCE) == pytest.approx([0.5])
    assert np.isnan(calibration.auroc([0.2, 0.3, 0.4, 0.5], [True] * 4, ONCE)).all()


def test_auroc_equals_scipys_mann_whitney_whatever_the_weights():
    rng = np.random.default_rng(1)
    p, labels = rng.integers(12, size=80) / 12, rng.random(80) < 0.3
    weights = rng.integers(4, size=(20, 80)).astype(float)
    for row, area in zip(weights.astype(int), calibration.auroc(p, labels, weights), strict=True):
        repeated, truth = np.repeat(p, row), np.repeat(labels, row)
        u = stats.mannwhitneyu(repeated[truth], repeated[~truth]).statistic
        assert area == pytest.approx(u / (truth.sum() * (~truth).sum()))


def test_precision_recall_and_kappa_by_hand():
    # said T T T F F, true T T F T F: tp 2, fp 1, fn 1
    said, true = np.array([True, True, True, False, False]), np.array([True, True, False, True, False])
    statistics = calibration.calibration(said.astype(float), said, ~true, [1, 2, 1, 2, 1])
    assert (statistics["precision"].value, statistics["recall"].value) == pytest.approx((1 / 3, 1 / 2))
    # said T T T F F, true T T F T F, the last row twice: tp 2, fp 1, fn 1, tn 2 of 6
    said, true = [True, True, True, False, False], [True, True, False, True, False]
    weights = np.array([[1.0, 1, 1, 1, 2]])
    # agreed 4/6, chance 3/6 * 3/6 + 3/6 * 3/6 = 1/2: (2/3 - 1/2) / (1/2)
    assert calibration.kappa(said, true, weights) == pytest.approx([1 / 3])
    assert np.isnan(calibration.kappa([True] * 4, [True] * 4, ONCE)).all()
    assert calibration.kappa([True] * 4, [True, True, False, False], ONCE) == pytest.approx([0.0])


def test_calibration_error_by_hand():
    # bins {.1, .2} with labels F F, {.7, .8} with T F: |.15 - 0| / 2 + |.75 - .5| / 2
    error = calibration.expected_calibration_error([0.2, 0.8, 0.1, 0.7], [False, True, False, False], ONCE, bins=2)
    assert error == pytest.approx([0.15 / 2 + 0.25 / 2])


def test_bins_hold_equally_many_and_equal_p_share_one():
    assert np.bincount(calibration.equal_mass(np.random.default_rng(0).random(100))).tolist() == [10] * 10
    assert calibration.equal_mass([0.0, 1.0, 0.0, 0.0], bins=2).tolist() == [0, 1, 0, 0]
    # a judge that says 0 or 1 has two bins and no noise of arbitrary cuts: |0 - 1/3| 3/4 + |1 - 1| 1/4
    assert calibration.expected_calibration_error(
        [0.0, 1.0, 0.0, 0.0], [True, True, False, False], ONCE
    ) == pytest.approx([1 / 4])


def test_reliability_gives_mean_p_and_share_by_bin():
    (low, no), (high, yes) = calibration.reliability_bins(
        [0.1, 0.2, 0.7, 0.9], [False, False, True, False], [1, 2, 1, 2], bins=2
    )
    assert (low, high) == pytest.approx((0.15, 0.8)) and (no.value, yes.value) == (0.0, 0.5) and yes.n == 2


def test_calibration_gives_every_statistic_an_interval_and_n():
    rng = np.random.default_rng(2)
    labels, clusters = rng.random(300) < 0.3, np.repeat(np.arange(30), 10)
    p = np.clip(0.3 + 0.3 * labels + 0.2 * rng.normal(size=300), 0, 1)
    statistics = calibration.calibration(p, p > 0.5, labels, clusters)
    assert list(statistics) == ["auroc", "precision", "recall", "kappa", "ece"]
    for name, interval in statistics.items():
        assert interval.n == 300 and interval.low < interval.high, name
        assert name == "ece" or interval.low < interval.value < interval.high, name


def test_calibration_of_nothing_is_nan_and_n_0():
    assert all(
        math.isnan(interval.value) and interval.n == 0 for interval in calibration.calibration([], [], [], []).values()
    )
    with pytest.raises(ValueError, match="2 probabilities, 1 verdicts"):
        calibration.calibration([0.1, 0.2], [True], [True, False], [1, 2])


def test_interval_by_rows_equals_interval_by_sums(monkeypatch):
    rng = np.random.default_rng(3)
    y, clusters = rng.normal(size=90), rng.integers(9, size=90)

    def mean(weights):
        return weights @ y / weights.sum(1)

    by_sums, by_rows = clustered_mean(y, clusters), clustered_rows(clusters, mean)
    assert (by_rows.value, by_rows.low, by_rows.high, by_rows.n) == pytest.approx(
        (by_sums.value, by_sums.low, by_sums.high, 90)
    )
    # a few clusters at a time
    monkeypatch.setattr(intervals, "CELLS", 300)
    assert clustered_rows(clusters, mean) == by_rows


def agreed(*verdicts: tuple[str, int, bool | None]) -> pl.DataFrame:
    """Prompt-to-line judgements of (judge, turn, verdict) in two conversations that are alike."""
    rows = [judged_row(c, turn, verdict, judge=judge) for c in (0, 1) for judge, turn, verdict in verdicts]
    return pl.DataFrame(
        [{"run_id": "r", **row} for row in rows], schema_overrides={"verdict": pl.Boolean}, infer_schema_length=None
    )


def test_judges_agree_over_what_both_scored_by_hand():
    # a: T F T F ?, b: T F F F T at turns 1 3 5 7 9; both scored four: 3 the same. said .5, true .25: chance .125 + .375
    # = .5
    judges = [
        ("a", 1, True),
        ("a", 3, False),
        ("a", 5, True),
        ("a", 7, False),
        ("a", 9, None),
        ("b", 1, True),
        ("b", 3, False),
        ("b", 5, False),
        ("b", 7, False),
        ("b", 9, True),
    ]
    (row,) = agreement(agreed(*judges), confidence=0.95).iter_rows(named=True)
    assert (row["metric"], row["first"], row["second"], row["n"]) == ("prompt_to_line", "a", "b", 8)
    assert row["agreed"] == pytest.approx(0.75) and row["kappa"] == pytest.approx((0.75 - 0.5) / 0.5)
    assert row["low"] == row["high"] == pytest.approx(0.5)  # both conversations are alike


def test_one_judge_agrees_with_nobody():
    assert agreement(agreed(("a", 1, True)), confidence=0.95).is_empty()
    assert agreement(agreed(("a", 1, True), ("b", 3, True)), confidence=0.95).is_empty()
