"""Does a speaker's line contradict an earlier line of the same speaker?

consistency = 1 - contradicting pairs / scored pairs, in [0, 1], 1 = no pair contradicts. A pair counts at the turn of its
later line. Abdulhai et al., arXiv 2511.00222, section 3.
"""

from __future__ import annotations

import polars as pl

from metrics.reductions import consistency

METRIC = "line_to_line"


def line_to_line(judgements: pl.DataFrame, *, confidence: float, resamples: int, seed: int) -> pl.DataFrame:
    """Rows by turn, conversation and run for each judge and seat; intervals cluster by conversation."""
    return consistency(judgements, METRIC, confidence=confidence, resamples=resamples, seed=seed)
