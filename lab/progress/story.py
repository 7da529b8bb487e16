"""The lines, verdicts and training steps of a run, as a pure fold of its events; reports are made from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from metrics.conflicts import Conflict, Denials, contradictions, denied, folded
from scenarios.records import SEATS


@dataclass
class ConversationStory:
    """One conversation, folded from its events; of a turn that was stored twice, the last event counts."""

    status: str = "unfinished"
    reason: str | None = None
    cast: dict[str, str] = field(default_factory=dict)
    lines: dict[int, dict] = field(default_factory=dict)
    judged: dict[tuple[int, str], dict] = field(default_factory=dict)  # (turn, by) -> what is kept of its rows
    denials: Denials = field(default_factory=dict)


@dataclass
class Story:
    """The content of a run's events: its `started` event, its conversations by number, and the steps of a training."""

    opening: dict = field(default_factory=dict)  # the last `started` event
    talks: dict[int, ConversationStory] = field(default_factory=dict)
    steps: dict[int, dict] = field(default_factory=dict)

    def spans(self) -> dict[tuple[int, int, str, str, str], tuple[int, int]]:
        """(start, end) characters of the contradicting words, by (conversation, turn, metric, judge, against)."""
        return {
            (c, turn, mark["m"], mark["j"], mark["a"]): tuple(mark["w"])
            for c, talk in self.talks.items()
            for (turn, _), kept in talk.judged.items()
            for mark in kept["marks"]
            if mark["w"]
        }

    def conflicts(self) -> Iterator[tuple[int, int, Conflict]]:
        """(conversation, turn, conflict) of each line that has one, in the order of the lines."""
        for c, talk in sorted(self.talks.items()):
            for (turn, _), kept in sorted(talk.judged.items()):
                if kept["conflict"] and turn in talk.lines:
                    yield c, turn, kept["conflict"]


def story(events: Iterable[dict]) -> Story:
    """The story of these events. Rows without a contradiction are only counted, to save memory."""
    run_story = Story()
    for event in events:
        kind = event["event"]
        if kind == "started":
            run_story.opening = event
            for cast in event.get("cast", ()):
                _talk(run_story, cast["conversation"]).cast = {seat: cast[seat] for seat in SEATS if seat in cast}
        elif kind == "line":
            talk = _talk(run_story, event["conversation"])
            talk.cast.setdefault(event["seat"], event.get("persona", ""))
            talk.lines[event["turn"]] = {
                "t": event["turn"],
                "s": event["seat"],
                "n": event.get("node", ""),
                "x": event["text"],
            }
        elif kind == "judged":
            talk = _talk(run_story, event["conversation"])
            talk.judged[event["turn"], event["by"]] = _kept(talk, event["turn"], event["rows"])
        elif kind == "conversation":
            talk = _talk(run_story, event["conversation"])
            talk.status, talk.reason = event["status"], event.get("reason")
        elif kind == "step":
            run_story.steps[event["step"]] = event
    return run_story


def _talk(run_story: Story, conversation: int) -> ConversationStory:
    return run_story.talks.setdefault(conversation, ConversationStory())


def _kept(talk: ConversationStory, turn: int, rows: Sequence[Mapping]) -> dict:
    """What is kept of the rows of a turn: its conflict, its contradictions and answers, and the numbers of scored and
    unscored rows.
    """
    pairs = contradictions(rows, talk.denials)
    if any(row["metric"] != "qa" for row in rows):
        talk.denials[turn] = denied(pairs)
    marks = [
        {
            "m": row["metric"],
            "j": row["judge"],
            "a": row["against"],
            "p": row["p_inconsistent"],
            "w": row.get("span"),
            "c": row.get("claim"),
            **({"r": True} if returns else {}),
        }
        for row, returns in pairs
    ]
    answers, scored, unscored = [], 0, {}
    for row in rows:
        if row["metric"] == "qa":
            answers.append(
                {
                    "s": row["seat"],
                    "j": row["judge"],
                    "f": row["against"],
                    "v": row["verdict"],
                    "a": row.get("answer"),
                    "u": row["unscored"],
                }
            )
        elif row["unscored"] is not None:
            unscored[row["unscored"]] = unscored.get(row["unscored"], 0) + 1
        else:
            scored += 1
    return {"conflict": folded(pairs), "marks": marks, "answers": answers, "scored": scored, "unscored": unscored}
