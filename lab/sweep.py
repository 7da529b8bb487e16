"""Play a scenario, carry out a training, or ask a study, along axes: `python -m lab.sweep scenarios/sweeps/temperature.yaml [key=value ...]`.

Ray Tune places the trials, tries again those that failed, and stops trainings early. What it keeps for itself goes to a temporary
folder and is never read again: the sweep's own events say which trials are done, and --resume hands Tune the others.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.commands import Parser, obeyed
from lab.run import LOG, aside, carried_out, unfinished
from scenarios.secrets import hidden

if TYPE_CHECKING:
    from lab.display import Watch
    from lab.store import RunStore
    from lab.sweeping import Course
    from lab.trial import Order
    from scenarios.sweep import Plan, Scheduler, Trial

FAILED = 1
CLIENT = "ray://"
LOST = "its worker was lost: the process, or its node, ended"
NODES_EVERY_S = 2.0
SEND_EVERY_S = 30.0
NODE_WAIT_S = 600.0  # for a node that has room for a trial, on a cluster that may grow
PART = 64 * 2**20  # bytes of a file that travel at once
SETTINGS = {"RAY_CHDIR_TO_TRIAL_DIR": "0",  # a model's path is relative to where the command was given
            "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_DISABLE_SIGINT_HANDLER": "1", "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
            "RAY_AIR_NEW_OUTPUT": "0", "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0", "TUNE_RESULT_BUFFER_LENGTH": "1",
            "TUNE_PRINT_ALL_TRIAL_ERRORS": "0"}  # errors are told as reasons, without keys; Tune would print them with all they hold
EXAMPLES = """examples:
  python -m lab.sweep scenarios/sweeps/temperature.yaml --dry-run
  python -m lab.sweep scenarios/sweeps/temperature.yaml 'axes.seed=[1, 2, 3, 4, 5]' overrides.turns=12
  python -m lab.sweep scenarios/sweeps/temperature.yaml --address auto
  python -m lab.sweep --resume runs/20260101T120000Z-temperature-1a2b
"""


def parser() -> Parser:
    out = Parser(prog="python -m lab.sweep", description="Play a scenario, train, or ask a study, once for each combination of values, on a Ray cluster.",
                 epilog=EXAMPLES)
    out.add_argument("sweep", nargs="?", help="a sweep's YAML file; may be left out with --resume")
    out.add_argument("overrides", nargs="*", metavar="key=value", help="dotted keys of the sweep's file, such as axes.seed=[1,2]")
    out.add_argument("--address", help="a Ray cluster (default: RAY_ADDRESS, else a private one here); none: one trial after the other, "
                     "no Ray")
    out.add_argument("--display", default="auto", choices=("auto", "rich", "plain", "none"), help="how the sweep is shown")
    out.add_argument("--resume", metavar="SWEEP", help="go on with a sweep's folder: finished trials stay as they are, failed ones are tried "
                     "again")
    out.add_argument("--runs", default="runs", metavar="DIR", help="where the sweep's folder is made (default: runs)")
    out.add_argument("--dry-run", action="store_true", help="check every trial, play a little of it, and tell what the sweep will take")
    out.add_argument("--json", action="store_true", help="print the sweep's folder and its trials as one JSON object, and nothing else")
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 all trials done, 1 some failed or did not end, 2 refused or failed with a sentence on stderr, 130 interrupted."""
    return obeyed(parser(), _sweep, arguments)


def _sweep(args: argparse.Namespace) -> int:
    from lab import cluster
    from lab.store import SWEEP, create, open_for_resume
    from lab.study import BASES
    from scenarios.sweep import load_sweep

    if args.resume:
        if args.sweep:
            raise ValueError("--resume goes on with the sweep as it is; expected no file and no key=value beside it")
        plan = _resumed(Path(args.resume))
    elif args.sweep:
        plan = load_sweep(args.sweep, args.overrides, BASES)
    else:
        raise ValueError("no sweep was named; expected a YAML file, such as scenarios/sweeps/temperature.yaml, or --resume SWEEP")
    if plan.sweep.scheduler and args.address == cluster.IN_PROCESS:
        raise ValueError("--address none plays trials one after the other, and nobody stops one early; expected a sweep without a scheduler, "
                         "or another --address")
    if plan.sweep.storage and args.address == cluster.IN_PROCESS:
        raise ValueError("--address none keeps trials in the sweep's own folder; expected no storage, or another --address")
    _check(plan)
    _check_address(args.address or os.environ.get("RAY_ADDRESS") or "")
    cluster.check(args.address)
    if args.dry_run:
        from lab.probe import estimate

        return estimate(plan, args.address)
    store = open_for_resume(args.resume) if args.resume else create(
        args.runs, plan.sweep.name, plan.resolved_yaml(), plan.sweep.seed, plan.digest(), file=SWEEP, kind=plan.sweep.kind)
    with store, aside(store.path / LOG) as (screen, errors):
        return _carry_out(args, plan, store, screen, errors)


