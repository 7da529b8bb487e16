"""Play a scenario: `python -m lab.run scenarios/long_dialogue.yaml [key=value ...]`."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lab.commands import INTERRUPTED, Parser, obeyed
from scenarios.secrets import hidden

if TYPE_CHECKING:
    from rich.console import Console

    from lab.monitor import Monitor
    from lab.store import RunStore
    from lab.wiring import Words
    from scenarios.schema import Scenario

T = TypeVar("T")
LOG = "log.txt"
EXAMPLES = """examples:
  python -m lab.run scenarios/long_dialogue.yaml
  python -m lab.run scenarios/chitchat.yaml conversations=2 turns=6 seats.user.temperature=0.5 --display plain
  python -m lab.run scenarios/studies/twenty_questions.yaml seats.assistant.model=PATH size=smoke
  python -m lab.run --resume runs/20260101T120000Z-long_dialogue-1a2b
"""


def parser() -> Parser:
    out = Parser(prog="python -m lab.run", epilog=EXAMPLES,
                 description="Play dialogues along a scenario graph, or a study; watch and measure them.")
    out.add_argument("scenario", nargs="?", help="a scenario's or a study's YAML file; may be left out with --resume")
    out.add_argument("overrides", nargs="*", metavar="key=value", help="dotted keys of the scenario, such as seats.user.model=PATH")
    out.add_argument("--address", help="a Ray cluster (default: RAY_ADDRESS, else a private one here); none: no Ray at all")
    out.add_argument("--display", default="auto", choices=("auto", "rich", "plain", "none"), help="how the run is shown")
    out.add_argument("--resume", metavar="RUN", help="go on with a run's folder from its last line")
    out.add_argument("--runs", default="runs", metavar="DIR", help="where run folders are made (default: runs)")
    out.add_argument("--limit", type=int, metavar="N", help="play the first N conversations only")
    out.add_argument("--dry-run", action="store_true", help="check everything that can be checked without loading a model")
    out.add_argument("--json", action="store_true", help="print the run's path and its metrics as one JSON object, and nothing else")
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 played, 2 refused or failed with a sentence on stderr, 130 interrupted."""
    return obeyed(parser(), _run, arguments)


def _run(args: argparse.Namespace) -> int:
    from lab import cluster, wiring
    from lab.store import open_for_resume

    if args.scenario and "=" in args.scenario and args.resume:
        args.overrides, args.scenario = [args.scenario, *args.overrides], None
    if _of_a_study(args):
        from lab import study

        return study.command(args)
    scenario = resumed(args) if args.resume else _scenario(args)
    wiring.check(scenario)
    cluster.check(args.address)
    if args.dry_run:
        _tell_plan(scenario)
        return 0
    with open_for_resume(args.resume) if args.resume else new_store(args.runs, scenario) as store:
        return play(args, scenario, store)


def _of_a_study(args: argparse.Namespace) -> bool:
    from scenarios.study import is_study

    file = Path(args.resume) / "scenario.yaml" if args.resume else Path(args.scenario or "")
    return file.is_file() and is_study(file)


def play(args: argparse.Namespace, scenario: Scenario, store: RunStore) -> int:
    """Plays what `store.earlier` does not tell yet, measures and reports it; the exit code. `args`: address, display, json."""
    with aside(store.path / LOG) as (screen, errors):
        return _play(args, scenario, store, screen, errors)


def _scenario(args: argparse.Namespace) -> Scenario:
    from scenarios.schema import load_scenario

    if not args.scenario:
        raise ValueError("no scenario was named; expected a YAML file, such as scenarios/long_dialogue.yaml, or --resume RUN")
    overrides = list(args.overrides)
    if args.limit is not None:
        if args.limit < 1:
            raise ValueError(f"--limit is {args.limit}; expected 1 or more")
        overrides.append(f"conversations={min(args.limit, load_scenario(args.scenario, overrides).conversations)}")
    return load_scenario(args.scenario, overrides)


def new_store(runs: str | Path, scenario: Scenario) -> RunStore:
    from lab.store import create

    models = {name: seat.model for name, seat in (("assistant", scenario.seats.assistant), ("user", scenario.seats.user))}
    return create(runs, scenario.name, scenario.resolved_yaml(), scenario.seed, scenario.digest(), models=models)


