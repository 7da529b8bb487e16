"""The dialogues and trainings of a study's arms: ordinary runs and trainings, each in a folder of its own below the
study's.

A folder is named by its arm and by a digest of everything that decides the result: a finished one is reused, an
interrupted one is resumed. Engines and learners are in this process; each arm has its own.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lab.dialogue.cluster import IN_PROCESS
from lab.progress.run import State, apply
from lab.progress.study import ArmProgress
from lab.runs.runner import perform_run as play_out
from lab.store.frames import EVALUATION
from lab.store.run_store import MANIFEST, RunStore, create, open_for_resume, read_frames, read_manifest
from lab.store.session import LOG, aside, carried_out
from lab.store.stored_frames import read_steps, read_stored
from lab.training.runner import perform_training as train_out
from lab.training.runner import steps_before_checkpoint
from metrics.studies.protocol import PlayedRun, Trained
from scenarios.jobs.recipe import Recipe, played
from scenarios.jobs.study import Study
from scenarios.jobs.training import load_recipe
from scenarios.overrides import as_items
from scenarios.records import SEATS, USER
from scenarios.scenario import Scenario, load_scenario

FOLDER = "arms"  # of a study's run
LEARNING = ("data", "training")  # phases of a training that are neither loading nor evaluating
OVERRIDES = "overrides."  # keys of a training's change that are the scenario's


class Arms:
    """Plays runs and trainings below the study's folder. `emit` stores and shows an event of the study."""

    def __init__(self, study: Study, folder: Path, emit: Callable[..., None]) -> None:
        self._study, self._folder, self._emit = study, folder / FOLDER, emit

    def play(self, arm: str, file: str, changes: Mapping[str, object], adapter: str | None) -> PlayedRun:
        """The frames of a run of the scenario `file` with `changes`. Raises ValueError where it fails,
        KeyboardInterrupt.
        """
        scenario = arm_scenario(self._study, file, changes, adapter)
        models = {seat: scenario.seats[seat].model for seat in SEATS}
        folder = self._carried_out(
            arm, scenario, models, lambda store, shown: play_out(scenario, store, shown, address=IN_PROCESS)
        )
        return PlayedRun(**read_frames(folder))

    def train(self, arm: str, file: str, changes: Mapping[str, object], data: Sequence[str]) -> Trained:
        """The frames and figures of the training `file` with `changes`. Raises ValueError where it fails,
        KeyboardInterrupt.
        """
        recipe = arm_recipe(self._study, file, changes, [str(self._folder / name) for name in data])
        models = {seat: played(recipe).seats[seat].model for seat in recipe.seats()}
        folder = self._carried_out(
            arm,
            recipe,
            models,
            lambda store, shown: train_out(recipe, store, shown, steps_before_checkpoint(store), address=IN_PROCESS),
        )
        frames = {
            "evaluation": read_stored(folder / "evaluation.parquet", EVALUATION),
            "training": read_steps(folder / "training.parquet"),
        }
        manifest = read_manifest(folder)
        return Trained(
            folder.name,
            **frames,
            parameters=parameters(folder / "adapter"),
            stopped=manifest.get("stopped") or "",
            seconds=sum(manifest.get("seconds", {}).get(phase, 0.0) for phase in LEARNING),
        )

    def adapter(self, worn: str) -> Path:
        """The folder of the adapter that the training `worn` trained."""
        return self._folder / worn / "adapter"

    def _carried_out(
        self,
        arm: str,
        what: Scenario | Recipe,
        models: Mapping[str, str],
        work: Callable[[RunStore, ArmDisplay], object],
    ) -> Path:
        """The folder of the finished run or training. Raises ValueError where it fails, KeyboardInterrupt where it is
        interrupted.
        """
        folder = self._folder / f"{re.sub(r'[^A-Za-z0-9_-]+', '-', arm).strip('-')[:40]}-{what.digest()[:12]}"
        there = (folder / MANIFEST).is_file()
        if there and read_manifest(folder).get("status") == "finished":
            self._emit("arm", arm=arm, done=workload(what), detail="is there")
            return folder
        if not there:
            shutil.rmtree(folder, ignore_errors=True)  # its making broke off
        store = (
            open_for_resume(folder)
            if there
            else create(
                folder.parent, what.name, what.resolved_yaml(), what.seed, what.digest(), folder=folder, models=models
            )
        )
        with store, aside(folder / LOG):
            shown = ArmDisplay(lambda done, detail: self._emit("arm", arm=arm, done=done, detail=detail), what, store)
            status, reason, _ = carried_out(lambda: work(store, shown), store, shown.show, "line or checkpoint")
        if status == "interrupted":
            raise KeyboardInterrupt
        if status == "failed":
            raise ValueError(f"{arm}: {reason}")
        return folder


