"""A run carried out: opened or resumed, played, measured and reported."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lab.store.session import LOG, aside, carried_out, unfinished

if TYPE_CHECKING:
    from lab.dialogue.wiring import Words
    from lab.live.run_monitor import Monitor
    from lab.store.run_store import RunStore
    from scenarios.scenario import Scenario


def play(args: argparse.Namespace, scenario: Scenario, store: RunStore) -> int:
    """Plays what `store.earlier` does not tell yet, measures and reports it; the exit code. `args`: address, display,
    json.
    """
    with aside(store.path / LOG) as (screen, errors):
        return _play(args, scenario, store, screen, errors)


def read_scenario(args: argparse.Namespace) -> Scenario:
    from scenarios.scenario import load_scenario

    if not args.scenario:
        raise ValueError(
            "no scenario was named; expected a YAML file, such as scenarios/long_dialogue.yaml, or --resume RUN"
        )
    overrides = list(args.overrides)
    if args.limit is not None:
        if args.limit < 1:
            raise ValueError(f"--limit is {args.limit}; expected 1 or more")
        overrides.append(f"conversations={min(args.limit, load_scenario(args.scenario, overrides).conversations)}")
    return load_scenario(args.scenario, overrides)


def new_store(runs: str | Path, scenario: Scenario) -> RunStore:
    from lab.store.run_store import create

    models = {
        name: seat.model for name, seat in (("assistant", scenario.seats.assistant), ("user", scenario.seats.user))
    }
    return create(runs, scenario.name, scenario.resolved_yaml(), scenario.seed, scenario.digest(), models=models)


def begin(
    args: argparse.Namespace,
    runs: str | Path,
    scenario: Scenario,
    begun: Sequence[dict],
    files: Mapping[str, bytes] | None = None,
) -> tuple[Path, int]:
    """A new run that goes on from events of another, with further files in its folder: the folder, and what `play`
    gives back.
    """
    from lab.store.atomic_write import replace

    with new_store(runs, scenario) as store:
        for name, data in (files or {}).items():
            replace(store.path / name, data)
        store.earlier = [store.append(event) for event in begun]
        return store.path, play(args, scenario, store)


def resumed(args: argparse.Namespace) -> Scenario:
    """The stored scenario; one that is named must be the same."""
    from lab.store.run_store import read_manifest
    from scenarios.scenario import difference, load_scenario

    digest = read_manifest(args.resume).get("digest")
    kept = Path(args.resume) / "scenario.yaml"
    if args.scenario or args.overrides or args.limit is not None:
        if not args.scenario:
            args.scenario = str(kept)
        scenario = read_scenario(args)
        changed = difference(kept.read_text(), scenario.resolved_yaml())
        changed = [line for line in changed if not line.startswith("personas")]
        if scenario.digest() != digest:
            told = "; ".join(changed) or "what the persona files say of the cast"
            raise ValueError(
                f"{args.resume} was played from another scenario ({told}); expected the same one, or a new run "
                "without --resume"
            )
    else:
        scenario = load_scenario(kept)
        if scenario.digest() != digest:
            raise ValueError(
                f"{args.resume} was played from other persona files than {', '.join(scenario.personas)} are now; "
                "expected them "
                "unchanged, or a new run without --resume"
            )
    return scenario


def _play(args: argparse.Namespace, scenario: Scenario, store: RunStore, screen, errors) -> int:
    from rich.console import Console

    from lab.live.run_monitor import choose, conclude, summary
    from lab.store.atomic_write import dumps
    from lab.store.run_store import read_frames

    console = Console(file=screen)
    with choose("none" if args.json else args.display, console, str(store.path)) as monitor:
        status, reason, _ = carried_out(lambda: perform(args, scenario, store, monitor), store, monitor.show, "line")
    if status != "finished":
        return unfinished("lab.run", "finished line", args, status, reason, console, errors, store.path)
    frames = read_frames(store.path)
    if args.json:
        print(
            dumps({"run": str(store.path), "metrics": frames["metrics"].fill_nan(None).to_dicts()}).decode(),
            file=screen,
        )
    elif args.display != "none":
        conclude(console, summary(frames), store.path)
    return 0


def _show(store: RunStore, monitor: Monitor, event: dict) -> None:
    monitor.show(store.append(event))


def perform(
    args: argparse.Namespace, scenario: Scenario, store: RunStore, monitor: Monitor, words: Words | None = None
) -> None:
    """Load, play, measure; every event goes to the store first and is shown then. `words`: what a person in a seat
    types.
    """
    from lab.dialogue import wiring
    from lab.dialogue.cluster import hosting
    from lab.progress.run import apply
    from lab.reports.write import write_report
    from lab.store.event_log import now
    from lab.store.resume import stored
    from metrics.measure import measure

    def tell(kind: str, **rest: object) -> None:
        _show(store, monitor, {"event": kind, **rest})

    earlier, failures = stored(store.earlier), {}
    for event in store.earlier:
        apply(monitor.state, event)
    tell("phase", phase="loading", detail=", ".join(sorted(wiring.engine_names(scenario))) or "no model here")
    with hosting(
        args.address, len(wiring.engine_names(scenario)), lambda detail: tell("recovered", detail=detail)
    ) as make:
        wired = wiring.wire(scenario, make, earlier, words)
        devices, dtypes = ({getattr(info, key) for info in wired.engines.values()} for key in ("device", "dtype"))
        device, dtype = ", ".join(sorted(devices)) or "elsewhere", ", ".join(sorted(dtypes)) or "unknown"
        store.update_manifest(device=device, dtype=dtype)
        tell(
            "started",
            **wiring.opening(scenario, wired.play),
            run_id=store.run_id,
            device=device,
            dtype=dtype,
            resumed=bool(store.earlier),
        )
        tell("phase", phase="playing", detail=scenario.name)
        for event in wired.play.events():
            _show(store, monitor, event)
            store.maybe_flush()
            if event["event"] == "conversation" and event["status"] == "failed":
                failures[event["conversation"]] = event["reason"]
        tell("phase", phase="measuring", detail=", ".join(scenario.measure.metrics))
        frames, how = store.frames(), scenario.measure
        found = measure(
            frames["turns"],
            frames["judgements"],
            metrics=how.metrics,
            window=how.window,
            confidence=how.confidence,
            resamples=how.resamples,
            seed=scenario.seed,
            activations=frames.get("activations"),
            **wired.wires,
            cards={
                (c, seat): persona.card for c, seats in enumerate(wired.play.cast) for seat, persona in seats.items()
            },
        )
    store.write_frames(metrics=found)
    tell("phase", phase="reporting", detail="report.md")
    all_failed = len(failures) == scenario.conversations
    store.update_manifest(
        status="failed" if all_failed else "finished", finished=now()
    )  # which is what the report is to say
    write_report(store.path)
    if all_failed:
        raise ValueError(f"every conversation failed, #0 because {failures[0]}; --resume tries them again")


def print_plan(scenario: Scenario) -> None:
    from scenarios import personas as people

    print(f"{scenario.name}: {scenario.conversations} conversations of {scenario.turns} lines, seed {scenario.seed}")
    for number, seats in enumerate(people.cast(scenario)):
        print(f"  #{number} assistant {seats['assistant'].id}, user {seats['user'].id}")
    print("Everything that can be checked without loading a model is in order.")
