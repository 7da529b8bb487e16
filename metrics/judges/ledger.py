"""A ledger of what each speaker claimed about itself, held against its persona and against its own earlier lines.

Prompt to line: a claim contradicts where it affirms another value than the persona's or denies the persona's own;
affirming the own or denying another is consistent. Line to line: two lines contradict where the later affirms a value
that the earlier, affirming another, did not, or where one affirms what the other denies. A line that claims nothing
contradicts nothing.

Exact, free, blind to everything that `metrics.judges.text.claims` says it cannot see: a lower bound on contradictions.
It knows people by their facts: who is known by a text alone is unscored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from metrics.judges import Pair, is_blank, judgement
from metrics.judges.text.claims import Claim, claims, same_value
from scenarios.records import Fact, Judgement, Persona

EMPTY = "empty line"


@dataclass(frozen=True)
class Ledger:
    """Judges both kinds of pair; p_inconsistent is 1.0 or 0.0."""

    name: str = "ledger"

    def judge(self, pairs: Sequence[Pair]) -> list[Judgement]:
        """Prompt to line: a row against "persona", then one for each fact that the line claims something about, with
        spans. Line to line: one row, its span in the later line. Blank lines, personas without facts and other metrics
        come back unscored.
        """
        return [row for pair in pairs for row in self._rows(pair)]

    def _rows(self, pair: Pair) -> list[Judgement]:
        if pair.metric not in ("prompt_to_line", "line_to_line"):
            return [judgement(pair, self.name, unscored=f"the ledger does not score {pair.metric}")]
        if is_blank(pair.line) or (pair.metric == "line_to_line" and is_blank(pair.other or "")):
            return [judgement(pair, self.name, unscored=EMPTY)]
        if not pair.persona.facts:
            return [judgement(pair, self.name, unscored="the persona has no facts")]
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
    """The slots that the persona has a value for."""
    return tuple(fact.slot for fact in persona.facts)


def contradicts_fact(claim: Claim, fact: Fact) -> bool:
    """Affirms another value, or denies this one."""
    return same_value(fact.slot.id, claim.value, fact.value) == claim.negated


def disagreement(earlier: Iterable[Claim], later: Iterable[Claim]) -> Claim | None:
    """The first claim of the later line that the earlier line's claims rule out; None where they agree.

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
