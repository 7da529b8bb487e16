"""Reads existing conversations, assigns them to seats, and checks them.

The forms are those of `lab.transcripts.chat_forms` (chat messages, ShareGPT, LMSYS and WildChat, TRL, tau2-bench,
inspect_ai, labelled lines, the JSON published with "Consistently Simulating Human Personas", Abdulhai et al., arXiv
2511.00222) as JSON, JSON lines, parquet or data sets of the hub, and run folders. Files may be gzipped; text is UTF-8,
or UTF-16 with a byte order mark. Each record is recognised by its keys. A record that cannot be read is left out and
reported with file and line; a file without any readable record raises ValueError.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lab.store.event_log import read_events
from lab.store.foreign_parquet import PARQUET, parquet_rows
from lab.store.frames import turns_frame
from lab.store.hub_rows import HUB, hub_rows
from lab.store.resume import stored
from lab.store.run_store import read_manifest
from lab.transcripts.chat_forms import CARDS, FORMS, IDS
from lab.transcripts.chat_forms import EXPECTED as KNOWN
from lab.transcripts.record_forms import conversations_in, parse_json, transcript_of
from lab.transcripts.transcript import Source, Transcript, lines_of
from scenarios import personas as people
from scenarios.input_files import LARGEST, UTF_16, content
from scenarios.messages import composed
from scenarios.records import Line
from scenarios.scenario import Scenario, load_scenario
from scenarios.suggestions import nearest

if TYPE_CHECKING:
    import polars as pl


NO_UTF_8 = re.compile("[\udc80-\udcff]")  # what "surrogateescape" makes of a byte that is no UTF-8
ZIP = b"PK\x03\x04"
EXPECTED = f"{KNOWN}, or a run's folder"
MOST_ROWS = 100_000  # of a parquet file, of a data set
MOST_OF_HUB = 1000  # conversations of a data set, where no limit is given
COLUMNS = frozenset(  # of a parquet file or a data set, that are read
    {"messages", "conversations", "conversation", "conversation_a", "conversation_b", "prompt", "completion", "chosen"}
    | {"rejected", "personas", "seats", "given", "lines", "roles", "traj", *CARDS, *IDS}
)


def read_transcripts(path: str | Path, form: str | None = None, limit: int | None = None) -> Source:
    """The conversations of a file, a run folder or a data set `hf:owner/name[/config][:split]`, numbered as in the run,
    or from 0.

    `form` is one of the forms of `lab.transcripts.chat_forms`, or None to recognise it by the keys. Of a data set, rows
    are read until there are `limit` conversations (None: MOST_OF_HUB). Raises ValueError, with file, line and what was
    expected, where none can be read.
    """
    if os.fspath(path).startswith(HUB):
        return _of_hub(os.fspath(path), form, MOST_OF_HUB if limit is None else max(1, limit))
    path = Path(path)
    if path.is_dir():
        return _run(path)
    return read_records(path, _bytes(path), form)


def read_records(path: str | Path, data: bytes, form: str | None = None) -> Source:
    """The conversations of JSON, JSON lines or parquet, numbered from 0; `path` names their origin in messages.

    `form` is as in `read_transcripts`. Raises ValueError, with path, line and what was expected, where none can be
    read.
    """
    path = Path(path)
    rows = _parquet(path, data) if data.startswith(PARQUET) else _records(path, data)
    return _collected(str(path), rows, form, hashlib.sha256(data).hexdigest())


def _of_hub(name: str, form: str | None, most: int) -> Source:
    """The first conversations of a data set: those before the row with which there would be more than `most`, or those
    of one row. The source holds the rows too.
    """
    kept: list[bytes] = []
    whole = False

    def rows() -> Iterator[tuple[str, object]]:
        nonlocal whole
        size = 0
        for where, row in itertools.islice(hub_rows(name), MOST_ROWS):
            given: dict = row if isinstance(row, dict) else {}
            columns = _columns(name, list(given)) if given else ()
            text = json.dumps({key: given[key] for key in columns if given[key] is not None}, default=str)
            kept.append(f"{text}\n".encode())
            size += len(kept[-1])
            if size > LARGEST:
                raise ValueError(f"{name} has rows of more than {LARGEST >> 20} MiB; expected a limit below {most}")
            yield where, parse_json(text)
        whole = True

    _collected(name, rows(), form, "", most)
    data = b"".join(kept if whole else kept[: max(1, len(kept) - 1)])
    source = read_records(name, data, form)
    note = f"stopped at the limit of {most} conversations; --limit N reads more"
    return replace(source, notes=(*source.notes, note) if not whole else source.notes, records=data)


def _collected(
    path: str, rows: Iterable[tuple[str, object]], form: str | None, digest: str, most: int | None = None
) -> Source:
    """The conversations of all rows, or of those up to the one with which there are more than `most`."""
    if form is not None and form not in FORMS:
        raise ValueError(f"the form is {form!r}{nearest(form, list(FORMS))}")
    transcripts: list[Transcript] = []
    words: dict[str, None] = {}
    left_out: list[str] = []
    repeated = 0
    for where, record in rows:
        for inner, read in _read(record, form, len(transcripts)):
            if isinstance(read, ValueError):
                left_out.append(f"{path}, {where}{inner and f', {inner}'}: {read}")
                continue
            kind, transcript = read
            words[kind] = None
            if kind.startswith(FORMS["trl"].words) and transcripts and _begins(transcripts[-1], transcript):
                repeated += 1
                transcripts[-1] = transcript.numbered(transcripts[-1].conversation)
            else:
                transcripts.append(transcript)
        if most is not None and len(transcripts) > most:
            break
    if not transcripts:
        raise ValueError(left_out[0] if left_out else f"{path}, line 1: there is no conversation; expected {KNOWN}")
    note = f"rows that the next row continues, and that are counted with it: {repeated}"
    return Source(
        path,
        "; ".join(words),
        tuple(transcripts),
        digest,
        tuple(left_out),
        notes=(note,) * bool(repeated),
        asked=form,
    )


def _read(record: object, form: str | None, number: int) -> Iterator[tuple[str, tuple[str, Transcript] | ValueError]]:
    """(where in the record, its form in words and the conversation) for each conversation of a record, numbered from
    `number`; a ValueError in place of one that cannot be read.
    """
    try:
        if isinstance(record, ValueError):
            raise record
        for name, where, conversation in conversations_in(record, form):
            try:
                read = transcript_of(name, conversation, number)
                number += 1
            except ValueError as error:
                read = error
            yield where, read
    except ValueError as error:
        yield "", error


def _begins(first: Transcript, second: Transcript) -> bool:
    """Whether the second conversation says what the first says, and goes on."""
    lines = [[(line.seat, line.persona, line.text) for line in each.lines] for each in (first, second)]
    return len(lines[0]) < len(lines[1]) and lines[1][: len(lines[0])] == lines[0]


# -- files


def read_text(path: Path, expected: str = EXPECTED, data: bytes | None = None) -> str:
    """The text of a file, gzipped or not, in UTF-8, or in UTF-16 with a byte order mark.

    Raises ValueError, ending in `expected`, where it is missing or no such text.
    """
    data = _bytes(path, expected) if data is None else data
    code = "utf-16" if data.startswith(UTF_16) else "utf-8-sig"
    try:
        return data.decode(code)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        name = code.removesuffix("-sig").upper()
        raise ValueError(f"{path}, line {line}: is no text in {name}; expected {expected}") from None


def _bytes(path: Path, expected: str = EXPECTED) -> bytes:
    """The content of a regular file, decompressed where it is gzipped; at most LARGEST bytes."""
    data = content(path, LARGEST, expected, "a smaller file, or parts of it")
    if data.startswith(ZIP):
        raise ValueError(f"{path} is a zip file; expected JSON, as inspect log convert --to json makes it")
    return data


def _records(path: Path, data: bytes) -> Iterator[tuple[str, object]]:
    """(where, record) of a JSON list, of JSON lines, or of one JSON object; the record of a line that is no JSON is a
    ValueError.
    """
    try:
        text, damaged = read_text(path, data=data), False
    except ValueError:
        if data.startswith(UTF_16):
            raise
        text, damaged = data.decode("utf-8-sig", "surrogateescape"), True
    for where, record in _split(path, text):
        if damaged and NO_UTF_8.search(record if isinstance(record, str) else json.dumps(record, ensure_ascii=False)):
            yield where, ValueError("is no text in UTF-8; expected it, or UTF-16 with a byte order mark")
        else:
            yield where, parse_json(record) if isinstance(record, str) else record


def _split(path: Path, text: str) -> Iterator[tuple[str, object]]:
    """(where, record) as in `_records`; of JSON lines, the line as text."""
    if text.lstrip().startswith("["):
        listed = parse_json(text)
        if isinstance(listed, ValueError) and isinstance(parse_json(text.lstrip().partition("\n")[0]), ValueError):
            raise ValueError(f"{path}: {listed}")
        if isinstance(listed, list) and listed and all(_is_message(item) for item in listed):
            yield "line 1", listed
            return
        if isinstance(listed, list):
            yield from ((f"conversation {number}", record) for number, record in enumerate(listed))
            return
    lines = [(f"line {number}", line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if (
        lines
        and isinstance(parse_json(lines[0][1]), ValueError)
        and not isinstance(whole := parse_json(text), ValueError)
    ):
        yield lines[0][0], whole
        return
    yield from lines


def _is_message(item: object) -> bool:
    return isinstance(item, dict) and ("role" in item or "from" in item)


def _parquet(path: Path, data: bytes) -> Iterator[tuple[str, object]]:
    """(where, record) of the rows of a parquet file, with those of its columns that forms have."""

    rows = parquet_rows(path, data, lambda columns: _columns(path, columns), MOST_ROWS + 1)
    for number, row in enumerate(rows, start=1):
        if number > MOST_ROWS:
            raise ValueError(f"{path} has more than {MOST_ROWS:,} rows; expected a part of it")
        yield f"row {number}", composed({key: value for key, value in row.items() if value is not None})


def _columns(path: str | Path, columns: Sequence[str]) -> list[str]:
    """The columns that forms have. Raises ValueError where there is none."""
    if not (kept := [name for name in columns if name in COLUMNS]):
        raise ValueError(f"{path} has no column of a conversation; expected {KNOWN}")
    return kept


# -- runs


def _run(path: Path) -> Source:
    """The conversations of a run with the personas that its scenario casts. Raises ValueError where other personas
    played.
    """
    manifest, events = read_manifest(path), read_events(path)
    if manifest.get("scored"):
        origin = ", ".join(manifest["scored"]["transcripts"])
        raise ValueError(f"{path} was scored and not played; expected what it was scored from: {origin}")
    scenario, transcripts = seated(path, turns_frame(manifest["run_id"], events))
    if not transcripts:
        raise ValueError(f"{path / 'events.jsonl'} holds no line; expected a run in which something was said")
    changed = scenario.digest() != manifest.get("digest")
    note = f"{path}: the scenario or its persona files may have changed since it was played" if changed else None
    return Source(
        str(path),
        "a run of the lab",
        transcripts,
        hashlib.sha256((path / "events.jsonl").read_bytes()).hexdigest(),
        scenario=scenario,
        notes=(note,) if note else (),
    )


def seated(path: Path, turns: pl.DataFrame) -> tuple[Scenario, tuple[Transcript, ...]]:
    """The scenario of a run, and its conversations with the personas that the scenario casts.

    Raises ValueError where other personas played.
    """
    scenario = load_scenario(path / "scenario.yaml")
    cast = people.cast(scenario)
    for number, seat, played in turns.select("conversation", "seat", "persona").unique(maintain_order=True).rows():
        now = cast[number][seat].id if number < len(cast) else "nobody"
        if played != now:
            raise ValueError(
                f"{path}: conversation {number} was played with {played} as {seat}, but its scenario and persona files "
                f"now cast {now}; expected them as they were"
            )
    given = {name for name, node in scenario.graph.nodes.items() if node.says}
    origins = stored(read_events(path)).origins if scenario.fork else {}  # how its kept lines came about

    def ready(line: Line) -> bool:
        here = origins.get((line.conversation, line.turn))
        return here["ready"] if here else line.node in given

    return scenario, tuple(
        Transcript(number, None, cast[number], lines, frozenset(line.turn for line in lines if ready(line)))
        for number, lines in lines_of(turns)
    )
