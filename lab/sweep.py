"""Play a scenario, carry out a training, or ask a study, along axes: `python -m lab.sweep
scenarios/sweeps/temperature.yaml [key=value ...]`.

Ray Tune places the trials, tries again those that failed, and stops trainings early. What it keeps for itself goes to a
temporary folder and is never read again: the sweep's own events say which trials are done, and --resume hands Tune the
others.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.commands import Parser, obeyed
from lab.sweeps.runner import check, check_address, open_store, play, stored_plan

EXAMPLES = """examples:
  python -m lab.sweep scenarios/sweeps/temperature.yaml --dry-run
  python -m lab.sweep scenarios/sweeps/temperature.yaml 'axes.seed=[1, 2, 3, 4, 5]' overrides.turns=12
  python -m lab.sweep scenarios/sweeps/temperature.yaml --address auto
  python -m lab.sweep --resume runs/20260101T120000Z-temperature-1a2b
"""


def parser() -> Parser:
    out = Parser(
        prog="python -m lab.sweep",
        description="Play a scenario, train, or ask a study, once for each combination of values, on a Ray cluster.",
        epilog=EXAMPLES,
    )
    out.add_argument("sweep", nargs="?", help="a sweep's YAML file; may be left out with --resume")
    out.add_argument(
        "overrides", nargs="*", metavar="key=value", help="dotted keys of the sweep's file, such as axes.seed=[1,2]"
    )
    out.add_argument(
        "--address",
        help="a Ray cluster (default: RAY_ADDRESS, else a private one here); none: one trial after the other, no Ray",
    )
    out.add_argument(
        "--display", default="auto", choices=("auto", "rich", "plain", "none"), help="how the sweep is shown"
    )
    out.add_argument(
        "--resume",
        metavar="SWEEP",
        help="go on with a sweep's folder: finished trials stay as they are, failed ones are tried again",
    )
    out.add_argument("--runs", default="runs", metavar="DIR", help="where the sweep's folder is made (default: runs)")
    out.add_argument(
        "--dry-run",
        action="store_true",
        help="check every trial, play a little of it, and tell what the sweep will take",
    )
    out.add_argument(
        "--json",
        action="store_true",
        help="print the sweep's folder and its trials as one JSON object, and nothing else",
    )
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 all trials done, 1 some failed or did not end, 2 refused or failed with a sentence on stderr, 130
    interrupted.
    """
    return obeyed(parser(), _sweep, arguments)


def _sweep(args: argparse.Namespace) -> int:
    from lab.dialogue import cluster
    from lab.studies.runner import BASES
    from scenarios.jobs.sweep import load_sweep

    if args.resume:
        if args.sweep:
            raise ValueError("--resume goes on with the sweep as it is; expected no file and no key=value beside it")
        plan = stored_plan(Path(args.resume))
    elif args.sweep:
        plan = load_sweep(args.sweep, args.overrides, BASES)
    else:
        raise ValueError(
            "no sweep was named; expected a YAML file, such as scenarios/sweeps/temperature.yaml, or --resume SWEEP"
        )
    if plan.sweep.scheduler and args.address == cluster.IN_PROCESS:
        raise ValueError(
            "--address none plays trials one after the other, and nobody stops one early; expected a sweep without a "
            "scheduler, "
            "or another --address"
        )
    if plan.sweep.storage and args.address == cluster.IN_PROCESS:
        raise ValueError(
            "--address none keeps trials in the sweep's own folder; expected no storage, or another --address"
        )
    check(plan)
    check_address(args.address or os.environ.get("RAY_ADDRESS") or "")
    cluster.check(args.address)
    if args.dry_run:
        from lab.sweeps.dry_run import estimate

        return estimate(plan, args.address)
    with open_store(plan, args.runs, args.resume) as store:
        return play(plan, store, address=args.address, display=args.display, as_json=args.json)


if __name__ == "__main__":
    sys.exit(main())
