"""Does a line contradict its speaker's persona, by what two judges see: the judge for personas of free text.

    p_inconsistent = 1 / (1 + exp(-(INTERCEPT + NLI logit(p_nli) + LIKELIHOOD logit(p_likelihood))))

`nli` compares the line with each statement of the persona; `likelihood` says whether the whole line sounds like this
speaker, or like the partner. Each is close to chance where the other one ranks well. The logits are clipped to -MOST to
MOST.

NLI and INTERCEPT come from `python -m lab.selftests.fit_combined`. NLI is the slope of a logistic regression on the lines
of the written cards that were kept from the training of the NLI head (`agents.judge_models.nli_cards`), each held
against its card and, mirrored, against the same card with one statement replaced, for which the other label is right:
what a line alone gives away has no weight there. `likelihood` is at chance there and would get none. LIKELIHOOD was set
by hand, to about the largest weight that costs `nli` little on the cards, in view of two files of published dialogues
where `likelihood` ranks well; no weight was fitted to those. With INTERCEPT, 5% of the clean lines of the kept cards are
accused.

Pairs of lines and answers to questions are judged by `nli` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, log

from metrics.judges import JUDGED, LINES, Judge, Pair
from scenarios.records import Judgement

INTERCEPT, NLI, LIKELIHOOD = -0.25, 0.54, 0.75
MOST = 4.0
PERSONA = "persona"  # what a judgement of the whole persona is against


@dataclass(frozen=True)
class Combined:
    """A judge of lines against personas and earlier lines, and of answers; the verdict is p_inconsistent > 0.5.

    `nli` and `likelihood` are the judges of these names. A line against a persona that one of them cannot score is
    unscored, with its reason.
    """

    nli: Judge
    likelihood: Judge
    name: str = "combined"
    metrics: tuple[str, ...] = JUDGED

    def judge(self, pairs: Sequence[Pair]) -> list[Judgement]:
        """One judgement per pair, in the order of the pairs.

        A contradicting one carries the sentence and the statement that `nli` takes for a contradiction, if it takes
        any.
        """
        lines = [pair for pair in pairs if pair.metric == LINES[0]]
        read = iter([row for row in self.nli.judge(lines) if row.against == PERSONA])
        sounds = iter(self.likelihood.judge(lines))
        others = iter(self.nli.judge([pair for pair in pairs if pair.metric != LINES[0]]))
        return [
            self._both(next(read), next(sounds)) if pair.metric == LINES[0] else replace(next(others), judge=self.name)
            for pair in pairs
        ]

    def _both(self, read: Judgement, sounds: Judgement) -> Judgement:
        if read.p_inconsistent is None or sounds.p_inconsistent is None:
            reason = read.unscored or sounds.unscored
            return replace(
                read, judge=self.name, p_inconsistent=None, verdict=None, unscored=reason, span=None, claim=None
            )
        p = p_inconsistent(read.p_inconsistent, sounds.p_inconsistent)
        shown = {} if p > 0.5 else {"span": None, "claim": None}
        return replace(read, judge=self.name, p_inconsistent=p, verdict=p > 0.5, **shown)


def p_inconsistent(p_nli: float, p_likelihood: float) -> float:
    """The formula of the module's docstring, 0 to 1."""
    return 1 / (1 + exp(-(INTERCEPT + NLI * _logit(p_nli) + LIKELIHOOD * _logit(p_likelihood))))


def _logit(p: float) -> float:
    bound = 1 / (1 + exp(-MOST))
    p = min(max(p, 1 - bound), bound)
    return log(p / (1 - p))
