"""Consistency and drift corrected for what the judge misses and invents, by its validation in the same personas.

With q the share of lines that the judge accuses, s its recall (sensitivity) and f its share of false alarms:

    share that contradicts = (q - f) / (s - f)        consistency = 1 - that, kept within [0, 1]

    half a width = sqrt((Δq)² + ((1 - θ) Δf)² + (θ Δs)²) / (s - f)        θ the share that contradicts

    corrected drift = drift / (s - f)        half a width = sqrt(Δdrift² + drift² (Δs² + Δf²) / (s - f)²) / (s - f)

This is the delta method with the distances Δ from each estimate to the bound of its interval on the side in question,
which need not be equal on both sides. The drift is corrected for a judge that misses and invents as much late in a
dialogue as early; for others it takes labels of people (`metrics.stats.prediction_powered`). There is no estimate where
s - f is not clearly above 0, by the interval of that difference: such a judge says nothing about the share. The planted
lines are taken to be as hard as the run's; where those are harder, contradictions remain undercounted.

Sources: W. J. Rogan and B. Gladen, American Journal of Epidemiology 107, 1978 (the estimate, and its variance by the
delta method); G. Y. Zou and A. Donner, Statistics in Medicine 27, 2008 (distances to the bounds in place of standard
errors).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot, isfinite

import polars as pl

from metrics import metrics_frame, stacked
from metrics.judges import LINES
from metrics.reductions import interval_row
from metrics.stats.intervals import Interval
from metrics.validation.validity import Validity

CORRECTED = "corrected_"  # how the metrics begin
DRIFT = "global_drift_slope"


def corrected_rows(metrics: pl.DataFrame, validities: Sequence[Validity]) -> pl.DataFrame:
    """The metric rows, and for each consistency, and the global drift, over the run of a judge that is valid here the
    row `corrected_<metric>`, where there is an estimate, behind the last row of these consistencies.
    """
    by_judge = {(each.judge, each.metric): each for each in validities}
    rows = []
    for row in metrics.filter(level="run").iter_rows(named=True):
        is_drift = row["metric"] == DRIFT
        validity = by_judge.get((row["judge"], LINES[0] if is_drift else row["metric"]))
        observed = Interval(row["value"], row["low"], row["high"], row["n"])
        estimate = validity and (corrected_drift if is_drift else corrected)(observed, validity)
        if estimate:
            rows.append(interval_row(estimate, CORRECTED + row["metric"], row["judge"], row["seat"], "run"))
    if not rows:
        return metrics
    behind = 1 + max(index for index, name in enumerate(metrics["metric"]) if name in LINES)
    return stacked([metrics[:behind], metrics_frame(rows), metrics[behind:]])


def corrected(observed: Interval, validity: Validity) -> Interval | None:
    """The corrected consistency, 0 to 1, with its interval; None where the judge is not valid here, an interval is
    missing, or recall does not clearly exceed false alarms.
    """
    recall, alarms = validity.recall, validity.false_alarms
    below = observed.value - observed.low, alarms - validity.false_alarms_low, recall - validity.recall_low
    above = observed.high - observed.value, validity.false_alarms_high - alarms, validity.recall_high - recall
    gain, of_gain = _gain(validity)
    if not validity.valid or not all(map(isfinite, (*below, *above))) or not gain > of_gain:
        return None
    share = min(1.0, max(0.0, (1 - observed.value - alarms) / gain))
    low, high = (1 - share - _half(below, share, gain), 1 - share + _half(above, share, gain))
    return Interval(1 - share, max(0.0, low), min(1.0, high), observed.n)


def corrected_drift(observed: Interval, validity: Validity) -> Interval | None:
    """The corrected slope of inconsistency per turn, with its interval; None as `corrected`."""
    below, above = observed.value - observed.low, observed.high - observed.value
    gain, of_gain = _gain(validity)
    if not validity.valid or not all(map(isfinite, (below, above, of_gain))) or not gain > of_gain:
        return None
    drift = observed.value / gain
    low, high = (drift - hypot(below, drift * of_gain) / gain, drift + hypot(above, drift * of_gain) / gain)
    return Interval(drift, low, high, observed.n)


def _gain(validity: Validity) -> tuple[float, float]:
    """s - f, and the distance from it to the lower bound of its interval."""
    of_recall = validity.recall - validity.recall_low
    return validity.recall - validity.false_alarms, hypot(of_recall, validity.false_alarms_high - validity.false_alarms)


def _half(distances: tuple[float, float, float], share: float, gain: float) -> float:
    """The distance from the estimate to its bound; `distances` are those of q, f and s."""
    of_accused, of_alarms, of_recall = distances
    return hypot(of_accused, (1 - share) * of_alarms, share * of_recall) / gain
