"""Regular expressions, from the words that a persona file lists for a slot, that match them in the original text.

Between two words of a pattern, up to three fillers ("I still live in") and a negation ("I don't live in") may stand.
Contractions match the words for which they stand. In a pattern that begins with "I am", a name and a description may
follow ("I'm Grace, a nurse from Leeds"). {value} matches a value listed for the slot (longest first, whole words,
article and plain adjectives optional); for "age", a number in digits or words; for "name", a listed name with a capital
letter, or any capitalised word where the pattern itself is about naming ("my name is").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from metrics.judges.text.assertion import APOSTROPHE
from scenarios.records import Slot

NAME, AGE = "name", "age"  # the slots whose values are open
OLDEST = 120  # years
AGE_PATTERNS = ("I am {value}", "I am a {value} year old")  # safe for numbers only, so every age slot has them
_FILLERS = (
    r"actually|really|still|also|now|currently|just|always|only|simply|merely|truly|definitely|certainly|basically|honestly|obviously|"
    r"clearly|of course|happily|proudly|presently|today|usually|mostly|mainly|indeed|in fact|already|even|very "
    r"much|very|well|quite|"
    r"too|both|technically|officially|personally|absolutely|totally|exactly|as you know|you know|do"
)
_NEGATIONS = rf"not|never|no longer|no|neither|cannot|(?:do|did|does|is|am|are|was|were|have|has|had|ai)n{APOSTROPHE}?t"
_GAP = rf"(?:(?:,\s+|\s+)(?:{_FILLERS}|{_NEGATIONS})\b,?){{0,3}}\s+"
NEGATION = re.compile(
    rf"(?:\b(?:not|cannot)|\b(?:do|did|does|is|are|was|were|ai|have|has|had|ca|could|would|should|wo)n{APOSTROPHE}?t)\b"
    r"(?!\s+(?:just|only|merely|simply)\b)|\b(?:never|no longer|no|neither)\b",
    re.IGNORECASE,
)
_AUXILIARY = frozenset("do did does is are was were have has had could would should".split())
_CONTRACTIONS = {
    "i'm": "I am",
    "i've": "I have",
    "we're": "we are",
    "we've": "we have",
    "it's": "it is",
    "that's": "that is",
    "name's": "name is",
}
_SPELLINGS = {
    "favorite": "favou?rite",
    "favourite": "favou?rite",
    "color": "colou?r",
    "colour": "colou?r",
    "year": "years?",
    "years": "years?",
}
_BENDS = _AUXILIARY | _SPELLINGS.keys() | {"i", "am", "can"}  # words that a text may write otherwise
_ARTICLE = r"(?:(?:a|an|the)\s+)?"
_MODIFIERS = (  # none that tells a pastime from a trade: "a good cook" has no job
    r"(?:(?:proud|professional|full[- ]time|part[- "
    r"]time|local|freelance|busy|humble|simple|experienced|passionate|dedicated|"
    r"devoted|skilled|trained|licensed|certified|young|old|little|small|big|tiny|lovely|beautiful|sunny|rainy|charming|pet|rescue|"
    r"black|white|cute|sweet|dear|beloved|city of|town of|village of|[\w-]{1,40}[- ]years?[- ]old),?\s+){0,2}"
)
_VALUE_ENDS = rf"(?!{APOSTROPHE}s\b|[\w-])"
_ONES: Sequence[str] = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS: Sequence[str] = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_NUMBER_WORD = (
    rf"(?:{'|'.join(_TENS)})(?:[\s-](?:{'|'.join(_ONES[:9])}))?|{'|'.join(sorted(_ONES, key=len, reverse=True))}|"
    r"(?:a\s+|one\s+)?hundred"
)
_NUMBER = rf"(?:\d{{1,3}}|{_NUMBER_WORD})"
_YEARS = r"years?(?:[\s-]old|\s+of\s+age|\s+young|(?=\s*(?:[.,!;]|$)))"
_NUMBER_ENDS = (  # "I am 34 minutes late" is no age
    rf"(?![\w%/:'’-]|[.,]\d)(?=\s*(?:$|[.,!;?)\"”—–]|{_YEARS}|"
    r"(?:and|but|now|so|this|next|today|already|or|with|as|then|which|still|too|yet|not)\b))"
)
_NAMING = frozenset({"name", "call", "calls", "called"})  # a pattern with one of these names someone
_TITLE = r"(?:(?:Dr|Mr|Mrs|Ms|Miss|Prof|Professor|Captain|Sir|Father|Sister)\.?\s+)?"
_CAPITALISED = r"(?-i:[A-Z](?:[^\W\d_]|['’-](?=[^\W\d_]))*)"
_NAMED = rf",?\s+{_CAPITALISED}(?:\s+{_CAPITALISED})?"
_NOT_FROM = "way|ways|friend|fan|relative|hour|hours|mile|miles|drive|flight|ride|walk|letter|call|who|that|not"
# "I am [Grace, a nurse] from"
_ASIDE = rf"(?P<aside>(?:{_NAMED},?)?(?:\s+an?(?:\s+(?!(?:{_NOT_FROM})\b)[\w'’-]+){{1,4}}?,?)?)"
_APPOSED = rf"(?P<aside>{_NAMED},(?=\s+an?\s))?"  # "I am [Grace,] a nurse"
NO_NAMES = frozenset(
    "a an the not never no i my your his her it that what something and or but so unknown still dr mr mrs ms".split()
)
OPENS = re.compile(  # before "Grace here": elsewhere in a sentence it speaks of someone else
    r"\W*(?:(?:hi|hello|hey|yes|well|oh|so|good\s+(?:morning|afternoon|evening|day)|there|everyone|it['’]s)\W+)*",
    re.IGNORECASE,
)
_VERB_NEXT = r"(?!\s+(?:is|are|was|were|has|have|had|can|will|would|sounds?|seems?|looks?)\b)"
_LINK = (
    r"(?:\s*,)?\s*(?P<link>,(?=\s+[^.!?;]{0,200}\b(?:and|or)\b)|\b(?:but\s+not|and\s+not|but\s+(?:rather|also)|"
    r"and\s+also|as\s+well\s+as|rather|and|or|nor|but|not)\b)\s+"
    r"(?:(?:in|at|as|from|of|near|on|my)\s+)?"
)


@dataclass(frozen=True)
class Pattern:
    """One wording of a claim about a slot."""

    source: str  # of the expression, with the group `value`
    needs: frozenset[str]  # words that stand in every text it matches: looked up first, because searching is slow
    negative: bool  # whether it holds a negation of its own ("I don't eat {value}")

    @cached_property
    def expression(self) -> re.Pattern:
        """The regular expression, compiled at the first use, since most are never used."""
        return re.compile(self.source, re.IGNORECASE)


def compiled(slot: Slot, known: dict[str, str], pattern: str) -> Pattern:
    """A pattern of the slot, ready for search. Raises ValueError where it does not have exactly one {value}."""
    if pattern.count("{value}") != 1:
        raise ValueError(f"pattern {pattern!r} of slot {slot.id!r}: expected exactly one {{value}}")
    before, after = (_words(part) for part in pattern.strip().rstrip(".!").split("{value}"))
    article = before[-1] if before and before[-1].lower() in ("a", "an", "the") else None
    before = before[:-1] if article else before
    prefix = rf"\b{_sequence(before)}{_GAP}" if before else r"\b"
    if slot.id not in (NAME, AGE) and _lower(before) == ["i", "am"]:
        prefix = rf"\b{_sequence(before)}{_APPOSED}{_GAP}"
    elif slot.id not in (NAME, AGE) and _lower(before)[:2] == ["i", "am"]:
        prefix = rf"\b{_sequence(before[:2])}{_ASIDE}{_joint(before[2])}{_sequence(before[2:])}{_GAP}"
    suffix = _joint(after[0]) + _sequence(after) + r"\b" if after else ""
    negative = len(NEGATION.findall(" ".join([*before, *after]))) % 2 == 1
    expression = prefix + (_ARTICLE if article else "") + _value_group(slot.id, known, before, bool(after)) + suffix
    needs = frozenset(word.casefold() for word in (*before, *after) if word.isalnum() and word.lower() not in _BENDS)
    return Pattern(expression, needs, negative)


def further(slot_id: str, known: dict[str, str]) -> re.Pattern | None:
    """An expression of one more value after a claim, with groups `link` ("and", "not", ...) and `value`.

    None for a slot whose values are numbers.
    """
    if not known or slot_id == AGE:
        return None
    return re.compile(rf"{_LINK}{_listed(known, slot_id == NAME)}{_VERB_NEXT}", re.IGNORECASE)


def triggers(slot_id: str, known: dict[str, str]) -> frozenset[str]:
    """Words of which a text must contain at least one in order to claim anything about the slot.

    For an age, a number in digits counts as well.
    """
    first = {re.findall(r"\w+", value)[0] for value in known if re.search(r"\w", value)}
    naming = _NAMING if slot_id == NAME else set()
    return frozenset(first | naming | ({*_ONES, *_TENS, "hundred"} if slot_id == AGE else set()))


def canonical(slot_id: str, value: str) -> str:
    """A value without case, leading article, and variants of apostrophes, hyphens and blanks; an age as digits."""
    plain = re.sub(r"[\s-]+", " ", value.strip().rstrip(".").replace("’", "'")).casefold()
    plain = re.sub(r"^(?:a|an|the) ", "", plain)
    if slot_id != AGE:
        return plain
    number = re.search(rf"\b{_NUMBER}\b", plain)
    return str(_number(number[0])) if number else plain


def _value_group(slot_id: str, known: dict[str, str], before: list[str], followed: bool) -> str:
    """The part of the expression that captures the value, chosen by the kind of slot."""
    if slot_id == AGE:
        return rf"(?P<value>{_NUMBER})" + ("" if followed else _NUMBER_ENDS)
    if slot_id != NAME:
        return _listed(known, False)
    if not _NAMING & {word.lower() for word in before}:
        return _listed(known, True)
    listed = "|".join([*_alternatives(known), _CAPITALISED])
    return rf"{_TITLE}(?P<value>{listed}){_VALUE_ENDS}"


def _listed(known: dict[str, str], capitalised: bool) -> str:
    """Any listed value as group `value`; names only where they are written with a capital letter."""
    any_of = "|".join(_alternatives(known)) or "(?!)"
    if capitalised:
        return rf"{_TITLE}(?=(?-i:[^\W\d_a-z]))(?P<value>{any_of}){_VALUE_ENDS}"
    return rf"{_ARTICLE}{_MODIFIERS}(?P<value>{any_of}){_VALUE_ENDS}"


def _alternatives(known: dict[str, str]) -> list[str]:
    """Expressions of the canonical values, longest first."""
    ordered = sorted((value for value in known if value), key=len, reverse=True)
    return [r"[\s-]+".join(re.escape(word).replace("'", APOSTROPHE) for word in value.split()) for value in ordered]


def _lower(words: list[str]) -> list[str]:
    return [word.lower() for word in words]


def _words(part: str) -> list[str]:
    """The words of one side of a pattern, contractions spelled out."""
    spelled = (_CONTRACTIONS.get(word.lower(), word) for word in part.replace("’", "'").split())
    return " ".join(spelled).split()


def _sequence(words: list[str]) -> str:
    """An expression of the words in order, with gaps for fillers and negations, contractions allowed."""
    built = ""
    for place, word in enumerate(words):
        lower, previous = word.lower(), words[place - 1].lower() if place else ""
        if not place:
            built = _word(word)
        elif lower == "am" and previous == "i":
            built += rf"(?:{APOSTROPHE}?m|{_GAP}am|\s+ain{APOSTROPHE}?t)\b"
        elif lower == "have" and previous in ("i", "we"):
            built += rf"(?:{APOSTROPHE}ve|{_GAP}have(?:n{APOSTROPHE}?t)?)(?:\s+got)?\b"
        elif lower == "is":
            built += rf"(?:{APOSTROPHE}s|{_GAP}is(?:n{APOSTROPHE}?t)?)\b"
        elif lower == "are":
            built += rf"(?:{APOSTROPHE}re|{_GAP}are(?:n{APOSTROPHE}?t)?)\b"
        else:
            built += _joint(word) + _word(word)
    return built


def _joint(word: str) -> str:
    """What may stand before a word: a gap; a hyphen in "34-year-old"; next to nothing before a comma."""
    if word.lower() in ("year", "years", "old"):
        return r"[\s-]+"
    return _GAP if word[0].isalnum() else r"\s*"


def _word(word: str) -> str:
    """An expression of one word: either spelling, with its contracted negation where it is an auxiliary."""
    lower = word.lower()
    if lower.endswith("n't"):
        return rf"{re.escape(lower[:-3])}(?:n{APOSTROPHE}?t|\s+not)"
    if lower == "can":
        return rf"can(?:{APOSTROPHE}?t|not)?"
    plain = _SPELLINGS.get(lower) or re.escape(lower).replace("'", APOSTROPHE)
    return rf"{plain}(?:n{APOSTROPHE}?t)?" if lower in _AUXILIARY else plain


def _number(words: str) -> int:
    """A number up to a hundred and twenty, from digits or words that `_NUMBER` matched."""
    if words.isdigit():
        return int(words)
    if words.endswith("hundred"):
        return 100
    tens, *ones = re.split(r"[\s-]+", words)
    base = 10 * (_TENS.index(tens) + 2) if tens in _TENS else _ONES.index(tens) + 1
    return base + (_ONES.index(ones[0]) + 1 if ones else 0)
