"""Test published findings on one or several models: `python -m lab.findings MODEL ...`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.commands import Parser, obeyed
from lab.store.output import say, say_json
from lab.store.session import INTERRUPTED
from lab.studies.matrix import STUDIES, finding_row, matrix, play_study, write_matrix

EXAMPLES = """examples:
  python -m lab.findings embedded --size smoke
  python -m lab.findings embedded HuggingFaceTB/SmolLM2-360M-Instruct --studies twenty_questions false_presuppositions

Each study is a separate run under OUT/MODEL/STUDY. The same command resumes what is unfinished and repeats nothing.
"""


def parser() -> Parser:
    out = Parser(
        prog="python -m lab.findings",
        epilog=EXAMPLES,
        description="Test the published findings on one or several models, and write a matrix of verdicts.",
    )
    out.add_argument("models", nargs="+", metavar="MODEL", help="embedded, a hub id, or a path")
    out.add_argument("--studies", nargs="+", metavar="NAME", help="names of studies (default: all)")
    out.add_argument(
        "--size",
        default="default",
        choices=("smoke", "default", "full"),
        help="smoke takes seconds, default takes minutes, full has the sample sizes of the protocols",
    )
    out.add_argument(
        "--out",
        default="runs/findings",
        metavar="DIR",
        help="folder of the runs and the matrix (default: runs/findings)",
    )
    out.add_argument("--address", help="as for lab.run")
    out.add_argument(
        "--display", default="auto", choices=("auto", "rich", "plain", "none"), help="how each study is shown"
    )
    out.add_argument("--json", action="store_true", help="print only one JSON object: the matrix")
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 all played, 2 refused or one of them failed, 130 interrupted."""
    return obeyed(parser(), _all, arguments)


def _all(args: argparse.Namespace) -> int:
    from lab.dialogue.seats import check_respondent
    from lab.store.console import Console
    from lab.studies.runner import load_planned, study_names
    from scenarios.suggestions import nearest

    for name in args.studies or ():
        if name not in study_names():
            raise ValueError(f"--studies: {name!r} is no study{nearest(name, study_names())}")
    if Path(args.out).exists() and not Path(args.out).is_dir():
        raise ValueError(f"--out: {args.out} is no folder; expected a folder, or a path where nothing exists yet")
    models, studies = list(dict.fromkeys(args.models)), list(dict.fromkeys(args.studies or study_names()))
    todo = [
        (model, name, [f"seats.assistant.model={model}", f"size={args.size}"]) for model in models for name in studies
    ]
    rows, codes = [], []
    for model, name, overrides in todo:
        runs = Path(args.out) / (re.sub(r"[^A-Za-z0-9_.-]+", "-", model).strip("-.") or "model") / name
        try:
            check_respondent(load_planned(STUDIES / f"{name}.yaml", overrides).study)
            display = "none" if args.json else args.display
            code, run = play_study(STUDIES / f"{name}.yaml", overrides, runs, address=args.address, display=display)
            rows.append(finding_row(model, name, args.size, run))
        except ValueError as error:
            # refused before it begins: a row of the matrix, as one that fails later; others are played
            say(f"lab.findings: {name} on {model}: {error}", file=sys.stderr)
            code = 2
            rows.append(finding_row(model, name, args.size, None, str(error)))
        if code == INTERRUPTED:
            return INTERRUPTED
        codes.append(code)
        write_matrix(rows, Path(args.out))  # after each, so that what is known can be read meanwhile
    if args.json:
        say_json({"findings": rows})
    elif args.display != "none":
        Console().print(matrix(rows), f"\n{Path(args.out) / 'findings.html'}", soft_wrap=True, highlight=False)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
