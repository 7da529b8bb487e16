"""What every judge is given and gives back. Concrete judges live beside this file and are chosen by whoever wires
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from scenarios.records import Judgement, Persona

LINES = ("prompt_to_line", "line_to_line")


@dataclass(frozen=True)
class Pair:
    """A line and the thing it may contradict."""

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

    One or more judgements a pair, in the pairs' order; what it cannot score comes back unscored with the reason, never
    as consistent and never as an exception.
    """

    name: str

    def judge(self, pairs: Sequence[Pair]) -> list[Judgement]: ...


def scored_by(judge: Judge, pairs: Sequence[Pair]) -> list[Pair]:
    """Those of the pairs whose metric is the judge's business; one that does not say what is (`metrics`) scores lines
    and no answers.
    """
    wanted = getattr(judge, "metrics", LINES)
    return [pair for pair in pairs if pair.metric in wanted]


def judgement(pair: Pair, judge: str, **rest) -> Judgement:
    """A judgement of that pair; `rest` gives the outcome and may replace `against`."""
    return Judgement(pair.conversation, pair.turn, pair.seat, pair.metric, judge, **{"against": pair.against, **rest})


def is_blank(text: str) -> bool:
    """Whether a line says nothing: no letter and no digit in it."""
    return not any(character.isalnum() for character in text)
