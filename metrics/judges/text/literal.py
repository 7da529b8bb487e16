"""Patterns that match as they are written: in a script other than that of English, or with a particle written onto the
value.

They know no fillers, contractions or articles. Between letters of Han a negation or an adverb may stand.
"""

from __future__ import annotations

import re

from metrics.judges.text.ages import HAN_NUMBER
from scenarios.scripts import LETTER, MARKS, has_no_blanks, not_english

_YEARS = r"岁|歲|歳|才|살|세|лет\b|года?\b|साल|वर्ष|سنة|عام"
_AGE, _AGE_ENDS = rf"(?:(?<!\d)\d{{1,3}}(?!\d)|{HAN_NUMBER})", rf"(?=\s*(?:$|[^\w\s{MARKS}]|{_YEARS}))"
_BETWEEN = r"(?:\s|不|没有?|沒有?|并不|從來|从来|也|都|就|还|還|一直|现在|現在|只|真的|其实|確實|确实){0,2}"
_ENDS = "。.!！।॥؟？۔$"
_STARTS_WORD, _ENDS_WORD = rf"(?<![\w{MARKS}])", rf"(?![\w{MARKS}])"


def is_glued(pattern: str) -> bool:
    """Whether the pattern's value stands without a blank next to other letters."""
    return has_no_blanks(pattern) or re.search(rf"{LETTER}\{{value\}}|\{{value\}}{LETTER}", pattern) is not None


def is_literal(pattern: str, known: dict[str, str]) -> bool:
    """Whether the pattern matches as it is written; `known` are the slot's values."""
    bare = pattern.replace("{value}", "")
    foreign = is_glued(pattern) or not_english("the pattern", bare) is not None
    return foreign or (pattern == "{value}" and any(map(has_no_blanks, known)))


def source(pattern: str, values: str | None) -> str:
    """The regular expression, with the group `value`: the expression `values` or, for None, an age; all of a pattern
    without {value}.
    """
    text = pattern.removeprefix("^").strip().rstrip(_ENDS)
    before, has_value, after = map(_as_written, text.partition("{value}"))
    if not has_value:
        return rf"(?P<value>{_bounded(text, before)})"
    value = values or _AGE + ("" if after else _AGE_ENDS)
    blank = r"\s*" if has_no_blanks(pattern) else ""  # around "London" and "25"
    whole = rf"{before}{blank}(?P<value>{value}){blank}{after}"
    return whole if is_glued(pattern) or text == "{value}" else _bounded(text, whole)


def _as_written(part: str) -> str:
    letters = [r"\s+" if letter.isspace() else re.escape(letter) for letter in part]
    return (_BETWEEN if has_no_blanks(part) else "").join(letters)


def _bounded(text: str, expression: str) -> str:
    """The expression, not within a word where its ends are written with blanks."""
    starts = "" if has_no_blanks(text[:1]) or text.startswith("{") else _STARTS_WORD
    return starts + expression + ("" if has_no_blanks(text[-1:]) or text.endswith("}") else _ENDS_WORD)
