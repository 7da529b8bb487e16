"""Whose words a line consists of, and whether its speaker behaves as the card demands; from wording alone, English
only.

- `borrowed`: words that the speaker's own card lacks, weighted up where the partner's card or last line has them, as
  far as the line is about its speaker. "As a retired miner, I ..." from a nurse, after a miner spoke, uses the miner's
  words.
- `asks_of_partner`: whether a card demands that its speaker ask ("I ask for examples", "You ask one short question at a
  time").
- `engages`: how far a line asks or speaks in the first person, as such a card demands and a lecture does not.
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
    """(line without the speaker's name before it, that name), as in transcripts ("Ann: I"); the name is "" where there
    is none.
    """
    tag = _TAG.match(line)
    return (line[tag.end() :].strip(), tag[1]) if tag else (line.strip(), "")


def tagged_until(line: str) -> int:
    """The index at which the words begin, after a speaker's name; 0 where there is no name."""
    tag = _TAG.match(line)
    return tag.end() if tag else 0


def borrowed(line: str, card: str, partner: str = "", heard: str = "", names: Collection[str] = ()) -> float:
    """The weighted share of a line's different content words that are not the speaker's, times `about_self`; 0 to 2.5.

    The share is the sum of (ELSEWHERE or NAMED, + PARTNERS where the partner's card has the word, + HEARD where the
    heard line has it) over the words that the speaker's card lacks, divided by (words + SHRINK). It is 0 where the card
    has every word. Words are compared by stem. `names`, with which speakers address each other, do not count unless the
    speaker claims one ("I am Ann"). Where the card demands questions, the speaker talks about a subject whose words are
    on no card: then only words of the partner's card count.
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
    """How far a line is about its speaker, above 0 and below 1: more than 1/2 where the first person predominates.

    (first person + UNDECIDED) / (first + second person + 2 UNDECIDED), counted in words.
    """
    first, second = len(_FIRST.findall(line)), len(_SECOND.findall(line))
    return (first + UNDECIDED) / (first + second + 2 * UNDECIDED)


@lru_cache(maxsize=4096)
def asks_of_partner(card: str) -> bool:
    """Whether a sentence of the card in the first or second person is about asking, proposing or challenging."""
    return any(_OF_ASKING.search(sentence) and _I_OR_YOU.search(sentence) for sentence in re.split(r"[.!?\n]", card))


def engages(line: str) -> float:
    """0 (lectures), 1/2 (asks, or speaks in the first person) or 1 (both)."""
    return (("?" in line) + bool(_FIRST.search(line))) / 2


@lru_cache(maxsize=4096)
def _stems(text: str) -> frozenset[str]:
    return frozenset(_stem(word) for word in _WORD.findall(text.lower()) if word not in EMPTY_WORDS)


def _stem(word: str) -> str:
    return _SUFFIX.sub("", word)
