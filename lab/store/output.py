"""What commands print: nothing that a stranger wrote reaches a terminal as more than text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TextIO

from lab.store.atomic_write import dumps
from scenarios.messages import clean_lines, escaped


def say(text: str, *, file: TextIO | None = None, end: str = "\n", flush: bool = False) -> None:
    """Prints the text, cleaned (`scenarios.messages.clean_lines`), on `file` or else stdout."""
    print(clean_lines(text), file=file, end=end, flush=flush)


def say_json(value: Mapping, *, file: TextIO | None = None) -> None:
    """Prints the value as one line of JSON, in which such characters are escaped."""
    print(escaped(dumps(value).decode()), file=file)
