"""The seats of a dialogue. One transcript, two views: each seat sees its own card and what the other said.

A seat serves many dialogues side by side and keeps one view for each, named by the conversation's number. Everything it
is asked comes as a dict by conversation, and so do its answers; a conversation that goes wrong is answered with a `Trouble`
and leaves the others alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from agents.protocol import Engine, Sampling

SPEAKS_FIRST = "(The conversation begins. You speak first.)"  # what a seat hears when there is nothing to hear yet
SPEAKS_ON = "(They say nothing. Go on.)"  # when it has the word twice in a row
DIRECTION = "\n[{direction}]"  # the card says what brackets mean


@dataclass(frozen=True)
class Cue:
    """The word is yours: under this direction ("" for none), with this seed."""

    direction: str
    seed: int


@dataclass(frozen=True)
class Utterance:
    text: str
    tokens: int
    token_ids: tuple[int, ...] = ()
    logprob: float | None = None
    projections: Mapping[str, float] = field(default_factory=dict)  # see agents.protocol.Sample


@dataclass(frozen=True)
class Trouble:
    """Why there is no answer for a conversation."""

    reason: str


@dataclass(frozen=True)
class Question:
    """Asked off the record. The answer is how likely each option is, word for word."""

    text: str
    options: tuple[str, ...]


class Seat(Protocol):
    def open(self, systems: Mapping[int, str]) -> None:
        """Start a view for each conversation, under its system text."""

    def hear(self, heard: Mapping[int, str]) -> None: ...

    def speak(self, cues: Mapping[int, Cue]) -> dict[int, Utterance | Trouble]: ...

    def recite(self, cues: Mapping[int, Cue], said: Mapping[int, Utterance]) -> dict[int, Utterance]:
        """As though it had said these words on these cues; where they carry no token ids, what comes back does if it can."""

    def ask(self, questions: Mapping[int, Sequence[Question]]) -> dict[int, list[list[float]] | Trouble]:
        """log p of every option, in nats, on a branch that the dialogue never sees."""

    def close(self, conversations: Sequence[int]) -> None: ...


class ModelSeat:
    """A seat whose words come from an engine. What it has read stays read: a line costs its own tokens only."""

    def __init__(self, engine: Engine, sampling: Sampling, adapter: str | None = None) -> None:
        self.engine, self.sampling, self.adapter = engine, sampling, adapter
        self.format = engine.info().format
        self._branch: dict[int, int] = {}
        self._length: dict[int, int] = {}  # tokens in the view
        self._full: set[int] = set()  # views that something no longer fitted into
        self._last: dict[int, str] = {}  # conversation -> what stands at the view's end: "opening", "heard" or "said"
        self._closing_first = (engine.encode([self.format.after_said])[0] or [None])[0]
        self._stopped: dict[int, bool] = {}  # whether the last line ended with the template's own closing token

    def open(self, systems: Mapping[int, str]) -> None:
        prompts = self.engine.encode([self.format.opening + self.format.words(system) + self.format.after_system
                                      for system in systems.values()])
        for conversation, branch, prompt in zip(systems, self.engine.open(prompts, self.adapter), prompts, strict=True):
            self._branch[conversation], self._length[conversation], self._last[conversation] = branch, len(prompt), "opening"

    def hear(self, heard: Mapping[int, str]) -> None:
        self._extend({c: self._turn_to_them(c) + self.format.words(text) for c, text in heard.items()})
        self._last.update(dict.fromkeys(heard, "heard"))

    def speak(self, cues: Mapping[int, Cue]) -> dict[int, Utterance | Trouble]:
        self._take_the_word(cues)
        able = [c for c in cues if c not in self._full and self._length[c] < self.engine.info().context]
        samples = self.engine.generate([self._branch[c] for c in able], [replace(self.sampling, seed=cues[c].seed) for c in able])
        texts = self.engine.decode([sample.token_ids for sample in samples])
        said = {c: Utterance(text.strip(), len(sample.token_ids), sample.token_ids, sum(sample.logprobs), sample.projections)
                for c, text, sample in zip(able, texts, samples, strict=True) if not sample.trouble}
        self._said(said)
        trouble = {c: Trouble(sample.trouble) for c, sample in zip(able, samples, strict=True) if sample.trouble}
        return {c: said.get(c) or trouble.get(c) or self._too_long(c) for c in cues}

    def recite(self, cues: Mapping[int, Cue], said: Mapping[int, Utterance]) -> dict[int, Utterance]:
        self._take_the_word(cues)
        written = self.engine.encode([utterance.text for utterance in said.values()])
        full = {c: utterance if utterance.token_ids else replace(utterance, token_ids=tuple(ids), tokens=len(ids))
                for (c, utterance), ids in zip(said.items(), written, strict=True)}
        self._add({c: utterance.token_ids for c, utterance in full.items()})
        self._said(full, read=True)
        return full

    def ask(self, questions: Mapping[int, Sequence[Question]]) -> dict[int, list[list[float]] | Trouble]:
        able = {c: some for c, some in questions.items() if c not in self._full}
        flat = [(c, self._turn_to_them(c, " ") + self.format.words(q.text) + self.format.before_said, self.format.words(option))
                for c, some in able.items() for q in some for option in q.options]
        ids = self.engine.encode([text for _, given, option in flat for text in (given, option)])
        continuations: dict[int, list] = {c: [] for c in able}
        for (c, _, _), given, option in zip(flat, ids[::2], ids[1::2], strict=True):
            continuations[c].append((self._after_stop(c, given), option))
        for c, some in continuations.items():
            if self._length[c] + max((len(given) + len(option) for given, option in some), default=0) > self.engine.info().context:
                self._full.add(c)
        able = {c: some for c, some in able.items() if c not in self._full}
        scores = self.engine.score([self._branch[c] for c in able], [continuations[c] for c in able])
        found: dict[int, list[list[float]] | Trouble] = {c: self._too_long(c) for c in questions if c not in able}
        for (c, some), by_option in zip(able.items(), scores, strict=True):
            sums = iter([sum(logprobs) for logprobs in by_option])
            found[c] = [[next(sums) for _ in q.options] for q in some]
        return found

    def close(self, conversations: Sequence[int]) -> None:
        self.engine.drop([self._branch.pop(c) for c in conversations if c in self._branch])
        self._full.difference_update(conversations)

    def _turn_to_them(self, conversation: int, between: str = "\n") -> str:
        """What has to stand between the view's end and further words of the other."""
        return {"said": self.format.after_said, "heard": between, "opening": ""}[self._last[conversation]]

    def _take_the_word(self, cues: Mapping[int, Cue]) -> None:
        texts = {}
        for c, cue in cues.items():
            silence = {"opening": SPEAKS_FIRST, "said": SPEAKS_ON, "heard": None}[self._last[c]]
            direction = DIRECTION.format(direction=cue.direction) if cue.direction else ""
            texts[c] = (self._turn_to_them(c) + silence if silence else "") + direction + self.format.before_said
        self._extend(texts)

    def _said(self, said: Mapping[int, Utterance], read: bool = False) -> None:
        for c, utterance in said.items():
            self._length[c] += 0 if read else len(utterance.token_ids)
            self._last[c] = "said"
            self._stopped[c] = bool(utterance.token_ids) and utterance.token_ids[-1] == self._closing_first

    def _extend(self, texts: Mapping[int, str]) -> None:
        ids = self.engine.encode(list(texts.values()))
        self._add({c: self._after_stop(c, some) for c, some in zip(texts, ids, strict=True)})

    def _add(self, ids: Mapping[int, Sequence[int]]) -> None:
        """Into the views, but for those that would outgrow the model: they are full from then on."""
        self._full.update(c for c, some in ids.items() if self._length[c] + len(some) > self.engine.info().context)
        fitting = {c: some for c, some in ids.items() if c not in self._full}
        self.engine.extend([self._branch[c] for c in fitting], list(fitting.values()))
        for c, some in fitting.items():
            self._length[c] += len(some)

    def _too_long(self, conversation: int) -> Trouble:
        info = self.engine.info()
        return Trouble(f"the view of {self._length[conversation]} tokens has no room left: {info.model} reads at most {info.context}")

    def _after_stop(self, conversation: int, ids: Sequence[int]) -> Sequence[int]:
        """A line that closed itself must not be closed twice."""
        closed = self._last[conversation] == "said" and self._stopped[conversation]
        return ids[1:] if closed and ids and ids[0] == self._closing_first else ids


