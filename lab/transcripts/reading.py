"""Reads existing conversations, assigns them to seats, and checks them.

The forms are chat JSONL (`messages`), labelled lines (`lines`, `personas`), the JSON published with "Consistently
Simulating Human Personas" (Abdulhai et al., arXiv 2511.00222; `conversation`, `P1`, `P2` and the judge's words), and
run folders. Files may be gzipped. Each record is recognised by its keys. A record that cannot be read is left out and
reported with file and line; a file without any readable record raises ValueError.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lab.store.event_log import read_events
from lab.store.frames import turns_frame
from lab.store.resume import stored
from lab.store.run_store import read_manifest
from lab.transcripts.record_forms import FORMS, parse_json, transcript_of
from lab.transcripts.transcript import Source, Transcript, lines_of
from scenarios import personas as people
from scenarios.records import Line
from scenarios.scenario import Scenario, load_scenario
from scenarios.suggestions import nearest_path

if TYPE_CHECKING:
    import polars as pl


GZIP = b"\x1f\x8b"
EXPECTED = f"{FORMS}, or a run's folder"


def read_transcripts(path: str | Path) -> Source:
    """The conversations of a file or a run folder, numbered as in the run, or from 0.

    Raises ValueError, with file, line and what was expected, where none can be read.
    """
    path = Path(path)
    if path.is_dir():
        return _run(path)
    return read_records(path, _bytes(path))


def read_records(path: str | Path, data: bytes) -> Source:
    """The conversations of JSON or JSON lines, numbered from 0; `path` names their origin in messages.

    Raises ValueError, with path, line and what was expected, where none can be read.
    """
    path = Path(path)
    transcripts: list[tuple[str, Transcript]] = []
    left_out: list[str] = []
    for where, record in _records(path, data):
        try:
            if isinstance(record, ValueError):
                raise record
            form, transcript = transcript_of(record, len(transcripts))
        except ValueError as error:
            left_out.append(f"{path}, {where}: {error}")
        else:
            transcripts.append((form, transcript))
    if not transcripts:
        raise ValueError(left_out[0] if left_out else f"{path}, line 1: there is no conversation; expected {FORMS}")
    form = "; ".join(dict.fromkeys(form for form, _ in transcripts))
    return Source(
        str(path),
        form,
        tuple(transcript for _, transcript in transcripts),
        hashlib.sha256(data).hexdigest(),
        tuple(left_out),
    )


# -- files


def read_text(path: Path, expected: str = EXPECTED, data: bytes | None = None) -> str:
    """The text of a file, gzipped or not. Raises ValueError, ending in `expected`, where it is missing or not UTF-8."""
    try:
        return (_bytes(path, expected) if data is None else data).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {line}: is no text in UTF-8; expected {expected}") from None


def _bytes(path: Path, expected: str = EXPECTED) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data.startswith(GZIP) else data
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is a damaged gzip file ({error}); expected a whole one") from None
    except OSError as error:
        hint = nearest_path(path) or f"; expected {expected}"
        raise ValueError(f"{path} cannot be read ({error.strerror or error}){hint}") from None


def _records(path: Path, data: bytes) -> Iterator[tuple[str, object]]:
    """(where, record) of a JSON list, of JSON lines, or of one JSON object; the record of a line that is no JSON is a
    ValueError.
    """
    text = read_text(path, data=data)
    if text.lstrip().startswith("["):
        listed = parse_json(text)
        if isinstance(listed, ValueError):
            raise ValueError(f"{path}: {listed}")
        yield from ((f"conversation {number}", record) for number, record in enumerate(cast("list", listed)))
        return
    lines = [(f"line {number}", line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if (
        lines
        and isinstance(parse_json(lines[0][1]), ValueError)
        and not isinstance(whole := parse_json(text), ValueError)
    ):
        yield lines[0][0], whole
        return
    yield from ((where, parse_json(line)) for where, line in lines)


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
