"""What libraries say when something goes wrong, cut down to what fits into one sentence of ours."""

from __future__ import annotations

from scenarios.secrets import hidden


def first_line(error: Exception, most: int = 200) -> str:
    """The first line of its text, at most that many characters, no key in it; "no message" where it has none."""
    return (hidden(str(error)).strip() or "no message").splitlines()[0][:most]


def reason(error: Exception, most: int = 200) -> str:
    """Its kind, and the first line of its text."""
    return f"{type(error).__name__}: {first_line(error, most)}"
