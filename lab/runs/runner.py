"""Carries out a run: opens or resumes its folder, plays, measures and reports."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lab.store.output import say, say_json
from lab.store.session import LOG, aside, carried_out, unfinished
from scenarios.messages import hidden

if TYPE_CHECKING:
    from rich.console import Console

    from lab.dialogue.wiring import Words
    from lab.live.run_monitor import RunOnlooker
    from lab.store.run_store import RunStore
    from scenarios.scenario import Scenario


def play_run(
    scenario: Scenario, store: RunStore, *, address: str | None, display: str = "auto", as_json: bool = False
) -> int:
    """Plays what `store.earlier` does not hold yet, measures and reports it, and prints the summary.

    Returns the exit code: 0 played, 2 failed (with the reason on stderr), 130 interrupted.

    - `address`: as of `lab.dialogue.cluster.hosting`.
    - `display`: auto, rich, plain or none.
    - `as_json`: print only the run's path and metrics, as one JSON object.
    """
    from lab.live.run_monitor import closing_notes, conclude, run_summary
    from lab.store.console import Console
    from lab.store.run_store import read_frames

    with aside(store.path / LOG) as (screen, errors):
        console, display = Console(file=screen), "none" if as_json else display
        status, reason = carry_out_run(scenario, store, console, address=address, display=display)
        if status != "finished":
            talking = None if display == "none" else console
            return unfinished("lab.run", "finished line", status, reason, talking, errors, store.path)
        frames = read_frames(store.path)
        if as_json:
            metrics = frames["metrics"].fill_nan(None).to_dicts()
            result = {"run": str(store.path), "metrics": metrics, "validation": store.manifest.get("validation")}
            say_json(result, file=screen)
        elif display != "none":
            conclude(console, run_summary(frames, store.manifest), store.path, closing_notes(store.manifest))
    return 0


def carry_out_run(
    scenario: Scenario, store: RunStore, console: Console, *, address: str | None, display: str
) -> tuple[str, str | None]:
    """Plays what `store.earlier` does not hold yet, measures and reports it, with progress on `console`.

    Returns the status (finished, failed or interrupted), and the reason where it is not finished.
    """
    from lab.live.run_monitor import choose_monitor

    with choose_monitor(display, console, str(store.path)) as monitor:
        status, reason, _ = carried_out(
            lambda: perform_run(scenario, store, monitor, address=address), store, monitor.show, "line"
        )
    return status, reason


def read_scenario(path: str | Path | None, overrides: Sequence[str], limit: int | None = None) -> Scenario:
    """The scenario of a file with overrides (`dotted.key=value`), and with its first `limit` conversations only.

    Raises ValueError where no file is named, `limit` is below 1, or the scenario is not valid.
    """
    from scenarios.scenario import load_scenario

    if not path:
        raise ValueError(
            "no scenario was named; expected a YAML file, such as scenarios/long_dialogue.yaml, or --resume RUN"
        )
    if limit is None:
        return load_scenario(path, overrides)
    if limit < 1:
        raise ValueError(f"--limit is {limit}; expected 1 or more")
    conversations = min(limit, load_scenario(path, overrides).conversations)
    return load_scenario(path, [*overrides, f"conversations={conversations}"])


def new_store(runs: str | Path, scenario: Scenario) -> RunStore:
    """A new folder for a run of the scenario below `runs`. Raises StoreError."""
    from lab.store.run_store import create

    models = {
        name: seat.model for name, seat in (("assistant", scenario.seats.assistant), ("user", scenario.seats.user))
    }
    return create(runs, scenario.name, scenario.resolved_yaml(), scenario.seed, scenario.digest(), models=models)


def begin(
    runs: str | Path,
    scenario: Scenario,
    begun: Sequence[dict],
    files: Mapping[str, bytes] | None = None,
    *,
    address: str | None,
    display: str,
) -> tuple[Path, int]:
    """Plays a new run that continues from events of another, with the `files` (content by name) in its folder.

    Returns the folder, and the exit code of `play_run`. Raises StoreError.
    """
    from lab.store.atomic_write import replace

    with new_store(runs, scenario) as store:
        for name, data in (files or {}).items():
            replace(store.path / name, data)
        store.earlier = [store.append(event) for event in begun]
        return store.path, play_run(scenario, store, address=address, display=display)


def resumed(
    run: str | Path, path: str | Path | None = None, overrides: Sequence[str] = (), limit: int | None = None
) -> Scenario:
    """The scenario stored in the folder `run`.

    Raises ValueError where a file, overrides or a limit are given and do not give the same scenario, and where the
    persona files have changed since.
    """
    from lab.store.run_store import read_manifest
    from scenarios.scenario import load_scenario, scenario_differences
    from scenarios.yaml_files import yaml_text

    digest = read_manifest(run).get("digest")
    kept = Path(run) / "scenario.yaml"
    if path or overrides or limit is not None:
        scenario = read_scenario(path or kept, overrides, limit)
        changed = scenario_differences(yaml_text(kept), scenario.resolved_yaml())
        changed = [line for line in changed if not line.startswith("personas")]
        if scenario.digest() != digest:
            differences = "; ".join(changed) or "what the persona files say of the cast"
            raise ValueError(
                f"{run} was played from another scenario ({differences}); expected the same one, or a new run "
                "without --resume"
            )
    else:
        scenario = load_scenario(kept)
        if scenario.digest() != digest:
            raise ValueError(
                f"{run} was played from other persona files than {', '.join(scenario.personas)} are now; expected them "
                "unchanged, or a new run without --resume"
            )
    return scenario


def _show(store: RunStore, monitor: RunOnlooker, event: dict) -> None:
    monitor.show(store.append(event))


def perform_run(
    scenario: Scenario, store: RunStore, monitor: RunOnlooker, *, address: str | None, words: Words | None = None
) -> None:
    """Loads, plays, measures and reports; every event is stored before it is shown. `words` gives what a person types.

    Raises ValueError where a model or the run fails, StoreError where a file cannot be written.
    """
    from lab.dialogue import wiring
    from lab.dialogue.cluster import hosting
    from lab.dialogue.notices import run_notices
    from lab.dialogue.spending import run_spending
    from lab.dialogue.validation import validation_events
    from lab.progress.run import apply, failures
    from lab.reports.validity_text import validities_of
    from lab.reports.write import write_report
    from lab.store.event_log import now
    from lab.store.resume import stored
    from metrics.measure import measure_run
    from metrics.validation.correction import corrected_rows

    def emit(kind: str, **rest: object) -> None:
        _show(store, monitor, {"event": kind, **rest})

    earlier = stored(store.earlier)
    for event in store.earlier:
        apply(monitor.state, event)
    emit("phase", phase="loading", detail=", ".join(sorted(wiring.engine_names(scenario))) or wiring.NO_MODEL)
    spending = run_spending(scenario)
    with hosting(address, len(wiring.engine_names(scenario)), lambda detail: emit("recovered", detail=detail)) as make:
        setup = wiring.set_up(scenario, make, earlier, words)
        device, dtype = setup.hardware()
        store.update_manifest(device=device, dtype=dtype)
        emit(
            "started",
            **setup.opening(),
            run_id=store.run_id,
            device=device,
            dtype=dtype,
            resumed=bool(store.earlier),
        )
        notices = run_notices(scenario)
        validation = validation_events(scenario.measure, setup.judges, setup.cast, scenario.seed, store.earlier)
        for event in notices.after(spending.after(validation)):
            _show(store, monitor, event)
        store.update_manifest()
        emit("phase", phase="playing", detail=scenario.name)
        for event in notices.after(spending.after(setup.play.events())):
            _show(store, monitor, event)
            store.maybe_flush()
        emit("phase", phase="measuring", detail=", ".join(scenario.measure.metrics))
        frames, how = store.frames(), scenario.measure
        metrics = measure_run(
            frames["turns"],
            frames["judgements"],
            metrics=how.metrics,
            window=how.window,
            confidence=how.confidence,
            activations=frames.get("activations"),
            **setup.aids,
            cards=setup.cards(),
        )
        metrics = corrected_rows(metrics, validities_of(store.manifest))
    store.write_frames(metrics=metrics)
    emit("phase", phase="reporting", detail="report.md")
    failed = failures(monitor.state)
    all_failed = len(failed) == scenario.conversations
    # which is what the report is to say
    store.update_manifest(status="failed" if all_failed else "finished", finished=now())
    write_report(store.path)
    if all_failed:
        raise ValueError(f"every conversation failed, #0 because {failed[0]}; --resume tries them again")


def print_persona_notes(command: str, scenario: Scenario) -> None:
    """Prints what a reader of the results should know about the run's personas, on stderr, a line each."""
    from lab.persona_files.drafting import card_conflicts
    from scenarios.persona_notes import persona_notes
    from scenarios.personas import cast

    people = [persona for seats in cast(scenario) for persona in seats.values()]
    for note in [*persona_notes(scenario), *card_conflicts(people)]:
        say(f"{command}: {hidden(note)}", file=sys.stderr)


def print_run_plan(scenario: Scenario) -> None:
    """Prints what a run of the scenario would play; loads no model."""
    from scenarios import personas as people

    say(f"{scenario.name}: {scenario.conversations} conversations of {scenario.turns} lines, seed {scenario.seed}")
    for number, seats in enumerate(people.cast(scenario)):
        say(f"  #{number} assistant {seats['assistant'].id}, user {seats['user'].id}")
    say("The configuration is valid. No model was loaded.")
