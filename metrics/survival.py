"""How many lines does a speaker say before it first contradicts its persona?

A subject is one seat of one conversation. Time is counted in the lines of the seat that the judge scored: 1 means that
the first of them contradicts. A seat that never contradicts is censored at its last scored line. A line between that
nobody judged or could score counts as no time in either measure: as time, it would count as a line without
contradiction.

- `time_to_first_contradiction`: median of the Kaplan-Meier curve, in scored lines; NaN where fewer than half
  contradict. `low` and `high` are where the curve's interval crosses one half (NaN where it never does). n = subjects.
- `half_life`: -ln 2 / ln(1 - h), in scored lines, with the risk of a line h = events / lines at risk: the number of
  lines after which half of the subjects contradict if every line has the same risk, interpolated between lines. It is
  infinite where no seat contradicts, 1 where h = 1/2, and 0 where every first line contradicts. Its interval is that of
  the share h (`metrics.stats.shares`), converted; NaN for one subject. n = lines at risk.
"""

from __future__ import annotations

import math

import polars as pl

from metrics import metrics_frame
from metrics.reductions import groups, interval_row, of_metric
from metrics.stats.intervals import Interval
from metrics.stats.kaplan_meier import kaplan_meier
from metrics.stats.shares import share_of_counts

CURVE_SCHEMA = {
    "seat": pl.String,
    "judge": pl.String,
    "lines": pl.Int64,
    "survival": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "at_risk": pl.Int64,
}


def survival_rows(judgements: pl.DataFrame, *, confidence: float) -> pl.DataFrame:
    """Rows of time_to_first_contradiction and half_life over the run, for each judge and seat."""
    rows = []
    for judge, seat, part in groups(of_metric(judgements, "prompt_to_line")):
        lives = subjects(part)
        curve = kaplan_meier(lives["lines"].to_numpy(), lives["censored"].to_numpy(), confidence=confidence)
        rows.append(interval_row(curve.median(), "time_to_first_contradiction", judge, seat, "run"))
        rows.append(interval_row(half_life(lives, confidence=confidence), "half_life", judge, seat, "run"))
    return metrics_frame(rows)


def subjects(rows: pl.DataFrame) -> pl.DataFrame:
    """The subjects among one judge's rows of one seat, one row per line; conversations without a scored line are left
    out.

    Columns: conversation; lines (the number of scored lines up to the first contradiction, itself included, or else of
    all scored lines); censored (whether none contradicts).
    """
    scored = rows.filter(pl.col("verdict").is_not_null()).sort("conversation", "turn")
    number = pl.int_range(1, pl.len() + 1, dtype=pl.Int64)
    return scored.group_by("conversation", maintain_order=True).agg(
        lines=pl.coalesce(number.filter(pl.col("verdict")).min(), pl.len().cast(pl.Int64)),
        censored=~pl.col("verdict").any(),
    )


def half_life(lives: pl.DataFrame, *, confidence: float) -> Interval:
    """The half-life of subjects in scored lines, at least 0; NaN and n = 0 without subjects."""
    risk = share_of_counts((~lives["censored"]).to_numpy(), lives["lines"].to_numpy(), confidence=confidence)
    value, low, high = (_half_life(share) for share in (risk.value, risk.high, risk.low))
    return Interval(value, low, high, risk.n)


def survival_curves(judgements: pl.DataFrame, *, confidence: float = 0.95) -> pl.DataFrame:
    """Kaplan-Meier curves for plots: one row per time and (seat, judge), starting at lines = 0 with survival = 1.

    `survival` is the share of subjects that contradict in none of their first `lines` scored lines.
    """
    parts = [pl.DataFrame(schema=CURVE_SCHEMA)]
    for judge, seat, part in groups(of_metric(judgements, "prompt_to_line")):
        lives = subjects(part)
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


def _half_life(risk: float) -> float:
    """-ln 2 / ln(1 - risk) in lines for a risk of 0 to 1, NaN for NaN: infinite for 0, and 0 for 1."""
    if risk in (0, 1):
        return math.inf if risk == 0 else 0.0
    return -math.log(2) / math.log1p(-risk)