def _resumed(folder: Path) -> Plan:
    """The stored plan; the files that it names must be what they were."""
    from lab.store import SWEEP, read_manifest
    from lab.study import BASES
    from scenarios.sweep import load_sweep

    digest = read_manifest(folder).get("digest")
    if not (folder / SWEEP).is_file():
        raise ValueError(f"{folder} is no sweep: it has no {SWEEP}; expected a sweep's folder, or python -m lab.run --resume {folder}")
    plan = load_sweep(folder / SWEEP, bases=BASES)
    if plan.digest() != digest:
        raise ValueError(f"{folder} was begun with other files than {getattr(plan.sweep, plan.sweep.kind)} and what it names are now; "
                         "expected them unchanged, or a new sweep without --resume")
    return plan


def _check(plan: Plan) -> None:
    """ValueError where a trial could not be played, with its values, or would never tell the number that it is stopped or ranked by."""
    from lab.arms import checked
    from lab.headline import MEASURES
    from lab.train import numbers
    from metrics.measure import METRICS
    from scenarios.reading import nearest

    watched, best = plan.sweep.scheduler, plan.sweep.best.metric
    if best not in (known := [*MEASURES, *METRICS]):
        raise ValueError(f"best.metric is {best!r}, which nothing is measured by{nearest(best, known)}")
    for trial in plan.trials:
        try:
            checked(plan.bases[trial.id])
        except ValueError as error:
            raise ValueError(f"the trial {trial} cannot be played: {error}") from None
        if watched and watched.metric not in (told := numbers(plan.bases[trial.id])):
            raise ValueError(f"scheduler.metric is {watched.metric!r}, which no step of {plan.bases[trial.id].method} tells"
                             f"{nearest(watched.metric, told)}")


def _check_address(address: str) -> None:
    """ValueError for one at which Tune would run somewhere else than the sweep, which then hears nothing of its trials."""
    if address.startswith(CLIENT):
        raise ValueError(f"{address!r} is Ray Client's, from where a sweep cannot be led; expected host:port of the cluster's head node, from a "
                         "machine of the cluster, or auto, local or none")


def _carry_out(args: argparse.Namespace, plan: Plan, store: RunStore, screen, errors) -> int:
    from rich.console import Console

    from lab.files import dumps
    from lab.monitor import conclude
    from lab.sweeping import DONE, Course, choose, summary

    console, course = Console(file=screen), Course()
    for event in store.earlier:
        course.fold(event)
    with choose("none" if args.json else args.display, console, plan.sweep, str(store.path), course) as watch:
        status, reason, frame = carried_out(lambda: _perform(args, plan, store, course, watch), store, watch.show, "trial")
    if status != "finished":
        return unfinished("lab.sweep", "finished trial", args, status, reason, console, errors, store.path)
    if args.json:
        print(dumps({"sweep": str(store.path), "trials": frame.fill_nan(None).to_dicts()}).decode(), file=screen)
    elif args.display != "none":
        conclude(console, summary(course, plan.sweep), store.path)
    return 0 if frame["status"].is_in(DONE).all() else FAILED


