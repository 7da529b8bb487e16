"""Markdown for people: tables, quotations and titles, with all text from elsewhere escaped."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence

QUOTE = 160  # characters of a line quoted around the words that contradict


def escape(text: object) -> str:
    """The text as one line of Markdown that shows it literally: no markup, HTML, links, cell ends or control
    characters.
    """
    return _inline(str(text)).strip()


def _inline(text: str) -> str:
    flat = re.sub(r"\s+", " ", "".join(char if char.isprintable() else " " for char in text))
    escaped = re.sub(r"([\\`*_\[\]|~$@^])", r"\\\1", html.escape(flat, quote=False))
    return re.sub(r"(?i)\b(https?|ftp)(?=:)|\bwww(?=\.)", lambda match: match[0] + "<!-- -->", escaped)


def title(manifest: Mapping, *sentences: str) -> str:
    """The heading, and a sentence that says how the run ended, followed by the `sentences`."""
    head = f"# {escape(manifest.get('scenario') or manifest['run_id'])}"
    parts = [
        f"Run `{re.sub(r'[^ -_a-~]', '', manifest['run_id'])}`: **{escape(manifest.get('status'))}**",
        *([escape(manifest["reason"])] if manifest.get("reason") else []),
        *sentences,
    ]
    return f"{head}\n\n{'; '.join(parts)}."


def quote(text: str, span: tuple[int, int] | None) -> str:
    """The line, escaped and cut to about QUOTE characters, with the characters of `span` in bold."""
    start, end = span or (0, 0)
    first = max(0, min(start - QUOTE // 3, len(text) - QUOTE))
    last = max(end, first + QUOTE)
    bold = f"<b>{_inline(text[start:end])}</b>" if end > start else ""
    shown = f"{_inline(text[first:start])}{bold}{_inline(text[max(end, first) : last])}".strip()
    return ("… " if first else "") + shown + (" …" if last < len(text) else "")


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; the cells have to be escaped already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
