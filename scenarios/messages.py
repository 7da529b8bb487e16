"""What is said of errors: one sentence, with no keys or passwords in it and no terminal control characters."""

from __future__ import annotations

import os
import re
import unicodedata

NAMED = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)$")  # environment variables that hold one
SHORTEST = 8  # characters; what is shorter is hidden nowhere, since it may be any word
_IN_A_URL = re.compile(
    r"(?i)(?<=://)[^\s'\"@]+(?=@)|(?<=[?&])(?P<name>[^=&\s]*(?:key|token|secret|password)[^=&\s]*=)[^&\s'\"]+"
)


def hidden(text: str) -> str:
    """The text with every secret of the environment replaced by its variable's name in brackets, and by "…" what a URL
    logs in with.
    """
    for name, value in os.environ.items():
        if NAMED.search(name) and len(value) >= SHORTEST:
            text = text.replace(value, f"[{name}]")
    return _IN_A_URL.sub(lambda found: f"{found['name'] or ''}…", text)


def first_line(error: Exception, most: int = 200) -> str:
    """The first line of its text, at most that many characters, no key in it; "no message" where it has none."""
    return (hidden(str(error)).strip() or "no message").splitlines()[0][:most]


def reason(error: Exception, most: int = 200) -> str:
    """Its kind, and the first line of its text."""
    return f"{type(error).__name__}: {first_line(error, most)}"


def clean(text: str) -> str:
    """The text with control, format and line-breaking characters and lone surrogates as spaces, one for one."""
    return "".join(
        " " if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") and char != "\u200d" else char
        for char in text
    )