def _perform(args: argparse.Namespace, plan: Plan, store: RunStore, course: Course, watch: Watch):
    """All trials that are not done; every event is stored first and shown then. Gives trials.parquet's frame."""
    from lab.cluster import IN_PROCESS
    from lab.report import write_report
    from lab.store import now, write_frame
    from lab.sweep_tables import FILE, frame
    from lab.trial import TRIALS, end_early, left_behind

    def tell(kind: str, **rest: object) -> None:
        watch.show(store.append({"event": kind, **rest}, sync=kind == "trial"))
        if kind == "trial" and rest["status"] != "running":
            write_frame(store.path / FILE, frame(course))

    tell("phase", phase="playing", detail=plan.sweep.kind)
    tell("sweep", name=plan.sweep.name, trials={trial.id: dict(trial.values) for trial in plan.trials}, resumed=bool(store.earlier))
    for trial in plan.trials:
        seen = course.trials[trial.id]
        if not seen.done and (found := left_behind(store.path / TRIALS / trial.id, plan.bases[trial.id].digest())):
            tell("trial", trial=trial.id, status="finished", **found)
    todo = [trial for trial in plan.trials if not course.trials[trial.id].done]
    sitting = Sitting(store.path, tell, course, watch.show)
    (_here if args.address == IN_PROCESS else _on_ray)(args, plan, todo, store.path, sitting)
    for name, seen in course.trials.items():
        if seen.status == "stopped":
            with contextlib.suppress(ValueError, OSError):  # its folder is elsewhere, or still held; the sweep's own events tell it as well
                end_early(store.path / TRIALS / name, seen.reason or "")
    found = frame(course)
    write_frame(store.path / FILE, found)
    counts = {status: count for status, count in found["status"].value_counts().sort("status").iter_rows()}
    store.update_manifest(trials=counts, status="finished", finished=now())  # which is what the report is to say
    if counts.get("failed") == len(plan.trials):
        first = course.trials[plan.trials[0].id]
        raise ValueError(f"every trial failed, {plan.trials[0]} because {first.reason}; --resume tries them again")
    tell("phase", phase="reporting", detail="report.md")
    write_report(store.path)
    return found


@dataclass
class Sitting:
    """What trials tell, as events of the sweep."""

    folder: Path
    tell: Callable[..., None]
    course: Course
    show: Callable[[dict], None]

    def heard(self, trial: str, told: Mapping) -> None:
        if "node" in told:
            self.tell("trial", trial=trial, status="running", node=told["node"])
        elif "outcome" in told:
            self.tell("trial", trial=trial, status="finished", **told["outcome"])
        elif "numbers" in told:
            self.tell("reported", trial=trial, **told)
        elif "lines" in told:  # often, and nothing that --resume wants to know
            self.show({"event": "progress", "trial": trial, **told})
        elif "part" in told:
            self._keep(trial, *told["part"])

    def ended(self, trial: str, status: str, reason: str) -> None:
        """`status`: again, failed or stopped."""
        self.tell("trial", trial=trial, status=status, reason=hidden(reason))

    def nodes(self, alive: int, cores: float, free: float) -> None:
        """How the cluster is: stored where a node came or went."""
        event = {"nodes": alive, "cores": cores, "free": free}
        if alive != self.course.nodes:
            self.tell("nodes", **event)
        else:
            self.show({"event": "nodes", **event})

    def _keep(self, trial: str, name: str, first: bool, reference) -> None:
        """A part of a file out of a trial's folder on a machine that does not share this disk."""
        import ray
        from ray.exceptions import RayError

        from lab.trial import TRIALS

        try:
            data = ray.get(reference)
        except RayError:  # its node has gone meanwhile, and the trial is tried again
            return
        path = self.folder / TRIALS / trial / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb" if first else "ab") as file:
            file.write(data)


def _here(args: argparse.Namespace, plan: Plan, todo: Sequence[Trial], folder: Path, sitting: Sitting) -> None:
    """One trial after the other, in this process."""
    from lab.trial import TRIALS, carry_out, orders

    every = orders(plan)
    os.environ["LAB_THREADS"] = str(plan.sweep.cpus)
    for trial in todo:
        for left in range(plan.sweep.retries, -1, -1):
            sitting.heard(trial.id, {"node": socket.gethostname()})
            try:
                found = carry_out(every[trial.id], {}, folder / TRIALS / trial.id, lambda told, trial=trial: sitting.heard(trial.id, told))
            except ValueError as error:
                sitting.ended(trial.id, "again" if left else "failed", str(error))
            else:
                sitting.heard(trial.id, {"outcome": found})
                break


# -- on Ray ----------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Home:
    """The sweep's folder as a trial on any machine needs to know it."""

    folder: str
    run_id: str
    storage: str | None
    threads: int

    def shared(self) -> bool:
        """Whether this machine sees the folder itself."""
        from lab.store import read_manifest

        with contextlib.suppress(ValueError, OSError):
            return not self.storage and read_manifest(self.folder)["run_id"] == self.run_id
        return False


