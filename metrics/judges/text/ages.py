"""Ages in digits and words: "34", "thirty-four", "thirtieth", "late sixties"."""

from __future__ import annotations

import re
from collections.abc import Sequence

from metrics.judges.text.assertion import APOSTROPHE

_ONES: Sequence[str] = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS: Sequence[str] = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_NUMBER_WORD = (
    rf"(?:{'|'.join(_TENS)})(?:[\s-](?:{'|'.join(_ONES[:9])}))?|{'|'.join(sorted(_ONES, key=len, reverse=True))}|"
    r"(?:a\s+|one\s+)?hundred"
)
NUMBER = rf"(?:\d{{1,3}}|{_NUMBER_WORD})"
DECADE = rf"(?:(?:early|mid|late)[\s-])?(?:{'|'.join(ten[:-1] + 'ies' for ten in _TENS)}|[2-9]0{APOSTROPHE}?s)"
_HAN = "零一二三四五六七八九"
HAN_NUMBER = rf"[{_HAN}〇两兩十百]{{1,5}}"
_ORDINALS: Sequence[str] = "first second third fourth fifth sixth seventh eighth ninth".split()
ORDINAL = (
    rf"(?:(?:{'|'.join(_TENS)})[\s-])?(?:{'|'.join(_ORDINALS)})|"
    rf"(?:{'|'.join(ten[:-1] for ten in _TENS)})ieth|\d{{1,3}}(?:st|nd|rd|th)"
)
_YEARS = r"years?(?:[\s-]old|\s+of\s+age|\s+young|(?=\s*(?:[.,!;]|$)))"
NUMBER_ENDS = (  # "I am 34 minutes late" is no age
    rf"(?![\w%/:'’-]|[.,]\d)(?=\s*(?:$|[.,!;?)\"”—–]|{_YEARS}|"
    r"(?:and|but|now|so|this|today|already|or|with|as|then|which|still|too|yet|not|going|since|last|next|yesterday|in|on)\b))"
)
NUMBER_WORDS = frozenset(  # one of them is in every text that names an age in words
    {*_ONES, *_TENS, *(f"{ten[:-1]}ies" for ten in _TENS), *(f"{tens}0s" for tens in range(2, 10)), "hundred"}
    | {*_ORDINALS, *(f"{ten[:-1]}ieth" for ten in _TENS)}
)


def years(plain: str) -> str:
    """A folded text with a number of years as digits, "60s" for a decade; as it is where it names neither."""
    if decade := re.search(rf"\b{DECADE}$", plain):
        return _decade(decade[0])
    plain = re.sub(rf"\b(?:{ORDINAL})$", lambda ordinal: _cardinal(ordinal[0]), plain)
    if re.fullmatch(HAN_NUMBER, plain):
        return str(_han_number(plain))
    number = re.search(rf"\b{NUMBER}\b", plain)
    return str(_number(number[0])) if number else plain


def _number(words: str) -> int:
    """A number up to a hundred and twenty, from digits or words that `NUMBER` matched."""
    if words.isdigit():
        return int(words)
    if words.endswith("hundred"):
        return 100
    tens, *ones = re.split(r"[\s-]+", words)
    base = 10 * (_TENS.index(tens) + 2) if tens in _TENS else _ONES.index(tens) + 1
    return base + (_ONES.index(ones[0]) + 1 if ones else 0)


def _han_number(text: str) -> int:
    """A number below a thousand in Chinese numerals: 25 of "二十五"."""
    total, last = 0, 0
    for letter in re.sub("[两兩]", "二", text.replace("〇", "零")):
        if letter in "十百":
            total, last = total + (last or 1) * (10 if letter == "十" else 100), 0
        else:
            last = _HAN.index(letter)
    return total + last


def _cardinal(ordinal: str) -> str:
    """ "thirty five" from "thirty fifth", "30" from "30th"."""
    if ordinal[0].isdigit():
        return ordinal[:-2]
    if ordinal.endswith("ieth"):
        return ordinal.removesuffix("ieth") + "y"
    *tens, last = ordinal.split()
    return " ".join([*tens, _ONES[_ORDINALS.index(last)]])


def _decade(words: str) -> str:
    """ "60s" from "late sixties" or "60's"."""
    tens = next((place for place, ten in enumerate(_TENS) if ten[:-1] + "ies" in words), None)
    return f"{re.sub(r'[^0-9]', '', words) if tens is None else 10 * (tens + 2)}s"
