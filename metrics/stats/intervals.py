"""Intervals of statistics of clustered rows (lines of conversations), by leaving out one cluster at a time.

Clusters are the units, never lines, since a line resembles its neighbours. Every statistic is a function of sums over
rows, so that a cluster is reduced to its sums once. With C clusters, the value θ, and θ(c) without cluster c:

    se² = (C - 1) / C · Σ (θ(c) - mean of θ(c))²        interval = θ ± t[C - 1] se

which is the jackknife with Student's t. For a mean over clusters of equal size it is the t interval; for a least
squares slope it is the cluster-robust CV3 interval. Nothing is drawn at random. Where the statistic has a range,
`within` gives it, and the interval is computed on the scale that has none (log for ratios, logit for shares), by the
delta method.

Where all clusters agree, low = high = value, which is no certainty: shares are therefore left to
`metrics.stats.shares`, and slopes of 0s and 1s have a floor (`clustered_slope`). With fewer than two clusters, or where
the statistic is undefined without one of them, low and high are NaN.

Sources: B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 11 (the jackknife); J. MacKinnon,
M. Nielsen and M. Webb, Journal of Applied Econometrics 38, 2023 (CV3 and t with C - 1 degrees of freedom cover well
with few clusters, where percentile intervals of a bootstrap are too narrow). `lab.selftests.coverage` measures the
coverage here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
from scipy import stats

CELLS = 1 << 22  # most weights held at once (32 MiB)
COLUMNS = 1 << 11  # most groups at once
FEW = 5  # conversations with the rarer outcome, below which a slope of 0s and 1s has a floor


SAME = 1e-12  # a standard error below it, beside the value, is rounding


@dataclass(frozen=True)
class Interval:
    """A value with its interval, and the number of rows behind it; without rows, NaN and n = 0."""

    value: float
    low: float
    high: float
    n: int
    units: int = field(default=0, compare=False)  # clusters behind the interval; 0 where there is none
    error: float = field(default=math.nan, compare=False)  # standard error, where the interval has one

    @property
    def p(self) -> float:
        """Two-sided p of the value 0, by Student's t; NaN without interval or spread."""
        return float(2 * stats.t.sf(abs(self.value) / self.error, self.units - 1)) if self.error > 0 else math.nan


def plain(interval: Interval) -> dict[str, float | int]:
    """The value, its interval and n, as stored in results."""
    return {name: getattr(interval, name) for name in ("value", "low", "high", "n")}


NOTHING = Interval(math.nan, math.nan, math.nan, 0)


def clustered_mean(values, clusters, *, confidence: float = 0.95) -> Interval:
    """The mean over all values (not over clusters), with its interval over clusters.

    Raises ValueError where `values` and `clusters` differ in length, where a value is not finite (unscored rows have to
    be left out), and where `confidence` is not between 0 and 1; so do the other functions for rows.
    """
    means = clustered_means(values, clusters, np.zeros(len(values), int), confidence=confidence)
    return means[0] if means else NOTHING


def clustered_means(values, clusters, groups, *, confidence: float = 0.95) -> dict[int, Interval]:
    """The mean within each group (for example, a turn), by group."""
    y, codes, _ = checked_rows(values, clusters)
    keys, columns = np.unique(np.asarray(groups), return_inverse=True)
    wide = 1 + codes.max(initial=-1)
    intervals: list[Interval] = []
    for start in range(0, len(keys), COLUMNS):
        size = min(COLUMNS, len(keys) - start)
        here = (columns >= start) & (columns < start + size)
        cell = codes[here] * size + columns[here] - start
        total = np.bincount(cell, y[here], wide * size).reshape(wide, size)
        count = np.bincount(cell, minlength=wide * size).reshape(wide, size)
        intervals += _intervals(
            np.hstack([total, count]),
            lambda sums, size=size: ratio(sums[:, :size], sums[:, size:]),
            n=count.sum(0),
            member=count > 0,
            confidence=confidence,
        )
    return dict(zip(keys.tolist(), intervals, strict=True))


