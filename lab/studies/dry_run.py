"""Counts the questions of a study without loading a model."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import polars as pl

from lab.store.frames import JUDGEMENTS, METRICS, TURNS
from metrics.studies.protocol import Lesson, OptionScores, PlayedRun, Steered, StudyQuestion, Teaching, Trained

if TYPE_CHECKING:
    from scenarios.jobs.recipe import Recipe
    from scenarios.jobs.study import Study
    from scenarios.scenario import Scenario


STEPS = {
    "step": pl.Int64,
    "tokens": pl.Int64,
    "tokens_learnt": pl.Int64,
    "seconds_play": pl.Float64,
    "seconds_learn": pl.Float64,
}


class Counting:
    """An `Ask` that counts, by arm, what a study would ask; its answers are all alike.

    All options are equally probable, texts are empty, nothing is trained, and frames have no rows. The counts are
    estimates where questions depend on answers. `planned` holds the runs and trainings of the `study`, where one is
    given.
    """

    def __init__(self, study: Study | None = None) -> None:
        self.asked: Counter[str] = Counter()
        self.planned: list[Scenario | Recipe] = []
        self.questions = 0
        self._study = study

    def choose(
        self, arm: str, questions: Sequence[StudyQuestion], worn: str | None = None, steered: Steered | None = None
    ) -> list[OptionScores]:
        self._count(arm, questions)
        return [OptionScores((0.0,) * len(question.options), (1,) * len(question.options)) for question in questions]

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
        self._count(arm, questions)
        return [""] * len(questions)

    def teach(self, arm: str, lessons: Sequence[Lesson], how: Teaching) -> str:
        self._local("teaches")
        return digest("teach", arm)

    def direct(self, away: Sequence[StudyQuestion], towards: Sequence[StudyQuestion]) -> str:
        self._local("steers")
        return "direction"

    def play(self, arm: str, scenario: str, changes: Mapping[str, object], worn: str | None = None) -> PlayedRun:
        from lab.studies.arms import arm_scenario

        self._plan(arm, arm_scenario, scenario, changes)
        return PlayedRun(*(pl.DataFrame(schema=schema) for schema in (TURNS, JUDGEMENTS, METRICS)))

    def train(self, arm: str, recipe: str, changes: Mapping[str, object], data: Sequence[str] = ()) -> Trained:
        from lab.store.frames import EVALUATION
        from lab.studies.arms import arm_recipe

        self._plan(arm, arm_recipe, recipe, changes)
        return Trained(digest("train", arm), pl.DataFrame(schema=EVALUATION), pl.DataFrame(schema=STEPS))

    def _local(self, does: str) -> None:
        """Raises ValueError where the model is on a server, which gives neither states nor gradients."""
        if self._study and (server := self._study.seats.assistant.endpoint):
            raise ValueError(
                f"{self._study.study} {does} the model that it asks, and {server} does not allow that; expected a "
                "model here"
            )

    def _count(self, arm: str, questions: Sequence[StudyQuestion]) -> None:
        self.asked[arm] += len(questions)
        self.questions += len(questions)

    def _plan(self, arm: str, load: Callable[..., Scenario | Recipe], file: str, changes: Mapping[str, object]) -> None:
        from lab.studies.arms import workload

        if self._study is None:
            self.asked[arm] += 1
            return
        what = load(self._study, file, changes)
        self.asked[arm] += workload(what)
        self.planned.append(what)


def digest(*parts: object) -> str:
    """A digest of the parts, written as JSON, as 32 hex digits."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()
