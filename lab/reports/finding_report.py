"""The finding of a study for people, from finding.json alone: in the terminal, in report.md and report.html, and as
plots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from metrics.entry import MISSING, estimate_text
from scenarios.messages import clean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLES = {
    "confirms": "bold green",
    "refutes": "bold red",
    "inconclusive": "bold yellow",
    "no verdict: a control failed": "bold magenta",
}
NOTE = "Figures are `value [low, high] n`; intervals are 95%, and their units are what n counts."


@dataclass(frozen=True)
class FindingTable:
    """A table of a study's report: its title, its header, and its rows of text cells."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]


def finding_sentences(finding: Mapping) -> list[str]:
    """Sentences with the verdict, the statistic, the claim, and the model."""
    worn = f" with {finding['adapter']}" if finding.get("adapter") else ""
    return [
        f"{finding['verdict']}: {finding['why']}.",
        finding["reading"],
        f"The claim: {finding['claim']} ({finding['source']})",
        f"Asked: {finding['model']}{worn}, size {finding['size']}.",
    ]


def finding_tables(finding: Mapping) -> list[FindingTable]:
    """The tables of tests, of controls and of all other figures."""
    tests = [
        (name, finding_interval(test["found"]), bounds_text(test["confirms"]), bounds_text(test["refutes"]))
        for name, test in finding["tests"].items()
    ]
    controls = [
        (name, {True: "passed", False: "FAILED", None: "unclear"}[passed], finding["control_figures"][name])
        for name, passed in finding["controls"].items()
    ]
    measures = [(name, finding_interval(interval)) for name, interval in finding["measures"].items()]
    return [
        FindingTable("Tests", ("what", "value [low, high] n", "confirms", "refutes"), tests),
        FindingTable("Controls", ("control", "", "figures"), controls),
        *(_grid(title, rows) for title, rows in finding.get("tables", {}).items()),
        *([FindingTable("Further figures", ("what", "value [low, high] n"), measures)] if measures else []),
    ]


def _grid(title: str, rows: Mapping) -> FindingTable:
    """A table that the study itself defines, transposed: it usually has more columns than rows, so each column becomes
    a row.
    """
    columns = dict.fromkeys(column for cells in rows.values() for column in cells)
    lines = [
        (column, *(finding_interval(cells[column]) if column in cells else MISSING for cells in rows.values()))
        for column in columns
    ]
    return FindingTable(title, ("", *rows), lines)


def finding_interval(interval: Mapping) -> str:
    """An interval as text, `0.62 [0.50, 0.71] 32` (value, interval, n); a count as the number alone."""
    value, low, high = (interval[key] for key in ("value", "low", "high"))
    if not interval["n"] and value is not None and isfinite(value):
        return f"{value:,.0f}"  # a count, which has no interval
    number = estimate_text(value, low, high, lambda number: f"{number:.3g}" if isfinite(number) else MISSING)
    return f"{number} {interval['n']}"


def bounds_text(bounds: Sequence[float | None]) -> str:
    """A range as text; in JSON an open end is null."""
    low, high = (None if bound is None or not isfinite(bound) else bound for bound in bounds)
    if low is None:
        return MISSING if high is None else f"< {high:g}"
    return f"> {low:g}" if high is None else f"{low:g} to {high:g}"


def study_markdown(finding: Mapping, plots: Sequence[str]) -> list[str]:
    """The sections of report.md. `plots` are file names in plots/."""
    from lab.reports.markdown import escape, table

    head, *rest = finding_sentences(finding)
    parts = [f"## Finding\n\n**{escape(head)}**", *map(escape, rest)]
    parts += [
        f"### {part.title}\n\n" + table(part.header, [[escape(cell) for cell in row] for row in part.rows])
        for part in finding_tables(finding)
    ]
    return [*parts, NOTE, *(f"![{Path(plot).stem.replace('_', ' ')}](plots/{plot})" for plot in plots)]


def finding_summary(finding: Mapping) -> RenderableType:
    """The summary of a finding for the terminal."""
    head, *rest = finding_sentences(finding)
    shown: list[RenderableType] = [
        Text(clean(head), style=STYLES.get(finding["verdict"], "bold")),
        *(Text(clean(part)) for part in rest),
    ]
    for part in finding_tables(finding):
        out = Table(title=part.title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for title in part.header:
            out.add_column(Text(title))
        for row in part.rows:
            out.add_row(*(Text(clean(cell)) for cell in row))
        shown.append(out)
    return Group(*shown)


def finding_plots(finding: Mapping) -> dict[str, Figure | None]:
    """The plots of a finding, by file name."""
    return {f"{name}.png": plot_picture(picture) for name, picture in finding["pictures"].items()}


def plot_picture(picture: Mapping):
    """The figure of one picture: curves with a band for the interval where x is a number, points with error bars where
    x is a name; None without points.
    """
    from lab.reports.plot_kit import STYLES as DASHES
    from lab.reports.plot_kit import empty_figure, plain

    curves = {
        name: [(x, point) for x, point in points if point["value"] is not None]
        for name, points in picture["curves"].items()
    }
    if not any(curves.values()):
        return None
    figure, (axis,) = empty_figure(1)
    names = list(dict.fromkeys(x for points in curves.values() for x, _ in points if isinstance(x, str)))
    for number, (name, points) in enumerate(curves.items()):
        shift = 0.12 * (number - (len(curves) - 1) / 2) if names else 0.0
        at = [(names.index(x) if isinstance(x, str) else x) + shift for x, _ in points]
        value, low, high = (
            [point["value"] if point[key] is None else point[key] for _, point in points]
            for key in ("value", "low", "high")
        )
        style = "o" if names else f"o{DASHES[number % len(DASHES)]}"
        axis.plot(at, value, style, color=f"C{number}", markersize=4, linewidth=1.4, label=plain(name))
        if names:
            axis.vlines(at, low, high, color=f"C{number}", linewidth=1.2, alpha=0.7)
        else:
            axis.fill_between(at, low, high, color=f"C{number}", alpha=0.15, linewidth=0)
    for name, bound in picture["marks"].items():
        if bound is None:
            continue
        axis.axhline(bound, color="grey", linewidth=0.9, linestyle=":", label=plain(name))
    if names:
        axis.set_xticks(range(len(names)), [plain(name) for name in names], rotation=20, ha="right", fontsize=8)
    axis.set(title=plain(picture["title"]), xlabel=plain(picture["x"]), ylabel=plain(picture["y"]))
    if len(curves) + len(picture["marks"]) > 1:
        axis.legend(frameon=False, fontsize=8)
    return figure
