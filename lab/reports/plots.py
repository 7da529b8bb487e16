"""The plots of a report. matplotlib is imported when a plot is drawn, and draws to files only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from lab.reports.plot_kit import COLOURS, SIDES, STYLES, draw_curve, empty_figure, plain, save
from metrics.by_node import drift_by_node
from metrics.catalogue import CONSISTENCIES, EVALUATED, TITLES
from metrics.stats.intervals import Interval
from scenarios.records import SEATS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARES = ("local_drift", "global_drift_thirds", "qa_drift_thirds")  # further measures that differ by -1 to 1


def write_plots(frames: Mapping[str, pl.DataFrame], folder: Path) -> list[Path]:
    """Writes the plots for which there is data into `folder`, and returns their paths. Raises StoreError."""
    return save(run_plots(frames), folder)


def run_plots(frames: Mapping[str, pl.DataFrame]) -> dict[str, Figure | None]:
    """The figures of a run, by file name; None where there is no data."""
    return {
        "consistency.png": plot_consistency(frames["metrics"]),
        "survival.png": plot_survival(frames["judgements"]),
        "contradictions_by_node.png": plot_by_node(frames["turns"], frames["judgements"]),
        "activation.png": plot_activation(frames["metrics"]),
    }


def plot_consistency(metrics: pl.DataFrame):
    """The three consistencies by turn, with a band for the interval; None where nothing was measured by turn."""
    rows = metrics.filter(pl.col("level") == "turn", pl.col("n") > 0)
    shown = [metric for metric in CONSISTENCIES if (rows["metric"] == metric).any()]
    if not shown:
        return None
    figure, axes = empty_figure(len(shown))
    for axis, metric in zip(axes, shown, strict=True):
        part = rows.filter(pl.col("metric") == metric)
        for index, judge in enumerate(sorted(set(part["judge"].drop_nulls()))):
            for seat in SEATS:
                line = part.filter(pl.col("seat") == seat, pl.col("judge") == judge).sort("turn")
                if not line.is_empty():
                    draw_curve(axis, line, "turn", "value", seat, judge, STYLES[index % len(STYLES)])
        axis.set(title=TITLES[metric], xlabel="turn", ylim=(-0.03, 1.03))
        axis.legend(frameon=False, fontsize=8)
    axes[0].set_ylabel("consistency")
    return figure


def plot_activation(metrics: pl.DataFrame):
    """Activation drift by turn, with a band for the interval; None where no hidden states were recorded."""
    rows = metrics.filter(pl.col("metric") == "activation_drift", pl.col("level") == "turn", pl.col("n") > 0)
    if rows.is_empty():
        return None
    figure, (axis,) = empty_figure(1)
    for seat in SEATS:
        line = rows.filter(pl.col("seat") == seat).sort("turn")
        if not line.is_empty():
            draw_curve(axis, line, "turn", "value", seat, "hidden states", STYLES[0])
    axis.axhline(0, color="grey", linewidth=0.6, linestyle=":")
    axis.axhline(1, color="grey", linewidth=0.6, linestyle=":")
    axis.set(
        title="activation drift: 0 as with its own card, 1 as with the cards of others",
        xlabel="turn",
        ylabel="1 − projection",
    )
    axis.legend(frameon=False, fontsize=8)
    return figure


def plot_survival(judgements: pl.DataFrame):
    """Kaplan-Meier curves of the lines before the first contradiction; None where no line was scored."""
    from metrics.survival import survival_curves

    rows = survival_curves(judgements)
    if rows.is_empty():
        return None
    figure, (axis,) = empty_figure(1)
    for index, judge in enumerate(sorted(set(rows["judge"]))):
        for seat in SEATS:
            line = rows.filter(pl.col("seat") == seat, pl.col("judge") == judge).sort("lines")
            if not line.is_empty():
                draw_curve(
                    axis,
                    line,
                    "lines",
                    "survival",
                    f"{seat}, n={line['at_risk'][0]}",
                    judge,
                    STYLES[index % len(STYLES)],
                    steps=True,
                    colour=COLOURS[seat],
                )
    axis.axhline(0.5, color="grey", linewidth=0.6, linestyle=":")
    axis.set(title="not contradicted so far", xlabel="scored lines", ylabel="share of speakers", ylim=(-0.03, 1.03))
    axis.legend(frameon=False, fontsize=8)
    return figure


def comparison_plots(
    rows: Sequence[Mapping], sides: Mapping[str, Mapping[str, pl.DataFrame]]
) -> dict[str, Figure | None]:
    """The figures of a comparison, by file name: differences with intervals, and both runs' consistency by turn and
    survival.
    """
    return {
        "differences.png": _differences(rows),
        "drift.png": plot_drift_of_runs(sides),
        "survival.png": plot_survival_of_runs(sides),
    }


def plot_drift_of_runs(sides: Mapping[str, Mapping[str, pl.DataFrame]]):
    """The consistency of each run by turn, one panel per measure and seat; None where nothing was measured by turn."""
    rows = {
        name: frames["metrics"].filter(pl.col("level") == "turn", pl.col("n") > 0) for name, frames in sides.items()
    }
    panels = [
        (metric, seat)
        for metric in CONSISTENCIES
        for seat in SEATS
        if any(not frame.filter(metric=metric, seat=seat).is_empty() for frame in rows.values())
    ]
    if not panels:
        return None
    figure, axes = empty_figure(len(panels))
    for axis, (metric, seat) in zip(axes, panels, strict=True):
        for (name, frame), colour in zip(rows.items(), cycle(SIDES)):
            part = frame.filter(metric=metric, seat=seat)
            for index, judge in enumerate(sorted(set(part["judge"].drop_nulls()))):
                line, style = part.filter(judge=judge).sort("turn"), STYLES[index % len(STYLES)]
                draw_curve(axis, line, "turn", "value", name, judge, style, colour=colour)
        axis.set(title=f"{TITLES[metric]}, {seat}", xlabel="turn", ylim=(-0.03, 1.03))
        axis.legend(frameon=False, fontsize=8)
    axes[0].set_ylabel("consistency")
    return figure


def _differences(rows: Sequence[Mapping]):
    """Differences of the measures between 0 and 1, with a grey band for undetectable differences; None without any."""
    shown = [row for row in rows if row["metric"] in (*CONSISTENCIES, *SHARES) and row["low"] == row["low"]]
    if not shown:
        return None
    figure, (axis,) = empty_figure(1)
    figure.set_size_inches(6.4, 1.2 + 0.32 * len(shown))
    for place, row in enumerate(reversed(shown)):
        if row["detectable"] == row["detectable"]:
            reach = min(1.0, row["detectable"])  # no two shares differ by more
            axis.barh(place, 2 * reach, left=-reach, color="grey", alpha=0.15, height=0.7, linewidth=0)
        axis.plot([row["low"], row["high"]], [place, place], color=COLOURS[row["seat"]], linewidth=1.6)
        axis.plot(row["value"], place, "o", color=COLOURS[row["seat"]], markersize=4)
    labels = [
        f"{TITLES.get(row['metric'], row['metric'].replace('_', ' '))}, {row['seat']} ({row['judge']})"
        for row in reversed(shown)
    ]
    axis.set_yticks(range(len(shown)), labels, fontsize=8)
    axis.axvline(0, color="grey", linewidth=0.8)
    axis.set(title="B − A, grey: smaller than these runs could detect")
    return figure


def plot_survival_of_runs(sides: Mapping[str, Mapping[str, pl.DataFrame]]):
    """The Kaplan-Meier curves of each run, one panel per scored seat; None where no run was scored."""
    from metrics.survival import survival_curves

    curves = {name: survival_curves(frames["judgements"]) for name, frames in sides.items()}
    if all(rows.is_empty() for rows in curves.values()):
        return None
    seats = [seat for seat in SEATS if any((rows["seat"] == seat).any() for rows in curves.values())]
    figure, axes = empty_figure(len(seats))
    for axis, seat in zip(axes, seats, strict=True):
        for (name, rows), colour in zip(curves.items(), cycle(SIDES)):
            for index, judge in enumerate(sorted(set(rows["judge"]))):
                line = rows.filter(pl.col("seat") == seat, pl.col("judge") == judge).sort("lines")
                if not line.is_empty():
                    draw_curve(
                        axis,
                        line,
                        "lines",
                        "survival",
                        f"{name}, n={line['at_risk'][0]}",
                        judge,
                        STYLES[index % len(STYLES)],
                        steps=True,
                        colour=colour,
                    )
        axis.set(title=f"{seat}: not contradicted so far", xlabel="scored lines", ylim=(-0.03, 1.03))
        axis.legend(frameon=False, fontsize=8)
    axes[0].set_ylabel("share of speakers")
    return figure


def training_plots(steps: pl.DataFrame, evaluation: pl.DataFrame) -> dict[str, Figure | None]:
    """The figures of a training, by file name: its log by step, and each arm's consistency with intervals."""
    return {"training.png": _log(steps), "evaluation.png": _arms(evaluation)}


