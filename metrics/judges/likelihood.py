"""Is this line the speaker's own? Asked of a language model that reads it after the speaker's card, and of the line's
own words.

    p_inconsistent = 1 / (1 + exp(-(INTERCEPT + BORROWED borrowed + UNLIKELY strange + UNMET unmet)))

strange   TYPICAL minus the mean log-likelihood of the line a token under the speaker's own card, in nats and within -1
and 1: beyond
          that a line is only odd, whoever says it;
borrowed  share of the line's words that the own card lacks, more so where the partner's card or last line holds them,
as far as the
          line is about its speaker (`ownership.borrowed`, 0 to 2.5): most slips of identity speak of oneself in the
          partner's words;
unmet     where the card demands to ask of the partner: 1 - `ownership.engages` - NEAR times the cosine of the line and
its nearest
          sentence of the card; else 0. A student who lectures has taken the teacher's place.

No weight was fitted to labelled dialogues, but which ideas stayed (which words count as a demand to ask, among them)
was decided in view of the dialogues that its figures are of: expect a little less on others. NAMED, SHRINK and
UNDECIDED of `ownership`, the bounds of `strange` and the size of BORROWED come from lines of the townsfolk with facts
swapped for the partner's or a stranger's, against true lines and thanks for what the partner told: a logistic fit with
one line in six at fault gives 11 for `borrowed` and an intercept of -3. Real lines hold more words of their own than
such short ones, so 8 and -4 are taken. UNLIKELY is one logit a nat; UNMET lets a plain lecture come out near one half.

Blind to what takes understanding: "I am no fisherman", a pastime that does not fit the age, another word for the same
thing ("educator" against "teacher" counts as borrowed), a short line that claims one fact of nobody present (the ledger
finds those), a slip of a speaker who has to ask into the facts of nobody present, and all languages but English.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from metrics.judges import Pair, is_blank, judgement
from metrics.judges.text.assertion import sentence_spans
from metrics.judges.text.ownership import asks_of_partner, borrowed, engages, untagged
from metrics.judges.text.statements import names_of
from scenarios.records import Judgement

TYPICAL = -2.5  # nats a token, about what a small model gives an ordinary line
INTERCEPT = -4.0  # an ordinary line in words of the card: p = 0.02
BORROWED, UNLIKELY, UNMET = 8.0, 1.0, 4.0
NEAR = 1.0  # of a line that is a sentence of the card nothing is unmet, whatever its form
LogProbs = Callable[[Sequence[str], Sequence[str]], list[list[float]]]
Embed = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class Likelihood:
    """Scores lines against personas; pairs of lines come back unscored, and so do speakers without a card.

    `logprobs(cards, texts)` gives the natural-log probabilities of each text's tokens, said by a speaker whose system
    prompt is the card of the same place; `embed(texts)` rows of unit length whose dot product is the texts' likeness.
    Both are called at most once for all pairs. Without `embed` the likeness in `unmet` is 0; without a partner's card
    or a heard line nothing counts as borrowed from them.
    """

    logprobs: LogProbs
    embed: Embed | None = None
    name: str = "likelihood"

    def judge(self, pairs: Sequence[Pair]) -> list[Judgement]:
        """One row a pair, against what the pair is against; verdict is p_inconsistent > 0.5."""
        reasons = [_reason(pair) for pair in pairs]
        lines = [untagged(pair.line)[0] for pair in pairs]
        keys = [(pair.persona.card, line) for pair, line in zip(pairs, lines, strict=True)]
        asked = list(dict.fromkeys(key for key, reason in zip(keys, reasons, strict=True) if not reason))
        means = dict(zip(asked, self._means(asked), strict=True))
        near = self._near([(card, line) for card, line in asked if asks_of_partner(card)])
        return [
            judgement(pair, self.name, unscored=reason)
            if reason
            else self._row(pair, key[1], means[key], near.get(key, 0.0))
            for pair, key, reason in zip(pairs, keys, reasons, strict=True)
        ]

    def _row(self, pair: Pair, line: str, own: float | None, near: float) -> Judgement:
        if own is None:
            return judgement(pair, self.name, unscored="no finite log-probability, or longer than the model reads")
        heard, tag = untagged(pair.heard)
        names, card = {tag} - {""}, ""
        if pair.partner is not None:
            card = pair.partner.card
            names |= {pair.partner.name, *names_of(pair.partner.name, card)}
        unmet = 1 - engages(line) - NEAR * near if asks_of_partner(pair.persona.card) else 0.0
        p = p_inconsistent(own, borrowed(line, pair.persona.card, card, heard, names), unmet)
        return judgement(pair, self.name, p_inconsistent=p, verdict=p > 0.5)

    def _means(self, asked: list[tuple[str, str]]) -> list[float | None]:
        """Mean log-likelihood a token of each (card, line); None where there is no token or a token is impossible."""
        if not asked:
            return []
        scored = self.logprobs([card for card, _ in asked], [line for _, line in asked])
        if len(scored) != len(asked):
            raise ValueError(f"{len(scored)} lists of log-probabilities: expected one for each of {len(asked)} texts")
        return [float(np.mean(tokens)) if len(tokens) and np.isfinite(tokens).all() else None for tokens in scored]

    def _near(self, asked: list[tuple[str, str]]) -> dict[tuple[str, str], float]:
        """Cosine of each line and the nearest sentence of its card, -1 to 1; empty without `embed`."""
        if not asked or self.embed is None:
            return {}
        parts = {card: [card[start:end] for start, end in sentence_spans(card)] for card, _ in asked}
        texts = list(
            dict.fromkeys(
                [line for _, line in asked]
                + [part for sentences_of_card in parts.values() for part in sentences_of_card]
            )
        )
        at = dict(zip(texts, self.embed(texts), strict=True))
        return {(card, line): float(max(at[part] @ at[line] for part in parts[card])) for card, line in asked}


def p_inconsistent(own: float, borrowed: float = 0.0, unmet: float = 0.0) -> float:
    """The logistic above, 0 to 1; `own` in nats a token."""
    strange = np.clip(TYPICAL - own, -1, 1)
    score = INTERCEPT + BORROWED * borrowed + UNLIKELY * strange + UNMET * unmet
    return float(1 / (1 + np.exp(-score)))


def _reason(pair: Pair) -> str | None:
    """Why a pair is not scored."""
    if pair.metric != "prompt_to_line":
        return "scores lines against personas only"
    if is_blank(untagged(pair.line)[0]):
        return "empty line"
    return None if pair.persona.card.strip() else "nothing is known of the speaker"
