"""Judges and measures stored transcripts: what `lab.score` carries out."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.store.output import say
from lab.store.session import LOG, Apart, aside
from scenarios.messages import clean

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from lab.store.run_store import RunStore
    from lab.transcripts.labels import Calibrated
    from lab.transcripts.transcript import Source, Transcript
    from scenarios.scenario import Scenario
    from scenarios.schema import Measure


TRANSCRIPTS = "transcripts{}.jsonl"  # of results: conversations that were no file
DTYPES = ("auto", "bfloat16", "float32", "float16")
DEFAULT_METRICS = "prompt_to_line,line_to_line,contradictions"
SHOWN = 5  # unreadable conversations that are reported one by one
PIPED = 120  # columns where the output is no terminal


@dataclass(frozen=True)
class Task:
    """What is to be scored, and how; `limit` and `labels` are the arguments of `read_task`."""

    sources: Sequence[Source]
    transcripts: Sequence[Transcript]
    measure: Measure
    seed: int
    limit: int | None = None
    labels: str | None = None


# -- what is to be done


def read_task(
    sources: Sequence[Source],
    *,
    judge: str | None = None,
    metrics: str = DEFAULT_METRICS,
    overrides: Sequence[str] = (),
    labels: str | None = None,
    limit: int | None = None,
    against_labels: bool = False,
) -> Task:
    """The task for transcripts that were read, checked as far as possible without a model.

    - `judge`, `metrics`: names, separated by commas.
    - `overrides`: items such as `measure.key=value`.
    - `labels`: a file of people's labels.
    - `limit`: only the first conversations, as many as it says.
    - `against_labels`: whether judges will be compared with labels.

    Raises ValueError, one sentence, for anything that is missing or not valid.
    """
    from lab.transcripts.labels import attach
    from lab.transcripts.transcript import numbered
    from scenarios.schema import DEFAULT_JUDGES

    everyone = numbered(sources)
    if labels:
        everyone = attach(everyone, Path(labels))
    if limit is not None and limit < 1:
        raise ValueError(f"--limit is {limit}; expected 1 or more")
    transcripts = everyone[:limit]
    if against_labels and not any(
        label is not None for transcript in transcripts for label in transcript.labels.values()
    ):
        paths = ", ".join(source.path for source in sources)
        raise ValueError(f"{paths}: no line is labelled; expected labelled transcripts, or --labels FILE")
    scenario = next((source.scenario for source in sources if source.scenario), None)
    measure = measure_of(judge or ",".join(DEFAULT_JUDGES), metrics, overrides, scenario)
    return Task(sources, transcripts, measure, scenario.seed if scenario else 0, limit, labels)


def paths_and_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments that name files or folders, and those of the form key=value, which are no paths that are there."""
    paths = [argument for argument in arguments if "=" not in argument or Path(argument).exists()]
    return paths, [argument for argument in arguments if argument not in paths]


def check_outputs(json: str | None, plot: str | None, against_labels: bool) -> None:
    """Raises ValueError where the JSON file or the reliability plot cannot be written, or there would be no plot."""
    if plot and not against_labels:
        raise ValueError("--plot draws judges against labels; expected --against labels beside it")
    if plot and not plot.lower().endswith(".png"):
        raise ValueError(f"--plot is {plot}; expected a name that ends with .png")
    for option, path in {"json": json, "plot": plot}.items():
        if path and (Path(path).is_dir() or not Path(path).absolute().parent.is_dir()):
            raise ValueError(f"--{option} is {path}; expected a file in a folder that is there")


