"""Words that a speaker says for the other: a line that goes on with the other's turn ("Fine.\\nAssistant: I ...").

A mark is a role ("User:", "Assistant:", "Them:"), the partner's name or the speaker's own, and a colon, at the start of
a line of the text. What stands behind another's mark, until a mark of the speaker's own, is not the speaker's.
"""

from __future__ import annotations

import re
from functools import lru_cache

from scenarios.records import ASSISTANT, USER

_OF_SEAT = {
    USER: frozenset("user human caller client student customer patient".split()),
    ASSISTANT: frozenset("assistant ai bot host therapist tutor chatbot model".split()),
}
_OWN = frozenset({"me", "i", "myself"})
_TURNS = frozenset({"user", "human", "assistant"})
_OTHERS = frozenset("them you they other partner system stranger".split()).union(*_OF_SEAT.values())
_MARK = re.compile(
    r"^[ \t]*[#*_\[(<|]{0,4}[ \t]?(?P<who>[^\W\d_][\w.'’-]{0,30}"
    r"(?: [\w.'’-]{1,30}){0,2})[\])*_]{0,4}"
    r"(?:[ \t]?[:：]|\|?>)",
    re.MULTILINE,
)


def spoken_for_another(text: str, seat: str = "", own: str = "", partner: str = "") -> list[tuple[int, int]]:
    """The spans of a text that stand behind another's mark, mark included, in order.

    `seat` is the speaker's ("user" or "assistant"), `own` and `partner` are names; "" where they are not known. Without
    a seat, a role that opens the text is the speaker's own.
    """
    mine = _names(own) | _OWN | _OF_SEAT.get(seat, frozenset())
    others = (_OTHERS | _names(partner)) - mine
    spans: list[tuple[int, int]] = []
    since: int | None = None
    first = len(text) - len(text.lstrip())
    for mark in _MARK.finditer(text):
        who, opens = mark["who"].casefold(), mark.start() <= first
        theirs = who in others and not (opens and not seat and who not in _names(partner))
        if theirs and since is None:
            since = mark.start()
        elif since is not None and who in mine:
            spans.append((since, mark.start()))
            since = None
    return spans if since is None else [*spans, (since, len(text))]


def next_turn(text: str, seat: str = "", own: str = "", partner: str = "") -> int | None:
    """Where a text goes on with another turn, behind words of the speaker's: the start of the mark; None where it does
    not, or where the text begins with the other's mark.

    "User:", "Human:" and "Assistant:" begin a turn in either seat, since a model in the user's seat is an assistant to
    itself.
    """
    mine, others = _parties(seat, own, partner)
    first = len(text) - len(text.lstrip())
    for mark in _MARK.finditer(text):
        who = mark["who"].casefold()
        if mark.start() > first and who in others:
            return mark.start()
        if mark.start() <= first and seat and who in others - mine:
            return None
    return None


@lru_cache(maxsize=1 << 12)
def _parties(seat: str, own: str, partner: str) -> tuple[frozenset[str], frozenset[str]]:
    """Who the speaker may be called, and whose mark begins another turn, in lower case."""
    mine = (_names(own) | _OWN | _OF_SEAT.get(seat, frozenset())) - _names(partner)
    return mine, (_OTHERS | _names(partner)) - (mine - (_TURNS - _names(own)))


def own_words(text: str, seat: str = "", own: str = "", partner: str = "") -> str:
    """The text with blanks in place of what stands behind another's mark; as long as the text, so that spans hold."""
    parts, here = [], 0
    for start, end in spoken_for_another(text, seat, own, partner):
        parts += [text[here:start], re.sub(r"[^\n]", " ", text[start:end])]
        here = end
    return "".join([*parts, text[here:]])


@lru_cache(maxsize=1 << 12)
def _names(name: str) -> frozenset[str]:
    """A name in lower case, whole and its first word."""
    return frozenset({name.casefold(), name.casefold().split()[0]}) if name.strip() else frozenset()
