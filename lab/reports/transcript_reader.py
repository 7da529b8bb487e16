"""What the reader of a report shows: every conversation with its verdicts, packed so that a page opens at once.

The index tells of each conversation what filters ask for and stands in the page as it is. The conversations themselves
stand there in packets (gzipped JSON in base64), which the page unpacks when one of theirs is opened.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from scenarios.records import SEATS, Persona

PACKET = 60_000  # characters of JSON, about, before they are packed


@dataclass
class Talk:
    """One conversation as its events told it; the last telling of a turn counts."""

    status: str = "unfinished"
    reason: str | None = None
    cast: dict[str, str] = field(default_factory=dict)
    lines: dict[int, dict] = field(default_factory=dict)
    judged: dict[tuple[int, str], dict] = field(default_factory=dict)  # (turn, by) -> what is kept of its rows


@dataclass
class Story:
    """What a run's events told: how it began, its conversations by number, and of a training its steps."""

    opening: dict = field(default_factory=dict)  # the last `started` event
    talks: dict[int, Talk] = field(default_factory=dict)
    steps: dict[int, dict] = field(default_factory=dict)

    def spans(self) -> dict[tuple[int, int, str, str, str], tuple[int, int]]:
        """(conversation, turn, metric, judge, against) -> the characters (start, end) of the line that contradict."""
        return {
            (c, turn, mark["m"], mark["j"], mark["a"]): tuple(mark["w"])
            for c, talk in self.talks.items()
            for (turn, _), kept in talk.judged.items()
            for mark in kept["marks"]
            if mark["w"]
        }


@dataclass(frozen=True)
class Packed:
    """`index`: one entry a conversation, by number; `packets`: base64, by the number that entries name."""

    index: list[dict]
    packets: list[str]


def story(events: Iterable[dict]) -> Story:
    """Of judgements that found nothing only their number is kept, so that long runs fit into memory."""
    found = Story()
    for event in events:
        kind = event["event"]
        if kind == "started":
            found.opening = event
            for cast in event.get("cast", ()):
                _talk(found, cast["conversation"]).cast = {seat: cast[seat] for seat in SEATS if seat in cast}
        elif kind == "line":
            talk = _talk(found, event["conversation"])
            talk.cast.setdefault(event["seat"], event.get("persona", ""))
            talk.lines[event["turn"]] = {
                "t": event["turn"],
                "s": event["seat"],
                "n": event.get("node", ""),
                "x": event["text"],
            }
        elif kind == "judged":
            _talk(found, event["conversation"]).judged[event["turn"], event["by"]] = _kept(event["rows"])
        elif kind == "conversation":
            talk = _talk(found, event["conversation"])
            talk.status, talk.reason = event["status"], event.get("reason")
        elif kind == "step":
            found.steps[event["step"]] = event
    return found


def _talk(found: Story, conversation: int) -> Talk:
    return found.talks.setdefault(conversation, Talk())


def _kept(rows: Sequence[Mapping]) -> dict:
    """Of the rows of a turn: contradictions, answers, and how many were scored or not by seat."""
    named = {
        row["judge"]
        for row in rows
        if row["metric"] == "prompt_to_line" and row["verdict"] and row["against"] != "persona"
    }
    marks, answers, scored, unscored = [], [], 0, {}
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
            whole = (
                row["metric"] == "prompt_to_line" and row["against"] == "persona" and row["judge"] in named
            )  # told fact by fact
            if row["verdict"] and not whole:
                marks.append(
                    {
                        "m": row["metric"],
                        "j": row["judge"],
                        "a": row["against"],
                        "p": row["p_inconsistent"],
                        "w": row.get("span"),
                        "c": row.get("claim"),
                    }
                )
    return {"marks": marks, "answers": answers, "scored": scored, "unscored": unscored}


def packed(found: Mapping[int, Talk]) -> Packed:
    """Conversations in order of their numbers, several a packet."""
    index, packets, waiting, size = [], [], [], 0
    for number in sorted(found):
        entry, content = _entry(number, found[number]), _content(found[number])
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        index.append(entry | {"k": len(packets), "i": len(waiting)})
        waiting.append(text)
        size += len(text)
        if size >= PACKET:
            packets.append(_packet(waiting))
            waiting, size = [], 0
    return Packed(index, [*packets, _packet(waiting)] if waiting else packets)


def _packet(texts: Sequence[str]) -> str:
    data = f"[{','.join(texts)}]".encode("utf-8", "replace")
    return base64.b64encode(gzip.compress(data, 6, mtime=0)).decode()


def _entry(number: int, talk: Talk) -> dict:
    """c: number; who; st: status; n: lines; bad: contradictions by seat; un: unscored judgements; wrong: wrong answers
    by seat.
    """
    bad, wrong = dict.fromkeys(SEATS, 0), dict.fromkeys(SEATS, 0)
    unscored = 0
    for (turn, _), kept in talk.judged.items():
        seat = talk.lines.get(turn, {}).get("s")
        if seat in bad:
            bad[seat] += len(kept["marks"])
        unscored += sum(kept["unscored"].values())
        for answer in kept["answers"]:
            wrong[answer["s"]] += answer["v"] is True
            unscored += answer["v"] is None
    return {
        "c": number,
        "who": talk.cast,
        "st": talk.status,
        "n": len(talk.lines),
        "bad": bad,
        "un": unscored,
        "wrong": wrong,
    }


def _content(talk: Talk) -> dict:
    lines = []
    for turn in sorted(talk.lines):
        judged = talk.judged.get((turn, "judges"), {})
        more = {
            "k": judged.get("marks"),
            "u": judged.get("unscored"),
            "q": talk.judged.get((turn, "qa"), {}).get("answers"),
            "j": judged.get("scored"),
        }
        lines.append(talk.lines[turn] | {key: value for key, value in more.items() if value})
    return {"lines": lines, **({"why": talk.reason} if talk.reason else {})}


def people(personas: Iterable[Persona]) -> dict[str, dict]:
    """id -> name, card, and by fact its value and claim, for the reader to show beside a contradiction."""
    return {
        one.id: {
            "name": one.name,
            "card": one.card,
            "facts": {fact.id: {"value": fact.value, "claim": fact.claim} for fact in one.facts},
        }
        for one in personas
    }


def as_script(value: object) -> str:
    """JSON that may stand inside a <script> element: nothing in it can end that element or begin a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text.encode("utf-8", "backslashreplace").decode()
