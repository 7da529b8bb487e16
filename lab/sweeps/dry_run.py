"""Estimates the time, tokens and memory of a sweep from short probes of its trials."""

from __future__ import annotations

import math
import multiprocessing
import os
import resource
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from lab.dialogue.cluster import KEPT, hosting, is_private
from lab.store.output import say
from lab.store.stored_frames import read_steps
from lab.sweeps.trial import TRIALS, Order, carry_out_trial, files, order_of
from scenarios.jobs.recipe import Recipe
from scenarios.jobs.sweep import Base, SweepPlan
from scenarios.records import SEATS
from scenarios.scenario import Scenario

TALKS, LINES = 2, 4  # most conversations of a probe, and lines of each
GIB = 2**30


@dataclass(frozen=True)
class TrialCost:
    """The measured cost of a probe: seconds by phase, tokens, lines, and peak bytes of the process and of a GPU.

    The bytes include the keys and values of all concurrent dialogues of a whole trial of the same kind, at their
    longest. Of a training, `learnt` are the tokens that carried loss in its one step, and `step` the seconds of that
    step, without what is played at a checkpoint.
    """

    base: Base
    seconds: Mapping[str, float]
    generated: int
    computed: int
    lines: int
    memory: int
    on_gpu: int
    learnt: int = 0
    step: float = 0.0


Estimated = Scenario | Recipe  # a base whose trials can be estimated: a study's cannot


def _bases(plan: SweepPlan) -> Mapping[str, Estimated]:
    return cast("Mapping[str, Estimated]", plan.bases)


def estimate(plan: SweepPlan, address: str | None) -> int:
    """Prints the trials and the estimate of their time, tokens and memory. Returns the exit code 0.

    Raises ValueError where the trials do not fit into memory or a probe was killed. A study is not estimated.
    """
    sweep = plan.sweep
    again = f" ({plan.repeated} further draws repeated a trial and are left out)" if plan.repeated else ""
    say(f"{sweep.name}: {len(plan.trials)} trials of {Path(getattr(sweep, sweep.kind)).name}{again}")
    for trial in plan.trials:
        say(f"  {trial.id}  {trial}")
    if sweep.study:
        say("The time that a study takes is not estimated; python -m lab.run STUDY --dry-run counts its questions.")
        return 0
    probes = {kind: measure_trial(plan, trials) for kind, trials in _kinds(plan).items()}
    costs = [_taken(probes[_kind(base)], base) for base in _bases(plan).values()]
    seconds, generated, computed = (sum(column) for column in zip(*costs, strict=True))
    slots, share = _room(plan, address)
    tokens = (
        "the number of tokens is unknown"
        if sweep.training
        else f"{generated:,.0f} generated tokens, {computed:,.0f} tokens through the model"
    )
    most = max(probes.values(), key=lambda cost: cost.memory)
    say(
        f"Probed {len(probes)} of them for {sum(sum(cost.seconds.values()) for cost in probes.values()):.0f} s. All "
        f"trials together take about {seconds / 3600:.2g} hours one after the other, or {seconds / 3600 / slots:.2g} "
        f"hours with {slots} in parallel; {tokens}; {most.memory / GIB:.2g} GiB of memory per trial"
        + (f", {max(cost.on_gpu for cost in probes.values()) / GIB:.2g} GiB of a GPU" if share else "")
        + "."
    )
    _fits(
        max(cost.memory for cost in probes.values()),
        max(cost.on_gpu for cost in probes.values()),
        slots,
        share,
        address,
    )
    return 0


