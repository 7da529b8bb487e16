"""Personas from files and from scenarios: their cards, and their facts with the wordings that claim, ask and recognise
each.

A persona needs no facts: any text is a card. A fact's value is in the persona file; the slots file that it names gives
the wordings. A fact may bring its own wordings and then needs no slot. The results are the frozen records that judges,
seats and Q&A probes use.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scenarios.input_files import is_file
from scenarios.persona_schema import SAMPLE, UNKNOWN, FactSpec, PersonasFile, PersonaSpec, SlotsFile, SlotSpec
from scenarios.records import PARTNER, SEATS, Fact, Persona, Recognition, Slot, derive_seed
from scenarios.suggestions import nearest
from scenarios.yaml_files import Document, Key, ScenarioError, parse_yaml, validate, yaml_text

if TYPE_CHECKING:
    from scenarios.schema import ScenarioFile


STRANGER = Persona(UNKNOWN, "Stranger", "", ())
FILES_KEPT = 64  # parsed, in this process
DISTRACTORS = 3  # wrong values a fact is asked among
NAME_SLOT = "name"  # the slot that a persona's own `name` fills
WORDS = ("claim", "card", "questions", "patterns")  # what a slot tells beside its values
SOMEBODY = "the other person"  # in place of {{user}}, where the partner is unknown
_CHAR, _USER = (re.compile(rf"\{{\{{\s*{word}\s*\}}\}}", re.IGNORECASE) for word in ("char", "user"))


def load_slots(path: str | Path) -> dict[str, SlotSpec]:
    """The slots of a file by id, in its order. Raises ScenarioError."""
    return _slots(Path(path), yaml_text(path))


def load_personas(paths: str | Path | Iterable[str | Path]) -> tuple[Persona, ...]:
    """The personas of the files, in their order. Raises ScenarioError, also for an id that two files use."""
    if isinstance(paths, str | Path):
        paths = [paths]
    people: dict[str, tuple[Persona, str]] = {}
    for path in paths:
        for persona in _load_file(Path(path)):
            if persona.id in people:
                problem = (
                    f"holds persona {persona.id!r}, which {people[persona.id][1]} holds too; expected each persona once"
                )
                raise ScenarioError(problem, where=str(path))
            people[persona.id] = persona, str(path)
    return tuple(persona for persona, _ in people.values())


def find_persona(persona_id: str | PersonaSpec, paths: Sequence[str | Path]) -> Persona:
    """The persona with that id in the files, or else in the other persona files of their folders, which are opened only
    then; one that cannot be read is left out.

    'unknown' gives a persona without card and facts. A persona that is given itself takes the wordings of its facts
    from the slots of the files. Raises ScenarioError, with the nearest id, where no file has it, or with the key where
    a given one is not valid.
    """
    if isinstance(persona_id, PersonaSpec):
        slots = {slot: words for path in paths for slot, words in _slots_beside(Path(path)).items()}
        return _persona(persona_id, persona_id.id or id_from(persona_id.name, ()), (), slots, {})
    if persona_id == UNKNOWN:
        return STRANGER
    known = [persona for path in paths for persona in _load_file(Path(path))]
    unread: list[str] = []
    for path in _neighbours(paths):
        if any(persona.id == persona_id for persona in known):
            break
        try:
            known += _load_file(path) if _holds_personas(path) else ()
        except ScenarioError as error:
            unread.append(str(error))
    if persona := next((persona for persona in known if persona.id == persona_id), None):
        return persona
    beside = f" (a file beside theirs is left out: {unread[0]})" if unread else ""
    raise ScenarioError(f"is {persona_id!r}, which is no persona{beside}{nearest(persona_id, [p.id for p in known])}")


def id_from(name: str, taken: Collection[str]) -> str:
    """An id made from a name, such as "ada_lovelace"; with a number behind it where it is taken or reserved."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    base = re.sub(r"[^a-z0-9]+", "_", plain).strip("_") or "persona"
    number = 1
    while (persona_id := base if number == 1 else f"{base}_{number}") in taken or persona_id in (SAMPLE, UNKNOWN):
        number += 1
    return persona_id


