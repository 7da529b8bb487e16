"""The file of dialogues that the untrained model plays before an offline training.

`collected.jsonl` in the training's folder: line 1 has the models, the number of views per seat and the reward that
scored their lines; every further line is one view with its sampled lines, log-probabilities (nats) and rewards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from agents.learning.views import View
from lab.store import atomic_write
from lab.training.replay import base_of
from scenarios.fields import Strict
from scenarios.input_files import LARGEST, content
from scenarios.jobs.recipe import Recipe, all_played
from scenarios.jobs.training import held_out_slots
from scenarios.jobs.training_keys import Reward
from scenarios.records import SEATS
from scenarios.scenario import Scenario
from scenarios.schema import SeatConfig

COLLECTED = "collected.jsonl"
Record = TypeVar("Record", bound=BaseModel)
if TYPE_CHECKING:
    Seat = str
else:
    Seat = Literal[SEATS]


class _Head(Strict):
    """The first line of the file: the models that spoke in the first scenario, and the reward of the lines."""

    scenario: str  # names of the scenarios
    models: dict[Seat, str]  # the speaker of each seat, in words
    views: dict[Seat, int]  # how many views follow for each seat
    reward: Reward
    paraphrase: int  # index of the held-out wording of the questions
    slots: list[str] = []  # ids of the slots that were held out


class _Row(Strict):
    seat: Seat
    view: View


def write_views(path: Path, recipe: Recipe, scenario: Scenario, views: Mapping[str, Sequence[View]]) -> None:
    """Writes the views of each seat; the file is complete or absent. Raises StoreError where it cannot be written."""
    head = _Head(
        scenario=", ".join(each.name for each in all_played(recipe)),
        models={seat: _speaker(scenario.seats[seat]) for seat in SEATS},
        views={seat: len(seat_views) for seat, seat_views in views.items()},
        reward=recipe.reward,
        paraphrase=recipe.held_out.paraphrase,
        slots=sorted(held_out_slots(recipe)),
    )
    rows = [{"seat": seat, "view": asdict(view)} for seat, seat_views in views.items() for view in seat_views]
    atomic_write.replace(
        path, b"".join(atomic_write.dumps(row) + b"\n" for row in (head.model_dump(mode="json"), *rows))
    )


def read_views(path: Path, recipe: Recipe, scenario: Scenario, seat: str) -> list[View]:
    """The views of one seat, in the order of the file.

    Raises ValueError, with file and line, where the file is damaged, or where its models, its seat or the reward of its
    lines are not those of the recipe.
    """
    lines = content(path, LARGEST, "the dialogues of a training").splitlines()
    head = _checked(path, 1, lines[0] if lines else b"", _Head)
    rows = [_checked(path, number, line, _Row) for number, line in enumerate(lines[1:], start=2)]
    views_by_seat = {name: [row.view for row in rows if row.seat == name] for name in head.views}
    if {name: len(seat_views) for name, seat_views in views_by_seat.items()} != head.views or len(rows) != sum(
        head.views.values()
    ):
        raise ValueError(
            f"{path}, line {len(lines)}: the file ends after {len(rows)} views; expected the "
            f"{sum(head.views.values())} that its first line announces"
        )
    if seat not in views_by_seat:
        raise ValueError(
            f"{path}, line 1: holds dialogues of the {' and the '.join(views_by_seat)}; expected dialogues of the "
            f"{seat}"
        )
    if head.models[seat] != (own := _speaker(scenario.seats[seat])):
        raise ValueError(
            f"{path}, line 1: the {seat} was played by {head.models[seat]}; expected {own}, which is trained here: "
            "other models have other tokens"
        )
    kept = _worth(head.reward, head.paraphrase, head.slots)
    wanted = _worth(recipe.reward, recipe.held_out.paraphrase, sorted(held_out_slots(recipe)))
    if other := [key for key in kept if kept[key] != wanted[key]]:
        was, here = _set(kept, other), _set(wanted, other)
        raise ValueError(
            f"{path}, line 1: its lines were asked and rewarded with {was}, not with {here} as here; expected {was} in "
            "this training too, or other data"
        )
    return views_by_seat[seat]


def _worth(reward: Reward, paraphrase: int, slots: Sequence[str]) -> dict[str, object]:
    return {
        **{f"reward.{key}": value for key, value in reward.model_dump(mode="json").items()},
        "held_out.paraphrase": paraphrase,
        "held_out.slots": list(slots),
    }


def _set(settings: Mapping[str, object], keys: Sequence[str]) -> str:
    """The settings as overrides on a command line, `key=value` separated by spaces."""
    return " ".join(f"{key}={settings[key]}" for key in keys)


def _speaker(spec: SeatConfig) -> str:
    if spec.script is not None:
        return "a script"
    if spec.endpoint:
        return f"{spec.adapter or spec.model} at {spec.endpoint}"
    worn = spec.adapter or spec.model.partition(":")[2]
    return base_of(spec.model) + (f" with {worn}" if worn else "")


def _checked(path: Path, number: int, line: bytes, kind: type[Record]) -> Record:
    expected = "the head of a training's dialogues" if kind is _Head else "a view with its lines"
    try:
        record = kind.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise ValueError(
            f"{path}, line {number}: {f'{key}: ' if key else ''}{first['msg']}; expected {expected}"
        ) from None
    if isinstance(record, _Row):
        for sampled in record.view.lines:
            stands = (
                record.view.ids[sampled.start : sampled.start + len(sampled.ids)] == sampled.ids
                if sampled.on_trunk
                else sampled.start <= len(record.view.ids)
            )
            if not sampled.ids or sampled.start < 1 or not stands or len(sampled.logprobs) not in (0, len(sampled.ids)):
                raise ValueError(
                    f"{path}, line {number}: the line of turn {sampled.turn} differs from its view; expected {expected}"
                )
    return record
