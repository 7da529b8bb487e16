"""What a text claims about its speaker: rules over the words that a persona file lists for each slot.

A slot's patterns ("I live in {value}") become regular expressions over the text as written, so that spans are spans of the
original. Between two words of a pattern up to three fillers may stand ("I still live in") and a negation ("I don't live in");
contractions read as the words they stand for. {value} is a value known for the slot (longest first, whole words, article and
plain adjectives optional); for the slot "age" a number up to 120 in digits or words; for the slot "name", where the pattern
speaks of a name, also any capitalised word.

Only what a sentence asserts counts: no questions (but "I live in Oslo, and you?" asserts), nothing after if, wish, imagine,
pretend, suppose or would, nothing put in someone else's mouth ("you said I live in ..."), nothing inside double quotes.

What this cannot see: values that the slot does not list, wordings that it has no pattern for, pronouns ("I love it there"),
sentences without a subject ("Born in Oslo"), the past ("I used to live in" is no claim about now), irony, typing errors, anything
that follows only by inference ("I have never left Norway"), slots for which two values can both be true, and quotations in
single quotes. It errs towards silence: what it calls a claim nearly always is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from metrics.judges.assertion import APOSTROPHE, quotations, sentences, stance
from scenarios.records import Slot

NAME, AGE = "name", "age"  # the slots whose values are open
OLDEST = 120  # years
AGE_PATTERNS = ("I am {value}", "I am a {value} year old")  # safe for numbers only, so every age slot has them

_FILLERS = (
    r"actually|really|still|also|now|currently|just|always|only|simply|merely|truly|definitely|certainly|basically|honestly|obviously|"
    r"clearly|of course|happily|proudly|presently|today|usually|mostly|mainly|indeed|in fact|already|even|very much|very|well|quite|"
    r"too|both|technically|officially|personally|absolutely|totally|exactly|as you know|you know|do"
)
_NEGATIONS = rf"not|never|no longer|no|neither|cannot|(?:do|did|does|is|am|are|was|were|have|has|had|ai)n{APOSTROPHE}?t"
_GAP = rf"(?:(?:,\s+|\s+)(?:{_FILLERS}|{_NEGATIONS})\b,?){{0,3}}\s+"
_NEGATION = re.compile(
    rf"(?:\b(?:not|cannot)|\b(?:do|did|does|is|are|was|were|ai|have|has|had|ca|could|would|should|wo)n{APOSTROPHE}?t)\b"
    r"(?!\s+(?:just|only|merely|simply)\b)|\b(?:never|no longer|no|neither)\b",
    re.IGNORECASE,
)
_AUXILIARY = frozenset("do did does is are was were have has had could would should".split())
_CONTRACTIONS = {"i'm": "I am", "i've": "I have", "we're": "we are", "we've": "we have", "it's": "it is", "name's": "name is", "that's": "that is"}
_SPELLINGS = {"favorite": "favou?rite", "favourite": "favou?rite", "color": "colou?r", "colour": "colou?r", "year": "years?", "years": "years?"}
_BENDS = _AUXILIARY | _SPELLINGS.keys() | {"i", "am", "can"}  # words that a text may write otherwise

_ARTICLE = r"(?:(?:a|an|the)\s+)?"
_MODIFIERS = (
    r"(?:(?:proud|professional|full[- ]time|part[- ]time|local|freelance|busy|humble|simple|experienced|passionate|dedicated|devoted|"
    r"young|old|little|small|big|tiny|lovely|beautiful|sunny|rainy|charming|pet|rescue|black|white|cute|sweet|dear|beloved|skilled|trained|licensed|certified|"
    r"city of|town of|village of|[\w-]+[- ]years?[- ]old),?\s+){0,2}"
)
_VALUE_ENDS = rf"(?!{APOSTROPHE}s\b|[\w-])"
_ONES = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_NUMBER_WORD = rf"(?:{'|'.join(_TENS)})(?:[\s-](?:{'|'.join(_ONES[:9])}))?|{'|'.join(sorted(_ONES, key=len, reverse=True))}|(?:a\s+|one\s+)?hundred"
_NUMBER = rf"(?:\d{{1,3}}|{_NUMBER_WORD})"
_YEARS = r"years?(?:[\s-]old|\s+of\s+age|\s+young|(?=\s*(?:[.,!;]|$)))"
_NUMBER_ENDS = (  # "I am 34 minutes late" is no age
    rf"(?![\w%/:'’-]|[.,]\d)(?=\s*(?:$|[.,!;?)\"”—–]|{_YEARS}|(?:and|but|now|so|this|next|today|already|or|with|as|then|which|still|too|yet|not)\b))"
)
_NAMING = frozenset({"name", "call", "calls", "called"})  # a pattern with one of these names someone
_TITLE = r"(?:(?:Dr|Mr|Mrs|Ms|Miss|Prof|Professor|Captain|Sir|Father|Sister)\.?\s+)?"
_CAPITALISED = r"(?-i:[A-Z](?:[^\W\d_]|['’-](?=[^\W\d_]))*)"
_NAMED = rf",?\s+{_CAPITALISED}(?:\s+{_CAPITALISED})?"
_NOT_FROM = "way|ways|friend|fan|relative|hour|hours|mile|miles|drive|flight|ride|walk|letter|call|who|that|not"
_ASIDE = rf"(?P<aside>(?:{_NAMED},?)?(?:\s+an?(?:\s+(?!(?:{_NOT_FROM})\b)[\w'’-]+){{1,4}}?,?)?)"  # "I am [Grace, a nurse] from"
_APPOSED = rf"(?P<aside>{_NAMED},(?=\s+an?\s))?"  # "I am [Grace,] a nurse"
_NO_NAMES = frozenset("a an the not never no i my your his her it that what something and or but so unknown still dr mr mrs ms".split())
_OPENS = re.compile(  # before "Grace here": elsewhere in a sentence it speaks of someone else
    r"\W*(?:(?:hi|hello|hey|yes|well|oh|so|good\s+(?:morning|afternoon|evening|day)|there|everyone|it['’]s)\W+)*", re.IGNORECASE
)
_VERB_NEXT = r"(?!\s+(?:is|are|was|were|has|have|had|can|will|would|sounds?|seems?|looks?)\b)"

@dataclass(frozen=True)
class Claim:
    """The speaker affirms (or, negated, denies) that its slot has that value."""

    slot: str  # slot id
    value: str  # as the slot lists it; a number in digits for "age"; the word as written for an unlisted name
    negated: bool
    span: tuple[int, int]  # characters of the text from the first word of the pattern to the last, end exclusive


def claims(text: str, slots: tuple[Slot, ...]) -> tuple[Claim, ...]:
    """Claims that the text makes about its speaker, in the order of the text. Blank text makes none."""
    return _claims(text, slots)


def same_value(slot_id: str, one: str, other: str) -> bool:
    """Whether two values of a slot say the same: without case and article; a name also equals its shorter form."""
    one, other = canonical(slot_id, one), canonical(slot_id, other)
    if slot_id == NAME:
        shorter, longer = sorted((one.split(), other.split()), key=len)
        return bool(shorter) and set(shorter) <= set(longer)
    return one == other


def canonical(slot_id: str, value: str) -> str:
    """A value without case, leading article, and difference of apostrophes, hyphens and spaces; an age as digits."""
    plain = re.sub(r"[\s-]+", " ", value.strip().rstrip(".").replace("’", "'")).casefold()
    plain = re.sub(r"^(?:a|an|the) ", "", plain)
    if slot_id != AGE:
        return plain
    number = re.search(rf"\b{_NUMBER}\b", plain)
    return str(_number(number[0])) if number else plain


@lru_cache(maxsize=1 << 16)
def _claims(text: str, slots: tuple[Slot, ...]) -> tuple[Claim, ...]:
    words, quoted = frozenset(re.findall(r"\w+", text.casefold())), quotations(text)
    found: list[tuple[tuple[int, int], Claim]] = []  # with the value's own span
    for slot in slots:
        reader = _reader(slot)
        if reader.triggers.isdisjoint(words) and not (slot.id == AGE and any(word.isdigit() for word in words)):
            continue
        for start, end in sentences(text):
            found += (hit for hit in reader.read(text, start, end, words) if not any(a < hit[0][0] < b for a, b in quoted))
    return tuple(claim for _, claim in sorted(_without_shadows(found), key=lambda hit: hit[0]))


def _without_shadows(found: list[tuple[tuple[int, int], Claim]]) -> Iterator[tuple[tuple[int, int], Claim]]:
    """One claim a slot and value span, the longest; a value inside a longer one of another slot ("bakery" in "bakery owner") is none."""
    kept: dict[tuple[str, tuple[int, int]], tuple[tuple[int, int], Claim]] = {}
    for span, claim in found:
        best = kept.get((claim.slot, span))
        if best is None or claim.span[0] < best[1].span[0]:
            kept[claim.slot, span] = (span, claim)
    for span, claim in kept.values():
        inside = any(a <= span[0] and span[1] <= b and b - a > span[1] - span[0] for a, b in (other for _, other in kept))
        if not inside:
            yield span, claim


@dataclass(frozen=True)
class _Pattern:
    """One way of claiming a slot, compiled."""

    expression: re.Pattern  # with the group `value`
    needs: frozenset[str]  # words that stand in every text it matches: looked up first, because searching is slow
    negative: bool  # whether it holds a negation of its own ("I don't eat {value}")


@dataclass(frozen=True)
class _Reader:
    """A slot's patterns, compiled."""

    slot: Slot
    triggers: frozenset[str]  # one of these words must be in a text that claims anything
    patterns: tuple[_Pattern, ...]
    also: re.Pattern | None  # a further value after the first: "... and {value}", "..., not {value}"
    known: dict[str, str]  # canonical form -> as listed

    def read(self, text: str, start: int, end: int, words: frozenset[str]) -> Iterator[tuple[tuple[int, int], Claim]]:
        """Claims in one sentence of the text, each with its value's own span; `words` are the text's, folded."""
        for pattern in self.patterns:
            if pattern.needs <= words:
                for match in pattern.expression.finditer(text, start, end):
                    yield from self._claims(text, start, end, match, pattern.negative)

    def _claims(self, text: str, start: int, end: int, match: re.Match, negative: bool) -> Iterator[tuple[tuple[int, int], Claim]]:
        """What one match claims: nothing where the sentence does not assert it, several values where it lists them."""
        value, aside = self._value(match["value"]), match.groupdict().get("aside")
        if value is None or self._calls_someone_else(text, start, match):
            return
        denied = stance(text, start, end, match)
        if denied is None:
            return
        outside = text[match.start() : match.start("value")] + " " + text[match.end("value") : match.end()]
        negated = (len(_NEGATION.findall(outside)) + negative + denied) % 2 == 1
        if negated and aside:
            return  # "I'm not a nurse from Leeds" denies one of the two
        yield match.span("value"), Claim(self.slot.id, value, negated, match.span())
        if match.end() == match.end("value"):
            yield from self._further(text, match, end, negated)

    def _calls_someone_else(self, text: str, start: int, match: re.Match) -> bool:
        """A name that opens its pattern ("Grace here") is the speaker's only where it opens the sentence."""
        opens = match.start() == match.start("value")
        return self.slot.id == NAME and opens and not _OPENS.fullmatch(text, start, match.start())

    def _further(self, text: str, match: re.Match, end: int, negated: bool) -> Iterator[tuple[tuple[int, int], Claim]]:
        """ "... and a baker", "..., not a baker", "not a baker but a nurse": the same claim of another value."""
        while self.also and (following := self.also.match(text, match.end(), end)):
            link = following["link"].lower()
            negated = True if link.endswith("not") else False if link in ("but", "but rather", "rather") and negated else negated
            value = self._value(following["value"])
            if value is None:
                return
            yield following.span("value"), Claim(self.slot.id, value, negated, (match.start(), following.end()))
            match = _Joined(match.start(), following.end())

    def _value(self, said: str) -> str | None:
        """The value as the slot lists it; None where it is no value at all."""
        plain = canonical(self.slot.id, said)
        if self.slot.id == AGE:
            return plain if plain.isdigit() and 0 < int(plain) <= OLDEST else None
        if plain in self.known:
            return self.known[plain]
        return said if self.slot.id == NAME and plain not in _NO_NAMES else None