def measure_trial(plan: SweepPlan, trials: Sequence[str]) -> TrialCost:
    """The cost of a short probe of the first of these trials, which are of one kind, in a process of its own.

    Its peak memory is therefore that of the trial alone. Raises ValueError where the process was killed.
    """
    base = _little(_bases(plan)[trials[0]])
    order = replace(order_of(plan, trials[0], base), trial="probe")
    with (
        tempfile.TemporaryDirectory(prefix="lab-probe-") as folder,
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        try:
            measured = pool.submit(
                _play, order, files(plan), folder, plan.sweep.cpus, [_bases(plan)[trial] for trial in trials]
            ).result()
        except BrokenProcessPool:
            raise ValueError(
                f"the process that probed trial {trials[0]} was killed, probably because memory ran out; "
                "expected a smaller model, shorter lines, or a machine with more memory"
            ) from None
    return TrialCost(base=base, **measured)


def _play(order: Order, given: Mapping[str, bytes], folder: str, threads: int, bases: Sequence[Estimated]) -> dict:
    from lab.store.run_store import read_manifest

    os.environ["LAB_THREADS"] = str(threads)
    carry_out_trial(order, given, Path(folder) / TRIALS / order.trial, lambda message: None)
    manifest, on_gpu = read_manifest(Path(folder) / TRIALS / order.trial), 0
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if "cuda" in str(manifest.get("device")):
        import torch

        on_gpu = torch.cuda.max_memory_reserved()
    views = [_views(base) for base in bases]
    memory, on_gpu = memory + max(here for here, _ in views), on_gpu + max(there for _, there in views)
    tokens = manifest.get("tokens", {})
    return {
        "seconds": manifest["seconds"],
        "generated": tokens.get("generated", 0),
        "computed": tokens.get("tokens_computed", 0),
        "lines": manifest["counts"].get("lines") or 0,
        "memory": memory,
        "on_gpu": on_gpu,
        **_stepped(Path(folder) / TRIALS / order.trial),
    }


def _stepped(folder: Path) -> dict:
    """`learnt` and `step` of the probe of a training; {} for a run."""
    if not (folder / "training.parquet").is_file():
        return {}
    (step,) = read_steps(folder / "training.parquet").to_dicts()
    return {"learnt": step["tokens_learnt"], "step": step["seconds_play"] + step["seconds_learn"]}


def _views(base: Estimated) -> tuple[int, int]:
    """The bytes of the keys and values of all concurrent dialogues at their longest, in memory and on a GPU.

    Raises ValueError where a view is longer than the context of its model.
    """
    from lab.training.evaluation import evaluation_conditions

    view_bytes = [
        _views_of(scenario)
        for scenario in (
            [condition.scenario for condition in evaluation_conditions(base)] if isinstance(base, Recipe) else [base]
        )
    ]
    return max(here for here, _ in view_bytes), max(there for _, there in view_bytes)


def _views_of(scenario: Scenario) -> tuple[int, int]:
    from lab.dialogue import capacity
    from lab.dialogue import seats as wiring_seats
    from scenarios.personas import cast

    here, on_gpu, people, seats = 0.0, 0.0, cast(scenario), [scenario.seats[seat] for seat in SEATS]
    names = {wiring_seats.engine_name(spec) for spec in seats if spec.script is None and not spec.endpoint}
    with hosting(KEPT, len(names), lambda message: None) as make:
        engines = {name: make(name, scenario.dtype, scenario.device) for name in sorted(names)}
        for seat, spec in zip(SEATS, seats, strict=True):
            if tokens := capacity.longest_view(scenario, seat, engines, people):
                info = engines[wiring_seats.engine_name(spec)].info()
                weight = capacity.view_bytes(tokens, info) * min(scenario.concurrency, scenario.conversations)
                here, on_gpu = (here, on_gpu + weight) if info.device.startswith("cuda") else (here + weight, on_gpu)
    return round(here), round(on_gpu)


def _little(base: Estimated) -> Estimated:
    if isinstance(base, Recipe):
        return base.model_copy(
            update={
                "max_steps": 1,
                "curriculum": None,  # whose first step is the shortest
                "evaluation": base.evaluation.model_copy(update={"conversations": 1}),
            }
        )
    return base.model_copy(update={"conversations": min(base.conversations, TALKS), "turns": min(base.turns, LINES)})


def _taken(probe: TrialCost, base: Estimated) -> tuple[float, float, float]:
    """(seconds, generated tokens, computed tokens) of a whole trial, extrapolated from the probe of its kind.

    They are proportional to the number of lines; of a training, seconds are by steps and conditions, and tokens are 0.
    """
    spent = dict(probe.seconds)
    if isinstance(base, Recipe):
        steps = base.expected_steps(probe.learnt)
        checkpoint = max(0.0, spent.pop("training", 0.0) - probe.step)
        seconds = probe.step * steps + checkpoint * math.ceil(steps / base.save_steps)
        seconds += spent.pop("collecting", 0.0) * base.batches_to_collect()
        seconds += spent.pop("evaluating", 0.0) * base.evaluation.conversations
        return seconds + sum(spent.values()), 0.0, 0.0
    more = base.conversations * base.turns / max(1, probe.lines)
    return spent.pop("playing", 0.0) * more + sum(spent.values()), probe.generated * more, probe.computed * more


def _kinds(plan: SweepPlan) -> dict[tuple, list[str]]:
    """The ids of the trials by kind; trials with the same models and the same limits of lines are of one kind."""
    by_kind: dict[tuple, list[str]] = {}
    for trial in plan.trials:
        by_kind.setdefault(_kind(_bases(plan)[trial.id]), []).append(trial.id)
    return by_kind


def _kind(base: Estimated) -> tuple:
    from lab.dialogue import wiring
    from scenarios.jobs.recipe import all_played

    scenarios = all_played(base) if isinstance(base, Recipe) else [base]
    seats = [scenario.seats[seat] for scenario in scenarios for seat in SEATS]
    lines = [
        (spec.max_tokens, spec.sentences, spec.script is None, spec.model, spec.adapter, spec.endpoint)
        for spec in seats
    ]
    names = set[str]().union(*map(wiring.engine_names, scenarios))
    kind = (*sorted(names), base.dtype, base.device, *lines)
    if not isinstance(base, Recipe):
        return kind
    tuning = base.tuning
    return (
        *kind,
        base.method,
        base.conversations,
        base.num_generations,
        *(scenario.turns for scenario in scenarios),
        tuning.full,
        tuning.r,
        tuning.num_iterations,
        tuning.gradient_checkpointing,
    )


def _room(plan: SweepPlan, address: str | None) -> tuple[int, float]:
    """The number of trials that can run at once by cores and GPUs, and the share of a GPU of each, 0 to 1."""
    from lab.dialogue.cluster import IN_PROCESS, connected
    from lab.sweeps.resources import nodes, resources

    if address == IN_PROCESS:
        return 1, 0.0
    if is_private(address):
        import torch

        there = [{"CPU": max(plan.sweep.cpus, len(os.sched_getaffinity(0))), "GPU": torch.cuda.device_count()}]
    else:
        with connected(address, plan.sweep.cpus):
            there = nodes()
    wanted = resources(plan, there)
    room = min(int(sum(node.get(name, 0) for node in there) / much) for name, much in wanted.items())
    return max(1, min(room, plan.sweep.at_once or room, len(plan.trials))), wanted.get("GPU", 0.0)


def _fits(memory: int, on_gpu: int, slots: int, share: float, address: str | None) -> None:
    """Raises ValueError where `slots` trials at once do not fit into this machine's memory, or one not into its share
    of a GPU.

    Memory is checked only where this machine plays all trials.
    """
    import torch

    from agents.models.memory import free_bytes

    free = free_bytes(torch.device("cpu"))
    if is_private(address) and memory * slots > free:
        raise ValueError(
            f"{slots} trials in parallel take about {memory * slots / GIB:.2g} GiB, and {free / GIB:.2g} GiB is free "
            f"here; expected at_once={max(1, int(free // memory))}, a smaller model, or a cluster (--address)"
        )
    if share and on_gpu and torch.cuda.is_available():
        whole = torch.cuda.get_device_properties(0).total_memory
        if on_gpu > share * whole:
            raise ValueError(
                f"a trial takes about {on_gpu / GIB:.2g} GiB of a GPU, and gets {share:.2g} of {whole / GIB:.2g} GiB; "
                f"expected gpus={min(1.0, on_gpu / whole):.2g} or more, or a smaller at_once"
            )
    say(
        "It fits."
        if is_private(address)
        else "It fits by cores and GPUs; what memory the nodes have is not known here."
    )