def _log(steps: pl.DataFrame):
    """Rewards by part, divergence and length by step."""
    rewards = [name for name in steps.columns if name == "reward" or name.startswith("reward_")]
    shown = [
        columns
        for columns in (rewards, ["kl"], ["entropy"], ["length"])
        if any(name in steps.columns for name in columns)
    ]
    if not shown:
        return None
    figure, axes = empty_figure(len(shown), sharey=False)
    for axis, names in zip(axes, shown, strict=True):
        for index, name in enumerate(names):
            rows = steps.select("step", pl.col(name).cast(pl.Float64).fill_nan(None)).drop_nulls()
            if not rows.is_empty():
                label = name.removeprefix("reward_").replace("_", " ")
                axis.plot(
                    rows["step"] + 1,
                    rows[name],
                    label=label,
                    linewidth=2 if name == "reward" else 1.2,
                    color=f"C{index}",
                )
        axis.set(
            title={"kl": "KL, nats per token", "length": "tokens per line", "entropy": "entropy"}.get(
                names[0], "reward"
            ),
            xlabel="step",
        )
        if names == rewards:
            axis.legend(frameon=False, fontsize=8)
    return figure


def _arms(evaluation: pl.DataFrame):
    """Each arm's consistency on held-out personas, one panel per measure and judge; None where nothing was
    evaluated.
    """
    if evaluation.is_empty():
        return None
    rows = evaluation.filter(
        pl.col("held_out"),
        ~pl.col("rewarded"),
        pl.col("metric").is_in(list(EVALUATED)),
        pl.col("value").is_not_nan(),
    )
    if rows.is_empty():
        return None
    rows = rows.filter(pl.col("scenario") == rows["scenario"][0])
    panels = sorted(set(rows.select("metric", "judge", "seat").iter_rows()), key=str)
    arms = list(dict.fromkeys(rows["arm"]))
    figure, axes = empty_figure(len(panels))
    for axis, (metric, judge, seat) in zip(axes, panels, strict=True):
        for row in rows.filter(metric=metric, judge=judge, seat=seat).iter_rows(named=True):
            at = arms.index(row["arm"])
            axis.plot([at, at], [row["low"], row["high"]], color=COLOURS[seat], linewidth=1.6)
            axis.plot(at, row["value"], "o", color=COLOURS[seat], markersize=5)
        axis.set_xticks(range(len(arms)), [plain(arm) for arm in arms], rotation=20, ha="right", fontsize=8)
        axis.set(title=f"{EVALUATED[metric]}, {seat} ({judge})", ylim=(-0.03, 1.03))
    axes[0].set_ylabel("consistency, held out")
    return figure


