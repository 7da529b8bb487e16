"""Persona files: the facts of personas, with the wordings that claim, ask and recognise each.

A persona file gives values; the slots file that it names gives the wordings. A fact may bring its own wordings and then
needs no slot. The results are the frozen records that judges, seats and Q&A probes use.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from scenarios.fields import Strict
from scenarios.records import SEATS, Fact, Persona, Slot, derive_seed
from scenarios.suggestions import nearest
from scenarios.yaml_files import Document, ScenarioError, read_yaml, validate

if TYPE_CHECKING:
    from scenarios.schema import ScenarioFile


SAMPLE = "sample"  # in place of a persona's id: draw one
UNKNOWN = "unknown"  # in place of a persona's id: a persona without card and facts
STRANGER = Persona(UNKNOWN, "Stranger", "", ())
FILES_KEPT = 64  # parsed, in this process
DISTRACTORS = 3  # wrong values a fact is asked among
NAME_SLOT = "name"  # the slot that a persona's own `name` fills
WORDS = ("claim", "card", "questions", "patterns")  # what a slot tells beside its values


def _one_value(text: str) -> str:
    rest = text.replace("{value}", "", 1)
    if rest == text or "{" in rest or "}" in rest:
        raise ValueError("expected exactly one {value} and no other braces")
    return text


def _fact_id(text: str) -> str:
    if text == "persona":
        raise ValueError("expected another id: judgements use 'persona' for the whole of it")
    return text


def _persona_id(text: str) -> str:
    if text in (SAMPLE, UNKNOWN):
        raise ValueError(
            f"expected another id: {text!r} in a scenario means "
            f"{'draw one' if text == SAMPLE else 'a person without known facts'!r}"
        )
    return text


def _number_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _value_alone(value: Any) -> Any:
    return value if isinstance(value, dict) else {"value": value}


Text = Annotated[str, Field(min_length=1)]
Template = Annotated[str, AfterValidator(_one_value)]
Value = Annotated[Text, BeforeValidator(_number_as_text)]
FactId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$"), AfterValidator(_fact_id)]
PersonaId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$"), AfterValidator(_persona_id)]


class SlotSpec(Strict):
    """A slot of a slots file."""

    claim: Template = Field(description="first person, one {value}: 'I live in {value}.'")
    card: Template = Field(description="second person, one {value}: 'You live in {value}.'")
    questions: list[Text] = Field(min_length=1, description="wordings of one question, the default first")
    patterns: list[Template] = Field(min_length=1, description="claims of it, each with one {value}")
    values: list[Value] = Field(default=[], description="known values beside those of the personas")


class SlotsFile(Strict):
    """The keys of a slots file."""

    slots: dict[FactId, SlotSpec] = Field(min_length=1)


class FactSpec(Strict):
    """A fact of a persona file: its value, and wordings that replace those of its slot."""

    value: Value
    claim: Template | None = Field(default=None, description="first person, one {value}: 'I live in {value}.'")
    card: Template | None = Field(default=None, description="second person, one {value}: 'You live in {value}.'")
    questions: list[Text] | None = Field(
        default=None, min_length=1, description="wordings of one question, the default first"
    )
    patterns: list[Template] | None = Field(
        default=None, min_length=1, description="claims of it, each with one {value}"
    )
    distractors: list[Value] | None = Field(default=None, min_length=1, description="wrong values to ask among")


class PersonaSpec(Strict):
    """A persona of a persona file."""

    id: PersonaId = Field(description="letters, digits, '_' and '-'")
    name: Text
    about: str = Field(default="", description="sentences on manner and role, second person: 'You are a teacher.'")
    facts: dict[FactId, Annotated[FactSpec, BeforeValidator(_value_alone)]] = Field(description="values by slot id")


class PersonasFile(Strict):
    """The keys of a persona file."""

    slots: str | None = Field(default=None, description="path of the slots file, relative to this one")
    personas: list[PersonaSpec] = Field(min_length=1)


def load_slots(path: str | Path) -> dict[str, SlotSpec]:
    """The slots of a file by id, in its order. Raises ScenarioError."""
    return validate(read_yaml(path), SlotsFile).slots


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


def find_persona(persona_id: str, paths: Sequence[str | Path]) -> Persona:
    """The persona with that id in the files, or else in the other persona files of their folders.

    'unknown' gives a persona without card and facts. Raises ScenarioError, with the nearest id, where no file has it.
    """
    if persona_id == UNKNOWN:
        return STRANGER
    known: list[str] = []
    for path in [*paths, *_neighbours(paths)]:
        for persona in _load_file(Path(path)):
            if persona.id == persona_id:
                return persona
            known.append(persona.id)
    raise ScenarioError(f"is {persona_id!r}, which is no persona{nearest(persona_id, known)}")


def cast(scenario: ScenarioFile) -> list[dict[str, Persona]]:
    """The personas of each conversation, by seat.

    `sample` draws from the scenario's persona files without replacement. All seats and conversations share one deck,
    which is shuffled again when it is used up; a draw never gives the persona of the opposite seat. With more
    conversations, the first ones stay the same. Raises ScenarioError for an unknown persona, or where a draw has no
    choice left.
    """
    named: dict[str, Persona] = {}
    for seat in SEATS:
        persona_id = scenario.seats[seat].persona
        if persona_id != SAMPLE:
            try:
                named[seat] = find_persona(persona_id, scenario.personas)
            except ScenarioError as error:
                key = ("seats", seat, "persona")
                raise (error if error.where else ScenarioError(error.problem, key)) from None
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
        casts.append({seat: seated[seat] for seat in SEATS})
    return casts


def _draw(deck: list[Persona], pool: Sequence[Persona], seated: set[str], rng: random.Random) -> Persona:
    """Removes and returns the deck's first persona without a seat; adds a freshly shuffled pool where there is none."""
    if all(persona.id in seated for persona in deck):
        deck += rng.sample(pool, len(pool))
    place = next(place for place, persona in enumerate(deck) if persona.id not in seated)
    return deck.pop(place)


