"""Every study on several models: a table of verdicts, as Parquet and as an HTML page."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

STUDIES = Path(__file__).parents[2] / "scenarios" / "studies"
FAILED = "failed"  # of a study that could not be played


def play_study(
    file: Path, overrides: list[str], runs: Path, *, address: str | None, display: str
) -> tuple[int, Path | None]:
    """Plays a study below `runs`; returns its exit code and its folder (None where it was refused).

    A folder of the same study there is reused where it is finished, and resumed where it is not. Raises ValueError
    where the study cannot be played.
    """
    from lab.dialogue import cluster
    from lab.store.run_store import read_manifest
    from lab.studies import runner

    loaded = runner.load_planned(file, overrides)
    digest = loaded.study.digest()

    def there() -> list[Path]:
        return [
            run
            for run in sorted(runs.glob("*"))
            if (run / "manifest.json").is_file() and read_manifest(run).get("digest") == digest
        ]

    before = there()
    if done := [run for run in before if read_manifest(run).get("status") == "finished"]:
        return 0, done[-1]
    resume = before[-1] if before else None
    if resume:
        loaded = runner.stored_study(resume)
    runner.check_study(loaded)
    cluster.check_cluster(address)
    with runner.open_study(loaded, runs, resume) as store:
        code = runner.run_study(loaded, store, address=address, display=display)
    return code, next(reversed(there()), None)


def finding_row(model: str, study: str, size: str, run: Path | None, why: str | None = None) -> dict:
    """A row of findings.parquet; without a finding, `why` holds the reason."""
    from lab.store.finding import finding_of
    from lab.store.run_store import read_manifest

    finding = (finding_of(run) if run else None) or {
        "verdict": FAILED,
        "why": why or (run and read_manifest(run).get("reason")),
    }
    return {
        "model": model,
        "study": study,
        "size": size,
        "verdict": finding["verdict"],
        **{key: finding.get(key) for key in ("statistic", "value", "low", "high", "n", "reading", "why")},
        "run": str(run or ""),
    }


def verdict_cells(rows: Iterable[dict]) -> tuple[list[str], list[list[str]]]:
    """The header, and one row per study with a column per model.

    A cell is `confirms 0.62 [0.50, 0.71] 32` (verdict, value, interval, n), or "" where the study has not been played.
    """
    from lab.reports.finding_report import finding_interval

    rows = list(rows)
    models, studies = (list(dict.fromkeys(row[key] for row in rows)) for key in ("model", "study"))
    by_place = {(row["study"], row["model"]): row for row in rows}

    def cell(row: dict) -> str:
        return row["verdict"] if row["n"] is None else f"{row['verdict']} {finding_interval(row)}"

    return ["finding", *models], [
        [study, *(cell(by_place[place]) if (place := (study, model)) in by_place else "" for model in models)]
        for study in studies
    ]


def matrix(rows: Iterable[dict]):
    """The table for the terminal, as a rich Table."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from lab.reports.finding_report import STYLES
    from scenarios.messages import clean

    header, lines = verdict_cells(rows)
    out = Table(
        title="findings",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        caption=Text("value [low, high] n; the statistic of each is named in its report"),
        caption_justify="left",
    )
    for title in header:
        out.add_column(Text(clean(title)), overflow="fold")
    for line in lines:
        styles = [next((style for word, style in STYLES.items() if cell.startswith(word)), "") for cell in line]
        out.add_row(*(Text(clean(cell), style=style) for cell, style in zip(line, styles, strict=True)))
    return out


def write_matrix(rows: list[dict], out: Path) -> None:
    """Writes findings.parquet and findings.html into `out`. Raises StoreError where they cannot be written."""
    import polars as pl

    from lab.reports.html import Cell, Section, Table, TableRow, sheet
    from lab.store.atomic_write import replace
    from lab.store.run_store import write_frame

    out.mkdir(parents=True, exist_ok=True)  # of a first study that was refused there is no run yet
    kinds = {"value": pl.Float64, "low": pl.Float64, "high": pl.Float64, "n": pl.Int64}
    write_frame(
        out / "findings.parquet", pl.DataFrame(rows, schema={key: kinds.get(key, pl.String) for key in rows[0]})
    )
    header, lines = verdict_cells(rows)
    texts = [
        TableRow(
            [
                Cell(row["study"], link=f"{os.path.relpath(row['run'], out)}/report.html" if row["run"] else ""),
                Cell(row["model"]),
                Cell(row["verdict"]),
                Cell(row["reading"] or ""),
                Cell(row["why"] or ""),
            ]
        )
        for row in rows
    ]
    sections = [
        Section(
            "findings",
            "Findings",
            [Table(header, [TableRow([Cell(cell) for cell in line]) for line in lines])],
            notes=[f"value [low, high] n; intervals are 95%. Size: {rows[0]['size']}."],
        ),
        Section("readings", "Readings", [Table(["finding", "model", "verdict", "result", "why"], texts)]),
    ]
    replace(out / "findings.html", sheet("findings", sections).encode("utf-8", "replace"))
