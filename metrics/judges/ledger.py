"""A ledger of each speaker's claims about itself, compared with its persona and with its own earlier lines.

Prompt to line: a claim contradicts where it affirms another value than the persona's or denies the persona's own value;
it is consistent where it affirms the own value or denies another. Line to line: two lines contradict where the later
one affirms a value that the earlier one, affirming another, did not, or where one affirms what the other denies. A line
without claims contradicts nothing.

The judge is exact and needs no model, but misses what `metrics.judges.text.claims` cannot see: its count is a lower
bound on contradictions. It knows personas by their facts only; a persona that is only a text is unscored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from metrics.judges import NO_FACTS, Pair, is_blank, judgement
from metrics.judges.text.claims import Claim, claims, same_value
from scenarios.records import Fact, Judgement, Persona

EMPTY = "empty line"


@dataclass(frozen=True)
class Ledger:
    """A judge of lines against personas and earlier lines; p_inconsistent is 1.0 or 0.0."""

    name: str = "ledger"

    def judge(self, pairs: Sequence[Pair]) -> list[Judgement]:
        """The judgements of all pairs, in the order of the pairs.

        Prompt to line: one against "persona", then one for each fact that the line makes a claim about, with its span.
        Line to line: one, whose span is in the later line. Blank lines, personas without facts and other metrics are
        unscored.
        """
        return [row for pair in pairs for row in self._rows(pair)]

    def _rows(self, pair: Pair) -> list[Judgement]:
        if pair.metric not in ("prompt_to_line", "line_to_line"):
            return [judgement(pair, self.name, unscored=f"the ledger does not score {pair.metric}")]
        if is_blank(pair.line) or (pair.metric == "line_to_line" and is_blank(pair.other or "")):
            return [judgement(pair, self.name, unscored=EMPTY)]
        if not pair.persona.facts:
            return [judgement(pair, self.name, unscored=NO_FACTS)]
        said = claims(pair.line, slots_of(pair.persona))
        if pair.metric == "line_to_line":
            against = disagreement(claims(pair.other or "", slots_of(pair.persona)), said)
            return [self._row(pair, against is not None, against)]
        return self._against_persona(pair, said)

    def _against_persona(self, pair: Pair, said: tuple[Claim, ...]) -> list[Judgement]:
        wrong = [claim for claim in said if contradicts_fact(claim, pair.persona.fact(claim.slot))]
        rows = [self._row(pair, bool(wrong), _first(wrong))]
        for slot in dict.fromkeys(claim.slot for claim in said):
            spoken, broken = _of(said, slot), _of(wrong, slot)
            rows.append(self._row(pair, bool(broken), _first(broken or spoken), against=slot))
        return rows

    def _row(self, pair: Pair, wrong: bool, claim: Claim | None, **rest) -> Judgement:
        return judgement(
            pair, self.name, p_inconsistent=float(wrong), verdict=wrong, span=claim.span if claim else None, **rest
        )


def slots_of(persona: Persona) -> tuple:
    """The slots of the persona's facts."""
    return tuple(fact.slot for fact in persona.facts)


def contradicts_fact(claim: Claim, fact: Fact) -> bool:
    """Whether the claim affirms another value than the fact's, or denies the fact's value."""
    return same_value(fact.slot.id, claim.value, fact.value) == claim.negated


def disagreement(earlier: Iterable[Claim], later: Iterable[Claim]) -> Claim | None:
    """The first claim of the later line that the claims of the earlier line exclude; None where they agree.

    A line that affirms two values at once ("a baker and a nurse") agrees with a later line that affirms either.
    """
    earlier = tuple(earlier)
    return next(
        (claim for claim in later if _ruled_out(claim, [was for was in earlier if was.slot == claim.slot])), None
    )


def _ruled_out(claim: Claim, before: list[Claim]) -> bool:
    same = [was for was in before if same_value(claim.slot, was.value, claim.value)]
    if any(was.negated != claim.negated for was in same):
        return True
    affirmed = [was for was in before if not was.negated]
    return not claim.negated and bool(affirmed) and not any(was in same for was in affirmed)


def _of(said: Iterable[Claim], slot: str) -> list[Claim]:
    return [claim for claim in said if claim.slot == slot]


def _first(said: Sequence[Claim]) -> Claim | None:
    return said[0] if said else None