def _neighbours(paths: Sequence[str | Path]) -> list[Path]:
    """The other persona files in the folders of `paths`, by name."""
    named = {Path(path).resolve() for path in paths}
    folders = dict.fromkeys(Path(path).parent for path in paths)
    beside = [file for folder in folders for file in sorted(folder.glob("*.yaml")) if file.resolve() not in named]
    return [file for file in beside if _holds_personas(file)]


def _holds_personas(file: Path) -> bool:
    people = _document(file, _contents(file)).data.get("personas")
    return isinstance(people, list) and all(isinstance(person, dict) for person in people)


def _load_file(path: Path) -> tuple[Persona, ...]:
    """The personas of a file, parsed and checked once for each content of the file and its slots file."""
    contents = _contents(path)
    slots = _spec(path, contents).slots
    return _personas(path, contents, None if slots is None else _contents(path.parent / slots))


def _contents(file: Path) -> bytes | None:
    """The content of the file; None where it cannot be read, which the actual reader reports."""
    try:
        return file.read_bytes()
    except OSError:
        return None


# In these three, the contents are there for the cache, which keeps what was made of them.


@lru_cache(FILES_KEPT)
def _document(path: Path, contents: bytes | None) -> Document:
    return read_yaml(path)


@lru_cache(FILES_KEPT)
def _spec(path: Path, contents: bytes | None) -> PersonasFile:
    return validate(_document(path, contents), PersonasFile)


@lru_cache(FILES_KEPT)
def _personas(path: Path, contents: bytes | None, slots_contents: bytes | None) -> tuple[Persona, ...]:
    document, spec = _document(path, contents), _spec(path, contents)
    slots = _slots_of(document, spec, path)
    _refuse_same_ids(document, spec)
    facts = [_fact_specs(document, place, person, slots) for place, person in enumerate(spec.personas)]
    pool = {slot: list(dict.fromkeys(f[slot].value for f in facts if slot in f)) for f in facts for slot in f}
    return tuple(
        _persona(document, place, person, facts[place], slots, pool) for place, person in enumerate(spec.personas)
    )


