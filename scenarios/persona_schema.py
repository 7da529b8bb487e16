"""The keys of persona files and slots files, and of a persona that a scenario gives inline.

A persona is a name and at least one of: a card (any text, in any person), an `about` (manner and role, from which the
lab writes a card), and facts.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from scenarios.fields import Strict, Text
from scenarios.records import Recognition
from scenarios.yaml_files import KINDS

SAMPLE = "sample"  # in place of a persona's id: draw one
LONGEST_PATTERN, MOST_GAPS, MOST_REPEATS = 200, 2, 3
UNKNOWN = "unknown"  # in place of a persona's id: a persona without card and facts


def _one_value(text: str) -> str:
    rest = text.replace("{value}", "", 1)
    if rest == text or "{" in rest or "}" in rest:
        raise ValueError("expected exactly one {value} and no other braces")
    return text


def _searchable(text: str) -> str:
    """The pattern. Raises ValueError where too much of it repeats, so that a search could take exponential time."""
    words = Counter(text.casefold().split())
    gaps = sum(times for word, times in words.items() if "..." in word)
    if len(text) > LONGEST_PATTERN or gaps > MOST_GAPS or max(words.values(), default=0) > MOST_REPEATS:
        raise ValueError(
            f"expected a pattern of at most {LONGEST_PATTERN} characters, with '...' at most {MOST_GAPS} times and no "
            f"word more than {MOST_REPEATS} times"
        )
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


Template = Annotated[str, AfterValidator(_one_value)]
Pattern = Annotated[Template, AfterValidator(_searchable)]
Wording = Annotated[Text, AfterValidator(_searchable)]
Value = Annotated[Text, BeforeValidator(_number_as_text)]
FactId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$"), AfterValidator(_fact_id)]
PersonaId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$"), AfterValidator(_persona_id)]


class RecognitionSpec(Strict):
    """How the ledger recognises claims about a slot beyond its patterns and values."""

    open: list[Pattern] = Field(default=[], description="patterns in which {value} may be a word that is not listed")
    suspect: list[Pattern] = Field(default=[], description="the same, where such a word may be no value")
    loose: list[Pattern] = Field(
        default=[], description="patterns with '...' for some words, '^' for a sentence's head"
    )
    denials: list[Wording] = Field(
        default=[], description="patterns that deny {value}, or any value where they have none"
    )
    phrases: dict[Value, list[Wording]] = Field(default={}, description="values, with phrases that claim them unnamed")
    also: dict[Text, list[Value]] = Field(default={}, description="words, with the values of which they are true too")

    def record(self) -> Recognition:
        """The same as a record."""
        return Recognition(
            open=tuple(self.open),
            suspect=tuple(self.suspect),
            loose=tuple(self.loose),
            denials=tuple(self.denials),
            phrases=tuple((phrase, value) for value, phrases in self.phrases.items() for phrase in phrases),
            also=tuple((word, tuple(values)) for word, values in self.also.items()),
        )


class SlotSpec(Strict):
    """A slot of a slots file."""

    claim: Template = Field(description="first person, one {value}: 'I live in {value}.'")
    card: Template = Field(description="second person, one {value}: 'You live in {value}.'")
    questions: list[Text] = Field(min_length=1, description="wordings of one question, the default first")
    patterns: list[Pattern] = Field(min_length=1, description="claims of it, each with one {value}")
    values: list[Value] = Field(default=[], description="known values beside those of the personas")
    recognition: RecognitionSpec = RecognitionSpec()


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
    patterns: list[Pattern] | None = Field(
        default=None, min_length=1, description="claims of it, each with one {value}"
    )
    distractors: list[Value] | None = Field(default=None, min_length=1, description="wrong values to ask among")
    source: str | None = Field(default=None, description="the words of the card that say it")
    draft: bool = Field(default=False, description="true: not played, until a person has confirmed it")


def mapping_or_text(value: object) -> str:
    """Which of KINDS a persona is given as: as a mapping or a PersonaSpec, or as a text."""
    return KINDS[0] if isinstance(value, dict | PersonaSpec) else KINDS[1]


class PersonaSpec(Strict):
    """A persona of a persona file, or of a seat of a scenario."""

    id: PersonaId | None = Field(default=None, description="letters, digits, '_' and '-'; from the name where left out")
    name: Text
    about: str = Field(default="", description="sentences on manner and role, second person: 'You are a teacher.'")
    card: str | None = Field(
        default=None,
        description="the whole card as prompt text, in any person, in place of about; {{char}} is the persona's name, "
        "{{user}} its partner's",
    )
    facts: dict[FactId, Annotated[FactSpec, BeforeValidator(_value_alone)]] = Field(
        default={}, description="values by slot id"
    )

    def played(self) -> dict[str, FactSpec]:
        """The facts without drafts."""
        return {slot: fact for slot, fact in self.facts.items() if not fact.draft}

    def plain(self) -> dict[str, Any]:
        """The keys that are not at their defaults, as plain data for YAML."""
        return self.model_dump(mode="json", exclude_defaults=True)


class PersonasFile(Strict):
    """The keys of a persona file."""

    slots: str | None = Field(default=None, description="path of the slots file, relative to this one")
    personas: list[PersonaSpec] = Field(min_length=1)