def wire_plots(steps: pl.DataFrame) -> dict[str, Figure | None]:
    """Tripwires by training step, by file name; a fixed bound is drawn."""
    from metrics.tripwires import BOUNDS

    shown = [
        name.removeprefix("wire_")
        for name in steps.columns
        if name.startswith("wire_") and steps[name].cast(pl.Float64).fill_nan(None).count()
    ]
    shown = [name for name in shown if name in BOUNDS]
    if not shown:
        return {}
    columns = -(-len(shown) // 2)
    figure, axes = empty_figure(columns, sharey=False, rows=2)
    figure.set_size_inches(3.0 * columns, 4.8)
    for axis, name in zip(axes, shown, strict=False):
        rows = steps.select("step", value=pl.col(f"wire_{name}").cast(pl.Float64).fill_nan(None)).drop_nulls()
        axis.plot(rows["step"] + 1, rows["value"], color="C0", linewidth=1.4)
        for edge in (BOUNDS[name].least, BOUNDS[name].most):
            if isfinite(edge):
                axis.axhline(edge, color="#b3261e", linewidth=0.9, linestyle=":")
        axis.set_title(f"{name.replace('_', ' ')} {BOUNDS[name]}", fontsize=9)
        axis.set_xlabel("step")
    for axis in axes[len(shown) :]:
        axis.axis("off")
    return {"wires.png": figure}


def plot_phases(seconds: Mapping[str, float]):
    """One bar of a run's seconds by phase; None where they sum to 0."""
    spent = {name: value for name, value in seconds.items() if value > 0}
    if not spent:
        return None
    figure, (axis,) = empty_figure(1)
    figure.set_size_inches(7.2, 1.5)
    start = 0.0
    for index, (name, value) in enumerate(spent.items()):
        axis.barh(0, value, left=start, color=f"C{index}", label=f"{plain(name)} {value:.0f} s", height=0.6)
        start += value
    axis.set(xlabel="seconds", yticks=[], xlim=(0, start))
    axis.legend(frameon=False, fontsize=8, ncols=len(spent), loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def plot_by_node(turns: pl.DataFrame, judgements: pl.DataFrame):
    """Bars with the share of the lines at each node that contradict their speaker's persona, by seat; first judge by
    name.
    """
    rows = drift_by_node(turns, judgements)
    if rows.is_empty():
        return None
    judge = rows["judge"].min()
    rows = rows.filter(pl.col("judge") == judge)
    nodes = sorted(set(rows["node"]))
    figure, (axis,) = empty_figure(1)
    for index, seat in enumerate(SEATS):
        part = rows.filter(pl.col("seat") == seat)
        at = [nodes.index(node) + (index - 0.5) * 0.38 for node in part["node"]]
        bars = axis.bar(at, part["inconsistency"].to_list(), width=0.36, color=COLOURS[seat], label=seat)
        axis.bar_label(bars, [f"n={n}" for n in part["n"]], fontsize=7)
    axis.set_xticks(range(len(nodes)), [plain(node) for node in nodes], rotation=20, ha="right", fontsize=8)
    axis.set(title=f"contradictions by node ({judge})", ylabel="share of lines", ylim=(0, 1.05))
    axis.legend(frameon=False, fontsize=8)
    return figure


def plot_reliability(bins: Mapping[str, Sequence[tuple[float, Interval]]]):
    """A reliability diagram with one curve per name, (mean p, share that contradicts) of its bins; None without bins.

    On the diagonal p is calibrated; below it the judge reports too many contradictions.
    """
    bins = {name: points for name, points in bins.items() if points}
    if not bins:
        return None
    figure, (axis,) = empty_figure(1)
    figure.set_size_inches(5.6, 5.2)
    axis.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    for index, (name, points) in enumerate(bins.items()):
        at, shares = [p for p, _ in points], [share for _, share in points]
        axis.plot(
            at,
            [share.value for share in shares],
            "o-",
            markersize=4,
            linewidth=1.4,
            color=f"C{index}",
            label=f"{name}, n={sum(share.n for share in shares)}",
        )
        axis.vlines(
            at,
            [share.low for share in shares],
            [share.high for share in shares],
            color=f"C{index}",
            linewidth=1,
            alpha=0.6,
        )
    axis.set(
        title="reliability",
        xlabel="p of a contradiction, by the judge",
        ylabel="share of contradictions, by the labels",
        xlim=(-0.03, 1.03),
        ylim=(-0.03, 1.03),
    )
    axis.legend(frameon=False, fontsize=8)
    return figure
