"""A run for people: report.html, report.md and plots/*.png, made of its frames, manifest and events alone. Sweeps:
`lab.reports.sweep_report`.

`markdown` is a pure function (`lab.reports.run_page.page`, too); every word that a model or a user wrote is escaped in
it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from lab.commands import Parser, obeyed
from lab.reports.write import write_report

COMMANDS = """examples:
  python -m lab.report runs/20260101T120000Z-long_dialogue-1a2b
  python -m lab.report runs/20260101T120000Z-long_dialogue-1a2b runs/20260102T120000Z-long_dialogue-3c4d
  python -m lab.report RUN_A RUN_B RUN_C --out side-by-side
"""


def parser() -> Parser:
    out = Parser(
        prog="python -m lab.report",
        epilog=COMMANDS,
        description="Write report.html, report.md and plots of a run, a training or a sweep; of several runs, what "
        "differs.",
    )
    out.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="a run's folder, runs/<id>; further ones of the same scenario are compared with the first, pair by pair",
    )
    out.add_argument(
        "--out", metavar="DIR", help="where a comparison goes (default: compare-<first run> in the last run's folder)"
    )
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 written, 2 refused with a sentence on stderr, 130 interrupted."""
    return obeyed(parser(), _report, arguments)


def _report(args: argparse.Namespace) -> int:
    if len(args.runs) == 1:
        if args.out:
            raise ValueError(
                "--out is for a comparison; expected several runs, or none of it: a run's report goes into its own "
                "folder"
            )
        print(write_report(args.runs[0]))
        return 0
    from lab.reports.comparison_tables import tell
    from lab.reports.write import write_comparison

    found, path = write_comparison(args.runs, args.out)
    for one in found:
        tell(one)
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
