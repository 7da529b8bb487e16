"""Is a line its speaker's own? Computed from a language model's log-likelihood under the card, and from the wording.

    p_inconsistent = 1 / (1 + exp(-(INTERCEPT + BORROWED borrowed + UNLIKELY strange + UNMET unmet)))

- `strange`: TYPICAL minus the mean log-likelihood per token of the line under the speaker's own card, in nats, clipped
  to -1 to 1. Beyond that range a line is only unusual, whoever says it.
- `borrowed`: share of the line's words that the speaker's card lacks, weighted up where the partner's card or last line
  has them, times how far the line is about its speaker (`ownership.borrowed`, 0 to 2.5). Most confusions of identity
  describe the speaker in the partner's words.
- `unmet`: where the card demands that the speaker ask the partner: 1 - `ownership.engages` - NEAR times the cosine of
  the line and the nearest sentence of its card; otherwise 0. A student who lectures has taken the teacher's place.

No weight was fitted to labelled dialogues. Which features stayed (among them the words that count as a demand to ask)
was decided on the dialogues that the published figures come from, so expect slightly lower figures on others. NAMED,
SHRINK and UNDECIDED of `ownership`, the bounds of `strange` and the size of BORROWED come from lines of the townsfolk
in which facts were replaced by the partner's or by those of someone who is absent, against true lines and lines that
thank the partner. A logistic fit with one faulty line in six gives 11 for BORROWED and -3 for INTERCEPT; since real
lines hold more new words than those short ones, 8 and -4 are used. UNLIKELY is one logit per nat. UNMET puts a plain
lecture near one half.

It cannot see what takes understanding: "I am no fisherman"; a pastime that does not fit the age; a synonym ("educator"
against "teacher" counts as borrowed); a short line that claims one fact of a person who is absent (the ledger finds
those); the same from a speaker whose card demands questions; and any other language in the script of English.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from metrics.judges import Pair, is_blank, judgement
from metrics.judges.pair_retrieval import Embed
from metrics.judges.text.assertion import sentence_spans
from metrics.judges.text.ownership import asks_of_partner, borrowed, engages, untagged
from metrics.judges.text.statements import names_of
from scenarios.records import Judgement
from scenarios.scripts import not_english

TYPICAL = -2.5  # nats a token, about what a small model gives an ordinary line
INTERCEPT = -4.0  # an ordinary line in words of the card: p = 0.02
BORROWED, UNLIKELY, UNMET = 8.0, 1.0, 4.0
NEAR = 1.0  # of a line that is a sentence of the card nothing is unmet, whatever its form
LogProbs = Callable[[Sequence[str], Sequence[str]], list[list[float]]]  # contexts, texts -> nats of each token


@dataclass(frozen=True)
class Likelihood:
    """A judge of lines against personas; pairs of lines, speakers without a card, and lines and cards in another script
    than English come back unscored.

    `logprobs(cards, texts)` gives, for each text, the log-probabilities of its tokens in nats, as said by a speaker
    whose system prompt is the card at the same index. `embed(texts)` gives rows of unit length whose dot product is the
    similarity of the texts. Each is called at most once for all pairs. Without `embed` the cosine in `unmet` is 0;
    without a partner's card or a previous line nothing counts as borrowed from them.
    """

    logprobs: LogProbs
    embed: Embed | None = None
    name: str = "likelihood"

    def judge(self, pairs: Sequence[Pair]) -> list[Judgement]:
        """One judgement per pair, against what the pair is against; the verdict is p_inconsistent > 0.5."""
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
        """Mean log-likelihood per token (nats) of each (card, line); None where there is no token or a token is
        impossible.
        """
        if not asked:
            return []
        scored = self.logprobs([card for card, _ in asked], [line for _, line in asked])
        if len(scored) != len(asked):
            raise ValueError(f"{len(scored)} lists of log-probabilities: expected one for each of {len(asked)} texts")
        return [float(np.mean(tokens)) if len(tokens) and np.isfinite(tokens).all() else None for tokens in scored]

    def _near(self, asked: list[tuple[str, str]]) -> dict[tuple[str, str], float]:
        """Cosine (-1 to 1) of each line and the nearest sentence of its card; empty without `embed`."""
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
    """The logistic function of the module's docstring, 0 to 1; `own` is a mean log-likelihood in nats per token."""
    strange = np.clip(TYPICAL - own, -1, 1)
    score = INTERCEPT + BORROWED * borrowed + UNLIKELY * strange + UNMET * unmet
    return float(1 / (1 + np.exp(-score)))


def _reason(pair: Pair) -> str | None:
    """Why a pair is not scored."""
    if pair.metric != "prompt_to_line":
        return "scores lines against personas only"
    line = untagged(pair.line)[0]
    if is_blank(line):
        return "empty line"
    if not pair.persona.card.strip():
        return "nothing is known of the speaker"
    return not_english("the line", line) or not_english("the persona", pair.persona.card)
