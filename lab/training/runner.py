"""Carries out a training: checks it, opens or resumes its folder, trains step by step, and evaluates."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lab.store.output import say_json
from lab.store.session import LOG, aside, carried_out, unfinished
from lab.training.trackers import reporter

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from lab.live.display import Onlooker
    from lab.store.run_store import RunStore
    from scenarios.jobs.recipe import Recipe


STOPPED = 1
# by each step
TOLD = (
    "loss",
    "grad_norm",
    "learning_rate",
    "tokens",
    "tokens_learnt",
    "skipped",
    "seconds_play",
    "seconds_learn",
)
TOLD_ONLINE = ("reward", "penalised", "lines", "unscored", "length", "kl", "entropy", "ratio", "ratio_max", "ratio_min")
EVALUATION = "evaluation"  # folder below a training's: one run per condition of its evaluation


def check_training(recipe: Recipe) -> None:
    """Raises ValueError where a model, judge or reward part is missing or a condition cannot be played; loads no
    weights.
    """
    from lab.dialogue import judges, wiring
    from lab.training.evaluation import evaluation_conditions
    from lab.training.reward_parts import reward_entries
    from scenarios.jobs.recipe import all_played

    scenarios = all_played(recipe)
    reward_entries(recipe.reward)  # those of installed packages are there and fit
    judges.check_reward_judge(recipe.reward.judge)
    judges.check_judges(scenarios[0].measure.model_copy(update={"judge": [recipe.reward.judge]}))
    for played_scenario in [*scenarios, *(condition.scenario for condition in evaluation_conditions(recipe))]:
        wiring.check_scenario(played_scenario)


def step_columns(recipe: Recipe) -> list[str]:
    """The columns of training.parquet that every step fills.

    With an offline method, steps have no rewards, and tripwires only at checkpoints.
    """
    from metrics.catalogue import MEASURES
    from scenarios.jobs.training_keys import ONLINE

    if recipe.method not in ONLINE:
        return [*TOLD]
    parts = [f"reward_{name}" for name in recipe.reward.weights()]
    return [
        *TOLD_ONLINE,
        *parts,
        *(f"wire_{name}" for name, measure in MEASURES.items() if measure.group == "tripwires"),
        *TOLD,
    ]


def stored_recipe(folder: str) -> Recipe:
    """The recipe in a training's folder. Raises ValueError where files that it names have changed since."""
    from lab.store.run_store import read_manifest
    from scenarios.jobs.recipe import all_played
    from scenarios.jobs.training import load_recipe

    digest = read_manifest(folder).get("digest")
    recipe = load_recipe(Path(folder) / "scenario.yaml")
    if recipe.digest() != digest:
        scenarios = [*(each.scenario for each in recipe.scenario), *recipe.evaluation.scenario]
        people = dict.fromkeys(path for scenario in all_played(recipe) for path in scenario.personas)
        files = ", ".join([*scenarios, *people, *recipe.data, *filter(None, (recipe.tuning.adapter,))])
        raise ValueError(
            f"{folder} was begun with other files than {files} are now; expected them unchanged, or a new training "
            "without --resume"
        )
    return recipe


def open_training(recipe: Recipe, runs: str | Path, resume: str | Path | None = None) -> RunStore:
    """The folder `resume`, opened again, or else a new folder below `runs`.

    Raises StoreError where it cannot be written, ValueError where `resume` is no training that can be opened.
    """
    from lab.store.run_store import create, open_for_resume
    from scenarios.jobs.recipe import played

    if resume:
        return open_for_resume(resume)
    scenario = played(recipe)
    models = {seat: scenario.seats[seat].model for seat in recipe.seats()}
    return create(runs, recipe.name, recipe.resolved_yaml(), recipe.seed, recipe.digest(), models=models)


def run_training(
    recipe: Recipe, store: RunStore, *, address: str | None, display: str = "auto", as_json: bool = False
) -> int:
    """Carries out the training and prints its evaluation.

    Returns the exit code: 0 trained, 1 stopped by a tripwire, 2 failed (with the reason on stderr), 130 interrupted.

    - `address`: as of `lab.dialogue.cluster.hosting`.
    - `display`: auto, rich, plain or none.
    - `as_json`: print only the folder and the evaluation, as one JSON object.
    """
    from lab.live.run_monitor import conclude
    from lab.live.training_screen import training_summary
    from lab.store.console import Console

    with aside(store.path / LOG) as (screen, errors):
        console, display = Console(file=screen), "none" if as_json else display
        status, reason, result = carry_out_training(recipe, store, console, address=address, display=display)
        if result is None:
            talking = None if display == "none" else console
            return unfinished("lab.train", "checkpoint", status, reason, talking, errors, store.path)
        table, stopped = result
        if as_json:
            rows = table.fill_nan(None).to_dicts()
            say_json({"run": str(store.path), "stopped": stopped, "evaluation": rows}, file=screen)
        elif display != "none":
            conclude(console, training_summary(table, stopped), store.path)
    return STOPPED if stopped else 0


def carry_out_training(
    recipe: Recipe, store: RunStore, console: Console, *, address: str | None, display: str
) -> tuple[str, str | None, tuple[pl.DataFrame, str] | None]:
    """Trains from the last checkpoint in the folder and evaluates, with progress on `console`.

    Returns the status (finished, failed or interrupted), the reason where it is not finished, and the result of
    `perform_training` where it is.
    """
    from lab.live.training_screen import training_display

    earlier = steps_before_checkpoint(store)
    with training_display(display, console, recipe, str(store.path), earlier) as watch:
        status, reason, result = carried_out(
            lambda: perform_training(recipe, store, watch, earlier, address=address), store, watch.show, "checkpoint"
        )
    return status, reason, result if status == "finished" else None


