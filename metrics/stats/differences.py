"""Comparison of two sets of conversations: differences with intervals, detectable differences, and the log-rank test.

A side is a matrix of sums with one row per conversation (`metrics.conversation_sums`), and a statistic is a function of
summed rows, so that every measure is compared in the same way. Differences are B - A.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from metrics.stats.intervals import SAME, Interval, clustered_statistic, ratio

Statistic = Callable[[np.ndarray], np.ndarray]  # (R, K) sums over conversations -> (R, 1)
ALPHA, POWER = 0.05, 0.8


@dataclass(frozen=True)
class Difference:
    """The values of both sides, and their difference B - A with its interval."""

    a: float
    b: float
    value: float  # b - a
    low: float
    high: float
    n: int  # pairs of conversations, or the conversations of both sides where they are not paired
    detectable: float  # see `detectable`


def paired(a: np.ndarray, b: np.ndarray, statistic: Statistic, *, confidence: float) -> Difference:
    """The difference of paired sides: row c of `a` and of `b`, both (P, K), are one pair.

    The pairs are the units of its interval, so that what both sides share cancels. Raises ValueError where the sides
    have different shapes.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    if a.shape != b.shape:
        raise ValueError(f"sums of shape {a.shape} and {b.shape}: expected pairs, which are as many on both sides")
    if not len(a):
        return _nothing()
    width = a.shape[1]

    def change(sums: np.ndarray) -> np.ndarray:
        return statistic(sums[:, width:]) - statistic(sums[:, :width])

    both = np.hstack([a, b])
    interval = clustered_statistic(both, change, n=len(a), confidence=confidence)
    return Difference(
        _value(a, statistic),
        _value(b, statistic),
        interval.value,
        interval.low,
        interval.high,
        len(a),
        detectable(interval.error, len(a) - 1),
    )


def unpaired(a: np.ndarray, b: np.ndarray, statistic: Statistic, *, confidence: float) -> Difference:
    """The difference of independent sides, (C, K) each, with Welch's interval: the squared standard errors of both
    sides add up, and the degrees of freedom are his (B. L. Welch, Biometrika 34, 1947).

    There is no interval (NaN) where a side has fewer than two rows.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    if not (len(a) and len(b)):
        return _nothing()
    value = _value(b, statistic) - _value(a, statistic)
    errors = standard_error(a, statistic), standard_error(b, statistic)
    error, df = float(np.hypot(*errors)), _welch(errors, (len(a), len(b)))
    half = stats.t.ppf((1 + confidence) / 2, df) * error
    return Difference(
        _value(a, statistic),
        _value(b, statistic),
        value,
        value - half,
        value + half,
        len(a) + len(b),
        detectable(error, df),
    )


def difference_of(a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """mean(b) - mean(a) of independent units with Welch's interval; n counts the units of both."""
    first, second = (np.column_stack([side, np.ones(np.size(side))]) for side in (a, b))
    change = unpaired(first, second, lambda sums: ratio(sums[:, :1], sums[:, 1:]), confidence=confidence)
    return Interval(change.value, change.low, change.high, change.n)


def _welch(errors: tuple[float, float], sizes: tuple[int, int]) -> float:
    """Welch's degrees of freedom for a difference of two statistics with these standard errors."""
    squares = [error**2 for error in errors]
    parts = sum(square**2 / max(size - 1, 1) for square, size in zip(squares, sizes, strict=True))
    return sum(squares) ** 2 / parts if parts > 0 else float(sum(sizes) - 2)


def factorial(arms: Mapping[str, np.ndarray], statistic: Statistic, *, confidence: float) -> dict[str, Interval]:
    """The main effects of two factors with settings A and B, and their interaction, with paired intervals.

    `arms` maps "AA", "AB", "BA", "BB" (first factor, then second) to (C, K); row c is the same conversation in all
    arms. With y the statistic: first = ((yBA - yAA) + (yBB - yAB)) / 2, second = ((yAB - yAA) + (yBB - yBA)) / 2,
    interaction = (yBB - yBA) - (yAB - yAA). Raises ValueError where the shapes differ.
    """
    sides = [np.asarray(arms[name], float) for name in ("AA", "AB", "BA", "BB")]
    if len({side.shape for side in sides}) > 1:
        raise ValueError(f"arms of shape {[side.shape for side in sides]}: expected the same conversations in all four")
    weights = {"first": (-0.5, -0.5, 0.5, 0.5), "second": (-0.5, 0.5, -0.5, 0.5), "interaction": (1.0, -1.0, -1.0, 1.0)}

    def effect(sums: np.ndarray, of: tuple[float, ...]) -> np.ndarray:
        return np.asarray(sum(weight * statistic(part) for weight, part in zip(of, np.hsplit(sums, 4), strict=True)))

    return {
        name: clustered_statistic(
            np.hstack(sides),
            lambda sums, of=of: effect(sums, of),
            n=len(sides[0]),
            confidence=confidence,
        )
        for name, of in weights.items()
    }


