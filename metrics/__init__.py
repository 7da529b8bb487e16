"""What is measured: judges return judgements, and pure functions of frames turn these into rows with intervals.

A metric is pairs × judge × reduction. Judges (`metrics.judges`) score pairs; the other modules turn stored judgements
into rows of `METRICS_SCHEMA`. An unscored row is left out of every mean and counted separately.
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

METRICS_SCHEMA: dict[str, type[pl.DataType]] = {
    "metric": pl.String,
    "judge": pl.String,  # null where no judge said anything
    "seat": pl.String,
    "level": pl.String,  # "turn", "conversation" or "run"
    "conversation": pl.Int64,  # null unless level is "conversation"
    "turn": pl.Int64,  # null unless level is "turn"
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n": pl.Int64,  # scored rows behind the value; of unscored_* all rows, of judged_pairs all pairs
}
NAN = float("nan")
UNSCORED = "unscored_"  # before a metric's name: the share of its rows that could not be scored
P_VALUE = "p_"  # before a drift's name: the two-sided p of "no drift"; its n counts the units of the test
BESIDE = (UNSCORED, P_VALUE)  # what begins the names of rows that stand beside a figure and are none


def metric_row(
    metric: str, judge: str | None, seat: str, level: str, value: float, n: int, **rest: float | int | None
) -> dict:
    """One row of the metrics frame as a dict; `rest` may hold low and high (default NaN), conversation and turn
    (default None).
    """
    filled = {"low": NAN, "high": NAN, "conversation": None, "turn": None, **rest}
    return {
        "metric": metric,
        "judge": judge,
        "seat": seat,
        "level": level,
        "value": float(value),
        "n": int(n),
        **filled,
    }


def metrics_frame(rows: Iterable[dict]) -> pl.DataFrame:
    """A metrics frame (`METRICS_SCHEMA`) of the rows; without rows, an empty frame with the same columns."""
    return pl.DataFrame(list(rows), schema=METRICS_SCHEMA)


def stacked(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """The rows of all metrics frames in one frame, with the columns in the order of the schema."""
    return pl.concat([metrics_frame([]), *(part.select(list(METRICS_SCHEMA)) for part in frames)])
