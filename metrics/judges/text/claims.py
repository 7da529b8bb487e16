"""What a text claims about its speaker, by rules over the words that a persona file lists for each slot.

The patterns of a slot ("I live in {value}") are searched for in the original text (`metrics.judges.text.wording`), so
that spans refer to it. A negation inside a match, or immediately before it, negates the claim.

Only assertions count: no questions (but "I live in Oslo, and you?" asserts), nothing after if, wish, imagine, pretend,
suppose or would, nothing attributed to another speaker ("you said I live in ..."), nothing in double quotes.

The rules cannot see values that the slot does not list; wordings without a pattern; pronouns ("I love it there");
sentences without a subject ("Born in Oslo"); the past ("I used to live in" is no claim about the present); irony;
typing errors; inferences ("I have never left Norway"); slots in which two values can both be true; quotations in single
quotes; and anything after the first `READ` characters of a text. Precision is high and recall is lower: what they call
a claim nearly always is one.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from metrics.judges.text.assertion import LOOK, quotations, sentence_spans, stance
from metrics.judges.text.wording import (
    AGE,
    AGE_PATTERNS,
    NAME,
    NEGATION,
    NO_NAMES,
    OLDEST,
    OPENS,
    Pattern,
    canonical,
    compiled,
    further,
    triggers,
)
from scenarios.records import Slot

READ = 5_000  # characters of a text, at most: some 900 words
LISTED = 20  # values that one claim is read to list, at most


@dataclass(frozen=True)
class Claim:
    """The speaker affirms (or, negated, denies) that its slot has that value."""

    slot: str  # slot id
    value: str  # as the slot lists it; a number in digits for "age"; the word as written for an unlisted name
    negated: bool
    span: tuple[int, int]  # characters of the text from the first word of the pattern to the last, end exclusive


def claims(text: str, slots: tuple[Slot, ...]) -> tuple[Claim, ...]:
    """The claims that the text makes about its speaker, in the order of the text; none for a blank text."""
    return _claims(text if len(text) <= READ else text[: text.rfind(" ", 0, READ) + 1], slots)


def same_value(slot_id: str, value: str, other: str) -> bool:
    """Whether two values of a slot are the same, ignoring case and article; a name also equals its shorter form."""
    value, other = canonical(slot_id, value), canonical(slot_id, other)
    if slot_id == NAME:
        shorter, longer = sorted((value.split(), other.split()), key=len)
        return bool(shorter) and set(shorter) <= set(longer)
    return value == other


@lru_cache(maxsize=1 << 16)
def _claims(text: str, slots: tuple[Slot, ...]) -> tuple[Claim, ...]:
    words, quoted = frozenset(re.findall(r"\w+", text.casefold())), quotations(text)
    starts = [start for start, _ in quoted]
    hits: list[_Hit] = []
    for reader in _readers(slots):
        if not reader.triggers.isdisjoint(words) or (reader.slot.id == AGE and any(word.isdigit() for word in words)):
            for start, end in sentence_spans(text):
                for hit in reader.read(text, start, end, words):
                    before = bisect_left(starts, hit.value[0])
                    if not before or hit.value[0] >= quoted[before - 1][1]:
                        hits.append(hit)
    return tuple(hit.claim for hit in sorted(_without_shadows(hits), key=lambda hit: hit.value))


@dataclass(frozen=True)
class _Hit:
    """A claim and where its value stands in the text."""

    value: tuple[int, int]
    claim: Claim


def _without_shadows(hits: list[_Hit]) -> Iterator[_Hit]:
    """The longest claim for each slot and value.

    A value inside a longer one is left out, also where that is another slot's ("bakery" in "bakery owner").
    """
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


@dataclass(frozen=True)
class _Reader:
    """The compiled patterns of a slot."""

    slot: Slot
    triggers: frozenset[str]  # one of these words is in every text that claims anything
    patterns: tuple[Pattern, ...]
    further: re.Pattern | None  # one more value after a claim
    known: dict[str, str]  # canonical form -> as listed

    def read(self, text: str, start: int, end: int, words: frozenset[str]) -> Iterator[_Hit]:
        """The claims in one sentence of the text; `words` are the folded words of the whole text."""
        for pattern in self.patterns:
            if pattern.needs <= words:
                for match in pattern.expression.finditer(text, start, end):
                    yield from self._claimed(text, start, end, match, pattern.negative)

    def _claimed(self, text: str, start: int, end: int, match: re.Match, negative: bool) -> Iterator[_Hit]:
        """The claims of one match: none where the sentence does not assert it, several where it lists values."""
        value, aside = self._value(match["value"]), match.groupdict().get("aside")
        if value is None or self._calls_someone_else(text, start, match):
            return
        denied = stance(text, start, end, match)
        if denied is None:
            return
        outside = text[match.start() : match.start("value")] + " " + text[match.end("value") : match.end()]
        negated = (len(NEGATION.findall(outside)) + negative + denied) % 2 == 1
        if negated and aside:
            return  # "I'm not a nurse from Leeds" denies one of the two
        yield _Hit(match.span("value"), Claim(self.slot.id, value, negated, match.span()))
        if match.end() == match.end("value"):
            yield from self._listed_after(text, match.start(), match.end(), end, negated)

    def _calls_someone_else(self, text: str, start: int, match: re.Match) -> bool:
        """A name that opens its pattern ("Grace here") is the speaker's only where it opens the sentence."""
        opens = match.start() == match.start("value")
        return (
            self.slot.id == NAME
            and opens
            and (match.start() - start > LOOK or not OPENS.fullmatch(text, start, match.start()))
        )

    def _listed_after(self, text: str, start: int, here: int, end: int, negated: bool) -> Iterator[_Hit]:
        """Further values of the same claim: "... and a baker", "..., not a baker", "not a baker but a nurse"."""
        for _ in range(LISTED if self.further else 0):
            if not (self.further and (match := self.further.match(text, here, end))):
                return
            link, value = match["link"].lower(), self._value(match["value"])
            negated = link.endswith("not") or (negated and not link.startswith(("but", "rather")))
            if value is None:
                return
            here = match.end()
            yield _Hit(match.span("value"), Claim(self.slot.id, value, negated, (start, here)))

    def _value(self, said: str) -> str | None:
        """The value as the slot lists it; None where the words are no value."""
        plain = canonical(self.slot.id, said)
        if self.slot.id == AGE:
            return plain if plain.isdigit() and 0 < int(plain) <= OLDEST else None
        if plain in self.known:
            return self.known[plain]
        return said if self.slot.id == NAME and plain not in NO_NAMES else None


@lru_cache(maxsize=1024)
def _readers(slots: tuple[Slot, ...]) -> tuple[_Reader, ...]:
    return tuple(_reader(slot) for slot in slots)


@lru_cache(maxsize=4096)
def _reader(slot: Slot) -> _Reader:
    known: dict[str, str] = {}
    for value in slot.values:
        known.setdefault(canonical(slot.id, value), value)
    worded = dict.fromkeys((*slot.patterns, *(AGE_PATTERNS if slot.id == AGE else ())))
    patterns = tuple(compiled(slot, known, pattern) for pattern in worded)
    return _Reader(slot, triggers(slot.id, known), patterns, further(slot.id, known), known)
