"""One trial of a sweep: a run, a training or a study in a folder of its own, started or resumed in this process.

It reports its progress as plain dicts to its caller, which is an actor of a cluster or the sweep itself.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from lab.dialogue.cluster import IN_PROCESS, KEPT  # engines live in the trial's own process
from lab.progress.run import State, apply, expected_lines
from lab.progress.study import StudyProgress
from lab.store.frames import EVALUATION
from lab.store.run_store import MANIFEST, RunStore, create, open_for_resume, read_frames, read_manifest
from lab.store.stored_frames import read_steps, read_stored
from metrics import BESIDE
from metrics.catalogue import needed
from metrics.entry import ACTIVATIONS
from scenarios.jobs.recipe import Recipe
from scenarios.jobs.study import Study
from scenarios.jobs.sweep import Base, SweepPlan, files_of
from scenarios.overrides import as_items
from scenarios.records import ASSISTANT, SEATS
from scenarios.scenario import Scenario
from scenarios.yaml_files import parse_yaml

TRIALS = "trials"  # of a sweep's folder: a run's folder a trial
HELD = "is being written by another process"  # what the store says
WAIT_S = 60.0  # for a process that has lost its sweep to let go of the trial
TELL_S = 1.0  # between two words on how many lines were said
Report = Callable[[dict], None]


@dataclass(frozen=True)
class Order:
    """Everything that another process or machine needs to carry out a trial."""

    trial: str
    kind: str  # of scenarios.jobs.sweep.KINDS
    name: str
    yaml: str  # the base as it is played
    digest: str
    seed: int
    models: Mapping[str, str]


def orders(plan: SweepPlan) -> dict[str, Order]:
    """The order of each trial, by trial id."""
    return {trial.id: order_of(plan, trial.id, plan.bases[trial.id]) for trial in plan.trials}


def order_of(plan: SweepPlan, trial: str, base: Base) -> Order:
    """The order of a trial that plays `base`."""
    from scenarios.jobs.recipe import played

    scenario = played(base) if isinstance(base, Recipe) else base
    seats = base.seats() if isinstance(base, Recipe) else [ASSISTANT] if isinstance(base, Study) else SEATS
    return Order(
        trial,
        plan.sweep.kind,
        base.name,
        base.resolved_yaml(),
        base.digest(),
        base.seed,
        {seat: getattr(scenario.seats, seat).model for seat in seats},
    )


def files(plan: SweepPlan) -> dict[str, bytes]:
    """The contents of the files that the bases name (personas, stimuli, scenarios), by absolute path. Raises
    OSError.
    """
    paths = dict.fromkeys(path for base in plan.bases.values() for path in files_of(base))
    return {str(path): path.read_bytes() for path in paths}


def carry_out_trial(order: Order, given: Mapping[str, bytes], folder: Path, report: Report) -> dict:
    """Plays the trial in `folder`, from its last line or checkpoint where it had begun; a finished trial is not
    repeated.

    Returns the result of `outcome` with the `seconds` of this call. `report` gets the progress: {"lines", "of"}, of a
    training's steps also {"step", "numbers"}. Raises ValueError where it fails, with everything stored kept, and
    SystemExit where it is interrupted.
    """
    began, store = time.monotonic(), _opened(order, folder)
    if store is not None:
        with store, tempfile.TemporaryDirectory(prefix="lab-trial-") as scratch:
            _play(_base(order, given, Path(scratch)), store, report)
    return outcome(folder) | {"seconds": round(time.monotonic() - began, 3)}


def is_done(folder: Path, digest: str) -> bool:
    """Whether the folder holds this trial, finished and without failed conversations.

    Raises ValueError where the folder is no run's, or holds another trial.
    """
    manifest = read_manifest(folder)
    if manifest.get("digest") != digest:
        raise ValueError(f"{folder} holds another trial; expected the folder of this trial, or none")
    return manifest.get("status") == "finished" and not manifest.get("counts", {}).get("failed")


def left_behind(folder: Path, digest: str) -> dict | None:
    """The outcome of a trial that finished after its sweep had ended, with `seconds` None; None where it did not
    finish.
    """
    with contextlib.suppress(ValueError, OSError):
        # no such folder, or some of it was still to come
        return outcome(folder) | {"seconds": None} if is_done(folder, digest) else None


def outcome(folder: Path) -> dict:
    """The results in a finished trial's folder: `counts`, and `metrics` as rows of value, low, high and n.

    The rows are a run's metrics at the level of the run, the trained model's evaluation with held-out personas, or a
    study's finding, then with `verdict`. Raises ValueError where the folder is no run's.
    """
    from lab.store.finding import finding_of

    manifest = read_manifest(folder)
    if finding := finding_of(folder):
        measure = {"metric": "finding", "judge": None, "seat": ASSISTANT} | {
            key: finding[key] for key in ("value", "low", "high", "n")
        }
        return {"counts": {}, "metrics": [measure], "verdict": finding["verdict"]}
    if (folder / "training.parquet").is_file():
        steps = read_steps(folder / "training.parquet").height
        return {"counts": {"steps": steps}, "metrics": _evaluated(folder), "stopped": manifest.get("stopped") or None}
    counts = {key: manifest.get("counts", {}).get(key) or 0 for key in ("lines", "failed")}
    metrics = read_frames(folder)["metrics"]
    rows = metrics.filter(pl.col("level") == "run", ~pl.col("metric").str.contains(f"^({'|'.join(BESIDE)})"))
    return {"counts": counts, "metrics": rows.select("metric", "judge", "seat", "value", "low", "high", "n").to_dicts()}


def _evaluated(folder: Path) -> list[dict]:
    """The rows of the trained model with held-out personas, in the scenario of the training."""
    from lab.reports.evaluation_table import arms_of

    rows = read_stored(folder / "evaluation.parquet", EVALUATION)
    method_rows = rows.filter(
        pl.col("held_out"), pl.col("arm") == arms_of(rows)[1], pl.col("scenario") == pl.col("scenario").first()
    )
    return method_rows.select("metric", "judge", "seat", "value", "low", "high", "n").to_dicts()


def end_early(folder: Path, reason: str) -> None:
    """Marks a trial that a scheduler stopped as interrupted, in its own folder, unless it has ended. Raises
    ValueError.
    """
    if read_manifest(folder).get("status") != "running":
        return
    with waited(folder) as store:
        store.append({"event": "ended", "status": "interrupted", "reason": reason})
        store.finish("interrupted", reason)


def waited(folder: Path) -> RunStore:
    """The folder, opened again, after waiting up to WAIT_S seconds for a process that still holds it. Raises
    ValueError.
    """
    until = time.monotonic() + WAIT_S
    while True:
        try:
            return open_for_resume(folder)
        except ValueError as error:
            if HELD not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.5)


def _opened(order: Order, folder: Path) -> RunStore | None:
    """The store of the trial, new or opened again; None where it is done."""
    if not (folder / MANIFEST).is_file():
        shutil.rmtree(folder, ignore_errors=True)  # begun, and nothing in it yet
        return create(
            folder.parent, order.name, order.yaml, order.seed, order.digest, folder=folder, models=dict(order.models)
        )
    return None if is_done(folder, order.digest) else waited(folder)


def _base(order: Order, given: Mapping[str, bytes], scratch: Path) -> Base:
    """The base of the order; files that differ on this machine, or are missing, are taken from `given`."""
    moved = {name: scratch / "files" / name.lstrip("/") for name, data in given.items() if not _same(Path(name), data)}
    if moved:  # all of them: they name each other by relative paths
        moved = {name: scratch / "files" / name.lstrip("/") for name in given}
        for name, path in moved.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(given[name])
    from lab.studies.runner import BASES

    file = scratch / f"{order.kind}.yaml"
    file.write_text(order.yaml, encoding="utf-8")
    return BASES[order.kind](file, _places(parse_yaml(order.yaml, order.trial).data, moved))


def _places(base: Mapping, moved: Mapping[str, Path]) -> list[str]:
    """The overrides that give the new paths of the base's files that have moved."""

    def place(name: str) -> str:
        return str(moved.get(name, name))

    if "personas" in base:
        paths: dict[str, object] = {"personas": [place(name) for name in base["personas"]]}
    elif "stimuli" in base:
        paths = {"stimuli": place(base["stimuli"])}
    else:
        paths = {
            "scenario": [each | {"scenario": place(each["scenario"])} for each in base["scenario"]],
            "evaluation.scenario": [place(name) for name in base["evaluation"]["scenario"]],
        }
    return as_items(paths)


