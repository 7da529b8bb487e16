"""The format of manifest.json: its fields, and how a stored one is checked."""

# Annotations are not postponed here: what is required follows from NotRequired itself.

from functools import cache
from pathlib import Path
from typing import Any, NotRequired

from pydantic import TypeAdapter

from lab.store.event_parts import SpendRow, ValidityRow
from lab.store.fields import CONFIG, Amount, Many, Record, Seconds, Seed, read_record


class Validation(Record):
    """What the judges made of planted lines: the content of a `validated` event."""

    rows: Many[ValidityRow]
    omitted: Many[str]


class ScoredFrom(Record):
    """What was scored, and how; `lab.transcripts.continued` reads it."""

    transcripts: Many[str]
    form: NotRequired[str | None]
    limit: NotRequired[int | None]
    labels: NotRequired[str | None]
    measure: NotRequired[dict[str, Any]]


class Manifest(Record):
    """The fields that are read; others are kept as they are. All follow from `lab.store.run_store.create`, from
    `lab.store.frames.Totals`, or from the command that wrote the folder.
    """

    __pydantic_config__ = {**CONFIG, "extra": "allow"}  # pyright: ignore[reportGeneralTypeIssues]

    run_id: str
    status: NotRequired[str]  # running, finished, failed, interrupted
    reason: NotRequired[str | None]
    scenario: NotRequired[str]
    digest: NotRequired[str]
    seed: NotRequired[Seed]
    versions: NotRequired[dict[str, str | None]]
    git_revision: NotRequired[str | None]
    device: NotRequired[str | None]
    dtype: NotRequired[str | None]
    models: NotRequired[dict[str, str]]
    started: NotRequired[str | None]
    finished: NotRequired[str | None]
    resumed: NotRequired[Many[str]]
    counts: NotRequired[dict[str, Amount | None]]
    tokens: NotRequired[dict[str, Amount]]
    seconds: NotRequired[dict[str, Seconds]]
    notices: NotRequired[Many[str]]
    validation: NotRequired[Validation]
    spend: NotRequired[Many[SpendRow]]
    scored: NotRequired[ScoredFrom]
    left_out: NotRequired[Many[str]]
    stopped: NotRequired[str | None]
    kind: NotRequired[str]
    trials: NotRequired[dict[str, Amount]]
    verdict: NotRequired[str | None]
    answers: NotRequired[Amount]


def checked_manifest(file: Path) -> dict:
    """The manifest in a file. Raises ValueError, with the key, what is there and what was expected."""
    return read_record(file, _schema(), "the manifest of a run")


@cache
def _schema() -> TypeAdapter[Any]:
    return TypeAdapter(Manifest)
