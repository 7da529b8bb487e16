"""Trains an adapter on the lessons of a study, by an offline method."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from agents.learning.learner import Learner
from agents.learning.methods import Method, learn
from agents.learning.views import Sampled, View
from agents.models.pieces import piece_encoder
from agents.seats.respondent import gap, text_of
from metrics.studies.protocol import Lesson, Teaching
from scenarios.jobs.study import Study
from scenarios.jobs.training_keys import Tuning
from scenarios.records import derive_seed


def teach(study: Study, lessons: Sequence[Lesson], how: Teaching, folder: Path) -> Iterator[float]:
    """Trains an adapter and yields the loss of each step, in nats per token; at the end the adapter is in `folder`.

    Raises ValueError where the model is on a server or cannot be trained.
    """
    seat = study.seats.assistant
    if seat.endpoint:
        raise ValueError(
            f"{study.study} teaches the model that it asks, and {seat.endpoint} does not learn from us; expected a "
            "model here"
        )
    base, _, worn = seat.model.partition(":")
    tuning = Tuning(
        learning_rate=how.learning_rate,
        r=how.r,
        lora_alpha=2.0 * how.r,
        beta=how.beta,
        adapter=seat.adapter or worn or None,
    )
    learner = Learner(base, tuning, max_steps=how.steps, dtype=study.dtype, device=study.device, seed=how.seed)
    views = lesson_views(learner, lessons)
    order: list[View] = []
    for step in range(how.steps):
        while len(order) < min(how.batch, len(views)):
            order += random.Random(derive_seed(how.seed, "order", step, len(order))).sample(views, len(views))
        batch, order = order[: how.batch], order[how.batch :]
        done = learn(learner, batch, Method(how.method, tuning=tuning)).step
        yield done.loss if done else 0.0
    part = folder.with_name(f"{folder.name}.part")
    learner.save(part, state=False)
    part.rename(folder)  # last: a folder with this name is whole


def lesson_views(learner: Learner, lessons: Sequence[Lesson]) -> list[View]:
    """One view per prompt, with all lessons on it as side branches; each reply ends with the token that ends the
    model's lines.
    """
    form = learner.loaded.info.format
    encode = piece_encoder(learner.loaded.tokenizer, form)
    by_talk: dict[tuple, list[Lesson]] = {}
    for lesson in lessons:
        by_talk.setdefault(lesson.messages, []).append(lesson)
    views = []
    for number, (talk, talk_lessons) in enumerate(by_talk.items()):
        ids = tuple(encode(text_of(form, talk)))
        lines = [
            Sampled(
                0,
                len(ids),
                tuple(encode(gap(form, talk) + form.words(lesson.reply) + form.closing)),
                on_trunk=False,
                text=lesson.reply,
                reward=lesson.reward,
            )
            for lesson in talk_lessons
        ]
        views.append(View(number, "", ids, tuple(lines)))
    return views