def named_personas(scenario: ScenarioFile) -> dict[str, Persona]:
    """The personas of the seats that draw none, by seat. Raises ScenarioError, with the key, for one that is unknown or
    not valid.
    """
    named: dict[str, Persona] = {}
    for seat in SEATS:
        given = scenario.seats[seat].persona
        if given != SAMPLE:
            key = ("seats", seat, "persona")
            if isinstance(given, str) and given != UNKNOWN and not scenario.personas:
                raise ScenarioError(f"is {given!r}, but the scenario names no persona files to find it in", key)
            try:
                named[seat] = find_persona(given, scenario.personas)
            except ScenarioError as error:
                raise (error if error.where else ScenarioError(error.problem, (*key, *error.key))) from None
    return named


def draft_counts(scenario: ScenarioFile) -> dict[str, int]:
    """The number of draft facts of each persona that has any, by its id, in the scenario's files and its seats."""
    given = [person for seat in SEATS if isinstance(person := scenario.seats[seat].persona, PersonaSpec)]
    people = [(person, person.id) for person in given]
    for path in map(Path, scenario.personas):
        specs = _spec(path, yaml_text(path)).personas
        people += [(spec, persona.id) for spec, persona in zip(specs, _load_file(path), strict=True)]
    counts = {persona_id: len(spec.facts) - len(spec.played()) for spec, persona_id in people if persona_id}
    return {persona_id: count for persona_id, count in counts.items() if count}


def cast(scenario: ScenarioFile) -> list[dict[str, Persona]]:
    """The personas of each conversation, by seat.

    `sample` draws from the scenario's persona files without replacement. All seats and conversations share one deck,
    which is shuffled again when it is used up; a draw never gives the persona of the opposite seat. With more
    conversations, the first ones stay the same. In cards, {{user}} is replaced by the partner's name. Raises
    ScenarioError for an unknown persona, or where a draw has no
    choice left.
    """
    named = named_personas(scenario)
    pool = load_personas(scenario.personas)
    if scenario.persona_pool is not None:
        if strange := [name for name in scenario.persona_pool if name not in {persona.id for persona in pool}]:
            problem = (
                f"holds {strange[0]!r}, which is no persona of the "
                f"files{nearest(strange[0], [persona.id for persona in pool])}"
            )
            raise ScenarioError(problem, ("persona_pool",))
        pool = tuple(persona for persona in pool if persona.id in scenario.persona_pool)
    sampled = [seat for seat in SEATS if seat not in named]
    taken = {persona.id for persona in named.values()}
    if sampled and len({persona.id for persona in pool} - taken) < len(sampled):
        problem = f"holds {len(pool)} personas, too few to draw {len(sampled)} that differ from who sits opposite"
        raise ScenarioError(problem, ("personas",))
    rng = random.Random(derive_seed(scenario.seed, "cast"))
    deck: list[Persona] = []
    casts = []
    for _ in range(scenario.conversations):
        seated = dict(named)
        for seat in sampled:
            seated[seat] = _draw(deck, pool, {persona.id for persona in seated.values()}, rng)
        casts.append({seat: _addressing(seated[seat], seated[PARTNER[seat]]) for seat in SEATS})
    return casts


def _addressing(persona: Persona, partner: Persona) -> Persona:
    """The persona with the partner's name in place of {{user}}."""
    name = SOMEBODY if partner is STRANGER else partner.name
    card = _USER.sub(lambda _: name, persona.card)
    return persona if card == persona.card else replace(persona, card=card)


def _draw(deck: list[Persona], pool: Sequence[Persona], seated: set[str], rng: random.Random) -> Persona:
    """Removes and returns the deck's first persona without a seat; adds a freshly shuffled pool where there is none."""
    if all(persona.id in seated for persona in deck):
        deck += rng.sample(pool, len(pool))
    place = next(place for place, persona in enumerate(deck) if persona.id not in seated)
    return deck.pop(place)