def begin(args: argparse.Namespace, runs: str | Path, scenario: Scenario, begun: Sequence[dict],
          files: Mapping[str, bytes] | None = None) -> tuple[Path, int]:
    """A new run that goes on from events of another, with further files in its folder: the folder, and what `play` gives back."""
    from lab.files import replace

    with new_store(runs, scenario) as store:
        for name, data in (files or {}).items():
            replace(store.path / name, data)
        store.earlier = [store.append(event) for event in begun]
        return store.path, play(args, scenario, store)


def resumed(args: argparse.Namespace) -> Scenario:
    """The stored scenario; one that is named must be the same."""
    from lab.store import read_manifest
    from scenarios.schema import difference, load_scenario

    digest = read_manifest(args.resume).get("digest")
    kept = Path(args.resume) / "scenario.yaml"
    if args.scenario or args.overrides or args.limit is not None:
        if not args.scenario:
            args.scenario = str(kept)
        scenario = _scenario(args)
        changed = difference(kept.read_text(), scenario.resolved_yaml())
        changed = [line for line in changed if not line.startswith("personas")]
        if scenario.digest() != digest:
            told = "; ".join(changed) or "what the persona files say of the cast"
            raise ValueError(f"{args.resume} was played from another scenario ({told}); expected the same one, or a new run without --resume")
    else:
        scenario = load_scenario(kept)
        if scenario.digest() != digest:
            raise ValueError(f"{args.resume} was played from other persona files than {', '.join(scenario.personas)} are now; expected them "
                             "unchanged, or a new run without --resume")
    return scenario


def _play(args: argparse.Namespace, scenario: Scenario, store: RunStore, screen, errors) -> int:
    from rich.console import Console

    from lab.files import dumps
    from lab.monitor import choose, conclude, summary
    from lab.store import read_frames

    console = Console(file=screen)
    with choose("none" if args.json else args.display, console, str(store.path)) as monitor:
        status, reason, _ = carried_out(lambda: perform(args, scenario, store, monitor), store, monitor.show, "line")
    if status != "finished":
        return unfinished("lab.run", "finished line", args, status, reason, console, errors, store.path)
    frames = read_frames(store.path)
    if args.json:
        print(dumps({"run": str(store.path), "metrics": frames["metrics"].fill_nan(None).to_dicts()}).decode(), file=screen)
    elif args.display != "none":
        conclude(console, summary(frames), store.path)
    return 0


def unfinished(prog: str, kept: str, args: argparse.Namespace, status: str, reason: str | None, console: Console, errors, path: Path) -> int:
    """The exit code of what failed, which is told, or was interrupted: then it is told that everything `kept` is, and how to go on with the
    folder."""
    if status == "failed":
        print(f"{prog}: {reason}", file=errors)
        return 2
    if args.display != "none" and not args.json:
        with contextlib.suppress(BrokenPipeError, SystemExit):
            console.print(f"Interrupted. Every {kept} is kept: python -m {prog} --resume {path}", soft_wrap=True, markup=False)
    return INTERRUPTED


def carried_out(work: Callable[[], T], store: RunStore, show: Callable[[dict], None], left: str) -> tuple[str, str | None, T | None]:
    """Does the work, and stores and shows how it ended: status, the reason where it is not finished, and what came of it. `left`: what
    --resume goes on from. Work whose end could not be stored has not finished."""
    status, reason, found = "finished", None, None
    try:
        found = work()
    except (KeyboardInterrupt, BrokenPipeError, SystemExit):  # the last two: whoever read our output has gone
        status, reason = "interrupted", f"stopped by hand; --resume goes on from the last {left}"
    except ValueError as error:
        status, reason = "failed", hidden(str(error))
    except Exception as error:  # the one place where what nobody foresaw becomes data
        print(hidden(traceback.format_exc()), file=sys.stderr, end="")  # to the log
        told = (hidden(str(error)).strip() or "no message").splitlines()[-1][:300]
        status, reason = "failed", f"{type(error).__name__}: {told} (the traceback is in {store.path / LOG})"
    try:
        show(store.append({"event": "ended", "status": status, "reason": reason}))
        store.finish(status, reason)
    except ValueError as error:
        if status == "finished":
            status, reason = "failed", str(error)
        with contextlib.suppress(ValueError):  # the manifest is small, and may be stored where events and frames may not
            store.update_manifest(status=status, reason=reason)
    return status, reason, found


