"""What all plots share: colours, an empty figure, a curve with its band, and saving or embedding a figure."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from lab.store.atomic_write import failure, replace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"user": "#0072b2", "assistant": "#cc79a7"}  # apart for colour-blind eyes too (Okabe and Ito)
SIDES = ("#009e73", "#d55e00", "#56b4e9", "#e69f00", "#000000", "#f0e442")  # of a first, a second and further runs
STYLES = ("-", "--", ":", "-.")  # one a judge
DPI = 120


def plain(text: str) -> str:
    """The text as a label that shows it literally, without formulas."""
    return text.replace("$", r"\$")


def svg(figure) -> str:
    """The figure as an <svg> element for a page: text remains text, and black becomes the page's text colour."""
    import matplotlib

    for patch in (figure.patch, *(axis.patch for axis in figure.axes)):
        patch.set_alpha(0)
    drawn = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "lab"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    text = drawn.getvalue()
    return text[text.index("<svg") :].replace("#000000", "currentColor").strip()


def save(drawn: Mapping[str, Figure | None], folder: Path) -> list[Path]:
    """Writes the figures that are not None under their names, and returns their paths. Raises StoreError."""
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


def draw_curve(
    axis,
    line: pl.DataFrame,
    x: str,
    y: str,
    name: str,
    judge: str,
    style: str,
    steps: bool = False,
    colour: str | None = None,
) -> None:
    """Draws one curve with its band; `name` is a seat, whose colour it has unless `colour` is given."""
    colour = colour or COLOURS[name]
    where = {"drawstyle": "steps-post"} if steps else {"marker": "o", "markersize": 2.5}
    axis.plot(
        line[x].to_list(),
        line[y].to_list(),
        color=colour,
        linestyle=style,
        linewidth=1.4,
        label=f"{name} ({judge})",
        **where,
    )
    axis.fill_between(
        line[x].to_numpy(),
        line["low"].to_numpy(),
        line["high"].to_numpy(),
        color=colour,
        alpha=0.15,
        linewidth=0,
        step="post" if steps else None,
    )


def empty_figure(columns: int, sharey: bool = True, rows: int = 1):
    """A figure without a window, and its axes, row by row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * columns, 3.4) if columns > 1 else (6.4, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False, sharey=sharey).flat)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25, linewidth=0.5)
    return figure, axes
