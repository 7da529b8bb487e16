"""Seats with given lines: from a script, or typed by a person."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from agents.seats.base import Cue, Left, Question, Trouble, Utterance
from scenarios.messages import composed
from scenarios.scripts import count_words
from scenarios.spoken import spoken_words


class ScriptedSeat:
    """A seat that says the given lines in order, and starts again after the last one."""

    def __init__(self, script: Sequence[str]) -> None:
        self.script = tuple(script)
        self._spoken: dict[int, int] = {}

    def open(self, systems: Mapping[int, str]) -> None:
        self._spoken.update(dict.fromkeys(systems, 0))

    def hear(self, heard: Mapping[int, str]) -> None:
        """Does nothing: a script does not depend on the partner's lines."""

    def speak(self, cues: Mapping[int, Cue]) -> dict[int, Utterance]:
        texts = {c: self.script[self._spoken[c] % len(self.script)] for c in cues}
        words = {c: spoken_words(text, cues[c].speaker) for c, text in texts.items()}
        self._spoken.update({c: self._spoken[c] + 1 for c in cues})
        return {c: Utterance(said.text, count_words(said.text), cut=said.cut) for c, said in words.items()}

    def recite(self, cues: Mapping[int, Cue], said: Mapping[int, Utterance]) -> dict[int, Utterance]:
        for c, utterance in said.items():
            # else words the scenario gave
            script = self.script[self._spoken[c] % len(self.script)]
            self._spoken[c] += utterance.text in (script, spoken_words(script, cues[c].speaker).text)
        return dict(said)

    def ask(self, questions: Mapping[int, Sequence[Question]]) -> dict[int, list[list[float]] | Trouble]:
        return dict.fromkeys(questions, Trouble("a scripted speaker cannot be asked"))

    def answer(
        self, questions: Mapping[int, Sequence[Question]], cues: Mapping[int, Cue]
    ) -> dict[int, list[str] | Trouble]:
        return dict.fromkeys(questions, Trouble("a scripted speaker cannot be asked"))

    def close(self, conversations: Sequence[int]) -> None:
        for c in conversations:
            self._spoken.pop(c, None)


class HumanSeat:
    """The seat of a person. A callable gives the person's line for a conversation and a cue, or None where the person
    leaves.
    """

    def __init__(self, words: Callable[[int, Cue], str | None]) -> None:
        self.words = words

    def open(self, systems: Mapping[int, str]) -> None:
        """Does nothing: a person has no view."""

    def hear(self, heard: Mapping[int, str]) -> None:
        """Does nothing: the caller shows the lines to the person."""

    def speak(self, cues: Mapping[int, Cue]) -> dict[int, Utterance | Left]:
        texts = {c: composed(self.words(c, cue)) for c, cue in cues.items()}
        return {c: Left() if text is None else Utterance(text, count_words(text)) for c, text in texts.items()}

    def recite(self, cues: Mapping[int, Cue], said: Mapping[int, Utterance]) -> dict[int, Utterance]:
        return dict(said)

    def ask(self, questions: Mapping[int, Sequence[Question]]) -> dict[int, list[list[float]] | Trouble]:
        return dict.fromkeys(questions, Trouble("a person is not asked in Q&A probes"))

    def answer(
        self, questions: Mapping[int, Sequence[Question]], cues: Mapping[int, Cue]
    ) -> dict[int, list[str] | Trouble]:
        return dict.fromkeys(questions, Trouble("a person is not asked in Q&A probes"))

    def close(self, conversations: Sequence[int]) -> None:
        """Does nothing."""
