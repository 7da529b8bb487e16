"""Personality by conditioning: how far does a model move towards a personality that the prompt assigns to it?

The value of a statement is the mean of five words from "never" (1) to "always" (5), listed in either order, weighted by
their probabilities, and reversed for statements against the trait. The value of a trait is the mean over statements for
and against it, which cancels a preference for a word. Flexibility = (conditioned - default) / (extreme - default), with
5 or 1 as the extreme, at the median of ten targets: 1 has the personality, 0 is unmoved.

Controls: with every answer in the prompt the value must move; with a prompt about a bicycle it must not. After La Cava
and Tagarelli, arXiv 2401.07115, with public-domain items in place of their test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated

import numpy as np
from pydantic import Field

from metrics.stats.intervals import Interval, clustered_statistic, ratio
from metrics.studies.protocol import (
    NEVER,
    Ask,
    Control,
    Finding,
    Picture,
    StudyQuestion,
    Test,
    above,
    below,
    mean_of,
    proportion_of,
)
from scenarios.fields import Count, Some, Strict, Text

MIDDLE = 3.0  # of 1 to 5
RIGID, FLEXIBLE, UNMOVED = 0.5, 0.8, 0.2
POLES, OTHER, EXTREMES = ("high", "low"), {"high": "low", "low": "high"}, (5.0, 1.0)
TOLD, ROLE, DENIED, IRRELEVANT, ANSWERED = (
    "target",
    "role + target",
    "told by its opposite",
    "a bicycle",
    "answers in the prompt",
)


class Ends(Strict):
    """A text for the high end of a trait and a text for its low end."""

    high: Text
    low: Text


class Situation(Ends):
    """A question with the choice that fits the high end and the choice that fits the low end."""

    asked: Text


class Trait(Strict):
    """A personality trait with its statements, descriptions and situations."""

    name: Text
    high: Some[Text]  # statements, with "I" in front
    low: Some[Text]
    description: Ends = Field(alias="told")
    role: Ends
    situations: Some[Situation]


class Stimuli(Strict):
    """The schema of the stimuli file."""

    traits: Some[Trait]
    targets: Some[Text]
    role: Text
    denied: Text
    irrelevant: Text
    answered: Text
    said: Ends
    scales: Some[Text]
    stem: Text
    words: Annotated[list[Text], Field(min_length=5, max_length=5)]


def study(ask: Ask, stimuli: Stimuli, seed: int, *, traits: Count, paraphrases: Count) -> Finding:
    """The finding on flexibility, from at most 5 `traits` and at most 5 `paraphrases` of each target."""
    chosen, targets = stimuli.traits[:traits], stimuli.targets[:paraphrases]
    value = partial(_values, ask, stimuli, chosen)

    def system_text(words: str) -> Callable:
        return lambda trait, pole, *_: words.format(
            told=getattr(trait.description, pole),
            role=getattr(trait.role, pole),
            opposite=getattr(trait.description, OTHER[pole]),
        )

    # (traits, 1, items), weights of the statements: both ends alike
    default, weight = value("default", POLES[:1], lambda *_: "")
    versions = [value(TOLD, POLES, system_text(words))[0] for words in targets]  # (traits, poles, items) each
    moved = {TOLD: np.mean(versions, 0)} | {
        arm: value(arm, POLES, system_text(words))[0] for arm, words in ((ROLE, stimuli.role), (DENIED, stimuli.denied))
    }
    bicycle, _ = value(IRRELEVANT, POLES[:1], lambda *_: stimuli.irrelevant)
    answered, _ = value(
        ANSWERED,
        POLES[:1],
        lambda trait, pole, words, end: stimuli.answered.format(
            statement=words, said=getattr(stimuli.said, "high" if end == pole else "low")
        ),
    )

    goal = weight * (np.array(EXTREMES)[:, None] - default)
    flexible = {arm: _median(goal, weight * (values - default)) for arm, values in moved.items()}
    raised = _median(goal, weight * (moved[ROLE] - default), weight * (moved[TOLD] - default))
    reads = _median(goal[:, :1], weight * (answered - default))
    aside = _moved_either_way(goal, weight * (bicycle - default))
    past = np.array([1, -1]) * ((weight * moved[TOLD]).sum(-1) - MIDDLE) > 0  # (traits, poles)
    acts = {
        arm: _acting(ask, chosen, arm, system_text(words)) for arm, words in ((TOLD, targets[0]), (ROLE, stimuli.role))
    }
    curves = {
        arm: [
            (
                f"{pole} {trait.name}",
                _median(goal[t : t + 1, p : p + 1], (weight * (values - default))[t : t + 1, p : p + 1]),
            )
            for t, trait in enumerate(chosen)
            for p, pole in enumerate(POLES)
        ]
        for arm, values in moved.items()
    }
    return Finding(
        {
            "median flexibility, share of the way to the extreme": Test(flexible[TOLD], below(RIGID), above(FLEXIBLE)),
            "rise of it with a role": Test(raised, above(0), NEVER),
        },
        {
            "answers in the prompt move it": Control(reads, above(RIGID), "flexibility"),
            "a bicycle does not": Control(aside, below(UNMOVED), "flexibility to either side"),
        },
        f"Told to have a personality the model goes {flexible[TOLD].value:.0%} of the way by its own report, with a "
        f"role {flexible[ROLE].value:.0%}, told by the opposite {flexible[DENIED].value:.0%}; {past.sum()} of "
        f"{past.size} targets pass the middle. In situations, the choice of the high end is {acts[TOLD].value:.2f} "
        "likelier to one told high than to one told low.",
        {f"median flexibility, {arm}": interval for arm, interval in flexible.items()}
        | {
            f"median flexibility, wording {n}": _median(goal, weight * (values - default))
            for n, values in enumerate(versions, start=1)
        }
        | {"median flexibility, answers in the prompt": reads, "targets past the middle": proportion_of(past.ravel())}
        | {f"p of the high choice, told high less told low, {arm}": interval for arm, interval in acts.items()},
        {
            "flexibility": Picture(
                "How far it goes towards what it is told to be",
                "target",
                "share of the way to the extreme",
                curves,
                {"keeps its own": RIGID, "takes the other": FLEXIBLE},
            )
        },
    )


def _values(
    ask: Ask, stimuli: Stimuli, traits: Sequence[Trait], arm: str, poles: Sequence[str], system: Callable
) -> tuple[np.ndarray, np.ndarray]:
    """(traits, poles, items) values from 1 to 5, where 5 is the trait's high end, and the items' weights.

    `system` makes the system text from (trait, pole, statement, end of the statement).
    """
    chosen = [[(words, end) for end in POLES for words in getattr(trait, end)] for trait in traits]
    asked = [
        StudyQuestion(
            f"{pole} {trait.name}: I {words}" if len(poles) > 1 else f"{trait.name}: I {words}",
            (
                *([("system", text)] if (text := system(trait, pole, words, end)) else []),
                ("user", scale.format(words)),
                ("assistant", stimuli.stem),
            ),
            tuple(f" {word}" for word in stimuli.words),
        )
        for trait, statements in zip(traits, chosen, strict=True)
        for pole in poles
        for words, end in statements
        for scale in stimuli.scales
    ]
    p = np.array([choice.p for choice in ask.choose(arm, asked)]).reshape(
        len(chosen), len(poles), -1, len(stimuli.scales), 5
    )
    true = (p @ np.arange(1, 6)).mean(-1)
    high = np.array([[[end == "high" for _, end in statements]] for statements in chosen])
    return np.where(high, true, 6 - true), 0.5 / np.where(
        high, high.sum(-1, keepdims=True), (~high).sum(-1, keepdims=True)
    )


def _median(goal: np.ndarray, way: np.ndarray, less: np.ndarray | float = 0.0) -> Interval:
    """The median over targets of Σ way / Σ goal, of weighted values (traits, poles, items), with its interval.

    Subtracted is the median of `less`. The units of its interval are statements.
    """
    sums = _statement_sums(goal, way, less)

    def statistic(sums_of_terms: np.ndarray) -> np.ndarray:
        goals, *ways = np.split(sums_of_terms, 3, 1)
        more, fewer = (np.nanmedian(ratio(ways_of_target, goals), 1, keepdims=True) for ways_of_target in ways)
        return more - fewer

    return clustered_statistic(sums, statistic, n=len(sums))


def _moved_either_way(goal: np.ndarray, way: np.ndarray) -> Interval:
    """The mean over targets of |Σ way / Σ goal|, as in `_median`."""
    sums = _statement_sums(goal, way)

    def statistic(sums_of_terms: np.ndarray) -> np.ndarray:
        goals, ways = np.split(sums_of_terms, 2, 1)
        return np.abs(ratio(ways, goals)).mean(1, keepdims=True)

    return clustered_statistic(sums, statistic, n=len(sums))


def _statement_sums(*parts: np.ndarray | float) -> np.ndarray:
    """One row per statement of the terms (traits, poles, items) that it adds to each target, (statements, parts *
    targets); the first part gives the shape.
    """
    terms = np.stack([np.broadcast_to(part, np.shape(parts[0])) for part in parts])
    _, traits, _, items = terms.shape
    return np.einsum("ktpi,ts->tiksp", terms, np.eye(traits)).reshape(traits * items, -1)


def _acting(ask: Ask, traits: Sequence[Trait], arm: str, system: Callable) -> Interval:
    """How much more probable the high choice is with the high target than with the low one."""
    asked = [
        StudyQuestion(
            f"{pole} {trait.name}: {situation.asked}",
            (("system", system(trait, pole)), ("user", situation.asked)),
            (situation.high, situation.low),
        )
        for trait in traits
        for situation in trait.situations
        for pole in POLES
    ]
    p = np.array([choice.p[0] for choice in ask.choose(f"situations, {arm}", asked)]).reshape(-1, 2)
    return mean_of(p[:, 0] - p[:, 1])
