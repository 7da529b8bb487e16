"""Seats of models. One transcript, two views: each seat sees its own card and what the other seat said.

A seat serves many dialogues at once and keeps one view per conversation number. Requests and answers are dicts by
conversation. A conversation that fails gets a `Trouble` and does not affect the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from agents.engine.protocol import Engine, Sample, Sampling, Steer
from agents.seats.base import INSTRUCTION, SPEAKS_FIRST, SPEAKS_ON, Cue, Question, Spoken, Trouble, Utterance
from scenarios.records import derive_seed
from scenarios.spoken import Speaker, Words, opens_thought, spoken_words, without_thoughts


class ModelSeat:
    """A seat whose lines come from an engine. Views stay in the engine's cache, so that a line costs only its own
    tokens.
    """

    def __init__(
        self,
        engine: Engine,
        sampling: Sampling,
        adapter: str | None = None,
        generations: int = 1,
        keep: bool = False,
        steer: Callable[[str], Steer | None] = lambda system: None,
    ) -> None:
        """`generations` is the number of lines sampled at each place; the first continues the dialogue. With `keep`,
        views remain available after they are closed. `steer` gives the steering of a view from its system text.
        """
        self.engine, self.adapter, self.generations, self.keep = engine, adapter, generations, keep
        self.format, self.steer = engine.info().format, steer
        self.sampling = replace(sampling, thinking=opens_thought(self.format.before_said))
        self.ids: dict[int, list[int]] = {}  # the view of each conversation
        self.spoken: dict[int, list[Spoken]] = {}  # and what was sampled in it
        self._branch: dict[int, int] = {}
        self._steering: dict[int, Steer | None] = {}
        self._full: set[int] = set()  # views that something no longer fitted into
        self._last: dict[int, str] = {}  # conversation -> what stands at the view's end: "opening", "heard" or "said"
        self._closing = engine.encode([self.format.closing])[0]
        self._stopped: dict[int, bool] = {}  # whether the view ends with a token that closes a line
        self._held: dict[int, str] = {}  # what was heard and waits for what follows, with which its end is one token

    def open(self, systems: Mapping[int, str]) -> None:
        prompts = self.engine.encode([self.format.beginning(system) for system in systems.values()])
        alike: dict[Steer | None, dict[int, list[int]]] = {}
        for (conversation, system), prompt in zip(systems.items(), prompts, strict=True):
            self._steering[conversation] = self.steer(system)
            alike.setdefault(self._steering[conversation], {})[conversation] = prompt
        for steer, prompts_of in alike.items():
            self._branch |= dict(
                zip(prompts_of, self.engine.open(list(prompts_of.values()), self.adapter, steer), strict=True)
            )
        for conversation, prompt in zip(systems, prompts, strict=True):
            self._last[conversation], self._stopped[conversation] = "opening", False
            self.ids[conversation], self.spoken[conversation] = list(prompt), []

    def hear(self, heard: Mapping[int, str]) -> None:
        texts = {c: self._turn_to_them(c) + self.format.words(text) for c, text in heard.items()}
        if self.format.joins:
            self._held.update(texts)
        else:
            self._extend(texts)
        self._last.update(dict.fromkeys(heard, "heard"))

    def speak(self, cues: Mapping[int, Cue]) -> dict[int, Utterance | Trouble]:
        self._take_the_word(cues)
        able = [c for c in cues if c not in self._full and len(self.ids[c]) < self.engine.info().context]
        samples, words = self._sample({c: self._branch[c] for c in able}, {c: cues[c] for c in able})
        said = {
            c: Utterance(
                said_words.text.strip(),
                len(sample.token_ids),
                sample.token_ids,
                sum(sample.logprobs),
                sample.projections,
                said_words.cut,
            )
            for c, said_words, sample in zip(able, words, samples, strict=True)
            if not sample.trouble
        }
        self._said(said)
        trouble = {c: Trouble(sample.trouble) for c, sample in zip(able, samples, strict=True) if sample.trouble}
        return {c: said.get(c) or trouble.get(c) or self._too_long(c) for c in cues}

    def recite(self, cues: Mapping[int, Cue], said: Mapping[int, Utterance]) -> dict[int, Utterance]:
        self._take_the_word(cues)
        closing = self.format.closing if self.format.joins else ""
        written = self.engine.encode([self.format.lead + utterance.text + closing for utterance in said.values()])
        full = {
            c: utterance if utterance.token_ids else replace(utterance, token_ids=tuple(ids), tokens=len(ids))
            for (c, utterance), ids in zip(said.items(), written, strict=True)
        }
        self._add({c: utterance.token_ids for c, utterance in full.items()})
        self._said(full, read=True)
        return full

    def ask(self, questions: Mapping[int, Sequence[Question]]) -> dict[int, list[list[float]] | Trouble]:
        able = {c: parts for c, parts in questions.items() if c not in self._full}
        flat = [
            (
                c,
                self._turn_to_them(c, " ") + self.format.words(q.text) + self.format.before_said,
                self.format.line(option),
            )
            for c, parts in able.items()
            for q in parts
            for option in q.options
        ]
        ids = self.engine.encode([text for _, given, option in flat for text in (given, option)])
        continuations: dict[int, list] = {c: [] for c in able}
        for (c, _, _), given, option in zip(flat, ids[::2], ids[1::2], strict=True):
            continuations[c].append((self._after_stop(c, given), option))
        for c, parts in continuations.items():
            if (
                len(self.ids[c]) + max((len(given) + len(option) for given, option in parts), default=0)
                > self.engine.info().context
            ):
                self._full.add(c)
        able = {c: parts for c, parts in able.items() if c not in self._full}
        scores = self.engine.score([self._branch[c] for c in able], [continuations[c] for c in able])
        results: dict[int, list[list[float]] | Trouble] = {c: self._too_long(c) for c in questions if c not in able}
        for (c, parts), by_option in zip(able.items(), scores, strict=True):
            sums = iter([sum(logprobs) for logprobs in by_option])
            results[c] = [[next(sums) for _ in q.options] for q in parts]
        return results

    def answer(
        self, questions: Mapping[int, Sequence[Question]], cues: Mapping[int, Cue]
    ) -> dict[int, list[str] | Trouble]:
        asked = [(c, q) for c, questions_of in questions.items() for q in questions_of if c not in self._full]
        given = self.engine.encode(
            [self._turn_to_them(c, " ") + self.format.words(q.text) + self.format.before_said for c, q in asked]
        )
        given = [self._after_stop(c, ids) for (c, _), ids in zip(asked, given, strict=True)]
        room = self.engine.info().context
        self._full.update(c for (c, _), ids in zip(asked, given, strict=True) if len(self.ids[c]) + len(ids) >= room)
        able = [(c, q, ids) for (c, q), ids in zip(asked, given, strict=True) if c not in self._full]
        branches = self.engine.fork([self._branch[c] for c, *_ in able for _ in range(self.generations)])
        self.engine.extend(branches, [ids for *_, ids in able for _ in range(self.generations)])
        replies: dict[int, list[str] | Trouble] = {
            c: [] if c not in self._full else self._too_long(c) for c in questions
        }
        seeds = [derive_seed(cues[c].seed, q.text, take) for c, q, _ in able for take in range(self.generations)]
        samples = self.engine.generate(branches, [replace(self.sampling, seed=seed) for seed in seeds])
        samples, words = self._spoken(samples, [cues[c].speaker for c, *_ in able for _ in range(self.generations)])
        texts = [answer.text for answer in words]
        self.engine.drop(branches)
        for place, (c, q, ids) in enumerate(able):
            mine = slice(place * self.generations, (place + 1) * self.generations)
            if trouble := next((sample.trouble for sample in samples[mine] if sample.trouble), None):
                replies[c] = Trouble(trouble)
            if isinstance(answers := replies[c], Trouble):
                continue
            answers.append(texts[mine][0].strip())
            self.spoken[c].append(
                Spoken(cues[c].turn, len(self.ids[c]), tuple(samples[mine]), tuple(texts[mine]), tuple(ids), q.about)
            )
        return replies

    def close(self, conversations: Sequence[int]) -> None:
        self.engine.drop([self._branch.pop(c) for c in conversations if c in self._branch])
        self._full.difference_update(conversations)
        for c in conversations:
            self._steering.pop(c, None)
            self._held.pop(c, None)
        for c in conversations if not self.keep else ():
            self.ids.pop(c, None)
            self.spoken.pop(c, None)

    def _sample(self, branches: Mapping[int, int], cues: Mapping[int, Cue]) -> tuple[list[Sample], list[Words]]:
        """One line per branch. With more `generations`, the others are sampled on forks and only recorded."""
        takes = [(c, take) for take in range(1, self.generations) for c in branches]
        forks = self.engine.fork([branches[c] for c, _ in takes])
        seeds = [cues[c].seed for c in branches] + [derive_seed(cues[c].seed, "generation", take) for c, take in takes]
        samples = self.engine.generate(
            [*branches.values(), *forks], [replace(self.sampling, seed=seed) for seed in seeds]
        )
        samples, words = self._spoken(samples, [cues[c].speaker for c in branches] * self.generations)
        self.engine.drop(forks)
        for place, (c, branch) in enumerate(branches.items()):
            mine = slice(place, None, len(branches))
            texts = tuple(said.text for said in words[mine])
            self.spoken[c].append(Spoken(cues[c].turn, len(self.ids[c]), tuple(samples[mine]), texts))
            if words[place].cut:  # what was cut away is in no view
                [self._branch[c]] = self.engine.open(
                    [[*self.ids[c], *samples[place].token_ids]], self.adapter, self._steering[c]
                )
                self.engine.drop([branch])
        return samples[: len(branches)], words[: len(branches)]

    def _spoken(
        self, samples: Sequence[Sample], speakers: Sequence[Speaker | None]
    ) -> tuple[list[Sample], list[Words]]:
        """The samples up to where they go on as the partner, and their words; a thought without words is trouble."""
        texts = self.engine.decode([sample.token_ids for sample in samples])
        thinking = self.sampling.thinking
        kept, words = [], []
        for sample, text, speaker in zip(samples, texts, speakers, strict=True):
            said = spoken_words(text, speaker, thinking)
            if said.cut:
                starts = self.engine.decode([sample.token_ids[:end] for end in range(len(sample.token_ids) + 1)])
                end = next(
                    place
                    for place, start in enumerate(starts)
                    if len(without_thoughts(start, thinking).rstrip()) >= len(said.text)
                )
                parts = (sample.token_ids, sample.logprobs, sample.drawn)
                ids, logprobs, drawn = (part[:end] for part in parts)
                sample = replace(sample, token_ids=ids, logprobs=logprobs, drawn=drawn, stopped="mark")
            elif said.thought and not said.text.strip() and not sample.trouble:
                sample = replace(
                    sample,
                    trouble=f"no words: all of the {len(sample.token_ids)} tokens went into a thought; expected more "
                    "max_tokens, or a model that does not think",
                )
            kept.append(sample)
            words.append(said)
        return kept, words

    def _turn_to_them(self, conversation: int, between: str = "\n") -> str:
        """The text between the end of the view and further text of the other seat."""
        between = {"said": self.format.after_said, "heard": between, "opening": self.format.before_first}[
            self._last[conversation]
        ]
        return self._held.get(conversation, "") + between

    def _take_the_word(self, cues: Mapping[int, Cue]) -> None:
        texts = {}
        for c, cue in cues.items():
            silence = {"opening": SPEAKS_FIRST, "said": SPEAKS_ON, "heard": None}[self._last[c]]
            instruction = INSTRUCTION.format(instruction=cue.instruction) if cue.instruction else ""
            heard = self._turn_to_them(c) + silence if silence else self._held.pop(c, "")
            texts[c] = heard + instruction + self.format.before_said
        self._extend(texts)

    def _said(self, said: Mapping[int, Utterance], read: bool = False) -> None:
        for c, utterance in said.items():
            if not read:
                self.ids[c].extend(utterance.token_ids)
            self._last[c] = "said"
            self._stopped[c] = bool(utterance.token_ids) and utterance.token_ids[-1] in self.format.closers

    def _extend(self, texts: Mapping[int, str]) -> None:
        ids = self.engine.encode(list(texts.values()))
        self._add({c: self._after_stop(c, new_ids) for c, new_ids in zip(texts, ids, strict=True)})
        self._stopped.update(dict.fromkeys(texts, False))

    def _add(self, ids: Mapping[int, Sequence[int]]) -> None:
        """Appends to the views. A view that would exceed the model's context is marked as full."""
        self._full.update(
            c for c, new_ids in ids.items() if len(self.ids[c]) + len(new_ids) > self.engine.info().context
        )
        fitting = {c: new_ids for c, new_ids in ids.items() if c not in self._full}
        self.engine.extend([self._branch[c] for c in fitting], list(fitting.values()))
        for c, new_ids in fitting.items():
            self.ids[c].extend(new_ids)

    def _too_long(self, conversation: int) -> Trouble:
        info = self.engine.info()
        return Trouble(
            f"the view of {len(self.ids[conversation])} tokens has no room left: {info.model} reads at most "
            f"{info.context}"
        )

    def _after_stop(self, conversation: int, ids: Sequence[int]) -> Sequence[int]:
        """The tokens without the closing ones that the line already has."""
        first = len(self._closing)
        return ids[first:] if self._stopped[conversation] and list(ids[:first]) == self._closing else ids
