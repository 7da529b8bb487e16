"""All findings on one or several models: `python -m lab.findings MODEL ...`."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from lab.commands import INTERRUPTED, Parser, obeyed

STUDIES = Path(__file__).parents[1] / "scenarios" / "studies"
FAILED = "failed"  # of a study that could not be played
EXAMPLES = """examples:
  python -m lab.findings embedded --size smoke
  python -m lab.findings embedded HuggingFaceTB/SmolLM2-360M-Instruct --studies twenty_questions false_presuppositions

Each study is a run of its own under OUT/MODEL/STUDY. Called again it goes on with what is not finished, and plays nothing twice.
"""


def parser() -> Parser:
    out = Parser(prog="python -m lab.findings", epilog=EXAMPLES,
                 description="Test all findings on one or several models: a matrix of verdicts.")
    out.add_argument("models", nargs="+", metavar="MODEL", help="embedded, a hub id, or a path")
    out.add_argument("--studies", nargs="+", metavar="NAME", help="which ones (default: all)")
    out.add_argument("--size", default="default", choices=("smoke", "default", "full"), help="seconds, minutes, or the protocols' own n")
    out.add_argument("--out", default="runs/findings", metavar="DIR", help="where runs and matrix go (default: runs/findings)")
    out.add_argument("--address", help="as for lab.run")
    out.add_argument("--display", default="auto", choices=("auto", "rich", "plain", "none"), help="how each study is shown")
    out.add_argument("--json", action="store_true", help="print the matrix as one JSON object, and nothing else")
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 all played, 2 refused or one of them failed, 130 interrupted."""
    return obeyed(parser(), _all, arguments)


def _all(args: argparse.Namespace) -> int:
    from rich.console import Console

    from lab.files import dumps
    from lab.study import known, load
    from lab.wiring import check_respondent
    from scenarios.reading import nearest

    for name in args.studies or ():
        if name not in known():
            raise ValueError(f"--studies: {name!r} is no study{nearest(name, known())}")
    if Path(args.out).exists() and not Path(args.out).is_dir():
        raise ValueError(f"--out: {args.out} is no folder; expected one, or a name that nothing has yet")
    models, studies = list(dict.fromkeys(args.models)), list(dict.fromkeys(args.studies or known()))
    todo = [(model, name, [f"seats.assistant.model={model}", f"size={args.size}"]) for model in models for name in studies]
    rows, codes = [], []
    for model, name, overrides in todo:
        runs = Path(args.out) / (re.sub(r"[^A-Za-z0-9_.-]+", "-", model).strip("-.") or "model") / name
        try:
            check_respondent(load(STUDIES / f"{name}.yaml", overrides).study)
            code, run = _played(args, STUDIES / f"{name}.yaml", overrides, runs)
            rows.append(row(model, name, args.size, run))
        except ValueError as error:  # no ground to begin or to go on from: told like one that failed on its way, and the others are played
            print(f"lab.findings: {name} on {model}: {error}", file=sys.stderr)
            code = 2
            rows.append(row(model, name, args.size, None, str(error)))
        if code == INTERRUPTED:
            return INTERRUPTED
        codes.append(code)
        _write(rows, Path(args.out))  # after each, so that what is known can be read meanwhile
    if args.json:
        print(dumps({"findings": rows}).decode())
    elif args.display != "none":
        Console().print(matrix(rows), f"\n{Path(args.out) / 'findings.html'}", soft_wrap=True, highlight=False)
    return max(codes)


def _played(args: argparse.Namespace, file: Path, overrides: list[str], runs: Path) -> tuple[int, Path | None]:
    """The exit code of the study and its folder; one that is finished there, of just this study, is taken as it is, and one that is not is
    gone on with."""
    from lab.store import read_manifest
    from lab.study import command, load

    digest = load(file, overrides).study.digest()

    def there() -> list[Path]:
        return [run for run in sorted(runs.glob("*")) if (run / "manifest.json").is_file() and read_manifest(run).get("digest") == digest]

    before = there()
    if done := [run for run in before if read_manifest(run)["status"] == "finished"]:
        return 0, done[-1]
    resume = str(before[-1]) if before else None
    told = argparse.Namespace(scenario=None if resume else str(file), overrides=[] if resume else overrides, resume=resume, runs=str(runs),
                              address=args.address, display="none" if args.json else args.display, limit=None, dry_run=False, json=False)
    code = command(told)
    return code, next(reversed(there()), None)


def row(model: str, study: str, size: str, run: Path | None, why: str | None = None) -> dict:
    """A row of findings.parquet; where no finding came of it, `why`."""
    from lab.store import read_manifest
    from lab.study_report import finding_of

    found = (finding_of(run) if run else None) or {"verdict": FAILED, "why": why or (run and read_manifest(run).get("reason"))}
    return {"model": model, "study": study, "size": size, "verdict": found["verdict"], **{key: found.get(key) for key in (
        "statistic", "value", "low", "high", "n", "reading", "why")}, "run": str(run or "")}


def cells(rows: Iterable[dict]) -> tuple[list[str], list[list[str]]]:
    """The header, and a line a study: `confirms 0.62 [0.50, 0.71] 32`, a column a model; nothing where it was not played yet."""
    from lab.study_report import figure

    rows = list(rows)
    models, studies = (list(dict.fromkeys(row[key] for row in rows)) for key in ("model", "study"))
    by_place = {(row["study"], row["model"]): row for row in rows}

    def cell(row: dict) -> str:
        return row["verdict"] if row["n"] is None else f"{row['verdict']} {figure(row)}"

    return ["finding", *models], [[study, *(cell(by_place[place]) if (place := (study, model)) in by_place else "" for model in models)]
                                  for study in studies]


def matrix(rows: Iterable[dict]):
    """The table in the terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from lab.screen import clean
    from lab.study_report import STYLES

    header, lines = cells(rows)
    out = Table(title="findings", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False,
                caption=Text("value [low, high] n; the statistic of each is named in its report"), caption_justify="left")
    for title in header:
        out.add_column(Text(clean(title)), overflow="fold")
    for line in lines:
        styles = [next((style for word, style in STYLES.items() if cell.startswith(word)), "") for cell in line]
        out.add_row(*(Text(clean(cell), style=style) for cell, style in zip(line, styles)))
    return out


def _write(rows: list[dict], out: Path) -> None:
    """findings.parquet and findings.html, with the rows there are."""
    import polars as pl

    from lab.files import replace
    from lab.page import Cell, Line, Section, Table, sheet
    from lab.store import write_frame

    out.mkdir(parents=True, exist_ok=True)  # of a first study that was refused there is no run yet
    kinds = {"value": pl.Float64, "low": pl.Float64, "high": pl.Float64, "n": pl.Int64}
    write_frame(out / "findings.parquet", pl.DataFrame(rows, schema={key: kinds.get(key, pl.String) for key in rows[0]}))
    header, lines = cells(rows)
    texts = [Line([Cell(row["study"], link=f"{os.path.relpath(row['run'], out)}/report.html" if row["run"] else ""), Cell(row["model"]),
                   Cell(row["verdict"]), Cell(row["reading"] or ""), Cell(row["why"] or "")]) for row in rows]
    sections = [Section("findings", "Findings", [Table(header, [Line([Cell(cell) for cell in line]) for line in lines])],
                        notes=[f"value [low, high] n; intervals are 95%. Size: {rows[0]['size']}."]),
                Section("readings", "Readings", [Table(["finding", "model", "verdict", "what came out", "why"], texts)])]
    replace(out / "findings.html", sheet("findings", sections).encode("utf-8", "replace"))


if __name__ == "__main__":
    sys.exit(main())