def inconsistency_left(sums: np.ndarray) -> np.ndarray:
    """The share of an inconsistency that is left; (R, 4) -> (R, 1).

    The columns are consistent and scored rows before, then after. NaN where nothing was inconsistent before.
    """
    was, now = (1 - ratio(sums[:, at : at + 1], sums[:, at + 1 : at + 2]) for at in (0, 2))
    return ratio(now, np.where(was > 0, was, np.nan))


def standard_error(sums: np.ndarray, statistic: Statistic) -> float:
    """The jackknife standard error over conversations: sqrt((n - 1) / n * sum((leave-one-out - their mean)^2)).

    For a mean it equals s / sqrt(n). NaN for fewer than two conversations, or where the statistic is undefined without
    one of them. Efron and Tibshirani 1993, section 11.3.
    """
    return clustered_statistic(sums, statistic, n=len(sums)).error


def detectable(error: float, df: float, *, alpha: float = ALPHA, power: float = POWER) -> float:
    """The smallest true difference that a two-sided t test detects: (t[1 - alpha/2] + t[power]) * error.

    `error` is the standard error of the difference and `df` its degrees of freedom. For pairs: s / sqrt(n), with s the
    standard deviation of the n differences (n - 1 in its denominator), and n - 1. For two groups: sqrt(sA^2/nA +
    sB^2/nB), and Welch's. NaN where all differences are equal, since their spread is then unknown. Cohen 1988,
    section 2.4.
    """
    if not error > SAME:
        return float("nan")
    return float((stats.t.ppf(1 - alpha / 2, df) + stats.t.ppf(power, df)) * error)


def holm(p: Sequence[float]) -> list[float]:
    """The p values adjusted for being several, in the same order: rejecting those below alpha rejects a true hypothesis
    in at most alpha of all families, however they depend on each other. NaN counts as 1. S. Holm, Scandinavian Journal
    of Statistics 6, 1979.
    """
    known = np.nan_to_num(np.asarray(p, float), nan=1.0)
    order = np.argsort(known, kind="stable")
    steps = np.minimum(1.0, np.maximum.accumulate(known[order] * np.arange(len(known), 0, -1)))
    adjusted = np.empty_like(steps)
    adjusted[order] = steps
    return adjusted.tolist()


def logrank(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> tuple[float, float]:
    """(z, two-sided p) of Mantel's log-rank test; each side is (times, censored). z > 0: events occur earlier in `a`.

    The sides count as independent; for paired seeds this makes p too large rather than too small. NaN where a side is
    empty or there is no event on either side.
    """
    sides = [(np.asarray(times, float), np.asarray(censored, bool)) for times, censored in (a, b)]
    if not all(len(times) for times, _ in sides) or all(censored.all() for _, censored in sides):
        return float("nan"), float("nan")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy's, where nobody is left to compare with
        result = stats.logrank(*(stats.CensoredData.right_censored(times, censored) for times, censored in sides))
    return float(result.statistic), float(result.pvalue)


def horizon(*sides: tuple[np.ndarray, np.ndarray]) -> int:
    """The last line up to which the curve of every side is known.

    For one side this is its longest time, or any later line where that time ended in an event.
    """
    longest = [(int(times.max()), bool(censored[times == times.max()].any())) for times, censored in sides]
    limits = [lines for lines, ends_censored in longest if ends_censored]
    return min(limits) if limits else max(lines for lines, _ in longest)


def life_sums(lines: np.ndarray, censored: np.ndarray, horizon: int) -> np.ndarray:
    """The sums of each subject for `restricted_mean`, (C, 2 * horizon).

    The first half of the columns is 1 where the event occurred at line t = 1, 2, ..., the second half 1 where the
    subject was at risk at line t.
    """
    lines, at = np.asarray(lines)[:, None], np.arange(1, horizon + 1)[None]
    ended = (lines == at) & ~np.asarray(censored, bool)[:, None]
    return np.hstack([ended, lines >= at]).astype(float)


def restricted_mean(sums: np.ndarray) -> np.ndarray:
    """The area under the Kaplan-Meier curve up to the horizon, in lines: 1 + S(1) + ... + S(horizon - 1), (R, 2 *
    horizon) -> (R, 1).

    This is the mean line of the first contradiction, where later ones count as the horizon; more is better. Where no
    subject is at risk any more, the curve stays constant. Royston and Parmar 2013.
    """
    ended, at_risk = np.hsplit(sums, 2)
    hazard = np.nan_to_num(ratio(ended, at_risk), nan=0.0)
    curve = np.cumprod(1 - hazard, axis=1)
    area = 1 + curve[:, :-1].sum(1, keepdims=True)
    return np.where(at_risk[:, :1] > 0, area, np.nan)


def _value(sums: np.ndarray, statistic: Statistic) -> float:
    return float(statistic(sums.sum(0, keepdims=True))[0, 0])


def _nothing() -> Difference:
    nan = float("nan")
    return Difference(nan, nan, nan, nan, nan, 0, nan)
