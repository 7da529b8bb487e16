"""Intervals of shares of rows that come in clusters (lines of conversations): Wilson's, at the effective sample size.

The jackknife fails at the edge: where no line contradicts, the value without any cluster is 1 and the interval [1, 1],
and shares near 0 or 1 are covered too seldom. Here every share p of n rows in C clusters has Wilson's score interval
with n replaced by

    n_eff = n / deff · (t[n - 1] / t[C - 1])²        deff = 1 + (m - 1) icc        m = sum of (rows of a cluster)² / n

t[d] is the quantile of Student's t with d degrees of freedom: with few clusters their variance is itself uncertain.

icc is the intraclass correlation. Its estimate is the one that explains the variance of p between clusters (the
linearised variance of a ratio, with C / (C - 1)), kept within [0, 1], so that n_eff never exceeds n. The rarer outcome
may occur in few clusters or none, and the estimate then says little: icc is the mean of the estimate, weighted by the
number of clusters where the rarer outcome occurs, and of ICC, weighted by ICC_CLUSTERS. The interval contains p, lies
in [0, 1] and has a width above 0. With rows in fewer than two clusters there is none (NaN).

Sources: E. B. Wilson, JASA 22, 1927 (the interval); L. Kish, "Survey Sampling", 1965 (the design effect); E. L. Korn
and B. I. Graubard, Survey Methodology 24, 1998 (bounds at the effective sample size, at most n, with the quantiles of
t); N. Dean and M. Pagano,
Journal of Survey Statistics and Methodology 3, 2015 (Wilson's interval with it covers well). The weight on ICC is the
lab's own.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from metrics.stats.intervals import NOTHING, Interval, checked_rows, ratio

ICC = 0.1  # assumed where few clusters tell; lines of played conversations have 0.03 to 0.09
ICC_CLUSTERS = 5  # clusters that the assumption weighs as much as


def clustered_share(values, clusters, *, confidence: float = 0.95) -> Interval:
    """The share of rows whose value is 1, 0 to 1, with its interval; NaN and n = 0 without rows.

    Raises ValueError where `values` and `clusters` differ in length, where a value is neither 0 nor 1 (unscored rows
    have to be left out), and where `confidence` is not between 0 and 1; so does `clustered_shares`.
    """
    shares = clustered_shares(values, clusters, np.zeros(len(values), int), confidence=confidence)
    return shares[0] if shares else NOTHING


def clustered_shares(values, clusters, groups, *, confidence: float = 0.95) -> dict[int, Interval]:
    """The share within each group (for example, a turn), by group."""
    y, codes, _ = checked_rows(values, clusters)
    if not np.isin(y, (0, 1)).all():
        raise ValueError(f"value {y[~np.isin(y, (0, 1))][0]}: expected 0 or 1")
    keys, columns = np.unique(np.asarray(groups), return_inverse=True)
    cells, cell = np.unique(codes * max(len(keys), 1) + columns, return_inverse=True)  # of a cluster and a group
    hits, rows = np.bincount(cell, y), np.bincount(cell).astype(float)
    intervals = _intervals(hits, rows, cells % max(len(keys), 1), len(keys), confidence)
    return dict(zip(keys.tolist(), intervals, strict=True))


def share_of_counts(hits, rows, *, confidence: float = 0.95) -> Interval:
    """The share sum(hits) / sum(rows) with its interval, from the counts (C,) of each cluster; n counts the rows."""
    rows = np.asarray(rows, float)
    hits, rows = np.asarray(hits, float)[rows > 0], rows[rows > 0]
    return _intervals(hits, rows, np.zeros(len(rows), int), 1, confidence)[0]


def _intervals(hits: np.ndarray, rows: np.ndarray, group: np.ndarray, groups: int, confidence: float) -> list[Interval]:
    """One interval per group of cells; `hits` and `rows` (cells,) are the counts of one cluster in one group."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence}: expected a number between 0 and 1")

    def total(values: np.ndarray) -> np.ndarray:  # (cells,) -> (groups,)
        return np.bincount(group, values, groups)

    n, clusters = total(rows), np.bincount(group, minlength=groups)
    p, size = ratio(total(hits), n), ratio(total(rows**2), n)
    spread = ratio(total((hits - p[group] * rows) ** 2) * clusters, n**2 * (clusters - 1.0))  # variance of p
    estimate = np.nan_to_num(ratio(ratio(spread * n, p * (1 - p)) - 1, size - 1)).clip(0, 1)
    rare = np.where((2 * total(hits) > n)[group], rows - hits, hits)
    telling = total(rare > 0)
    icc = (ICC_CLUSTERS * ICC + telling * estimate) / (ICC_CLUSTERS + telling)
    with np.errstate(divide="ignore", invalid="ignore"):
        few = stats.t.ppf((1 + confidence) / 2, n - 1) / stats.t.ppf((1 + confidence) / 2, clusters - 1.0)
        low, high = _wilson(p, few**2 * n / (1 + (size - 1) * icc), confidence)
    return [
        Interval(float(p[g]), float(low[g]), float(high[g]), int(n[g]), int(clusters[g]))
        if clusters[g] > 1
        else Interval(float(p[g]), np.nan, np.nan, int(n[g]))
        for g in range(groups)
    ]


def _wilson(p: np.ndarray, n: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's score interval of shares p of n rows; n need not be whole."""
    z = stats.norm.ppf((1 + confidence) / 2)
    centre, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    return np.minimum((centre - half) / scale, p).clip(0, 1), np.maximum((centre + half) / scale, p).clip(0, 1)
