"""The ends of sentences, in tokens and in texts."""

from __future__ import annotations

import re

from scenarios.scripts import SENTENCE_MARKS as MARKS
from scenarios.scripts import WIDE_SENTENCE_MARKS as WIDE_MARKS
from scenarios.spoken import without_thoughts

CLOSING, WIDE_CLOSING = "\"'”’)", "”’」』）"  # behind the marks
_LAST_IN_TOKEN = re.compile(rf"(?:[{MARKS}{WIDE_MARKS}][{CLOSING}{WIDE_CLOSING}]*|\n) *\Z")
_IN_TEXT = re.compile(  # looks at a run of marks once
    rf"(?<![{MARKS}])[{MARKS}]++[{CLOSING}]*+(?=\s|$)\n*|"
    rf"(?<![{WIDE_MARKS}])[{WIDE_MARKS}]++[{WIDE_CLOSING}]*+\n*|\n+"
)


def ends_sentence(token: str) -> bool:
    """Whether a token's text ends a sentence: with a mark, optionally before closing quotes, or a newline.

    A point within a number counts as an end where it is a token of its own, since the next token is not known yet.
    """
    return _LAST_IN_TOKEN.search(token) is not None


def count_sentences(text: str) -> int:
    """The number of sentences that end in a text."""
    return sum(1 for _ in _IN_TEXT.finditer(text))


def sentences_spoken(text: str, thinking: bool, counted: int) -> int:
    """The number of sentences of a text behind its thought; `counted`, their ends in tokens, where there is no thought.

    `thinking` is as in `scenarios.spoken.without_thoughts`.
    """
    spoken = without_thoughts(text, thinking)
    return counted if spoken is text else count_sentences(spoken)


def first_sentences(text: str, most: int | None) -> str:
    """The text up to the end of sentence number `most`; all of it for None."""
    ends = [match.end() for match in _IN_TEXT.finditer(text)]
    return text[: ends[most - 1]].rstrip() if most is not None and len(ends) >= most else text