def _neighbours(paths: Sequence[str | Path]) -> list[Path]:
    """The other YAML files in the folders of `paths`, by name."""
    named = {Path(path).resolve() for path in paths}
    folders = dict.fromkeys(Path(path).parent for path in paths)
    return [file for folder in folders for file in sorted(folder.glob("*.yaml")) if file.resolve() not in named]


def _holds_personas(file: Path) -> bool:
    people = _document(file, yaml_text(file)).data.get("personas")
    return isinstance(people, list) and all(isinstance(person, dict) for person in people)


def _load_file(path: Path) -> tuple[Persona, ...]:
    """The personas of a file, parsed and checked once for each content of the file and its slots file."""
    text = yaml_text(path)
    slots = _slots_file(path, text)
    return _personas(path, text, slots, yaml_text(slots) if slots else "")


@lru_cache(FILES_KEPT)
def _document(path: Path, text: str) -> Document:
    return parse_yaml(text, str(path))


@lru_cache(FILES_KEPT)
def _spec(path: Path, text: str) -> PersonasFile:
    return validate(_document(path, text), PersonasFile)


@lru_cache(FILES_KEPT)
def _slots(path: Path, text: str) -> dict[str, SlotSpec]:
    return validate(_document(path, text), SlotsFile).slots


@lru_cache(FILES_KEPT)
def _personas(path: Path, text: str, slots_file: Path | None, slots_text: str) -> tuple[Persona, ...]:
    document, spec = _document(path, text), _spec(path, text)
    slots = _slots(slots_file, slots_text) if slots_file else {}
    ids = _ids(document, spec.personas)
    try:
        facts = [_fact_specs(("personas", place), person, slots) for place, person in enumerate(spec.personas)]
        pool = {slot: list(dict.fromkeys(f[slot].value for f in facts if slot in f)) for f in facts for slot in f}
        return tuple(
            _persona(person, ids[place], ("personas", place), slots, pool) for place, person in enumerate(spec.personas)
        )
    except ScenarioError as error:
        raise (error if error.where else document.error(error.problem, error.key)) from None


def _slots_file(path: Path, text: str) -> Path | None:
    """The slots file that a persona file names; None where it names none."""
    name = _spec(path, text).slots
    if name is None:
        return None
    file = path.parent / name
    if not is_file(file):
        raise _document(path, text).error(f"is {name!r}; expected the path of a file, {file} is none", ("slots",))
    return file


def _slots_beside(path: Path) -> dict[str, SlotSpec]:
    """The slots that a persona file names."""
    file = _slots_file(path, yaml_text(path))
    return load_slots(file) if file else {}


def _ids(document: Document, people: Sequence[PersonaSpec]) -> list[str]:
    """The ids of a file's personas; one that is left out is made from the name. Raises ScenarioError for one given
    twice.
    """
    seen: set[str] = set()
    for place, person in enumerate(people):
        if person.id in seen:
            raise document.error(f"is {person.id!r}, as an earlier one is; expected another", ("personas", place, "id"))
        seen |= {person.id} if person.id else set()
    ids = []
    for person in people:
        ids.append(person.id or id_from(person.name, seen))
        seen.add(ids[-1])
    return ids


def _fact_specs(key: Key, person: PersonaSpec, slots: dict[str, SlotSpec]) -> dict[str, FactSpec]:
    """The persona's facts by slot id: its name where it has others and there is a slot for it, then in the order of the
    slots, then its own. Drafts are left out.
    """
    facts = person.played()
    if facts and NAME_SLOT in slots:
        own = facts.setdefault(NAME_SLOT, FactSpec(value=person.name))
        if own.value != person.name:
            problem = f"is {own.value!r}, but the persona is called {person.name!r}; leave it out"
            raise ScenarioError(problem, (*key, "facts", NAME_SLOT))
    needed = [word for word in (*WORDS, "distractors") if word != "card" or person.card is None]
    for slot, fact in facts.items():
        missing = [word for word in needed if getattr(fact, word) is None]
        if slot not in slots and missing:
            alone = f"is no slot of the slots file and does not bring {', '.join(missing)}"
            raise ScenarioError(alone + nearest(slot, slots), (*key, "facts", slot))
    order = [slot for slot in slots if slot in facts] + [slot for slot in facts if slot not in slots]
    return {slot: facts[slot] for slot in order}


