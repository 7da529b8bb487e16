"""Q&A by multiple choice: is the true claim the most probable one when a speaker is asked about a fact?

p_right = exp(l_0) / Σ exp(l_i) over the options' log-probabilities (nats, summed over their tokens; the true claim is
first). The options share the frame of the claim and differ only in the value, so that sums are comparable. A value that
is probable in general (a common name) has an advantage, which cancels in a comparison of a run before and after.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scenarios.records import Fact, Judgement

NAME = "multiple_choice"


def choice_judgement(
    conversation: int, turn: int, seat: str, fact: Fact, logprobs: Sequence[float] | None, unscored: str | None = None
) -> Judgement:
    """The judgement of a fact's question after `turn`: p_inconsistent = 1 - p_right, 0 to 1.

    The verdict is True where another claim is the most probable. `logprobs` has one value per option of the fact, or is
    None with the reason in `unscored`.
    """
    where = (conversation, turn, seat, "qa", NAME, fact.id)
    if logprobs is None or not all(map(math.isfinite, logprobs)):
        return Judgement(*where, unscored=unscored or "an option has no finite log-probability")
    highest = max(logprobs)
    weights = [math.exp(value - highest) for value in logprobs]
    return Judgement(*where, p_inconsistent=1 - weights[0] / sum(weights), verdict=logprobs[0] < highest)
