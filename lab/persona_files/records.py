"""From a record of another format to a persona with a name and a card."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from pydantic import ValidationError

from lab.persona_files.character_cards import card_text, is_card
from lab.persona_files.rows import column_of
from scenarios.persona_schema import PersonaSpec

LONGEST_CARD = 200_000  # characters
NAMES = (  # of personas that have none, in this order: common to all genders
    """Alex Robin Sam Kim Jordan Casey Morgan Taylor Jamie Riley Avery Quinn Rowan Charlie Sasha Noel Dana Lee Jules
    Marion Toni Sidney Ariel Kit""".split(),
    """Ash Bell Cole Dale Ellis Frost Gray Hale Ives James Knox Lane Marsh North Oaks Page Reed Stone Thorne Vale West
    York Wells Blake""".split(),
)
LETTERS = "ABCDEFGHIJKLMNOPRSTVWZ"
NAME_KEYS = ("name", "char_name", "full_name")
_WORD = r"[A-ZÀ-Þ][\w'’-]+"
_NAME = rf"{_WORD}(?:\s+(?:{_WORD}|[A-Z]\.)){{0,2}}"
_NAMED = (  # in this order
    re.compile(rf"\b(?:[Mm]y|[Yy]our|[Hh]is|[Hh]er|[Tt]heir) name is ({_NAME})"),
    re.compile(rf"^\W*Name:\s*({_NAME})", re.MULTILINE),
    re.compile(rf"^\W*(?:I am|I['’]m|You are|You['’]re|Meet) ({_NAME})(?=[,.;(]| and\b| is\b)"),
    re.compile(rf"^\W*({_NAME})(?:,? (?:is|was|has|works|lives|loves|grew|runs|teaches)\b|, (?:an?|the|\d))"),
)
_NO_NAME = frozenset(
    """A An The I You He She They It We This That These There My Your His Her As At In On From With Born After Before
    While When Since Although Despite Meet Imagine Being Having Every Some Someone Anyone One Today Currently
    Formerly Personality Description Name""".split()
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_TINY = {  # paths of a TinyTroupe persona -> a sentence
    "age": "You are {} years old.",
    "gender": "Your gender: {}.",
    "nationality": "Your nationality: {}.",
    "residence": "You live in {}.",
    "occupation": "Your occupation: {}.",
    "occupation.title": "Your occupation: {}.",
    "occupation.organization": "You work at {}.",
    "long_term_goals": "Your long-term goal: {}.",
    "preferences.interests": "You are interested in: {}.",
    "preferences.likes": "You like: {}.",
    "preferences.dislikes": "You dislike: {}.",
}
NAME_WITHIN = 2000  # first characters of a card, in which its name is looked for
DEEPEST = 6  # levels of a nested persona that are read


def personas_of(record: object, column: str | None, dropped: set[str]) -> Iterator[PersonaSpec]:
    """The personas of a record: one as a rule. Names are "" where the record tells none; `dropped` gets the kinds of
    content that were left out. Raises ValueError where the record holds no persona.
    """
    if isinstance(record, ValueError):
        raise record
    if isinstance(record, str):
        yield _spec("", record)
    elif isinstance(record, list | tuple):
        yield _spec("", _sentences(record))
    elif isinstance(record, Mapping):
        yield from _of_mapping(record, column, dropped)
    else:
        raise ValueError(f"is {type(record).__name__}; expected a text, a list of texts, or a mapping")


def name_in(card: str) -> str:
    """The name that a card gives its persona; "" where it gives none."""
    for pattern in _NAMED:
        if (match := pattern.search(card[:NAME_WITHIN])) and match[1].split()[0] not in _NO_NAME:
            return match[1]
    return ""


def nth_name(number: int) -> str:
    """A name for the persona with that number, counted from 0, that has none."""
    first, last = NAMES
    family, given = divmod(number, len(first))
    middle, family = divmod(family - 1, len(last)) if family else (0, -1)
    names = [first[given], f"{LETTERS[(middle - 1) % len(LETTERS)]}."] if middle else [first[given]]
    return " ".join(names + [last[family]] * (number >= len(first)))


def _of_mapping(record: Mapping, column: str | None, dropped: set[str]) -> Iterator[PersonaSpec]:
    inner = next((record[key] for key in ("persona", "_persona", "_configuration") if key in record), None)
    if column is None and isinstance(inner, Mapping):
        yield _tiny(record, inner)
    elif column is None and is_card(record):
        name, card, left_out = card_text(record)
        dropped |= left_out
        yield _spec(name, card)
    elif column is None and "name" in record and record.keys() <= PersonaSpec.model_fields.keys():
        yield _own(record)
    else:
        key = column_of([str(name) for name in record], column)
        if key is None:
            raise ValueError(
                f"has no key that holds a persona; its keys are {', '.join(map(str, list(record)[:8]))}; expected one "
                "of them by --column"
            )
        name = next((record[name] for name in NAME_KEYS if isinstance(record.get(name), str)), "")
        yield _spec(name, _text(record[key]))
        if key.strip().lower() == "user 1 personas" and (other := record.get(key.replace("1", "2"))):
            yield _spec("", _text(other))


def _own(record: Mapping) -> PersonaSpec:
    """A persona as the lab's own files have it."""
    try:
        return PersonaSpec.model_validate(dict(record))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return _sentences(value)
    raise ValueError("holds no text where the persona should be")


