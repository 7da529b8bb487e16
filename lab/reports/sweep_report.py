"""The report of a sweep: report.html, report.md and plots/*.png, from trials.parquet and the folders of its trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import nan
from pathlib import Path

from lab.progress.trials_table import axes_of
from lab.reports.plot_kit import COLOURS, STYLES, empty_figure, plain
from lab.reports.sweep_curves import AxisInteraction, ResponseCurve, Results, by_axis, read_results
from lab.reports.training_conditions import NOTE as CONDITIONS
from lab.reports.training_conditions import condition_rows, cost_rows
from lab.reports.validity_text import marked, overstates
from lab.store.atomic_write import replace
from metrics.catalogue import CONSISTENCIES, TITLES, metric_figures
from metrics.entry import MISSING, estimate_text
from metrics.stats.intervals import Interval

NOTE = (
    "Each cell is value [low, high] n: the mean over all trials with that value of the axis. The units of "
    "the intervals are conversations, identified by number and seed, each with all trials that hold it. n counts one "
    "value per conversation and trial (or per trial, where a measure has no value by conversation), so fewer than n "
    "are independent. The table omits the time to the first contradiction and the half-life, which are infinite "
    "without a contradiction; trials.parquet has them."
)
INTERACTIONS = (
    "The interaction is b3 of y = b0 + b1 u + b2 v + b3 u v, with both axes coded from 0 to 1 (an axis of words from "
    "its first to its last value), in units of the measure; 0 means that the effects of the axes add up. ▲ marks an "
    "interval that excludes 0; by chance alone, one in twenty would."
)


def write_sweep_report(path: Path) -> Path:
    """Writes report.html, report.md and plots/, and returns the path of report.html.

    Raises ValueError where the folder is no sweep or no trial has ended, StoreError where a file cannot be written.
    """
    from lab.reports.plot_kit import save

    results = read_results(path)
    drawn = save(
        {f"{_slug(axis)}.png": plot_responses(axis, curves) for axis, curves in by_axis(results.curves).items()},
        path / "plots",
    )
    replace(path / "report.md", sweep_markdown(results, [plot.name for plot in drawn]).encode("utf-8", "replace"))
    replace(path / "report.html", sweep_page(results).encode("utf-8", "replace"))
    return path / "report.html"


def interval_cell(interval: Interval, number: Callable[[float], str]) -> str:
    """`value [low, high] n=…`; MISSING alone where there is no value."""
    text = estimate_text(interval.value, interval.low, interval.high, number)
    return text if text == MISSING else f"{text} n={interval.n}"


def _marked_cell(cell: str, valid: bool) -> str:
    return cell if cell == MISSING else marked(cell, valid)


def curve_rows(measured: Sequence[ResponseCurve]) -> tuple[list[str], list[list[str]]]:
    """The header and rows of one axis' table: one row per measure and seat, one column per level."""
    levels = max((curve.levels for curve in measured), key=len)
    rows = []
    for curve in measured:
        metric, judge, seat = curve.measure
        figure = metric_figures([metric])[metric]
        by_level = {
            level: marked(MISSING, valid)
            if overstates(metric, interval.value, valid)
            else _marked_cell(interval_cell(interval, figure.number), valid)
            for level, interval, valid in zip(curve.levels, curve.estimates, curve.valid, strict=True)
        }
        rows.append([figure.label, judge or MISSING, seat, *(by_level.get(level, MISSING) for level in levels)])
    return ["measure", "judge", "seat", *levels], rows


def pair_rows(interactions: Sequence[AxisInteraction]) -> tuple[list[str], list[list[str]]]:
    """The header and rows of the table of interactions: one row per pair of axes, measure and seat."""
    rows = []
    for pair in interactions:
        metric, judge, seat = pair.measure
        clear = pair.valid and (pair.effect.low > 0 or pair.effect.high < 0)
        rows.append(
            [
                " × ".join(pair.axes),
                metric_figures([metric])[metric].label,
                judge or MISSING,
                seat,
                _marked_cell(interval_cell(pair.effect, lambda value: f"{value:+.3f}"), pair.valid) + " ▲" * clear,
            ]
        )
    return ["axes", "measure", "judge", "seat", "interaction"], rows


def trial_rows(results: Results) -> tuple[list[str], list[list[str]]]:
    """The header and rows of the table of trials."""
    axes = axes_of(results.trials)
    rows = [
        [
            row["trial"],
            *(str(row[axis]) for axis in axes),
            row["status"],
            row["reason"] or "",
            row["failed_conversations"] or 0,
            row["attempts"],
            f"{row['seconds']:.0f}" if row["seconds"] is not None else MISSING,
        ]
        for row in results.trials.iter_rows(named=True)
    ]
    return ["trial", *axes, "status", "reason", "failed dialogues", "attempts", "seconds"], rows


def trial_counts(results: Results) -> str:
    """The number of trials, and their numbers by status: `12 trials: 10 finished, 2 failed`."""
    counts = dict(results.trials["status"].value_counts().sort("status").iter_rows())
    return f"{results.trials.height} trials: " + ", ".join(f"{count} {status}" for status, count in counts.items())


