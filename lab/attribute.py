"""Which seat causes the drift: `python -m lab.attribute RUN --turn K seats.user.temperature=1.2 ...`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.commands import Parser, obeyed

RESULT = "attribution.json"
PLAYED = {
    "AA": "both seats as stored",
    "AB": "the assistant's settings new",
    "BA": "the user's settings new",
    "BB": "both seats' settings new",
}
NOTE = (
    "Positive: the new settings bring more lines that contradict their speaker. user, assistant: what that seat's new "
    "settings add, "
    "averaged over the other seat's; interaction: what both add beyond the sum. n: conversations. In the columns of "
    "the arms (A as "
    "stored, B new; the user's first): inconsistency from turn {turn} on, and the lines scored."
)
EXAMPLES = """examples:
  python -m lab.attribute runs/20260101T120000Z-long_dialogue-1a2b --turn 10 seats.user.temperature=1.2
  python -m lab.attribute RUN --turn 10 seats.user.adapter=runs/trained/checkpoints/step-000100 \\
      seats.assistant.instruction='Be brief.'

Four arms (the user's settings old or new, by the assistant's old or new) are played from turn K of the stored run and
kept as runs of their own; attribution.json says what each seat's new settings add to inconsistency, with intervals.
"""


def parser() -> Parser:
    out = Parser(
        prog="python -m lab.attribute",
        description="Swap a seat's settings in mid-dialogue, and see which seat matters.",
        epilog=EXAMPLES,
    )
    out.add_argument("run", help="the folder of a stored run")
    out.add_argument(
        "overrides", nargs="*", metavar="seats.SEAT.key=value", help="the new settings, of one seat or both"
    )
    out.add_argument(
        "--turn", type=int, required=True, metavar="K", help="the first line that is played anew (0-based)"
    )
    out.add_argument(
        "--out",
        metavar="DIR",
        help="where the four runs and attribution.json go (default: swap-tK in the run's folder)",
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
    from lab.runs.attribution import attribute, beginning, scenarios
    from lab.runs.runner import begin
    from lab.store.atomic_write import dumps, replace
    from lab.store.run_store import read_frames

    args.json = False
    arms = scenarios(args.run, args.overrides)
    begun = {arm: beginning(args.run, args.turn, scenario) for arm, scenario in arms.items()}
    for scenario in arms.values():
        wiring.check(scenario)
    cluster.check(args.address)
    out = Path(args.out) if args.out else Path(args.run) / f"swap-t{args.turn}"
    paths: dict[str, Path] = {}  # by digest: arms that are the same scenario are played once
    for arm, scenario in arms.items():
        if scenario.digest() not in paths:
            if args.display != "none":
                alike = " and ".join(other for other in arms if arms[other].digest() == scenario.digest())
                print(f"arm {alike}: {PLAYED[arm]}", flush=True)
            path, code = begin(args, out, scenario, begun[arm])
            if code:
                return code
            paths[scenario.digest()] = path
    folders = {arm: paths[scenario.digest()] for arm, scenario in arms.items()}
    how = arms["AA"].measure
    rows = attribute(
        args.run,
        {arm: read_frames(path)["judgements"] for arm, path in folders.items()},
        args.turn,
        confidence=how.confidence,
        resamples=how.resamples,
        seed=arms["AA"].seed,
    )
    if not rows:
        raise ValueError(
            f"no line from turn {args.turn} on was scored in all four arms of {out}; expected prompt_to_line among "
            "measure.metrics"
        )
    first = [row for row in rows if row["judge"] == how.judge[0] and row["lines"] == "both"]
    found = {row["effect"]: {key: row[key] for key in ("value", "low", "high", "n")} for row in first}
    found |= {
        "judge": how.judge[0],
        "turn": args.turn,
        "overrides": args.overrides,
        "run": str(args.run),
        "arms": {arm: path.name for arm, path in folders.items()},
        "rows": rows,
    }
    replace(out / RESULT, dumps(found, indent=2) + b"\n")
    _tell(rows, args.turn, out / RESULT)
    return 0


def _tell(rows: list[dict], turn: int, path: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from lab.reports.comparison_tables import FEW, PIPED_WIDTH, TOO_FEW
    from lab.runs.attribution import ARMS

    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    shown = Table(
        "judge",
        "lines of",
        "effect of",
        "inconsistency added [interval]",
        "n",
        *ARMS,
        box=None,
        header_style="dim",
        pad_edge=False,
    )
    for row in rows:
        interval = f" [{row['low']:+.3f}, {row['high']:+.3f}]" if row["n"] > 1 else ""
        arms = (f"{row['inconsistency'][arm]:.3f} ({row['scored'][arm]})" if row["n"] else "–" for arm in ARMS)
        value = f"{row['value']:+.3f}{interval}" if row["n"] else "–"
        shown.add_row(row["judge"], row["lines"], row["effect"], value, str(row["n"]), *arms)
    console.print(shown)
    console.print(NOTE.format(turn=turn) + (f" {TOO_FEW}" if max(row["n"] for row in rows) < FEW else ""), style="dim")
    console.print(str(path), soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
