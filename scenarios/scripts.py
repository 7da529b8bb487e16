"""Writing systems: which script a text is written in, whether it puts blanks between words, and what its words are."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

import regex

_ENGLISH = frozenset({"LATIN"})
_KANA = frozenset({"HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"})
# scripts without blanks between words, as the inside of a character class of `regex`: Han, kana, Thai and its like
_BY_LETTER, _BY_RUN = r"\p{Han}\p{Hiragana}\p{LB=SA}\p{Tibetan}", r"\p{WB=Katakana}"
_BLANKLESS = regex.compile(rf"[[{_BY_LETTER}{_BY_RUN}]&&[\p{{L}}\p{{N}}]]", regex.V1)
_INSIDE = rf"[[\w\p{{M}}]--[{_BY_LETTER}{_BY_RUN}]]"  # of a word between blanks
_SPELLED = (
    rf"[[\p{{L}}\p{{N}}]--[{_BY_LETTER}{_BY_RUN}]]"
    rf"[[\p{{L}}\p{{N}}\p{{M}}\p{{WB=Extend}}\p{{WB=Format}}\p{{WB=ZWJ}}]--[{_BY_LETTER}{_BY_RUN}]]*+"
)
_WORD = regex.compile(rf"[[{_BY_LETTER}]&&[\p{{L}}\p{{N}}]]\p{{M}}*+|{_BY_RUN}++|{_SPELLED}(?:'{_SPELLED})*+", regex.V1)

# marks that end a sentence: of scripts with blanks between words, where a blank follows them, and of those without
SENTENCE_MARKS, WIDE_SENTENCE_MARKS = ".!?…؟۔।॥", "。！？｡"

# accents, vowel signs and tones, which `\w` leaves out: of Latin, Hebrew, Arabic, and the scripts of India and beyond
MARKS = (
    "\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u064b-\u065f\u0670\u0900-\u0963\u0966-\u0dff\u0e31\u0e34-\u0e3a\u0e47-\u0e4e"
    "\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece\u0f71-\u0f84\u102b-\u103e\u1056-\u1059\u17b4-\u17d3"
)
LETTER = rf"(?:[^\W\d_]|[{MARKS}])"
CAPITAL = (
    r"[^\W\d_a-zß-öø-ÿ]"  # a letter that is no small one, as far as Latin goes: scripts differ in having small ones
)


def words_of(text: str) -> list[str]:
    """The words of a text, as they stand: runs of letters and digits, with the apostrophes inside them.

    In a script without blanks between words they are those of UAX #29 (Unicode Text Segmentation), without a
    dictionary: each Han, kana or Thai letter, with the vowel signs and tones on it, and each run of katakana.
    """
    return _WORD.findall(text)


def count_words(text: str) -> int:
    """The number of words between blanks, each letter of a script without blanks for one; 0 for a blank text."""
    parts = text.split()
    if text.isascii():
        return len(parts)
    return sum(len(words_of(part)) if has_no_blanks(part) else 1 for part in parts)


def contains_words(text: str, phrase: str) -> bool:
    """Whether the text contains the phrase as whole words, with any blanks between them.

    In a script without blanks between words, wherever its letters stand.
    """
    words = r"\s+".join(map(regex.escape, phrase.split()))
    before = "" if has_no_blanks(phrase[:1]) else rf"(?<!{_INSIDE})"
    after = "" if has_no_blanks(phrase[-1:]) else rf"(?!{_INSIDE})"
    return regex.search(f"{before}{words}{after}", text, regex.V1) is not None


def has_no_blanks(text: str) -> bool:
    """Whether the text holds a letter of a script that puts no blanks between words."""
    return _BLANKLESS.search(text) is not None


def unreadable(text: str, patterns: Iterable[str]) -> str | None:
    """Why patterns find nothing in a text whatever it says: most of its letters are of a script that none of the
    patterns is written in. None where they may find something, and for a text without letters.
    """
    known = _scripts_of(tuple(patterns))
    foreign = _foreign(text, known)
    return foreign and (
        f"most letters are {foreign}, and the persona's patterns {' and '.join(sorted(known)).title() or 'empty'}"
    )


@lru_cache(maxsize=1 << 16)
def not_english(what: str, text: str) -> str | None:
    """Why a judge that knows English alone cannot read a text: most of its letters are of another script than English.

    `what` names the text in the reason. None where it can be read, and for a text without letters.
    """
    foreign = _foreign(text, _ENGLISH)
    return foreign and f"most letters of {what} are {foreign}, and this judge reads English"


def _foreign(text: str, known: frozenset[str]) -> str | None:
    """The script of most letters of the text, capitalised, where neither it nor that of most words is known."""
    if text.isascii() and known >= _ENGLISH:
        return None
    most = _most(text)
    if not most or most in known or _most(word[0] for word in words_of(text)) in known:  # "我住在London"
        return None
    return most.title()


def _most(characters: Iterable[str]) -> str | None:
    """The script of most of the letters; None where there are none."""
    scripts: Counter[str] = Counter()
    for character, times in Counter(characters).items():
        if script := _script(character):
            scripts[script] += times
    return max(scripts, key=lambda script: scripts[script], default=None)


@lru_cache(maxsize=256)
def _scripts_of(patterns: tuple[str, ...]) -> frozenset[str]:
    return frozenset(filter(None, (_script(letter) for text in patterns for letter in text.replace("{value}", ""))))


@lru_cache(maxsize=1 << 14)
def _script(character: str) -> str:
    """The script of a letter, by the first word of its Unicode name: LATIN, CJK (Han), KANA; "" for anything else."""
    if not character.isalpha():
        return ""
    script = unicodedata.name(character, "").partition(" ")[0]
    return "KANA" if script in _KANA else "" if script in ("MODIFIER", "FEMININE", "MASCULINE") else script
