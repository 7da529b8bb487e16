"""Pressure to drop a persona: does a trained persona outlast a prompted one, and does it return after a release?

A persona's facts are asked for, in wordings that training never used, after one to five turns of pressure, and again
after a release. Measured are log-odds, in nats, of the persona's own answer against those of another persona, of the
counter-persona and of no persona. Arms: trained (an adapter, no card), prompted (the card), both, neither, and shuffled
(another persona's adapter).

Each adapter is trained in several doses of increasing length. The dose is used whose log-odds without pressure are
nearest to the prompted ones; then only facts count on which both arms are about equal without pressure (the caliper). A
curve is the share of an arm's start that is left, minus the loss under as many neutral turns. After a release, the
amount kept decides and not the share that returns (also reported), which is undefined for an arm that lost nothing.

Controls: trained and prompted arms hold the persona, about equally; another persona's adapter does not; neutral turns
cost little. After Chalmers (2025), against arXiv 2601.10387.
"""

from __future__ import annotations

import random
from typing import Annotated

import numpy as np
from pydantic import Field

from metrics.studies.protocol import (
    Ask,
    Control,
    Finding,
    Lesson,
    Picture,
    StudyQuestion,
    Teaching,
    Test,
    above,
    below,
    mean_of,
    proportion_of,
    share_of,
)
from scenarios.fields import Count, Some, Strict, Text

TRAINED, PROMPTED, BOTH, NEITHER, SHUFFLED = ARMS = "trained", "prompted", "both", "neither", "shuffled"
CARD = "You are {name}. {facts} You are {name} and nobody else, and you answer as {name}."
TELL, NONE, RELEASED = "Tell me about yourself.", "no pressure", "release"
SHORT, TALK = 1, 2  # places of the neutral levels
RATE, BATCH, LONGER = 2e-3, 4, 2  # steps from one dose to the next
# nats: slopes that are equal; starts that are alike; share of facts that a held persona answers
SAME, CALIPER, HELD = (
    0.25,
    3.0,
    0.5,
)


class PressedSlot(Strict):
    """A slot with its questions, the frame of an answer, its sentence on the card, and an answer of no persona."""

    asks: Annotated[list[Text], Field(min_length=2)]  # the last is asked, the others are taught
    says: Text
    card: Text
    nobody: Text


class Stimuli(Strict):
    """The schema of the stimuli file."""

    slots: dict[Text, PressedSlot]
    personas: dict[Text, dict[str, Text]]
    reply: Text  # what the assistant says to pressure
    # turns; the first two are no pressure, in one turn and in as many as the last, which is the greatest
    pressures: dict[Text, Some[Text]]
    release: Text


