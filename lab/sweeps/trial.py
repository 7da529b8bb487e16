"""One trial of a sweep: a run, a training or a study in a folder of its own, started or resumed in this process.

Its progress is reported as plain dicts to whatever plays it, an actor of a cluster or the sweep itself.
"""

from __future__ import annotations

import contextlib
import json
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
from lab.store.run_store import MANIFEST, RunStore, create, open_for_resume, read_frames, read_manifest
from metrics.catalogue import needed
from metrics.entry import ACTIVATIONS
from scenarios.jobs.study import Study
from scenarios.jobs.sweep import Base, SweepPlan, files_of
from scenarios.jobs.training import Recipe
from scenarios.overrides import as_items
from scenarios.records import ASSISTANT, SEATS
from scenarios.scenario import Scenario
from scenarios.yaml_files import parse_yaml

TRIALS = "trials"  # of a sweep's folder: a run's folder a trial
HELD = "is being written by another process"  # what the store says
WAIT_S = 60.0  # for a process that has lost its sweep to let go of the trial
TELL_S = 1.0  # between two words on how many lines were said
Tell = Callable[[dict], None]


@dataclass(frozen=True)
class Order:
    """All that another process, or machine, needs to know to carry out a trial."""

    trial: str
    kind: str  # of scenarios.jobs.sweep.KINDS
    name: str
    yaml: str  # the base as it is played
    digest: str
    seed: int
    models: Mapping[str, str]


def orders(plan: SweepPlan) -> dict[str, Order]:
    """Returns what each trial needs to be played elsewhere, by trial id."""
    return {trial.id: order_of(plan, trial.id, plan.bases[trial.id]) for trial in plan.trials}


def order_of(plan: SweepPlan, trial: str, base: Base) -> Order:
    from scenarios.jobs.training import played

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
    """Returns the files that the bases name (personas, stimuli, scenarios), content by absolute path."""
    paths = dict.fromkeys(path for base in plan.bases.values() for path in files_of(base))
    return {str(path): path.read_bytes() for path in paths}


def carry_out_trial(order: Order, given: Mapping[str, bytes], folder: Path, tell: Tell) -> dict:
    """Plays the trial in `folder`, from its last line, or checkpoint, where it was begun; what came of it. One that has
    finished is not played again. `tell` hears how it goes: {"lines", "of"}, and of a training's steps {"step",
    "numbers"} too.

    Raises ValueError, one sentence, where it fails; what was played is kept. SystemExit where it is stopped from
    outside.
    """
    began, store = time.monotonic(), _opened(order, folder)
    if store is not None:
        with store, tempfile.TemporaryDirectory(prefix="lab-trial-") as scratch:
            _play(_base(order, given, Path(scratch)), store, tell)
    return outcome(folder) | {"seconds": round(time.monotonic() - began, 3)}


def is_done(folder: Path, digest: str) -> bool:
    """Whether the folder holds that trial with nothing left to be played. ValueError where it is no run's, or holds
    another trial.
    """
    manifest = read_manifest(folder)
    if manifest.get("digest") != digest:
        raise ValueError(f"{folder} holds another trial; expected the folder of this trial, or none")
    return manifest.get("status") == "finished" and not manifest.get("counts", {}).get("failed")


def left_behind(folder: Path, digest: str) -> dict | None:
    """Returns the outcome of a trial that finished after its sweep had ended, with `seconds` None; None where the
    folder holds no finished trial.
    """
    with contextlib.suppress(ValueError, OSError, KeyError, pl.exceptions.PolarsError):
        # no such folder, or some of it was still to come
        return outcome(folder) | {"seconds": None} if is_done(folder, digest) else None


def outcome(folder: Path) -> dict:
    """What a finished trial's folder tells of it: counts, and its measures over the run, the evaluation of what was
    learnt, or what a study came to.
    """
    from lab.studies.runner import FINDING

    manifest = read_manifest(folder)
    if (folder / FINDING).is_file():
        finding = json.loads((folder / FINDING).read_bytes())
        measure = {"metric": "finding", "judge": None, "seat": ASSISTANT} | {
            key: finding[key] for key in ("value", "low", "high", "n")
        }
        return {"counts": {}, "metrics": [measure], "verdict": finding["verdict"]}
    if (folder / "training.parquet").is_file():
        steps = pl.read_parquet(folder / "training.parquet").height
        return {"counts": {"steps": steps}, "metrics": _evaluated(folder), "stopped": manifest.get("stopped") or None}
    counts = {key: manifest.get("counts", {}).get(key) or 0 for key in ("lines", "failed")}
    metrics = read_frames(folder)["metrics"]
    rows = metrics.filter(pl.col("level") == "run", ~pl.col("metric").str.starts_with("unscored_"))
    return {"counts": counts, "metrics": rows.select("metric", "judge", "seat", "value", "low", "high", "n").to_dicts()}


