"""Statements in the first person, reworded by rules: denied, with another value, or saying the same; English only.

A rule that does not apply gives nothing, so that what is planted is a contradiction or a paraphrase by its form.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import NamedTuple

from metrics.validation.planted_words import CLOSERS, VALUES

LONGEST = 14  # words of a clause that is reworded
_PLACE = r"(?P<value>[A-Z][\w'’-]+(?: [A-Z][\w'’-]+){0,2})(?=[.,;!]|$| (?:with|and|where|near|for)\b)"
_TOPICS = (  # (topic, pattern): a person has one value of each
    ("name", re.compile(r"^[Mm]y name is (?P<value>[A-Z][\w'’-]+)")),
    ("age", re.compile(r"^I am (?:now )?(?P<value>\d{1,3})(?= years old|[.,;]|$)")),
    ("job", re.compile(r"^I work as (?P<value>an? [\w'’-]+(?: [\w'’-]+)?)(?=[.,;]|$)")),
    ("home", re.compile(rf"^I (?:now |currently |still )?live in {_PLACE}")),
    ("origin", re.compile(rf"^I (?:am|come|was born|was raised|grew up) (?:in|from) {_PLACE}")),
    ("favourite", re.compile(r"^[Mm]y favou?rite (?P<of>[\w ]+?) is (?P<value>[\w'’ -]+)(?=[.,;!]|$)")),
)
_LONG_FORMS = (("I'm", "I am"), ("I've", "I have"), ("n't", " not"), ("ca not", "cannot"), ("wo not", "will not"))
_SHORT_FORMS = (
    (r"\bI am\b", "I'm"),
    (r"\bI have (?=been\b|never\b|always\b|lived\b|worked\b)", "I've "),
    (r"\b(do|does|did|was|is) not\b", r"\1n't"),
)
_CLAUSE_ENDS = re.compile(r"[,;:—–(]| - | (?:and|but|because|which|who|when|while|although|so|where|since|after)\b")
_NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_NUMBER = re.compile(rf"\b(?:\d{{1,4}}|{'|'.join(_NUMBERS)})\b")
_PARTICIPLE = r"(?:\w+ed|been|had|gone|done|seen|known|grown|made|taken|written|lost|won|taught|spent|kept)"
_NO_BASE_FORM = frozenset(
    """am was were had did went made took got came saw knew thought left met became began lost won taught spent kept
    grew ran wrote read used might may must would could should will shall do just only also really once first""".split()
)
_DENIALS = (  # in this order; the first that matches
    (r"I am not (.+)", (r"I am \1",)),
    (r"I (?:do not|never) ((?:like|love|enjoy) .+)", (r"I \1 very much",)),
    (r"I (?:like|love) (.+) best", (r"I cannot stand \1",)),
    (r"I never (\w+)\b(.*)", (r"I often \1\2",)),
    (r"I do not (.+)", (r"I \1",)),
    (r"I cannot (?!stand)(.+)", (r"I can \1",)),
    (r"I can (.+)", (r"I cannot \1",)),
    (r"I am (an? .+)", (r"I am not \1", r"I have never been \1")),
    (r"I (am|was) (.+)", (r"I \1 not \2",)),
    (rf"I have (?:always |already |also )?({_PARTICIPLE}\b.*)", (r"I have never \1",)),
    (rf"I have (?:{'|'.join(_NUMBERS)}|some|many|several) (.+)", (r"I do not have any \1",)),
    (r"I have (.+)", (r"I do not have \1",)),
    (r"I (?:really |also )?(?:like|love|enjoy|adore) ((?!to\b).+)", (r"I cannot stand \1", r"I hate \1")),
    (r"I (?:really |also )?(?:like|love) (to .+)", (r"I hate \1",)),
    (r"I (?:hate|dislike|cannot stand) (.+)", (r"I love \1",)),
    (r"I (?:often|always|usually|sometimes) (.+)", (r"I never \1",)),
    (r"I grew up (.+)", (r"I did not grow up \1",)),
    (r"My (.+?) (is|are|was) (.+)", (r"My \1 \2 not \3",)),
    (r"I ([a-z]+)\b(.*)", (r"I do not \1\2",)),
)


class Topic(NamedTuple):
    """What a statement is about, and the characters of the statement that are its value."""

    name: str  # "home", or "favourite colour"
    value: str
    span: tuple[int, int]


def clause(statement: str) -> str | None:
    """The first clause of a statement, in full forms and with a full stop; None where it is no clause of 3 to LONGEST
    words about the speaker.
    """
    text = statement.strip().replace("’", "'")
    for short, full in _LONG_FORMS:
        text = text.replace(short, full)
    end = _CLAUSE_ENDS.search(text)
    text = text[: end.start() if end else len(text)].strip(" .!")
    whole = 3 <= len(text.split()) <= LONGEST and re.match(r"(?:I|My)\b", text) and "?" not in text
    return f"{text}." if whole else None


def topic(statement: str) -> Topic | None:
    """The topic of a statement in the first person, where it is among those of which a person has one value."""
    for name, pattern in _TOPICS:
        if match := pattern.search(statement):
            of = match.groupdict().get("of")
            return Topic(f"{name} {of.lower()}" if of else name, match["value"], match.span("value"))
    return None


def differs(one: str, other: str) -> bool:
    """Whether two values cannot be the same: neither holds the other."""
    one, other = one.lower(), other.lower()
    return one not in other and other not in one


def denied(statement: str, rng: random.Random) -> str | None:
    """The denial of a clause: "I have a dog." → "I do not have a dog."; None where no rule applies."""
    text = statement.removesuffix(".")
    for number, (pattern, denials) in enumerate(_DENIALS):
        if match := re.fullmatch(pattern, text):
            last = number == len(_DENIALS) - 1
            if last and (match[1] in _NO_BASE_FORM or match[1].endswith(("ed", "ly", "s"))):
                return None
            return _lightened(match.expand(rng.choice(denials))) + "."
    return None


def with_another_value(statement: str, rng: random.Random) -> str | None:
    """The statement with another value of its topic, or another number; None where it has neither."""
    about = topic(statement)
    if about and about.name in VALUES:
        others = [value for value in VALUES[about.name] if differs(value, about.value)]
        return statement[: about.span[0]] + rng.choice(others) + statement[about.span[1] :]
    number = _NUMBER.search(statement)
    if not number or re.match(r"\s+(?:or|to|and)\b", statement[number.end() :]):
        return None
    return statement[: number.start()] + _another_number(number[0], rng) + statement[number.end() :]


def paraphrases(statement: str) -> Iterator[str]:
    """Other wordings of a clause, as people say them: contracted, turned round, or with words behind it."""
    text = statement.removesuffix(".")
    about = topic(statement)
    if about and about.name == "home":
        yield f"{about.value} is where I live."
    elif about and about.name == "origin":
        yield f"{about.value} is where I come from."
    elif about and about.name.startswith("favourite"):
        yield f"{about.value[0].upper()}{about.value[1:]} is my {about.name}."
    short = text
    for pattern, contracted in _SHORT_FORMS:
        short = re.sub(pattern, contracted, short)
    if short != text:
        yield f"{short}."
    yield from (f"{short}{closer}." for closer in CLOSERS)


def _another_number(number: str, rng: random.Random) -> str:
    if number in _NUMBERS:
        return rng.choice([other for other in _NUMBERS if other != number])
    value = int(number)
    step = rng.randint(9, 25)
    return str(value - step if value > 40 and rng.random() < 0.5 else value + step)


def _lightened(text: str) -> str:
    """The denial without words that only fit what is denied ("anyone" behind "often")."""
    if re.match(r"I often\b", text):
        text = re.sub(r"\bany(one|body|thing)\b", r"some\1", text)
        text = re.sub(r"\bany\b", "some", text)
    return text
