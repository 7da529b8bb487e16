"""A ledger of each speaker's claims about itself, compared with its persona and with its own earlier lines.

It checks facts over a closed vocabulary. What it calls a contradiction nearly always is one; what it does not
see, it does not count. Its counts are therefore a lower bound on contradictions, and no bound on drift, since what it
misses may be spread unevenly over the turns.

Prompt to line: a claim contradicts where it affirms another value than the persona's or denies the persona's own value;
it is consistent where it affirms the own value or denies another. A word that the slot does not list contradicts where
it stands in a pattern that is about nothing else ("I live in Ashwood": `Recognition.open`) and cannot be true together
with the own value (`metrics.judges.text.claims.may_be`). In any other pattern ("I play the nyckelharpa"), and where it
is not known whether both can be true, it is a *suspect*: p_inconsistent is 1/2 and the verdict False, so that it counts
as no contradiction.

Line to line: two lines contradict where the later one affirms a value that the earlier one, affirming another, did not,
or where one affirms what the other denies; suspects are left out. A line without claims contradicts nothing.

Words that stand behind the mark of another's turn ("Assistant:") are not the speaker's. A line in a script that the
persona's patterns are not written in is unscored, and so are a persona without facts, a line of more than `READ`
characters, and, line to line, one of more than `MOST_CLAIMS` claims.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from metrics.judges import LINES, NO_FACTS, Pair, is_blank, judgement, too_long
from metrics.judges.text.claims import Claim, claims, covers, may_be
from metrics.judges.text.wording import ANY, SUSPECT
from scenarios.records import Fact, Judgement, Persona, Slot
from scenarios.scripts import unreadable
from scenarios.turn_marks import own_words

EMPTY = "empty line"
NOT_OWN = "all its words are spoken for the other"
DOUBT = 0.5  # p_inconsistent of a suspect
MOST_CLAIMS = 50  # different ones of a line, for each two of which it is looked up whether both can be true


@dataclass(frozen=True)
class Ledger:
    """A judge of lines against personas and earlier lines; p_inconsistent is 1.0, 0.0, or 0.5 for a suspect."""

    name: str = "ledger"

    def judge(self, pairs: Sequence[Pair]) -> list[Judgement]:
        """The judgements of all pairs, in the order of the pairs.

        Prompt to line: one against "persona", then one for each fact that the line makes a claim about, with its span.
        Line to line: one, whose span is in the later line. Blank lines, personas without facts and other metrics are
        unscored.
        """
        # of lines for all later ones: to look them up by their slots would hash those each time
        readings: dict[tuple[int, str, str, str], _Reading | str] = {}

        def read(pair: Pair, text: str) -> _Reading | str:
            partner = pair.partner.name if pair.partner else ""
            key = (id(pair.persona), pair.seat, partner, text)
            if key not in readings:
                readings[key] = _reading(text, pair.seat, pair.persona.name, partner, slots_of(pair.persona))
            return readings[key]

        return [row for pair in pairs for row in self._rows(pair, read)]

    def _rows(self, pair: Pair, read: Callable[[Pair, str], _Reading | str]) -> list[Judgement]:
        if pair.metric not in LINES:
            return [judgement(pair, self.name, unscored=f"the ledger does not score {pair.metric}")]
        if is_blank(pair.line) or (pair.metric == "line_to_line" and is_blank(pair.other or "")):
            return [judgement(pair, self.name, unscored=EMPTY)]
        if not pair.persona.facts:
            return [judgement(pair, self.name, unscored=NO_FACTS)]
        if reason := too_long(pair.line, pair.other or ""):
            return [judgement(pair, self.name, unscored=reason)]
        line = read(pair, pair.line)
        if isinstance(line, str):
            return [judgement(pair, self.name, unscored=line)]
        if pair.metric == "prompt_to_line":
            return self._against_persona(pair, line.said)
        other = read(pair, pair.other or "")
        if isinstance(other, str):
            return [judgement(pair, self.name, unscored=other)]
        if max(len(other.different), len(line.different)) > MOST_CLAIMS:
            return [judgement(pair, self.name, unscored=f"more than {MOST_CLAIMS} different claims in a line")]
        against = disagreement(other.different, line.different, pair.persona)
        return [self._row(pair, float(against is not None), against)]

    def _against_persona(self, pair: Pair, said: tuple[Claim, ...]) -> list[Judgement]:
        doubts = [(inconsistency(claim, pair.persona.fact(claim.slot)), claim) for claim in said]
        rows = [self._worst(pair, doubts)]
        for slot in dict.fromkeys(claim.slot for claim in said):
            rows.append(self._worst(pair, [row for row in doubts if row[1].slot == slot], against=slot))
        return rows

    def _worst(self, pair: Pair, doubts: Sequence[tuple[float, Claim]], **rest) -> Judgement:
        """The row of the first of the claims that are most inconsistent."""
        p, claim = max(doubts, key=lambda row: row[0], default=(0.0, None))
        return self._row(pair, p, claim if p or rest else None, **rest)

    def _row(self, pair: Pair, p: float, claim: Claim | None, **rest) -> Judgement:
        span = claim.span if claim else None
        return judgement(pair, self.name, p_inconsistent=p, verdict=p > DOUBT, span=span, **rest)


@dataclass(frozen=True)
class _Reading:
    """The claims that a line makes about its speaker."""

    said: tuple[Claim, ...]
    different: tuple[Claim, ...]  # each of several equal ones once


@lru_cache(maxsize=1 << 16)
def _reading(text: str, seat: str, name: str, partner: str, slots: tuple[Slot, ...]) -> _Reading | str:
    """The claims of the words that are the speaker's own, or why the line is unscored."""
    own = own_words(text, seat, name, partner)
    if is_blank(own):
        return NOT_OWN
    if reason := unreadable(own, (pattern for slot in slots for pattern in slot.patterns)):
        return reason
    said = claims(own, slots)
    return _Reading(said, tuple(different(said)))


