"""All metric rows of a run from its two frames: the one place that knows every metric's name.

"line_to_line" brings the share of pairs that were judged, "drift" the survival rows (time to first contradiction is
drift seen as survival). For prompt_to_line, line_to_line and qa there is one more row a judge and seat,
"unscored_<metric>": the share of rows that could not be scored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import polars as pl

from metrics import stacked
from metrics.activation import activation
from metrics.consistency import judged_pairs, line_to_line, prompt_to_line, qa
from metrics.contradictions import contradictions, shape
from metrics.drift import drift
from metrics.reductions import unscored
from metrics.survival import survival
from metrics.tripwires import tripwires

CONSISTENCIES = {"prompt_to_line": prompt_to_line, "line_to_line": line_to_line, "qa": qa}
METRICS = (*CONSISTENCIES, "drift", "contradictions", "tripwires", "activation")


def measure(
    turns: pl.DataFrame,
    judgements: pl.DataFrame,
    *,
    metrics: Sequence[str],
    window: int,
    confidence: float,
    resamples: int,
    seed: int,
    cards: Mapping[tuple[int, str], str] | None = None,
    embed: Callable | None = None,
    logprobs: Callable | None = None,
    activations: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Metric rows (`metrics.METRICS_SCHEMA`) in the order of `METRICS`; the same input and seed give the same rows.

    `activations` (conversation, turn, seat, value) are for "activation"; `cards` by (conversation, seat), `embed` and
    `logprobs` for the tripwires; those that lack what they need are left out or NaN. Lines that no judge was asked
    about (the scenario gave their words) trip no wire. Raises ValueError for a metric that does not exist.
    """
    unknown = sorted(set(metrics) - set(METRICS))
    if unknown:
        raise ValueError(f"metric {unknown[0]!r}: expected one of {', '.join(METRICS)}")
    how = {"confidence": confidence, "resamples": resamples, "seed": seed}
    parts = []
    for name in (name for name in CONSISTENCIES if name in metrics):
        parts += [CONSISTENCIES[name](judgements, **how), unscored(judgements, name, **how)]
    if "line_to_line" in metrics:
        parts.append(judged_pairs(judgements, **how))
    if "drift" in metrics:
        parts += [drift(turns, judgements, window=window, **how), survival(turns, judgements, **how)]
    if "contradictions" in metrics:
        parts += [contradictions(judgements, **how), shape(turns, judgements, **how)]
    if "tripwires" in metrics:
        asked = judgements.filter(pl.col("metric") == "prompt_to_line")
        parts.append(
            tripwires(turns, cards, counted=None if asked.is_empty() else asked, embed=embed, logprobs=logprobs, **how)
        )
    if "activation" in metrics:
        parts.append(activation(activations, judgements, **how))
    return stacked(parts)
