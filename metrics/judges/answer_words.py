"""Q&A in the speaker's own words: does the answer to a question about a fact name the persona's value, and no other?

The values that the slot lists are looked for anywhere in the answer ("The organ." is one), negations counted; an answer
that names none, or evades, is not right. Exact for listed values; blind to a value in other words than the persona
file's.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from metrics.judges import is_blank
from metrics.judges.text.claims import claims, same_value
from metrics.judges.text.wording import canonical
from scenarios.records import Fact, Judgement, Slot

NAME = "answer_match"


def match_judgement(
    conversation: int, turn: int, seat: str, fact: Fact, answer: str | None, unscored: str | None = None
) -> Judgement:
    """Verdict True where the answer is not right; unscored where there is none, with the reason."""
    where = (conversation, turn, seat, "qa", NAME, fact.id)
    if answer is None or is_blank(answer):
        return Judgement(*where, unscored=unscored or "empty answer")
    wrong = not is_right(answer, fact)
    return Judgement(*where, p_inconsistent=float(wrong), verdict=wrong, answer=answer)


def is_right(answer: str, fact: Fact) -> bool:
    """Whether the answer affirms the fact's value and no other that its slot lists."""
    named = [claim for claim in claims(answer, (_anywhere(fact.slot),)) if claim.value in _listed(fact.slot)]
    affirmed = {canonical(fact.slot.id, claim.value) for claim in named if not claim.negated}
    return bool(affirmed) and all(same_value(fact.slot.id, value, fact.value) for value in affirmed)


@lru_cache(maxsize=1024)
def _anywhere(slot: Slot) -> Slot:
    """The slot, claimed by naming a value."""
    return replace(slot, patterns=(*slot.patterns, "{value}"))


@lru_cache(maxsize=1024)
def _listed(slot: Slot) -> frozenset[str]:
    return frozenset(slot.values) | frozenset(map(str, range(1, 130)) if slot.id == "age" else ())
