"""From judgements to metric rows at three levels: by turn, by conversation, over the run.

Every consistency is the same reduction of the rows of another metric: 1 - share of scored rows whose verdict is True,
in [0, 1]; 1 means that nothing contradicts. Unscored rows are in no mean; `n` counts the scored ones. Intervals of
shares are those of `metrics.stats.shares`, of other means those of `metrics.stats.intervals`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from metrics import METRICS_SCHEMA, NAN, P_VALUE, UNSCORED, metric_row, metrics_frame, stacked
from metrics.stats.intervals import NOTHING, Interval, clustered_mean, clustered_means
from metrics.stats.shares import clustered_share, clustered_shares
from scenarios.records import SEATS


def groups(rows: pl.DataFrame) -> Iterator[tuple[str | None, str, pl.DataFrame]]:
    """(judge, seat, rows) in sorted order; column `inconsistent` of the rows is 1.0 or 0.0, null where unscored.

    Without any row it gives (None, seat, empty frame) for both seats, so that the metric appears as NaN with n = 0.
    """
    rows = rows.with_columns(inconsistent=pl.col("verdict").cast(pl.Float64))
    for (judge, seat), part in sorted(rows.partition_by("judge", "seat", as_dict=True).items()):
        yield judge, seat, part
    if rows.is_empty():
        yield from ((None, seat, rows) for seat in SEATS)


def units(rows: pl.DataFrame) -> np.ndarray:
    """The cluster of each row: column `unit` where there is one (see `metrics.units`), else the conversation."""
    return (rows["unit"] if "unit" in rows.columns else rows["conversation"]).to_numpy()


def of_metric(judgements: pl.DataFrame, metric: str) -> pl.DataFrame:
    """The rows over which a metric is counted: for prompt_to_line one per line (without its rows by fact), else all."""
    rows = judgements.filter(pl.col("metric") == metric)
    return rows.filter(pl.col("against") == "persona") if metric == "prompt_to_line" else rows


def consistency_rows(judgements: pl.DataFrame, metric: str, *, confidence: float) -> pl.DataFrame:
    """Consistency by turn, by conversation and over the run, for each judge and seat.

    Rows by turn and over the run have intervals.
    """
    parts = []
    for judge, seat, rows in groups(of_metric(judgements, metric)):
        rows = rows.with_columns(y=1 - pl.col("inconsistent"))
        parts.append(by_level(rows, metric, judge, seat, confidence=confidence, share=True))
    return stacked(parts)


def by_level(
    rows: pl.DataFrame, metric: str, judge: str | None, seat: str, *, confidence: float, share: bool = False
) -> pl.DataFrame:
    """The mean of column y (null where unscored) by turn, by conversation and over the run; `rows` has the columns
    conversation, turn and y.

    With `share`, y is 0 or 1, and intervals are those of shares. Rows by conversation have no interval (NaN), since a
    conversation is one cluster.
    """
    scored = rows.filter(pl.col("y").is_not_null())
    y, at, clusters = scored["y"].to_numpy(), scored["turn"].to_numpy(), units(scored)
    if share:
        means = clustered_shares(y, clusters, at, confidence=confidence)
        over_run = clustered_share(y, clusters, confidence=confidence)
    else:
        means = clustered_means(y, clusters, at, confidence=confidence)
        over_run = clustered_mean(y, clusters, confidence=confidence)
    turns = [
        interval_row(means.get(turn, NOTHING), metric, judge, seat, "turn", turn=turn)
        for turn in sorted(rows["turn"].unique().to_list())
    ]
    conversations = (
        rows.group_by("conversation")
        .agg(value=pl.col("y").mean().fill_null(NAN), n=pl.col("y").count().cast(pl.Int64))
        .sort("conversation")
    )
    return stacked(
        [
            metrics_frame(turns),
            labelled(conversations, metric, judge, seat, "conversation"),
            metrics_frame([interval_row(over_run, metric, judge, seat, "run")]),
        ]
    )


def unscored_metric_rows(judgements: pl.DataFrame, metric: str, *, confidence: float) -> pl.DataFrame:
    """The share of a metric's rows that could not be scored, 0 to 1, over the run; n counts all rows."""
    name, rows = UNSCORED + metric, []
    for judge, seat, part in groups(of_metric(judgements, metric)):
        missing = part["inconsistent"].is_null().cast(pl.Float64).to_numpy()
        share = clustered_share(missing, units(part), confidence=confidence)
        rows.append(interval_row(share, name, judge, seat, "run"))
    return metrics_frame(rows)


def interval_row(interval: Interval, metric: str, judge: str | None, seat: str, level: str, **rest) -> dict:
    """A row of the metrics frame from an interval."""
    return metric_row(
        metric, judge, seat, level, interval.value, interval.n, low=interval.low, high=interval.high, **rest
    )


def trend_rows(slope: Interval, metric: str, judge: str | None, seat: str) -> list[dict]:
    """The rows of a trend over the run: its slope, and the p of "no drift" with the number of units as n."""
    return [
        interval_row(slope, metric, judge, seat, "run"),
        metric_row(P_VALUE + metric, judge, seat, "run", slope.p, slope.units),
    ]


def labelled(values: pl.DataFrame, metric: str, judge: str | None, seat: str, level: str) -> pl.DataFrame:
    """A metrics frame from a frame with the columns value and n and, optionally, conversation, turn, low and high."""
    missing = {
        name: value
        for name, value in metric_row(metric, judge, seat, level, NAN, 0).items()
        if name not in values.columns
    }
    values = values.with_columns(
        pl.lit(value, dtype=METRICS_SCHEMA[name]).alias(name) for name, value in missing.items()
    )
    return values.select(list(METRICS_SCHEMA))
