"""What every seat is given and gives back: cues, utterances, questions, and the reasons why a line could not be
said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agents.engine.protocol import Sample

SPEAKS_FIRST = "(The conversation begins. You speak first.)"  # what a seat hears when there is nothing to hear yet
SPEAKS_ON = "(They say nothing. Go on.)"  # when it has the word twice in a row
DIRECTION = "\n[{direction}]"  # the card says what brackets mean


@dataclass(frozen=True)
class Cue:
    """The word is yours: under this direction ("" for none), with this seed."""

    direction: str
    seed: int
    turn: int = 0


@dataclass(frozen=True)
class Utterance:
    text: str
    tokens: int
    token_ids: tuple[int, ...] = ()
    logprob: float | None = None
    projections: Mapping[str, float] = field(default_factory=dict)  # see agents.engine.protocol.Sample


@dataclass(frozen=True)
class Trouble:
    """Why there is no answer for a conversation."""

    reason: str


@dataclass(frozen=True)
class Left:
    """The speaker has left: the conversation is over, with the lines that it has."""


@dataclass(frozen=True)
class Question:
    """A Q&A probe, on a branch that the dialogue never sees. The answer is a probability per option, or free text."""

    text: str
    options: tuple[str, ...] = ()
    about: str = ""  # id of the fact that is asked for


@dataclass(frozen=True)
class Spoken:
    """What was sampled at one place of a view: `samples[0]` went on in the dialogue (or none did, where something was
    `given`).
    """

    turn: int
    start: int  # tokens of the view before it
    samples: tuple[Sample, ...]
    texts: tuple[str, ...]
    given: tuple[int, ...] = ()  # of a Q&A probe: token ids between the view and the sample
    about: str = ""  # and the id of the fact that was asked for


class Seat(Protocol):
    def open(self, systems: Mapping[int, str]) -> None:
        """Start a view for each conversation, under its system text."""

    def hear(self, heard: Mapping[int, str]) -> None: ...

    def speak(self, cues: Mapping[int, Cue]) -> dict[int, Utterance | Trouble | Left]: ...

    def recite(self, cues: Mapping[int, Cue], said: Mapping[int, Utterance]) -> dict[int, Utterance]:
        """As though it had said these words on these cues; where they carry no token ids, what comes back does if it
        can.
        """

    def ask(self, questions: Mapping[int, Sequence[Question]]) -> dict[int, list[list[float]] | Trouble]:
        """log p of every option, in nats, on a branch that the dialogue never sees."""

    def tell(
        self, questions: Mapping[int, Sequence[Question]], cues: Mapping[int, Cue]
    ) -> dict[int, list[str] | Trouble]:
        """An answer to every question in words, each on a branch of its own that the dialogue never sees."""

    def close(self, conversations: Sequence[int]) -> None: ...
