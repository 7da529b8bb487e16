"""The records of a file of personas, recognised by its content and read as a stream where the format allows it.

A record is a text, a list of texts, or a mapping, with the place where it stands. What is too large is left out or
refused before it is parsed.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from lab.store.foreign_parquet import PARQUET, parquet_rows
from scenarios.input_files import LARGEST, content, opened
from scenarios.messages import parsed_json

Row = tuple[str, object]  # where it stands, and the record, or a ValueError in its place
FORMS = ("jsonl", "json", "png", "personachat", "csv", "tsv", "parquet", "yaml", "text")
EXPECTED = (
    "JSON or JSON lines (PersonaHub, character cards, TinyTroupe, PersonaChat), a PNG character card, PersonaChat's "
    "text lines, CSV, TSV or parquet with a text column, or the lab's YAML; --form text takes each paragraph as a card"
)
PERSONAS = "a file of personas"
LONGEST_ROW = 2**20  # characters of a line, of a cell
LARGEST_FILE = 64 * 2**20  # bytes of a file that has to be read whole
SENTENCES = 10  # texts that a list may hold to be one persona; of a longer list, each text is one
FIRST = 5  # lines of which one has to be JSON, where lines are
HEAD = 2**16  # characters by which a format is recognised
PNG = b"\x89PNG\r\n\x1a\n"
PERSONA_LINE = re.compile(r"^\s*(?:(\d{1,6})\s+)?(your|partner['’]s) persona:[ \t]*(.*)$", re.IGNORECASE)


def form_of(path: Path) -> str:
    """One of FORMS, by the content of the file. Raises ValueError where it is none of them."""
    with opened(path, PERSONAS) as file:
        head = file.read(HEAD)
    if head.startswith(PNG):
        return "png"
    if head.startswith(PARQUET):
        return "parquet"
    text = head.decode("utf-8-sig", "surrogateescape")
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        raise ValueError(f"{path} is empty; expected {EXPECTED}")
    if lines[0].lstrip().startswith("{"):
        return "jsonl" if any(isinstance(parsed_json(line), dict) for line in lines[:FIRST]) else "json"
    if lines[0].lstrip().startswith("["):
        return "json" if len(lines) == 1 or isinstance(parsed_json(lines[0]), ValueError) else "jsonl"
    if any(PERSONA_LINE.match(line) for line in lines[:3]):
        return "personachat"
    if re.search(r"^personas:", text, re.MULTILINE):
        return "yaml"
    for mark, form in (("\t", "tsv"), (",", "csv")):
        if mark in lines[0]:
            return form
    if len(lines) > 1 and column_of([cell.strip().strip('"') for cell in lines[:1]], None):
        return "csv"  # of one column
    raise ValueError(f"{path} is of no known form; expected {EXPECTED}")


def rows_of(path: Path, form: str, column: str | None, most: int) -> Iterator[Row]:
    """The records of the file, at most about `most` of a parquet file. Raises ValueError where it cannot be read."""
    if form in ("csv", "tsv"):
        return _table(path, "\t" if form == "tsv" else ",", column)
    if form == "parquet":
        return _parquet(path, column, most)
    if form == "jsonl":
        return ((where, parsed_json(line) if isinstance(line, str) else line) for where, line in _lines(path))
    if form == "json":
        return _json(path)
    return _personachat(path) if form == "personachat" else _paragraphs(path)


def whole(path: Path) -> bytes:
    """The content of a file, decompressed where it is gzipped. Raises ValueError beyond LARGEST_FILE bytes."""
    return content(path, LARGEST_FILE, PERSONAS, "a smaller file, or JSON lines or CSV, which are read row by row")


def column_of(columns: Sequence[str], asked: str | None) -> str | None:
    """The column that holds the text of a persona; None where there is none."""
    if asked is not None:
        return asked if asked in columns else None
    lower = {name.strip().lower(): name for name in columns}
    return next((lower[name] for name in TEXT_KEYS if name in lower), None)


TEXT_KEYS = (  # of a record or a table, the first that is there
    *("card", "input persona", "persona", "about", "personality", "personas", "user 1 personas"),
    *("persona_description", "character", "profile", "bio", "biography", "backstory", "description", "text", "content"),
)


def _lines(path: Path) -> Iterator[tuple[str, str | ValueError]]:
    """(place, line) of each line that is not blank; a ValueError for one that is too long or no UTF-8."""
    with opened(path, PERSONAS) as file:
        for number in itertools.count(1):
            line = file.readline(LONGEST_ROW + 1)
            if not line:
                return
            where = f"line {number}"
            if len(line) > LONGEST_ROW:
                while line and not line.endswith(b"\n"):
                    line = file.readline(LONGEST_ROW)
                yield where, ValueError(f"is longer than {LONGEST_ROW:,} bytes")
                continue
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                yield where, ValueError("is no text in UTF-8")
            else:
                if text.strip():
                    yield where, text.rstrip("\r\n")


def _json(path: Path) -> Iterator[Row]:
    data = parsed_json(whole(path).decode("utf-8-sig", "surrogateescape"))
    if isinstance(data, ValueError):
        raise ValueError(f"{path}: {data}; expected {EXPECTED}")
    if isinstance(data, dict) and len(data) == 1 and isinstance(inner := next(iter(data.values())), list):
        data = inner  # {"personas": [...]}, {"characters": [...]}
    if isinstance(data, list) and (len(data) > SENTENCES or not all(isinstance(item, str) for item in data)):
        yield from ((f"entry {number}", item) for number, item in enumerate(data, start=1))
    elif data != []:
        yield "line 1", data


def _personachat(path: Path) -> Iterator[Row]:
    """The personas of each episode, as lists of sentences: the speaker's, then its partner's."""
    whose: dict[str, list[str]] = {}
    begun, last = "", 0
    for where, line in _lines(path):
        match = PERSONA_LINE.match(line) if isinstance(line, str) else None
        number = int(match[1] or last + 1) if match else 0
        if match and (number < last or not whose):
            yield from ((begun, sentences) for sentences in whose.values())
            whose, begun = {}, where
        if match:
            whose.setdefault(match[2].lower(), []).append(match[3])
        last = number or (10**6 + 1 if whose else 0)  # a line of dialogue: the next persona is another's
    yield from ((begun, sentences) for sentences in whose.values())


def _paragraphs(path: Path) -> Iterator[Row]:
    begun, lines, size = "", [], 0
    with opened(path, PERSONAS) as file:
        for number, line in enumerate(_bounded(file), start=1):
            text = line.decode("utf-8-sig" if number == 1 else "utf-8", "surrogateescape").strip()
            if text and size <= LONGEST_ROW:
                begun, size = begun or f"line {number}", size + len(text)
                lines.append(text)
            elif not text and lines:
                yield begun, "\n".join(lines)
                begun, lines, size = "", [], 0
    if lines:
        yield begun, "\n".join(lines)


def _table(path: Path, mark: str, column: str | None) -> Iterator[Row]:
    csv.field_size_limit(LONGEST_ROW)
    with opened(path, PERSONAS) as file:
        text = (line.decode("utf-8", "surrogateescape") for line in _bounded(file))
        reader = csv.reader(text, delimiter=mark)
        try:
            first = next(reader, [])
        except csv.Error as error:
            raise ValueError(f"{path}, line 1: is no row of a table ({error}); expected {EXPECTED}") from None
        header = [cell.removeprefix("\udcef\udcbb\udcbf").removeprefix("\ufeff").strip() for cell in first]
        _check_column(path, header, column)
        while True:
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield f"line {reader.line_num}", ValueError(f"is no row of the table ({error})")
                continue
            if cells is None:
                return
            if any(cell.strip() for cell in cells):
                yield f"line {reader.line_num}", dict(zip(header, cells, strict=False))


def _bounded(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file, in parts of at most LONGEST_ROW bytes."""
    while line := file.readline(LONGEST_ROW):
        yield line


def _check_column(path: Path, columns: Sequence[str], column: str | None) -> None:
    if column_of(columns, column) is None:
        wanted = f"--column is {column!r}" if column else "no column is named like the text of a persona"
        raise ValueError(
            f"{path}, line 1: {wanted}; its columns are {', '.join(columns[:12])}; expected one of them by --column"
        )


def _parquet(path: Path, column: str | None, most: int) -> Iterator[Row]:
    def read(columns: Sequence[str]) -> list[str]:
        _check_column(path, columns, column)
        return [name for name in columns if name == column_of(columns, column) or name.lower() in ("name", "full_name")]

    rows = parquet_rows(path, content(path, LARGEST, PERSONAS), read, most)
    yield from ((f"row {number}", row) for number, row in enumerate(rows, start=1))
