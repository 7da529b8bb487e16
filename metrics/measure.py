"""All metric rows of a run from its two frames: the one place that knows every metric's name.

"drift" brings the survival rows with it (time to first contradiction is drift seen as survival). For prompt_to_line, line_to_line
and questions there is one more row a judge and seat, "unscored_<metric>": the share of rows that could not be scored.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from metrics import stacked
from metrics.contradictions import contradictions
from metrics.drift import drift
from metrics.line_to_line import line_to_line
from metrics.prompt_to_line import prompt_to_line
from metrics.questions import questions
from metrics.reductions import unscored
from metrics.survival import survival

CONSISTENCIES = {"prompt_to_line": prompt_to_line, "line_to_line": line_to_line, "questions": questions}
METRICS = (*CONSISTENCIES, "drift", "contradictions")


def measure(
    turns: pl.DataFrame, judgements: pl.DataFrame, *, metrics: Sequence[str], window: int, confidence: float, resamples: int, seed: int
) -> pl.DataFrame:
    """Metric rows (`metrics.METRICS_SCHEMA`) in the order of `METRICS`; the same input and seed give the same rows.

    Raises ValueError for a metric that does not exist.
    """
    unknown = sorted(set(metrics) - set(METRICS))
    if unknown:
        raise ValueError(f"metric {unknown[0]!r}: expected one of {', '.join(METRICS)}")
    how = {"confidence": confidence, "resamples": resamples, "seed": seed}
    parts = []
    for name in (name for name in CONSISTENCIES if name in metrics):
        parts += [CONSISTENCIES[name](judgements, **how), unscored(judgements, name, **how)]
    if "drift" in metrics:
        parts += [drift(turns, judgements, window=window, **how), survival(turns, judgements, **how)]
    if "contradictions" in metrics:
        parts.append(contradictions(judgements, **how))
    return stacked(parts)