def _spec(name: object, card: str) -> PersonaSpec:
    """The persona with a plain text. Raises ValueError where it is blank, too long or no UTF-8."""
    card = _plain(card)
    if not any(character.isalnum() for character in card):
        raise ValueError("is empty; expected the persona in words")
    if len(card) > LONGEST_CARD:
        raise ValueError(f"has {len(card):,} characters; expected at most {LONGEST_CARD:,}")
    called = " ".join(_plain(str(name or "")).split())[:80] or name_in(card)
    return PersonaSpec.model_construct(id=None, name=called, about="", card=card, facts={})


def _plain(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("is no text in UTF-8") from None
    return _CONTROL.sub("", unicodedata.normalize("NFC", text.replace("\r\n", "\n"))).strip()


def _sentences(items: Sequence[object]) -> str:
    """Sentences in one text, as PersonaChat has them ("i like to ski ."), with capitals and full stops."""
    if not all(isinstance(item, str) for item in items):
        raise ValueError("is a list of other things than texts")
    texts = []
    for item in map(str, items):
        text = re.sub(r" ([.,!?;]|['’](?:s|m|re|ve|ll|d|t)\b)", r"\1", " ".join(item.split()))
        text = re.sub(r"\bi\b(?!\.\w)", "I", text)
        if text:
            texts.append(text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else "."))
    return " ".join(texts)


def _tiny(record: Mapping, persona: Mapping) -> PersonaSpec:
    name = next((source["name"] for source in (persona, record) if isinstance(source.get("name"), str)), "")
    return _spec(name, "\n".join(dict.fromkeys(_sentences_of((), persona))))


def _sentences_of(path: tuple[str, ...], value: object) -> Iterator[str]:
    """The values of a nested persona as sentences, each behind its key."""
    if len(path) > DEEPEST:
        return
    if isinstance(value, Mapping) and {"name", "description"} == value.keys():  # somebody related
        yield from _sentences_of(path, f"{value['name']}: {value['description']}")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if (*path, key) != ("name",):
                yield from _sentences_of((*path, str(key)), inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _sentences_of(path, inner)
    elif isinstance(value, str | int | float) and not isinstance(value, bool) and str(value).strip():
        text = str(value).strip()
        if form := _TINY.get(".".join(path)):
            yield form.format(text.rstrip("."))
        elif re.match(r"(?:You|Your|I|My)\b", text):
            yield text
        else:
            label = " ".join(part.replace("_", " ") for part in path[-2:] if part not in ("name", "description"))
            yield f"{label[:1].upper()}{label[1:]}: {text}"
