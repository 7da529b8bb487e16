"""Write a run's report: report.html, report.md and plots/*.png, from its frames, manifest and events alone. For sweeps
see `lab.reports.sweep_report`.

The report's text is made by pure functions (`lab.reports.run_markdown`, `lab.reports.run_page`), which escape every
word that a model or a user wrote.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from lab.commands import Parser, obeyed
from lab.reports.write import write_report
from lab.store.output import say

COMMANDS = """examples:
  python -m lab.report runs/20260101T120000Z-long_dialogue-1a2b
  python -m lab.report runs/20260101T120000Z-long_dialogue-1a2b runs/20260102T120000Z-long_dialogue-3c4d
  python -m lab.report RUN_A RUN_B RUN_C --out side-by-side
"""


def parser() -> Parser:
    out = Parser(
        prog="python -m lab.report",
        epilog=COMMANDS,
        description="Write report.html, report.md and plots of a run, a training or a sweep, or compare several runs.",
    )
    out.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="folder of a run, runs/<id>; several runs of one scenario are each compared with the first",
    )
    out.add_argument(
        "--out", metavar="DIR", help="folder for a comparison (default: compare-<first run> in the last run's folder)"
    )
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 written, 2 refused with a sentence on stderr, 130 interrupted."""
    return obeyed(parser(), _report, arguments)


def _report(args: argparse.Namespace) -> int:
    if len(args.runs) == 1:
        if args.out:
            raise ValueError(
                "--out is for a comparison, and a single run's report goes into the run's folder; expected several "
                "runs, or no --out"
            )
        say(str(write_report(args.runs[0])))
        return 0
    from lab.reports.comparison_tables import print_comparison
    from lab.reports.write import write_comparison

    comparisons, path = write_comparison(args.runs, args.out)
    for comparison in comparisons:
        print_comparison(comparison)
    say(str(path))
    return 0


if __name__ == "__main__":
    sys.exit(main())
