"""The trials of a sweep on Ray Tune: one trainable per trial, with schedulers, on nodes that may join and leave."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lab.sweeps.folder_sync import SEND_EVERY_S, Home, SentFolder
from lab.sweeps.resources import NODES_EVERY_S, nodes, resources
from lab.sweeps.sweep_events import SweepEvents

if TYPE_CHECKING:
    from lab.sweeps.trial import Order
    from scenarios.jobs.sweep import Scheduler, SweepPlan, Trial


LOST = "its worker was lost: the process, or its node, ended"
NODE_WAIT_S = 600.0  # for a node that has room for a trial, on a cluster that may grow
# errors are stored as reasons, without keys; Tune would print them with all they hold
SETTINGS = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a model's path is relative to where the command was given
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}


def on_ray(plan: SweepPlan, todo: Sequence[Trial], folder: Path, to_events: SweepEvents, address: str | None) -> None:
    """Plays the trials `todo` on the Ray cluster at `address` (None: RAY_ADDRESS, or else a private one).

    Results go to the sweep's folder, and progress to `to_events`. A trial that fails does not stop the others. Raises
    ValueError where no cluster answers, or no node has room for a trial.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    from ray import tune

    from lab.dialogue.cluster import connected, is_private
    from lab.sweeps.trial import files, orders

    if not todo:
        return
    home = Home(str(folder.resolve()), folder.name, plan.sweep.storage, plan.sweep.cpus)
    with connected(address, plan.sweep.cpus), tempfile.TemporaryDirectory(prefix="lab-sweep-") as scratch:
        wanted = awaited(plan, 0.0 if is_private(address) else NODE_WAIT_S, to_events.emit)
        # put once, fetched by reference
        trainable = tune.with_parameters(play_trial, orders=orders(plan), given=files(plan), home=home)
        tuner = tune.Tuner(
            tune.with_resources(trainable, tune.PlacementGroupFactory([wanted])),
            param_space={"trial": tune.grid_search([trial.id for trial in todo])},
            tune_config=tune.TuneConfig(
                max_concurrent_trials=plan.sweep.at_once,
                reuse_actors=plan.sweep.kind == "scenario",
                scheduler=_scheduler(plan),
                trial_dirname_creator=lambda trial: trial.config["trial"],
            ),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=scratch,
                verbose=0,
                callbacks=[_listener(to_events)],
                failure_config=tune.FailureConfig(max_failures=plan.sweep.retries),
            ),
        )
        tuner.fit()


def awaited(plan: SweepPlan, patience_s: float, emit: Callable[..., None]) -> dict[str, float]:
    """The result of `resources` on the cluster, after waiting up to `patience_s` seconds for a node with room for a
    trial.

    Raises ValueError where there is none by then. `emit` stores the phase of waiting as an event.
    """
    from lab.progress.sweep import WAITING

    until, waited = time.monotonic() + patience_s, False
    while True:
        try:
            wanted = resources(plan, nodes())
        except ValueError as error:
            if time.monotonic() >= until:
                raise
            if not waited:
                emit("phase", phase=WAITING, detail=str(error))
            waited = True
            time.sleep(NODES_EVERY_S)
        else:
            if waited:
                emit("phase", phase="playing", detail=plan.sweep.kind)
            return wanted


def _scheduler(plan: SweepPlan):
    from ray.tune.schedulers import ASHAScheduler

    from scenarios.jobs.recipe import Recipe

    how: Scheduler | None = plan.sweep.scheduler
    if how is None:
        return None
    most = max(base.max_steps for base in plan.bases.values() if isinstance(base, Recipe))
    return ASHAScheduler(
        time_attr="step",
        metric=how.metric,
        mode=how.mode,
        grace_period=min(how.grace_period, most),
        max_t=most,
        reduction_factor=how.reduction_factor,
        stop_last_trials=False,
    )


def _listener(to_events: SweepEvents):
    """A callback by which Tune reports how trials begin, progress and end."""
    import ray
    from ray.tune import Callback

    class Listener(Callback):
        def __init__(self) -> None:
            self.why: dict[str, str] = {}  # trial -> how the attempt failed, where it said so
            self.looked = 0.0

        def __reduce__(
            self,
        ):
            # Tune keeps a copy of what it was asked, to restore itself from: not of this, which holds files
            return Callback, ()

        def on_trial_result(self, iteration, trials, trial, result, **info) -> None:
            message = result.get("message") or {}
            if "failed" in message:
                self.why[trial.config["trial"]] = message["failed"]
            to_events.receive(trial.config["trial"], message)

        def on_trial_recover(self, iteration, trials, trial, **info) -> None:
            to_events.trial_ended(trial.config["trial"], "again", self.why.pop(trial.config["trial"], LOST))

        def on_trial_error(self, iteration, trials, trial, **info) -> None:
            to_events.trial_ended(trial.config["trial"], "failed", self.why.pop(trial.config["trial"], LOST))

        def on_trial_complete(self, iteration, trials, trial, **info) -> None:
            seen = to_events.progress.trials[trial.config["trial"]]
            if seen.status == "running":  # it has not reported its end
                to_events.trial_ended(
                    trial.config["trial"], "stopped", f"stopped early by the scheduler after step {seen.step}"
                )

        def on_step_end(self, iteration, trials, **info) -> None:
            if time.monotonic() - self.looked >= NODES_EVERY_S:
                self.looked = time.monotonic()
                to_events.cluster_state(
                    sum(node["Alive"] for node in ray.nodes()),
                    ray.cluster_resources().get("CPU", 0),
                    ray.available_resources().get("CPU", 0),
                )

    return Listener()


def play_trial(
    config: dict,
    orders: Mapping[str, Order] | None = None,
    given: Mapping[str, bytes] | None = None,
    home: Home | None = None,
) -> None:
    """The trainable of Tune: plays one trial in a process of its own, on any node, and reports its progress and
    outcome.

    Re-raises the error of a trial that fails, after reporting it.
    """
    import ray
    from ray import tune

    from lab.sweeps.trial import TRIALS, carry_out_trial
    from scenarios.messages import reason

    if orders is None or given is None or home is None:  # Tune wants a function that can do without
        raise TypeError("play_trial was called without orders, files or a home; expected all three")
    order = orders[config["trial"]]
    os.environ["LAB_THREADS"] = str(home.threads)
    shared = home.shared()
    folder = (
        (Path(home.folder) if shared else Path(tempfile.gettempdir()) / "lab-sweeps" / home.run_id)
        / TRIALS
        / order.trial
    )
    sent = SentFolder(home, order.trial, folder)

    def report(message: dict) -> None:
        if not shared and ("numbers" in message or time.monotonic() - sent.last >= SEND_EVERY_S):
            sent.send_all(say)
        say(message)

    def say(message: dict) -> None:
        tune.report(
            {"message": message} | ({"step": message["step"]} | message["numbers"] if "numbers" in message else {})
        )

    say({"node": f"{socket.gethostname()} {ray.get_runtime_context().get_node_id()[:6]}"})
    try:
        if not shared:
            sent.bring_back()
        trial_outcome = carry_out_trial(order, given, folder, report)
    except Exception as error:  # a trial that fails becomes data
        say({"failed": str(error) if isinstance(error, ValueError) else reason(error)})
        if not shared and folder.is_dir():
            sent.send_all(say)
        raise
    if not shared:
        sent.send_all(say)
    say({"outcome": trial_outcome})
    if not shared:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # other trials of this sweep, or of others, are played here too
            for above in list(folder.parents)[:3]:
                above.rmdir()
