"""The dialogues that are already stored, read from the events so that a run can be resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lab.store.frames import ends
from scenarios.records import Judgement, Line


@dataclass(frozen=True)
class LineOrigin:
    """How a line kept from another run was produced; it is kept unchanged, even where the scenario now differs."""

    direction: str  # the instruction that its speaker had, "" for none
    fact: str | None  # id of the partner's fact that it was about
    ready: bool  # the scenario gave its words


@dataclass(frozen=True)
class Stored:
    """What is stored of a run.

    - `lines`: by (conversation, turn).
    - `judged`: judgements by (conversation, turn, "judges" or "qa").
    - `finished`: the numbers of the finished conversations.
    - `origins`: by (conversation, turn), for lines kept from another run.
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
            if "told" in event:
                origins[event["conversation"], event["turn"]] = LineOrigin(**event["told"])
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
