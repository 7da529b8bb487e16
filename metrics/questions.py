"""Asked about itself after turn t, on a branch that the dialogue never sees, does the speaker still know who it is?

consistency = facts answered right / facts scored, in [0, 1]; right means that the persona's own claim is the most likely one
among the options. Chance is 1 / options, not 0. Abdulhai et al., arXiv 2511.00222, section 3, but answered by the speaker
itself: there, a judge answers with the persona in its prompt.
"""

from __future__ import annotations

import polars as pl

from metrics.reductions import consistency

METRIC = "questions"


def questions(judgements: pl.DataFrame, *, confidence: float, resamples: int, seed: int) -> pl.DataFrame:
    """Rows by turn (after which it was asked), conversation and run for each judge and seat; clustered intervals."""
    return consistency(judgements, METRIC, confidence=confidence, resamples=resamples, seed=seed)
