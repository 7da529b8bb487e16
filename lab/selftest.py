"""Test whether the judges and measures detect planted drift: `python -m lab.selftest [--judge NAME ...] [--size
smoke|default]`. (Instead, `--judges`: how far to trust each judge, see `lab.selftests.judge_figures`; `--coverage`:
intervals, marks and verdicts by simulation, see `lab.selftests.coverage`; `--kill N`: whether a killed run loses
anything, see `lab.selftests.kill_and_resume`.)

Known faults are planted in clean dialogues at known turns and doses (`metrics.validation.planted`), and each judge,
measure, tripwire and retrieval is tested on whether it shows them.

The test fails (exit code 1) where a judge does not rank the faults that its entry claims above other lines, where a
measure or tripwire moves against its direction (`MOVES`, `WIRES`), and where neither the ledger nor the NLI judge, if
tested, meets all of `BARS`. The other figures are shown only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from lab.commands import Parser, obeyed
from lab.selftests.planted_drift import ASKED, PERSONAS, SIZES, Result, Size, judges_to_test
from lab.store.output import say

EXAMPLES = """examples:
  python -m lab.selftest
  python -m lab.selftest --judge ledger --judge nli --size smoke --json selftest.json
  python -m lab.selftest --judges
  python -m lab.selftest --judges labelled.jsonl --judge likelihood --plot reliability.png
  python -m lab.selftest --coverage
  python -m lab.selftest --kill 20
  python -m lab.selftest --kill 5 scenarios/training/quick.yaml max_steps=2
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 passed, 1 failed, 2 refused with a sentence on stderr, 130 interrupted."""
    return obeyed(parser(), _selftest, arguments)


def parser() -> Parser:
    out = Parser(
        prog="python -m lab.selftest",
        description="Test whether judges and measures detect planted drift, or whether a killed run loses anything.",
        epilog=EXAMPLES,
    )
    out.add_argument(
        "file",
        nargs="?",
        help="with --kill: YAML file of a scenario or a training (default: scenarios/long_dialogue.yaml, shortened); "
        "with --judges: files or run folders with labelled conversations",
    )
    out.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="with --kill: dotted keys of that file; with --judges: keys of a scenario's measure section",
    )
    names = judges_to_test()
    out.add_argument(
        "--judge",
        action="append",
        choices=names,
        metavar="NAME",
        help=f"judge to test; repeat the option for several: {', '.join(names)} (default: {', '.join(ASKED)})",
    )
    out.add_argument("--size", choices=tuple(SIZES), help="how much is played or simulated (default: default)")
    out.add_argument("--personas", default=str(PERSONAS), help="persona file (default: the townsfolk)")
    out.add_argument("--seed", type=int, default=7, help="seed of all draws (default: 7)")
    out.add_argument("--device", default="auto", help="device of the models (default: auto)")
    out.add_argument("--json", metavar="FILE", help="also write all results as JSON")
    out.add_argument("--judges", action="store_true", help="instead: how far to trust each judge, on lines with labels")
    out.add_argument("--plot", metavar="FILE.png", help="with --judges: draw the reliability of the judges")
    out.add_argument("--coverage", action="store_true", help="instead: how often intervals and verdicts are right")
    out.add_argument(
        "--kill",
        type=int,
        metavar="N",
        help="instead: kill a run or a training at N random moments and resume it; nothing may be lost or done twice",
    )
    out.add_argument("--address", default="none", help="with --kill: as for lab.run (default: none)")
    return out


def _selftest(args: argparse.Namespace) -> int:
    from lab.selftests.coverage import coverage_and_report
    from lab.selftests.judges import compare_judges, with_judges
    from lab.selftests.kill_and_resume import kill_and_report
    from lab.selftests.tables import text

    if args.size and (args.judges or args.kill is not None):
        raise ValueError(f"--size is {args.size}, of the dialogues with planted drift; expected no --judges or --kill")
    if args.kill is not None:
        return kill_and_report(args.file, args.overrides, args.kill, args.seed, args.address)
    if args.coverage:
        return coverage_and_report(args.size or "default", args.seed, args.json)
    if args.plot and not args.judges:
        raise ValueError(f"--plot is {args.plot}; expected --judges beside it")
    names, sources = list(dict.fromkeys(args.judge or ASKED)), [args.file, *args.overrides] if args.file else []
    if args.judges:
        return compare_judges(names, sources, args.personas, args.device, args.json, args.plot)
    if args.file:
        raise ValueError(f"{args.file!r} is for --judges or --kill N; expected options only")
    result = with_judges(names, args.personas, size := SIZES[args.size or "default"], args.seed, args.device)
    if args.json:
        _write(Path(args.json), names, size, args.seed, result)
    say(text(result))
    return int(result.failed)


def _write(file: Path, names: Sequence[str], size: Size, seed: int, result: Result) -> None:
    from lab.store.atomic_write import dumps, replace

    about = {"judges": names, "size": asdict(size), "seed": seed, "failed": result.failed}
    replace(file, dumps(about | asdict(result), indent=2) + b"\n")


if __name__ == "__main__":
    sys.exit(main())
