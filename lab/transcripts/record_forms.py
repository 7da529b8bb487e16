"""From a record to conversations: chat messages in the forms of `lab.transcripts.chat_forms`, labelled lines, and the
published form of arXiv 2511.00222.

A record is recognised by its keys and checked before it becomes a `Transcript`; errors are ValueErrors that name the
key.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

import scenarios
from agents.seats.base import SPEAKS_FIRST, SPEAKS_ON
from lab.transcripts.chat_forms import EXPECTED, FORMS, form_of
from lab.transcripts.messages import Message, mark_of, talk_of, without_marks
from lab.transcripts.transcript import NODE, Transcript
from scenarios.messages import parsed_json
from scenarios.persona_schema import PersonaSpec, mapping_or_text
from scenarios.personas import find_persona
from scenarios.records import ASSISTANT, PARTNER, SEATS, USER, Line, Persona
from scenarios.scripts import count_words
from scenarios.spoken import Speaker, spoken_words
from scenarios.yaml_files import KINDS, ScenarioError

OWN_SLOTS = Path(scenarios.__file__).parent / "personas" / "townsfolk.yaml"
PEOPLE_KEPT = 10_000
SEAT_OF: dict[Literal["P1", "P2"], str] = {
    "P1": ASSISTANT,
    "P2": USER,
}  # P1 opens: the teacher, the therapist; P2 is the simulated human


def parse_json(text: str) -> object:
    """The parsed JSON, or a ValueError that says what is wrong with it; raises nothing."""
    parsed = parsed_json(text)
    return ValueError(f"{parsed}; expected {EXPECTED}") if isinstance(parsed, ValueError) else parsed


class _Record(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)  # other keys are ignored


class _Seated(_Record):
    seat: Literal["user", "assistant"]
    name: str | None = None


_MAPPING, _TEXT = KINDS
_Person = Annotated[  # a persona with its facts, or a card
    Annotated[PersonaSpec, Tag(_MAPPING)] | Annotated[str | None, Tag(_TEXT)], Discriminator(mapping_or_text)
]


class _Chat(_Record):
    id: str | int | None = None
    card: str | None = None  # what stands before the messages
    messages: Annotated[list[Message], Field(min_length=1)]
    personas: dict[Literal["user", "assistant"], _Person] = {}  # by role
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
    pturn: Literal[1, 2] | None = None  # who speaks first
    conversation: Annotated[list[_Said | str], Field(min_length=1)]
    eval_prompt_consistency: list[_Said] | None = None
    eval_index_consistency: list[_Said] | None = None


def conversations_in(record: object, form: str | None = None) -> Iterator[tuple[str, str, object]]:
    """(form in words, where in the record, one conversation) for each conversation of a record, whose form is
    recognised by its keys or named; the conversation may be a ValueError.

    Raises ValueError with what was expected, where the record is of no form.
    """
    if isinstance(record, list):
        record = {"messages": record}
    if not isinstance(record, Mapping):
        raise ValueError(f"is no conversation; expected {EXPECTED}")
    name = form or form_of(record)
    if name is None:
        raise ValueError(f"is no conversation; expected {EXPECTED}")
    chosen = FORMS[name]
    if not chosen.fits(record):
        keys = ", ".join(str(key) for key in list(record)[:8])
        raise ValueError(f"is not of the form {name}; its keys are {keys[:200]}; expected {chosen.words}")
    if chosen.split is None:
        yield name, "", record
        return
    for where, conversation in chosen.split(record):
        yield name, where, conversation


def transcript_of(form: str, record: object, number: int) -> tuple[str, Transcript]:
    """(kind of record in words, conversation) of a conversation that `conversations_in` gives.

    Raises ValueError with what was expected.
    """
    if isinstance(record, ValueError):
        raise record
    words = FORMS[form].words
    try:
        if form == "labelled":
            return words, _labelled(_Labelled.model_validate(record), number)
        if form == "consistent-llms":
            return words, _labelled(_as_labelled(_Published.model_validate(record)), number)
        chat = _Chat.model_validate(record)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        # a union's branch is no key
        key = ".".join(str(part) for part in first["loc"] if part != "str" and "[" not in str(part))
        key = key if key.isprintable() else repr(key)
        raise ValueError(f"{key} is missing" if first["type"] == "missing" else f"{key}: {first['msg']}") from None
    roles = (
        "they say which seat a role is"
        if chat.seats
        else "roles are seats, the system message is the assistant's persona"
    )
    return f"{words} ({roles})", _chat(chat, number)


def _chat(record: _Chat, number: int) -> Transcript:
    talk = talk_of(record.messages, (record.card or "").strip(), (SPEAKS_FIRST, SPEAKS_ON))
    given = {USER: record.personas.get(USER), ASSISTANT: record.personas.get(ASSISTANT) or talk.card}
    seats = {role: record.seats[role].seat if role in record.seats else role for role in SEATS}
    if set(seats.values()) != set(SEATS):
        raise ValueError(f"seats: gives both roles the seat of the {seats[USER]}; expected one each")
    names = {role: record.seats[role].name if role in record.seats else talk.name_of(role) for role in SEATS}
    cast = {
        seats[role]: _with_facts(role, person)
        if isinstance(person, PersonaSpec)
        else persona(person, names[role] or seats[role].capitalize())
        for role, person in given.items()
    }
    lines = [(seats[line.role], line.text) for line in talk.said]
    return Transcript(
        number,
        _name(record.id),
        cast,
        _lines(number, cast, lines),
        frozenset(record.given),
        omitted=talk.omitted,
    )


def _labelled(record: _Labelled, number: int) -> Transcript:
    wrong = next((place for place, line in enumerate(record.lines) if line.i not in (None, place)), None)
    if wrong is not None:
        raise ValueError(f"lines.{wrong}.i: is {record.lines[wrong].i}; expected {wrong}, the line's place from 0")
    cast = {seat: persona(record.personas.get(key), record.roles.get(key, key)) for key, seat in SEAT_OF.items()}
    names = {seat: {record.roles[key]} for key, seat in SEAT_OF.items() if key in record.roles}
    said = [(SEAT_OF[line.speaker], line.text.strip()) for line in record.lines]
    texts, marks = without_marks(said, names, {seat: person.card for seat, person in cast.items()})
    lines = [(seat, text) for (seat, _), text in zip(said, texts, strict=True)]
    labels: dict[tuple[int, str], bool | None] = {}
    strays = 0
    for turn, line in enumerate(record.lines):
        labels[turn, "persona"] = line.contradicts_persona
        earlier = [place for place in range(turn) if record.lines[place].speaker == line.speaker]
        conflicts = line.conflicts_with
        labels |= {(turn, str(place)): None if conflicts is None else place in conflicts for place in earlier}
        strays += len(set(conflicts or ()) - set(earlier))
    omitted = {"name before a line": marks} if marks else {}
    return Transcript(
        number, _name(record.id), cast, _lines(number, cast, lines), labels=labels, strays=strays, omitted=omitted
    )


def _as_labelled(record: _Published) -> _Labelled:
    """The record with its speakers, and with the judge's words as labels: the whole word YES (contradicts) or NO, the
    last list in brackets.
    """
    verdicts = {turn: _yes_or_no(said) for turn, said in record.eval_prompt_consistency or ()}
    conflicts = {turn: _last_list(said) for turn, said in record.eval_index_consistency or ()}
    said = [(place, words) if isinstance(words, str) else words for place, words in enumerate(record.conversation)]
    speakers = _speakers([text for _, text in said], record)
    lines = [
        {
            "i": turn,
            "speaker": speaker,
            "text": text,
            "contradicts_persona": verdicts.get(turn),
            "conflicts_with": conflicts.get(turn),
        }
        for speaker, (turn, text) in zip(speakers, said, strict=True)
    ]
    return _Labelled.model_validate({"personas": {"P1": record.P1, "P2": record.P2}, "lines": lines})


def _speakers(texts: Sequence[str], record: _Published) -> list[str]:
    """Who says each line, P1 or P2: by the names before the lines, else by turns.

    `pturn` says who begins; without it, the one in whose background the name of the first line is, else P1.
    Raises ValueError where the names before the lines are of more than two people.
    """
    marks = [mark_of(text) for text in texts]
    counts = Counter(marks)
    people = list(counts) if None not in counts and min(counts.values()) > 1 else []
    if len(people) > 2:
        raise ValueError(f"conversation: has {len(people)} speakers ({', '.join(map(str, people[:5]))}); expected two")
    first = record.pturn or 1
    if record.pturn is None and len(counts) == 2 and None not in counts:
        one, other = (re.compile(rf"\b{re.escape(str(mark))}\b") for mark in counts)
        cards = (record.P1 or "", record.P2 or "")
        if [bool(one.search(card)) for card in cards] == [False, True] and other.search(cards[0]):
            first = 2
    order = ("P1", "P2") if first == 1 else ("P2", "P1")
    return [order[people.index(mark) if people else place % 2] for place, mark in enumerate(marks)]


def _yes_or_no(said: str) -> bool | None:
    yes, no = (re.search(rf"\b{word}\b", said) is not None for word in ("YES", "NO"))
    return yes if yes != no else None


def _last_list(said: str) -> list[int] | None:
    lists = re.findall(r"\[([\d,\s]*)\]", said)
    return [int(number) for number in re.findall(r"\d+", lists[-1])] if lists else None


def persona(text: str | None, name: str) -> Persona:
    """A persona that is known by a text alone. Equal texts give equal ids; a text that is a JSON string is decoded."""
    card = (text or "").strip()
    if card.startswith('"') and isinstance(plain := parse_json(card), str):
        card = plain.strip()
    card = _clean(card)
    known = f"text-{hashlib.blake2b(card.encode(), digest_size=4).hexdigest()}" if card else "unknown"
    return Persona(known, name, card, ())


def _with_facts(role: str, given: PersonaSpec) -> Persona:
    """The persona, whose facts have the wordings of the lab's own slots where they have none. Equal personas without an
    id get equal ids.
    """
    try:
        return _person(given.model_dump_json())
    except ScenarioError as error:
        raise ScenarioError(error.problem, ("personas", role, *error.key)) from None


@lru_cache(PEOPLE_KEPT)
def _person(spec: str) -> Persona:
    """The persona of a PersonaSpec as JSON. Equal texts give one object, since many conversations may have it."""
    given = PersonaSpec.model_validate_json(spec)
    known = find_persona(given, [OWN_SLOTS])
    digest = hashlib.blake2b(spec.encode(), digest_size=4).hexdigest()
    return known if given.id else replace(known, id=f"{known.id}-{digest}")


def _lines(number: int, cast: Mapping[str, Persona], said: Sequence[tuple[str, str]]) -> tuple[Line, ...]:
    speakers = {seat: Speaker(seat, cast[seat].name, cast[PARTNER[seat]].name) for seat in cast}
    spoken = [(seat, spoken_words(_clean(text), speakers[seat])) for seat, text in said]
    return tuple(
        Line(number, turn, seat, cast[seat].id, NODE, words.text, count_words(words.text), cut=words.cut)
        for turn, (seat, words) in enumerate(spoken)
    )


def _clean(text: str) -> str:
    """The text without lone surrogates, which tokenizers and files do not accept."""
    return text.encode("utf-8", "replace").decode()


def _name(given: str | int | None) -> str | None:
    return None if given is None else str(given)
