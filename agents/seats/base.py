"""The interface of seats: cues, utterances, questions, and the reasons for a missing line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agents.engine.protocol import Sample
from scenarios.spoken import Speaker

SPEAKS_FIRST = "(The conversation begins. You speak first.)"  # what a seat hears when there is nothing to hear yet
SPEAKS_ON = "(They say nothing. Go on.)"  # when it has the word twice in a row
INSTRUCTION = "\n[{instruction}]"  # the card says what brackets mean


@dataclass(frozen=True)
class Cue:
    """A request for a line, with its instruction ("" for none) and its seed."""

    instruction: str
    seed: int
    turn: int = 0
    speaker: Speaker | None = None  # whose line ends where it goes on as the partner's; None: nothing is cut


@dataclass(frozen=True)
class Utterance:
    """A line of a seat, with its tokens and log-probability where they are known."""

    text: str
    tokens: int
    token_ids: tuple[int, ...] = ()
    logprob: float | None = None
    projections: Mapping[str, float] = field(default_factory=dict)  # see agents.engine.protocol.Sample
    cut: str = ""  # what stood behind the text and went on as the partner


@dataclass(frozen=True)
class Trouble:
    """The reason why a seat gave no answer in a conversation."""

    reason: str


@dataclass(frozen=True)
class Left:
    """The speaker has left: the conversation ends with the lines so far."""


@dataclass(frozen=True)
class Question:
    """A Q&A probe on a branch that the dialogue never sees, answered by log-probabilities of options or by free
    text.
    """

    text: str
    options: tuple[str, ...] = ()
    about: str = ""  # id of the fact that is asked for


@dataclass(frozen=True)
class Spoken:
    """The samples at one place of a view.

    `samples[0]` continued the dialogue; for an answer to a Q&A probe (with `given` and `about`), none did.
    """

    turn: int
    start: int  # tokens of the view before it
    samples: tuple[Sample, ...]
    texts: tuple[str, ...]
    given: tuple[int, ...] = ()  # of a Q&A probe: token ids between the view and the sample
    about: str = ""  # and the id of the fact that was asked for


class Seat(Protocol):
    """A speaker of many conversations at once; all arguments and results are by conversation number."""

    def open(self, systems: Mapping[int, str]) -> None:
        """Starts a view for each conversation, with its system text."""

    def hear(self, heard: Mapping[int, str]) -> None:
        """Adds the partner's lines to the views."""

    def speak(self, cues: Mapping[int, Cue]) -> Mapping[int, Utterance | Trouble | Left]:
        """A new line for each cue, which is added to its view; `Trouble` where there is none, `Left` where a person has
        left.
        """
        ...

    def recite(self, cues: Mapping[int, Cue], said: Mapping[int, Utterance]) -> dict[int, Utterance]:
        """Adds given lines to the views as the seat's own, and returns them, with token ids where the seat can encode
        them.
        """
        ...

    def ask(self, questions: Mapping[int, Sequence[Question]]) -> dict[int, list[list[float]] | Trouble]:
        """The log-probability of every option of every question, in nats, summed over the option's tokens; or
        `Trouble`.
        """
        ...

    def answer(
        self, questions: Mapping[int, Sequence[Question]], cues: Mapping[int, Cue]
    ) -> dict[int, list[str] | Trouble]:
        """A free-text answer to every question, each on its own branch that the dialogue never sees; or `Trouble`."""
        ...

    def close(self, conversations: Sequence[int]) -> None:
        """Frees the views of these conversations."""
