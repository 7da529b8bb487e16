"""The folder of a run, read for a report: frames, manifest, personas and figures as one `Side`."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from lab.progress.story import Story, story
from lab.reports.spend_text import spend_sentences
from lab.reports.transcript_reader import people
from lab.store.event_log import stream_events
from lab.store.frames import EVALUATION
from lab.store.run_store import read_frames, read_manifest
from lab.store.stored_frames import read_steps, read_stored
from metrics.entry import MISSING
from scenarios.records import Persona
from scenarios.yaml_files import read_yaml


@dataclass(frozen=True)
class Side:
    """One run of a page.

    `mark` is its letter on a page with several runs, "" for a single run; `people` is as in
    `lab.reports.transcript_reader`.
    """

    mark: str
    manifest: Mapping
    story: Story
    frames: Mapping[str, pl.DataFrame]  # turns, judgements, metrics; of a training steps and evaluation too
    people: Mapping[str, Mapping]
    confidence: float  # of its intervals, 0 to 1
    finding: Mapping | None = None  # of a study: what finding.json holds


def side(path: Path, mark: str = "") -> Side:
    """The run or training in a folder, with everything that a page shows. Raises ValueError where it is neither, or
    damaged.
    """
    from lab.store.finding import finding_of

    manifest, events, frames = read_run(path)
    if (path / "training.parquet").is_file():
        frames |= {
            "steps": read_steps(path / "training.parquet"),
            "evaluation": read_stored(path / "evaluation.parquet", EVALUATION, optional=True),
        }
    scenario = read_yaml(path / "scenario.yaml").data
    return Side(
        mark,
        manifest,
        events,
        frames,
        people(_cast(scenario, events)),
        _measure(scenario).get("confidence", 0.95),
        finding_of(path),
    )


def _measure(scenario: object) -> Mapping:
    """The `measure` settings of a stored scenario, or of scores; {} where there are none."""
    stored = scenario.get("scored", scenario) if isinstance(scenario, dict) else {}
    measure = stored.get("measure") if isinstance(stored, dict) else None
    return measure if isinstance(measure, dict) else {}


def _cast(scenario: object, events: Story) -> list[Persona]:
    """The personas of the speakers, for those that the scenario or its persona files still contain."""
    from scenarios.persona_schema import PersonaSpec
    from scenarios.personas import find_persona

    files = scenario.get("personas") if isinstance(scenario, dict) else None
    personas = []
    if not isinstance(scenario, dict) or not isinstance(files, list):
        return personas
    seats = scenario.get("seats")
    inline = {}
    for seat in seats.values() if isinstance(seats, dict) else ():
        with contextlib.suppress(ValueError, AttributeError):
            if isinstance(given := seat.get("persona"), dict):
                inline[given.get("id")] = PersonaSpec.model_validate(given)
    for who in sorted({who for talk in events.talks.values() for who in talk.cast.values()}):
        with contextlib.suppress(ValueError):
            personas.append(find_persona(inline.get(who, who), files))
    return personas


def read_run(path: Path) -> tuple[dict, Story, dict[str, pl.DataFrame]]:
    """The manifest of a run, the story of its events, and its frames by name.

    Raises ValueError where the folder is no run, or is damaged.
    """
    return read_manifest(path), story(stream_events(path)), read_frames(path)


def manifest_rows(manifest: Mapping) -> list[list]:
    """Information on a run as rows of (item, value): seed, device, models, versions and times."""
    return [
        ["seed", manifest.get("seed")],
        ["scenario digest", manifest.get("digest")],
        ["device", f"{manifest.get('device') or MISSING} {manifest.get('dtype') or ''}".strip()],
        *([f"model, {seat}", model] for seat, model in manifest.get("models", {}).items()),
        *([name, version or "not installed"] for name, version in manifest.get("versions", {}).items()),
        ["git revision", manifest.get("git_revision") or MISSING],
        ["started", manifest.get("started")],
        ["finished", manifest.get("finished") or MISSING],
        *(["notice", notice] for notice in manifest.get("notices", [])),
        *(["servers", sentence] for sentence in spend_sentences(manifest)),
    ]


def token_rows(manifest: Mapping) -> list[list]:
    """The numbers of tokens of a run by kind, as rows of (item, value)."""
    tokens = manifest.get("tokens", {})
    return [[f"tokens, {name.removeprefix('tokens_')}", f"{count:,}"] for name, count in tokens.items()]