def _slots_of(document: Document, spec: PersonasFile, path: Path) -> dict[str, SlotSpec]:
    if spec.slots is None:
        return {}
    file = path.parent / spec.slots
    if not file.is_file():
        raise document.error(f"is {spec.slots!r}; expected the path of a file, {file} is none", ("slots",))
    return load_slots(file)


def _refuse_same_ids(document: Document, spec: PersonasFile) -> None:
    seen: set[str] = set()
    for place, person in enumerate(spec.personas):
        if person.id in seen:
            raise document.error(f"is {person.id!r}, as an earlier one is; expected another", ("personas", place, "id"))
        seen.add(person.id)


def _fact_specs(document: Document, place: int, person: PersonaSpec, slots: dict[str, SlotSpec]) -> dict[str, FactSpec]:
    """The persona's facts by slot id: its name where there is a slot for it, then in the order of the slots, then
    its own.
    """
    facts = dict(person.facts)
    if NAME_SLOT in slots:
        own = facts.setdefault(NAME_SLOT, FactSpec(value=person.name))
        if own.value != person.name:
            problem = f"is {own.value!r}, but the persona is called {person.name!r}; leave it out"
            raise document.error(problem, ("personas", place, "facts", NAME_SLOT))
    if not facts:
        raise document.error("is empty; expected at least one fact", ("personas", place, "facts"))
    for slot, fact in facts.items():
        missing = [word for word in (*WORDS, "distractors") if getattr(fact, word) is None]
        if slot not in slots and missing:
            alone = f"is no slot of the slots file and does not bring {', '.join(missing)}"
            raise document.error(alone + nearest(slot, slots), ("personas", place, "facts", slot))
    order = [slot for slot in slots if slot in facts] + [slot for slot in facts if slot not in slots]
    return {slot: facts[slot] for slot in order}


def _persona(
    document: Document,
    place: int,
    person: PersonaSpec,
    specs: dict[str, FactSpec],
    slots: dict[str, SlotSpec],
    pool: dict[str, list[str]],
) -> Persona:
    facts = []
    for slot_id, spec in specs.items():
        key = ("personas", place, "facts", slot_id)
        slot = _slot(slot_id, spec, slots.get(slot_id), pool[slot_id])
        others = _distractors(person.id, spec, slot, len(pool[slot_id]))
        if not others:
            raise document.error(f"is {spec.value!r}, the only known value; expected others to ask among", key)
        if spec.distractors is not None and len(others) < len(spec.distractors):
            raise document.error("repeats a value; expected values that differ", (*key, "distractors"))
        facts.append(Fact(slot, spec.value, others))
    return Persona(person.id, person.name, _card(person, facts), tuple(facts))


def _slot(slot_id: str, fact: FactSpec, shared: SlotSpec | None, pool: Sequence[str]) -> Slot:
    """The slot with the fact's own wordings before the shared ones, and the personas' values before the other known
    ones.
    """
    words = {word: getattr(fact, word) or getattr(shared, word) for word in WORDS}
    values: dict[str, str] = {}
    for value in (*pool, *(fact.distractors or ()), *(shared.values if shared else ())):
        values.setdefault(value.casefold(), value)
    return Slot(
        id=slot_id,
        claim=words["claim"],
        card=words["card"],
        questions=tuple(words["questions"]),
        patterns=tuple(words["patterns"]),
        values=tuple(values.values()),
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
    """The card in the second person: the name, the text of `about`, then one sentence per fact."""
    sentences = {fact.id: fact.slot.card.replace("{value}", fact.value) for fact in facts}
    opening = sentences.pop(NAME_SLOT, f"Your name is {person.name}.")
    return " ".join(part for part in (opening, person.about.strip(), *sentences.values()) if part)
