"""Intervals by resampling whole conversations, and survival curves with censoring.

The bootstrap resamples conversations, never lines, since a line resembles its neighbours. It differs from the textbook
in one way: it never builds a resample. Every statistic here is a function of sums over rows, so that a conversation is
reduced to its sums once, and a resample is a row of multiplicities W: statistic(W @ sums). This equals
`scipy.stats.bootstrap(..., paired=True, method="percentile")` over conversations, and handles all turns of a run in one
matrix product.

Intervals are percentile intervals. Where all conversations agree, low = high = value: this is the known failure of the
bootstrap at a boundary and no certainty, and shares are therefore left to `metrics.stats.shares`. With fewer than two
conversations, low and high are NaN.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats

CELLS = 1 << 22  # most multiplicities held at once (32 MiB)
COLUMNS = 1 << 11  # most groups bootstrapped at once


@dataclass(frozen=True)
class Interval:
    """A value with its percentile interval and the number of rows behind it; without rows, NaN and n = 0."""

    value: float
    low: float
    high: float
    n: int


def clustered_mean(values, clusters, *, confidence: float = 0.95, resamples: int = 1000, seed: int = 0) -> Interval:
    """The mean over all values (not over clusters), with its interval by resampling clusters.

    Raises ValueError where `values` and `clusters` differ in length, where a value is not finite (unscored rows have to
    be left out), and where `confidence` is not between 0 and 1; so do the other functions for rows.
    """
    means = clustered_means(
        values, clusters, np.zeros(len(values), int), confidence=confidence, resamples=resamples, seed=seed
    )
    return means[0] if means else Interval(np.nan, np.nan, np.nan, 0)


def clustered_means(
    values, clusters, groups, *, confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> dict[int, Interval]:
    """The mean within each group (for example, a turn), by group. All groups share the same resamples of clusters."""
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
            members=(count > 0).sum(0),
            confidence=confidence,
            resamples=resamples,
            seed=seed,
        )
    return dict(zip(keys.tolist(), intervals, strict=True))


def clustered_slope(x, y, clusters, *, confidence: float = 0.95, resamples: int = 1000, seed: int = 0) -> Interval:
    """The ordinary least squares slope of y on x over all rows, (n Sxy - Sx Sy) / (n Sxx - Sx Sx), in y per unit of x.

    NaN where x is constant; resamples in which x is constant are left out.
    """
    _, sums = slope_sums(x, y, clusters)
    return clustered_statistic(sums, slope_statistic, n=len(y), confidence=confidence, resamples=resamples, seed=seed)


def clustered_difference(
    values, later, clusters, *, confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> Interval:
    """The mean of the values where `later` is true minus the mean where it is false; NaN where either side is empty."""
    _, sums = difference_sums(values, later, clusters)
    return clustered_statistic(
        sums, difference_statistic, n=len(values), confidence=confidence, resamples=resamples, seed=seed
    )


def clustered_statistic(
    sums: np.ndarray | Sequence[Sequence[float]],
    statistic: Callable[[np.ndarray], np.ndarray],
    *,
    n: int,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """The interval of any statistic of summed columns.

    `sums` (clusters, K) has one row of sums per cluster. `statistic` maps totals over clusters (R, K) to (R, 1), NaN
    where it is undefined. `n` is reported unchanged.
    """
    sums = np.asarray(sums, float)
    if not len(sums):
        return Interval(np.nan, np.nan, np.nan, 0)
    return _intervals(
        sums,
        statistic,
        n=np.array([n]),
        members=np.array([len(sums)]),
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )[0]


def slope_sums(x, y, clusters) -> tuple[np.ndarray, np.ndarray]:
    """The clusters (C,), and their sums for `slope_statistic`, (C, 5): n, Sx, Sy, Sxy, Sxx, with x centred at its
    mean.
    """
    y, codes, names = checked_rows(y, clusters)
    x = np.asarray(x, float)
    x = x - (x.mean() if len(x) else 0.0)  # the slope is the same, the sums keep their digits
    return names, _by_cluster(codes, np.ones_like(y), x, y, x * y, x * x)


def slope_statistic(sums: np.ndarray) -> np.ndarray:
    """The least squares slope from sums of `slope_sums`, (R, 5) -> (R, 1)."""
    n, sx, sy, sxy, sxx = sums.T
    spread = n * sxx - sx * sx
    return ratio(n * sxy - sx * sy, np.where(spread > 1e-9 * np.maximum(1.0, n * sxx), spread, 0.0))[:, None]


def difference_sums(values, later, clusters) -> tuple[np.ndarray, np.ndarray]:
    """The clusters (C,), and their sums for `difference_statistic`, (C, 4).

    The columns are the sum and count of the later values, then of the others.
    """
    y, codes, names = checked_rows(values, clusters)
    after = np.asarray(later, bool).astype(float)
    return names, _by_cluster(codes, y * after, after, y * (1 - after), 1 - after)


def difference_statistic(sums: np.ndarray) -> np.ndarray:
    """The mean of the later values minus the mean of the others, from sums of `difference_sums`, (R, 4) -> (R, 1)."""
    return (ratio(sums[:, 0], sums[:, 1]) - ratio(sums[:, 2], sums[:, 3]))[:, None]


def clustered_rows(
    clusters,
    statistic: Callable[[np.ndarray], np.ndarray],
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """The interval of any statistic of weighted rows, for statistics that are no function of sums (ranks).

    `clusters` (N,) holds the cluster of each row. `statistic` maps weights (R, N), the number of times that each row is
    in each of R resamples, to (R,), NaN where it is undefined. The value itself uses every row once.
    """
    names, codes = np.unique(np.asarray(clusters), return_inverse=True)
    if not len(codes):
        return Interval(np.nan, np.nan, np.nan, 0)
    value, low, high, step = float(statistic(np.ones((1, len(codes))))[0]), np.nan, np.nan, max(1, CELLS // len(codes))
    if len(names) > 1 and resamples > 0:
        pieces = (
            weights[start : start + step]
            for weights in multiplicities(len(names), resamples, seed)
            for start in range(0, len(weights), step)
        )
        drawn = np.concatenate([statistic(piece[:, codes]) for piece in pieces])[:, None]
        low, high = (float(edge[0]) for edge in percentiles(drawn, ((1 - confidence) / 2, (1 + confidence) / 2)))
    return Interval(value, low, high, len(codes))


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
        variance += (count - 1) / count * ((left - left.mean()) ** 2).sum()
    half = stats.t.ppf((1 + confidence) / 2, max(min(y.shape[:2]) - 1, 1)) * np.sqrt(variance)
    return Interval(float(value), float(value - half), float(value + half), len(y))


@dataclass(frozen=True)
class Survival:
    """A Kaplan-Meier curve: at the distinct `times`, the share that survives, its interval, and the number at risk."""

    times: np.ndarray
    survival: np.ndarray
    low: np.ndarray  # NaN where the formula is undefined (before the first event, or with nobody at risk)
    high: np.ndarray
    at_risk: np.ndarray
    n: int

    def median(self) -> Interval:
        """The first time at which survival is at most one half.

        `low` and `high` are where the interval's curves cross one half (Brookmeyer and Crowley 1982). NaN where a curve
        never reaches one half.
        """
        half = self.survival <= 0.5 + 1e-12  # a product of fractions that is one half may be rounded up
        low, high = self._first(half | (self.low <= 0.5)), self._first(self.high <= 0.5)
        return Interval(self._first(half), low, high, self.n)

    def _first(self, reached: np.ndarray) -> float:
        return float(self.times[np.argmax(reached)]) if reached.any() else np.nan


def kaplan_meier(times, censored, *, confidence: float = 0.95) -> Survival:
    """The survival curve of subjects with the event at `times`, or last observed then where `censored`; by scipy.

    The interval is Greenwood's on the log(-log) scale, which stays in [0, 1].
    """
    times, censored = np.asarray(times, float), np.asarray(censored, bool)
    if not len(times):
        none = np.array([])
        return Survival(none, none, none, none, none, 0)
    curve = stats.ecdf(stats.CensoredData.right_censored(times, censored)).sf
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy's: the interval is undefined at some observations
        bounds = curve.confidence_interval(confidence, method="log-log")
    at_risk = (times[None, :] >= curve.quantiles[:, None]).sum(1)
    return Survival(
        curve.quantiles, curve.probabilities, bounds.low.probabilities, bounds.high.probabilities, at_risk, len(times)
    )


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


def multiplicities(clusters: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """The number of times that each cluster is drawn in each resample, in blocks (part of R, C)."""
    rng = np.random.default_rng(seed)
    step = max(1, CELLS // clusters)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = rng.integers(clusters, size=(rows, clusters)) + clusters * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * clusters).reshape(rows, clusters).astype(float)


def resampled(sums: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], resamples: int, seed: int) -> np.ndarray:
    """The statistic in each resample of the clusters, (resamples, M)."""
    return np.concatenate([statistic(weights @ sums) for weights in multiplicities(len(sums), resamples, seed)])


def _intervals(sums, statistic, *, n, members, confidence, resamples, seed) -> list[Interval]:
    """One interval for each of the statistic's columns; `members` (columns,) is the number of clusters behind each."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence}: expected a number between 0 and 1")
    value = statistic(sums.sum(0, keepdims=True))[0]
    low, high = np.full(len(value), np.nan), np.full(len(value), np.nan)
    if len(sums) > 1 and resamples > 0:
        drawn = resampled(sums, statistic, resamples, seed)
        low, high = (
            np.where(members > 1, edge, np.nan)
            for edge in percentiles(drawn, ((1 - confidence) / 2, (1 + confidence) / 2))
        )
    return [
        Interval(float(middle), float(least), float(most), int(count))
        for middle, least, most, count in zip(value, low, high, n, strict=True)
    ]


def percentiles(drawn: np.ndarray, shares: tuple[float, ...]) -> list[np.ndarray]:
    """Percentiles of each column of (R, columns), without NaN, by linear interpolation; sorting puts NaN last."""
    drawn = np.sort(drawn, axis=0)
    last = (~np.isnan(drawn)).sum(0) - 1
    bounds = []
    for share in shares:
        place = np.maximum(last, 0) * share
        below = np.floor(place).astype(int)
        a, b = (
            np.take_along_axis(drawn, index[None], 0)[0]
            for index in (below, np.minimum(below + 1, np.maximum(last, 0)))
        )
        bounds.append(np.where(last >= 0, a + (b - a) * (place - below), np.nan))
    return bounds
