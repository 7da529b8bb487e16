"""Does a speaker's line contradict an earlier line of the same speaker?

consistency = 1 - contradicting pairs / scored pairs, in [0, 1], 1 = no pair contradicts. A pair counts at the turn of its
later line. Abdulhai et al., arXiv 2511.00222, section 3.

judged_pairs = pairs with a row / all pairs of the lines that are in any, in [0, 1]; below 1 where pairs were retrieved
(`metrics.retrieval`). A pair without a row is in no other figure.
"""

from __future__ import annotations

import polars as pl

from metrics import frame
from metrics.reductions import consistency, for_group, groups, interval_row, of_metric
from metrics.statistics import clustered_statistic

METRIC = "line_to_line"


def line_to_line(judgements: pl.DataFrame, *, confidence: float, resamples: int, seed: int) -> pl.DataFrame:
    """Rows by turn, conversation and run for each judge and seat; intervals cluster by conversation."""
    return consistency(judgements, METRIC, confidence=confidence, resamples=resamples, seed=seed)


def judged_pairs(judgements: pl.DataFrame, *, confidence: float, resamples: int, seed: int) -> pl.DataFrame:
    """Share of pairs that were judged, over the run for each judge and seat; n counts all pairs."""
    how, rows = {"confidence": confidence, "resamples": resamples, "seed": seed}, []
    for judge, seat, part in groups(of_metric(judgements, METRIC)):
        ends = pl.concat([part.select("conversation", line="turn"), part.select("conversation", line=pl.col("against").cast(pl.Int64))])
        lines = ends.unique().group_by("conversation").agg(lines=pl.len().cast(pl.Float64))
        counts = part.group_by("conversation").agg(judged=pl.len().cast(pl.Float64)).join(lines, on="conversation").sort("conversation")
        counts = counts.select("judged", pairs=pl.col("lines") * (pl.col("lines") - 1) / 2)
        share = clustered_statistic(counts.to_numpy(), lambda sums: sums[:, :1] / sums[:, 1:], n=int(counts["pairs"].sum()),
                                    **for_group(how, "judged_pairs", judge, seat))
        rows.append(interval_row(share, "judged_pairs", judge, seat, "run"))
    return frame(rows)
