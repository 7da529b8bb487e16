"""Stored transcripts judged and measured: what `lab.score` carries out."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

    from lab.store.run_store import RunStore
    from lab.transcripts.labels import Calibrated
    from lab.transcripts.reading import Source, Transcript
    from scenarios.schema import Measure


METRICS = "prompt_to_line,line_to_line"
SHOWN = 5  # conversations that could not be read and are told one by one
PIPED = 120  # columns where the output is no terminal


@dataclass(frozen=True)
class Task:
    """What is to be scored, how, and with what to compare."""

    sources: Sequence[Source]
    transcripts: Sequence[Transcript]
    measure: Measure
    seed: int

    def how(self) -> dict:
        return {"confidence": self.measure.confidence, "resamples": self.measure.resamples, "seed": self.seed}


# -- what is to be done


def read_task(args: argparse.Namespace) -> Task:
    """Everything that can be refused before a model is loaded is refused here."""
    from lab.transcripts.labels import attach
    from lab.transcripts.reading import numbered, read

    paths = [one for one in args.transcripts if "=" not in one or os.path.exists(one)]
    if not paths:
        raise ValueError("no transcripts were named; expected files of conversations or run folders")
    _check_outputs(args)
    sources = [read(path) for path in paths]
    everyone = numbered(sources)
    if args.labels:
        everyone = attach(everyone, Path(args.labels))
    if args.limit is not None and args.limit < 1:
        raise ValueError(f"--limit is {args.limit}; expected 1 or more")
    transcripts = everyone[: args.limit]
    if args.against and not any(label is not None for one in transcripts for label in one.labels.values()):
        raise ValueError(f"{', '.join(paths)}: no line is labelled; expected labelled transcripts, or --labels FILE")
    scenario = next((source.scenario for source in sources if source.scenario), None)
    overrides = [one for one in args.transcripts if one not in paths]
    return Task(sources, transcripts, _measure(args, scenario, everyone, overrides), scenario.seed if scenario else 0)


def _check_outputs(args: argparse.Namespace) -> None:
    if args.plot and not args.against:
        raise ValueError("--plot draws judges against labels; expected --against labels beside it")
    if args.plot and not args.plot.lower().endswith(".png"):
        raise ValueError(f"--plot is {args.plot}; expected a name that ends with .png")
    for option in ("json", "plot"):
        if (path := getattr(args, option)) and (Path(path).is_dir() or not Path(path).absolute().parent.is_dir()):
            raise ValueError(f"--{option} is {path}; expected a file in a folder that is there")


def _measure(args: argparse.Namespace, scenario, everyone: Sequence[Transcript], overrides: Sequence[str]) -> Measure:
    """The run's settings, or the defaults, with what the command line says. ValueError names the option or key."""
    from pydantic import BaseModel, ConfigDict

    from metrics.catalogue import needed
    from metrics.entry import ACTIVATIONS
    from scenarios.overrides import override
    from scenarios.schema import Measure
    from scenarios.yaml_files import dump, parse, validate

    class Asked(BaseModel):
        model_config = ConfigDict(extra="forbid")
        measure: Measure

    facts = all(persona.facts for one in everyone for persona in one.cast.values())
    judge = args.judge or ("ledger" if facts else "likelihood")
    start = scenario.measure if scenario else Measure()
    document = parse(dump({"measure": start.model_dump(mode="json")}), "measure")
    asked = [f"measure.judge=[{judge}]", f"measure.metrics=[{args.metrics}]", *overrides]
    found = validate(override(document, asked, Asked), Asked).measure
    if missing := [name for name in found.metrics if needed([name]) & {"qa", ACTIVATIONS}]:
        raise ValueError(f"--metrics has {missing[0]}, which only a speaker can be asked for; expected others")
    return found


def sources_read(task: Task) -> Iterator[str]:
    """What was read, for people."""
    for source in task.sources:
        lines = sum(len(one.lines) for one in source.transcripts)
        strays = sum(one.strays for one in source.transcripts)
        yield f"{source.path}: {len(source.transcripts)} conversations, {lines} lines; {source.told}"
        if strays:
            yield (
                f"  {strays} conflicts that its labels name are with no earlier line of the same speaker, and are "
                "left out"
            )
        if source.left_out:
            yield f"  {len(source.left_out)} conversations cannot be read and are left out:"
            yield from (f"    {sentence}" for sentence in source.left_out[:SHOWN])
        yield from (f"  {note}" for note in source.notes)


# -- judging


def open_store(args: argparse.Namespace, task: Task) -> RunStore:
    import hashlib

    from lab.store.run_store import create
    from scenarios.yaml_files import dump

    scored = {
        "transcripts": [str(Path(source.path).absolute()) for source in task.sources],
        "limit": args.limit,
        "labels": args.labels,
        "measure": task.measure.model_dump(mode="json"),
    }
    digest = hashlib.sha256("".join(source.digest for source in task.sources).encode()).hexdigest()
    name = f"score-{Path(task.sources[0].path).name.partition('.')[0]}"
    return create(
        args.runs,
        name,
        dump({"scored": scored}),
        task.seed,
        digest,
        folder=args.out,
        scored=scored,
        left_out=[sentence for source in task.sources for sentence in source.left_out],
    )