def measure_of(judges: str, metrics: str, overrides: Sequence[str] = (), scenario: Scenario | None = None) -> Measure:
    """The settings of the scenario, or the defaults, with these names (separated by commas) and overrides over them.

    Raises ValueError with the option or key.
    """
    from pydantic import BaseModel, ConfigDict

    from metrics.catalogue import needed
    from metrics.entry import ACTIVATIONS
    from scenarios.overrides import as_items, override
    from scenarios.schema import Measure
    from scenarios.yaml_files import ScenarioError, dump, parse_yaml, validate

    class Asked(BaseModel):
        model_config = ConfigDict(extra="forbid")
        measure: Measure

    start = scenario.measure if scenario else Measure()
    document = parse_yaml(dump({"measure": start.model_dump(mode="json")}), "measure")
    [judge, metric] = as_items({"measure.judge": _names(judges), "measure.metrics": _names(metrics)})
    try:
        measure = validate(override(document, [judge, metric, *overrides], Asked), Asked).measure
    except ScenarioError as error:
        options = {f"override {judge!r}": "--judge", f"override {metric!r}": "--metrics"}
        raise (ValueError(f"{options[error.where]} {error.problem}") if error.where in options else error) from None
    if missing := [name for name in measure.metrics if needed([name]) & {"qa", ACTIVATIONS}]:
        raise ValueError(f"--metrics has {missing[0]}, which only a speaker can be asked for; expected others")
    return measure


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def sources_read(task: Task) -> Iterator[str]:
    """Lines of text that say what was read and what was left out, and of which conversations."""
    from lab.transcripts.messages import omissions

    for source in task.sources:
        lines = sum(len(transcript.lines) for transcript in source.transcripts)
        strays = sum(transcript.strays for transcript in source.transcripts)
        yield f"{source.path}: {len(source.transcripts)} conversations, {lines} lines; {source.form}"
        if strays:
            yield (
                f"  {strays} conflicts that its labels name are with no earlier line of the same speaker, and are "
                "left out"
            )
        if source.left_out:
            yield f"  {len(source.left_out)} conversations cannot be read and are left out:"
            yield from (f"    {sentence}" for sentence in source.left_out[:SHOWN])
        yield from (f"  {note}" for note in source.notes)
        partly = [transcript for transcript in source.transcripts if transcript.omitted]
        yield from (f"  conversation {_called(each)}: {omissions(each.omitted)}" for each in partly[:SHOWN])
        if len(partly) > SHOWN:
            total = sum((Counter(each.omitted) for each in partly), Counter())
            yield f"  {len(partly)} conversations in all: {omissions(total)}"


def _called(transcript: Transcript) -> str:
    number = transcript.conversation
    return str(number) if transcript.name in (None, str(number)) else f"{number} ({clean(transcript.name or '')[:80]})"


# -- judging


def digest_of(sources: Sequence[Source]) -> str:
    """SHA-256, in hex, of the content of all transcripts."""
    import hashlib

    return hashlib.sha256("".join(source.digest for source in sources).encode()).hexdigest()


def open_scores(task: Task, runs: str | Path, out: str | Path | None = None) -> RunStore:
    """A new folder for the results: `out`, or else one below `runs`. Transcripts that are no files are kept in it.

    Raises StoreError, ValueError where `out` is not empty.
    """
    from lab.store.atomic_write import replace
    from lab.store.run_store import create
    from scenarios.yaml_files import dump

    scored = {
        "transcripts": [
            str(Path(source.path).absolute()) if source.records is None else source.path for source in task.sources
        ],
        "form": task.sources[0].asked,
        "limit": task.limit,
        "labels": task.labels,
        "measure": task.measure.model_dump(mode="json"),
    }
    name = f"score-{Path(task.sources[0].path).name.partition('.')[0]}"
    store = create(
        runs,
        name,
        dump({"scored": scored}),
        task.seed,
        digest_of(task.sources),
        folder=out,
        scored=scored,
        left_out=[sentence for source in task.sources for sentence in source.left_out],
    )
    kept = [
        (place, store.path / TRANSCRIPTS.format(place or ""), source.records)
        for place, source in enumerate(task.sources)
        if source.records is not None
    ]
    for place, path, records in kept:
        replace(path, records)
        scored["transcripts"][place] = str(path.absolute())
    if kept:
        store.update_manifest(scored=scored)
    return store


def judge_into(
    task: Task,
    store: RunStore,
    *,
    device: str = "auto",
    dtype: str = "auto",
    apart: Apart = aside,
    progress: str = "auto",
) -> dict[str, pl.DataFrame]:
    """Judges all lines into the store, measures them, and returns the frames turns, judgements and metrics.

    `apart` keeps the output of libraries out of the progress (see `lab.store.session.aside`); `progress` is auto, rich,
    plain or none. Raises ValueError where a judge fails; what was judged until then is kept.
    """
    from lab.dialogue.notices import judge_notices
    from lab.store.run_store import read_frames
    from lab.transcripts.judging import judge_transcripts

    status, reason = "failed", None
    try:
        with apart(store.path / LOG) as (_, errors):
            wires = judge_transcripts(store, task.transcripts, task.measure, device, dtype, errors, progress)
        for notice in judge_notices(task.measure).new():
            store.append(notice)
        store.write_frames(metrics=_measured(task, store, wires))
        status = "finished"
    except KeyboardInterrupt:
        status = "interrupted"
        say(
            f"lab.score: interrupted; what was judged so far is kept: python -m lab.score --resume {store.path}",
            file=sys.stderr,
        )
        raise
    except ValueError as error:
        reason = str(error)
        raise
    finally:
        store.append({"event": "ended", "status": status, "reason": reason})
        store.finish(status, reason)
    return read_frames(store.path)


