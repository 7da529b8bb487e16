"""How reliable a judge is: its judgements compared with labels.

`p` (N,) is the judge's p_inconsistent; `verdict` (N,) and `labels` (N,) say whether the line contradicts, according to
the judge and to the label. The caller leaves out rows without a label or a judgement. The statistics take weights (R,
N), 1 for the rows that count and 0 for the others, and return (R,), NaN where they are undefined. `calibration` returns
each with its interval: shares (precision, recall, and those of bins) as in `metrics.stats.shares`, the others by
leaving out conversations (`metrics.stats.intervals`). Where nothing changes without any conversation there is no
interval (NaN), since nothing is known of the spread.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import stats

from metrics.stats.intervals import Interval, clustered_rows, ratio
from metrics.stats.shares import clustered_share, clustered_shares

BINS = 10
RANGES = {"auroc": (0.0, 1.0), "kappa": None, "ece": None}


def calibration(p, verdict, labels, clusters, *, confidence: float = 0.95) -> dict[str, Interval]:
    """auroc, precision, recall, kappa and ece with their intervals.

    n counts all rows, although precision uses only those called contradicting and recall only those labelled so.
    """
    p, verdict, labels = np.asarray(p, float), np.asarray(verdict, bool), np.asarray(labels, bool)
    if not len(p) == len(verdict) == len(labels) == len(clusters):
        raise ValueError(
            f"{len(p)} probabilities, {len(verdict)} verdicts, {len(labels)} labels, {len(clusters)} clusters: "
            "expected as many of each"
        )
    statistics = {
        "auroc": lambda weights: auroc(p, labels, weights),
        "kappa": lambda weights: kappa(verdict, labels, weights),
        "ece": lambda weights: expected_calibration_error(p, labels, weights),
    }
    clusters, intervals = np.asarray(clusters), {}
    for name, statistic in statistics.items():
        interval = clustered_rows(clusters, statistic, confidence=confidence, within=RANGES[name])
        intervals[name] = replace(interval, low=np.nan, high=np.nan) if interval.low == interval.high else interval
    for name, said, true in (("precision", verdict, labels), ("recall", labels, verdict)):
        share = clustered_share(true[said], clusters[said], confidence=confidence)
        intervals[name] = replace(share, n=len(p))
    return {name: intervals[name] for name in ("auroc", "precision", "recall", "kappa", "ece")}


def auroc(p, labels, weights) -> np.ndarray:
    """The probability that a contradicting line has a higher p than another line, where ties count half.

    Mann-Whitney U / (positives × negatives): 0 to 1, 0.5 means no better than chance; NaN where all labels are equal.
    """
    ranks = stats.rankdata(p, method="dense")
    order = np.argsort(ranks, kind="stable")
    starts = np.flatnonzero(np.diff(ranks[order], prepend=0))  # of each distinct p
    labels = np.asarray(labels, bool)
    positive = np.add.reduceat((weights * labels)[:, order], starts, axis=1)  # (R, distinct)
    negative = np.add.reduceat((weights * ~labels)[:, order], starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative
    return ratio((positive * (below + negative / 2)).sum(1), positive.sum(1) * negative.sum(1))


def threshold_at(clean, share: float) -> float:
    """The smallest p_inconsistent above which at most that share of the clean lines, whose p are `clean` (N,), lie; NaN
    without any.
    """
    ordered = np.sort(np.asarray(clean, float))[::-1]
    return float(ordered[int(share * len(ordered))]) if len(ordered) else np.nan


def kappa(verdict, labels, weights) -> np.ndarray:
    """Cohen's kappa, (agreement - chance) / (1 - chance): 1 is perfect agreement, 0 is chance level.

    NaN where both always give the same single answer.
    """
    verdict, labels = np.asarray(verdict, bool), np.asarray(labels, bool)
    return beyond_chance(
        weights @ np.stack([verdict == labels, verdict, labels, np.ones_like(labels)], axis=1).astype(float)
    )


def beyond_chance(sums: np.ndarray) -> np.ndarray:
    """Cohen's kappa (R,) from counts (R, 4): both agree; the first says yes; the second says yes; all."""
    agreed, said, true = (ratio(sums[:, place], sums[:, 3]) for place in range(3))
    chance = said * true + (1 - said) * (1 - true)
    return ratio(agreed - chance, 1 - chance)


def expected_calibration_error(p, labels, weights, bins: int = BINS) -> np.ndarray:
    """The sum over equal-mass bins of (rows / all rows) |mean p - share that contradicts|, 0 to 1; 0 is calibrated.

    The bins keep their members in every sample. The error is biased upwards: read the interval as an upper bound.
    Naeini et al., AAAI 2015, with bins of equal mass.
    """
    gaps = np.asarray(p, float) - np.asarray(labels, float)
    member = equal_mass(p, bins)[:, None] == np.arange(bins)  # (N, bins)
    return ratio(np.abs(weights @ (member * gaps[:, None])).sum(1), weights.sum(1))


def equal_mass(p, bins: int = BINS) -> np.ndarray:
    """The bin of each row, 0 to bins - 1, by rank: equally many rows per bin as far as ties allow.

    Rows with equal p share a bin, so that bins may be empty.
    """
    p = np.asarray(p, float)
    return np.minimum(bins - 1, (bins * (stats.rankdata(p) - 0.5) / max(len(p), 1)).astype(int))


def reliability_bins(
    p, labels, clusters, bins: int = BINS, *, confidence: float = 0.95
) -> list[tuple[float, Interval]]:
    """(mean p, share that contradicts with its interval) of each bin that is not empty, in the order of p."""
    p, codes = np.asarray(p, float), equal_mass(p, bins)
    shares = clustered_shares(labels, clusters, codes, confidence=confidence)
    return [(float(p[codes == code].mean()), share) for code, share in sorted(shares.items())]
