"""How a study asks a model: `Asking` stores every answer as an event and never asks a question twice.

An answer is identified by a digest of everything that it depends on in a study: the method and its settings, adapter
and steering, the messages, the options and the seed. A question that two arms share is asked once and stored in both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from safetensors.numpy import load_file, save_file

from agents.engine.protocol import Sampling, Steer
from agents.seats.respondent import Respondent
from lab.store.frames import answer_events
from lab.studies.dry_run import digest
from metrics.studies.protocol import Lesson, OptionScores, PlayedRun, Steered, StudyQuestion, Teaching, Trained

if TYPE_CHECKING:
    from lab.studies.arms import Arms


AT_ONCE = 32  # questions put together


class Asking:
    """The `metrics.studies.protocol.Ask` of a model.

    - `emit`: stores and shows an event of this kind and content.
    - `earlier`: the events that a resumed study already has.
    - `used`: the token counts of the engine, stored after each batch.
    - `school`: trains an adapter on lessons and yields its losses, like `lab.studies.teaching.teach`.
    - `folder`: the folder of adapters and directions.
    - `arms`: plays dialogues and trainings.
    """

    def __init__(
        self,
        respondent: Respondent | None,
        emit: Callable[..., None],
        earlier: Iterable[dict],
        used: Callable[[], dict],
        school: Callable[[Sequence[Lesson], Teaching, Path], Iterable[float]],
        folder: Path,
        arms: Arms | None = None,
    ) -> None:
        self._emit, self._used, self._school, self._folder = emit, used, school, folder
        # each is None only in a study that never asks it
        self._respondent, self._arms = cast("Respondent", respondent), cast("Arms", arms)
        answered = answer_events(earlier)
        self._known = {event["key"]: event for event in answered}
        self._stored = {(event["arm"], event["item"], event["key"]) for event in answered}

    def choose(
        self, arm: str, questions: Sequence[StudyQuestion], worn: str | None = None, steered: Steered | None = None
    ) -> list[OptionScores]:
        under = self._adapter(worn), self._steer(steered)

        def put(batch: Sequence[StudyQuestion]) -> list[dict]:
            messages, options = [question.messages for question in batch], [question.options for question in batch]
            likelihoods = self._respondent.choose(messages, options, *under)
            return [{"nats": nats, "tokens": tokens} for nats, tokens in likelihoods]

        chosen = self._answers("choose", arm, questions, _sampling(worn, steered), put)
        return [OptionScores(tuple(answer["nats"]), tuple(answer["tokens"])) for answer in chosen]

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
        under = self._adapter(worn), self._steer(steered)

        def put(batch: Sequence[StudyQuestion]) -> list[dict]:
            sampling = [Sampling(question.seed, max_tokens, temperature, top_k=0) for question in batch]
            replies = self._respondent.say([question.messages for question in batch], sampling, *under)
            return [{"text": text} for text in replies]

        how = _sampling(worn, steered) | {"max_tokens": max_tokens, "temperature": temperature}
        return [answer["text"] for answer in self._answers("say", arm, questions, how, put)]

    def teach(self, arm: str, lessons: Sequence[Lesson], how: Teaching) -> str:
        name = digest("teach", [asdict(lesson) for lesson in lessons], asdict(how))
        if not (self._folder / name).is_dir():
            for step, loss in enumerate(self._school(lessons, how, self._folder / name), start=1):
                self._emit("taught", arm=arm, worn=name, step=step, steps=how.steps, loss=loss)
        return name

    def direct(self, away: Sequence[StudyQuestion], towards: Sequence[StudyQuestion]) -> str:
        from agents.engine.steering import axis

        name = digest(
            "direct", *([(question.messages, question.options[:1]) for question in side] for side in (away, towards))
        )
        if not (file := self._direction(name)).is_file():

            def states(side: Sequence[StudyQuestion]) -> np.ndarray:
                return self._respondent.states(
                    [question.messages for question in side],
                    [question.options[0] if question.options else "" for question in side],
                )

            direction_axis = axis(states(away), states(towards))
            file.parent.mkdir(parents=True, exist_ok=True)
            save_file(vars(direction_axis), part := file.with_suffix(".part"))
            part.rename(file)  # last: a file with this name is whole
        return name

    def _direction(self, name: str) -> Path:
        return self._folder / f"{name}.safetensors"

    def _steer(self, steered: Steered | None) -> Steer | None:
        from agents.engine.steering import Axis

        if steered is None:
            return None
        direction_axis = Axis(**load_file(self._direction(steered.direction)))
        return direction_axis.steer(steered.how, steered.coefficient, steered.depths, steered.random)

    def play(self, arm: str, scenario: str, changes: Mapping[str, object], worn: str | None = None) -> PlayedRun:
        return self._arms.play(arm, scenario, changes, self._adapter(worn))

    def train(self, arm: str, recipe: str, changes: Mapping[str, object], data: Sequence[str] = ()) -> Trained:
        return self._arms.train(arm, recipe, changes, data)

    def _adapter(self, worn: str | None) -> str | None:
        if worn is None:
            return None
        taught = self._folder / worn
        return str(taught if taught.is_dir() or self._arms is None else self._arms.adapter(worn))

    def _answers(
        self,
        method: str,
        arm: str,
        questions: Sequence[StudyQuestion],
        how: dict,
        put: Callable[[Sequence[StudyQuestion]], list[dict]],
    ) -> list[dict]:
        keys = [
            digest(method, how, question.messages, question.options if method == "choose" else question.seed)
            for question in questions
        ]
        new = list(
            {key: question for key, question in zip(keys, questions, strict=True) if key not in self._known}.items()
        )
        by_key: dict[str, list[StudyQuestion]] = {}
        for key, question in zip(keys, questions, strict=True):
            by_key.setdefault(key, []).append(question)
        for key in by_key:
            if key in self._known:
                self._tell_of(arm, key, by_key[key], self._known[key])
        for start in range(0, len(new), AT_ONCE):
            batch = new[start : start + AT_ONCE]
            for (key, question), answer in zip(batch, put([question for _, question in batch]), strict=True):
                _finite(question, answer)
                self._known[key] = {"key": key, "method": method, **answer}
                self._tell_of(arm, key, by_key[key], self._known[key])
            self._emit("usage", **self._used())
        return [self._known[key] for key in keys]

    def _tell_of(self, arm: str, key: str, questions: Sequence[StudyQuestion], answer: dict) -> None:
        """Stores one `answer` event for each item with this answer, unless it is stored already."""
        for question in questions:
            if (arm, question.item, key) not in self._stored:
                self._stored.add((arm, question.item, key))
                result = {name: answer[name] for name in ("key", "method", "nats", "tokens", "text") if name in answer}
                self._emit(
                    "answer",
                    arm=arm,
                    item=question.item,
                    cluster=question.cluster,
                    prompt=digest(question.messages),
                    messages=question.messages,
                    **({"options": question.options} if "nats" in result else {"seed": question.seed}),
                    **result,
                )


def _sampling(worn: str | None, steered: Steered | None) -> dict:
    return {"worn": worn} if steered is None else {"worn": worn, "steered": asdict(steered)}


def _finite(question: StudyQuestion, answer: dict) -> None:
    if not all(map(math.isfinite, answer.get("nats", ()))):
        raise ValueError(
            f"{question.item}: the model gives no finite log-probability for one of "
            f"{', '.join(map(repr, question.options[:4]))}; expected one for each option"
        )
