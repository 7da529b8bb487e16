"""Activation drift of hand-written projections."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from metric_frames import HOW, judgements_frame, only_row
from scipy import stats

from metrics.activation import COLUMNS, activation_rows, rank_correlation

KNOWN = pl.DataFrame(
    [
        {"conversation": c, "turn": turn, "seat": "user", "value": value}
        for c, values in enumerate([(1.0, 0.5, 0.0), (0.8, 0.7, 0.6)])
        for turn, value in zip((0, 2, 4), values, strict=True)
    ],
    schema=COLUMNS,
)


def rows(*verdicts):
    return judgements_frame(
        [
            (c, turn, "prompt_to_line", "persona", verdict)
            for c, by_line in enumerate(verdicts)
            for turn, verdict in zip((0, 2, 4), by_line, strict=True)
        ]
    )


def test_drift_by_turn_and_slope_by_hand():
    # drift 0 .5 1 and .2 .3 .4: by turn .1 .4 .7; slopes .25 and .05 a turn, .15 ± 12.706 * .1
    metrics = activation_rows(KNOWN, rows((False, False, True), (False, False, False)), **HOW)
    assert [
        only_row(metrics, "activation_drift", "turn", turn=t, seat="user")["value"] for t in (0, 2, 4)
    ] == pytest.approx([0.1, 0.4, 0.7])
    slope = only_row(metrics, "activation_drift_slope", seat="user")
    assert slope["value"] == pytest.approx(0.15)
    assert (slope["low"], slope["high"]) == pytest.approx((0.15 - 1.27062, 0.15 + 1.27062), abs=1e-4)
    assert only_row(metrics, "activation_drift", "conversation", conversation=0, seat="user")["value"] == pytest.approx(
        0.5
    )


def test_correlation_with_what_the_judge_says_is_spearmans():
    judged = rows((False, False, True), (False, False, None))
    row = only_row(activation_rows(KNOWN, judged, **HOW), "activation_correlation", seat="user")
    # five lines with both: drift 0 .5 1 .2 .3 against 0 0 1 0 0
    assert row["value"] == pytest.approx(stats.spearmanr([0, 0.5, 1, 0.2, 0.3], [0, 0, 1, 0, 0]).statistic)
    assert row["n"] == 5 and row["judge"] == "ledger"


def test_nothing_watched_is_nan_and_n_0_never_no_drift():
    metrics = activation_rows(None, rows((False, False, True)), **HOW)
    runs = metrics.filter(pl.col("level") == "run")
    assert set(runs["n"]) == {0} and runs["value"].is_nan().all() and len(runs) == 8


def test_rank_correlation_leaves_out_whole_conversations_and_ranks_anew():
    rng = np.random.default_rng(2)
    clusters = np.repeat(np.arange(6), 5)
    x, y = rng.integers(0, 4, 30).astype(float), rng.integers(0, 3, 30).astype(float)
    interval = rank_correlation(x, y, clusters, confidence=0.9)
    value = stats.spearmanr(x, y).statistic
    without = np.array([stats.spearmanr(x[clusters != c], y[clusters != c]).statistic for c in range(6)])
    half = stats.t.ppf(0.95, 5) * math.sqrt(5 / 6 * ((without - without.mean()) ** 2).sum())
    # Fisher's z, whose derivative is 1 / (1 - r²)
    low, high = (math.tanh(math.atanh(value) + sign * half / (1 - value**2)) for sign in (-1, 1))
    assert interval.value == pytest.approx(value)
    assert (interval.low, interval.high) == pytest.approx((low, high))


def test_rank_correlation_of_what_does_not_vary_is_nan():
    interval = rank_correlation([1, 2, 3], [5, 5, 5], [0, 0, 1], confidence=0.9)
    assert math.isnan(interval.value) and interval.n == 3
    assert rank_correlation([], [], [], confidence=0.9).n == 0