class ScriptedSeat:
    """Says the given lines in turn, from the top again after the last. For controlled experiments."""

    def __init__(self, script: Sequence[str]) -> None:
        self.script = tuple(script)
        self._spoken: dict[int, int] = {}

    def open(self, systems: Mapping[int, str]) -> None:
        self._spoken.update(dict.fromkeys(systems, 0))

    def hear(self, heard: Mapping[int, str]) -> None:
        """A script does not listen."""

    def speak(self, cues: Mapping[int, Cue]) -> dict[int, Utterance | Trouble]:
        texts = {c: self.script[self._spoken[c] % len(self.script)] for c in cues}
        return self.recite(cues, {c: Utterance(text, len(text.split())) for c, text in texts.items()})

    def recite(self, cues: Mapping[int, Cue], said: Mapping[int, Utterance]) -> dict[int, Utterance]:
        for c, utterance in said.items():
            self._spoken[c] += utterance.text == self.script[self._spoken[c] % len(self.script)]  # else words the scenario gave
        return dict(said)

    def ask(self, questions: Mapping[int, Sequence[Question]]) -> dict[int, list[list[float]] | Trouble]:
        return dict.fromkeys(questions, Trouble("a scripted speaker cannot be asked"))

    def close(self, conversations: Sequence[int]) -> None:
        for c in conversations:
            self._spoken.pop(c, None)
