"""What a text claims about its speaker, by rules over the words that a persona file lists for each slot.

The patterns of a slot ("I live in {value}") are searched for in the original text (`metrics.judges.text.wording`), so
that spans refer to it. A negation inside a match, or immediately before it, negates the claim.

Only assertions count: no questions (but "I live in Oslo, and you?" asserts), nothing supposed, wished, dreamed,
planned, joked or taken back, nothing attributed to another speaker, nothing in double quotes
(`metrics.judges.text.assertion`).

A value that the slot does not list is read in its open patterns only, as a name where the listed values are names, and
as a noun elsewhere. The rules cannot see other wordings; pronouns ("I love it there"); the past ("I used to live in" is
no claim about now); irony without a mark; typing errors; inferences ("I have never left Norway"); slots in which two
values can both be true; and quotations in single quotes. Of a text the first `READ` characters are read; judges leave
longer ones unscored. Precision is high and recall is lower: what they call a claim nearly always is one.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from metrics.judges import READ
from metrics.judges.text.ages import HAN_NUMBER, NUMBER_WORDS
from metrics.judges.text.assertion import LOOK, quotations, sentence_spans, stance, withdrawn
from metrics.judges.text.word_lists import EMPTY_WORDS, NATIONALITY, NO_PROPER_NAMES
from metrics.judges.text.wording import (
    AGE,
    LISTED,
    MASK,
    NAME,
    NEGATION,
    NO_NAMES,
    OLDEST,
    OPENS,
    SUSPECT,
    Pattern,
    are_names,
    canonical,
    further,
    listed_values,
    patterns_of,
)
from scenarios.records import Slot

_NUMBER = re.compile(rf"\d|{HAN_NUMBER}")
LISTED_VALUES = 20  # that one claim is read to list, at most


@dataclass(frozen=True)
class Claim:
    """The speaker affirms (or, negated, denies) that its slot has that value."""

    slot: str  # slot id
    value: str  # as listed; as written where it is not; a number in digits or a decade ("60s") for "age"; ANY
    negated: bool
    span: tuple[int, int]  # characters of the text from the first word of the pattern to the last, end exclusive
    reads: str = LISTED  # LISTED; OPEN: no listed value, in a pattern that is about nothing else; SUSPECT: in another


def claims(text: str, slots: tuple[Slot, ...]) -> tuple[Claim, ...]:
    """The claims that the whole words among the first READ characters of a text make about its speaker, in order."""
    return _claims(text if len(text) <= READ else text[: text.rfind(" ", 0, READ) + 1], slots)


def same_value(slot_id: str, value: str, other: str) -> bool:
    """Whether two values of a slot are the same, ignoring case and article.

    A name also equals its shorter form, and an age the decade it lies in.
    """
    value, other = canonical(slot_id, value), canonical(slot_id, other)
    if slot_id == NAME:
        shorter, longer = sorted((value.split(), other.split()), key=len)
        return bool(shorter) and set(shorter) <= set(longer)
    if slot_id == AGE and value.endswith("s") != other.endswith("s"):
        return value[:-1] == other[:-1] and len(value + other) == 5  # "60s" and "67"
    return value == other


def may_be(slot: Slot, value: str, other: str) -> bool | None:
    """Whether both values can be true at once: they are the same, one is also true of the other ("Japan" and "Osaka"),
    or, where they are not listed, they share a word ("seafood paella" and "paella").

    None where that is not known: a word for some other values, and a value for which no such words are listed.
    """
    if same_value(slot.id, value, other):
        return True
    known, also = _known(slot), _also(slot)
    one, two = canonical(slot.id, value), canonical(slot.id, other)
    if one in also or two in also:
        word, narrow = (one, two) if one in also else (two, one)
        if narrow in also[word] or (narrow in also and also[narrow] & also[word]):
            return True
        return False if narrow in also or any(narrow in values for values in also.values()) else None
    if one in known and two in known:
        return False
    return bool(set(one.split()) & set(two.split()) - EMPTY_WORDS)


def covers(slot: Slot, value: str, other: str) -> bool:
    """Whether whoever has the other value has this one too: it is the same, or a word also true of the other."""
    also = _also(slot).get(canonical(slot.id, value), frozenset())
    return same_value(slot.id, value, other) or canonical(slot.id, other) in also


@lru_cache(maxsize=1 << 16)
def _claims(text: str, slots: tuple[Slot, ...]) -> tuple[Claim, ...]:
    text = text.replace(MASK, " ")
    words, quoted = frozenset(re.findall(r"\w+", text.casefold())), quotations(text)
    starts = [start for start, _ in quoted]
    # without the blanks behind each sentence, of which patterns would try every number
    spans = [(start, start + len(text[start:end].rstrip())) for start, end in sentence_spans(text)]
    hits: list[_Hit] = []
    for reader in _readers(slots):
        for hit in reader.read(text, spans, words):
            before = bisect_left(starts, hit.value[0])
            if not before or hit.value[0] >= quoted[before - 1][1]:
                hits.append(hit)
    return tuple(hit.claim for hit in sorted(_without_shadows(hits), key=lambda hit: hit.value))


@dataclass(frozen=True)
class _Hit:
    """A claim and where its value stands in the text."""

    value: tuple[int, int]
    claim: Claim
    corrects: bool = False  # takes back the claim before it: "a nurse, I mean, a baker"
    inferred: bool = False  # the words claim the value without naming it: "I drive a bus" of a bus driver


def _without_shadows(hits: list[_Hit]) -> Iterator[_Hit]:
    """The longest claim for each slot and value.

    A value inside a longer one is left out, also where that is another slot's ("bakery" in "bakery owner"). What is
    only inferred is left out where another slot's pattern names a value in the same words ("I drive a {value}").
    """
    named: dict[int, dict[str, int]] = {}  # start of a claim that names its value -> slot -> where the longest ends
    for hit in (hit for hit in hits if not hit.inferred):
        ends = named.setdefault(hit.claim.span[0], {})
        ends[hit.claim.slot] = max(hit.claim.span[1], ends.get(hit.claim.slot, 0))
    hits = [hit for hit in hits if not (hit.inferred and _is_named(hit, named.get(hit.claim.span[0], {})))]
    kept: dict[tuple[str, tuple[int, int]], _Hit] = {}
    for hit in hits:
        best = kept.setdefault((hit.claim.slot, hit.value), hit)
        if hit.claim.span[0] < best.claim.span[0]:
            kept[hit.claim.slot, hit.value] = hit
    reached, inside = -1, set()
    for start, end in sorted({hit.value for hit in kept.values()}, key=lambda value: (value[0], -value[1])):
        if end <= reached:
            inside.add((start, end))
        reached = max(reached, end)
    yield from (hit for hit in kept.values() if hit.value not in inside)


def _is_named(hit: _Hit, ends: dict[str, int]) -> bool:
    """Whether a claim of another slot that starts where this one does has all its words; `ends` by slot."""
    return any(slot != hit.claim.slot and end >= hit.claim.span[1] for slot, end in ends.items())


@dataclass(frozen=True)
class _Reader:
    """The compiled patterns of a slot."""

    slot: Slot
    values: re.Pattern | None  # any listed value
    numbers: frozenset[str]  # one of these words is in every text that names an age in words; () for other slots
    patterns: tuple[Pattern, ...]
    further: re.Pattern | None  # one more value after a claim
    known: dict[str, str]  # canonical form -> as listed

    def read(self, text: str, spans: Sequence[tuple[int, int]], words: frozenset[str]) -> Iterator[_Hit]:
        """The claims in the sentences of a text; `words` are its folded words."""
        masked = self.values.sub(lambda value: MASK * len(value[0]), text) if self.values else text
        if self.slot.id == AGE:
            named = not self.numbers.isdisjoint(words) or _NUMBER.search(text) is not None
        else:
            named = MASK in masked or self.slot.id == NAME
        for pattern in self.patterns:
            bare = pattern.reads != LISTED or pattern.value is not None
            if (named or bare) and pattern.needs <= words:
                for start, end in spans:
                    for match in pattern.expression.finditer(text if bare else masked, start, end):
                        yield from self._claimed((text, masked), start, end, match, pattern)

    def _claimed(
        self, texts: tuple[str, str], start: int, end: int, match: re.Match, pattern: Pattern
    ) -> Iterator[_Hit]:
        """The claims of one match: none where the sentence does not assert it, several where it lists values."""
        text, groups = texts[0], match.groupdict()
        group = "open" if groups.get("open") else "value"
        if pattern.value is not None:
            value, reads = pattern.value, LISTED
        elif group == "open":
            value, reads = self._unlisted(match, pattern)
        else:
            value, reads = self._value(text[slice(*match.span("value"))]), LISTED
        if value is None or self._is_elsewhere(text, start, match, group, pattern):
            return
        denied = stance(text, start, end, match)
        if denied is None:
            return
        outside = text[match.start() : match.start(group)] + " " + text[match.end(group) : match.end()]
        own = NEGATION.findall(outside if pattern.value is None else match[0])
        negated = not denied if pattern.denies else (len(own) + pattern.negative + denied) % 2 == 1
        if negated and (groups.get("aside") or reads != LISTED):
            return  # "I'm not a nurse from Leeds" denies one of the two; what is not listed is denied by anyone
        last = match.end() == match.end(group) and pattern.value is None
        further = list(self._listed_after(texts, match.start(), match.end(), end, negated)) if last else []
        if not (further and further[0].corrects):
            claim = Claim(self.slot.id, value, negated, match.span(), reads)
            yield _Hit(match.span(group), claim, inferred=pattern.value is not None)
        yield from further

    def _is_elsewhere(self, text: str, start: int, match: re.Match, group: str, pattern: Pattern) -> bool:
        """Whether a pattern that holds at the head of a sentence only stands elsewhere.

        A name that opens its pattern ("Grace here") is the speaker's only there.
        """
        if not pattern.heads and (self.slot.id != NAME or match.start() != match.start(group)):
            return False
        return match.start() - start > LOOK or not OPENS.fullmatch(text, start, match.start())

    def _listed_after(self, texts: tuple[str, str], start: int, here: int, end: int, negated: bool) -> Iterator[_Hit]:
        """Further values of the same claim: "... and a baker", "..., not a baker", "not a baker but a nurse"."""
        text, masked = texts
        for place in range(LISTED_VALUES if self.further else 0):
            if not (self.further and (match := self.further.match(masked, here, end))):
                return
            link, value = (match["link"] or "").lower(), self._value(text[slice(*match.span("value"))])
            negated = link.endswith("not") or (negated and not link.startswith(("but", "rather")))
            if value is None or withdrawn(text, match.end(), end):
                return
            here = match.end()
            claim = Claim(self.slot.id, value, negated, (start, here))
            yield _Hit(match.span("value"), claim, not link and not place)

    def _value(self, said: str) -> str | None:
        """The value as the slot lists it; None where the words are no value."""
        plain = canonical(self.slot.id, said)
        if self.slot.id == AGE:
            years = plain.removesuffix("s")
            return plain if years.isdigit() and 0 < int(years) <= OLDEST else None
        for form in (plain, plain.removesuffix("s"), plain.removesuffix("es")):
            if form in self.known:
                return self.known[form]
        return said if self.slot.id == NAME and plain not in NO_NAMES and not said[0].islower() else None

    def _unlisted(self, match: re.Match, pattern: Pattern) -> tuple[str | None, str]:
        """(value, how it was recognised) of words that the slot does not list; the value is None where they are none.

        Words that end in a listed value claim that ("a steaming lasagne").
        """
        said = match["open"].strip()
        words = canonical(self.slot.id, said).split()
        for first in range(len(words)):
            if (listed := self.known.get(" ".join(words[first:]))) is not None:
                return listed, LISTED
        if said[0].islower() and are_names(self.known):
            return None, LISTED
        if not NO_PROPER_NAMES.isdisjoint(words) or (self.slot.id == NAME and NATIONALITY.search(said)):
            return None, LISTED
        the = match.string[: match.start("open")].lower().endswith("the ") and are_names(self.known)
        return said, SUSPECT if the else pattern.reads


@lru_cache(maxsize=1024)
def _readers(slots: tuple[Slot, ...]) -> tuple[_Reader, ...]:
    return tuple(_reader(slot) for slot in slots)


@lru_cache(maxsize=4096)
def _reader(slot: Slot) -> _Reader:
    known = _known(slot)
    numbers = NUMBER_WORDS if slot.id == AGE else frozenset()
    return _Reader(slot, listed_values(slot, known), numbers, patterns_of(slot, known), further(slot.id, known), known)


@lru_cache(maxsize=4096)
def _known(slot: Slot) -> dict[str, str]:
    """Canonical form -> value or word as listed."""
    known: dict[str, str] = {}
    for value in (*slot.values, *(word for word, _ in slot.recognition.also)):
        known.setdefault(canonical(slot.id, value), value)
    return known


@lru_cache(maxsize=4096)
def _also(slot: Slot) -> dict[str, frozenset[str]]:
    """Canonical word -> canonical values of which it is true too."""
    return {
        canonical(slot.id, word): frozenset(canonical(slot.id, value) for value in values)
        for word, values in slot.recognition.also
    }