class ArmDisplay:
    """The monitor of a run, or the watch of a training, that reports its progress in lines, or in steps and
    conditions.
    """

    def __init__(self, emit: Callable[[int, str], None], what: Scenario | Recipe, store: RunStore) -> None:
        self.state, self._emit, self._what = State(), emit, what
        if isinstance(what, Recipe):
            self._progress = ArmProgress(len(steps_before_checkpoint(store)), what.max_steps)
        else:
            self._progress = ArmProgress(len(store.frames()["turns"]))

    def show(self, event: dict) -> None:
        detail = self._progress.fold(event)
        if detail is not None:
            self._emit(self._progress.done, detail)
        if isinstance(self._what, Scenario):
            apply(self.state, event)


def arm_scenario(study: Study, file: str, changes: Mapping[str, object], adapter: str | None = None) -> Scenario:
    """The scenario `file` with the study's model in the user's seat and with `changes`. Raises ScenarioError."""
    seat = study.seats.assistant
    study_settings = {
        "dtype": study.dtype,
        "device": study.device,
        f"seats.{USER}.model": seat.model,
        f"seats.{USER}.endpoint": seat.endpoint,
        f"seats.{USER}.api_key_env": seat.api_key_env,
        f"seats.{USER}.adapter": adapter or seat.adapter,
    }
    return load_scenario(_file(study, file), as_items({**study_settings, **changes}))


def arm_recipe(study: Study, file: str, changes: Mapping[str, object], data: Sequence[str] = ()) -> Recipe:
    """The training `file` of the study's model with `changes`, by one worker.

    Raises ScenarioError, and ValueError where the model cannot be trained: it is on a server or has an adapter.
    """
    seat = study.seats.assistant
    if (
        obstacle := f"{seat.endpoint} does"
        if seat.endpoint
        else "what wears an adapter does"
        if seat.adapter or ":" in seat.model
        else ""
    ):
        raise ValueError(
            f"{study.study} trains the model that it asks, and {obstacle} not learn here; expected a model by itself"
        )
    path = _file(study, file)
    own = load_recipe(path)
    played_with = {
        **own.overrides,
        **{f"seats.{seat_name}.model": seat.model for seat_name in own.seats()},
        **{key.removeprefix(OVERRIDES): value for key, value in changes.items() if key.startswith(OVERRIDES)},
    }
    study_settings = {
        "dtype": study.dtype,
        "device": study.device,
        "workers": 1,
        "data": list(data),
        "overrides": played_with,
    }
    return load_recipe(
        path,
        as_items({**study_settings, **{key: value for key, value in changes.items() if not key.startswith(OVERRIDES)}}),
    )


def workload(what: Scenario | Recipe) -> int:
    """The work of a run in lines, or that of a training in steps and evaluation conditions."""
    from lab.training.evaluation import evaluation_conditions

    return (
        what.max_steps + len(evaluation_conditions(what))
        if isinstance(what, Recipe)
        else what.conversations * what.turns
    )


def parameters(adapter: Path) -> int:
    """The number of weights in the safetensors of a folder."""
    from safetensors import safe_open

    count = 0
    for file in adapter.glob("*.safetensors"):
        with safe_open(file, "numpy") as tensors:
            names = tensors.keys()
            count += sum(math.prod(tensors.get_slice(name).get_shape()) for name in names)
    return count


def _file(study: Study, file: str) -> Path:
    return Path(study.stimuli).parent / file
