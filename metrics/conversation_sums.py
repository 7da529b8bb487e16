"""Sums by conversation behind every measure of a run, so that two runs can be compared by conversation.

A measure with a row per conversation is the mean over its scored rows: the sum of value * n over the sum of n, which
equals the run's own value. Counts and maxima (`PER_CONVERSATION`) are compared as means over conversations, since runs
may have different numbers of conversations. Slopes and differences of thirds are computed from the judgements.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from metrics import UNSCORED
from metrics.catalogue import CONSISTENCIES
from metrics.contradictions import PER_CONVERSATION
from metrics.drift import GLOBAL, longest, near_pairs, of_thirds
from metrics.reductions import groups, of_metric
from metrics.stats.differences import Statistic
from metrics.stats.intervals import ratio, slope_statistic, slope_sums
from scenarios.records import SEATS

Key = tuple[str, str | None, str]  # metric, judge, seat


@dataclass(frozen=True)
class Sums:
    """One measure of one run: the sums (K,) of each conversation, and the statistic of their total."""

    by_conversation: dict[int, np.ndarray]
    statistic: Statistic

    def rows(self, conversations: list[int]) -> np.ndarray:
        """The sums (C, K) of these conversations. Raises KeyError for a conversation without sums."""
        return np.stack([self.by_conversation[c] for c in conversations]) if conversations else np.empty((0, 0))


def mean(sums: np.ndarray) -> np.ndarray:
    """The sum divided by the count, (R, 2) -> (R, 1); NaN where the count is 0."""
    return ratio(sums[:, :1], sums[:, 1:])


def of_run(turns: pl.DataFrame, judgements: pl.DataFrame, metrics: pl.DataFrame, *, window: int) -> dict[Key, Sums]:
    """The sums of every measure of the run that can be computed from sums, by (metric, judge, seat).

    Conversations without scored rows are left out, and of trends those without rows at two places.
    """
    measured, sums = set(metrics["metric"]), dict(_means(metrics))
    if "local_drift_slope" in measured:
        sums |= dict(_trends("local_drift_slope", near_pairs(turns, judgements, window), None))
    for name, metric in GLOBAL.items():
        for kind, length in (("slope", None), ("thirds", longest(turns))):
            if f"{name}_{kind}" in measured:
                sums |= dict(_trends(f"{name}_{kind}", of_metric(judgements, metric), length))
    for name in CONSISTENCIES:
        if UNSCORED + name in measured:
            sums |= dict(_missing(name, judgements))
    return sums


def _means(metrics: pl.DataFrame) -> Iterator[tuple[Key, Sums]]:
    rows = metrics.filter(
        pl.col("level") == "conversation", pl.col("n") > 0, pl.col("value").is_finite(), pl.col("seat").is_in(SEATS)
    )
    for (metric, judge, seat), part in rows.partition_by("metric", "judge", "seat", as_dict=True).items():
        once = metric in PER_CONVERSATION
        yield (
            (metric, judge, seat),
            Sums(
                {
                    row["conversation"]: np.array([row["value"], 1.0] if once else [row["value"] * row["n"], row["n"]])
                    for row in part.iter_rows(named=True)
                },
                mean,
            ),
        )


def _trends(name: str, rows: pl.DataFrame, length: int | None) -> Iterator[tuple[Key, Sums]]:
    """Slopes where `length` is None; otherwise the last third of `length` turns minus the first third."""
    for judge, seat, part in groups(rows):
        part = part.filter(pl.col("inconsistent").is_not_null()) if length is None else of_thirds(part, length)
        x, y, clusters = (
            part[column].to_numpy() for column in ("turn" if length is None else "late", "inconsistent", "conversation")
        )
        names, sums = slope_sums(x, y, clusters)
        known = {name: row for name, row in zip(names.tolist(), sums, strict=True) if row[1] > 0}
        yield (name, judge, seat), Sums(known, slope_statistic)


def _missing(metric: str, judgements: pl.DataFrame) -> Iterator[tuple[Key, Sums]]:
    for judge, seat, part in groups(of_metric(judgements, metric)):
        counts = part.group_by("conversation").agg(missing=pl.col("inconsistent").is_null().sum(), n=pl.len())
        yield (
            (UNSCORED + metric, judge, seat),
            Sums({c: np.array([k, n], float) for c, k, n in counts.iter_rows()}, mean),
        )