def _evaluated(folder: Path) -> list[dict]:
    """Rows of the trained model with held-out personas, in the scenario that was trained in."""
    rows = pl.read_parquet(folder / "evaluation.parquet")
    method = rows["arm"].unique(maintain_order=True).to_list()[-1] if rows.height else None
    method_rows = rows.filter(
        pl.col("held_out"), pl.col("arm") == method, pl.col("scenario") == pl.col("scenario").first()
    )
    return method_rows.select("metric", "judge", "seat", "value", "low", "high", "n").to_dicts()


def end_early(folder: Path, reason: str) -> None:
    """Marks a trial that a scheduler stopped, in its own folder, as interrupted, unless that has been done. ValueError
    where it cannot.
    """
    if read_manifest(folder).get("status") != "running":
        return
    with waited(folder) as store:
        store.append({"event": "ended", "status": "interrupted", "reason": reason})
        store.finish("interrupted", reason)


def waited(folder: Path) -> RunStore:
    """The folder, opened again; whoever still holds it is waited for, since a process outlives the sweep that it lost
    by some seconds.
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
    """None where nothing of the trial is left to be played."""
    if not (folder / MANIFEST).is_file():
        shutil.rmtree(folder, ignore_errors=True)  # begun, and nothing in it yet
        return create(
            folder.parent, order.name, order.yaml, order.seed, order.digest, folder=folder, models=dict(order.models)
        )
    return None if is_done(folder, order.digest) else waited(folder)


def _base(order: Order, given: Mapping[str, bytes], scratch: Path) -> Base:
    """What the order tells to play, whose files are taken from `given` where they do not lie on this machine as they
    did on the sweep's.
    """
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
    """Overrides that give the new paths of those files of a base that have moved."""

    def place(name: str) -> str:
        return str(moved.get(name, name))

    if "personas" in base:
        paths: dict[str, object] = {"personas": [place(name) for name in base["personas"]]}
    elif "stimuli" in base:
        paths = {"stimuli": place(base["stimuli"])}
    else:
        other = base["evaluation"]["scenario"]
        paths = {"scenario": place(base["scenario"])} | ({"evaluation.scenario": place(other)} if other else {})
    return as_items(paths)


def _same(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except OSError:
        return False


def _play(base: Base, store: RunStore, tell: Tell) -> None:
    from lab.runs import runner
    from lab.store import session
    from lab.studies import runner as study_runner
    from lab.training import runner as training_runner

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if isinstance(base, Scenario):
        shown, left = LineCount(tell), "line"

        def work() -> None:
            runner.perform_run(base, store, shown, address=KEPT if _plain(base) else IN_PROCESS)
    elif isinstance(base, Study):
        shown, left = Answers(tell, store.earlier), "answer"

        def work() -> None:
            study_runner.perform_study(study_runner.planned(base), store, shown, address=IN_PROCESS)
    else:
        shown, left = Steps(tell, base.max_steps), "checkpoint"

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
    """Monitor of a run that reports how many lines were said, at most once every `TELL_S` seconds."""

    tell: Tell
    state: State = field(default_factory=State)
    last: float = 0.0

    def show(self, event: dict) -> None:
        apply(self.state, event)
        if event["event"] == "line" and time.monotonic() - self.last >= TELL_S:
            self.last = time.monotonic()
            self.tell({"lines": self.state.lines, "of": expected_lines(self.state)})


class Answers:
    """A watch that passes on how many questions of a study were answered, lines said and steps learnt, as far as they
    are known of.
    """

    def __init__(self, tell: Tell, earlier: Iterable[dict]) -> None:
        self._tell, self._course, self._last = tell, StudyProgress(), 0.0
        for event in earlier:
            self._course.fold(event)

    def show(self, event: dict) -> None:
        self._course.fold(event)
        if event["event"] in ("answer", "arm") and time.monotonic() - self._last >= TELL_S:
            self._last = time.monotonic()
            self._tell({"lines": self._course.done, "of": sum(many for _, many in self._course.arms().values())})


@dataclass
class Steps:
    """Watch of a training that reports the numbers of each step but the last, after which there is nothing to stop."""

    tell: Tell
    steps: int

    def show(self, event: dict) -> None:
        if event["event"] == "step":
            numbers = {
                key: float(value)
                for key, value in event.items()
                if isinstance(value, int | float) and value == value and key != "step"
            }
            self.tell(
                {"lines": event["step"] + 1, "of": self.steps}
                | ({"step": event["step"] + 1, "numbers": numbers} if event["step"] + 1 < self.steps else {})
            )
