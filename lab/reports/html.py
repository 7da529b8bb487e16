"""The parts of a page (sections, tables, rows as plain records), and the Jinja2 templates that turn them into one HTML
file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PAGES = Path(__file__).parent / "pages"


@dataclass(frozen=True)
class Cell:
    """A cell; `loud` emphasises it, `faint` is grey."""

    text: str
    loud: bool = False
    link: str = ""
    faint: bool = False


@dataclass(frozen=True)
class TableRow:
    """A row; `apart` separates it from the row before."""

    cells: Sequence[Cell]
    apart: bool = False


@dataclass(frozen=True)
class Table:
    """A table; `folded` hides it until it is opened."""

    header: Sequence[str]
    rows: Sequence[TableRow]
    title: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Section:
    """A section of a page."""

    id: str
    title: str
    tables: Sequence[Table] = ()
    figures: Sequence[dict[str, str]] = ()  # svg, and what it shows in words
    texts: Sequence[str] = ()
    notes: Sequence[str] = ()


def sheet(title: str, sections: Sequence[Section], runs: Sequence[Mapping] = (), reader: Mapping | None = None) -> str:
    """A page of these sections, as HTML.

    `runs` has one mapping per run with `mark`, `id`, `status` and `summary` (a list of phrases); `reader` is the data
    of the transcript reader, where the page has one.
    """
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    environment = Environment(loader=FileSystemLoader(PAGES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    for section in sections:
        for figure in section.figures:
            figure["svg"] = Markup(figure["svg"])  # drawn here, by matplotlib, which escapes text
    return environment.get_template("report.html").render(
        title=title,
        runs=runs,
        sections=sections,
        reader=reader,
        style=Markup((PAGES / "report.css").read_text("utf-8")),
        script=Markup((PAGES / "reader.js").read_text("utf-8")),
    )
