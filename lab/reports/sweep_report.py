"""A sweep for people: report.html, report.md and plots/*.png, made of trials.parquet and of the trials' own folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import isfinite
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl

from lab.progress.trials_table import FILE, axes_of, measures
from lab.reports.plots import COLOURS, STYLES, empty_figure, plain
from lab.store.atomic_write import replace
from lab.store.frames import METRICS
from lab.store.run_store import SWEEP, read_manifest
from metrics.catalogue import CONSISTENCIES, MISSING, TITLES, figures
from metrics.contradictions import PER_CONVERSATION
from metrics.stats.bootstrap import Interval
from metrics.stats.effects import coded, interaction, response
from scenarios.jobs.sweep import Axis, Sweep
from scenarios.records import derive_seed
from scenarios.yaml_files import read, validate

HOW = {"confidence": 0.95, "resamples": 1000}
LEFT_OUT = (
    "judged_pairs",  # no measure of what was said
    "time_to_first_contradiction",
    "half_life",
)  # not finite in good trials: a mean of the others would be of bad ones alone
BINS = 5  # of an axis with more numbers than MOST_LEVELS
MOST_LEVELS = 8
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


@dataclass(frozen=True)
class Curve:
    """One measure along one axis: levels as they are shown, where they lie on a scale (None: words), and what was found
    at each.
    """

    axis: str
    measure: tuple[str, str | None, str]  # metric, judge, seat
    levels: Sequence[str]
    places: Sequence[float] | None
    found: Sequence[Interval]


@dataclass(frozen=True)
class Pair:
    axes: tuple[str, str]
    measure: tuple[str, str | None, str]
    found: Interval


@dataclass(frozen=True)
class Results:
    """What a sweep's folder holds."""

    manifest: Mapping
    sweep: Sweep
    trials: pl.DataFrame
    curves: Sequence[Curve]
    pairs: Sequence[Pair]


def write(path: Path) -> Path:
    """Writes report.html, report.md and plots/; the path of report.html. Raises ValueError where that is no sweep, or
    has no trials yet.
    """
    from lab.reports.plots import save
    from lab.reports.sweep_report import responses

    found = read_results(path)
    drawn = save(
        {f"{_slug(axis)}.png": responses(axis, curves) for axis, curves in by_axis(found.curves).items()},
        path / "plots",
    )
    replace(path / "report.md", markdown(found, [plot.name for plot in drawn]).encode("utf-8", "replace"))
    replace(path / "report.html", page(found).encode("utf-8", "replace"))
    return path / "report.html"


def read_results(path: Path) -> Results:
    manifest = read_manifest(path)
    sweep = validate(read(path / SWEEP), Sweep)
    if not (path / FILE).is_file():
        raise ValueError(f"{path} has no {FILE} yet; expected a sweep of which one trial has ended at least")
    trials = pl.read_parquet(path / FILE)
    rows = scored(trials, place_of(sweep, path))
    seed = manifest.get("seed") or 0
    return Results(manifest, sweep, trials, curves(rows, sweep, seed), pairs(rows, sweep, seed))


def place_of(sweep: Sweep, path: Path) -> Path:
    """The folder that trials' folders are relative to; one that is not there where the storage is no path."""
    if not sweep.storage:
        return path
    parts = urlsplit(sweep.storage)
    return (Path(parts.path) if parts.scheme in ("", "file") else Path("/nonexistent")) / path.resolve().name


def scored(trials: pl.DataFrame, place: Path) -> pl.DataFrame:
    """A row a measure and conversation of each trial that finished: the axes (behind AXIS), metric, judge, seat,
    cluster, value, weight. Of measures that have no value by conversation, a row a trial.
    """
    parts, axes = [], axes_of(trials)
    for row in trials.filter(pl.col("status") == "finished").iter_rows(named=True):
        levels = [pl.lit(row[axis]).alias(AXIS + axis) for axis in axes]
        fine, known = _by_conversation(place / row["run"])
        if fine is not None:
            parts.append(fine.with_columns(*levels))
        told = []
        for name in measures(trials):
            metric, *judge, seat = name.split(".")
            measure, value = (metric, judge[0] if judge else None, seat), row[name]
            if measure not in known and value is not None and isfinite(value):
                told.append(dict(zip(SCHEMA, (*measure, row["trial"], value, 1.0), strict=True)))
        if told:
            parts.append(pl.DataFrame(told, schema=SCHEMA).with_columns(*levels))
    return pl.concat(parts, how="diagonal") if parts else pl.DataFrame(schema=SCHEMA)


