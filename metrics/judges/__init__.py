"""The interface of judges: pairs in, judgements out. Each judge is a module of this package."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from scenarios.records import Judgement, Persona

LINES = ("prompt_to_line", "line_to_line")
JUDGED = (*LINES, "qa")  # the metrics that judges score
NO_FACTS = "the persona has no facts"  # why a judge of facts leaves something unscored
READ = 10_000  # characters of a line, at most, that judges here read: some 1800 words


@dataclass(frozen=True)
class Pair:
    """A line and what it may contradict."""

    conversation: int
    turn: int  # of the line
    seat: str
    metric: str  # "prompt_to_line", "line_to_line", or "qa"
    line: str  # the line's text, or the answer's
    against: str  # "persona", or the earlier line's turn in digits, or the id of the fact that was asked for
    persona: Persona  # the speaker's
    other: str | None = None  # line_to_line: the earlier line's text; qa: the question's
    partner: Persona | None = None  # who the speaker talks with, where that is known
    heard: str = ""  # the partner's line that this one answers, "" at the start


class Judge(Protocol):
    """Scores pairs in batches.

    There are one or more judgements per pair, in the order of the pairs. A pair that cannot be scored gives an unscored
    judgement with the reason, never a consistent one and never an exception.
    """

    @property
    def name(self) -> str: ...

    def judge(self, pairs: Sequence[Pair]) -> list[Judgement]:
        """The judgements of the pairs: one or more per pair, in the order of the pairs."""
        ...


def scored_by(judge: Judge, pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs whose metric the judge scores (its `metrics`); a judge without `metrics` scores lines and no
    answers.
    """
    wanted = getattr(judge, "metrics", LINES)
    return [pair for pair in pairs if pair.metric in wanted]


def rows_by_pair(pairs: Sequence[Pair], rows: Iterable[Judgement]) -> list[list[Judgement]]:
    """The judgements of each pair, from a judge's judgements of all: first the one against what the pair is against,
    then those against single facts.

    Raises ValueError where a pair has none.
    """
    groups: list[list[Judgement]] = []
    for row in rows:
        if len(groups) < len(pairs) and _key(row) == _key(pairs[len(groups)]):
            groups.append([])
        if groups:
            groups[-1].append(row)
    if len(groups) < len(pairs):
        raise ValueError(f"a judge answered {len(groups)} of {len(pairs)} pairs: expected a row for each, in order")
    return groups


def _key(of: Judgement | Pair) -> tuple:
    return (of.conversation, of.turn, of.seat, of.metric, of.against)


def judgement(pair: Pair, judge: str, **rest) -> Judgement:
    """A judgement of the pair; `rest` gives its outcome and may replace `against`."""
    return Judgement(pair.conversation, pair.turn, pair.seat, pair.metric, judge, **{"against": pair.against, **rest})


def too_long(*texts: str, most: int = READ) -> str | None:
    """Why a judge does not score one of the texts, which is longer than it reads; None where none is."""
    longest = max(map(len, texts))
    return f"a line of {longest:,} characters, more than the {most:,} that are read" if longest > most else None


def is_blank(text: str) -> bool:
    """Whether the text has neither a letter nor a digit."""
    return not any(character.isalnum() for character in text)
