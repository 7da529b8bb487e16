"""Does a speaker's line contradict who the speaker is supposed to be?

consistency = 1 - contradicting lines / scored lines, in [0, 1], 1 = no line contradicts the persona. One row a line and
judge (against "persona"); rows by fact are detail and not counted here. Abdulhai et al., arXiv 2511.00222, section 3.
"""

from __future__ import annotations

import polars as pl

from metrics.reductions import consistency

METRIC = "prompt_to_line"


def prompt_to_line(judgements: pl.DataFrame, *, confidence: float, resamples: int, seed: int) -> pl.DataFrame:
    """Rows by turn, conversation and run for each judge and seat; intervals cluster by conversation."""
    return consistency(judgements, METRIC, confidence=confidence, resamples=resamples, seed=seed)
