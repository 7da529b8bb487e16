"""Play a scenario: `python -m lab.run scenarios/long_dialogue.yaml [key=value ...]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.commands import Parser, obeyed
from lab.runs.runner import new_store, play_run, print_persona_notes, print_run_plan, read_scenario, resumed

EXAMPLES = """examples:
  python -m lab.run scenarios/long_dialogue.yaml
  python -m lab.run scenarios/chitchat.yaml conversations=2 turns=6 seats.user.temperature=0.5 --display plain
  python -m lab.run scenarios/chitchat.yaml 'seats.user.persona={name: Ada, card: "You keep bees and mistrust maps."}'
  python -m lab.run scenarios/studies/twenty_questions.yaml seats.assistant.model=PATH size=smoke
  python -m lab.run --resume runs/20260101T120000Z-long_dialogue-1a2b
"""


def parser() -> Parser:
    out = Parser(
        prog="python -m lab.run",
        epilog=EXAMPLES,
        description="Play dialogues along a scenario graph, or run a study; show them live and measure them.",
    )
    out.add_argument("scenario", nargs="?", help="YAML file of a scenario or a study; omit it with --resume")
    out.add_argument(
        "overrides", nargs="*", metavar="key=value", help="dotted keys of the scenario, such as seats.user.model=PATH"
    )
    out.add_argument(
        "--address",
        help="address of a Ray cluster (default: RAY_ADDRESS, else a private local cluster); none: do without Ray",
    )
    out.add_argument(
        "--display", default="auto", choices=("auto", "rich", "plain", "none"), help="how the run is shown"
    )
    out.add_argument("--resume", metavar="RUN", help="resume the run in this folder from its last line")
    out.add_argument("--runs", default="runs", metavar="DIR", help="parent folder of new runs (default: runs)")
    out.add_argument("--limit", type=int, metavar="N", help="play the first N conversations only")
    out.add_argument(
        "--dry-run", action="store_true", help="check the configuration without loading a model, and print the plan"
    )
    out.add_argument("--json", action="store_true", help="print only one JSON object: the run's path and its metrics")
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 played, 2 refused or failed with a sentence on stderr, 130 interrupted."""
    return obeyed(parser(), _run, arguments)


def _run(args: argparse.Namespace) -> int:
    from lab.dialogue import cluster, wiring
    from lab.store.run_store import open_for_resume

    if args.scenario and "=" in args.scenario and args.resume:
        args.overrides, args.scenario = [args.scenario, *args.overrides], None
    if _of_a_study(args):
        return _study(args)
    named = args.scenario, args.overrides, args.limit
    scenario = resumed(args.resume, *named) if args.resume else read_scenario(*named)
    wiring.check_scenario(scenario)
    cluster.check_cluster(args.address)
    print_persona_notes("lab.run", scenario)
    if args.dry_run:
        print_run_plan(scenario)
        return 0
    with open_for_resume(args.resume) if args.resume else new_store(args.runs, scenario) as store:
        return play_run(scenario, store, address=args.address, display=args.display, as_json=args.json)


def _study(args: argparse.Namespace) -> int:
    from lab.dialogue import cluster
    from lab.studies import runner

    if args.limit is not None:
        raise ValueError(
            "--limit counts conversations, and a study has none; expected size=smoke, or sizes.default.… with smaller "
            "numbers"
        )
    if args.resume and (args.scenario or args.overrides):
        raise ValueError("--resume continues the study as it is; expected no file and no key=value beside it")
    loaded = runner.stored_study(args.resume) if args.resume else runner.load_planned(args.scenario, args.overrides)
    runner.check_study(loaded)
    cluster.check_cluster(args.address)
    if args.dry_run:
        runner.print_study_plan(loaded)
        return 0
    with runner.open_study(loaded, args.runs, args.resume) as store:
        return runner.run_study(loaded, store, address=args.address, display=args.display, as_json=args.json)


def _of_a_study(args: argparse.Namespace) -> bool:
    from scenarios.jobs.study import is_study

    file = Path(args.resume) / "scenario.yaml" if args.resume else Path(args.scenario or "")
    return file.is_file() and is_study(file)


if __name__ == "__main__":
    sys.exit(main())
