"""Branch off a stored dialogue: `python -m lab.fork RUN --conversation C --turn K [--samples N] [key=value ...]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lab.commands import Parser, obeyed

if TYPE_CHECKING:
    from lab.reports.fork_comparison import ForkComparison


SHOWN = 60  # characters of a line where the texts part
EXAMPLES = """examples:
  python -m lab.fork runs/20260101T120000Z-long_dialogue-1a2b --conversation 2 --turn 11 \\
      seats.user.adapter=runs/trained/adapter
  python -m lab.fork RUN --conversation 0 --turn 6 --samples 16 turns=60 \\
      seats.user.reminder='Remember who you are. {card}'
  python -m lab.fork RUN --conversation 0 --turn 6 graph.nodes.chat.instruct.assistant='Ask about their childhood.'

Every branch begins with the stored lines before turn K, at the same nodes and with the same instructions. Its random
draws of nodes, facts and scripted lines are those of the original. Branch 0 also samples with the original's seeds:
with nothing changed it repeats the original (in float32, token by token). The other branches sample with seeds of
their own. A new model, adapter, reminder or steering direction (`steer`) counts from turn K on; a new persona or
instruction precedes all lines, the stored ones too. The result is a run like any other; its folder also holds
original.jsonl (the original's events) and fork.json (the comparison).
"""


def parser() -> Parser:
    out = Parser(
        prog="python -m lab.fork",
        epilog=EXAMPLES,
        description="Continue a stored dialogue from any line in several branches, and compare them with the original.",
    )
    out.add_argument("run", help="the folder of a stored run")
    out.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="settings to change: keys of seats and graph, turns, device, dtype",
    )
    out.add_argument(
        "--conversation", type=int, required=True, metavar="C", help="number of the conversation (0-based)"
    )
    out.add_argument("--turn", type=int, required=True, metavar="K", help="first turn that is played again (0-based)")
    out.add_argument("--samples", type=int, default=4, metavar="N", help="number of branches (default: 4)")
    out.add_argument("--runs", default="runs", metavar="DIR", help="parent folder of the new run (default: runs)")
    out.add_argument("--address", help="as for lab.run")
    out.add_argument(
        "--display", default="auto", choices=("auto", "rich", "plain", "none"), help="how the run is shown"
    )
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 played and compared, 2 refused or failed with a sentence on stderr, 130 interrupted."""
    return obeyed(parser(), _run, arguments)


def _run(args: argparse.Namespace) -> int:
    from lab.dialogue import cluster, wiring
    from lab.reports.fork_comparison import ORIGINAL, store_comparison
    from lab.runs.fork import forked
    from lab.runs.runner import begin, print_persona_notes
    from lab.store.atomic_write import dumps

    scenario, begun, own = forked(args.run, args.conversation, args.turn, args.samples, args.overrides)
    wiring.check_scenario(scenario)
    cluster.check_cluster(args.address)
    print_persona_notes("lab.fork", scenario)
    original = b"".join(dumps(event) + b"\n" for event in own)
    path, code = begin(args.runs, scenario, begun, {ORIGINAL: original}, address=args.address, display=args.display)
    if not code:
        comparison = store_comparison(path)
        if comparison is not None:
            _print_comparison(comparison, path)
    return code


def _print_comparison(comparison: ForkComparison, path: Path) -> None:
    from rich.table import Table
    from rich.text import Text

    from lab.reports import fork_comparison
    from lab.reports.comparison_tables import PIPED_WIDTH, TOO_FEW
    from lab.reports.headline import FEW
    from lab.store.console import Console
    from scenarios.messages import clean

    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    console.print(fork_comparison.heading(comparison))
    for header, rows in (
        (fork_comparison.HEADER, fork_comparison.fork_rows(comparison)),
        (fork_comparison.PARTINGS, fork_comparison.partings(comparison)),
    ):
        shown = Table(*header, box=None, header_style="dim", pad_edge=False)
        for row in rows:
            shown.add_row(*(Text(_cut(clean(cell))) for cell in row))
        console.print(shown, "")
    console.print(
        fork_comparison.NOTE
        + (f" {TOO_FEW.replace('conversations', 'branches')}" if comparison.branches < FEW else ""),
        style="dim",
    )
    console.print(str(path / fork_comparison.RESULT), soft_wrap=True)


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


if __name__ == "__main__":
    sys.exit(main())
