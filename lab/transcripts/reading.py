"""Conversations that are there already, whoever played them: read, seated, and cut into pairs for judges.

What is read: chat JSONL (`messages`), labelled lines (`lines`, `personas`), the JSON that "Consistently Simulating
Human Personas" (Abdulhai et al., arXiv 2511.00222) publishes (`conversation`, `P1`, `P2`, the judge's words beside
them), and run folders. Files may be gzipped. Each record is recognised by its keys. One that cannot be read is left out
and told with file and line; a file of which nothing can be read is refused.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lab.store.event_log import read_events
from lab.store.frames import turns_frame
from lab.store.resume import stored
from lab.store.run_store import read_manifest
from metrics.judges import Pair, is_blank, pair_retrieval
from scenarios import personas as people
from scenarios.records import ASSISTANT, PARTNER, SEATS, USER, Line, Persona
from scenarios.scenario import Scenario, load_scenario
from scenarios.suggestions import nearest_path

if TYPE_CHECKING:
    import polars as pl


NODE = "transcript"  # where a line was said that no scenario led to
SEAT_OF = {"P1": ASSISTANT, "P2": USER}  # P1 opens: the teacher, the therapist; P2 is the simulated human
GZIP = b"\x1f\x8b"
FORMS = (
    "`messages` (chat), `lines` with `personas` (labelled lines), or `conversation` with `P1` and `P2` (the JSON that "
    "consistent-LLMs publishes)"
)
EXPECTED = f"{FORMS}, or a run's folder"
Labels = Mapping[
    tuple[int, str], "bool | None"
]  # (turn, "persona" or an earlier turn in digits) -> contradicts, None: no telling


@dataclass(frozen=True)
class Transcript:
    """One conversation as it was said."""

    conversation: int
    name: str | None  # what its file calls it
    cast: Mapping[str, Persona]  # by seat; a persona without a card is one that nobody told us
    lines: tuple[Line, ...]
    ready: frozenset[int] = frozenset()  # turns whose words the scenario gave: not judged
    labels: Labels = field(default_factory=dict)
    strays: int = 0  # conflicts that the labels name with what is no earlier line of the same speaker

    def numbered(self, conversation: int) -> Transcript:
        lines = tuple(replace(line, conversation=conversation) for line in self.lines)
        return replace(self, conversation=conversation, lines=lines)


@dataclass(frozen=True)
class Source:
    """What one path held."""

    path: str
    told: str  # what it is and who sits where, for people
    transcripts: tuple[Transcript, ...]
    digest: str  # SHA-256 of what was read, in hex
    left_out: tuple[str, ...] = ()  # a sentence for each conversation that could not be read
    scenario: Scenario | None = None  # a run's
    notes: tuple[str, ...] = ()


def read(path: str | Path) -> Source:
    """The conversations of a file or a run folder, numbered as there, else from 0. ValueError: one sentence with file,
    line and what was expected, where nothing of it can be read.
    """
    path = Path(path)
    if path.is_dir():
        return _run(path)
    return read_records(path, _bytes(path))


def read_records(path: str | Path, data: bytes) -> Source:
    """The conversations of JSON, or JSON lines, that `path` (a file, or a name for people) holds, numbered from 0.
    ValueError: one sentence with path, line and what was expected, where nothing of it can be read.
    """
    path = Path(path)
    found: list[tuple[str, Transcript]] = []
    left_out: list[str] = []
    for where, record in _records(path, data):
        try:
            if isinstance(record, ValueError):
                raise record
            told, transcript = _transcript(record, len(found))
        except ValueError as error:
            left_out.append(f"{path}, {where}: {error}")
        else:
            found.append((told, transcript))
    if not found:
        raise ValueError(left_out[0] if left_out else f"{path}, line 1: there is no conversation; expected {FORMS}")
    told = "; ".join(dict.fromkeys(told for told, _ in found))
    return Source(
        str(path), told, tuple(transcript for _, transcript in found), hashlib.sha256(data).hexdigest(), tuple(left_out)
    )


def own_turns(one: Transcript, seat: str) -> set[int]:
    """Turns at which the seat spoke in words of its own."""
    return {
        line.turn for line in one.lines if line.seat == seat and line.turn not in one.ready and not is_blank(line.text)
    }


def numbered(sources: Sequence[Source]) -> list[Transcript]:
    """All conversations, numbered on where a source before took the numbers."""
    found: list[Transcript] = []
    for source in sources:
        first = 1 + max((one.conversation for one in found), default=-1)
        found += [one.numbered(first + one.conversation) for one in source.transcripts]
    return found


def pairs(transcript: Transcript, wanted: Collection[str], embed: pair_retrieval.Embed | None = None) -> Iterator[Pair]:
    """Every line with its speaker's persona (`prompt_to_line`) and with earlier lines of the same seat
    (`line_to_line`), as far as wanted, in the order in which a run judges them. `embed`: only the earlier lines that it
    retrieves; None: all.
    """
    said = transcript.lines
    spoken = [line for line in said if line.turn not in transcript.ready]
    earlier = _earlier(transcript, spoken, embed) if "line_to_line" in wanted else {}
    for line in spoken:
        persona = transcript.cast[line.seat]
        company = {
            "partner": transcript.cast[PARTNER[line.seat]],
            "heard": next((one.text for one in reversed(said) if one.turn < line.turn and one.seat != line.seat), ""),
        }
        where = (line.conversation, line.turn, line.seat)
        if "prompt_to_line" in wanted:
            yield Pair(*where, "prompt_to_line", line.text, "persona", persona, **company)
        for one in earlier.get(line.turn, ()):
            yield Pair(*where, "line_to_line", line.text, str(one.turn), persona, one.text, **company)


def _earlier(
    transcript: Transcript, spoken: Sequence[Line], embed: pair_retrieval.Embed | None
) -> dict[int, list[Line]]:
    """The earlier lines of the same seat to hold each line against, by its turn."""
    if embed is None:
        return {
            line.turn: [one for one in spoken[:place] if one.seat == line.seat] for place, line in enumerate(spoken)
        }
    found: dict[int, list[Line]] = {}
    for seat in SEATS:
        own = [line for line in spoken if line.seat == seat]
        for later, before in pair_retrieval.candidates([line.text for line in own], embed, transcript.cast[seat]):
            found.setdefault(own[later].turn, []).append(own[before])
    return found


# -- files


def text_of(path: Path, expected: str = EXPECTED, data: bytes | None = None) -> str:
    """The file's text, gzipped or not. ValueError where there is no such file or it is no UTF-8; `expected`: what else
    it says.
    """
    try:
        return (_bytes(path, expected) if data is None else data).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {line}: is no text in UTF-8; expected {expected}") from None


def _bytes(path: Path, expected: str = EXPECTED) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data.startswith(GZIP) else data
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is a damaged gzip file ({error}); expected a whole one") from None
    except OSError as error:
        hint = nearest_path(path) or f"; expected {expected}"
        raise ValueError(f"{path} cannot be read ({error.strerror or error}){hint}") from None


def _records(path: Path, data: bytes) -> Iterator[tuple[str, object]]:
    """(where, record) of a JSON list, of JSON lines, or of one JSON object; a ValueError stands for a line that is no
    JSON.
    """
    text = text_of(path, data=data)
    if text.lstrip().startswith("["):
        listed = _json(text)
        if isinstance(listed, ValueError):
            raise ValueError(f"{path}: {listed}")
        yield from ((f"conversation {number}", record) for number, record in enumerate(listed))
        return
    lines = [(f"line {number}", line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if lines and isinstance(_json(lines[0][1]), ValueError) and not isinstance(whole := _json(text), ValueError):
        yield lines[0][0], whole
        return
    yield from ((where, _json(line)) for where, line in lines)


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}" if "\n" in text else f"column {error.colno}"
        return ValueError(f"is no JSON ({error.msg} at {at}); expected {FORMS}")
    except RecursionError:
        return ValueError(f"is JSON nested too deep; expected {FORMS}")
    except ValueError:  # a number of thousands of digits
        return ValueError(f"holds a number that is too long; expected {FORMS}")


# -- records


class _Record(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)  # other keys are nobody's business


class _Part(_Record):
    type: Literal["text"]
    text: str


class _Message(_Record):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[_Part]

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)


class _Seated(_Record):
    seat: Literal["user", "assistant"]
    name: str | None = None


class _Chat(_Record):
    id: str | int | None = None
    messages: Annotated[list[_Message], Field(min_length=1)]
    personas: dict[Literal["user", "assistant"], str | None] = {}  # cards by role
    seats: dict[Literal["user", "assistant"], _Seated] = {}  # who a role is, where roles are not seats
    given: list[int] = []  # turns whose words a scenario gave


class _LabelledLine(_Record):
    i: int | None = None
    speaker: Literal["P1", "P2"]
    text: str
    contradicts_persona: bool | None = None
    conflicts_with: list[int] | None = None


class _Labelled(_Record):
    id: str | int | None = None
    roles: dict[Literal["P1", "P2"], str] = {}
    personas: dict[Literal["P1", "P2"], str | None]
    lines: Annotated[list[_LabelledLine], Field(min_length=1)]


_Said = Annotated[tuple[int, str], Field(strict=False)]  # [turn, text]; in JSON a list


class _Published(_Record):
    P1: str | None = None
    P2: str | None = None
    conversation: Annotated[list[_Said | str], Field(min_length=1)]
    eval_prompt_consistency: list[_Said] | None = None
    eval_index_consistency: list[_Said] | None = None


def _transcript(record: object, number: int) -> tuple[str, Transcript]:
    """What kind of record it is, for people, and the conversation. ValueError says what was expected."""
    keys = record.keys() if isinstance(record, dict) else ()
    try:
        if "messages" in keys:
            chat = _Chat.model_validate(record)
            told = (
                "they say which seat a role is"
                if chat.seats
                else "roles are seats, the system message is the assistant's persona"
            )
            return f"chat messages ({told})", _chat(chat, number)
        if "lines" in keys and "personas" in keys:
            return "labelled lines (P1 in the assistant's seat, P2 in the user's)", _labelled(
                _Labelled.model_validate(record), number
            )
        if "conversation" in keys and keys & {"P1", "P2"}:
            published = _as_labelled(_Published.model_validate(record))
            return "consistent-LLMs dialogues (P1 in the assistant's seat, P2 in the user's)", _labelled(
                published, number
            )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(
            str(part) for part in first["loc"] if part != "str" and "[" not in str(part)
        )  # a union's branch is no key
        key = key if key.isprintable() else repr(key)
        raise ValueError(f"{key} is missing" if first["type"] == "missing" else f"{key}: {first['msg']}") from None
    raise ValueError(f"is no conversation; expected {FORMS}")


def _chat(record: _Chat, number: int) -> Transcript:
    said = [message for message in record.messages if message.role in SEATS]
    if not said:
        raise ValueError("messages: holds no line of user or assistant; expected at least one")
    system = "\n".join(message.text for message in record.messages if message.role not in SEATS)
    cards = {USER: record.personas.get(USER), ASSISTANT: record.personas.get(ASSISTANT) or system}
    seats = {role: record.seats[role].seat if role in record.seats else role for role in SEATS}
    if set(seats.values()) != set(SEATS):
        raise ValueError(f"seats: gives both roles the seat of the {seats[USER]}; expected one each")
    names = {role: seated.name for role, seated in record.seats.items()}
    cast = {seats[role]: persona(cards[role], names.get(role) or seats[role].capitalize()) for role in SEATS}
    lines = [(seats[message.role], message.text) for message in said]
    return Transcript(number, _name(record.id), cast, _lines(number, cast, lines), frozenset(record.given))


def _labelled(record: _Labelled, number: int) -> Transcript:
    wrong = next((place for place, line in enumerate(record.lines) if line.i not in (None, place)), None)
    if wrong is not None:
        raise ValueError(f"lines.{wrong}.i: is {record.lines[wrong].i}; expected {wrong}, the line's place from 0")
    cast = {seat: persona(record.personas.get(key), record.roles.get(key, key)) for key, seat in SEAT_OF.items()}
    lines = [(SEAT_OF[line.speaker], line.text.strip()) for line in record.lines]
    labels: dict[tuple[int, str], bool | None] = {}
    strays = 0
    for turn, line in enumerate(record.lines):
        labels[turn, "persona"] = line.contradicts_persona
        earlier = [place for place in range(turn) if record.lines[place].speaker == line.speaker]
        conflicts = line.conflicts_with
        labels |= {(turn, str(place)): None if conflicts is None else place in conflicts for place in earlier}
        strays += len(set(conflicts or ()) - set(earlier))
    return Transcript(number, _name(record.id), cast, _lines(number, cast, lines), labels=labels, strays=strays)


def _as_labelled(record: _Published) -> _Labelled:
    """The same with the judge's words read as labels: the whole word YES (contradicts) or NO, the last list in
    brackets.
    """
    verdicts = {turn: _yes_or_no(said) for turn, said in record.eval_prompt_consistency or ()}
    conflicts = {turn: _last_list(said) for turn, said in record.eval_index_consistency or ()}
    said = [(place, one) if isinstance(one, str) else one for place, one in enumerate(record.conversation)]
    lines = [
        {
            "i": turn,
            "speaker": ("P1", "P2")[place % 2],
            "text": text,
            "contradicts_persona": verdicts.get(turn),
            "conflicts_with": conflicts.get(turn),
        }
        for place, (turn, text) in enumerate(said)
    ]
    return _Labelled.model_validate({"personas": {"P1": record.P1, "P2": record.P2}, "lines": lines})


def _yes_or_no(said: str) -> bool | None:
    yes, no = (re.search(rf"\b{word}\b", said) is not None for word in ("YES", "NO"))
    return yes if yes != no else None


def _last_list(said: str) -> list[int] | None:
    lists = re.findall(r"\[([\d,\s]*)\]", said)
    return [int(number) for number in re.findall(r"\d+", lists[-1])] if lists else None


def persona(text: str | None, name: str) -> Persona:
    """Someone known by a text alone. The same text gives the same id; a text that is a JSON string is read as one."""
    card = (text or "").strip()
    if card.startswith('"') and isinstance(plain := _json(card), str):
        card = plain.strip()
    card = _clean(card)
    known = f"text-{hashlib.blake2b(card.encode(), digest_size=4).hexdigest()}" if card else "unknown"
    return Persona(known, name, card, ())


def _lines(number: int, cast: Mapping[str, Persona], said: Sequence[tuple[str, str]]) -> tuple[Line, ...]:
    return tuple(
        Line(number, turn, seat, cast[seat].id, NODE, _clean(text), len(text.split()))
        for turn, (seat, text) in enumerate(said)
    )


def _clean(text: str) -> str:
    """Without lone surrogates, which no tokenizer and no file takes."""
    return text.encode("utf-8", "replace").decode()


def _name(given: str | int | None) -> str | None:
    return None if given is None else str(given)


# -- runs


def _run(path: Path) -> Source:
    """A run's conversations with the personas that its scenario casts. ValueError where they are not those that
    played.
    """
    manifest, events = read_manifest(path), read_events(path)
    if manifest.get("scored"):
        origin = ", ".join(manifest["scored"]["transcripts"])
        raise ValueError(f"{path} was scored and not played; expected what it was scored from: {origin}")
    scenario, transcripts = seated(path, turns_frame(manifest["run_id"], events))
    if not transcripts:
        raise ValueError(f"{path / 'events.jsonl'} holds no line; expected a run in which something was said")
    changed = scenario.digest() != manifest.get("digest")
    note = f"{path}: the scenario or its persona files may have changed since it was played" if changed else None
    return Source(
        str(path),
        "a run of the lab",
        transcripts,
        hashlib.sha256((path / "events.jsonl").read_bytes()).hexdigest(),
        scenario=scenario,
        notes=(note,) if note else (),
    )


def seated(path: Path, turns: pl.DataFrame) -> tuple[Scenario, tuple[Transcript, ...]]:
    """A run's scenario, and what was said in it with the personas that its scenario casts. ValueError where others
    played.
    """
    scenario = load_scenario(path / "scenario.yaml")
    cast = people.cast(scenario)
    for number, seat, played in turns.select("conversation", "seat", "persona").unique(maintain_order=True).rows():
        now = cast[number][seat].id if number < len(cast) else "nobody"
        if played != now:
            raise ValueError(
                f"{path}: conversation {number} was played with {played} as {seat}, but its scenario and persona "
                "files now "
                f"cast {now}; expected them as they were"
            )
    given = {name for name, node in scenario.graph.nodes.items() if node.says}
    told = stored(read_events(path)).told if scenario.fork else {}  # how its kept lines came about

    def ready(line: Line) -> bool:
        here = told.get((line.conversation, line.turn))
        return here.ready if here else line.node in given

    return scenario, tuple(
        Transcript(number, None, cast[number], lines, frozenset(line.turn for line in lines if ready(line)))
        for number, lines in lines_of(turns)
    )


def lines_of(turns: pl.DataFrame) -> Iterator[tuple[int, tuple[Line, ...]]]:
    """A turns frame's lines by conversation, in turn order."""
    rows = turns.drop("run_id").sort("conversation", "turn").iter_rows(named=True)
    for number, some in groupby(rows, key=lambda row: row["conversation"]):
        yield number, tuple(Line(**row | {"token_ids": tuple(row["token_ids"] or ())}) for row in some)
