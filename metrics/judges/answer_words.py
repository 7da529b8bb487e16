"""Q&A in free text, matched by words: does the answer name the persona's value of the fact and no other?

Values that the slot lists are searched for anywhere in the answer ("The organ." is an answer), with regard to negation.
An answer that names none of them, or evades, is wrong. The judge is exact for listed values and cannot recognise a
value in words that the persona file does not list.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from metrics.judges import is_blank, too_long
from metrics.judges.text.claims import Claim, claims, same_value
from metrics.judges.text.wording import canonical
from scenarios.records import Fact, Judgement, Slot
from scenarios.scripts import unreadable

NAME = "answer_match"


def match_judgement(
    conversation: int, turn: int, seat: str, fact: Fact, answer: str | None, unscored: str | None = None
) -> Judgement:
    """The judgement of an answer: verdict True where it is wrong, p_inconsistent 1.0 or 0.0.

    It is unscored, with the reason, where there is no answer, where it is longer than is read, and where it is in a
    script that the fact's slot is not.
    """
    where = (conversation, turn, seat, "qa", NAME, fact.id)
    if answer is None or is_blank(answer):
        return Judgement(*where, unscored=unscored or "empty answer")
    if reason := too_long(answer) or unreadable(answer, (fact.slot.claim, *fact.slot.patterns, *fact.slot.values)):
        return Judgement(*where, unscored=reason, answer=answer)
    wrong = not is_right(answer, fact)
    return Judgement(*where, p_inconsistent=float(wrong), verdict=wrong, answer=answer)


def is_right(answer: str, fact: Fact) -> bool:
    """Whether the answer affirms the fact's value and no other value that its slot lists."""
    affirmed = {canonical(fact.slot.id, claim.value) for claim in named(answer, fact) if not claim.negated}
    return bool(affirmed) and all(same_value(fact.slot.id, value, fact.value) for value in affirmed)


def is_wrong(answer: str, fact: Fact) -> bool:
    """Whether the answer affirms another value that the fact's slot lists, or denies the fact's own value."""
    return any(same_value(fact.slot.id, claim.value, fact.value) == claim.negated for claim in named(answer, fact))


def named(text: str, fact: Fact) -> list[Claim]:
    """The listed values of the fact's slot that the text affirms or denies anywhere."""
    return [claim for claim in claims(text, (_anywhere(fact.slot),)) if claim.value in _listed(fact.slot)]


@lru_cache(maxsize=1024)
def _anywhere(slot: Slot) -> Slot:
    """The slot with one more pattern, which matches a value anywhere."""
    return replace(slot, patterns=(*slot.patterns, "{value}"))


@lru_cache(maxsize=1024)
def _listed(slot: Slot) -> frozenset[str]:
    return frozenset(slot.values) | frozenset(map(str, range(1, 130)) if slot.id == "age" else ())