def clustered_slope(x, y, clusters, *, centred=None, confidence: float = 0.95) -> Interval:
    """The least squares slope of y on x within clusters, in y per unit of x:

        Σ over clusters of Sxy / Σ over clusters of Sxx, with x and y centred in each cluster

    so that clusters that differ in level or in length have no part in it (the regression with an intercept for each
    cluster). Clusters in which x is constant are left out, and n counts the rows of the others; NaN without any.
    `centred` (N,) names smaller groups in which x and y are centred instead, such as the conversations of a person.

    Where all y are 0 or 1 and the rarer of the two occurs in fewer than FEW clusters, the standard error is at least
    sqrt(q (1 - q) / ΣSxx), with q = (k + 2) / (n + 4) for k of n rows (A. Agresti and B. Coull, The American
    Statistician 52, 1998): what the clusters say of the spread is then too little, or nothing.
    """
    y, codes, names = checked_rows(y, clusters)
    sums = _centred_sums(x, y, codes, codes if centred is None else np.unique(centred, return_inverse=True)[1])
    varies = sums[:, 1] > 0
    rows = varies[codes] if len(names) else np.zeros(0, bool)
    floor = _binary_floor(y[rows], codes[rows], sums[varies, 1].sum())
    return clustered_statistic(
        sums[varies], slope_statistic, n=int(rows.sum()), confidence=confidence, least_error=floor
    )


def _binary_floor(y: np.ndarray, codes: np.ndarray, spread: float) -> float:
    if not len(y) or not np.isin(y, (0, 1)).all():
        return 0.0
    k, n = y.sum(), len(y)
    if len(np.unique(codes[y == (0 if 2 * k > n else 1)])) >= FEW:
        return 0.0
    q = (k + 2) / (n + 4)
    return math.sqrt(q * (1 - q) / spread)


def clustered_statistic(
    sums: np.ndarray | Sequence[Sequence[float]],
    statistic: Callable[[np.ndarray], np.ndarray],
    *,
    n: int,
    confidence: float = 0.95,
    within: tuple[float, float] | None = None,
    least_error: float = 0.0,
) -> Interval:
    """The interval of any smooth statistic of summed columns.

    `sums` (clusters, K) has one row of sums per cluster. `statistic` maps totals over clusters (R, K) to (R, 1), NaN
    where it is undefined. `n` is reported unchanged. `within` is the open range of the statistic, (0, inf) or finite;
    at its ends the interval is that of no range. The standard error is at least `least_error`.
    """
    sums = np.asarray(sums, float)
    if not len(sums):
        return NOTHING
    member = np.ones((len(sums), 1), bool)
    return _intervals(
        sums,
        statistic,
        n=np.array([n]),
        member=member,
        confidence=confidence,
        within=within,
        least_error=least_error,
    )[0]


def complement(interval: Interval) -> Interval:
    """1 - the value, with the interval turned round: what is removed, where the value is what is left."""
    return replace(interval, value=1 - interval.value, low=1 - interval.high, high=1 - interval.low, error=math.nan)


def slope_sums(x, y, clusters) -> tuple[np.ndarray, np.ndarray]:
    """The clusters (C,), and their sums for `slope_statistic`, (C, 2): Sxy and Sxx, with x and y centred in each
    cluster; Sxx is 0 where x is constant there.
    """
    y, codes, names = checked_rows(y, clusters)
    return names, _centred_sums(x, y, codes, codes)