def sweep_markdown(results: Results, plots: Sequence[str] = ()) -> str:
    """report.md, as a pure function of the results; `plots` are file names in plots/."""
    from lab.reports.markdown import escape, table, title

    def shown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
        return table([escape(name) for name in header], [[escape(text) for text in row] for row in rows])

    parts = [title(results.manifest, escape(trial_counts(results))), "## Trials", shown(*trial_rows(results))]
    if results.trained:
        tables = [shown(*condition_rows(results.trained)), shown(*cost_rows(results.conditions))]
        parts += ["## Trainings", *tables, CONDITIONS]
    for axis, along in by_axis(results.curves).items():
        picture = [f"![{_slug(axis)}](plots/{_slug(axis)}.png)"] if f"{_slug(axis)}.png" in plots else []
        parts += [f"## Along {escape(axis)}", *picture, shown(*curve_rows(along))]
    parts += [NOTE] if results.curves else []
    if results.interactions:
        parts += ["## Interactions", shown(*pair_rows(results.interactions)), INTERACTIONS]
    return (
        "\n\n".join([*parts, "## Run information", shown(["item", "value"], _run_information(results.manifest))]) + "\n"
    )


def sweep_page(results: Results) -> str:
    """report.html, as a pure function of the results."""
    from lab.reports.html import Cell, Section, Table, TableRow, sheet
    from lab.reports.plot_kit import svg

    def row(*cells: object) -> TableRow:
        return TableRow([Cell(str(text)) for text in cells])

    header, rows = trial_rows(results)
    linked = [
        TableRow(
            [
                Cell(values[0], link=f"trials/{values[0]}/report.html")
                if not results.sweep.storage
                else Cell(values[0]),
                *(Cell(str(text), loud=text == "failed") for text in values[1:]),
            ]
        )
        for values in rows
    ]
    sections = [Section("trials", "Trials", [Table(header, linked)])]
    if results.trained:
        tables = [condition_rows(results.trained), cost_rows(results.conditions)]
        tables = [Table(head, [row(*line) for line in lines]) for head, lines in tables]
        sections.append(Section("trainings", "Trainings", tables, notes=[CONDITIONS]))
    for number, (axis, along) in enumerate(by_axis(results.curves).items()):
        head, lines = curve_rows(along)
        figure = plot_responses(axis, along)
        table = Table(head, [row(*line) for line in lines], "all measures", folded=bool(figure))
        figures = [{"svg": svg(figure), "caption": f"consistency along {axis}"}] if figure else []
        sections.append(Section(f"axis-{number}", f"Along {axis}", [table], figures=figures, notes=[NOTE]))
    if results.interactions:
        head, lines = pair_rows(results.interactions)
        sections.append(
            Section("interactions", "Interactions", [Table(head, [row(*line) for line in lines])], notes=[INTERACTIONS])
        )
    sections.append(
        Section(
            "made",
            "Run information",
            [Table(["item", "value"], [row(*values) for values in _run_information(results.manifest)])],
        )
    )
    run = {
        "mark": "",
        "id": results.manifest["run_id"],
        "status": results.manifest.get("status"),
        "summary": [trial_counts(results)],
    }
    return sheet(results.sweep.name, sections, [run])


def _run_information(manifest: Mapping) -> list[list[object]]:
    return [
        ["seed", manifest.get("seed")],
        ["digest of all trials", manifest.get("digest")],
        *([name, version or "not installed"] for name, version in manifest.get("versions", {}).items()),
        ["git revision", manifest.get("git_revision") or MISSING],
        ["started", manifest.get("started")],
        ["resumed", ", ".join(manifest.get("resumed", [])) or MISSING],
        ["finished", manifest.get("finished") or MISSING],
    ]


def _slug(axis: str) -> str:
    return "".join(char if char.isalnum() or char in "-_" else "_" for char in axis)


def plot_responses(axis: str, curves: Sequence[ResponseCurve]):
    """The consistencies along an axis of a sweep, one panel per measure, one curve per seat and judge, with intervals
    as error bars, in grey and without a mark where the judge is not valid; None without any.
    """
    shown = [metric for metric in CONSISTENCIES if any(curve.measure[0] == metric for curve in curves)]
    if not shown:
        return None
    figure, axes = empty_figure(len(shown))
    for panel, metric in zip(axes, shown, strict=True):
        of_metric = [curve for curve in curves if curve.measure[0] == metric]
        judges = sorted({curve.measure[1] or "" for curve in of_metric})
        for curve in of_metric:
            _, judge, seat = curve.measure
            at = curve.places or range(len(curve.levels))
            panel.plot(
                at,
                [
                    interval.value if valid else nan
                    for interval, valid in zip(curve.estimates, curve.valid, strict=True)
                ],
                marker="o",
                markersize=3,
                linewidth=1.4,
                color=COLOURS[seat],
                linestyle=(STYLES[judges.index(judge or "") % len(STYLES)] if curve.places else ""),
                label=f"{seat} ({judge})",
            )
            panel.vlines(
                at,
                [interval.low for interval in curve.estimates],
                [interval.high for interval in curve.estimates],
                color=[COLOURS[seat] if valid else "lightgrey" for valid in curve.valid],
                alpha=0.5,
                linewidth=1.6,
            )
            if curve.places is None:
                panel.set_xticks(
                    range(len(curve.levels)),
                    [plain(level) for level in curve.levels],
                    rotation=20,
                    ha="right",
                    fontsize=8,
                )
        panel.set(title=TITLES[metric], xlabel=plain(axis), ylim=(-0.03, 1.03))
        panel.legend(frameon=False, fontsize=8)
    axes[0].set_ylabel("consistency")
    return figure