@dataclass(frozen=True)
class _Joined:
    """As much of a match as the search for further values needs."""

    first: int
    last: int

    def start(self) -> int:
        return self.first

    def end(self) -> int:
        return self.last


@lru_cache(maxsize=4096)
def _reader(slot: Slot) -> _Reader:
    known: dict[str, str] = {}
    for value in slot.values:
        known.setdefault(canonical(slot.id, value), value)
    worded = (*slot.patterns, *(AGE_PATTERNS if slot.id == AGE else ()))
    patterns = [_compiled(slot, known, pattern) for pattern in dict.fromkeys(worded)]
    triggers = {value.split()[0] for value in known if value} | {re.findall(r"\w+", value)[0] for value in known if re.search(r"\w", value)}
    if slot.id == NAME:
        triggers |= _NAMING
    if slot.id == AGE:
        triggers |= {*_ONES, *_TENS, "hundred"}
    also = None
    if known and slot.id != AGE:
        link = r"(?:\s*,)?\s*(?P<link>,(?=\s+[^.!?;]*\b(?:and|or)\b)|\b(?:but\s+not|and\s+not|but\s+rather|rather|and|or|nor|but|not)\b)\s+(?:(?:in|at|as|from|of|near|on|my)\s+)?"
        also = re.compile(link + _listed(known, slot.id == NAME) + _VERB_NEXT, re.IGNORECASE)
    return _Reader(slot, frozenset(triggers), tuple(patterns), also, known)


def _compiled(slot: Slot, known: dict[str, str], pattern: str) -> _Pattern:
    """A pattern of the slot, ready to be searched for. Raises ValueError where it has not exactly one {value}."""
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
    negative = len(_NEGATION.findall(" ".join([*before, *after]))) % 2 == 1
    expression = prefix + (_ARTICLE if article else "") + _value_group(slot.id, known, before, bool(after)) + suffix
    needs = frozenset(word.casefold() for word in (*before, *after) if word.isalnum() and word.lower() not in _BENDS)
    return _Pattern(re.compile(expression, re.IGNORECASE), needs, negative)


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