def _centred_sums(x, y: np.ndarray, codes: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Sxy and Sxx of each cluster, (C, 2), with x and y centred in each group."""
    if not len(codes):
        return np.zeros((0, 2))
    x, of_group, n = np.asarray(x, float), np.bincount(group), np.bincount(codes)
    x, y = (values - (np.bincount(group, values) / of_group)[group] for values in (x, y))
    sums = _by_cluster(codes, x * y, x * x)
    return np.where(sums[:, 1:] <= 1e-9 * np.maximum(1.0, n)[:, None], 0.0, sums)


def slope_statistic(sums: np.ndarray) -> np.ndarray:
    """The slope within clusters from sums of `slope_sums`, (R, 2) -> (R, 1)."""
    return ratio(sums[:, 0], sums[:, 1])[:, None]


def clustered_rows(
    clusters,
    statistic: Callable[[np.ndarray], np.ndarray],
    *,
    confidence: float = 0.95,
    within: tuple[float, float] | None = None,
) -> Interval:
    """The interval of any smooth statistic of weighted rows, for statistics that are no function of sums (ranks).

    `clusters` (N,) holds the cluster of each row. `statistic` maps weights (R, N), 1 for the rows that count and 0 for
    the others, to (R,), NaN where it is undefined. `within` is as in `clustered_statistic`.
    """
    names, codes = np.unique(np.asarray(clusters), return_inverse=True)
    if not len(codes):
        return NOTHING
    step = max(1, CELLS // len(codes))
    without = np.concatenate(
        [
            statistic((codes[None, :] != np.arange(start, min(start + step, len(names)))[:, None]).astype(float))
            for start in range(0, len(names), step)
        ]
    )
    value = statistic(np.ones((1, len(codes))))
    return _jackknife(
        value, without[:, None], np.ones((len(names), 1), bool), np.array([len(codes)]), confidence, within
    )[0]


def crossed_components(values) -> dict[tuple[int, ...], float]:
    """The variance components of a fully crossed design, by axes; each axis is a factor, and each cell has one value.

    For values (A, B), component (0,) is the variance between rows, (1,) that between columns, and (0, 1) the
    interaction together with the variance within a cell. All factors count as random. The components are computed from
    the mean squares of an analysis of variance: they are unbiased, and may therefore be below 0. NaN where a factor has
    only one level.
    """
    y = np.asarray(values, float)
    axes = range(y.ndim)
    subsets = [subset for size in range(y.ndim + 1) for subset in combinations(axes, size)]
    means = {subset: y.mean(tuple(axis for axis in axes if axis not in subset), keepdims=True) for subset in subsets}
    square = {}
    for subset in subsets[1:]:
        effect = np.asarray(
            sum((-1) ** (len(subset) - len(part)) * means[part] for part in subsets if set(part) <= set(subset))
        )
        freedom = math.prod(y.shape[axis] - 1 for axis in subset)
        square[subset] = y.size / effect.size * float((effect**2).sum()) / freedom if freedom else np.nan
    return {
        subset: sum(
            (-1) ** (len(whole) - len(subset)) * square[whole] for whole in subsets if set(subset) <= set(whole)
        )
        * math.prod(y.shape[axis] for axis in subset)
        / y.size
        for subset in subsets[1:]
    }


def crossed_interval(values, statistic: Callable[[np.ndarray], float], *, confidence: float = 0.95) -> Interval:
    """A statistic of values (A, B, ...), with a jackknife interval over rows and columns; n counts the rows.

    Rows and columns count as random, so that their jackknife variances add up. The interval uses Student's t with the
    degrees of freedom of the smaller number. It is slightly too wide where rows and columns interact, since that part
    is counted twice. NaN where the statistic is undefined without one row or column.
    """
    y = np.asarray(values, float)
    value, variance = statistic(y), 0.0
    for axis, count in enumerate(y.shape[:2]):
        left = (
            np.array([statistic(np.delete(y, place, axis)) for place in range(count)])
            if count > 1
            else np.array([np.nan])
        )
        variance += float(_variance(left[:, None], np.ones((count, 1), bool))[0])
    units = max(min(y.shape[:2]), 2)
    half = stats.t.ppf((1 + confidence) / 2, units - 1) * np.sqrt(variance)
    return Interval(float(value), float(value - half), float(value + half), len(y), units, math.sqrt(variance))


def checked_rows(values, clusters) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The values as floats, the clusters as codes 0..C-1, and the different clusters."""
    y, clusters = np.asarray(values, float), np.asarray(clusters)
    if len(y) != len(clusters):
        raise ValueError(f"{len(y)} values but {len(clusters)} clusters: expected one cluster a value")
    if not np.isfinite(y).all():
        raise ValueError(f"value {y[~np.isfinite(y)][0]}: expected finite values, leave out what was not scored")
    names, codes = np.unique(clusters, return_inverse=True)
    return y, codes, names


def _by_cluster(codes: np.ndarray, *columns: np.ndarray) -> np.ndarray:
    """Sums of each column by cluster, (C, K)."""
    return np.stack([np.bincount(codes, column) for column in columns], axis=1)


def ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """top / bottom, NaN where bottom is 0."""
    return np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=bottom != 0)


