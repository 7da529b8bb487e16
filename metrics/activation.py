"""Does the speaker leave its persona in the model's hidden states, and does that agree with the judges?

- `activation_drift`: 1 - projection of a line's mean hidden state on the direction of its persona
  (`agents.engine.steering`), by turn, by conversation and over the run. 0 is typical of fresh lines under the persona's
  card, 1 of lines under other cards. Values outside 0 to 1 occur; more is further from the persona.
- `activation_drift_slope`: its least squares slope per turn over the run, within conversations; positive means that the
  speaker drifts.
- `activation_correlation`: Spearman's rank correlation, -1 to 1, of activation drift with the judge's p_inconsistent of
  the same line against its persona, over the run. n = lines that have both; NaN where either is constant.

Only lines of a model whose hidden states are recorded have a projection.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from metrics import metrics_frame, stacked
from metrics.reductions import by_level, interval_row, of_metric, trend_rows, units
from metrics.stats.intervals import Interval, clustered_rows, clustered_slope, ratio
from scenarios.records import SEATS

DRIFT, SLOPE, CORRELATION = "activation_drift", "activation_drift_slope", "activation_correlation"
COLUMNS = {"conversation": pl.Int64, "turn": pl.Int64, "seat": pl.String, "value": pl.Float64}


def activation_rows(activations: pl.DataFrame | None, judgements: pl.DataFrame, *, confidence: float) -> pl.DataFrame:
    """Rows of all three measures, for each seat (and judge).

    `activations` has the columns conversation, turn, seat and value (the projection); None counts as no line.
    """
    parts = []
    known = (
        pl.DataFrame(schema=COLUMNS)
        if activations is None
        else activations.select(*COLUMNS, *(["unit"] if "unit" in activations.columns else []))
    )
    known = known.with_columns(y=1 - pl.col("value"))
    judged = of_metric(judgements, "prompt_to_line").filter(pl.col("p_inconsistent").is_not_null())
    for seat in SEATS:
        part = known.filter(pl.col("seat") == seat)
        x, y, conversations = (part[column].to_numpy() for column in ("turn", "y", "conversation"))
        slope = clustered_slope(x, y, units(part), centred=conversations, confidence=confidence)
        parts += [
            by_level(part, DRIFT, None, seat, confidence=confidence),
            metrics_frame(trend_rows(slope, SLOPE, None, seat)),
        ]
        for judge in sorted(set(judged["judge"])):
            both = part.join(judged.filter(pl.col("judge") == judge), on=["conversation", "turn", "seat"])
            x, y = (both[column].to_numpy() for column in ("y", "p_inconsistent"))
            correlation = rank_correlation(x, y, units(both), confidence=confidence)
            parts.append(metrics_frame([interval_row(correlation, CORRELATION, judge, seat, "run")]))
    return stacked(parts)


def rank_correlation(x, y, clusters, *, confidence: float) -> Interval:
    """Spearman's correlation, -1 to 1, of x and y (N,), with its interval over clusters (N,).

    Ranks are computed anew without each cluster; ties have their middle rank. NaN where x or y is constant.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    return clustered_rows(clusters, lambda weights: _weighted(x, y, weights), confidence=confidence, within=(-1.0, 1.0))


def _weighted(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rank correlation of samples in which row i occurs weights[:, i] times: (N,), (N,), (R, N) -> (R,)."""
    total = weights.sum(1, keepdims=True)
    a, b = (
        ranks - (weights * ranks).sum(1, keepdims=True) / total for ranks in (_ranks(x, weights), _ranks(y, weights))
    )
    spread = (weights * a * a).sum(1) * (weights * b * b).sum(1)
    return ratio((weights * a * b).sum(1), np.sqrt(np.where(spread > 1e-9, spread, 0.0)))


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Middle ranks up to a constant: the number of smaller values plus half the number of equal ones; (N,), (R, N) ->
    (R, N).
    """
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    equal = np.add.reduceat(weights[:, np.argsort(place, kind="stable")], np.cumsum(counts) - counts, axis=1)
    return (np.cumsum(equal, axis=1) - equal / 2)[:, place]
