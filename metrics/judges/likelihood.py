"""Does a line sound like this speaker, to a language model that reads the line after the speaker's card?

For each line: own = mean log-likelihood a token (nats) under the speaker's own card, none = under `NEUTRAL_CARD`, others = mean
over a few other personas' cards. Then

    p_inconsistent = 1 / (1 + exp(-(INTERCEPT + OWN (own - TYPICAL) + OVER_NONE (own - none) + OVER_OTHERS (own - others))))

with three negative weights: the likelier the line under the own card, the less inconsistent. A line that says nothing about anyone
has both differences near 0 and ends below one half. The numbers are set by hand, and the ranking of lines means more than p
itself until they are fitted to labelled lines. Without any other persona the last term is left out.

Blind to lines that any card makes likely. The first term alone would punish rare words, which no card makes likely; the
differences do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from metrics.judges import Pair, is_blank, judgement
from scenarios.records import Judgement, Persona, derive_seed

NEUTRAL_CARD = "You are a person having a conversation."
TYPICAL = -3.0  # nats a token, about what a small model gives an ordinary line
INTERCEPT = -1.0  # a line that no card moves: p = 0.27
OWN = -0.1  # a nat a token
OVER_NONE = -2.0  # a nat a token
OVER_OTHERS = -2.0  # a nat a token

LogProbs = Callable[[Sequence[str], Sequence[str]], list[list[float]]]


@dataclass(frozen=True)
class Likelihood:
    """Scores lines against personas; pairs of lines come back unscored.

    `logprobs(prompts, texts)` gives the natural-log probabilities of each text's tokens, said by a speaker whose system prompt is the
    card of the same place in `prompts`; it is called once for all pairs. `others` are the personas to compare with, `number` of them a
    conversation and seat, drawn with `seed`, never one with the speaker's own card.
    """

    logprobs: LogProbs
    others: tuple[Persona, ...] = ()
    number: int = 1
    seed: int = 0
    name: str = "likelihood"

    def judge(self, pairs: Sequence[Pair]) -> list[Judgement]:
        """One row a pair, against what the pair is against; verdict is p_inconsistent > 0.5."""
        cards = [self._cards(pair) if _scorable(pair) else () for pair in pairs]
        asked = list(dict.fromkeys((card, pair.line) for pair, mine in zip(pairs, cards, strict=True) for card in mine))
        means = dict(zip(asked, self._means(asked), strict=True))
        return [self._row(pair, [means[card, pair.line] for card in mine]) for pair, mine in zip(pairs, cards, strict=True)]

    def _cards(self, pair: Pair) -> tuple[str, ...]:
        """The cards to read a pair's line after: own, neutral, then others."""
        candidates = sorted({other.card for other in self.others} - {pair.persona.card})
        rng = np.random.default_rng(derive_seed(self.seed, "others", pair.conversation, pair.seat))
        drawn = rng.permutation(len(candidates))[: self.number]
        return (pair.persona.card, NEUTRAL_CARD, *(candidates[place] for place in drawn))

    def _means(self, asked: list[tuple[str, str]]) -> list[float | None]:
        """Mean log-likelihood a token of each (card, text); None where there is no token or a token is impossible."""
        if not asked:
            return []
        scored = self.logprobs([card for card, _ in asked], [text for _, text in asked])
        if len(scored) != len(asked):
            raise ValueError(f"{len(scored)} lists of log-probabilities: expected one for each of {len(asked)} texts")
        return [float(np.mean(tokens)) if len(tokens) and np.isfinite(tokens).all() else None for tokens in scored]

    def _row(self, pair: Pair, means: list[float | None]) -> Judgement:
        if not means:
            return judgement(pair, self.name, unscored=_reason(pair))
        if None in means:
            return judgement(pair, self.name, unscored="no finite log-probability")
        p = p_inconsistent(means[0], means[1], means[2:])
        return judgement(pair, self.name, p_inconsistent=p, verdict=p > 0.5)


def p_inconsistent(own: float, none: float, others: Sequence[float] = ()) -> float:
    """The logistic above, 0 to 1, of mean log-likelihoods in nats a token."""
    score = INTERCEPT + OWN * (own - TYPICAL) + OVER_NONE * (own - none)
    if len(others):
        score += OVER_OTHERS * (own - float(np.mean(others)))
    return float(1 / (1 + np.exp(-np.clip(score, -500, 500))))


def _scorable(pair: Pair) -> bool:
    return pair.metric == "prompt_to_line" and not is_blank(pair.line)


def _reason(pair: Pair) -> str:
    return "empty line" if pair.metric == "prompt_to_line" else "scores lines against personas only"
