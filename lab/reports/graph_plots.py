"""Drawings of graphs: the scenario graph with drift and coverage, and the graph of which line contradicts which.

matplotlib is imported only when a figure is drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import cos, pi, sin, sqrt

import networkx as nx
import polars as pl

from lab.reports.plot_kit import COLOURS, empty_figure, plain
from metrics.by_node import coverage, drift_by_node
from metrics.contradictions import contradicting
from scenarios.records import SEATS

SHADES = "YlOrRd"
UNSCORED = "#b8b8b8"
# radii of the node with most lines and of a node never reached; the circle of nodes has radius 1
EVER, NEVER = (
    0.11,
    0.05,
)
SHOWN = 12  # conversations in the drawing of contradictions


def scenario_graph(turns: pl.DataFrame, judgements: pl.DataFrame, nodes: Sequence[str], edges: Sequence[Sequence[str]]):
    """A figure of the scenario graph as it was walked; None without nodes.

    Each node shows its number of lines and, for each seat, the share of them that contradict its persona (by the first
    judge by name). Edges show how often they were taken; those never taken are dotted.
    """
    if not nodes:
        return None
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    visits, taken = coverage(turns, nodes, edges)
    drift = drift_by_node(turns, judgements)
    drift = drift.filter(pl.col("judge") == pl.col("judge").min())
    inconsistency = {
        (row["node"], row["seat"]): (row["inconsistency"], row["n"]) for row in drift.iter_rows(named=True)
    }
    scale = ScalarMappable(Normalize(0, max([0.5, *(value for value, _ in inconsistency.values())])), colormaps[SHADES])
    places, most = _circle(nodes, edges), max(visits.values(), default=0)
    radius = {node: max(NEVER, EVER * sqrt(visits[node] / most)) if visits[node] else NEVER for node in nodes}
    figure, (axis,) = empty_figure(1)
    figure.set_size_inches(8.8, 5.4)
    for source, target in taken:
        _edge(axis, places, radius, source, target, taken[source, target], max(taken.values()))
    for node in nodes:
        _node(
            axis,
            node,
            places[node],
            radius[node],
            visits[node],
            {seat: inconsistency.get((node, seat)) for seat in SEATS},
            scale,
        )
    axis.set(xlim=(-2.0, 2.0), ylim=(-1.35, 1.35), aspect="equal")
    axis.axis("off")
    judge = f" ({drift['judge'][0]})" if len(drift) else ""
    figure.colorbar(
        scale,
        ax=axis,
        shrink=0.6,
        label=f"share of lines that contradict{judge}\nleft half: user, right half: assistant",
    )
    return figure


def _circle(nodes: Sequence[str], edges: Sequence[Sequence[str]]) -> dict[str, tuple[float, float]]:
    """Positions on a circle, so that no edge crosses a node: from the start on the left, with neighbours near each
    other.
    """
    graph = nx.DiGraph()
    graph.add_nodes_from(nodes)
    graph.add_edges_from((edge[0], edge[1]) for edge in edges)
    order = list(nx.dfs_preorder_nodes(graph, nodes[0]))
    order += [node for node in nodes if node not in order]
    return {
        node: (cos(pi - 2 * pi * place / len(order)), sin(pi - 2 * pi * place / len(order)))
        for place, node in enumerate(order)
    }


def _node(
    axis, name: str, place: tuple[float, float], radius: float, visits: int, by_seat: Mapping[str, tuple | None], scale
) -> None:
    from matplotlib.patches import Wedge

    for seat, start in zip(SEATS, (90, 270), strict=True):
        scored = by_seat[seat]
        colour = scale.to_rgba(scored[0]) if scored else UNSCORED
        axis.add_patch(
            Wedge(
                place,
                radius,
                start,
                start + 180,
                facecolor=colour,
                edgecolor="#555555",
                linewidth=0.8,
                linestyle="-" if visits else ":",
            )
        )
    label = ", ".join(f"{seat[0]} {counted[0]:.2f} of {counted[1]}" for seat, counted in by_seat.items() if counted)
    x, y = (at * (1 + radius + 0.05) for at in place)  # outside the circle
    axis.text(
        x,
        y,
        f"{plain(name)}, {visits} line{'s' * (visits != 1)}" + (f"\n{label}" if label else ""),
        fontsize=8,
        ha="left" if x > 0.3 else "right" if x < -0.3 else "center",
        va="bottom" if y > 0.3 else "top" if y < -0.3 else "center",
    )


def _edge(axis, places: Mapping, radius: Mapping, source: str, target: str, times: int, most: int) -> None:
    from matplotlib.patches import FancyArrowPatch

    start, end, bend = places[source], places[target], 0.16
    if source == target:  # a loop on the outer side
        x, y = start
        start, end, bend = (x * 1.02 - y * 0.08, y * 1.02 + x * 0.08), (x * 1.02 + y * 0.08, y * 1.02 - x * 0.08), -2.2
    width = 0.6 + 2.6 * times / most if most else 0.6
    points = 72 * 5.4 / 2.6  # a unit of the circle in points
    axis.add_patch(
        FancyArrowPatch(
            start,
            end,
            connectionstyle=f"arc3,rad={bend}",
            arrowstyle="-|>",
            mutation_scale=9 + width,
            shrinkA=0 if source == target else radius[source] * points,
            shrinkB=0 if source == target else radius[target] * points,
            linewidth=width,
            linestyle="-" if times else ":",
            color="#7f7f7f",
            alpha=0.9 if times else 0.7,
        )
    )
    if times:
        x, y = (
            (start[0] + end[0]) / 2 + bend * (end[1] - start[1]) / 2,
            (start[1] + end[1]) / 2 - bend * (end[0] - start[0]) / 2,
        )
        axis.text(x, y, str(times), fontsize=7, ha="center", va="center", alpha=0.8)


def contradiction_graph(turns: pl.DataFrame, judgements: pl.DataFrame):
    """A figure of contradictions by turn, with one row per conversation, for those with most contradicting lines; None
    without any.

    Arcs connect lines that contradict each other, dotted where the later one returns to its persona. A cross marks a
    line that contradicts its persona; the first cross of each fact has its name.
    """
    rows = contradicting(judgements).select("conversation", "turn", "seat", "metric", "against", "returns").unique()
    if rows.is_empty():
        return None
    lines = rows.filter(~pl.col("returns")).unique(["conversation", "turn"])
    counts = Counter(lines["conversation"].to_list())
    shown = sorted(sorted(counts, key=lambda c: (-counts[c], c))[:SHOWN])
    figure, (axis,) = empty_figure(1)
    figure.set_size_inches(9.6, 1.4 + 0.62 * len(shown))
    heights = {
        (c, seat): len(shown) - 1 - place + (0.14 if seat == SEATS[0] else -0.14)
        for place, c in enumerate(shown)
        for seat in SEATS
    }
    rows = rows.filter(pl.col("conversation").is_in(shown)).sort("turn", "against")
    for c, second, seat, first, returns in (
        rows.filter(metric="line_to_line").select("conversation", "turn", "seat", "against", "returns").iter_rows()
    ):
        _arc(axis, int(first), second, heights[c, seat], COLOURS[seat], ":" if returns else "-")
    facts = rows.filter(metric="prompt_to_line")
    for seat in SEATS:
        part = facts.filter(seat=seat)
        axis.plot(
            part["turn"], [heights[c, seat] for c in part["conversation"]], "x", color=COLOURS[seat], markersize=6
        )
    # a fact is named where it first goes wrong
    new = facts.unique(["conversation", "seat", "against"], keep="first", maintain_order=True)
    for c, seat, turn, names in (
        new.group_by("conversation", "seat", "turn", maintain_order=True).agg("against").iter_rows()
    ):
        axis.annotate(
            plain(", ".join(names)), (turn, heights[c, seat]), xytext=(3, 3), textcoords="offset points", fontsize=6.5
        )
    for place in range(len(shown)):
        axis.axhline(len(shown) - 1 - place, color="grey", linewidth=0.5, alpha=0.5)
    for seat in SEATS:
        axis.plot([], [], "x-", color=COLOURS[seat], label=seat)
    axis.set_yticks(range(len(shown)), [f"#{c}" for c in reversed(shown)])
    left = f" ({len(shown)} of {len(counts)} conversations)" if len(counts) > len(shown) else ""
    axis.set(
        title=f"contradictions{left}",
        xlabel="turn",
        xlim=(-1, max(turns["turn"], default=0) + 2),
        ylim=(-0.7, len(shown) - 0.3),
    )
    axis.legend(frameon=False, fontsize=8, loc="upper right", ncols=2)
    return figure


def _arc(axis, first: int, second: int, height: float, colour: str, style: str) -> None:
    from matplotlib.patches import FancyArrowPatch

    bend = -min(0.5, 1.6 / max(1, second - first))  # long arcs rise no higher than short ones
    axis.add_patch(
        FancyArrowPatch(
            (first, height),
            (second, height),
            connectionstyle=f"arc3,rad={bend}",
            arrowstyle="-",
            linewidth=0.9,
            linestyle=style,
            color=colour,
            alpha=0.7,
        )
    )
    axis.plot([first, second], [height, height], ".", color=colour, markersize=4)
