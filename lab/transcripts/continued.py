"""A scoring that stopped, continued from its folder: `lab.score --resume`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydantic import Field, ValidationError

from lab.store.run_store import MANIFEST, read_manifest
from lab.transcripts.reading import read_transcripts
from lab.transcripts.scoring import Task, digest_of, read_task
from scenarios.fields import Strict
from scenarios.schema import Measure


class Scored(Strict):
    """What the manifest of a scoring says of it, as `lab.transcripts.scoring.open_scores` wrote it."""

    transcripts: list[str] = Field(min_length=1)
    form: str | None
    limit: int | None
    labels: str | None
    measure: Measure


def stored_task(folder: str | Path, *, against_labels: bool = False) -> Task:
    """The task of the scoring in a folder, with its transcripts read again.

    `against_labels` is as in `read_task`. Raises ValueError where the folder holds no scoring, or the transcripts are
    not what they were.
    """
    manifest = read_manifest(folder)
    if "scored" not in manifest:
        raise ValueError(f"{folder} was played and not scored; expected the folder of lab.score's results")
    try:
        scored = Scored.model_validate(manifest["scored"])
    except ValidationError as errors:
        error = errors.errors()[0]
        place = ".".join(map(str, ("scored", *error["loc"])))
        raise ValueError(f"{Path(folder) / MANIFEST}: {place} is not as it was written: {error['msg']}") from None
    sources = [read_transcripts(path, scored.form) for path in scored.transcripts]
    if digest_of(sources) != manifest.get("digest"):
        raise ValueError(
            f"{', '.join(scored.transcripts)}: changed since {folder} was begun; expected what it was then"
        )
    task = read_task(
        sources,
        judge=",".join(scored.measure.judge),
        metrics=",".join(scored.measure.metrics),
        labels=scored.labels,
        limit=scored.limit,
        against_labels=against_labels,
    )
    return replace(task, measure=scored.measure, seed=manifest["seed"])
