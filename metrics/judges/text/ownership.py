"""Whose words a line is made of, and whether its speaker behaves as the card demands. Wording alone, no model.

Three measures, all from text:
- `borrowed`: words that the speaker's own card does not hold, the more so where the partner's card or last line does,
  as far as the line is about its speaker. "As a retired miner, I ..." out of a nurse's mouth, after a miner spoke, is
  made of the miner's words.
- `asks_of_partner`: whether a card demands of its speaker to ask ("I ask for examples", "You ask one short question at
  a time").
- `engages`: how far a line asks or speaks in the first person, which such a card demands and a lecture does not do.

English only.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache

from metrics.judges.text.word_lists import EMPTY_WORDS

ELSEWHERE, NAMED = 0.5, 1.0  # weight of a word that the own card lacks; of one that is a name or a number
PARTNERS, HEARD = 1.0, 0.5  # and more if the partner's card holds it, if the heard line does
SHRINK = 4  # words of one's own that every line is given, so that one foreign word does not make a short line foreign
UNDECIDED = 0.25  # words of each person that every line is given
_TAG = re.compile(r"\s*([A-Z][\w.'’-]*(?: [A-Z][\w.'’-]*)?):\s+(?=\S)")
_WORD = re.compile(r"[^\W\d_]{3,}|\d+")
_NAME = re.compile(r"(?<=[\w,;] )[A-Z][^\W\d_]{2,}|\d+")  # not at the head of a sentence, where any word has a capital
_SUFFIX = re.compile(r"(?<=\w{4})(?:ations?|ings?|ians?|ans?|ists?|ers?|ies|ed|es|ly|s|y|e)$")
_FIRST = re.compile(r"\b(?:I|[Mm]e|[Mm]y|[Mm]ine|[Mm]yself)\b")
_SECOND = re.compile(r"\byou(?:rs?|rself)?\b", re.IGNORECASE)
_NAMING = re.compile(r"\b(?:I am|I['’]m|I,|name is|name['’]s|call me|calls me)\s+([A-Z][\w-]*)")
_I_OR_YOU = re.compile(r"\b(?:I|you)\b", re.IGNORECASE)
_OF_ASKING = re.compile(
    r"\b(?:ask|asks|asking|requests?|requesting|questions?|inquir\w+|probe|challenge|invite|propose)\b", re.IGNORECASE
)


def untagged(line: str) -> tuple[str, str]:
    """A line without the speaker's name that transcripts put before it ("Ann: I"), and that name, "" where there is
    none.
    """
    tag = _TAG.match(line)
    return (line[tag.end() :].strip(), tag[1]) if tag else (line.strip(), "")


def tagged_until(line: str) -> int:
    """Where the words begin, behind such a name; 0 where there is none."""
    tag = _TAG.match(line)
    return tag.end() if tag else 0


def borrowed(line: str, card: str, partner: str = "", heard: str = "", names: Collection[str] = ()) -> float:
    """Share of a line's different content words that are somebody else's, times the share of the line that is about its
    speaker.

    sum(ELSEWHERE or NAMED, + PARTNERS [in the partner's card] + HEARD [in the heard line]) over the words that the own
    card lacks / (words + SHRINK), times `about_self`. 0 to 2.5, 0 where every word is the card's. Words are compared by
    stem. `names`, by which people address each other, count for nobody, unless the speaker takes one ("I am Ann"). Who
    has to ask of the partner talks of a subject, whose words no card holds: of such a speaker's words only those in the
    partner's card count.
    """
    called = {name.lower() for name in names} - {match[1].lower() for match in _NAMING.finditer(line)}
    said = _stems(line) - {_stem(name) for name in called}
    foreign, named = said - _stems(card), {_stem(name.lower()) for name in _NAME.findall(line)}
    if asks_of_partner(card):
        foreign &= _stems(partner)
    weight = ELSEWHERE * len(foreign - named) + NAMED * len(foreign & named)
    weight += PARTNERS * len(foreign & _stems(partner)) + HEARD * len(foreign & _stems(heard))
    return about_self(line) * weight / (len(said) + SHRINK)


def about_self(line: str) -> float:
    """(first person + UNDECIDED) / (first + second person + 2 UNDECIDED), words counted: above 1/2 it speaks of
    oneself.
    """
    first, second = len(_FIRST.findall(line)), len(_SECOND.findall(line))
    return (first + UNDECIDED) / (first + second + 2 * UNDECIDED)


@lru_cache(maxsize=4096)
def asks_of_partner(card: str) -> bool:
    """Whether some sentence of the card in first or second person speaks of asking, proposing or challenging."""
    return any(_OF_ASKING.search(sentence) and _I_OR_YOU.search(sentence) for sentence in re.split(r"[.!?\n]", card))


def engages(line: str) -> float:
    """0 (lectures), 1/2 (asks, or speaks in the first person) or 1 (both)."""
    return (("?" in line) + bool(_FIRST.search(line))) / 2


@lru_cache(maxsize=4096)
def _stems(text: str) -> frozenset[str]:
    return frozenset(_stem(word) for word in _WORD.findall(text.lower()) if word not in EMPTY_WORDS)


def _stem(word: str) -> str:
    return _SUFFIX.sub("", word)
