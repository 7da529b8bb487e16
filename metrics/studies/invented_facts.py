"""Facts in multiple choice: real ones, and invented ones that a seed generates and no model can know.

An option's score is log p(option | subject) - log p(option | a neutral subject), in nats, under the same prompt (PMI,
as in Holtzman et al., arXiv 2104.08315), so that generally probable options gain nothing. An item is correct where the
true option has the highest score.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from metrics.studies.protocol import Ask, Message, StudyQuestion
from scenarios.fields import Some, Strict, Text

OPTIONS = 4


class Relation(Strict):
    """The question and answer stem of a kind of fact; `nobody` is the neutral subject."""

    asked: Text  # {} stands for the subject, here and in the stem
    stem: Text  # how the answer begins
    nobody: Text  # in place of a subject


class Invented(Relation):
    """A relation with four values, one of which is drawn for each invented subject."""

    values: Annotated[list[Text], Field(min_length=OPTIONS, max_length=OPTIONS)]


class Familiar(Relation):
    """A relation with real subjects and their values."""

    facts: Annotated[dict[str, str], Field(min_length=OPTIONS)]  # subject -> value


class Facts(Strict):
    """The facts of a stimuli file; the name of an invented subject takes one of each list of `syllables`."""

    syllables: Some[Some[Text]]
    invented: Some[Invented]
    familiar: Some[Familiar]


@dataclass(frozen=True)
class FactQuestion:
    """A multiple-choice question about one subject."""

    relation: Relation
    subject: str
    options: tuple[str, ...]  # the true one first

    @property
    def sentence(self) -> str:
        """The true sentence: the stem with the subject, then the true option."""
        return f"{self.relation.stem.format(self.subject)} {self.options[0]}."


Talk = Callable[[Relation, str], tuple[Message, ...]]  # what is said up to the option, of a relation and a subject


def invented(facts: Facts, seed: int, items: int) -> list[FactQuestion]:
    """One question per invented subject, with the relations in rotation and the true value drawn by the seed."""
    rng = random.Random(seed)
    names = ["".join(syllables) for syllables in itertools.product(*facts.syllables)]
    return [
        FactQuestion(relation, name, tuple(rng.sample(relation.values, OPTIONS)))
        for relation, name in zip(itertools.cycle(facts.invented), rng.sample(names, min(items, len(names))))
    ]


def familiar(facts: Facts, seed: int, items: int) -> list[FactQuestion]:
    """Questions about real facts; the distractors are the three other values that are nearest in length to the true
    one.
    """
    rng = random.Random(seed)
    pool = [(relation, *pair) for relation in facts.familiar for pair in relation.facts.items()]
    items_of_facts = []
    for relation, subject, true in rng.sample(pool, min(items, len(pool))):
        others = sorted(set(relation.facts.values()) - {true})
        rng.shuffle(others)
        others.sort(key=lambda value: abs(len(value) - len(true)))
        items_of_facts.append(FactQuestion(relation, subject, (true, *others[: OPTIONS - 1])))
    return items_of_facts


def talk_of(
    system: str = "", shots: Sequence[Message] = (), notes: Mapping[str, str] = {}, words: Mapping[Message, str] = {}
) -> Talk:
    """A function that makes the messages of a relation and a subject.

    `notes` maps a subject to a text before its question; `words` maps (stem, subject) to the beginning of the answer,
    before the stem.
    """

    def talk(relation: Relation, subject: str) -> tuple[Message, ...]:
        asked, stem = relation.asked.format(subject), relation.stem.format(subject)
        return (
            *([("system", system)] if system else []),
            *shots,
            ("user", notes.get(subject, "") + asked),
            ("assistant", words.get((relation.stem, subject), "") + stem),
        )

    return talk


def gains(ask: Ask, arm: str, asked: Sequence[tuple[Talk, FactQuestion]], worn: str | None = None) -> np.ndarray:
    """(asked, options) log p(option | subject) - log p(option | neutral subject), in nats; the true option is first."""
    talks = [(talk(item.relation, item.subject), talk(item.relation, item.relation.nobody)) for talk, item in asked]
    needed: dict[tuple[Message, ...], dict[str, None]] = {}  # of nobody, all at once
    for (_, nobody), (_, item) in zip(talks, asked, strict=True):
        needed.setdefault(nobody, {}).update(dict.fromkeys(item.options))
    questions = [StudyQuestion("of nobody", talk, _blank(list(options))) for talk, options in needed.items()]
    questions += [
        StudyQuestion(item.relation.asked.format(item.subject), talk, _blank(item.options), item.subject)
        for (talk, _), (_, item) in zip(talks, asked, strict=True)
    ]
    choices = ask.choose(arm, questions, worn)
    before = {
        talk: dict(zip(options, choice.nats, strict=True))
        for (talk, options), choice in zip(needed.items(), choices[: len(needed)], strict=True)
    }
    return np.array(
        [
            np.subtract(choice.nats, [before[nobody][option] for option in item.options])
            for (_, nobody), (_, item), choice in zip(talks, asked, choices[len(needed) :], strict=True)
        ]
    ).reshape(-1, OPTIONS)


def hits(gained: np.ndarray) -> np.ndarray:
    """(items,) 1 where the true option has the highest score, 1 / k where k options share it, else 0."""
    most = gained >= gained.max(1, keepdims=True) - 1e-9
    return most[:, 0] / most.sum(1)


def _blank(options: Sequence[str]) -> tuple[str, ...]:
    return tuple(f" {option}" for option in options)
