"""The pictures of a report. matplotlib is imported when one is drawn, and draws to files only."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from lab.files import failure, replace
from lab.headline import drift_by_node
from lab.progress import CONSISTENCIES
from scenarios.records import SEATS

COLOURS = {"user": "#0072b2", "assistant": "#cc79a7"}  # apart for colour-blind eyes too (Okabe and Ito)
STYLES = ("-", "--", ":", "-.")  # one a judge
TITLES = {"prompt_to_line": "prompt-to-line", "line_to_line": "line-to-line", "questions": "questions"}
DPI = 120


def draw(frames: Mapping[str, pl.DataFrame], folder: Path) -> list[Path]:
    """Writes the pictures there is anything for into `folder` and returns their paths. Raises StoreError."""
    drawn = {"consistency.png": consistency(frames["metrics"]),
             "survival.png": survival(frames["turns"], frames["judgements"]),
             "contradictions_by_node.png": by_node(frames["turns"], frames["judgements"])}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise failure(folder, error) from error
    paths = []
    for name, figure in drawn.items():
        if figure is None:
            continue
        picture = io.BytesIO()
        figure.savefig(picture, dpi=DPI, format="png")
        replace(folder / name, picture.getbuffer())
        paths.append(folder / name)
    return paths


def consistency(metrics: pl.DataFrame):
    """The three consistencies by turn, a band for the interval; None where nothing was measured by turn."""
    rows = metrics.filter(pl.col("level") == "turn", pl.col("n") > 0)
    shown = [metric for metric in CONSISTENCIES if (rows["metric"] == metric).any()]
    if not shown:
        return None
    figure, axes = _figure(len(shown))
    for axis, metric in zip(axes, shown):
        part = rows.filter(pl.col("metric") == metric)
        for index, judge in enumerate(sorted(set(part["judge"].drop_nulls()))):
            for seat in SEATS:
                line = part.filter(pl.col("seat") == seat, pl.col("judge") == judge).sort("turn")
                if not line.is_empty():
                    _curve(axis, line, "turn", "value", seat, judge, STYLES[index % len(STYLES)])
        axis.set(title=TITLES[metric], xlabel="turn", ylim=(-0.03, 1.03))
        axis.legend(frameon=False, fontsize=8)
    axes[0].set_ylabel("consistency")
    return figure


def survival(turns: pl.DataFrame, judgements: pl.DataFrame):
    """Kaplan-Meier curves of lines to the first contradiction; None where no line was scored."""
    from metrics.survival import curve

    rows = curve(turns, judgements)
    if rows.is_empty():
        return None
    figure, (axis,) = _figure(1)
    for index, judge in enumerate(sorted(set(rows["judge"]))):
        for seat in SEATS:
            line = rows.filter(pl.col("seat") == seat, pl.col("judge") == judge).sort("lines")
            if not line.is_empty():
                _curve(axis, line, "lines", "survival", seat, judge, STYLES[index % len(STYLES)], steps=True)
    axis.axhline(0.5, color="grey", linewidth=0.6, linestyle=":")
    axis.set(title="not contradicted so far", xlabel="own lines", ylabel="share of speakers", ylim=(-0.03, 1.03))
    axis.legend(frameon=False, fontsize=8)
    return figure


def by_node(turns: pl.DataFrame, judgements: pl.DataFrame):
    """Bars: share of the lines at each node that contradict their speaker's persona, by seat; the first judge by name."""
    rows = drift_by_node(turns, judgements)
    if rows.is_empty():
        return None
    judge = rows["judge"].min()
    rows = rows.filter(pl.col("judge") == judge)
    nodes = sorted(set(rows["node"]))
    figure, (axis,) = _figure(1)
    for index, seat in enumerate(SEATS):
        part = rows.filter(pl.col("seat") == seat)
        at = [nodes.index(node) + (index - 0.5) * 0.38 for node in part["node"]]
        bars = axis.bar(at, part["inconsistency"].to_list(), width=0.36, color=COLOURS[seat], label=seat)
        axis.bar_label(bars, [f"n={n}" for n in part["n"]], fontsize=7)
    axis.set_xticks(range(len(nodes)), [node.replace("$", r"\$") for node in nodes], rotation=20, ha="right", fontsize=8)
    axis.set(title=f"contradictions by node ({judge})", ylabel="share of lines", ylim=(0, 1.05))
    axis.legend(frameon=False, fontsize=8)
    return figure


def _curve(axis, line: pl.DataFrame, x: str, y: str, seat: str, judge: str, style: str, steps: bool = False) -> None:
    where = {"drawstyle": "steps-post"} if steps else {"marker": "o", "markersize": 2.5}
    axis.plot(line[x].to_list(), line[y].to_list(), color=COLOURS[seat], linestyle=style, linewidth=1.4,
              label=f"{seat} ({judge})", **where)
    axis.fill_between(line[x].to_numpy(), line["low"].to_numpy(), line["high"].to_numpy(), color=COLOURS[seat],
                      alpha=0.15, linewidth=0, step="post" if steps else None)


def _figure(columns: int):
    """A figure that belongs to no window, and its axes in a row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * columns, 3.4) if columns > 1 else (6.4, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(1, columns, squeeze=False, sharey=True)[0])
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25, linewidth=0.5)
    return figure, axes
