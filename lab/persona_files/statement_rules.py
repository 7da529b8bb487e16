"""What the sentences of a card say of its persona, by rules over their words; English only.

Every sentence is put into the first person (`metrics.judges.text.statements`). What the rules read are ages, homes,
origins, jobs, pets, counts of relatives and favourites, of which a person has one each, and likes, dislikes, abilities
and possessions, of which a person has many: there the value is the verb, and its opposites contradict it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import scenarios
from metrics.judges.text.assertion import sentence_spans
from metrics.judges.text.statements import first_person, names_of
from scenarios.persona_schema import PersonaSpec
from scenarios.personas import load_slots

MOST_SENTENCES = 200  # of a card
LONGEST_SENTENCE = 600  # characters
SLOTS = Path(scenarios.__file__).parent / "personas" / "slots.yaml"
_NUMBER = r"\d{1,2}|one|two|three|four|five|six|seven|eight|nine|ten"
_PLACE = r"(?-i:[A-Z])[\w'’.-]*(?:,? (?-i:[A-Z])[\w'’.-]+){0,2}|(?!an?\b|the\b|my\b|this\b)[a-z][\w'’-]+"
_END = r"(?=[.,;!?]|\s+(?:and|but|with|near|where|by|for|since|alone|who|which|because|when|as|at|in)\b|$)"
_RELATIVE = (
    r"(?:brother|sister|sibling|child|children|kid|son|daughter|grandchild|grandchildren|grandson|granddaughter)"
)
_ANIMAL = (
    r"(?:dog|cat|parrot|horse|rabbit|hamster|goldfish|canary|tortoise|turtle|snake|lizard|ferret|pony|donkey|goat|hen"
    r"|chicken|budgie|hedgehog|guinea pig|puppy|kitten|bird|fish|pig|cow|sheep|iguana)"
)
_JOB_ENDS = re.compile(
    r"(?:er|or|ist|ian|eer|yst|smith|wright|keeper|nurse|pilot|chef|cook|clerk|judge|guide|guard|coach|host|man|woman"
    r"|student|attendant|consultant|accountant|assistant|surgeon|barista|monk|priest|soldier|secretary|scribe)$"
)
_NO_JOB = frozenset(
    """vegetarian christian sister brother mother father daughter lover believer teenager loner owner member winner
    beginner foreigner grandmother grandfather bachelor stranger survivor hater follower supporter fighter
    dreamer human woman man person outsider elder fan walker drinker smoker eater sleeper talker thinker morning
    listener number player reader collector optimist pessimist perfectionist feminist guardian humanitarian
    libertarian neighbor partner leader newcomer leftover character better older younger lefthander twin""".split()
)


@dataclass(frozen=True)
class Kind:
    """A kind of statement, with the wordings of its slot, each with one {value}."""

    slot: str
    claim: str
    questions: tuple[str, ...]
    patterns: tuple[str, ...]
    wrong: tuple[str, ...] = ()  # values that contradict it; () where those of other personas do
    spare: tuple[str, ...] = ()  # values in place of other personas', where these have none


@dataclass(frozen=True)
class Statement:
    """What a card says of its persona."""

    kind: Kind
    value: str
    source: str  # the sentence of the card


AGE = Kind(
    "age",
    "I am {value} years old.",
    ("How old are you?", "What is your age?"),
    ("I am {value}", "I am {value} years old"),
)
HOME = Kind(
    "home",
    "I live in {value}.",
    ("Where do you live?", "What is your home?"),
    ("I live in {value}", "my home is in {value}"),
)
ORIGIN = Kind(
    "origin",
    "I come from {value}.",
    ("Where do you come from?", "Where did you grow up?"),
    ("I come from {value}", "I grew up in {value}"),
)
JOB = Kind(
    "job",
    "I am {value}.",
    ("What do you do for a living?", "What is your job?"),
    ("I work as {value}", "my job is {value}"),
)
PET = Kind(
    "pet",
    "I have {value}.",
    ("Which animals do you keep?", "What pet do you have?"),
    ("I have {value}", "I keep {value}"),
)
NAME = Kind(
    "name", "My name is {value}.", ("What is your name?", "Who are you?"), ("my name is {value}", "I am {value}")
)
_I = re.IGNORECASE
_RULES = (  # (expression over a statement in the first person, its kind); the group `value` is the value
    (re.compile(r"\bI am (?:an? )?(?:\w+ )?(?P<value>\d{1,3})(?:[ -]years?[ -]olds?\b|(?=[.,;!]|$))", _I), AGE),
    (re.compile(r"^\W*(?:an? )?(?P<value>\d{1,3})[ -]years?[ -]old\b", _I), AGE),
    (re.compile(rf"\bI (?:\w+ly |now |still )?(?:live|reside) in (?P<value>{_PLACE}){_END}", _I), HOME),
    (
        re.compile(
            r"\bI (?:was born|was raised|grew up|come|am|am originally|was born and raised) (?:in|from) "
            rf"(?P<value>{_PLACE}){_END}",
            _I,
        ),
        ORIGIN,
    ),
    (
        re.compile(
            r"\b(?:I work as|my (?:job|occupation|profession)(?: is|:)|I am employed as) "
            rf"(?P<value>(?:an? |the )?(?:[\w'’-]+ ){{0,3}}?[\w'’-]+){_END}",
            _I,
        ),
        JOB,
    ),
    (
        re.compile(
            rf"\bI (?:have|own|keep|raise) (?P<value>(?:an?|{_NUMBER})? ?(?:[\w'’-]+ )?{_ANIMAL}(?:e?s)?)\b", _I
        ),
        PET,
    ),
)
_IS_A = re.compile(
    r"\bI am (?:still |now |currently )?(?P<value>an? (?:[\w'’-]+ ){0,3}?(?P<head>[\w'’-]+))"
    r"(?=[.,;!]|\s+(?:and|but|with|near|where|by|for|since|who|which|from|in|at|of|that|specializ\w+|on|working)\b|$)",
    _I,
)
_RELATIVES = re.compile(
    rf"\bI have (?P<value>(?:an?|no|{_NUMBER}) (?:(?:older|younger|little|big|grown|twin|adult|small) )?"
    rf"(?P<head>{_RELATIVE}(?:s)?))\b",
    _I,
)
_FAVOURITE = re.compile(
    rf"\bmy favou?rite (?P<thing>[a-z]+(?: [a-z]+)?) (?:is|are) (?P<value>(?:[\w'’&-]+ ?){{1,5}}?){_END}", _I
)
_LIKES = re.compile(  # the things are looked at only, since another statement may follow among them
    r"\bI (?:really |also |always |absolutely )?"
    r"(?P<value>love|like|enjoy|adore|hate|dislike|detest|do not like|don['’]t like) "
    r"(?=(?P<things>(?!it\b|that\b|when\b|you\b|him\b|me\b)[^.;!?()\"]{2,90}))",
    _I,
)
_CAN = re.compile(
    r"\bI (?P<value>can|cannot|can['’]t) (?P<thing>(?!be\b|also\b|only\b|see\b|not\b|have\b)"
    rf"[a-z]+(?: [\w'’-]+){{0,3}}?){_END}",
    _I,
)
_OWN = re.compile(rf"\bI (?P<value>own|drive) (?P<thing>an? (?:[\w'’-]+ ){{0,2}}?[\w'’-]+){_END}", _I)
_AGED = re.compile(r"^(?P<article>an? )(?:\d{1,3}[ -]years?[ -]old )", _I)
_SECOND_VERB = re.compile(
    r"(\band|\bbut|\bwho|\bthat|,) (also )?(has|is|lives|works|loves|likes|enjoys|hates|keeps|owns|can|cannot|grew)\b"
)
_ALSO_HAVE = re.compile(rf"\b(I (?:have|own|keep) [^.;]*?)(?:,| and|, and) (?=(?:an?|no|{_NUMBER}) )", _I)
_OPPOSITE = {
    **dict.fromkeys(("love", "like", "enjoy", "adore"), ("hate", "dislike", "cannot stand")),
    **dict.fromkeys(("hate", "dislike", "detest", "do not like", "don't like"), ("love", "like", "enjoy")),
    "can": ("cannot",),
    "cannot": ("can",),
    "can't": ("can",),
    "own": ("do not own", "never owned"),
    "drive": ("do not drive", "never drove"),
}
_NO_THING = frozenset("i it he she they we also am have is are was".split())
_SPLIT = re.compile(r",\s*(?:and |or )?|\s+(?:and|or)\s+")


def read_statements(person: PersonaSpec) -> Iterator[Statement]:
    card = (person.card or person.about).replace("{{char}}", person.name)
    names = names_of(person.name, card)
    for start, end in sentence_spans(card)[:MOST_SENTENCES]:
        source = card[start:end].strip()
        if len(source) > LONGEST_SENTENCE or source.endswith("?"):
            continue
        for text in _first_person(source, names):
            yield from _statements(text, source)


def naming_sentence(person: PersonaSpec) -> list[str]:
    """The first sentence of the card that holds the persona's name, as a list; [] where none does."""
    card = (person.card or "").replace("{{char}}", person.name)
    spans = (card[start:end].strip() for start, end in sentence_spans(card)[:MOST_SENTENCES])
    return [sentence for sentence in spans if person.name in sentence][:1]