def _on_ray(args: argparse.Namespace, plan: Plan, todo: Sequence[Trial], folder: Path, sitting: Sitting) -> None:
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    from ray import tune

    from lab.cluster import connected, is_private
    from lab.trial import files, orders

    if not todo:
        return
    home = Home(str(folder.resolve()), folder.name, plan.sweep.storage, plan.sweep.cpus)
    with connected(args.address, plan.sweep.cpus), tempfile.TemporaryDirectory(prefix="lab-sweep-") as scratch:
        wanted = awaited(plan, 0.0 if is_private(args.address) else NODE_WAIT_S, sitting.tell)
        told = tune.with_parameters(play_trial, orders=orders(plan), given=files(plan), home=home)  # put once, fetched by reference
        tuner = tune.Tuner(
            tune.with_resources(told, tune.PlacementGroupFactory([wanted])),
            param_space={"trial": tune.grid_search([trial.id for trial in todo])},
            tune_config=tune.TuneConfig(max_concurrent_trials=plan.sweep.at_once, reuse_actors=plan.sweep.kind == "scenario",
                                        scheduler=_scheduler(plan), trial_dirname_creator=lambda trial: trial.config["trial"]),
            run_config=tune.RunConfig(name="sweep", storage_path=scratch, verbose=0, callbacks=[_listener(sitting)],
                                      failure_config=tune.FailureConfig(max_failures=plan.sweep.retries)))
        tuner.fit()


def awaited(plan: Plan, patience_s: float, tell: Callable[..., None]) -> dict[str, float]:
    """`resources` on the cluster as it is, or as it has become by the time that a node fits, of those that come up later. ValueError where
    none has by then."""
    from lab.sweeping import WAITING

    until, waited = time.monotonic() + patience_s, False
    while True:
        try:
            found = resources(plan, nodes())
        except ValueError as error:
            if time.monotonic() >= until:
                raise
            if not waited:
                tell("phase", phase=WAITING, detail=str(error))
            waited = True
            time.sleep(NODES_EVERY_S)
        else:
            if waited:
                tell("phase", phase="playing", detail=plan.sweep.kind)
            return found


def nodes() -> list[Mapping[str, float]]:
    """What each node of the cluster that is connected has."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def resources(plan: Plan, nodes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Cores, and a share of a GPU, of a trial, on such nodes. ValueError where none has as much.

    All engines of a trial live in one process and so share what it gets. Where `at_once` trials are to share the GPUs, each gets a fair
    part of one; else a trial has a GPU to itself.
    """
    from lab.cluster import gpu_shares

    wanted, gpus = {"CPU": float(plan.sweep.cpus)}, int(sum(node.get("GPU", 0) for node in nodes))
    share = plan.sweep.gpus
    if share is None:
        share = gpu_shares(gpus, plan.sweep.at_once or gpus, 0)[0] if gpus and any(map(_computes, plan.bases.values())) else 0.0
    wanted |= {"GPU": share} if share else {}
    if not any(all(node.get(name, 0) >= much for name, much in wanted.items()) for node in nodes):
        most = {name: max((node.get(name, 0) for node in nodes), default=0) for name in wanted}
        raise ValueError(f"a trial wants {_of(wanted)}, and no node has as much (the most: {_of(most)}); expected less of it: cpus, gpus")
    return wanted


