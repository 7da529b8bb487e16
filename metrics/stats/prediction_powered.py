"""The mean of what people would say, or its slope over the turns, from a judge's values for all rows and labels of
people for some of them.

    estimate = mean of the labels + λ (the judge's mean over all rows - the judge's mean over the labelled rows)

It is unbiased for any judge and any fixed λ where the labelled rows are a random sample. λ = 0 is the mean of the
labels alone, λ = 1 plain prediction-powered inference. λ is chosen from the data so that the variance is least (power
tuning), which makes the interval, in large samples, no wider than that of either.

It differs from the sources, and from the library `ppi_py`, in two ways. Rows come in clusters (lines of conversations):
λ = -Σ a b / Σ b², kept within [0, 1], where a and b are each cluster's part of the deviation of the labels' mean and of
the term in brackets, and it is chosen anew without each cluster. And the judge's mean over all rows includes the
labelled ones, so that the same estimate has another λ: theirs times all rows / unlabelled rows. Where each row is a
cluster and the judge's values vary as much among labelled as among unlabelled rows, both choose the same estimate.

A slope within clusters is a ratio of sums as well, Σ Sxy / Σ Sxx with the sums of products of each cluster, so the same
estimate holds with Sxy in place of the sums of values and Sxx in place of the numbers of rows. It needs no assumption
that the judge misses as much late in a dialogue as early.

Sources: Angelopoulos et al., "Prediction-powered inference", Science 382, 2023, for the mean; Angelopoulos, Duchi and
Zrnic, "PPI++", arXiv 2311.01453, 2023, for λ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from metrics.stats.intervals import Interval, checked_rows, clustered_statistic, ratio

SAME = 1e-12  # a variance below it, beside the judge's own, is rounding
COUNTS = 5  # columns before their products: labels, labelled rows, and the judge's values of these, of all rows; rows


def prediction_powered_mean(judged, truth, clusters, *, confidence: float = 0.95) -> Interval:
    """The estimate with its interval over clusters; n counts the rows with known truth.

    `judged` is (N,); `truth` is (N,), NaN where it is not known. Without any known truth the value is NaN; where all
    are in one cluster, there is no interval. The estimate may lie outside the range of its parts. Raises ValueError
    where the lengths differ, and as `clustered_mean`.
    """
    judged, truth, codes = _checked(judged, truth, clusters)
    return _estimate(moments(judged, truth, codes), truth, codes, confidence)


def prediction_powered_slope(x, judged, truth, clusters, *, confidence: float = 0.95) -> Interval:
    """The least squares slope on `x`, (N,), within clusters, per unit of `x`; otherwise as `prediction_powered_mean`.

    The labelled rows count where their cluster has labels at two values of `x` at least.
    """
    judged, truth, codes = _checked(judged, truth, clusters)
    x, _, _ = checked_rows(x, clusters)
    known = np.isfinite(truth)
    of_known, of_all = _centred(x, codes, known), _centred(x, codes, np.ones_like(known))
    labels = np.where(known, truth, 0.0)
    columns = (of_known * labels, of_known**2, of_known * judged, of_all * judged, of_all**2)
    return _estimate(_with_products(columns, codes), truth, codes, confidence)


def _checked(judged, truth, clusters) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    judged, codes, _ = checked_rows(judged, clusters)
    truth = np.asarray(truth, float)
    if len(truth) != len(judged):
        raise ValueError(
            f"{len(judged)} judged rows but {len(truth)} truths: expected one a row, NaN where it is not known"
        )
    return judged, truth, codes


def _estimate(sums: np.ndarray, truth: np.ndarray, codes: np.ndarray, confidence: float) -> Interval:
    known = np.isfinite(truth)
    interval = clustered_statistic(sums, tuned_mean, n=int(known.sum()), confidence=confidence)
    return interval if np.unique(codes[known]).size > 1 else replace(interval, low=np.nan, high=np.nan)


def _centred(x: np.ndarray, codes: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """x minus its mean over these rows of its cluster; 0 in other rows."""
    counts = np.bincount(codes, rows)
    means = np.bincount(codes, x * rows) / np.where(counts > 0, counts, 1)
    return np.where(rows, x - means[codes], 0.0)


def moments(judged: np.ndarray, truth: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The sums of each cluster and their products, (C, COUNTS + COUNTS²), of rows (N,); `codes` are 0 to C - 1."""
    known = np.isfinite(truth)
    judged = judged - (judged.mean() if len(judged) else 0.0)  # changes nothing but rounding
    columns = (np.where(known, truth, 0.0), known, np.where(known, judged, 0.0), judged, np.ones_like(judged))
    return _with_products(columns, codes)


def _with_products(columns: Sequence[np.ndarray], codes: np.ndarray) -> np.ndarray:
    sums = np.stack([np.bincount(codes, column) for column in columns], axis=1)
    return np.hstack([sums, (sums[:, :, None] * sums[:, None, :]).reshape(len(sums), COUNTS**2)])


def tuned_mean(sums: np.ndarray) -> np.ndarray:
    """The estimate with its λ from summed columns and products, (R, COUNTS + COUNTS²) -> (R, 1)."""
    labels, known, judged_known, judged, rows = sums[:, :COUNTS].T
    mean, gain = ratio(labels, known), ratio(judged, rows) - ratio(judged_known, known)
    return (mean + tuning(sums) * gain)[:, None]


def tuning(sums: np.ndarray) -> np.ndarray:
    """λ of least variance, 0 to 1, from summed columns and products, (R, COUNTS + COUNTS²) -> (R,).

    It is 0 where the judge adds nothing: where all rows are labelled, or all its values are equal.
    """
    labels, known, judged_known, judged, rows = sums[:, :COUNTS].T
    products = sums[:, COUNTS:].reshape(-1, COUNTS, COUNTS)
    zero, per_known, per_row = np.zeros_like(known), ratio(np.ones_like(known), known), ratio(np.ones_like(rows), rows)
    # a cluster's part of both deviations as weights of its columns, (R, COUNTS)
    a = np.stack([per_known, -labels * per_known**2, zero, zero, zero], axis=1)
    b = np.stack([zero, judged_known * per_known**2, -per_known, per_row, -judged * per_row**2], axis=1)
    scale = SAME * products[:, 3, 3] * per_row**2
    covariance, variance = (np.einsum("ri,rij,rj->r", left, products, b) for left in (a, b))
    return np.nan_to_num(ratio(-covariance, np.where(variance > scale, variance, 0.0))).clip(0, 1)
