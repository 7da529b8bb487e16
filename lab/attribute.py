"""Find the seat that causes the drift: `python -m lab.attribute RUN --turn K seats.user.temperature=1.2 ...`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.commands import Parser, obeyed

EXAMPLES = """examples:
  python -m lab.attribute runs/20260101T120000Z-long_dialogue-1a2b --turn 10 seats.user.temperature=1.2
  python -m lab.attribute RUN --turn 10 seats.user.adapter=runs/trained/checkpoints/step-000100 \\
      seats.assistant.instruction='Be brief.'

Four arms (old or new settings of the user, crossed with old or new settings of the assistant) are played from turn K
of the stored run, each as a separate run. attribution.json says how much inconsistency the new settings of each seat
add, with intervals.
"""


def parser() -> Parser:
    out = Parser(
        prog="python -m lab.attribute",
        description="Change the seats' settings in mid-dialogue, and measure how much drift each seat adds.",
        epilog=EXAMPLES,
    )
    out.add_argument("run", help="the folder of a stored run")
    out.add_argument("overrides", nargs="*", metavar="seats.SEAT.key=value", help="new settings of one seat or both")
    out.add_argument("--turn", type=int, required=True, metavar="K", help="first turn that is played again (0-based)")
    out.add_argument(
        "--out",
        metavar="DIR",
        help="folder of the four runs and attribution.json (default: swap-tK in the run's folder)",
    )
    out.add_argument("--address", help="as for lab.run")
    out.add_argument(
        "--display", default="auto", choices=("auto", "rich", "plain", "none"), help="how the runs are shown"
    )
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 played and attributed, 2 refused or failed with a sentence on stderr, 130 interrupted."""
    return obeyed(parser(), _run, arguments)


def _run(args: argparse.Namespace) -> int:
    from lab.dialogue import cluster, wiring
    from lab.runs.attribution import beginning, play_arms, print_attribution, scenarios, write_attribution

    arms = scenarios(args.run, args.overrides)
    begun = {arm: beginning(args.run, args.turn, scenario) for arm, scenario in arms.items()}
    for scenario in arms.values():
        wiring.check_scenario(scenario)
    cluster.check_cluster(args.address)
    out = Path(args.out) if args.out else Path(args.run) / f"swap-t{args.turn}"
    folders, code = play_arms(arms, begun, out, address=args.address, display=args.display)
    if code:
        return code
    rows, path = write_attribution(args.run, args.turn, args.overrides, arms, folders, out)
    print_attribution(rows, args.turn, path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
