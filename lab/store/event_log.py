"""Reads the event log of a run line by line; its events are described in `lab.store.events`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic_core import from_json

from lab.store.events import NEEDS
from scenarios.suggestions import did_you_mean, nearest_path

EVENTS = "events.jsonl"
RUN_FOLDER = "such as runs/20260101T120000Z-name-1a2b"  # what messages say of a folder that is expected
NO_EVENT = "not an event (one JSON object with an `event` key and that event's fields)"


def check_folder(path: Path) -> None:
    """Raises ValueError where the path of a run is no folder."""
    if path.is_dir():
        return
    if not path.exists():
        raise ValueError(f"{path} is no run: there is no such folder{nearest_path(path)}")
    around = did_you_mean(str(path.parent)) if (path.parent / EVENTS).is_file() else ""
    raise ValueError(f"{path} is no run: it is a file; expected the folder of a run, {RUN_FOLDER}{around}")


def read_events(run_dir: str | Path) -> list[dict]:
    """All complete events, oldest first, without an incomplete last line (a running run may be writing it).

    Raises ValueError where there is no log, and for the first damaged line before the last.
    """
    return list(stream_events(run_dir))


def stream_events(run_dir: str | Path) -> Iterator[dict]:
    """The events of `read_events` one at a time, for long runs."""
    check_folder(Path(run_dir))
    path = Path(run_dir) / EVENTS
    if not path.is_file():
        raise ValueError(f"{run_dir} is no run: it has no {EVENTS}")
    with path.open("rb") as file:
        for event, _ in whole_events(file, path):
            yield event


def whole_events(lines: Iterable[bytes], path: Path) -> Iterator[tuple[dict, int]]:
    """(event, bytes up to its end) for each complete event. Raises ValueError for a damaged line before the last."""
    end, damaged = 0, 0
    for number, line in enumerate(lines, start=1):
        if damaged:
            raise ValueError(f"{path}, line {damaged}: {NO_EVENT}")
        event = event_of(line) if line.endswith(b"\n") else None
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
    """The event on a line of a log; None where it is no event or lacks one of its required fields."""
    try:
        try:
            event = from_json(line)
        except ValueError:  # lone surrogates, which it does not know
            event = json.loads(line)
    except ValueError:
        return None
    whole = (
        isinstance(event, dict)
        and isinstance(event.get("event"), str)
        and NEEDS.get(event["event"], frozenset()) <= event.keys()
    )
    return event if whole else None
