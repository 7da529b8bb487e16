"""The records that all parts share: slots, facts, personas, lines and judgements.

All are frozen: a record states what happened, and no later step changes it. The text of a model is kept with its
sampled token ids, so that it never has to be tokenised again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

ASSISTANT, USER = "assistant", "user"
SEATS = (USER, ASSISTANT)
PARTNER = {ASSISTANT: USER, USER: ASSISTANT}


@dataclass(frozen=True)
class Recognition:
    """How claims about a slot are recognised beyond its patterns and values; see `metrics.judges.text.wording`."""

    open: tuple[str, ...] = ()  # patterns in which {value} may be anything: a name or noun that is not listed
    suspect: tuple[str, ...] = ()  # the same, where what is not listed may be no value ("I play the lottery")
    loose: tuple[str, ...] = ()  # patterns with "..." for some words of the clause, or "^" for the head of a sentence
    denials: tuple[str, ...] = ()  # patterns that deny their {value}, or all values where there is none
    phrases: tuple[tuple[str, str], ...] = ()  # (first-person phrase, the value it claims without naming it)
    also: tuple[tuple[str, tuple[str, ...]], ...] = ()  # (word, the values of which it is true too)


@dataclass(frozen=True)
class Slot:
    """An attribute for which every persona has a value (a home, a job), with the wordings of claims and questions about
    it.
    """

    id: str  # "home"
    claim: str  # "I live in {value}.", first person, one {value}
    card: str  # "You live in {value}.", second person, one {value}
    questions: tuple[str, ...]  # wordings of the same question; the first is the default, the rest may be held out
    patterns: tuple[str, ...]  # ways of claiming it, one {value} each: "I live in {value}", "my home is in {value}"
    values: tuple[str, ...]  # every value known for the slot, those of all personas first
    recognition: Recognition = field(default=Recognition(), hash=False)  # long, and looked up often


@dataclass(frozen=True)
class Fact:
    """A slot of a persona with its value; `distractors` are other personas' values, never equal to `value`."""

    slot: Slot
    value: str
    distractors: tuple[str, ...]

    @property
    def id(self) -> str:
        """The slot's id."""
        return self.slot.id

    @property
    def claim(self) -> str:
        """The slot's claim with the value, in the first person."""
        return self.slot.claim.format(value=self.value)

    @property
    def card(self) -> str:
        """The sentence that states the fact in a card that is written from the facts."""
        return self.slot.card.replace("{value}", self.value)

    @property
    def question(self) -> str:
        """The slot's default question."""
        return self.slot.questions[0]

    @property
    def options(self) -> tuple[str, ...]:
        """The claims of a multiple-choice question, of which the first is true."""
        return tuple(self.slot.claim.format(value=value) for value in (self.value, *self.distractors))


@dataclass(frozen=True)
class Persona:
    """A persona: its id, its name, its card and its facts."""

    id: str  # "grace", unique in its file
    name: str  # "Grace"
    card: str  # the persona as prompt text
    facts: tuple[Fact, ...]  # () where only the card is known

    def fact(self, fact_id: str) -> Fact:
        """The fact with that id. Raises KeyError where the persona has none."""
        for fact in self.facts:
            if fact.id == fact_id:
                return fact
        raise KeyError(fact_id)


@dataclass(frozen=True)
class Line:
    """One utterance of one seat."""

    conversation: int  # 0-based
    turn: int  # 0-based, both seats counted
    seat: str  # "user" or "assistant"
    persona: str  # id of the speaker's persona
    node: str  # the scenario graph's node it was said at
    text: str
    tokens: int  # tokens generated (or written, where the scenario gave the words)
    token_ids: tuple[int, ...] = ()  # as sampled, with the stop token; () where a server does not return them
    logprob: float | None = None  # nats, summed over token_ids at temperature 1; None where nothing was sampled
    seconds: float = 0.0  # this line's share of its batch
    activation: float | None = (
        None  # projection on the persona's direction, 1 as its own lines, 0 as others'; None where unwatched
    )
    cut: str = ""  # what stood behind the text and went on as the other speaker; "" for nothing


@dataclass(frozen=True)
class Judgement:
    """A judge's result for one line and one thing that it may contradict.

    Exactly one of `unscored` and the pair (`p_inconsistent`, `verdict`) is None.
    """

    conversation: int
    turn: int
    seat: str
    metric: str  # "prompt_to_line", "line_to_line" or "qa"
    judge: str  # "ledger", "likelihood", ...
    against: str  # "persona", a fact id, or an earlier turn's number in digits
    p_inconsistent: float | None = None  # 0 to 1
    verdict: bool | None = None  # True: contradicts
    unscored: str | None = None  # why there is no verdict
    span: tuple[int, int] | None = None  # characters of the line that contradict, end exclusive
    claim: str | None = None  # what it contradicts, in words, where the judge names it
    answer: str | None = None  # to a question, in the speaker's words
    by: str | None = None  # the judge that decided, where several share a name (a cascade)


# Names that were changed -> the first ones, from which seeds still derive, so that no figure moves. The names of axes
# of a training stand behind "overrides.".
SEEDED_AS = {
    "qa": "questions",  # metrics
    "unscored_qa": "unscored_questions",
    "qa_drift_slope": "questions_drift_slope",
    "qa_drift_thirds": "questions_drift_thirds",
    "multiple_choice": "choice",  # judges
    "answer_match": "answers",
    "answer_reader": "reader",
    "concurrency": "side_by_side",  # keys that are axes of a sweep
    "persona_pool": "drawn",
    "measure.qa_first": "measure.questions_first",
    "measure.qa_format": "measure.asked",
    "measure.cascade.first": "measure.cascade.cheap",
    "measure.cascade.second": "measure.cascade.dear",
    "measure.qa_every": "measure.questions_every",
    "measure.paraphrase": "measure.wording",
    "held_out.paraphrase": "held_out.wording",
    "reward.qa": "reward.questions",
    "reward.probes": "reward.asked",
    "tuning.train_from_depth": "tuning.layers_from",
    "async_rollouts": "overlap",
}


def seeded_as(name: str) -> str:
    """The text that stands for a name when a seed is derived from it: its original name where it was renamed."""
    prefix = "overrides." if name.startswith("overrides.") else ""
    key = name.removeprefix(prefix)
    return prefix + SEEDED_AS.get(key, key)


def derive_seed(*parts: object) -> int:
    """A seed in [0, 2**63) derived from the parts (run seed, conversation, seat, turn, ...).

    Equal parts give equal seeds on every machine. The seed is a BLAKE2b digest of the parts' text, so that similar
    parts give unrelated seeds.
    """
    text = "\x1f".join(seeded_as(str(part)) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
