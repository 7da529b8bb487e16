"""Q&A by forced choice: does a speaker, asked about one of its facts, find the true claim the likeliest?

p_right = exp(l_0) / Σ exp(l_i) over the options' log-probabilities (nats, summed over their tokens, the right claim
first). The options share the claim's frame and differ in the value only, so sums compare like with like; a value that
is likely in any mouth (a common name) still has a head start, which the before-and-after of a run does not share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scenarios.records import Fact, Judgement

NAME = "multiple_choice"


def choice_judgement(
    conversation: int, turn: int, seat: str, fact: Fact, logprobs: Sequence[float] | None, unscored: str | None = None
) -> Judgement:
    """The answer to a fact's question after `turn`: p_inconsistent = 1 - p_right, verdict True where another claim
    wins.

    `logprobs`: one per `fact.options`, or None with the reason in `unscored`.
    """
    where = (conversation, turn, seat, "qa", NAME, fact.id)
    if logprobs is None or not all(map(math.isfinite, logprobs)):
        return Judgement(*where, unscored=unscored or "an option has no finite log-probability")
    highest = max(logprobs)
    weights = [math.exp(value - highest) for value in logprobs]
    return Judgement(*where, p_inconsistent=1 - weights[0] / sum(weights), verdict=logprobs[0] < highest)
