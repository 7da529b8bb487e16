"""Carries out a sweep: plans or resumes it, checks it, plays its trials here or on a cluster, and writes its
results.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lab.store.output import say_json
from lab.store.session import LOG, aside, carried_out, unfinished
from lab.sweeps.ray_tune import on_ray
from lab.sweeps.sweep_events import SweepEvents

if TYPE_CHECKING:
    import polars as pl

    from lab.live.display import Watch
    from lab.progress.sweep import SweepProgress
    from lab.store.run_store import RunStore
    from scenarios.jobs.sweep import SweepPlan, Trial


FAILED = 1
CLIENT = "ray://"


def stored_plan(folder: Path) -> SweepPlan:
    """The plan stored in a sweep's folder. Raises ValueError where it is no sweep, or files that it names have changed
    since.
    """
    from lab.store.run_store import SWEEP, read_manifest
    from lab.studies.runner import BASES
    from scenarios.jobs.sweep import load_sweep

    digest = read_manifest(folder).get("digest")
    if not (folder / SWEEP).is_file():
        raise ValueError(
            f"{folder} is no sweep: it has no {SWEEP}; expected a sweep's folder, or python -m lab.run --resume "
            f"{folder}"
        )
    plan = load_sweep(folder / SWEEP, bases=BASES)
    if plan.digest() != digest:
        raise ValueError(
            f"{folder} was begun with other files than {getattr(plan.sweep, plan.sweep.kind)} and what it names are "
            "now; expected them unchanged, or a new sweep without --resume"
        )
    return plan


def check_sweep(plan: SweepPlan) -> None:
    """Raises ValueError where a trial cannot be played, or where no trial reports the metric of `best` or of the
    scheduler.
    """
    from lab.studies.runner import checked
    from lab.training.runner import step_columns
    from metrics.catalogue import metric_figures
    from scenarios import plugins
    from scenarios.jobs.recipe import Recipe
    from scenarios.renames import new_value
    from scenarios.suggestions import nearest

    watched, best = plan.sweep.scheduler, plan.sweep.best.metric
    if best not in (known := [*metric_figures([best]), *plugins.names(plugins.METRICS)]):
        raise ValueError(
            f"best.metric is {best!r}, which nothing is measured by{new_value('metrics', best) or nearest(best, known)}"
        )
    for trial in plan.trials:
        try:
            checked(plan.bases[trial.id])
        except ValueError as error:
            raise ValueError(f"the trial {trial} cannot be played: {error}") from None
        base = plan.bases[trial.id]
        if watched and isinstance(base, Recipe) and watched.metric not in (reported := step_columns(base)):
            raise ValueError(
                f"scheduler.metric is {watched.metric!r}, which no step of {base.method} reports"
                f"{nearest(watched.metric, reported)}"
            )


def check_address(address: str) -> None:
    """Raises ValueError for the address of a Ray Client (ray://), through which a sweep cannot follow its trials."""
    if address.startswith(CLIENT):
        raise ValueError(
            f"{address!r} is Ray Client's, from where a sweep cannot be led; expected host:port of the cluster's head "
            "node, from a machine of the cluster, or auto, local or none"
        )


def open_sweep(plan: SweepPlan, runs: str | Path, resume: str | Path | None = None) -> RunStore:
    """The folder `resume`, opened again, or else a new folder below `runs`.

    Raises StoreError where it cannot be written, ValueError where `resume` cannot be opened.
    """
    from lab.store.run_store import SWEEP, create, open_for_resume

    if resume:
        return open_for_resume(resume)
    sweep = plan.sweep
    return create(runs, sweep.name, plan.resolved_yaml(), sweep.seed, plan.digest(), file=SWEEP, kind=sweep.kind)


def run_sweep(
    plan: SweepPlan, store: RunStore, *, address: str | None, display: str = "auto", as_json: bool = False
) -> int:
    """Plays all trials that are not done, and prints the summary.

    Returns the exit code: 0 all trials done, 1 a trial failed or did not end, 2 the sweep failed (with the reason on
    stderr), 130 interrupted.

    - `address`: that of a Ray cluster, None for RAY_ADDRESS or else a private one, "none" for this process.
    - `display`: auto, rich, plain or none.
    - `as_json`: print only the folder and the trials, as one JSON object.
    """
    from lab.live.run_monitor import conclude
    from lab.live.sweep_screen import sweep_display, sweep_summary
    from lab.progress.sweep import DONE, SweepProgress
    from lab.store.console import Console

    progress = SweepProgress()
    for event in store.earlier:
        progress.fold(event)
    with aside(store.path / LOG) as (screen, errors):
        console, display = Console(file=screen), "none" if as_json else display
        with sweep_display(display, console, plan.sweep, str(store.path), progress) as watch:
            status, reason, frame = carried_out(
                lambda: _perform(plan, store, progress, watch, address), store, watch.show, "trial"
            )
        if frame is None or status != "finished":
            talking = None if display == "none" else console
            return unfinished("lab.sweep", "finished trial", status, reason, talking, errors, store.path)
        if as_json:
            say_json({"sweep": str(store.path), "trials": frame.fill_nan(None).to_dicts()}, file=screen)
        elif display != "none":
            conclude(console, sweep_summary(progress, plan.sweep), store.path)
    return 0 if frame["status"].is_in(DONE).all() else FAILED


def _perform(
    plan: SweepPlan, store: RunStore, progress: SweepProgress, watch: Watch, address: str | None
) -> pl.DataFrame:
    """Plays all trials that are not done; every event is stored before it is shown. Returns the frame of
    trials.parquet.

    Raises ValueError where every trial failed.
    """
    from lab.dialogue.cluster import IN_PROCESS
    from lab.progress.trials_table import FILE, trials_frame
    from lab.reports.write import write_report
    from lab.store.event_log import now
    from lab.store.run_store import write_frame
    from lab.sweeps.trial import TRIALS, end_early, left_behind

    def emit(kind: str, **rest: object) -> None:
        watch.show(store.append({"event": kind, **rest}, sync=kind == "trial"))
        if kind == "trial" and rest["status"] != "running":
            write_frame(store.path / FILE, trials_frame(progress))

    emit("phase", phase="playing", detail=plan.sweep.kind)
    emit(
        "sweep",
        name=plan.sweep.name,
        trials={trial.id: dict(trial.values) for trial in plan.trials},
        resumed=bool(store.earlier),
    )
    for trial in plan.trials:
        seen = progress.trials[trial.id]
        if not seen.done and (left := left_behind(store.path / TRIALS / trial.id, plan.bases[trial.id].digest())):
            emit("trial", trial=trial.id, status="finished", **left)
    todo = [trial for trial in plan.trials if not progress.trials[trial.id].done]
    to_events = SweepEvents(store.path, emit, progress, watch.show)
    if address == IN_PROCESS:
        _here(plan, todo, store.path, to_events)
    else:
        on_ray(plan, todo, store.path, to_events, address)
    for name, seen in progress.trials.items():
        if seen.status == "stopped":
            with contextlib.suppress(ValueError, OSError):
                # its folder is elsewhere, or still held; the sweep's own events hold it as well
                end_early(store.path / TRIALS / name, seen.reason or "")
    trials = trials_frame(progress)
    write_frame(store.path / FILE, trials)
    counts = dict(trials["status"].value_counts().sort("status").iter_rows())
    store.update_manifest(trials=counts, status="finished", finished=now())  # which is what the report is to say
    if counts.get("failed") == len(plan.trials):
        first = progress.trials[plan.trials[0].id]
        raise ValueError(f"every trial failed, {plan.trials[0]} because {first.reason}; --resume tries them again")
    emit("phase", phase="reporting", detail="report.md")
    write_report(store.path)
    return trials


def _here(plan: SweepPlan, todo: Sequence[Trial], folder: Path, to_events: SweepEvents) -> None:
    """Plays the trials one after the other in this process."""
    from lab.sweeps.trial import TRIALS, carry_out_trial, orders

    every = orders(plan)
    os.environ["LAB_THREADS"] = str(plan.sweep.cpus)
    for trial in todo:
        for left in range(plan.sweep.retries, -1, -1):
            to_events.receive(trial.id, {"node": socket.gethostname()})
            try:
                trial_outcome = carry_out_trial(
                    every[trial.id],
                    {},
                    folder / TRIALS / trial.id,
                    lambda message, trial=trial: to_events.receive(trial.id, message),
                )
            except ValueError as error:
                to_events.trial_ended(trial.id, "again" if left else "failed", str(error))
            else:
                to_events.receive(trial.id, {"outcome": trial_outcome})
                break
