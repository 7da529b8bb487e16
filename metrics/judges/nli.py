"""Does a line contradict its speaker's persona, according to a model of natural language inference?

A persona becomes a list of statements (`metrics.judges.text.statements`), a line a list of sentences. For statement c
and sentence s:

    p(c, s) = (P(contradiction | c, s) + P(contradiction | s, c)) / 2
    p_inconsistent = max over c and s of p(c, s)

The mean over both orders is taken because contradiction is symmetric and models are not. Line to line, the sentences of
the earlier line take the place of the statements. An answer to a question is scored like a line. Where a persona has
more than `top` statements and `embed` is given, only the `top` statements nearest to the line by cosine are scored.

`entail` may be two models: one for the claims of facts, and one for statements of any kind (sentences of a card; lines
of personas without facts). The latter was trained on (statement, line) and is asked in that order alone. Where there is
a better and slower model too, it reads each sentence again with the CLOSEST statements about which the faster one says
most, P(contradiction) + P(entailment); the other statements then count as neutral. A line that follows from one
statement is less likely to contradict another, so for personas of text

    logit p_inconsistent = logit max p(c, s) - ENTAILED max P(entailment | c, s)

A line of more than `READ` characters is unscored, and so is a pair of more than `MOST_READ` different (statement,
sentence).

The maximum grows with the number of statements. The threshold for a contradiction depends on the model and has to be
calibrated on labelled lines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from metrics.judges import JUDGED, Pair, is_blank, judgement, too_long
from metrics.judges.pair_retrieval import Embed
from metrics.judges.text.ownership import tagged_until, untagged
from metrics.judges.text.statements import said, statements
from scenarios.records import Judgement
from scenarios.scripts import not_english

CONTRADICTION, NEUTRAL, ENTAILMENT = range(3)  # columns
MOST_READ = 2_500  # pairs of a statement and a sentence that are read for one judgement
CLOSEST = 3  # as good as all six statements of a written card
ENTAILED = 2.0  # chosen on the written cards that were kept from training (`agents.judge_models.nli_cards`)
Entail = Callable[[Sequence[str], Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class _Question:
    """The statements and different sentences of one pair, with the fact of each statement (None where it has none)."""

    facts: tuple[str | None, ...]  # beside each statement
    statements: tuple[str, ...]
    free: tuple[bool, ...]  # whether each may be of any kind, and is no claim of a slot
    spans: tuple[tuple[int, int], ...]
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Nli:
    """A judge of lines against personas and earlier lines, and of answers; the verdict is p_inconsistent > 0.5.

    `entail(premises, hypotheses)` gives probabilities of shape (N, 3): contradiction, neutral, entailment. It is called
    once for all pairs. `entail_free(statements, lines)` takes its place for statements that are no claims of slots, and
    `reread` reads the closest of these again.
    `embed(texts)` gives rows of unit length, shape (N, d). With `english` the models know English alone, and pairs
    with a text in another script than English are unscored.
    """

    entail: Entail
    embed: Embed | None = None
    top: int = 12
    entail_free: Entail | None = None
    reread: Entail | None = None
    english: bool = False
    name: str = "nli"
    metrics: tuple[str, ...] = JUDGED

    def judge(self, pairs: Sequence[Pair]) -> list[Judgement]:
        """The judgements of all pairs, in the order of the pairs.

        Prompt to line: one judgement against "persona", then one for each fact that the line is about (for which
        neutral is not the most probable class). Line to line: one judgement. A contradicting judgement carries the
        sentence as `span` and the statement as `claim`.
        """
        reasons = [self._unscorable(pair) for pair in pairs]
        questions = [None if reason else _question(pair) for pair, reason in zip(pairs, reasons, strict=True)]
        questions = self._nearest(questions)
        for place, q in enumerate(questions):
            if q and (size := len(q.statements) * len(q.sentences)) > MOST_READ:
                questions[place] = None
                reasons[place] = f"{size:,} different pairs of sentences, more than the {MOST_READ:,} that are read"
        asked = dict.fromkeys(
            (c, s, free)
            for q in questions
            if q
            for c, free in zip(q.statements, q.free, strict=True)
            for s in q.sentences
        )
        probabilities = self._reread([q for q in questions if q], self._probabilities(list(asked)))
        return [
            row
            for pair, q, reason in zip(pairs, questions, reasons, strict=True)
            for row in (
                self._rows(pair, q, probabilities)
                if q and q.statements
                else [judgement(pair, self.name, unscored=reason or "the persona states nothing")]
            )
        ]

    def _unscorable(self, pair: Pair) -> str | None:
        """Why a pair cannot be asked about."""
        if pair.metric not in JUDGED:
            return f"scores lines against personas and lines, not {pair.metric}"
        line, other = untagged(pair.line)[0], untagged(pair.other or "")[0]
        if is_blank(line) or (pair.metric == "line_to_line" and is_blank(other)):
            return "empty line"
        if (long := too_long(line, other)) or not self.english:
            return long
        against = ("the earlier line", other)
        if pair.metric != "line_to_line":
            against = ("the persona", " ".join(text for _, text in statements(pair.persona)))
        return not_english("the line", line) or not_english(*against)

    def _probabilities(self, asked: list[tuple[str, str, bool]]) -> dict[tuple[str, str, bool], np.ndarray]:
        """Three probabilities for each (statement, sentence, free); by `entail` they are means over both orders."""
        by_key: dict[tuple[str, str, bool], np.ndarray] = {}
        free = [key for key in asked if key[2] and self.entail_free]
        others = [key for key in asked if not (key[2] and self.entail_free)]
        if self.entail_free and free:
            first, second = [key[0] for key in free], [key[1] for key in free]
            by_key.update(zip(free, _checked(self.entail_free(first, second), len(free)), strict=True))
        if others:
            first, second = [key[0] for key in others], [key[1] for key in others]
            both = _checked(self.entail(first + second, second + first), 2 * len(others))
            by_key.update(zip(others, (both[: len(others)] + both[len(others) :]) / 2, strict=True))
        return by_key

    def _reread(
        self, questions: Sequence[_Question], p: dict[tuple[str, str, bool], np.ndarray]
    ) -> dict[tuple[str, str, bool], np.ndarray]:
        """The probabilities, with those of free statements by `reread` where they are the closest of some question, and
        neutral elsewhere.
        """
        if self.reread is None:
            return p
        close: dict[tuple[str, str, bool], None] = {}
        for q in questions:
            statements = [c for c, free in zip(q.statements, q.free, strict=True) if free]
            for s in q.sentences:
                keys = sorted(((c, s, True) for c in statements), key=lambda key: p[key][NEUTRAL])
                close.update(dict.fromkeys(keys[:CLOSEST]))
        again = _checked(self.reread([c for c, _, _ in close], [s for _, s, _ in close]), len(close)) if close else ()
        neutral = np.eye(3)[NEUTRAL]
        return {key: neutral if key[2] else row for key, row in p.items()} | dict(zip(close, again, strict=True))

    def _nearest(self, questions: list[_Question | None]) -> list[_Question | None]:
        many = [q for q in questions if q and len(q.statements) > self.top]
        if self.embed is None or not many:
            return questions
        texts = list(dict.fromkeys(text for q in many for text in q.statements + q.sentences))
        vectors = dict(zip(texts, self.embed(texts), strict=True))

        def cut(q: _Question) -> _Question:
            # (C, S)
            near = np.stack([vectors[c] for c in q.statements]) @ np.stack([vectors[s] for s in q.sentences]).T
            kept = sorted(np.argsort(-near.max(1), kind="stable")[: self.top])
            return replace(
                q,
                facts=tuple(q.facts[i] for i in kept),
                statements=tuple(q.statements[i] for i in kept),
                free=tuple(q.free[i] for i in kept),
            )

        return [cut(q) if q and len(q.statements) > self.top else q for q in questions]

    def _rows(
        self, pair: Pair, q: _Question, probabilities: dict[tuple[str, str, bool], np.ndarray]
    ) -> list[Judgement]:
        stated = list(zip(q.statements, q.free, strict=True))
        p = np.stack([np.stack([probabilities[c, s, free] for s in q.sentences]) for c, free in stated])  # (C, S, 3)
        if not np.isfinite(p).all():
            return [judgement(pair, self.name, unscored="no finite probability")]
        wrong = p[:, :, CONTRADICTION]
        if self.entail_free and not pair.persona.facts and pair.metric != "line_to_line":
            wrong = _discounted(wrong, p[:, :, ENTAILMENT].max())
        worst, sentence = np.unravel_index(wrong.argmax(), wrong.shape)
        rows = [self._row(pair, q, wrong, int(worst), int(sentence))]
        for c, fact in enumerate(q.facts if pair.metric != "qa" else ()):
            if fact is not None and (p[c].argmax(1) != NEUTRAL).any():
                rows.append(self._row(pair, q, wrong, c, int(wrong[c].argmax()), against=fact))
        return rows

    def _row(self, pair: Pair, q: _Question, wrong: np.ndarray, c: int, s: int, **rest) -> Judgement:
        p = float(wrong[c, s])
        shown = {"span": q.spans[s], "claim": q.statements[c]} if p > 0.5 else {}
        return judgement(pair, self.name, p_inconsistent=p, verdict=p > 0.5, **shown, **rest)


def _checked(probabilities: np.ndarray, n: int) -> np.ndarray:
    checked = np.asarray(probabilities, float)
    if checked.shape != (n, 3):
        raise ValueError(f"probabilities of shape {checked.shape}: expected ({n}, 3)")
    return checked


def _discounted(p: np.ndarray, entailed: float) -> np.ndarray:
    """p on the logit scale, less ENTAILED times the probability that the line follows from some statement."""
    odds = np.exp(-ENTAILED * entailed)
    return p * odds / (1 - p + p * odds)


def _question(pair: Pair) -> _Question:
    between = pair.metric == "line_to_line"
    spans: dict[str, tuple[int, int]] = {}
    for start, end in _said(pair.line):
        spans.setdefault(pair.line[start:end], (start, end))
    if between:
        other = pair.other or ""
        claims = [(None, text) for text in dict.fromkeys(other[start:end] for start, end in _said(other))]
    else:
        claims = statements(pair.persona)
    return _Question(
        tuple(fact for fact, _ in claims),
        tuple(text for _, text in claims),
        tuple(not pair.persona.facts if between else fact is None for fact, _ in claims),
        tuple(spans.values()),
        tuple(spans),
    )


def _said(line: str) -> list[tuple[int, int]]:
    """Spans of the sentences of a line that may claim something, without a speaker's name before them."""
    begin = tagged_until(line)
    return [(begin + start, begin + end) for start, end in said(line[begin:])]