def _measured(task: Task, store: RunStore, wires: Mapping[str, Any]) -> pl.DataFrame:
    from lab.reports.validity_text import validities_of
    from metrics.measure import measure_run
    from metrics.validation.correction import corrected_rows

    frames = store.frames()
    cards = {
        (transcript.conversation, seat): persona.card
        for transcript in task.transcripts
        for seat, persona in transcript.cast.items()
    }
    metrics = measure_run(
        frames["turns"],
        frames["judgements"],
        metrics=task.measure.metrics,
        window=task.measure.window,
        cards=cards,
        **wires,
        confidence=task.measure.confidence,
    )
    return corrected_rows(metrics, validities_of(store.manifest))


# -- what came out


def compare_with_labels(task: Task, frames: Mapping[str, pl.DataFrame], console: Console, plot: Path | None) -> dict:
    """All figures by judge and metric, as plain data for JSON.

    With `plot`, it prints how far the judges agree with labels and draws that into the file. Where the task has a file
    of labels, it prints consistency by judge and labels together. Raises ValueError where the file cannot be written.
    """
    from lab.transcripts import labels
    from metrics.judges import LINES

    judgements, pairwise = frames["judgements"], [name for name in LINES if name in task.measure.metrics]
    figures = {
        judge: {metric: {"consistency": seats} for metric, seats in by_metric.items()}
        for judge, by_metric in consistencies(frames, pairwise).items()
    }
    if plot:
        compared = labels.calibrated(judgements, task.transcripts, pairwise, task.measure.confidence)
        for table in labels.calibration_tables(compared):
            console.print(table)
        console.print(labels.NOTE, markup=False, highlight=False)
        for judge, by_metric in compared.items():
            for metric, calibration in by_metric.items():
                figures[judge][metric] = calibration.plain() | figures[judge][metric]
        where = _plot(plot, compared)
        console.print(where, markup=False, highlight=False, soft_wrap=True)
    if task.labels and "prompt_to_line" in pairwise:
        powered = labels.powered(judgements, task.transcripts, task.measure.confidence)
        for name in labels.POWERED:
            console.print(labels.powered_table(name, powered))
        console.print(labels.POWERED_NOTE, markup=False, highlight=False)
        for judge, by_seat in powered.items():
            for name, key in (("consistency", "prediction_powered"), ("drift", "prediction_powered_drift")):
                figures[judge]["prompt_to_line"][key] = {
                    seat: estimates[name].plain() for seat, estimates in by_seat.items()
                }
    return figures


def consistencies(frames: Mapping[str, pl.DataFrame], metrics: Sequence[str]) -> dict[str, dict[str, dict[str, dict]]]:
    """{judge: {metric: {seat: {value, low, high, n, unscored}}}} over all conversations; value is from 0 to 1."""
    from metrics.reductions import groups, of_metric

    values = {
        (row["judge"], row["metric"], row["seat"]): row
        for row in frames["metrics"].rows(named=True)
        if row["level"] == "run"
    }
    by_judge: dict[str, dict[str, dict[str, dict]]] = {
        judge: {metric: {} for metric in metrics} for judge in sorted(frames["judgements"]["judge"].unique())
    }
    for metric in metrics:
        for judge, seat, rows in groups(of_metric(frames["judgements"], metric)):
            if judge is not None:
                kept = {key: values[judge, metric, seat][key] for key in ("value", "low", "high", "n")}
                by_judge[judge][metric][seat] = kept | {"unscored": int(rows["verdict"].is_null().sum())}
    return by_judge


def _plot(path: Path, compared: Mapping[str, Mapping[str, Calibrated]]) -> str:
    """Draws the reliability of the judges into `path`; returns a sentence with the path."""
    import io

    from lab.reports.plot_kit import DPI
    from lab.reports.plots import plot_reliability

    figure = plot_reliability(
        {
            f"{judge}, {metric.replace('_', '-')}": calibration.bins
            for judge, by_metric in compared.items()
            for metric, calibration in by_metric.items()
        }
    )
    if figure is None:
        return "No reliability plot: no labelled line was scored."
    picture = io.BytesIO()
    figure.savefig(picture, dpi=DPI, format="png")
    path.parent.mkdir(exist_ok=True)
    _write(path, picture.getvalue())
    return f"reliability plot: {path}"


def write_json(path: str | Path, figures: Mapping) -> None:
    """Writes the figures as JSON. Raises ValueError, one sentence, where they cannot be written."""
    from lab.store.atomic_write import dumps

    _write(path, dumps(figures, indent=2) + b"\n")


def _write(path: str | Path, data: bytes) -> None:
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror or error}; the judgements are stored") from None
