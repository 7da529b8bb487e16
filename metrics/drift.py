"""Does inconsistency grow over the dialogue? Positive slopes and differences mean that the speaker drifts.

- Local drift: contradicting pairs / scored pairs, 0 to 1, over pairs of a line and one of the previous `window` lines
  of the same seat; by turn, by conversation and over the run. Also its slope over turns.
- Global drift: the least squares slope over turns of prompt-to-line inconsistency and of wrong answers, in
  inconsistency per turn; and the inconsistency in the last third of the turns minus that in the first third, -1 to 1.
  The thirds are those of the run's longest dialogue; a dialogue without rows in both has no part in the difference.

Slopes and differences are over the run and within conversations: each conversation is compared with itself, so that
conversations that differ in length or in level do not look like drift. Beside each stands a row with the p of "no
drift" (`metrics.P_VALUE`).
"""

from __future__ import annotations

import polars as pl

from metrics import metrics_frame, stacked
from metrics.reductions import by_level, groups, of_metric, trend_rows, units
from metrics.stats.intervals import clustered_slope

GLOBAL = {"global_drift": "prompt_to_line", "qa_drift": "qa"}  # the name of a drift over the dialogue -> its judgements


def drift_rows(turns: pl.DataFrame, judgements: pl.DataFrame, *, window: int, confidence: float) -> pl.DataFrame:
    """The rows of local and global drift, for each judge and seat.

    `window` counts a seat's own previous lines. Raises ValueError where it is below 1.
    """
    near, length = near_pairs(turns, judgements, window), longest(turns)
    parts = [local(near, confidence=confidence), slopes(near, "local_drift_slope", confidence=confidence)]
    for name, metric in GLOBAL.items():
        rows = of_metric(judgements, metric)
        parts += [
            slopes(rows, f"{name}_slope", confidence=confidence),
            thirds(rows, f"{name}_thirds", length, confidence=confidence),
        ]
    return stacked(parts)


def longest(turns: pl.DataFrame) -> int:
    """The number of turns of the run's longest dialogue; 1 without turns."""
    return 1 + (turns.select(pl.col("turn").max()).item() or 0)


def own_lines(turns: pl.DataFrame) -> pl.DataFrame:
    """Columns conversation, seat, turn and `own`: the line's number among its seat's lines in the conversation, from
    1.
    """
    return (
        turns.select("conversation", "seat", "turn")
        .sort("conversation", "turn")
        .with_columns(own=pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("conversation", "seat"))
    )


def near_pairs(turns: pl.DataFrame, judgements: pl.DataFrame, window: int) -> pl.DataFrame:
    """The line_to_line rows whose earlier line is among the previous `window` lines of the same seat.

    Raises ValueError where `window` is below 1.
    """
    if window < 1:
        raise ValueError(f"window {window}: expected at least 1 previous line")
    own = own_lines(turns)
    earlier = own.rename({"turn": "against_turn", "own": "against_own"})
    pairs = of_metric(judgements, "line_to_line").with_columns(against_turn=pl.col("against").cast(pl.Int64))
    pairs = pairs.join(own, on=["conversation", "seat", "turn"]).join(
        earlier, on=["conversation", "seat", "against_turn"]
    )
    return pairs.filter((pl.col("own") - pl.col("against_own")).is_between(1, window)).select(judgements.columns)


def local(near: pl.DataFrame, *, confidence: float) -> pl.DataFrame:
    """Rows of local_drift by turn, by conversation and over the run."""
    return stacked(
        by_level(
            rows.with_columns(y=pl.col("inconsistent")), "local_drift", judge, seat, confidence=confidence, share=True
        )
        for judge, seat, rows in groups(near)
    )


def slopes(rows: pl.DataFrame, name: str, *, confidence: float) -> pl.DataFrame:
    """Rows of the least squares slope of inconsistency on the turn, in inconsistency per turn, and of their p."""
    slope_rows = []
    for judge, seat, part in groups(rows):
        part = part.filter(pl.col("inconsistent").is_not_null())
        slope_rows += _trend(part, "turn", name, judge, seat, confidence)
    return metrics_frame(slope_rows)


def thirds(rows: pl.DataFrame, name: str, length: int, *, confidence: float) -> pl.DataFrame:
    """Rows of the inconsistency in the last third of `length` turns minus that in the first third, -1 to 1, and of
    their p. n counts the rows in both thirds.
    """
    difference_rows = []
    for judge, seat, part in groups(rows):
        difference_rows += _trend(of_thirds(part, length), "late", name, judge, seat, confidence)
    return metrics_frame(difference_rows)


def _trend(part: pl.DataFrame, on: str, name: str, judge: str | None, seat: str, confidence: float) -> list[dict]:
    """The rows of the slope of inconsistency on the column `on`, within conversations, and of its p."""
    x, y, conversations = (part[column].to_numpy() for column in (on, "inconsistent", "conversation"))
    slope = clustered_slope(x, y, units(part), centred=conversations, confidence=confidence)
    return trend_rows(slope, name, judge, seat)


def of_thirds(rows: pl.DataFrame, length: int) -> pl.DataFrame:
    """The scored rows in the first and in the last third of `length` turns; column `late` says in which."""
    early, late = 3 * pl.col("turn") < length, 3 * pl.col("turn") >= 2 * length
    return rows.filter(pl.col("inconsistent").is_not_null(), early | late).with_columns(late=late.cast(pl.Float64))
