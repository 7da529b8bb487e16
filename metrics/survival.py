"""How many lines does a speaker say before it first contradicts its persona?

A subject is one seat of one conversation. Time is counted in the seat's own lines: 1 means that its very first line
contradicts. A seat that never contradicts is censored at its last scored line. An unscored line is no event.

- `time_to_first_contradiction`: median of the Kaplan-Meier curve, in lines; NaN where fewer than half contradict. `low`
  and `high` are where the curve's interval crosses one half (NaN where it never does). n = subjects.
- `half_life`: ln 2 / (events / lines at risk), in lines: the median if every line had the same risk. It is infinite,
  without an interval, where no seat contradicts. Its interval resamples conversations. n = lines at risk.
"""

from __future__ import annotations

import math
from typing import Unpack

import numpy as np
import polars as pl

from metrics import NAN, metrics_frame
from metrics.drift import own_lines
from metrics.reductions import Resampling, for_group, groups, interval_row, of_metric
from metrics.stats.bootstrap import Interval, clustered_statistic, kaplan_meier

CURVE_SCHEMA = {
    "seat": pl.String,
    "judge": pl.String,
    "lines": pl.Int64,
    "survival": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "at_risk": pl.Int64,
}


def survival_rows(
    turns: pl.DataFrame, judgements: pl.DataFrame, *, confidence: float, resamples: int, seed: int
) -> pl.DataFrame:
    """Rows of time_to_first_contradiction and half_life over the run, for each judge and seat."""
    how: Resampling = {"confidence": confidence, "resamples": resamples, "seed": seed}
    rows = []
    for judge, seat, part in groups(of_metric(judgements, "prompt_to_line")):
        lives = subjects(turns, part)
        curve = kaplan_meier(lives["lines"].to_numpy(), lives["censored"].to_numpy(), confidence=confidence)
        rows.append(interval_row(curve.median(), "time_to_first_contradiction", judge, seat, "run"))
        rows.append(
            interval_row(half_life(lives, **for_group(how, "half_life", judge, seat)), "half_life", judge, seat, "run")
        )
    return metrics_frame(rows)


def subjects(turns: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The subjects among one judge's rows of one seat; conversations without a scored line are left out.

    Columns: conversation; lines (the seat's own line number of the first contradiction, or else of the last scored
    line); censored; at_risk (scored lines up to there).
    """
    scored = rows.filter(pl.col("verdict").is_not_null()).join(own_lines(turns), on=["conversation", "seat", "turn"])
    first = pl.col("own").filter(pl.col("verdict")).min()
    lives = scored.group_by("conversation").agg(
        lines=pl.coalesce(first, pl.col("own").max()),
        censored=~pl.col("verdict").any(),
        at_risk=(pl.col("own") <= pl.coalesce(first, pl.col("own").max())).sum().cast(pl.Int64),
    )
    return lives.sort("conversation")


def half_life(lives: pl.DataFrame, **how: Unpack[Resampling]) -> Interval:
    """The half-life ln 2 / hazard, in lines, at least 0; its interval is that of the hazard, inverted."""
    events, lines = (~lives["censored"]).cast(pl.Float64).to_numpy(), lives["at_risk"].cast(pl.Float64).to_numpy()
    hazard = clustered_statistic(
        np.stack([events, lines], axis=1), lambda sums: sums[:, :1] / sums[:, 1:], n=int(lines.sum()), **how
    )
    if hazard.value == 0:
        return Interval(math.inf, NAN, NAN, hazard.n)
    value, low, high = (_inverse(rate) for rate in (hazard.value, hazard.high, hazard.low))
    return Interval(value, low, high, hazard.n)


def survival_curves(turns: pl.DataFrame, judgements: pl.DataFrame, *, confidence: float = 0.95) -> pl.DataFrame:
    """Kaplan-Meier curves for plots: one row per time and (seat, judge), starting at lines = 0 with survival = 1.

    `survival` is the share of subjects that contradict in none of their first `lines` own lines.
    """
    parts = [pl.DataFrame(schema=CURVE_SCHEMA)]
    for judge, seat, part in groups(of_metric(judgements, "prompt_to_line")):
        lives = subjects(turns, part)
        if lives.is_empty():
            continue
        estimate = kaplan_meier(lives["lines"].to_numpy(), lives["censored"].to_numpy(), confidence=confidence)
        columns = {
            "lines": [0, *estimate.times.astype(int).tolist()],
            "survival": [1.0, *estimate.survival.tolist()],
            "low": [1.0, *estimate.low.tolist()],
            "high": [1.0, *estimate.high.tolist()],
            "at_risk": [estimate.n, *estimate.at_risk.tolist()],
        }
        count = len(columns["lines"])
        parts.append(pl.DataFrame({"seat": [seat] * count, "judge": [judge] * count, **columns}, schema=CURVE_SCHEMA))
    return pl.concat(parts)


def _inverse(rate: float) -> float:
    """ln 2 / rate in lines; infinite for a rate of 0."""
    return math.inf if rate == 0 else math.log(2) / rate