def _first_person(source: str, names: Sequence[str]) -> Iterator[str]:
    """The sentence in the first person; "A baker who keeps goats" becomes "I am a baker" and "I keep goats"."""
    text = source
    if bare := re.match(r"(an? [^,.;]*?) (?:who|that) (.+)$", source, re.IGNORECASE | re.DOTALL):
        yield f"I am {bare[1][0].lower()}{bare[1][1:]}."
        text = f"She {bare[2]}"
    elif re.match(r"an? ", source, re.IGNORECASE):
        text = f"She is {source[0].lower()}{source[1:]}"
    text = first_person(text, names)
    text = _SECOND_VERB.sub(_again, text)
    yield _ALSO_HAVE.sub(r"\1. I have ", _ALSO_HAVE.sub(r"\1. I have ", text))


def _again(match: re.Match) -> str:
    """A second verb of the sentence with an "I" of its own."""
    verb = {"has": "have", "is": "am"}.get(match[3]) or match[3].removesuffix("s")
    return f"{match[1]} I {match[2] or ''}{verb}"


def _statements(text: str, source: str) -> Iterator[Statement]:
    for rule, kind in _RULES:
        for match in rule.finditer(text):
            if kind is not AGE or 1 <= int(match["value"]) <= 120:
                yield Statement(kind, _tidy(match["value"]), source)
    for match in _IS_A.finditer(text):
        head = match["head"].lower()
        if head not in _NO_JOB and (_JOB_ENDS.search(head) or _tidy(match["value"]) in _jobs()):
            yield Statement(JOB, _AGED.sub(r"\g<article>", _tidy(match["value"])), source)
    for match in _RELATIVES.finditer(text):
        yield Statement(_relatives(match["head"].lower()), _tidy(match["value"]), source)
    for match in _FAVOURITE.finditer(text):
        yield Statement(_favourite(match["thing"].lower()), _tidy(match["value"]), source)
    for match in _LIKES.finditer(text):
        for thing in _things(match["things"]):
            yield Statement(_whether("likes", match["value"], thing), match["value"].lower(), source)
    for name, rule in (("can", _CAN), ("has", _OWN)):
        for match in rule.finditer(text):
            thing = _tidy(match["thing"])
            yield Statement(_whether(name, match["value"], thing), match["value"].lower(), source)


