"""A sweep for people: report.html, report.md and plots/*.png, made of trials.parquet and of the trials' own folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.progress.trials_table import axes_of
from lab.reports.plot_kit import COLOURS, STYLES, empty_figure, plain
from lab.reports.sweep_curves import Curve, Pair, Results, by_axis, read_results
from lab.store.atomic_write import replace
from metrics.catalogue import CONSISTENCIES, MISSING, TITLES, figures
from metrics.stats.bootstrap import Interval

NOTE = (
    "Each cell is value [low, high] n: the mean at that value of the axis over all trials that have it, whatever "
    "their other values; "
    "intervals resample conversations, by number and seed, each with all trials that hold it. n counts values, one a "
    "conversation of "
    "a trial (or a trial, where a measure has no value by conversation): the same conversation counts once for each "
    "trial that holds it, "
    "so that fewer are independent. The time to the first contradiction and the half-life are left out, since they "
    "have no finite value "
    "where nobody contradicted anything; trials.parquet has them."
)
INTERACTIONS = (
    "What both axes' far ends add together that neither adds alone, b3 of y = b0 + b1 u + b2 v + b3 u v with both "
    "axes coded "
    "from 0 to 1, in units of the measure; 0: the axes add up. Of words, the first and the last are the ends. An "
    "interval "
    "that leaves out 0 is marked ▲; of many, one in twenty does so by chance."
)


def write(path: Path) -> Path:
    """Writes report.html, report.md and plots/; the path of report.html. Raises ValueError where that is no sweep, or
    has no trials yet.
    """
    from lab.reports.plot_kit import save
    from lab.reports.sweep_report import responses

    found = read_results(path)
    drawn = save(
        {f"{_slug(axis)}.png": responses(axis, curves) for axis, curves in by_axis(found.curves).items()},
        path / "plots",
    )
    replace(path / "report.md", markdown(found, [plot.name for plot in drawn]).encode("utf-8", "replace"))
    replace(path / "report.html", page(found).encode("utf-8", "replace"))
    return path / "report.html"


def cell(found: Interval, number) -> str:
    if found.value != found.value:
        return MISSING
    interval = f" [{number(found.low)}, {number(found.high)}]" if found.low == found.low else ""
    return f"{number(found.value)}{interval} n={found.n}"


def curve_rows(some: Sequence[Curve]) -> tuple[list[str], list[list[str]]]:
    """A table of one axis: a row a measure and seat, a column a level."""
    levels = max((curve.levels for curve in some), key=len)
    rows = []
    for curve in some:
        metric, judge, seat = curve.measure
        figure = figures([metric])[metric]
        told = dict(zip(curve.levels, (cell(one, figure.number) for one in curve.found), strict=True))
        rows.append([figure.label, judge or MISSING, seat, *(told.get(level, MISSING) for level in levels)])
    return ["measure", "judge", "seat", *levels], rows


def pair_rows(some: Sequence[Pair]) -> tuple[list[str], list[list[str]]]:
    rows = []
    for pair in some:
        metric, judge, seat = pair.measure
        clear = pair.found.low > 0 or pair.found.high < 0
        rows.append(
            [
                " × ".join(pair.axes),
                figures([metric])[metric].label,
                judge or MISSING,
                seat,
                cell(pair.found, lambda value: f"{value:+.3f}") + " ▲" * clear,
            ]
        )
    return ["axes", "measure", "judge", "seat", "interaction"], rows


def trial_rows(found: Results) -> tuple[list[str], list[list[str]]]:
    axes = axes_of(found.trials)
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
        for row in found.trials.iter_rows(named=True)
    ]
    return ["trial", *axes, "status", "reason", "failed dialogues", "attempts", "seconds"], rows


def told(found: Results) -> str:
    counts = dict(found.trials["status"].value_counts().sort("status").iter_rows())
    return f"{found.trials.height} trials: " + ", ".join(f"{count} {status}" for status, count in counts.items())


def markdown(found: Results, plots: Sequence[str] = ()) -> str:
    """report.md; pure."""
    from lab.reports.markdown import escape, table, title

    def shown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
        return table([escape(name) for name in header], [[escape(one) for one in row] for row in rows])

    parts = [title(found.manifest, escape(told(found))), "## Trials", shown(*trial_rows(found))]
    for axis, some in by_axis(found.curves).items():
        picture = [f"![{_slug(axis)}](plots/{_slug(axis)}.png)"] if f"{_slug(axis)}.png" in plots else []
        parts += [f"## Along {escape(axis)}", *picture, shown(*curve_rows(some))]
    parts += [NOTE] if found.curves else []
    if found.pairs:
        parts += ["## Interactions", shown(*pair_rows(found.pairs)), INTERACTIONS]
    return "\n\n".join([*parts, "## Run information", shown(["what", "value"], _made(found.manifest))]) + "\n"


def page(found: Results) -> str:
    """report.html; pure."""
    from lab.reports.html import Cell, Line, Section, Table, sheet
    from lab.reports.plot_kit import svg
    from lab.reports.sweep_report import responses

    def row(*cells: object) -> Line:
        return Line([Cell(str(text)) for text in cells])

    header, rows = trial_rows(found)
    linked = [
        Line(
            [
                Cell(one[0], link=f"trials/{one[0]}/report.html") if not found.sweep.storage else Cell(one[0]),
                *(Cell(str(text), loud=text == "failed") for text in one[1:]),
            ]
        )
        for one in rows
    ]
    sections = [Section("trials", "Trials", [Table(header, linked)])]
    for number, (axis, some) in enumerate(by_axis(found.curves).items()):
        head, lines = curve_rows(some)
        figure = responses(axis, some)
        table = Table(head, [row(*line) for line in lines], "all measures", folded=bool(figure))
        figures = [{"svg": svg(figure), "told": f"consistency along {axis}"}] if figure else []
        sections.append(Section(f"axis-{number}", f"Along {axis}", [table], figures=figures, notes=[NOTE]))
    if found.pairs:
        head, lines = pair_rows(found.pairs)
        sections.append(
            Section("interactions", "Interactions", [Table(head, [row(*line) for line in lines])], notes=[INTERACTIONS])
        )
    sections.append(
        Section("made", "Run information", [Table(["what", "value"], [row(*one) for one in _made(found.manifest)])])
    )
    run = {"mark": "", "id": found.manifest["run_id"], "status": found.manifest.get("status"), "told": [told(found)]}
    return sheet(found.sweep.name, sections, [run])


def _made(manifest: Mapping) -> list[list[object]]:
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


def responses(axis: str, curves: Sequence[Curve]):
    """The three consistencies along an axis of a sweep, a panel each, a curve a seat and judge, with bars for
    intervals; None without any.
    """
    shown = [metric for metric in CONSISTENCIES if any(curve.measure[0] == metric for curve in curves)]
    if not shown:
        return None
    figure, axes = empty_figure(len(shown))
    for panel, metric in zip(axes, shown, strict=True):
        some = [curve for curve in curves if curve.measure[0] == metric]
        judges = sorted({curve.measure[1] or "" for curve in some})
        for curve in some:
            _, judge, seat = curve.measure
            at = curve.places or range(len(curve.levels))
            panel.plot(
                at,
                [one.value for one in curve.found],
                marker="o",
                markersize=3,
                linewidth=1.4,
                color=COLOURS[seat],
                linestyle=(STYLES[judges.index(judge or "") % len(STYLES)] if curve.places else ""),
                label=f"{seat} ({judge})",
            )
            panel.vlines(
                at,
                [one.low for one in curve.found],
                [one.high for one in curve.found],
                color=COLOURS[seat],
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
