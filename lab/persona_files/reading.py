"""Personas from files of other formats, and from data sets of the Hugging Face hub."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.persona_files import records, rows
from lab.persona_files.character_cards import png_card
from lab.persona_files.rows import FORMS, Row
from lab.store.hub_rows import HUB, hub_rows
from scenarios.input_files import home_expanded
from scenarios.persona_notes import same_names
from scenarios.persona_schema import PersonasFile, PersonaSpec
from scenarios.personas import id_from
from scenarios.records import Persona
from scenarios.suggestions import nearest
from scenarios.yaml_files import dump, read_yaml, validate

MOST = 1000  # personas, where no limit is given
MOST_LEFT_OUT = 1000  # rows of which the reason is kept
MOST_MISSED = 100_000  # rows without a new persona, after which no more are read


@dataclass(frozen=True)
class PersonasRead:
    """The personas of a file, with ids and names, and what is to be said of them."""

    people: tuple[PersonaSpec, ...]
    form: str
    left_out: tuple[str, ...]  # a sentence for each row without a persona, MOST_LEFT_OUT at most
    notes: tuple[str, ...]
    slots: str | None = None  # path of the slots file that facts refer to


def read_people(
    path: str | os.PathLike[str], *, form: str | None = None, column: str | None = None, limit: int = MOST
) -> PersonasRead:
    """The first `limit` personas of a file, or of a data set `hf:owner/name[/config][:split]`.

    `form` is one of FORMS, or None to recognise it by the content; `column` names the key or the column that holds the
    text. Raises ValueError with the place and what was expected, where there is no persona.
    """
    if form is not None and form not in FORMS:
        raise ValueError(f"the form is {form!r}{nearest(form, FORMS)}")
    if limit < 1:
        raise ValueError(f"the limit is {limit}; expected 1 or more")
    name = os.fspath(path)
    if name.startswith(HUB):
        return _collected(name, "a data set of the hub", hub_rows(name), column, limit)
    file = home_expanded(name)
    form = form or rows.form_of(file)
    if form == "yaml":
        return _own_file(file, limit)
    entries = iter([("", png_card(file))]) if form == "png" else rows.rows_of(file, form, column, limit + MOST_LEFT_OUT)
    return _collected(str(file), form, entries, column, limit)


def as_yaml(read: PersonasRead, origin: str, beside: Path | None = None) -> str:
    """A persona file of the lab with these personas; `beside` is the folder in which it is going to be."""
    head = f"# From {origin!r} ({read.form}), by lab.personas.\n"
    slots = {}
    if read.slots:
        slots = {"slots": os.path.relpath(read.slots, beside) if beside else read.slots}
    return head + dump(slots | {"personas": [person.plain() for person in read.people]})


def _collected(origin: str, form: str, entries: Iterator[Row], column: str | None, limit: int) -> PersonasRead:
    people: list[PersonaSpec] = []
    left_out: list[str] = []
    ids: set[str] = set()
    known: set[tuple[str, str]] = set()
    dropped: set[str] = set()
    missed = repeated = unnamed = 0
    more = False
    for where, record in entries:
        if len(people) >= limit:
            more = True
            break
        if missed + repeated >= MOST_MISSED:
            break
        try:
            read = list(records.personas_of(record, column, dropped))
        except ValueError as error:
            missed += 1
            left_out += [f"{origin}, {where}: {error}" if where else f"{origin} {error}"] * (missed <= MOST_LEFT_OUT)
            continue
        for person in read[: limit - len(people)]:
            key = person.name, person.card or person.about
            repeated += key in known
            if key in known:
                continue
            known.add(key)
            name = person.name or records.nth_name(unnamed)
            unnamed += not person.name
            person_id = person.id if person.id and person.id not in ids else id_from(name, ids)
            ids.add(person_id)
            people.append(person.model_copy(update={"name": name, "id": person_id}))
    if not people:
        raise ValueError(left_out[0] if left_out else f"{origin} holds no persona; expected {rows.EXPECTED}")
    notes = [f"{_counted(missed, 'row')} left out"] * bool(missed)
    notes += [f"{_counted(repeated, 'repeated persona')} left out"] * bool(repeated)
    notes += [f"left out of the character cards: {', '.join(sorted(dropped))}"] * bool(dropped)
    notes += [f"{_counted(unnamed, 'persona')} without a name: given one, to change as you like"] * bool(unnamed)
    if missed + repeated >= MOST_MISSED:
        notes.append(f"stopped after {MOST_MISSED:,} rows without a new persona")
    notes += [f"stopped at the limit of {_counted(limit, 'persona')}; --limit N reads more"] * more
    notes += same_names([Persona(str(person.id), person.name, "", ()) for person in people])
    return PersonasRead(tuple(people), form, tuple(left_out), tuple(notes))


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _own_file(file: Path, limit: int) -> PersonasRead:
    rows.whole(file)  # refused where it is too large
    spec = validate(read_yaml(file), PersonasFile)
    entries = iter([(f"persona {number}", person.plain()) for number, person in enumerate(spec.personas)])
    read = _collected(str(file), "yaml", entries, None, limit)
    slots = str((file.parent / spec.slots).resolve()) if spec.slots else None
    return PersonasRead(read.people, read.form, read.left_out, read.notes, slots)


def left_out_lines(read: PersonasRead, most: int = 5) -> Iterator[str]:
    """The first reasons why rows were left out, then the notes, as lines of text."""
    yield from read.left_out[:most]
    yield from read.notes