AXIS = "axis "  # before an axis among the columns, since one may be called seat
SCHEMA = {
    "metric": pl.String,
    "judge": pl.String,
    "seat": pl.String,
    "cluster": pl.String,
    "value": pl.Float64,
    "weight": pl.Float64,
}


def _by_conversation(run: Path) -> tuple[pl.DataFrame | None, set]:
    """The trial's values by conversation, and of which measures there are any."""
    if not (run / "metrics.parquet").is_file():
        return None, set()
    rows = pl.read_parquet(
        run / "metrics.parquet", columns=[name for name in METRICS if name not in ("run_id", "turn", "low", "high")]
    )
    rows = rows.filter(
        pl.col("level") == "conversation",
        pl.col("n") > 0,
        pl.col("value").is_finite(),
    )
    rows = rows.filter(pl.col("metric").is_in(list(figures(rows["metric"].unique()))))
    seed = read_manifest(run).get("seed")
    weight = pl.when(pl.col("metric").is_in(list(PER_CONVERSATION))).then(1.0).otherwise(pl.col("n").cast(pl.Float64))
    told = rows.select(
        "metric",
        "judge",
        "seat",
        cluster=pl.format("{}/{}", pl.lit(str(seed)), "conversation"),
        value="value",
        weight=weight,
    )
    return told, set(told.select("metric", "judge", "seat").unique().iter_rows())


def curves(rows: pl.DataFrame, sweep: Sweep, seed: int) -> list[Curve]:
    """Every measure along every axis."""
    found = []
    for axis, spec in sweep.axes.items():
        for measure, part in _measured(rows):
            levels, places, at = _levels(part[AXIS + axis].to_list(), spec)
            told = response(
                part["value"],
                part["weight"],
                part["cluster"],
                at,
                **HOW,
                seed=derive_seed(seed, "response", axis, *measure),
            )
            found.append(Curve(axis, measure, levels, places, [told[place] for place in range(len(levels))]))
    return found


def pairs(rows: pl.DataFrame, sweep: Sweep, seed: int) -> list[Pair]:
    """The interaction of every two axes in every measure. An axis of seeds has no ends, and is left out."""
    found = []
    for a, b in combinations([axis for axis in sweep.axes if axis.rpartition(".")[2] != "seed"], 2):
        for measure, part in _measured(rows):
            codes = [coded(part[AXIS + axis].to_list(), sweep.axes[axis].loguniform is not None) for axis in (a, b)]
            kept = part.with_columns(u=pl.Series(codes[0], dtype=pl.Float64), v=pl.Series(codes[1], dtype=pl.Float64))
            kept = kept.drop_nulls(["u", "v"])
            told = interaction(
                *(kept[name] for name in ("value", "weight", "cluster", "u", "v")),
                **HOW,
                seed=derive_seed(seed, "interaction", a, b, *measure),
            )
            if told.value == told.value:
                found.append(Pair((a, b), measure, told))
    return found


def _measured(rows: pl.DataFrame):
    """Measures in the order of the headline, with their rows."""
    order = {name: place for place, name in enumerate(figures(rows["metric"].unique() if rows.height else ()))}
    parts = rows.partition_by("metric", "judge", "seat", as_dict=True, maintain_order=True) if rows.height else {}
    return sorted(
        ((key, part) for key, part in parts.items() if key[0] in order and key[0] not in LEFT_OUT),
        key=lambda item: (order[item[0][0]], str(item[0])),
    )


def _levels(values: Sequence[Any], spec: Axis) -> tuple[list[str], list[float] | None, list[int]]:
    """Levels as they are shown, their places on a scale, and which one each value is of: its own, or one of BINS of
    about as many rows.
    """
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    distinct = sorted(set(values)) if numbers else list(dict.fromkeys(values))
    if not numbers or len(distinct) <= MOST_LEVELS:
        return (
            [str(value) for value in distinct],
            [float(value) for value in distinct] if numbers else None,
            [distinct.index(v) for v in values],
        )
    size = -(-len(distinct) // BINS)
    groups = [distinct[start : start + size] for start in range(0, len(distinct), size)]
    of = {value: place for place, group in enumerate(groups) for value in group}
    return (
        [f"{group[0]:.3g} to {group[-1]:.3g}" for group in groups],
        [sum(group) / len(group) for group in groups],
        [of[v] for v in values],
    )


def by_axis(found: Sequence[Curve]) -> dict[str, list[Curve]]:
    out: dict[str, list[Curve]] = {}
    for curve in found:
        out.setdefault(curve.axis, []).append(curve)
    return out


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
    from lab.reports.plots import svg
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