def _things(text: str) -> Iterator[str]:
    """The things of a list ("tea, long walks and to sing"), as far as they are short."""
    text = re.split(r"\s+(?:but|because|when|while|who|which|where|so|although|especially|as)\b", text)[0]
    for part in _SPLIT.split(text):
        words = part.split()
        first = words[0].lower() if words else ""
        if (len(words) <= 5 and first in ("to", "my", "the")) or (0 < len(words) <= 4 and first not in _NO_THING):
            yield _tidy(part)
        else:
            return


@cache
def _relatives(head: str) -> Kind:
    several = {"child": "children", "grandchild": "grandchildren"}.get(head) or (
        head if head.endswith(("s", "children")) else f"{head}s"
    )
    asked = (f"How many {several} do you have?", f"Do you have {several}, and how many?")
    spare = tuple(f"{number} {several}" for number in ("no", "three", "five"))
    return Kind(several, "I have {value}.", asked, ("I have {value}", "I have got {value}"), spare=spare)


@cache
def _favourite(thing: str) -> Kind:
    asked = (f"What is your favourite {thing}?", f"Which {thing} do you like most?")
    patterns = (f"my favourite {thing} is {{value}}", f"my favorite {thing} is {{value}}")
    return Kind(_id("favourite", thing), f"My favourite {thing} is {{value}}.", asked, patterns)


@cache
def _whether(name: str, verb: str, thing: str) -> Kind:
    """To like, to be able to, to own a thing, or not: the value is the verb, the wrong ones are its opposites."""
    verb = verb.lower().replace("’", "'")
    doing = thing.startswith("to ")
    asked = {
        "likes": (f"What is it like for you {thing}?", f"Do you like or dislike {thing}?")
        if doing
        else (f"What do you think of {thing}?", f"How do you feel about {thing}?"),
        "can": (f"Can you {thing}?", f"Are you able to {thing}?"),
        "has": (f"Do you {verb} {thing}?", f"Is there {thing} that you {verb}?"),
    }[name]
    patterns = (f"I {{value}} {thing}", f"I really {{value}} {thing}")
    return Kind(_id(name, thing), f"I {{value}} {thing}.", asked, patterns, _OPPOSITE[verb])


@cache
def _jobs() -> frozenset[str]:
    return frozenset(load_slots(SLOTS)["job"].values)


def _tidy(text: str) -> str:
    return re.sub(r"[{}]", "", " ".join(text.split())).strip(" ,.-")


def _id(*words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", " ".join(words).lower()).strip("_")[:40]
