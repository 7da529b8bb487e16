"""The data of a report's transcript reader: every conversation with its verdicts, packed so that a page opens quickly.

The index holds what the filters need and is plain JSON in the page. The conversations are in packets (gzipped JSON in
base64); the page unpacks a packet when one of its conversations is opened.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lab.progress.story import ConversationStory
from scenarios.records import SEATS, Persona

PACKET = 60_000  # characters of JSON, about, before they are packed


@dataclass(frozen=True)
class Packed:
    """`index` has one entry per conversation, in order; `packets` are base64, at the indices that the entries name."""

    index: list[dict]
    packets: list[str]


def packed(talks: Mapping[int, ConversationStory]) -> Packed:
    """The conversations in the order of their numbers, several per packet."""
    index, packets, waiting, size = [], [], [], 0
    for number in sorted(talks):
        entry, content = _entry(number, talks[number]), _content(talks[number])
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


def _entry(number: int, talk: ConversationStory) -> dict:
    """c: number; who; st: status; n: lines; bad: contradicting lines by seat; un: unscored judgements; wrong: wrong
    answers by seat.
    """
    bad, wrong = dict.fromkeys(SEATS, 0), dict.fromkeys(SEATS, 0)
    unscored = 0
    for (turn, _), kept in talk.judged.items():
        seat = talk.lines.get(turn, {}).get("s")
        if seat in bad:
            bad[seat] += kept["conflict"] is not None and not kept["conflict"].returns
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


def _content(talk: ConversationStory) -> dict:
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
    """By persona id: name, card, and by fact its value and claim, which the reader shows with a contradiction."""
    return {
        persona.id: {
            "name": persona.name,
            "card": persona.card,
            "facts": {fact.id: {"value": fact.value, "claim": fact.claim} for fact in persona.facts},
        }
        for persona in personas
    }


def as_script(value: object) -> str:
    """JSON for a <script> element: nothing in it can end the element or begin a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text.encode("utf-8", "backslashreplace").decode()
