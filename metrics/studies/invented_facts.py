"""Facts by forced choice: some of the world, and some that nobody can know since a seed made them up.

An option counts for how much likelier the subject makes it than it is of nobody in particular, log p(option | subject)
- log p(option | nobody), under the same prompt (PMI, as in Holtzman et al., arXiv 2104.08315): what is likely anyway
gains nothing. An item is right where the true option gains most.
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
    asked: Text  # {} stands for the subject, here and in the stem
    stem: Text  # how the answer begins
    nobody: Text  # in place of a subject


class Invented(Relation):
    values: Annotated[list[Text], Field(min_length=OPTIONS, max_length=OPTIONS)]


class Familiar(Relation):
    facts: Annotated[dict[str, str], Field(min_length=OPTIONS)]  # subject -> value


class Facts(Strict):
    """`syllables`: one of each makes the name of an invented subject."""

    syllables: Some[Some[Text]]
    invented: Some[Invented]
    familiar: Some[Familiar]


@dataclass(frozen=True)
class FactQuestion:
    relation: Relation
    subject: str
    options: tuple[str, ...]  # the true one first

    @property
    def sentence(self) -> str:
        """The true sentence: the stem with the subject, then the true option."""
        return f"{self.relation.stem.format(self.subject)} {self.options[0]}."


Talk = Callable[[Relation, str], tuple[Message, ...]]  # what is said up to the option, of a relation and a subject


def invented(facts: Facts, seed: int, items: int) -> list[FactQuestion]:
    """A subject an item, relations in turn; which value is true is drawn."""
    rng = random.Random(seed)
    names = ["".join(syllables) for syllables in itertools.product(*facts.syllables)]
    return [
        FactQuestion(relation, name, tuple(rng.sample(relation.values, OPTIONS)))
        for relation, name in zip(itertools.cycle(facts.invented), rng.sample(names, min(items, len(names))))
    ]


def familiar(facts: Facts, seed: int, items: int) -> list[FactQuestion]:
    """Beside the true value the three others that are nearest in length."""
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
    """`notes`: what stands before the question, by subject; `words`: what the answer begins with before its stem, by
    stem and subject.
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
    """(asked, options) log p(option | subject) - log p(option | nobody), in nats, the true one first."""
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
    """(items,) 1 where the true option gains most, a share of it where others gain as much."""
    most = gained >= gained.max(1, keepdims=True) - 1e-9
    return most[:, 0] / most.sum(1)


def _blank(options: Sequence[str]) -> tuple[str, ...]:
    return tuple(f" {option}" for option in options)
