"""Which parts of a text assert something in the speaker's own voice, by rules over sentences.

A sentence does not assert where it

- asks (unless the question is a tag: "I live in Oslo, and you?");
- supposes (after if, unless, imagine, pretend, suppose: until a semicolon or "but");
- wishes (after wish, would, dream, maybe: until the end of the clause);
- reports another speaker ("you said I live in ...");
- quotes (in double quotes, unless the whole text is in them).
"""

from __future__ import annotations

import re

APOSTROPHE = "['’]"
# characters of a sentence before and behind a claim that are looked at, so that no line takes longer than its length
# warrants
LOOK = 400
_SENTENCE_END = re.compile(  # a run of marks is looked at once; with a word right behind it (`goes_on`) it ends nothing
    r"(?<!\bDr)(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bSt)(?<!\bProf)[.!?…]++[\"”'’)]*+(?:(?=\s|$)|(?P<goes_on>))|\n+"
)
_OPENING = r"\W*(?:(?:and|so|but|oh|well|hey|then|wait|ok|okay)\W+)*"
_ASKS_WHAT = re.compile(  # asks only with a question mark
    _OPENING + r"(?:what|where|who|when|why|how|which|whose)\b", re.IGNORECASE
)
_ASKS_WHETHER = re.compile(
    rf"{_OPENING}(?:do|does|did|are|is|am|was|were|can|could|will|would|should|have|has|had|may|might)(?:n{APOSTROPHE}?t)?\s+"
    r"(?:you|i|we|he|she|they|it|there|that|this|your|my)\b",
    re.IGNORECASE,
)
_ASKED_AFTER = re.compile(
    r"[,;–—-]\s*(?:(?:and|but|so)\s+)?(?:what|how|where|who|why|when|which|you\b|do you|are you|have you|can "
    r"you|could you|"
    r"would you|did you|is there|are there)|"
    r"\b(?:and|but|so)\s+(?:what|how|where|who|why|when|which|you\s*\?|do you|are you|have you|can you|did you)",
    re.IGNORECASE,
)
_IDIOMS = re.compile(
    r"\bif you (?:ask me|must know|want to know|(?:did|do)n['’]t know|don['’]t mind|like)\b", re.IGNORECASE
)
_SUPPOSED = re.compile(  # holds until a semicolon or "but"
    r"\b(?:if|unless|whether|imagin(?:e|ing)|pretend(?:ing)?|suppos(?:e|ed|ing)|assuming|hypothetically|let['’]s "
    r"say)\b",
    re.IGNORECASE,
)
_WISHED = re.compile(  # holds until the clause ends
    r"\b(?:wish(?:es|ed|ing)?|would|dream(?:ed|t|ing)?|maybe|perhaps|not sure|doubt)\b", re.IGNORECASE
)
_STRONG_BREAK = re.compile(r";|\bbut\b|\bhowever\b", re.IGNORECASE)
_WEAK_BREAK = re.compile(r"[;,:–—]|\b(?:but|and|because|since|however|so)\b", re.IGNORECASE)
_REPORTED = re.compile(
    r"(?:\b(?!i\b)[\w'’]+\s+(?:\w+\s+)?(?:said|says?|thinks?|thought|believe[sd]?|assume[sd]?|claim(?:s|ed)?|told|tells?|guess(?:ed)?|"
    r"insists?|insisted|heard)|\bi\s+(?:never|did\s+not|didn['’]?t)\s+(?:say|said|claim(?:ed)?|tell|told|mention(?:ed)?))"
    r"(?:\s+(?:that|me|to\s+me|you|us|people|anyone))*[\s,]*$",
    re.IGNORECASE,
)
_OWN_REPORT = re.compile(
    r"\bi\s+(?:(?!never\b|not\b)\w+\s+)?(?:said|say|think|thought|believe|guess|told)\b(?:\s+\w+){0,2}[\s,]*$",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"(?:\bi\s+(?:do\s+not|don['’]?t)\s+(?:think|believe)|\b(?:it['’]?s|it\s+is|that['’]?s)\s+(?:not\s+true|untrue|false|a\s+lie)|\bnot(?=\s+that))"
    r"(?:\s+that)?\s*$",
    re.IGNORECASE,
)
_NOT = re.compile(r"(?:\b(?:not|never)|n['’]t)\s+$", re.IGNORECASE)  # "that is not" before "my dog"
_QUOTED = re.compile(r"\"[^\"]*\"|“[^”]*”")
_WHOLLY_QUOTED = re.compile(r"\s*(?:\w+:\s*)?(?:\"[^\"]*\"?|“[^”“]*”?)\s*")


def stance(text: str, start: int, end: int, match: re.Match) -> bool | None:
    """None where the sentence does not assert the match; otherwise whether a phrase outside of the match denies it.

    For example, "I don't think ..." denies it.
    """
    before, opening = (
        _IDIOMS.sub(" ", text[max(start, match.start() - LOOK) : match.start()]),
        text[start : min(end, start + LOOK)],
    )
    if _ASKS_WHETHER.match(opening):
        return None
    asks = text[max(start, end - LOOK) : end].rstrip("\"”'’) ").endswith("?")
    if asks and (_ASKS_WHAT.match(opening) or not _ASKED_AFTER.search(text, match.end(), min(end, match.end() + LOOK))):
        return None
    if _SUPPOSED.search(_STRONG_BREAK.split(before)[-1]) or _WISHED.search(_WEAK_BREAK.split(before)[-1]):
        return None
    if _DENIED.search(before) or (_NOT.search(before) and not match[0].lower().startswith("i")):
        return True
    return None if _REPORTED.search(before) and not _OWN_REPORT.search(before) else False


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Spans of the sentences, with their closing punctuation."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text) if match["goes_on"] is None]
    if not ends or ends[-1] < len(text):
        ends.append(len(text))
    return list(zip([0, *ends[:-1]], ends, strict=True))


def quotations(text: str) -> list[tuple[int, int]]:
    """Spans in double quotes; none where the whole text is a single quotation."""
    if _WHOLLY_QUOTED.fullmatch(text):
        return []
    closed = text.rfind("”") + 1  # what opens behind it never closes, and each would be sought to the end
    return [match.span() for match in _QUOTED.finditer(text[:closed] + text[closed:].replace("“", " "))]
