"""Effects of the axes of a sweep on a measure: its mean at each level of an axis, and the interaction of two axes.

A row is the value of one conversation (or of one trial, where a measure has none by conversation). Its weight is the
number of items scored in it, so that a weighted mean of rows equals the run's own value. Rows with the same cluster are
one unit of the intervals: the same conversation, by number and seed, in all trials. It has the same personas in the
same order of draws, whatever an axis changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import numpy as np

from metrics.stats.intervals import Interval, clustered_statistic, ratio

LEAST_DETERMINANT = 1e-9  # of moments of codes in [0, 1]; 1/256 where four corners are filled alike


def response(values, weights, clusters, levels, *, confidence: float = 0.95) -> dict[object, Interval]:
    """The weighted mean at each level, sum(w y) / sum(w), marginal over all other axes; n counts rows."""
    values, weights, levels = np.asarray(values, float), np.asarray(weights, float), np.asarray(levels)
    names, codes = np.unique(np.asarray(clusters), return_inverse=True)
    by_level = {}
    for level in dict.fromkeys(levels.tolist()):
        here = levels == level
        sums = np.stack(
            [np.bincount(codes[here], column[here], len(names)) for column in (weights * values, weights)], axis=1
        )
        sums = sums[sums[:, 1] > 0]
        by_level[level] = clustered_statistic(
            sums, lambda s: ratio(s[:, 0], s[:, 1])[:, None], n=int(here.sum()), confidence=confidence
        )
    return by_level


def interaction(values, weights, clusters, first, second, *, confidence: float = 0.95) -> Interval:
    """The coefficient b3 of the weighted least squares fit y = b0 + b1 u + b2 v + b3 u v, in units of the measure.

    `first` and `second` are the codes u and v of two axes, from 0 (one end) to 1 (the other). b3 is the effect of both
    ends together beyond the sum of their separate effects. With two levels per axis it equals (y11 - y01) - (y10 -
    y00), the difference of differences of a 2 x 2 factorial design; 0 means that the axes are additive. NaN where the
    fit is not unique. Montgomery, Design and Analysis of Experiments, section 6.2; Cox, "Interaction", 1984.
    """
    y, w = np.asarray(values, float), np.asarray(weights, float)
    u, v = np.asarray(first, float), np.asarray(second, float)
    names, codes = np.unique(np.asarray(clusters), return_inverse=True)
    design = np.stack([np.ones_like(u), u, v, u * v])  # (4, N)
    columns = [*(w * design[i] * design[j] for i in range(4) for j in range(4)), *(w * y * column for column in design)]
    sums = np.stack([np.bincount(codes, column, len(names)) for column in columns], axis=1)  # (C, 20)
    return clustered_statistic(sums, _product_term, n=len(y), confidence=confidence)


def coded(values: Sequence[object], logarithmic: bool = False) -> list[float | None]:
    """The values as codes from 0 to 1, by their position between the smallest and the largest number.

    With `logarithmic`, positions are those of the logarithms. Of values that are no numbers, the first is 0, the last
    is 1, and the others are None.
    """
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) == len(values):
        placed = [log(value) if logarithmic else float(value) for value in numbers]
        low, high = min(placed), max(placed)
        return [(value - low) / (high - low) if high > low else 0.0 for value in placed]
    order = list(dict.fromkeys(map(str, values)))
    ends = {order[0]: 0.0, order[-1]: 1.0}
    return [ends.get(str(value)) for value in values]


def _product_term(sums: np.ndarray) -> np.ndarray:
    """b3 from sums (R, 20) -> (R, 1)."""
    total = np.where(sums[:, :1] > 0, sums[:, :1], 1.0)
    moments, right = (sums[:, :16] / total).reshape(-1, 4, 4), sums[:, 16:] / total
    solvable = np.linalg.det(moments) > LEAST_DETERMINANT
    coefficients = np.full((len(sums), 1), np.nan)
    if solvable.any():
        coefficients[solvable, 0] = np.linalg.solve(moments[solvable], right[solvable][:, :, None])[:, 3, 0]
    return coefficients