def _persona(
    person: PersonaSpec, persona_id: str, key: Key, slots: dict[str, SlotSpec], pool: dict[str, list[str]]
) -> Persona:
    """The persona with its card and facts; `pool` holds the values of the personas of its file, by slot.

    Raises ScenarioError, with `key` before its own, where it is not valid.
    """
    if person.card is not None and person.about:
        raise ScenarioError("stands beside about; expected one of the two", (*key, "card"))
    if person.card is not None and not person.card.strip():
        raise ScenarioError("is empty; expected the persona in words", (*key, "card"))
    specs = _fact_specs(key, person, slots)
    if person.card is None and not person.about.strip() and not specs:
        raise ScenarioError(f"says nothing of {person.name!r}; expected a card, an about, or facts", key)
    facts = []
    for slot_id, spec in specs.items():
        where = (*key, "facts", slot_id)
        values = pool.get(slot_id, [spec.value])
        slot = _slot(slot_id, spec, slots.get(slot_id), values)
        others = _distractors(persona_id, spec, slot, len(values))
        if not others:
            raise ScenarioError(f"is {spec.value!r}, the only known value; expected others to ask among", where)
        if spec.distractors is not None and len(others) < len(spec.distractors):
            raise ScenarioError("repeats a value; expected values that differ", (*where, "distractors"))
        facts.append(Fact(slot, spec.value, others))
    return Persona(persona_id, person.name, _card(person, facts), tuple(facts))


def _slot(slot_id: str, fact: FactSpec, shared: SlotSpec | None, pool: Sequence[str]) -> Slot:
    """The slot with the fact's own wordings before the shared ones, and the personas' values before the other known
    ones.
    """
    words: dict[str, Any] = {word: getattr(fact, word) or getattr(shared, word, None) for word in WORDS}
    values: dict[str, str] = {}
    for value in (*pool, *(fact.distractors or ()), *(shared.values if shared else ())):
        values.setdefault(value.casefold(), value)
    return Slot(
        id=slot_id,
        claim=words["claim"],
        card=words["card"] or "",  # of a persona whose card is given, no fact adds a sentence to it
        questions=tuple(words["questions"]),
        patterns=tuple(words["patterns"]),
        values=tuple(values.values()),
        recognition=shared.recognition.record() if shared and fact.patterns is None else Recognition(),
    )


def _distractors(persona_id: str, fact: FactSpec, slot: Slot, of_personas: int) -> tuple[str, ...]:
    """The fact's own distractors; otherwise three other personas' values, completed from the known values."""
    if fact.distractors is not None:
        return tuple(v for v in dict.fromkeys(fact.distractors) if v.casefold() != fact.value.casefold())
    near = [value for value in slot.values[:of_personas] if value.casefold() != fact.value.casefold()]
    far = [value for value in slot.values[of_personas:] if value.casefold() != fact.value.casefold()]
    rng = random.Random(derive_seed(persona_id, slot.id))
    drawn = rng.sample(near, min(DISTRACTORS, len(near)))
    return tuple(drawn + rng.sample(far, min(DISTRACTORS - len(drawn), len(far))))


def _card(person: PersonaSpec, facts: Sequence[Fact]) -> str:
    """The card: as it is given, or in the second person the name, the text of `about`, then one sentence per fact."""
    if person.card is not None:
        return _CHAR.sub(lambda _: person.name, person.card.strip())
    sentences = {fact.id: fact.card for fact in facts}
    opening = sentences.pop(NAME_SLOT, f"Your name is {person.name}.")
    about = _CHAR.sub(lambda _: person.name, person.about.strip())
    return " ".join(part for part in (opening, about, *sentences.values()) if part)
