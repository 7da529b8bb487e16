"""Writes reports: report.md, report.html and the plots of one run, and the comparison of several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from lab.reports import fork_comparison
from lab.reports.comparison import Comparison, compare_runs, read_measured
from lab.reports.comparison_tables import comparison_markdown
from lab.reports.markdown import title
from lab.reports.plot_kit import save
from lab.reports.run_markdown import run_information, run_markdown, training_markdown
from lab.reports.sides import side
from lab.store.atomic_write import replace
from lab.store.run_store import SWEEP, refuse_strange_entries, write_frame

LETTERS = "ABCDEFGH"  # that runs go by where several stand side by side


def write_comparison(runs: Sequence[str | Path], out: str | Path | None = None) -> tuple[list[Comparison], Path]:
    """Writes the comparison of the first run with each other run, and returns (comparisons, path of report.html).

    `out` (by default a folder below the last run) gets report.html with all runs and, for each other run,
    comparison.md, comparison.parquet and plots/. Trainings are shown but not compared. Raises ValueError where one is
    no run, was not measured, or has no measure in common with the first, and for too many runs; StoreError.
    """
    from lab.reports.run_page import runs_page
    from lab.reports.sides import side

    paths = [Path(run) for run in runs]
    if len(paths) > len(LETTERS):
        raise ValueError(f"{len(paths)} runs are too many for one comparison; expected at most {len(LETTERS)}")
    sides = [side(path, mark) for path, mark in zip(paths, LETTERS, strict=False)]
    comparisons = []
    if not any("steps" in shown_side.frames for shown_side in sides):
        first, *others = (read_measured(path, shown_side) for path, shown_side in zip(paths, sides, strict=True))
        comparisons = [compare_runs(first, other) for other in others]
    folder = Path(out) if out else paths[-1] / f"compare-{paths[0].resolve().name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"{folder} cannot be made ({error.strerror}); expected a folder that can be written (--out)"
        ) from None
    if comparisons:
        _write(comparisons, folder)
    replace(folder / "report.html", runs_page(sides, comparisons).encode("utf-8", "replace"))
    return comparisons, folder / "report.html"


def _write(comparisons: Sequence[Comparison], folder: Path) -> None:
    """Writes comparison.md, comparison.parquet and plots/; with several comparisons, file names begin with the run's
    letter.
    """
    from lab.reports.plots import comparison_plots as draw

    for comparison, letter in zip(comparisons, LETTERS[1:], strict=False):
        before = f"{letter}-" if len(comparisons) > 1 else ""
        shown = {
            name: {key: run.frames[key].filter(pl.col("conversation").is_in(side)) for key in ("turns", "judgements")}
            | {"metrics": run.frames["metrics"]}
            for name, run, side in zip("AB", (comparison.a, comparison.b), comparison.sides, strict=True)
        }
        plots = save({before + name: figure for name, figure in draw(comparison.rows, shown).items()}, folder / "plots")
        write_frame(folder / f"{before}comparison.parquet", pl.DataFrame(comparison.rows, infer_schema_length=None))
        replace(
            folder / f"{before}comparison.md",
            comparison_markdown(comparison, [plot.name for plot in plots]).encode("utf-8", "replace"),
        )


def write_report(run_dir: str | Path) -> Path:
    """Writes report.html, report.md and plots/ into the run's folder, and returns the path of report.html.

    Raises ValueError where the folder is no run, holds a link, or is damaged; StoreError where a file cannot be
    written.
    """
    from lab.reports import finding_report, plots
    from lab.reports.run_page import runs_page

    path = Path(run_dir)
    if (path / SWEEP).is_file():
        from lab.reports import sweep_report

        refuse_strange_entries(path)
        return sweep_report.write_sweep_report(path)
    shown = side(path)
    refuse_strange_entries(path)
    fork, frames, opening = fork_comparison.store_comparison(path), shown.frames, shown.story.opening
    if shown.finding:
        drawn = save(finding_report.finding_plots(shown.finding), path / "plots")
        parts = [
            title(shown.manifest),
            *finding_report.study_markdown(shown.finding, [plot.name for plot in drawn]),
            run_information(shown.manifest),
        ]
        text = "\n\n".join(parts) + "\n"
    elif "steps" in frames:
        drawn = save(
            plots.training_plots(frames["steps"], frames["evaluation"]) | plots.wire_plots(frames["steps"]),
            path / "plots",
        )
        text = training_markdown(shown.manifest, frames["evaluation"], [plot.name for plot in drawn])
    else:
        drawn = plots.write_plots(frames, path / "plots")
        text = run_markdown(
            frames,
            shown.manifest,
            spans=shown.story.spans(),
            nodes=opening.get("nodes", ()),
            edges=opening.get("edges", ()),
            plots=[plot.name for plot in drawn],
            fork=fork,
        )
    replace(path / "report.md", text.encode("utf-8", "replace"))
    replace(path / "report.html", runs_page([shown], fork=fork).encode("utf-8", "replace"))
    return path / "report.html"
