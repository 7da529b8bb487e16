"""Texts of errors: one sentence, without keys, passwords or terminal control characters."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from typing import Any
from urllib.parse import quote, quote_plus

NAMED = re.compile(  # environment variables that hold one; PWD and OLDPWD are folders
    r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|(?:^|_|SSH)PASS|(?:^|_)PAT|_PWD|_CREDENTIALS?)_?\d*$",
    re.IGNORECASE,
)
SHORTEST = 8  # characters; what is shorter is hidden nowhere, since it may be any word
# what a URL logs in with: up to the last "@" before its path; where what stands for a port is no number, beyond a "/"
_LOGIN = re.compile(r"(?<=://)(?:[^\s/?#]+@|[^\s/?#@:]*+:(?!\d+[/?#])[^\s@]{1,200}+@)")
_PARAMETER = re.compile(r"(?<=[?&])[^=&\s]++=?")  # with a "=" at its end, the name of a URL's parameter
_SECRET_NAME = re.compile(r"key|token|secret|pass|pwd", re.IGNORECASE)
_VALUE = re.compile(r"[^&\s'\"]+")
_hidden_variables: set[str] = set()  # others that hold a secret, by name
_CLASS = (  # of a regular expression's class: control, format and line-breaking characters, and lone surrogates
    r"\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u180e\u200b\u200e-\u200f"
    r"\u2028-\u202e\u2060-\u2064\u2066-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd"
    r"\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f"
)
_UNSAFE_IN_LINES = re.compile(rf"(?![\n\t])[{_CLASS}]")
_UNSAFE = re.compile(f"[{_CLASS}]")
READ = 10_000  # characters of an error's text that are looked at: a server may send any number


def hide_variable(name: str) -> None:
    """From now on the value of that environment variable is hidden, whatever its name ends with."""
    _hidden_variables.add(name)


def hidden(text: str) -> str:
    """The text without secrets.

    Every secret of the environment, also as JSON, Python or a URL write it, is replaced by its variable's name in
    brackets, and the login of a URL by "…".
    """
    for form, name in _secrets():
        text = text.replace(form, f"[{name}]")
    return _without_values(_LOGIN.sub("…@", text))


def _secrets() -> list[tuple[str, str]]:
    """(a form of it, its variable) for each secret of the environment, the longest forms first."""
    secrets = {}
    for name, value in os.environ.items():
        if (NAMED.search(name) or name in _hidden_variables) and len(value) >= SHORTEST:
            data = os.fsencode(value)
            quoted = (quote(data, safe=""), quote(data), quote_plus(data))
            lower = (re.sub("%..", lambda code: code[0].lower(), form) for form in quoted)
            dumped = (json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1])
            secrets |= dict.fromkeys((value, *quoted, *lower, *dumped), name)
    return sorted(secrets.items(), key=lambda pair: -len(pair[0]))


def cut(text: str, most: int) -> str:
    """The text up to `most` characters, or up to a secret that would be cut in two."""
    end = most
    for form, _ in _secrets() if len(text) > most else ():
        start = text.find(form, max(0, most - len(form) + 1), most + len(form) - 1)
        end = min(end, start) if start >= 0 else end
    return text[:end]


def _without_values(text: str) -> str:
    """The text with "…" in place of the values of those URL parameters whose name indicates a secret."""
    parts, kept, here = [], 0, 0
    while name := _PARAMETER.search(text, here):
        here = name.end()
        value = _VALUE.match(text, here) if name[0].endswith("=") and _SECRET_NAME.search(name[0]) else None
        if value:
            parts += [text[kept:here], "…"]
            kept = here = value.end()
    return "".join([*parts, text[kept:]])


def first_line(error: Exception, most: int = 200) -> str:
    """The first line of the error's text, without secrets, cut at `most` characters; "no message" where there is
    none.
    """
    return (hidden(cut(str(error), READ)).strip() or "no message").splitlines()[0][:most]


def reason(error: Exception, most: int = 200) -> str:
    """The type of the error and the first line of its text."""
    return f"{type(error).__name__}: {first_line(error, most)}"


def parsed_json(text: str) -> object:
    """The parsed JSON with its texts in normal form C, or a ValueError that says what is wrong with it; raises
    nothing.
    """
    try:
        return composed(json.loads(text))
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}" if "\n" in text else f"column {error.colno}"
        return ValueError(f"is no JSON ({error.msg} at {at})")
    except RecursionError:
        return ValueError("is JSON nested too deep")
    except ValueError:  # a number of thousands of digits
        return ValueError("holds a number that is too long")


def composed(data: Any) -> Any:
    """The data with every text in Unicode's normal form C, in which equal letters have equal code points.

    Looks into lists and into the values of mappings; anything else is returned as it is.
    """
    if isinstance(data, str):
        return unicodedata.normalize("NFC", data)
    if isinstance(data, list):
        return [composed(item) for item in data]
    return {key: composed(value) for key, value in data.items()} if isinstance(data, dict) else data


def clean(text: str) -> str:
    """The text with a space for each character that a terminal may act upon: control, format and line-breaking
    characters, overrides of the direction of writing among them, and lone surrogates. The two joiners stay.
    """
    return _UNSAFE.sub(" ", text)


def clean_lines(text: str) -> str:
    """`clean`, but newlines and tabs stay."""
    return _UNSAFE_IN_LINES.sub(" ", text)


def escaped(json_text: str) -> str:
    """JSON in which those characters are escaped, and which says the same; newlines between its parts stay."""
    return _UNSAFE_IN_LINES.sub(lambda match: json.dumps(match[0])[1:-1], json_text)