def judge_into(args: argparse.Namespace, task: Task, store: RunStore) -> dict[str, pl.DataFrame]:
    """Judges everything into the store, measures it, and gives the frames back."""
    from lab.store.run_store import read_frames
    from lab.store.session import LOG, aside
    from lab.transcripts.judging import perform
    from metrics.measure import measure

    status, reason = "failed", None
    try:
        with aside(store.path / LOG) as (_, errors):
            wires = perform(store, task.transcripts, task.measure, args.device, args.dtype, errors)
        frames = store.frames()
        cards = {
            (one.conversation, seat): persona.card for one in task.transcripts for seat, persona in one.cast.items()
        }
        found = measure(
            frames["turns"],
            frames["judgements"],
            metrics=task.measure.metrics,
            window=task.measure.window,
            cards=cards,
            **wires,
            **task.how(),
        )
        store.write_frames(metrics=found)
        status = "finished"
    except KeyboardInterrupt:
        status = "interrupted"
        print(f"lab.score: interrupted; what was judged so far is kept in {store.path}", file=sys.stderr)
        raise
    except ValueError as error:
        reason = str(error)
        raise
    finally:
        store.append({"event": "ended", "status": status, "reason": reason})
        store.finish(status, reason)
    return read_frames(store.path)


# -- what came out


def compare_with_labels(
    args: argparse.Namespace, task: Task, frames: Mapping[str, pl.DataFrame], results: Path, console
) -> dict:
    """Prints the judges beside labels where that was asked for; all figures by judge and metric, for --json."""
    from lab.transcripts import labels

    judgements, pairwise = frames["judgements"], [name for name in METRICS.split(",") if name in task.measure.metrics]
    found = {
        judge: {metric: {"consistency": seats} for metric, seats in by_metric.items()}
        for judge, by_metric in consistencies(frames, pairwise).items()
    }
    if args.against:
        compared = labels.calibrated(judgements, task.transcripts, pairwise, task.how())
        for table in labels.calibration_tables(compared):
            console.print(table)
        console.print(labels.NOTE, markup=False, highlight=False)
        for judge, by_metric in compared.items():
            for metric, one in by_metric.items():
                found[judge][metric] = one.plain() | found[judge][metric]
        told = _plot(Path(args.plot) if args.plot else results / "plots" / "reliability.png", compared)
        console.print(told, markup=False, highlight=False, soft_wrap=True)
    if args.labels and "prompt_to_line" in pairwise:
        powered = labels.powered(judgements, task.transcripts, task.how())
        console.print(labels.powered_table(powered))
        console.print(labels.POWERED_NOTE, markup=False, highlight=False)
        for judge, by_seat in powered.items():
            found[judge]["prompt_to_line"]["prediction_powered"] = {seat: one.plain() for seat, one in by_seat.items()}
    return found


def consistencies(frames: Mapping[str, pl.DataFrame], metrics: Sequence[str]) -> dict[str, dict[str, dict[str, dict]]]:
    """{judge: {metric: {seat: {value, low, high, n, unscored}}}} over all conversations."""
    from metrics.reductions import groups, of_metric

    values = {
        (row["judge"], row["metric"], row["seat"]): row
        for row in frames["metrics"].rows(named=True)
        if row["level"] == "run"
    }
    found: dict[str, dict[str, dict[str, dict]]] = {
        judge: {metric: {} for metric in metrics} for judge in sorted(frames["judgements"]["judge"].unique())
    }
    for metric in metrics:
        for judge, seat, rows in groups(of_metric(frames["judgements"], metric)):
            if judge is not None:
                kept = {key: values[judge, metric, seat][key] for key in ("value", "low", "high", "n")}
                found[judge][metric][seat] = kept | {"unscored": int(rows["verdict"].is_null().sum())}
    return found


def _plot(path: Path, compared: Mapping[str, Mapping[str, Calibrated]]) -> str:
    """Draws the judges beside the labels; where the picture is, for people."""
    import io

    from lab.reports.plots import DPI, reliability

    figure = reliability(
        {
            f"{judge}, {metric.replace('_', '-')}": one.bins
            for judge, by_metric in compared.items()
            for metric, one in by_metric.items()
        }
    )
    if figure is None:
        return "No reliability plot: no labelled line was scored."
    picture = io.BytesIO()
    figure.savefig(picture, dpi=DPI, format="png")
    path.parent.mkdir(exist_ok=True)
    write_file(path, picture.getvalue())
    return f"reliability plot: {path}"


def write_file(path: str | Path, data: bytes) -> None:
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror or error}; the judgements are stored") from None