def _of(amounts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {much:g}" for name, much in amounts.items())


def _computes(base) -> bool:
    """Whether a model of ours is at work in it, wherever GPUs are."""
    from lab import wiring
    from scenarios.recipe import Recipe
    from scenarios.study import Study

    if isinstance(base, Study):
        return base.device != "cpu" and not base.seats.assistant.endpoint
    return base.device != "cpu" and (isinstance(base, Recipe) or bool(wiring.engine_names(base)))


def _scheduler(plan: Plan):
    from ray.tune.schedulers import ASHAScheduler

    how: Scheduler | None = plan.sweep.scheduler
    if how is None:
        return None
    most = max(base.max_steps for base in plan.bases.values())
    return ASHAScheduler(time_attr="step", metric=how.metric, mode=how.mode, grace_period=min(how.grace_period, most), max_t=most,
                         reduction_factor=how.reduction_factor, stop_last_trials=False)


def _listener(sitting: Sitting):
    """A callback that Tune calls as trials begin, tell and end."""
    import ray
    from ray.tune import Callback

    class Listener(Callback):
        def __init__(self) -> None:
            self.why: dict[str, str] = {}  # trial -> how the attempt failed, where it said so
            self.looked = 0.0

        def __reduce__(self):  # Tune keeps a copy of what it was asked, to restore itself from: not of this, which holds files
            return Callback, ()

        def on_trial_result(self, iteration, trials, trial, result, **info) -> None:
            told = result.get("told") or {}
            if "failed" in told:
                self.why[trial.config["trial"]] = told["failed"]
            sitting.heard(trial.config["trial"], told)

        def on_trial_recover(self, iteration, trials, trial, **info) -> None:
            sitting.ended(trial.config["trial"], "again", self.why.pop(trial.config["trial"], LOST))

        def on_trial_error(self, iteration, trials, trial, **info) -> None:
            sitting.ended(trial.config["trial"], "failed", self.why.pop(trial.config["trial"], LOST))

        def on_trial_complete(self, iteration, trials, trial, **info) -> None:
            seen = sitting.course.trials[trial.config["trial"]]
            if seen.status == "running":  # it never told of its end
                sitting.ended(trial.config["trial"], "stopped", f"stopped early by the scheduler after step {seen.step}")

        def on_step_end(self, iteration, trials, **info) -> None:
            if time.monotonic() - self.looked >= NODES_EVERY_S:
                self.looked = time.monotonic()
                sitting.nodes(sum(node["Alive"] for node in ray.nodes()), ray.cluster_resources().get("CPU", 0),
                              ray.available_resources().get("CPU", 0))

    return Listener()


def play_trial(config: dict, orders: Mapping[str, Order] | None = None, given: Mapping[str, bytes] | None = None,
               home: Home | None = None) -> None:
    """What Tune runs: one trial, in a process of its own on some node."""
    import ray
    from ray import tune

    from agents.errors import reason
    from lab.trial import TRIALS, carry_out

    order = orders[config["trial"]]
    os.environ["LAB_THREADS"] = str(home.threads)
    shared = home.shared()
    folder = (Path(home.folder) if shared else Path(tempfile.gettempdir()) / "lab-sweeps" / home.run_id) / TRIALS / order.trial
    sent = Sent(home, order.trial, folder)

    def tell(told: dict) -> None:
        if not shared and ("numbers" in told or time.monotonic() - sent.last >= SEND_EVERY_S):
            sent.all(say)
        say(told)

    def say(told: dict) -> None:
        tune.report({"told": told} | ({"step": told["step"]} | told["numbers"] if "numbers" in told else {}))

    say({"node": f"{socket.gethostname()} {ray.get_runtime_context().get_node_id()[:6]}"})
    try:
        if not shared:
            sent.back()
        found = carry_out(order, given, folder, tell)
    except Exception as error:  # a trial that fails becomes data
        say({"failed": str(error) if isinstance(error, ValueError) else reason(error)})
        if not shared and folder.is_dir():
            sent.all(say)
        raise
    if not shared:
        sent.all(say)
    say({"outcome": found})
    if not shared:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # other trials of this sweep, or of others, are played here too
            folder.parent.rmdir(), folder.parent.parent.rmdir(), folder.parent.parent.parent.rmdir()


class Sent:
    """A trial's folder on a machine that does not share the sweep's disk, and what of it went to the storage, or back to the sweep."""

    def __init__(self, home: Home, trial: str, folder: Path) -> None:
        self._home, self._trial, self._folder = home, trial, folder
        self._known: dict[Path, tuple[int, int]] = {}
        self.last = time.monotonic()

    def all(self, say: Callable[[dict], None]) -> None:
        """What has changed since the last time."""
        import ray
        from pyarrow import fs

        from lab.store import MANIFEST

        self.last = time.monotonic()
        if self._home.storage:
            there, place = self._place()
            there.create_dir(place, recursive=True)
            fs.copy_files(str(self._folder), place, destination_filesystem=there)
            return
        files = (path for path in self._folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        for path in sorted(files, key=lambda path: (path == self._folder / MANIFEST, path)):  # it says what is there
            stat = path.stat()
            if self._known.get(path) == (stat.st_mtime_ns, stat.st_size):
                continue
            self._known[path] = stat.st_mtime_ns, stat.st_size
            with path.open("rb") as file:
                data, first = file.read(PART), True
                while data or first:
                    say({"part": (str(path.relative_to(self._folder)), first, ray.put(data))})
                    data, first = file.read(PART), False

    def back(self) -> None:
        """What the storage holds of the trial, where that is more than is here: another machine may have gone on with it meanwhile."""
        from pyarrow import fs

        from lab.store import EVENTS

        if not self._home.storage:
            return
        there, place = self._place()
        log, here = there.get_file_info(f"{place}/{EVENTS}"), self._folder / EVENTS
        if log.type != fs.FileType.NotFound and log.size > (here.stat().st_size if here.is_file() else -1):
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True, exist_ok=True)
            fs.copy_files(place, str(self._folder), source_filesystem=there)

    def _place(self) -> tuple:
        """The storage's file system, and the trial's folder in it."""
        from pyarrow import fs

        there, root = fs.FileSystem.from_uri(self._home.storage)
        return there, f"{root.rstrip('/')}/{self._home.run_id}/trials/{self._trial}"


if __name__ == "__main__":
    sys.exit(main())
