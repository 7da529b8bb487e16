"""Draft facts: the statements of a card as facts with question, paraphrases and wrong values.

The wrong values are those of the other personas of the file, and of a like, an ability or a possession the opposites. A
statement without any gives no fact, and neither does what a card says in two ways.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache

from pydantic import ValidationError

from lab.persona_files.reading import PersonasRead
from lab.persona_files.statement_rules import NAME, SLOTS, Statement, naming_sentence, read_statements
from scenarios.persona_notes import holds, listed
from scenarios.persona_schema import FactSpec, PersonaSpec
from scenarios.personas import load_slots
from scenarios.records import Persona, derive_seed

MOST_FACTS = 24  # of a persona
WRONG = 3  # values to ask among
ALONE = ("age", "favourite_")  # slots of which a persona has one value
LISTED = 5  # cards that contradict themselves


def with_drafts(read: PersonasRead) -> tuple[PersonasRead, list[str]]:
    """The personas with draft facts beside those that they have, and sentences on what was drafted."""
    cards = [_by_slot(person) for person in read.people]
    said = [_once(person, slots) for person, slots in zip(read.people, cards, strict=True)]
    values: dict[str, dict[str, None]] = {"name": dict.fromkeys(person.name for person in read.people)}
    for statement in (statement for statements in said for statement in statements):
        values.setdefault(statement.kind.slot, {})[statement.value] = None
    pool = {slot: list(known) for slot, known in values.items()}
    people, alone = [], 0
    for person, statements in zip(read.people, said, strict=True):
        drafts = {statement.kind.slot: _draft(person, statement, pool) for statement in statements[:MOST_FACTS]}
        alone += sum(fact is None for fact in drafts.values())
        kept = {slot: fact for slot, fact in drafts.items() if fact is not None}
        people.append(person.model_copy(update={"facts": kept | person.facts}))
    facts = sum(fact.draft for person in people for fact in person.facts.values())
    clashes = [line for person, slots in zip(read.people, cards, strict=True) for line in _conflicts(person, slots)]
    outside = [line for person in people if (line := _outside(person))]
    lines = [f"{facts} draft facts, of which none is played until you remove its 'draft: true'; strike what is wrong"]
    lines += [f"{alone} statements gave no fact: no other persona of the file says such a thing"] * bool(alone)
    lines += clashes[:LISTED]
    lines += [f"{len(clashes) - LISTED} more cards contradict themselves"] * (len(clashes) > LISTED)
    lines += [f"facts that are not in the card: {listed(outside)}"] * bool(outside)
    return replace(read, people=tuple(people)), lines


def conflicts(person: PersonaSpec) -> list[str]:
    """A sentence for each thing that a card says in two ways that exclude each other."""
    return _conflicts(person, _by_slot(person))


def card_conflicts(people: Iterable[Persona]) -> list[str]:
    """As `conflicts`, for the cards of personas without facts, each persona once."""
    known = {persona.id: persona for persona in people if not persona.facts and persona.card}
    return [
        sentence
        for persona in known.values()
        for sentence in conflicts(PersonaSpec(name=persona.name, card=persona.card))
    ]


def statements_of(person: PersonaSpec) -> list[Statement]:
    """What the card says of its persona, one statement for each slot; those that it says in two ways are left out."""
    return _once(person, _by_slot(person))


def _by_slot(person: PersonaSpec) -> dict[str, list[Statement]]:
    """All that the card says of its persona, by slot."""
    by_slot: dict[str, list[Statement]] = {}
    for statement in read_statements(person):
        by_slot.setdefault(statement.kind.slot, []).append(statement)
    return by_slot


def _once(person: PersonaSpec, by_slot: Mapping[str, Sequence[Statement]]) -> list[Statement]:
    statements = [said[0] for said in by_slot.values() if _clash(said) is None]
    return statements + [Statement(NAME, person.name, source) for source in naming_sentence(person)]


def _conflicts(person: PersonaSpec, by_slot: Mapping[str, Sequence[Statement]]) -> list[str]:
    return [
        f"the card of {person.name} contradicts itself: {one.source!r} and {other.source!r}"
        for one, other in filter(None, map(_clash, by_slot.values()))
    ]


def _clash(said: Sequence[Statement]) -> tuple[Statement, Statement] | None:
    """Two statements of one slot that exclude each other: two ages or favourites; to like a thing and not to."""
    first, exclusive = said[0], said[0].kind.slot.startswith(ALONE)
    for other in said[1:]:
        opposite = other.value in first.kind.wrong
        if opposite or (exclusive and other.value.casefold() != first.value.casefold()):
            return first, other
    return None


def _draft(person: PersonaSpec, statement: Statement, pool: Mapping[str, list[str]]) -> FactSpec | None:
    """The draft of a fact; None where there is no wrong value to ask among, or no pattern can be made of its words."""
    kind, value = statement.kind, statement.value
    wrong = list(kind.wrong)
    for known in (pool[kind.slot], _known().get(kind.slot, []), kind.spare):
        if not wrong:
            rng = random.Random(derive_seed(person.id, kind.slot, "draft"))
            drawn = rng.sample(known, min(WRONG + 1, len(known)))
            wrong = [other for other in drawn if other.casefold() != value.casefold()]
    if not wrong:
        return None
    try:
        return FactSpec(
            value=value,
            claim=kind.claim,
            questions=list(kind.questions),
            patterns=list(kind.patterns),
            distractors=list({other.casefold(): other for other in wrong}.values())[:WRONG],
            source=statement.source,
            draft=True,
        )
    except ValidationError:  # words that repeat over and over
        return None


def _outside(person: PersonaSpec) -> str:
    """The facts whose value the card does not have, as "name: slot"; "" where there are none."""
    card = (person.card or "").replace("{{char}}", person.name)
    slots = [slot for slot, fact in person.facts.items() if card and not holds(card, fact.value)]
    return f"{person.name}: {', '.join(slots)}" if slots else ""


@cache
def _known() -> dict[str, list[str]]:
    """Values of the lab's own slots that stand in for those of other personas: ages, homes and origins."""
    return {slot: list(words.values) for slot, words in load_slots(SLOTS).items() if slot in ("age", "home", "origin")}