def _intervals(sums, statistic, *, n, member, confidence, within=None, least_error: float = 0.0) -> list[Interval]:
    """One interval for each of the statistic's M columns; `member` (C, M) says which clusters are behind each."""
    total = sums.sum(0, keepdims=True)
    step = max(1, CELLS // max(sums.shape[1], 1))
    without = np.concatenate([statistic(total - sums[start : start + step]) for start in range(0, len(sums), step)])
    return _jackknife(statistic(total)[0], without, member, n, confidence, within, least_error)


def _jackknife(value, without, member, n, confidence, within=None, least_error: float = 0.0) -> list[Interval]:
    """Intervals of M values (M,) from the values without each cluster (C, M); `member` as in `_intervals`."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence}: expected a number between 0 and 1")
    units = member.sum(0)
    error = np.maximum(np.sqrt(_variance(without, member)), least_error)
    error = np.where((units > 1) & np.isfinite(value), error, np.nan)
    error = np.where(error > SAME * np.maximum(1.0, np.abs(value)), error, 0.0 * error)  # rounding
    low, high = _on_scale(value, stats.t.ppf((1 + confidence) / 2, np.maximum(units - 1, 1)) * error, within)
    return [
        Interval(float(value[m]), float(low[m]), float(high[m]), int(n[m]))
        if np.isnan(error[m])
        else Interval(float(value[m]), float(low[m]), float(high[m]), int(n[m]), int(units[m]), float(error[m]))
        for m in range(len(value))
    ]


def _variance(without: np.ndarray, member: np.ndarray) -> np.ndarray:
    """The jackknife variances (M,) of the values without each cluster (C, M), of the clusters that are members."""
    units = member.sum(0)
    mean = ratio(np.where(member, without, 0.0).sum(0), units)
    return ratio((units - 1) * np.where(member, (without - mean) ** 2, 0.0).sum(0), units)


def _on_scale(value: np.ndarray, half: np.ndarray, within: tuple[float, float] | None) -> tuple[np.ndarray, np.ndarray]:
    """value ± half, computed on the log or logit scale where there is a range and the value lies inside it."""
    low, high = value - half, value + half
    if within is None:
        return low, high
    least, most = within
    inside = (value > least) & (value < most) & np.isfinite(half)
    up, down = np.where(inside, value - least, 1.0), np.where(inside, most - value, 1.0)
    if math.isinf(most):
        factor = np.exp(np.minimum(np.where(inside, half / up, 0.0), 700.0))
        scaled = least + up / factor, least + up * factor
    else:
        width = most - least
        odds, step = up / down, np.exp(np.minimum(np.where(inside, half * width / (up * down), 0.0), 700.0))
        scaled = tuple(least + width * o / (1 + o) for o in (odds / step, odds * step))
    return np.where(inside, scaled[0], np.clip(low, *within)), np.where(inside, scaled[1], np.clip(high, *within))
