"""Offline reinforcement learning: does training on good lines alone stop contradictions of a persona, or must bad lines
be penalised?

Personas are generated: a card of several facts. A dialogue asks for one fact after the other, every second time with a
false claim in the question. The next line is chosen by mean log-likelihood per token among the true one, some that
contradict the card, and some about other facts. contradict@1: share of places at which a contradicting line ranks
first. Each method trains on the same true and false lines for the same number of steps, with other personas and other
wordings.

Controls: the untrained model contradicts at all; shuffled labels teach nothing; training on the tested dialogues
themselves lowers contradict@1. After Shea and Yu, arXiv 2310.10735.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import numpy as np

from metrics.studies.protocol import (
    Ask,
    Control,
    Finding,
    Lesson,
    Message,
    Picture,
    StudyQuestion,
    Teaching,
    Test,
    above,
    below,
    mean_of,
    proportion_of,
)
from metrics.tripwires import line_wires
from scenarios.fields import Count, Some, Strict, Text
from scenarios.records import derive_seed

CARD = "You are {name}. {facts} You talk about yourself as I."
LEADS = ("I was told this about you: {false} {asked}", "{false} Or so I have heard. {asked}")  # learnt with, asked with
UNTAUGHT, SFT, SHUFFLED, TOLD = "untaught", "sft", "shuffled labels", "taught what is asked"
CONTRASTIVE = ("unlikelihood", "gold", "varmi", "dpo", "kto")
DROP = -0.08  # change of contradict@1
# learning rate; options of either kind; exchanges before the one that is asked
RATE, FALSE, ASIDE, HEARD = (
    1e-3,
    4,
    3,
    2,
)


class LessonSlot(Strict):
    """A slot with its sentence on the card, its claim, its questions and its values."""

    card: Text  # second person, with one {}
    claim: Text  # first person
    asked: Some[Text]  # the last wording is held out
    values: Some[Text]


class Stimuli(Strict):
    """The schema of the stimuli file."""

    names: Some[Text]
    slots: dict[str, LessonSlot]
    chat: Some[Some[Text]]  # what is heard, and an ordinary reply
    open: Some[Text]  # questions that no fact answers


@dataclass(frozen=True)
class Place:
    """A point of a dialogue at which a line about a slot is due.

    `false` holds contradicting lines; the first is the one that the question claims, where it claims one.
    """

    person: str
    slot: str
    card: str
    talk: tuple[Message, ...]
    true: str
    false: tuple[str, ...]
    aside: tuple[str, ...]


def study(ask: Ask, stimuli: Stimuli, seed: int, *, taught: Count, asked: Count, steps: Count, batch: Count) -> Finding:
    """The finding on the change of contradict@1.

    `taught` and `asked` are numbers of personas; training takes `steps` steps of `batch` dialogues.
    """
    names = random.Random(seed).sample(stimuli.names, len(stimuli.names))
    people = [
        _places(stimuli, names[n % len(names)], derive_seed(seed, "person", n), held_out=n >= taught)
        for n in range(taught + asked)
    ]
    lessons, lessons_of_asked = (
        [lesson for places in group for place in places for lesson in _lessons(place)]
        for group in (
            [[replace(place, talk=(place.talk[0], place.talk[-1])) for place in places] for places in people[:taught]],
            people[taught:],
        )
    )
    rewards = random.Random(derive_seed(seed, "shuffled")).sample([lesson.reward for lesson in lessons], len(lessons))
    shuffled = [replace(lesson, reward=reward) for lesson, reward in zip(lessons, rewards, strict=True)]
    arms = {name: (lessons, name) for name in (SFT, *CONTRASTIVE)} | {
        SHUFFLED: (shuffled, "dpo"),
        TOLD: (lessons_of_asked, "dpo"),
    }
    worn = {UNTAUGHT: None} | {
        arm: ask.teach(arm, what, Teaching(steps, batch, how, RATE, seed=seed)) for arm, (what, how) in arms.items()
    }
    strangers = people[taught:]
    ranked = {arm: _ranked(ask, arm, strangers, worn[arm]) for arm in worn}  # (people, places, options) that come first
    wrong = {arm: (first >= 1) & (first <= FALSE) for arm, first in ranked.items()}
    change = {arm: wrong[arm] * 1.0 - wrong[UNTAUGHT] for arm in worn if arm != UNTAUGHT}
    changes = {arm: mean_of(values) for arm, values in change.items()}
    punished = np.mean([change[arm] for arm in CONTRASTIVE], 0)
    contrastive, more = (mean_of(values) for values in (punished, punished - change[SFT]))
    parrots = {arm: proportion_of(_parroting(ask, arm, stimuli, strangers, adapter)) for arm, adapter in worn.items()}
    chat = {arm: _chat(ask, arm, stimuli, adapter) for arm, adapter in worn.items()}
    rates = {arm: proportion_of(values) for arm, values in wrong.items()}
    before = rates[UNTAUGHT]
    return Finding(
        {
            "change of contradict@1, contrastive methods": Test(contrastive, below(DROP), above(DROP)),
            "change of contradict@1, sft": Test(changes[SFT], above(DROP), below(DROP)),
            "contradict@1, contrastive methods less sft": Test(more, below(0), above(0)),
        },
        {
            "the untaught model contradicts": Control(before, above(-DROP), "of places"),
            "shuffled labels teach nothing": Control(changes[SHUFFLED], above(DROP)),
            "who is taught what is asked contradicts less": Control(changes[TOLD], below(DROP)),
        },
        f"Untaught, the model puts a contradiction first in {before.value:.0%} of places; learning from true lines "
        "changes that by "
        f"{100 * changes[SFT].value:+.0f} points, punishing false ones by {100 * contrastive.value:+.0f} on average.",
        {
            **{f"contradict@1, {arm}": interval for arm, interval in rates.items()},
            **{f"change of it, {arm}": interval for arm, interval in changes.items()},
            **{f"hits@1, {arm}": proportion_of(first == 0) for arm, first in ranked.items()},
            **{f"lines that copy the card, {arm}": interval for arm, interval in parrots.items()},
            **{
                f"nats a token of ordinary chat, change, {arm}": mean_of(nats - chat[UNTAUGHT])
                for arm, nats in chat.items()
                if arm != UNTAUGHT
            },
        },
        {
            "contradict": Picture(
                "What comes first",
                "taught by",
                "contradict@1",
                {"contradict@1": list(rates.items())},
                {"the claim's share": max(before.value + DROP, 0.0)},
            )
        },
    )


def _places(stimuli: Stimuli, name: str, seed: int, held_out: bool) -> list[Place]:
    """One place per slot, in a drawn order; training uses the first wordings, the last one is held out."""
    rng, places, said = random.Random(seed), [], []
    has = {key: rng.sample(slot.values, min(1 + FALSE, len(slot.values))) for key, slot in stimuli.slots.items()}
    card = CARD.format(name=name, facts=" ".join(slot.card.format(has[key][0]) for key, slot in stimuli.slots.items()))
    for place, key in enumerate(rng.sample(list(has), len(has))):
        slot, (true, *false) = stimuli.slots[key], has[key]
        words = slot.asked[-1] if held_out else rng.choice(slot.asked[:-1] or slot.asked)
        question = LEADS[held_out].format(false=slot.card.format(false[0]), asked=words) if place % 2 else words
        claims = [other.claim.format(has[aside][0]) for aside, other in stimuli.slots.items() if aside != key]
        talk = (("system", card), *(turn for pair in said[-HEARD:] for turn in pair), ("user", question))
        places.append(
            Place(
                name,
                key,
                card,
                talk,
                slot.claim.format(true),
                tuple(map(slot.claim.format, false)),
                tuple(rng.sample(claims, ASIDE)),
            )
        )
        said.append((("user", question), ("assistant", slot.claim.format(true))))
    return places


def _lessons(place: Place) -> list[Lesson]:
    return [Lesson(place.talk, place.true, 1.0), Lesson(place.talk, place.false[0], -1.0)]


def _ranked(ask: Ask, arm: str, people: list[list[Place]], worn: str | None) -> np.ndarray:
    """(people, places) index of the option with the highest mean log-likelihood: 0 is the true line, then the
    contradicting ones.
    """
    asked = [
        StudyQuestion(f"{n} {place.person}, {place.slot}", place.talk, (place.true, *place.false, *place.aside), str(n))
        for n, person_places in enumerate(people)
        for place in person_places
    ]
    means = [np.argmax(np.array(choice.nats) / choice.tokens) for choice in ask.choose(arm, asked, worn)]
    return np.array(means).reshape(len(people), -1)


def _parroting(ask: Ask, arm: str, stimuli: Stimuli, people: list[list[Place]], worn: str | None) -> list[float]:
    """For each persona, whether an answer to an open question contains a run of words of the card (1.0 or 0.0)."""
    asked = [
        StudyQuestion(
            f"{n} {places[0].person}",
            (("system", places[0].card), ("user", stimuli.open[n % len(stimuli.open)])),
            (),
            str(n),
            n,
        )
        for n, places in enumerate(people)
    ]
    said = ask.say(f"{arm}, in words", asked, max_tokens=24, temperature=0, worn=worn)
    return [
        line_wires(text, places[0].card).get("parroting", 0.0) > 0 for text, places in zip(said, people, strict=True)
    ]


def _chat(ask: Ask, arm: str, stimuli: Stimuli, worn: str | None) -> np.ndarray:
    """Mean negative log-likelihood of each ordinary reply, in nats per token: the logarithm of the perplexity."""
    asked = [StudyQuestion(heard, (("user", heard),), (said,)) for heard, said in stimuli.chat]
    return np.array([-choice.nats[0] / choice.tokens[0] for choice in ask.choose(f"{arm}, ordinary chat", asked, worn)])
