"""The forms of a record that is one conversation: chat messages, labelled lines, and the published form of arXiv
2511.00222.

A record is recognised by its keys and checked before it becomes a `Transcript`; errors are ValueErrors that name the
key.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

import scenarios
from lab.transcripts.transcript import NODE, Transcript
from scenarios.messages import parsed_json
from scenarios.persona_schema import PersonaSpec, mapping_or_text
from scenarios.personas import find_persona
from scenarios.records import ASSISTANT, SEATS, USER, Line, Persona
from scenarios.yaml_files import KINDS, ScenarioError

OWN_SLOTS = Path(scenarios.__file__).parent / "personas" / "townsfolk.yaml"
SEAT_OF: dict[Literal["P1", "P2"], str] = {
    "P1": ASSISTANT,
    "P2": USER,
}  # P1 opens: the teacher, the therapist; P2 is the simulated human
FORMS = (
    "`messages` (chat), `lines` with `personas` (labelled lines), or `conversation` with `P1` and `P2` (the JSON that "
    "consistent-LLMs publishes)"
)


def parse_json(text: str) -> object:
    """The parsed JSON, or a ValueError that says what is wrong with it; raises nothing."""
    parsed = parsed_json(text)
    return ValueError(f"{parsed}; expected {FORMS}") if isinstance(parsed, ValueError) else parsed


class _Record(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)  # other keys are ignored


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


_MAPPING, _TEXT = KINDS
_Person = Annotated[  # a persona with its facts, or a card
    Annotated[PersonaSpec, Tag(_MAPPING)] | Annotated[str | None, Tag(_TEXT)], Discriminator(mapping_or_text)
]


class _Chat(_Record):
    id: str | int | None = None
    messages: Annotated[list[_Message], Field(min_length=1)]
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
    conversation: Annotated[list[_Said | str], Field(min_length=1)]
    eval_prompt_consistency: list[_Said] | None = None
    eval_index_consistency: list[_Said] | None = None


def transcript_of(record: object, number: int) -> tuple[str, Transcript]:
    """(kind of record in words, conversation). Raises ValueError with what was expected."""
    keys = set(record) if isinstance(record, dict) else set()
    try:
        if "messages" in keys:
            chat = _Chat.model_validate(record)
            roles = (
                "they say which seat a role is"
                if chat.seats
                else "roles are seats, the system message is the assistant's persona"
            )
            return f"chat messages ({roles})", _chat(chat, number)
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
        # a union's branch is no key
        key = ".".join(str(part) for part in first["loc"] if part != "str" and "[" not in str(part))
        key = key if key.isprintable() else repr(key)
        raise ValueError(f"{key} is missing" if first["type"] == "missing" else f"{key}: {first['msg']}") from None
    raise ValueError(f"is no conversation; expected {FORMS}")


def _chat(record: _Chat, number: int) -> Transcript:
    said = [message for message in record.messages if message.role in SEATS]
    if not said:
        raise ValueError("messages: holds no line of user or assistant; expected at least one")
    system = "\n".join(message.text for message in record.messages if message.role not in SEATS)
    given = {USER: record.personas.get(USER), ASSISTANT: record.personas.get(ASSISTANT) or system}
    seats = {role: record.seats[role].seat if role in record.seats else role for role in SEATS}
    if set(seats.values()) != set(SEATS):
        raise ValueError(f"seats: gives both roles the seat of the {seats[USER]}; expected one each")
    names = {role: seated.name for role, seated in record.seats.items()}
    cast = {
        seats[role]: _with_facts(role, person)
        if isinstance(person, PersonaSpec)
        else persona(person, names.get(role) or seats[role].capitalize())
        for role, person in given.items()
    }
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
    """The record with the judge's words as labels: the whole word YES (contradicts) or NO, the last list in
    brackets.
    """
    verdicts = {turn: _yes_or_no(said) for turn, said in record.eval_prompt_consistency or ()}
    conflicts = {turn: _last_list(said) for turn, said in record.eval_index_consistency or ()}
    said = [(place, words) if isinstance(words, str) else words for place, words in enumerate(record.conversation)]
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
    digest = hashlib.blake2b(given.model_dump_json().encode(), digest_size=4).hexdigest()
    try:
        known = find_persona(given, [OWN_SLOTS])
    except ScenarioError as error:
        raise ScenarioError(error.problem, ("personas", role, *error.key)) from None
    return known if given.id else replace(known, id=f"{known.id}-{digest}")


def _lines(number: int, cast: Mapping[str, Persona], said: Sequence[tuple[str, str]]) -> tuple[Line, ...]:
    return tuple(
        Line(number, turn, seat, cast[seat].id, NODE, _clean(text), len(text.split()))
        for turn, (seat, text) in enumerate(said)
    )


def _clean(text: str) -> str:
    """The text without lone surrogates, which tokenizers and files do not accept."""
    return text.encode("utf-8", "replace").decode()


def _name(given: str | int | None) -> str | None:
    return None if given is None else str(given)
