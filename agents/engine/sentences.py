"""Where a sentence ends, in a token and in a text."""

from __future__ import annotations

import re

MARKS, CLOSING = ".!?…", "\"'”’)"
_LAST_IN_TOKEN = re.compile(rf"(?:[{MARKS}][{CLOSING}]*|\n) *\Z")
_IN_TEXT = re.compile(rf"(?<![{MARKS}])[{MARKS}]++[{CLOSING}]*+(?=\s|$)\n*|\n+")  # looks at a run of marks once


def ends_sentence(token: str) -> bool:
    """Whether a token's text ends a sentence: with a mark, closing quotes after it or not, or a newline. A point within
    a number is taken for an end where it is a token of its own: what follows is not known yet.
    """
    return _LAST_IN_TOKEN.search(token) is not None


def first_sentences(text: str, most: int | None) -> str:
    """The text up to the end of its sentence number `most`."""
    ends = [match.end() for match in _IN_TEXT.finditer(text)]
    return text[: ends[most - 1]].rstrip() if most is not None and len(ends) >= most else text
