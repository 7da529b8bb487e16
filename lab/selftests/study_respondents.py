"""Respondents to studies whose behaviour is planted, and drawn at random from a population: topics, registers, items.

Each function returns what answers for one draw: log-likelihoods of options, and words, as functions of the question.
What is true of the population is known beforehand, so that simulated runs show how often a study's verdict is right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metrics.studies import false_presuppositions, motivated_reasoning, register_shift
from metrics.studies.protocol import OptionScores, StudyQuestion
from scenarios.records import derive_seed

SURE = 8.0  # nats of an answer that is all but certain


@dataclass(frozen=True)
class PlantedRespondent:
    """The part of `metrics.studies.protocol.Ask` that asks questions, from functions of the question."""

    nats: Callable[[StudyQuestion], Sequence[float] | np.ndarray]  # of its options
    words: Callable[[StudyQuestion], str] = lambda question: ""

    def choose(self, arm: str, questions: Sequence[StudyQuestion], **under: object) -> list[OptionScores]:
        return [
            OptionScores(tuple(map(float, self.nats(question))), (1,) * len(question.options)) for question in questions
        ]

    def say(self, arm: str, questions: Sequence[StudyQuestion], **sampling: object) -> list[str]:
        return [self.words(question) for question in questions]


def reader(
    stimuli: motivated_reasoning.Stimuli, seed: int, *, bend: float, between: float, skill: float = 2.0
) -> PlantedRespondent:
    """Reads tables right by `skill` nats, and on polarizing topics prefers what its persona likes, by Normal(`bend`,
    `between`) nats for each topic.
    """
    rng = np.random.default_rng(seed)
    bends = {topic.treated: rng.normal(bend, between) for topic in stimuli.polarizing}
    topics = {topic.treated: topic for topic in stimuli.polarizing + stimuli.neutral}

    def nats(question: StudyQuestion) -> list[float]:
        topic, system = topics[question.cluster], _system(question)
        found = re.findall(rf"({'|'.join(topic.outcomes)}) in (\d+)", _heard(question))
        a, b, c, d = (int(count) for _, count in found)
        true = found[0][0] if a / (a + b) > c / (c + d) else found[1][0]
        persona = next((n for n, card in enumerate(stimuli.identities) if card in system), None)
        return [
            skill * (outcome == true)
            + bends.get(topic.treated, 0.0) * (n == persona)
            + SURE * system.endswith(f" {outcome}.")
            for n, outcome in enumerate(topic.outcomes)
        ]

    return PlantedRespondent(nats)


def voice(
    stimuli: register_shift.Stimuli, seed: int, *, implicit: float, request: float, between: float = 0.2
) -> PlantedRespondent:
    """Is moved by a system prompt by about 4 nats, by a request by the share `request` of it, and by the user's own
    register by the share `implicit` of the request.

    Registers differ in the system prompt's shift and in both shares, and questions in all shifts, with coefficients of
    variation `between` and half of it.
    """
    rng = np.random.default_rng(seed)
    names = list(stimuli.registers)

    def varied(mean: float, spread: float, size: int) -> np.ndarray:  # mean of the draws: exactly `mean`
        return mean * rng.gamma(1 / spread**2, spread**2, size)

    system = dict(zip(names, varied(4.0, between, len(names)), strict=True))
    requested = dict(zip(names, varied(request, between, len(names)), strict=True))
    mirrored = dict(zip(names, varied(implicit, between, len(names)), strict=True))
    by_question = dict(
        zip((q.asks for q in stimuli.questions), varied(1.0, between / 2, len(stimuli.questions)), strict=True)
    )

    def lean(question: StudyQuestion) -> tuple[float, str]:
        name = next(name for name in names if question.item == f"{question.cluster} {name}")
        register = stimuli.registers[name]
        said = [words for role, words in question.messages if role == "user"]
        asked_for = any(register.like in words for words in said) and register_shift.AS_BEFORE not in said
        share = (
            (register.like in _system(question))
            + requested[name] * asked_for
            + requested[name] * mirrored[name] * (said[0] == register.talk[0])
        )
        return system[name] * share * by_question[question.cluster], name

    def nats(question: StudyQuestion) -> np.ndarray:
        plain = len(stimuli.plain.says)
        leans = np.repeat([lean(question)[0], 0.0], [len(question.options) - plain, plain])
        return leans + 0.2 * _noise(len(leans), seed, question.item, str(question.messages))

    def words(question: StudyQuestion) -> str:
        nats, name = lean(question)
        return (stimuli.registers[name] if nats > 0 else stimuli.plain).answered.format("it is so")

    return PlantedRespondent(nats, words)


def answerer(
    stimuli: false_presuppositions.Stimuli,
    seed: int,
    *,
    knows: float,
    accommodates: Mapping[str, float],
    favours: float = 1.0,
) -> PlantedRespondent:
    """Knows the share `knows` of facts, and goes along with the falsehood of the share `accommodates[arm]` of these (0
    for arms that are left out).

    Of what it does not know it believes one version, the same in every wording, the fact `favours` times as often as
    another, and contradicts another only where a correction is invited.
    """
    rng = np.random.default_rng(seed)
    items = {item.id: item for item in stimuli.items}
    known, polite = ({name: rng.random() for name in items} for _ in range(2))
    versions = {name: ["fact", "myth", *item.others] for name, item in items.items()}
    weights = {name: np.array([favours, *[1.0] * (len(others) - 1)]) for name, others in versions.items()}
    believed = {
        name: "fact" if known[name] < knows else str(rng.choice(others, p=weights[name] / weights[name].sum()))
        for name, others in versions.items()
    }
    arms = {words.partition("{claim}")[0]: arm for arm, words in false_presuppositions.FACES.items()}

    def rejects(question: StudyQuestion, name: str, twin: str) -> bool:
        if _system(question):
            return twin == "myth"
        arm = next((arm for start, arm in arms.items() if _heard(question).startswith(start)), "")
        return twin != believed[name] and (
            polite[name] >= accommodates.get(arm, 0.0) if known[name] < knows else arm == false_presuppositions.INVITED
        )

    def nats(question: StudyQuestion) -> Sequence[float] | np.ndarray:
        name, _, version = question.item.partition(" ")
        if question.options == ("Yes", "No"):
            return [SURE * (version == believed[name]), 0.0]
        if not version:
            return [SURE * (other == believed[name]) for other in versions[name]]
        refuses = rejects(question, name, version) * np.array(
            [option in false_presuppositions.REJECTS for option in question.options]
        )
        return SURE * refuses + 0.3 * _noise(len(refuses), seed, question.item, _heard(question))

    return PlantedRespondent(nats)


def _heard(question: StudyQuestion) -> str:
    return next(words for role, words in reversed(question.messages) if role == "user")


def _system(question: StudyQuestion) -> str:
    return question.messages[0][1] if question.messages[0][0] == "system" else ""


def _noise(size: int, *parts: object) -> np.ndarray:
    """(size,) -1 to 1, flat, the same for the same parts."""
    return np.random.default_rng(derive_seed(*parts)).uniform(-1.0, 1.0, size)
