"""Reads the event log of a run line by line; its events are described in `lab.store.events`."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from math import isfinite
from pathlib import Path
from types import UnionType
from typing import IO, Annotated, Any, get_args

from pydantic import AfterValidator, Discriminator, Tag, TypeAdapter, ValidationError
from pydantic_core import SchemaValidator, from_json

from lab.store.events import KINDS, Event
from lab.store.fields import mistake
from scenarios.suggestions import did_you_mean, nearest_path
from scenarios.yaml_files import shown

EVENTS = "events.jsonl"
RUN_FOLDER = "such as runs/20260101T120000Z-name-1a2b"  # what messages say of a folder that is expected
LONGEST = 2**28  # bytes of a line
NO_EVENT = "not an event (one JSON object with an `event` key and that event's fields)"
TOO_LONG = f"is longer than {LONGEST >> 20} MiB; expected one event per line"
_KIND = re.compile(rb'\{"event": "(\w+)"')  # how the lab begins a line
_TURN = re.compile("[0-9]{1,7}")
_SURROGATE = re.compile("[\ud800-\udfff]")  # which no UTF-8 holds


class EventError(ValueError):
    """An event that its kind does not allow, in words without the file and line."""


def check_folder(path: Path) -> None:
    """Raises ValueError where the path of a run is no folder."""
    if path.is_dir():
        return
    if not path.exists():
        raise ValueError(f"{path} is no run: there is no such folder{nearest_path(path)}")
    around = did_you_mean(str(path.parent)) if (path.parent / EVENTS).is_file() else ""
    raise ValueError(f"{path} is no run: it is a file; expected the folder of a run, {RUN_FOLDER}{around}")


def read_events(run_dir: str | Path, name: str = EVENTS) -> list[dict]:
    """All complete events, oldest first, without an incomplete last line (a running run may be writing it).

    Raises ValueError where there is no log of that name, and for the first damaged line before the last.
    """
    return list(stream_events(run_dir, name))


def stream_events(run_dir: str | Path, name: str = EVENTS) -> Iterator[dict]:
    """The events of `read_events` one at a time, for long runs."""
    check_folder(Path(run_dir))
    path = Path(run_dir) / name
    if not path.is_file():
        raise ValueError(f"{run_dir} is no run: it has no {name}")
    with path.open("rb") as file:
        for event, _ in whole_events(file, path):
            yield event


def _lines(file: IO[bytes], path: Path) -> Iterator[bytes]:
    """The lines of a log, each with its end. Raises ValueError for a line that is longer than LONGEST."""
    for number in itertools.count(1):
        if not (line := file.readline(LONGEST)):
            return
        if len(line) == LONGEST:
            raise ValueError(f"{path}, line {number}: {TOO_LONG}")
        yield line


def whole_events(file: IO[bytes], path: Path) -> Iterator[tuple[dict, int]]:
    """(event, bytes up to its end) for each complete event.

    Raises ValueError, with the line of `path`, for a damaged line before the last, and for any event that its kind does
    not allow.
    """
    end, damaged = 0, 0
    for number, line in enumerate(_lines(file, path), start=1):
        if damaged:
            raise ValueError(f"{path}, line {damaged}: {NO_EVENT}")
        try:
            event = event_of(line) if line.endswith(b"\n") else None
        except EventError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
        if event is None:
            damaged = number
            continue
        end += len(line)
        yield event, end


def moment(event: dict) -> float:
    """The time at which the event was stored, in seconds since 1970; 0 where it has no time."""
    return datetime.fromisoformat(event["time"]).timestamp() if event.get("time") else 0.0


def now() -> str:
    """The current time in UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def event_of(line: bytes) -> dict | None:
    """The event on a line of a log, without fields that its kind does not know; None where the line is no event.

    Lone surrogates are replaced by U+FFFD. Raises EventError where a field is missing, or of another type or size than
    `lab.store.events` says.
    """
    begins = _KIND.match(line)
    try:
        if begins and (kind := begins[1].decode()) in KINDS:
            event = _schema(kind).validate_json(line)
            if event["event"] == kind and "time" in event:
                return event
    except ValidationError:  # said below, once more
        pass
    return _checked(_parsed(line))


def _parsed(line: bytes) -> object:
    """The JSON on the line, with lone surrogates replaced; None where there is none, or it is nested too deep."""
    try:
        return from_json(line)
    except ValueError:  # lone surrogates, which it does not know, or no JSON
        pass
    try:
        text = json.dumps(json.loads(line), ensure_ascii=False)
        return from_json(_SURROGATE.sub("\ufffd", text))
    except (ValueError, RecursionError):
        return None


def _checked(event: object) -> dict | None:
    """The event, as `event_of` returns or refuses it."""
    if not isinstance(event, dict) or not isinstance(kind := event.get("event"), str):
        return None
    try:
        checked = _schema(kind if kind in KINDS else "").validate_python(event)
    except ValidationError as errors:
        raise EventError(mistake(errors)) from None
    if kind not in KINDS:  # of a later version
        return event
    if "time" not in checked:
        raise EventError("has no time; expected it, as the lab writes it")
    return checked


@cache
def _schema(kind: str) -> SchemaValidator:
    """The validator of a kind's events; of any event for ""."""
    shape: Any = KINDS.get(kind, Event)
    if isinstance(shape, UnionType):
        shapes = {each.__name__: each for each in get_args(shape)}
        tagged: Any = None
        for name, each in shapes.items():
            tagged = Annotated[each, Tag(name)] if tagged is None else tagged | Annotated[each, Tag(name)]
        shape = Annotated[tagged, Discriminator(_started)]
    if kind in FURTHER:
        shape = Annotated[shape, AfterValidator(FURTHER[kind])]
    return TypeAdapter(shape).validator  # pyright: ignore[reportReturnType]


def _started(event: dict) -> str:
    """Which `started` it is: that of a training, a study or a run."""
    return "TrainingStarted" if "method" in event else "StudyStarted" if "study" in event else "RunStarted"


def _judged(event: dict) -> dict:
    conversation, turn = event["conversation"], event["turn"]
    for row in event["rows"]:
        if row["turn"] != turn or row["conversation"] != conversation:
            raise ValueError("has a row of another conversation or turn; expected rows of its own")
        if row["metric"] == "line_to_line" and not _TURN.fullmatch(row["against"]):
            raise ValueError("has a row of line_to_line against no turn; expected an earlier turn in digits")
    return event


def _rewarded(event: dict) -> dict:
    for name, value in event.items():
        if name.startswith("reward_") and value is not None and not (type(value) in (int, float) and isfinite(value)):
            raise ValueError(f"{name} is {shown(value)}; expected a number")
    return event


FURTHER = {"judged": _judged, "step": _rewarded, "collected": _rewarded}  # what types alone do not say
