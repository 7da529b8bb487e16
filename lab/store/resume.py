"""The dialogues that are already stored, read from the events so that a run can be resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lab.store.event_parts import LineOrigin
from lab.store.frames import ends
from scenarios.records import Judgement, Line


@dataclass(frozen=True)
class Stored:
    """What is stored of a run.

    - `lines`: by (conversation, turn).
    - `judged`: judgements by (conversation, turn, "judges" or "qa").
    - `finished`: the numbers of the finished conversations.
    - `origins`: by (conversation, turn), for lines kept from another run; such a line is kept unchanged, even where the
      scenario now differs.
    """

    lines: Mapping[tuple[int, int], Line] = field(default_factory=dict)
    judged: Mapping[tuple[int, int, str], list[Judgement]] = field(default_factory=dict)
    finished: frozenset[int] = frozenset()
    origins: Mapping[tuple[int, int], LineOrigin] = field(default_factory=dict)


def stored(events: Sequence[dict]) -> Stored:
    """What the events contain; of a turn that was stored twice, the last event counts."""
    lines, judged, origins = {}, {}, {}
    for event in events:
        if event["event"] == "line":
            lines[event["conversation"], event["turn"]] = line_of(event)
            if "origin" in event:
                origins[event["conversation"], event["turn"]] = event["origin"]
        elif event["event"] == "judged":
            rows = [Judgement(**row | {"span": tuple(row["span"]) if row["span"] else None}) for row in event["rows"]]
            judged[event["conversation"], event["turn"], event["by"]] = rows
    finished = frozenset(c for c, end in ends(events).items() if end["status"] == "finished")
    return Stored(lines, judged, finished, origins)


def line_of(event: dict) -> Line:
    """The line of a `line` event."""
    fields: dict[str, Any] = {name: event[name] for name in Line.__dataclass_fields__ if name in event}
    fields["token_ids"] = tuple(event["token_ids"])
    return Line(**fields)