def _show(store: RunStore, monitor: Monitor, event: dict) -> None:
    monitor.show(store.append(event))


def perform(args: argparse.Namespace, scenario: Scenario, store: RunStore, monitor: Monitor, words: Words | None = None) -> None:
    """Load, play, measure; every event goes to the store first and is shown then. `words`: what a person in a seat types."""
    from lab import wiring
    from lab.cluster import hosting
    from lab.conversation import stored
    from lab.monitor import apply
    from lab.report import write_report
    from lab.store import now
    from metrics.measure import measure

    def tell(kind: str, **rest: object) -> None:
        _show(store, monitor, {"event": kind, **rest})

    earlier, failures = stored(store.earlier), {}
    for event in store.earlier:
        apply(monitor.state, event)
    tell("phase", phase="loading", detail=", ".join(sorted(wiring.engine_names(scenario))) or "no model here")
    with hosting(args.address, len(wiring.engine_names(scenario)), lambda detail: tell("recovered", detail=detail)) as make:
        wired = wiring.wire(scenario, make, earlier, words)
        devices, dtypes = ({getattr(info, key) for info in wired.engines.values()} for key in ("device", "dtype"))
        device, dtype = ", ".join(sorted(devices)) or "elsewhere", ", ".join(sorted(dtypes)) or "unknown"
        store.update_manifest(device=device, dtype=dtype)
        tell("started", **wiring.opening(scenario, wired.play), run_id=store.run_id, device=device, dtype=dtype, resumed=bool(store.earlier))
        tell("phase", phase="playing", detail=scenario.name)
        for event in wired.play.events():
            _show(store, monitor, event)
            store.maybe_flush()
            if event["event"] == "conversation" and event["status"] == "failed":
                failures[event["conversation"]] = event["reason"]
        tell("phase", phase="measuring", detail=", ".join(scenario.measure.metrics))
        frames, how = store.frames(), scenario.measure
        found = measure(frames["turns"], frames["judgements"], metrics=how.metrics, window=how.window, confidence=how.confidence,
                        resamples=how.resamples, seed=scenario.seed, activations=frames.get("activations"), **wired.wires,
                        cards={(c, seat): persona.card for c, seats in enumerate(wired.play.cast) for seat, persona in seats.items()})
    store.write_frames(metrics=found)
    tell("phase", phase="reporting", detail="report.md")
    all_failed = len(failures) == scenario.conversations
    store.update_manifest(status="failed" if all_failed else "finished", finished=now())  # which is what the report is to say
    write_report(store.path)
    if all_failed:
        raise ValueError(f"every conversation failed, #0 because {failures[0]}; --resume tries them again")


def _tell_plan(scenario: Scenario) -> None:
    from scenarios import personas as people

    print(f"{scenario.name}: {scenario.conversations} conversations of {scenario.turns} lines, seed {scenario.seed}")
    for number, seats in enumerate(people.cast(scenario)):
        print(f"  #{number} assistant {seats['assistant'].id}, user {seats['user'].id}")
    print("Everything that can be checked without loading a model is in order.")


@contextlib.contextmanager
def aside(log: Path) -> Iterator[tuple[object, object]]:
    """Whatever libraries, Ray and C code print goes to the log; yields streams to the real stdout and stderr."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    streams = [os.fdopen(handle, "w", encoding="utf-8", errors="replace") for handle in kept]
    try:
        yield tuple(streams)
    finally:
        for number, (stream, ours) in enumerate(zip(streams, (sys.stdout, sys.stderr), strict=True), start=1):
            with contextlib.suppress(OSError):  # a full disk, or a reader that has gone
                ours.flush()
            os.dup2(kept[number - 1], number)
            with contextlib.suppress(OSError):
                stream.close()


if __name__ == "__main__":
    sys.exit(main())
