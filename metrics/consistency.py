"""Consistency of a speaker: with its persona, with its own earlier lines, and in its answers to questions.

Each measure is 1 - contradicting / scored, in [0, 1]; 1 means that nothing contradicts (Abdulhai et al., arXiv
2511.00222, section 3). All but the last are `metrics.reductions.consistency_rows` of the judgements of that name:

- `prompt_to_line`: lines that contradict the persona / scored lines. There is one row per line and judge (against
  "persona"); rows for single facts are detail and are not counted here.
- `line_to_line`: contradicting pairs / scored pairs of lines of one speaker. A pair counts at the turn of its later
  line.
- `qa`: facts answered correctly / facts scored, asked after turn t on a branch that the dialogue never sees. In
  multiple choice an answer is correct where the persona's own claim is the most probable option; chance is 1 / options,
  not 0. In the paper a judge answers with the persona in its prompt; here the speaker itself answers.
- `judged_pairs`: pairs with a row / all pairs of the lines that occur in any row, in [0, 1]. It is below 1 where pairs
  were retrieved (`metrics.judges.pair_retrieval`). A pair without a row is in no other measure.
"""

from __future__ import annotations

import polars as pl

from metrics import metrics_frame
from metrics.reductions import groups, interval_row, of_metric
from metrics.stats.shares import share_of_counts

LINE_TO_LINE = "line_to_line"


def judged_pairs(judgements: pl.DataFrame, *, confidence: float) -> pl.DataFrame:
    """Share of pairs that were judged, 0 to 1, over the run, for each judge and seat; n counts all pairs."""
    rows = []
    for judge, seat, part in groups(of_metric(judgements, LINE_TO_LINE)):
        ends = pl.concat(
            [
                part.select("conversation", line="turn"),
                part.select("conversation", line=pl.col("against").cast(pl.Int64)),
            ]
        )
        lines = ends.unique().group_by("conversation").agg(lines=pl.len().cast(pl.Float64))
        counts = (
            part.group_by("conversation")
            .agg(judged=pl.len().cast(pl.Float64))
            .join(lines, on="conversation")
            .sort("conversation")
        )
        counts = counts.select("judged", pairs=pl.col("lines") * (pl.col("lines") - 1) / 2)
        share = share_of_counts(counts["judged"].to_numpy(), counts["pairs"].to_numpy(), confidence=confidence)
        rows.append(interval_row(share, "judged_pairs", judge, seat, "run"))
    return metrics_frame(rows)