def perform_training(
    recipe: Recipe, store: RunStore, watch: Onlooker, earlier: Sequence[dict], *, address: str | None
) -> tuple[pl.DataFrame, str]:
    """Trains and evaluates; every event is stored before it is shown. Returns (evaluation, stopped).

    `stopped` names the tripwire that ended the training, "" where none did. `earlier` holds the step events up to the
    checkpoint from which the training resumes. Raises ValueError where models, memory or a step fail, StoreError where
    a file cannot be written.
    """
    import polars as pl

    from lab.dialogue import capacity, judges, seats, wiring
    from lab.dialogue.cluster import hosting
    from lab.dialogue.notices import run_notices
    from lab.progress.training import TrainingProgress
    from lab.reports.write import write_report
    from lab.store.event_log import now
    from lab.store.run_store import write_frame
    from lab.training.evaluation import evaluate_all, evaluation_conditions
    from lab.training.loop import TrainingLoop, latest_checkpoint, learner, steps_of
    from lab.training.memory_check import check_learning_memory
    from scenarios import personas as people
    from scenarios.jobs.recipe import all_played
    from scenarios.records import SEATS

    def emit(kind: str, **rest: object) -> None:
        watch.show(store.append({"event": kind, **rest}))

    scenarios = all_played(recipe)
    scenario = scenarios[0]
    rewarding = scenario.measure.model_copy(update={"judge": [recipe.reward.judge]})
    names = judges.judge_engines(rewarding).union(
        *(
            wiring.engine_names(played_scenario)
            for played_scenario in [*scenarios, *(e.scenario for e in evaluation_conditions(recipe))]
        )
    )
    emit("phase", phase="loading", detail=", ".join(sorted(names)))
    workers = recipe.workers * len(recipe.seats()) if recipe.workers > 1 else 0
    with (
        hosting(address, len(names), lambda detail: emit("recovered", detail=detail), workers) as make,
        contextlib.ExitStack() as running,
    ):
        engines = {name: make(name, recipe.dtype, recipe.device) for name in sorted(names)}
        for played_scenario in scenarios:
            check_learning_memory(recipe, played_scenario, engines, people.cast(played_scenario))
        for condition in evaluation_conditions(recipe):
            for seat in SEATS:
                capacity.longest_view(condition.scenario, seat, engines, people.cast(condition.scenario))
        students = {
            seat: running.enter_context(contextlib.closing(learner(recipe, scenario, seat, len(names))))
            for seat in recipe.seats()
        }
        judge = judges.judges(rewarding, engines, recipe.device)[0]
        aids = judges.aids(engines[seats.engine_name(scenario.seats[recipe.seats()[0]])], recipe.device)
        training = TrainingLoop(recipe, scenario, engines, students, judge, aids, store.path)
        first = 0
        if checkpoint := latest_checkpoint(store.path):
            training.restore(checkpoint)
            first = steps_of(checkpoint)
        student = next(iter(students.values()))
        store.update_manifest(device=str(student.device), dtype=student.dtype)
        emit("started", name=recipe.name, method=recipe.method, steps=recipe.max_steps, first=first)
        progress = TrainingProgress(list(earlier))
        emit("phase", phase="training", detail=recipe.method)
        with reporter(recipe.report_to, store.path) as report:
            for event in run_notices(*scenarios).after(training.steps(first, earlier)):
                kept = store.append(event)
                progress.fold(kept)
                if event["event"] == "step":
                    report(event)
                    write_frame(store.path / "training.parquet", _frame(progress.steps))
                watch.show(kept)  # last: whoever is shown a step may end the training there
        store.update_manifest(stopped=progress.stopped)
        training.save(store.path / "adapter", state=False)
        evaluation = pl.DataFrame()
        for coming, evaluation, by_person in evaluate_all(recipe, engines, aids, store.path / EVALUATION):
            write_frame(store.path / "evaluation.parquet", evaluation)
            write_frame(store.path / "evaluation_people.parquet", by_person)
            if coming:
                emit("phase", phase="evaluating", detail=coming)
    store.update_manifest(status="finished", finished=now())  # which is what the report is to say
    write_report(store.path)
    return evaluation, progress.stopped


def steps_before_checkpoint(store: RunStore) -> list[dict]:
    """The `step` events up to the last checkpoint; of a repeated step, the last event."""
    if not store.earlier:
        return []
    from lab.progress.training import steps_before
    from lab.training.loop import latest_checkpoint, steps_of

    checkpoint = latest_checkpoint(store.path)
    done = steps_of(checkpoint) if checkpoint else 0
    return steps_before(store.earlier, done)


def _frame(steps: Sequence[dict]):
    """training.parquet: one row per step with all its figures, null where one is missing, as in the events on disk."""
    import polars as pl

    frame = pl.DataFrame(
        [{key: value for key, value in step.items() if key not in ("event", "time", "samples")} for step in steps],
        infer_schema_length=None,
        schema_overrides={"note": pl.String},
    ).fill_nan(None)
    return frame.with_columns(pl.col(pl.Null).cast(pl.Float64))