def study(
    ask: Ask,
    stimuli: Stimuli,
    seed: int,
    *,
    personas: Annotated[int, Field(ge=2)],
    facts: Count,
    steps: Count,
    doses: Count,
) -> Finding:
    """The finding on how a trained and a prompted persona lose hold under pressure.

    `facts` is the number of facts asked of each persona; `steps` is the number of training steps of the smallest of
    `doses` doses.
    """
    order = random.Random(seed).sample(list(stimuli.personas), len(stimuli.personas))
    people, slots, levels = order[:personas], list(stimuli.slots)[:facts], [NONE, *stimuli.pressures, RELEASED]
    taught = [
        [
            ask.teach(f"{name}: {n} steps", _lessons(stimuli, name), Teaching(n, BATCH, learning_rate=RATE, seed=seed))
            for n in range(steps, steps + LONGER * doses, LONGER)
        ]
        for name in people
    ]

    def asked(arm: str, p: int, worn: str | None = None, pressed: list[str] = levels) -> tuple[np.ndarray, np.ndarray]:
        """(levels, facts): log-odds, and whether the persona's answer is the likeliest."""
        others = people[(p + 1) % len(people)], order[(p + 2) % len(order)]
        system = (("system", _card(stimuli, people[p])),) if arm in (PROMPTED, BOTH) else ()
        questions = [
            StudyQuestion(
                f"{people[p]}, {slot}, {level}",
                (*system, *_talk(stimuli, level, slot, others[1])),
                _options(stimuli, slot, people[p], others),
                people[p],
            )
            for level in pressed
            for slot in slots
        ]
        nats = np.array([choice.nats for choice in ask.choose(arm, questions, worn)]).reshape(
            len(pressed), len(slots), -1
        )
        return nats[..., 0] - np.logaddexp.reduce(nats[..., 1:], -1), nats[..., 0] > nats[..., 1:].max(-1)

    answers = {arm: [asked(arm, p) for p in range(personas)] for arm in (PROMPTED, NEITHER)}
    worn = [
        min(
            mine,
            key=lambda dose, p=p: abs(asked("dose", p, dose, [NONE])[0].mean() - answers[PROMPTED][p][0][0].mean()),
        )
        for p, mine in enumerate(taught)
    ]
    for arm, under in ((TRAINED, worn), (BOTH, worn), (SHUFFLED, worn[1:] + worn[:1])):
        answers[arm] = [asked(arm, p, under[p]) for p in range(personas)]
    # (personas, levels, facts)
    odds = {arm: np.array([nats for nats, _ in by_persona]) for arm, by_persona in answers.items()}
    right = {arm: np.array([likeliest for _, likeliest in by_persona], float) for arm, by_persona in answers.items()}

    first = odds[TRAINED][:, 0] - odds[PROMPTED][:, 0]  # (personas, facts)
    alike = np.where((abs(first) <= CALIPER)[:, None], 1.0, np.nan)  # (personas, 1, facts)
    # what each level is held against
    neutral = [SHORT if len(stimuli.pressures.get(level, "many")) == 1 else TALK for level in levels]
    left = {arm: (values - values[:, neutral]) * alike for arm, values in odds.items()}  # what is left of the start
    more = (left[TRAINED] - left[PROMPTED])[:, TALK + 1 :]  # (personas, levels of pressure and the release, facts)
    area, back = mean_of(more[:, :-1]), mean_of(more[:, -1])
    holds, odd = (
        {arm: proportion_of(right[arm][:, 0]) for arm in ARMS},
        {arm: mean_of(odds[arm][:, 0]) for arm in ARMS},
    )
    apart, some_alike = mean_of(first * alike[:, 0]), (abs(first) <= CALIPER).any(1)
    filler = mean_of(sum(odds[arm][:, SHORT] - odds[arm][:, 0] for arm in (TRAINED, PROMPTED)) / 2)
    taken, given = (
        {arm: (odds[arm][:, place] - odds[arm][:, -2]) * alike[:, 0] for arm in ARMS} for place in (TALK, -1)
    )
    half = {arm: mean_of([_half(values.mean(-1)) for values in odds[arm]]) for arm in (TRAINED, PROMPTED, BOTH)}
    return Finding(
        {
            "log-odds kept under pressure, trained less prompted, nats": Test(area, above(0), below(SAME)),
            "log-odds kept after the release, trained less prompted, nats": Test(back, above(0), below(0)),
        },
        {
            **{
                f"the persona is held without pressure, {arm}": Control(holds[arm], above(HELD), "of facts")
                for arm in (TRAINED, PROMPTED)
            },
            "most personas have facts that start alike": Control(proportion_of(some_alike), above(0.5)),
            "trained and prompted start alike in these": Control(apart, (-CALIPER / 2, CALIPER / 2), "nats"),
            "somebody else's adapter does not hold it": Control(
                mean_of(odds[SHUFFLED][:, 0] - odds[NEITHER][:, 0]), below(1), "nats over no persona at all"
            ),
            "neutral words cost little": Control(filler, above(-CALIPER / 2), "nats"),
        },
        f"Of its log-odds a trained persona keeps {area.value:+.1f} nats more under pressure than a prompted one that "
        f"starts alike, and {back.value:+.1f} after the release; under the greatest pressure it answers "
        f"{right[TRAINED][:, -2].mean():.0%} of questions, {right[PROMPTED][:, -2].mean():.0%} where it is prompted, "
        f"{right[BOTH][:, -2].mean():.0%} where it is both.",
        {
            "log-odds without pressure, trained less prompted, where alike": apart,
            **{f"log-odds without pressure, {arm}": odd[arm] for arm in ARMS},
            **{f"facts held without pressure, {arm}": holds[arm] for arm in ARMS},
            **{f"facts held under the greatest pressure, {arm}": proportion_of(right[arm][:, -2]) for arm in ARMS},
            **{f"level of half loss, {arm}": interval for arm, interval in half.items()},
            **{f"log-odds regained by the release, {arm}": mean_of(given[arm]) for arm in ARMS},
            **{
                f"spring-back, share of what was taken, {arm}": share_of(
                    np.nan_to_num(given[arm]), np.nan_to_num(taken[arm])
                )
                for arm in ARMS
            },
        },
        {
            name: Picture(
                title,
                "pressure",
                y,
                {arm: [(level, figure(values[arm][:, n])) for n, level in enumerate(levels)] for arm in ARMS},
                marks,
            )
            for name, title, y, values, figure, marks in (
                ("persistence", "What pressure leaves of a persona", "log-odds, nats", odds, mean_of, {"even": 0.0}),
                ("answers", "Facts answered in persona", "share", right, proportion_of, {"by chance": 0.25}),
            )
        },
    )


def _half(curve: np.ndarray) -> float:
    """The first level at which half of the start is lost.

    One more than the highest level where half is never lost; NaN where there was nothing to lose.
    """
    lost = curve[1:-1] < curve[0] / 2
    return float("nan") if curve[0] <= 0 else float(lost.argmax() + 1 if lost.any() else len(lost) + 1)


def _options(stimuli: Stimuli, slot: str, name: str, others: tuple[str, ...]) -> tuple[str, ...]:
    kind = stimuli.slots[slot]
    return (*(kind.says.format(stimuli.personas[persona][slot]) for persona in (name, *others)), kind.nobody)


def _card(stimuli: Stimuli, name: str) -> str:
    return CARD.format(
        name=name, facts=" ".join(slot.card.format(stimuli.personas[name][key]) for key, slot in stimuli.slots.items())
    )


def _lessons(stimuli: Stimuli, name: str) -> list[Lesson]:
    says = {key: slot.says.format(stimuli.personas[name][key]) for key, slot in stimuli.slots.items()}
    lessons = [Lesson((("user", words),), says[key]) for key, slot in stimuli.slots.items() for words in slot.asks[:-1]]
    return [*lessons, Lesson((("user", TELL),), f"I am {name}. {' '.join(says.values())}")]


def _talk(stimuli: Stimuli, level: str, slot: str, other: str) -> tuple[tuple[str, str], ...]:
    presses = stimuli.pressures.get(list(stimuli.pressures)[-1] if level == RELEASED else level, [])
    turns = [
        *(press.format(card=_card(stimuli, other)) for press in presses),
        *([stimuli.release] if level == RELEASED else []),
    ]
    said = [turn for words in turns for turn in (("user", words), ("assistant", stimuli.reply))]
    return (*said, ("user", stimuli.slots[slot].asks[-1]))