def slots_of(persona: Persona) -> tuple[Slot, ...]:
    """The slots of the persona's facts."""
    return tuple(fact.slot for fact in persona.facts)


def inconsistency(claim: Claim, fact: Fact) -> float:
    """1 where the claim affirms what the fact excludes, or denies its value; DOUBT for a suspect; otherwise 0."""
    if claim.negated:
        return float(claim.value == ANY or covers(fact.slot, claim.value, fact.value))
    both = may_be(fact.slot, claim.value, fact.value)
    return 0.0 if both else DOUBT if both is None or claim.reads == SUSPECT else 1.0


def contradicts_fact(claim: Claim, fact: Fact) -> bool:
    """Whether the claim affirms another value than the fact's, or denies the fact's value; False for a suspect."""
    return inconsistency(claim, fact) > DOUBT


def different(said: Iterable[Claim]) -> list[Claim]:
    """The claims, each of several equal ones once, where it stands first."""
    first: dict[tuple, Claim] = {}
    for claim in said:
        first.setdefault((claim.slot, claim.value, claim.negated, claim.reads), claim)
    return list(first.values())


def disagreement(earlier: Iterable[Claim], later: Iterable[Claim], persona: Persona) -> Claim | None:
    """The first claim of the later line that the claims of the earlier line exclude; None where they agree.

    A line that affirms two values at once ("a baker and a nurse") agrees with a later line that affirms either.
    """
    earlier = tuple(claim for claim in earlier if claim.reads != SUSPECT)
    for claim in later:
        before = [was for was in earlier if was.slot == claim.slot]
        if claim.reads != SUSPECT and _ruled_out(claim, before, persona.fact(claim.slot).slot):
            return claim
    return None


def _ruled_out(claim: Claim, before: list[Claim], slot: Slot) -> bool:
    def fits(was: Claim) -> bool:
        """Whether both values can be true at once; also where that is not known."""
        either = ANY in (was.value, claim.value)
        return (was.negated or claim.negated) if either else may_be(slot, was.value, claim.value) is not False

    same = [was for was in before if fits(was)]
    if any(was.negated != claim.negated for was in same):
        return True
    affirmed = [was for was in before if not was.negated]
    return not claim.negated and bool(affirmed) and not any(was in same for was in affirmed)
