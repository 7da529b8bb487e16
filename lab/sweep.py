"""Run a scenario, a training or a study along axes: `python -m lab.sweep scenarios/sweeps/temperature.yaml [key=value
...]`.

Ray Tune places the trials, retries those that failed, and stops trainings early. Its own files go to a temporary folder
and are never read again: the sweep's events say which trials are done, and --resume gives Tune the others.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.commands import Parser, obeyed
from lab.sweeps.runner import check_address, check_sweep, open_sweep, run_sweep, stored_plan

EXAMPLES = """examples:
  python -m lab.sweep scenarios/sweeps/temperature.yaml --dry-run
  python -m lab.sweep scenarios/sweeps/temperature.yaml 'axes.seed=[1, 2, 3, 4, 5]' overrides.turns=12
  python -m lab.sweep scenarios/sweeps/temperature.yaml --address auto
  python -m lab.sweep --resume runs/20260101T120000Z-temperature-1a2b
"""


def parser() -> Parser:
    out = Parser(
        prog="python -m lab.sweep",
        description="Run a scenario, a training or a study once for each combination of values, on a Ray cluster.",
        epilog=EXAMPLES,
    )
    out.add_argument("sweep", nargs="?", help="YAML file of a sweep; omit it with --resume")
    out.add_argument(
        "overrides", nargs="*", metavar="key=value", help="dotted keys of the sweep's file, such as axes.seed=[1,2]"
    )
    out.add_argument(
        "--address",
        help="address of a Ray cluster (default: RAY_ADDRESS, else a private local cluster); none: one trial after "
        "the other, without Ray",
    )
    out.add_argument(
        "--display", default="auto", choices=("auto", "rich", "plain", "none"), help="how the sweep is shown"
    )
    out.add_argument(
        "--resume",
        metavar="SWEEP",
        help="resume the sweep in this folder: finished trials are kept, failed ones are run again",
    )
    out.add_argument("--runs", default="runs", metavar="DIR", help="parent folder of new sweeps (default: runs)")
    out.add_argument(
        "--dry-run",
        action="store_true",
        help="check every trial, run a short probe of each kind, and estimate the sweep's time, tokens and memory",
    )
    out.add_argument(
        "--json",
        action="store_true",
        help="print only one JSON object: the sweep's path and its trials",
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
            raise ValueError("--resume continues the sweep as it is; expected no file and no key=value beside it")
        plan = stored_plan(Path(args.resume))
    elif args.sweep:
        plan = load_sweep(args.sweep, args.overrides, BASES)
    else:
        raise ValueError(
            "no sweep was named; expected a YAML file, such as scenarios/sweeps/temperature.yaml, or --resume SWEEP"
        )
    if plan.sweep.scheduler and args.address == cluster.IN_PROCESS:
        raise ValueError(
            "--address none runs trials one after the other and cannot stop any of them early; expected a sweep "
            "without a scheduler, or another --address"
        )
    if plan.sweep.storage and args.address == cluster.IN_PROCESS:
        raise ValueError(
            "--address none keeps trials in the sweep's own folder; expected no storage, or another --address"
        )
    check_sweep(plan)
    check_address(args.address or os.environ.get("RAY_ADDRESS") or "")
    cluster.check_cluster(args.address)
    if args.dry_run:
        from lab.sweeps.dry_run import estimate

        return estimate(plan, args.address)
    with open_sweep(plan, args.runs, args.resume) as store:
        return run_sweep(plan, store, address=args.address, display=args.display, as_json=args.json)


if __name__ == "__main__":
    sys.exit(main())
