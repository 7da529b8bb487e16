"""Q&A in free text, read by a language model: which value of a fact does an answer express? Scores answers only.

For a slot with known values v, of which the persona's is v*, with c(v) the claim in the first person, q the question
and a the answer:

    s(v) = log P(c(v) | q, a) - log P(c(v) | q, "Hm.")        p_inconsistent = 1 - exp s(v*) / sum over v of exp s(v)

The second term removes what the question alone makes probable. An answer that says nothing about the slot leaves all s
near 0, hence p near 1 - 1 / values: wrong. Since the judge looks for no words, its errors differ from those of
`metrics.judges.answer_words`. The persona's value is compared with others among at most `VALUES` of the slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metrics.judges import Pair, is_blank, judgement
from metrics.judges.likelihood import LogProbs
from scenarios.records import Fact, Judgement

VALUES = 10  # of a slot, the persona's among them
NOTHING = "Hm."
CONTEXT = "Question: {question}\nAnswer: {answer}"


@dataclass(frozen=True)
class Reader:
    """A judge of answers about facts; the verdict is p_inconsistent > 0.5.

    `logprobs(contexts, texts)` returns the log-probabilities of each text's tokens in nats, an empty list where context
    and text together are too long. Pairs of other metrics and blank answers are unscored.
    """

    logprobs: LogProbs
    name: str = "answer_reader"
    metrics: tuple[str, ...] = ("qa",)

    def judge(self, pairs: Sequence[Pair]) -> list[Judgement]:
        """One judgement per pair; `line` is the answer, `other` the question, `against` the fact's id."""
        asked, texts = [], []
        for pair in pairs:
            for answer in (pair.line, NOTHING) if _unscorable(pair) is None else ():
                options = _options(pair.persona.fact(pair.against))
                asked += [CONTEXT.format(question=pair.other, answer=answer)] * len(options)
                texts += options
        scores = iter([sum(nats) if nats else float("nan") for nats in self._once(asked, texts)])
        return [self._row(pair, scores) for pair in pairs]

    def _once(self, contexts: Sequence[str], texts: Sequence[str]) -> list[list[float]]:
        """The result of `logprobs`, computed once for each different pair."""
        different = list(dict.fromkeys(zip(contexts, texts, strict=True)))
        nats = (
            self.logprobs([context for context, _ in different], [text for _, text in different]) if different else []
        )
        known = dict(zip(different, nats, strict=True))
        return [known[request] for request in zip(contexts, texts, strict=True)]

    def _row(self, pair: Pair, scores) -> Judgement:
        if reason := _unscorable(pair):
            return judgement(pair, self.name, unscored=reason)
        size = len(_options(pair.persona.fact(pair.against)))
        answered, alone = (np.array([next(scores) for _ in range(size)]) for _ in range(2))
        gain = answered - alone
        if not np.isfinite(gain).all():
            return judgement(pair, self.name, unscored="the answer is longer than the model reads")
        share = np.exp(gain - gain.max())
        p = float(1 - share[0] / share.sum())
        return judgement(pair, self.name, p_inconsistent=p, verdict=p > 0.5)


def _options(fact: Fact) -> list[str]:
    """Claims of the slot's values; the persona's is first."""
    others = [value for value in (*fact.distractors, *fact.slot.values) if value != fact.value]
    return [fact.slot.claim.format(value=value) for value in dict.fromkeys((fact.value, *others))][:VALUES]


def _unscorable(pair: Pair) -> str | None:
    if pair.metric != "qa":
        return f"reads answers to questions, not {pair.metric}"
    return "empty answer" if is_blank(pair.line) else None
