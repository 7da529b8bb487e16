"""Respondents with planted behaviour, so that the result of each study on them is known beforehand.

    finding = studied("twenty_questions", Planted(nats), games=4, depth=2, takes=2)

`nats(question, option)` is the log-likelihood of an option to the respondent, in nats; `words(question)` is its reply;
`verdict_word(finding)` is the verdict's word.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import polars as pl

from lab.store.frames import JUDGEMENTS, METRICS, TURNS
from metrics.studies.protocol import (
    Finding,
    Lesson,
    OptionScores,
    PlayedRun,
    Steered,
    StudyQuestion,
    Teaching,
    Trained,
)
from metrics.studies.verdict import control_states, study_verdict
from scenarios.records import derive_seed
from scenarios.yaml_files import read_yaml, validate

ROOT = Path(__file__).parents[2]
SEED = 7


class Planted:
    """`metrics.studies.protocol.Ask` of a function. `arms`: how often each was asked; `worn`, `steered`: under what it
    answers; `lessons`: what it was taught, by name; `directions`: the talks that each leads to; `plays(arm)`: the run
    that is played as an arm; `changes`: what each run and training was to change.
    """

    def __init__(
        self,
        nats: Callable[[StudyQuestion, str], float] = lambda question, option: 0.0,
        words: Callable[[StudyQuestion], str] = lambda question: "",
        plays: Callable[[str], PlayedRun] | None = None,
    ) -> None:
        self.nats, self.words, self.plays, self.arms, self.worn, self.lessons, self.changes = (
            nats,
            words,
            plays,
            {},
            None,
            {},
            {},
        )
        self.steered, self.directions = None, []

    def choose(
        self, arm: str, questions: Sequence[StudyQuestion], worn: str | None = None, steered: Steered | None = None
    ) -> list[OptionScores]:
        self.arms[arm], self.worn, self.steered = self.arms.get(arm, 0) + len(questions), worn, steered
        return [
            OptionScores(
                tuple(float(self.nats(question, option)) for option in question.options), (1,) * len(question.options)
            )
            for question in questions
        ]

    def say(
        self,
        arm: str,
        questions: Sequence[StudyQuestion],
        *,
        max_tokens: int,
        temperature: float = 1.0,
        worn: str | None = None,
        steered: Steered | None = None,
    ) -> list[str]:
        self.arms[arm], self.worn, self.steered = self.arms.get(arm, 0) + len(questions), worn, steered
        return [self.words(question) for question in questions]

    def teach(self, arm: str, lessons: Sequence[Lesson], how: Teaching) -> str:
        self.lessons[arm] = list(lessons)
        return arm

    def direct(self, away: Sequence[StudyQuestion], towards: Sequence[StudyQuestion]) -> str:
        self.directions.append(list(towards))
        return str(len(self.directions) - 1)

    def play(self, arm: str, scenario: str, changes: Mapping[str, object], worn: str | None = None) -> PlayedRun:
        self.changes[arm] = {**changes, "worn": worn}
        return self.plays(arm)

    def train(self, arm: str, recipe: str, changes: Mapping[str, object], data: Sequence[str] = ()) -> Trained:
        self.changes[arm] = {**changes, "data": list(data)}
        return Trained(arm, pl.DataFrame(), pl.DataFrame({"tokens_learnt": [40, 2]}), parameters=1234, seconds=60.0)


def dialogues(
    people: int, lines: int, bad: Callable[[str, int, str], bool], wires: Mapping[str, float] | None = None
) -> PlayedRun:
    """Constructed frames of a run in which the user says `lines` lines to each of `people` callers and is asked a
    question after each line. `bad(person, line, metric)`: whether that line contradicts. `wires`: the values of the
    tripwires by name.
    """
    turns = [
        {"conversation": c, "persona": f"p{c}", "turn": 2 * n + 1, "seat": "user", "tokens": 5, "seconds": 0.1}
        for c in range(people)
        for n in range(lines)
    ]
    judged = [
        {
            "conversation": turn["conversation"],
            "turn": turn["turn"],
            "seat": "user",
            "metric": metric,
            "judge": judge,
            "against": "persona",
            "verdict": bad(turn["persona"], turn["turn"] // 2, metric),
        }
        for turn in turns
        for metric, judge in (("prompt_to_line", "ledger"), ("qa", "answer_reader"), ("qa", "answer_match"))
    ]
    metrics = [
        {"metric": name, "seat": "user", "level": "run", "value": value, "n": 9}
        for name, value in (wires or {}).items()
    ]
    return PlayedRun(
        *(
            pl.DataFrame([{key: row.get(key) for key in schema} for row in rows], schema=schema)
            for rows, schema in ((turns, TURNS), (judged, JUDGEMENTS), (metrics, METRICS))
        )
    )


def stimuli(name: str):
    module = importlib.import_module(f"metrics.studies.{name}")
    return validate(read_yaml(ROOT / f"scenarios/studies/stimuli/{name}.yaml"), module.Stimuli)


def studied(name: str, ask: object, **numbers: int) -> Finding:
    """What the study finds, with its own stimuli."""
    return importlib.import_module(f"metrics.studies.{name}").study(ask, stimuli(name), SEED, **numbers)


def verdict_word(finding: Finding) -> str:
    return study_verdict(finding.controls, finding.tests).word


def failed(finding: Finding) -> list[str]:
    """Controls that failed."""
    return [name for name, passed in control_states(finding.controls).items() if passed is False]


def noise(*parts: object) -> float:
    """-1 to 1, the same for the same parts, flat."""
    return derive_seed(*parts) / 2**62 - 1


def heard(question: StudyQuestion) -> str:
    """The last words of the user."""
    return next(words for role, words in reversed(question.messages) if role == "user")


def system_of(question: StudyQuestion) -> str:
    return question.messages[0][1] if question.messages[0][0] == "system" else ""


CALM = {"evasion": 0.0, "repetition": 0.0, "distinct_2": 0.95, "length": 8.0, "parroting": 0.0}
EVASIVE = CALM | {"evasion": 1.0}


def speaker(rates: dict[str, float], wires: dict[str, dict] | None = None) -> Planted:
    """Contradicts in such a share of lines and answers, by arm or its intervention; half of them where nothing is
    said.
    """
    scripts = {"evades": 0.0, "lies": 1.0}

    def plays(arm: str):
        def bad(person: str, line: int, metric: str) -> bool:
            evenly = 0.618 * line + 0.382 * int(person[1:]) + 0.3 * (arm == "other seeds") + 0.1 * (metric == "qa")
            return evenly % 1 < (rates | scripts).get(arm, rates.get(intervention, 0.5))

        intervention = arm.partition(",")[0]  # of what is played with other people, or tried
        return dialogues(12, 6, bad, ({"evades": EVASIVE} | (wires or {})).get(intervention, CALM))

    return Planted(plays=plays)
