"""Writing systems: which script a text is written in, whether it puts blanks between words, and what its words are."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

_ENGLISH = frozenset({"LATIN"})
_KANA = frozenset({"HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"})
# Thai, Lao, Tibetan, Myanmar, Khmer, kana and Han letters, as the inside of a character class
BLANKLESS = (
    "\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46\u0e81-\u0eb0\u0eb2\u0eb3\u0ebd-\u0ec6\u0edc-\u0edf\u0f40-\u0f6c"
    "\u1000-\u102a\u103f\u1050-\u1055\u1780-\u17b3\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
)
_BLANKLESS = re.compile(f"[{BLANKLESS}]")


# accents, vowel signs and tones, which `\w` leaves out: of Latin, Hebrew, Arabic, and the scripts of India and beyond
MARKS = (
    "\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u064b-\u065f\u0670\u0900-\u0963\u0966-\u0dff\u0e31\u0e34-\u0e3a\u0e47-\u0e4e"
    "\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece\u0f71-\u0f84\u102b-\u103e\u1056-\u1059\u17b4-\u17d3"
)
LETTER = rf"(?:[^\W\d_]|[{MARKS}])"
CAPITAL = (
    r"[^\W\d_a-zß-öø-ÿ]"  # a letter that is no small one, as far as Latin goes: scripts differ in having small ones
)
_WORD = re.compile(
    rf"[{BLANKLESS}][{MARKS}]*|(?:(?![{BLANKLESS}])[^\W_]|[{MARKS}])+(?:'(?:(?![{BLANKLESS}])[^\W_]|[{MARKS}])+)*"
)


def words_of(text: str) -> list[str]:
    """The words of a text, as they stand: runs of letters and digits, with the apostrophes inside them.

    In a script without blanks between words, each letter counts as a word, with the vowel signs and tones on it.
    """
    return _WORD.findall(text)


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
    """The script of most letters of the text, capitalised, where it is none of those known."""
    scripts = Counter(filter(None, map(_script, text)))
    most = max(scripts, key=lambda script: scripts[script], default=None)
    return most.title() if most and most not in known else None


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