def _same(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except OSError:
        return False


def _play(base: Base, store: RunStore, report: Report) -> None:
    from lab.runs import runner
    from lab.store import session
    from lab.studies import runner as study_runner
    from lab.training import runner as training_runner

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if isinstance(base, Scenario):
        shown, left = LineCount(report), "line"

        def work() -> None:
            runner.perform_run(base, store, shown, address=KEPT if _plain(base) else IN_PROCESS)
    elif isinstance(base, Study):
        shown, left = Answers(report, store.earlier), "answer"

        def work() -> None:
            study_runner.perform_study(study_runner.planned(base), store, shown, address=IN_PROCESS)
    else:
        shown, left = Steps(report, base.max_steps), "checkpoint"

        def work() -> None:
            training_runner.perform_training(
                base, store, shown, training_runner.steps_before_checkpoint(store), address=IN_PROCESS
            )

    with session.aside(store.path / session.LOG):
        status, reason, _ = session.carried_out(work, store, shown.show, left)
    if status == "interrupted":
        raise SystemExit
    if status == "failed":
        raise ValueError(reason)


def _plain(scenario: Scenario) -> bool:
    """Whether the run leaves its engines unchanged: no adapters are loaded and no activations are watched."""
    seats = [scenario.seats[seat] for seat in SEATS]
    models = [seat.model for seat in seats] + [scenario.measure.llm.model]
    return (
        not any(seat.adapter for seat in seats)
        and not any(":" in name for name in models)
        and ACTIVATIONS not in needed(scenario.measure.metrics)
    )


@dataclass
class LineCount:
    """The monitor of a run that reports its number of lines, at most once every `TELL_S` seconds."""

    report: Report
    state: State = field(default_factory=State)
    last: float = 0.0

    def show(self, event: dict) -> None:
        apply(self.state, event)
        if event["event"] == "line" and time.monotonic() - self.last >= TELL_S:
            self.last = time.monotonic()
            self.report({"lines": self.state.lines, "of": expected_lines(self.state)})


class Answers:
    """The watch of a study that reports its progress (answers, and lines or steps of its arms), at most once every
    TELL_S seconds.
    """

    def __init__(self, report: Report, earlier: Iterable[dict]) -> None:
        self._report, self._progress, self._last = report, StudyProgress(), 0.0
        for event in earlier:
            self._progress.fold(event)

    def show(self, event: dict) -> None:
        self._progress.fold(event)
        if event["event"] in ("answer", "arm") and time.monotonic() - self._last >= TELL_S:
            self._last = time.monotonic()
            self._report({"lines": self._progress.done, "of": sum(many for _, many in self._progress.arms().values())})


@dataclass
class Steps:
    """The watch of a training that reports the numbers of each step but the last, after which nothing can be
    stopped.
    """

    report: Report
    steps: int

    def show(self, event: dict) -> None:
        if event["event"] == "step":
            numbers = {
                key: float(value)
                for key, value in event.items()
                if isinstance(value, int | float) and value == value and key != "step"
            }
            self.report(
                {"lines": event["step"] + 1, "of": self.steps}
                | ({"step": event["step"] + 1, "numbers": numbers} if event["step"] + 1 < self.steps else {})
            )
