"""Curves drawn with braille dots: two by four dots per character, so that a small panel still shows a slope."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from rich.text import Text

DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # bit of the dot at [column][row] of a braille cell
AXIS = 4  # characters left of the plot: "1.0┤"
SHARED = "bold white"  # a cell that several curves pass through


@dataclass(frozen=True)
class Curve:
    """A curve of a chart."""

    points: Sequence[tuple[float, float]]  # (x, y), by x; y in [0, 1], a gap where it is not finite
    style: str
    mark: str  # one letter that names the curve at its right end, for screens without colour


def draw_chart(curves: Sequence[Curve], x_max: float, width: int, height: int) -> Text:
    """`height` lines of `width` characters: y from 0 to 1, x from 0 to `x_max`, with the x axis in the last line."""
    columns, rows = width - AXIS - len(curves) - 1, height - 1
    if columns < 2 or rows < 1:
        return Text("\n" * max(0, height - 1))
    cells: dict[tuple[int, int], tuple[int, str]] = {}
    for curve in curves:
        _trace(cells, curve, max(x_max, 1), columns, rows)
    lines = [_row(cells, curves, row, columns, rows) for row in range(rows)]
    last = f"turn {x_max:g}"
    axis = "0".ljust(max(1, columns - len(last))) + last if columns > len(last) + 1 else "0"
    lines.append(Text(" " * (AXIS - 1) + "└" + axis, style="dim"))
    return Text("\n").join(lines)


def _row(cells: dict, curves: Sequence[Curve], row: int, columns: int, rows: int) -> Text:
    label = {0: "1.0┤", rows - 1: "0.0┤"}.get(row, "0.5┤" if rows > 3 and row == rows // 2 else "   │")
    line = Text(label, style="dim")
    for column in range(columns):
        bits, style = cells.get((column, row), (0, ""))
        line.append(chr(0x2800 + bits) if bits else " ", style=style or None)
    line.append(" ")
    for curve in curves:
        ends = [y for _, y in curve.points if isfinite(y)][-1:]
        here = bool(ends) and _dot(ends[0], rows) // 4 == row
        line.append(curve.mark if here else " ", style=curve.style)
    return line


def _trace(cells: dict, curve: Curve, x_max: float, columns: int, rows: int) -> None:
    """Sets the dots of the curve, with straight lines between neighbouring points."""
    before = None
    for x, y in curve.points:
        if not isfinite(y):
            before = None
            continue
        dot = round(min(1.0, x / x_max) * (2 * columns - 1)), _dot(y, rows)
        start = before or dot
        steps = max(abs(dot[0] - start[0]), abs(dot[1] - start[1]), 1)
        for step in range(steps + 1):
            across = start[0] + (dot[0] - start[0]) * step / steps
            down = start[1] + (dot[1] - start[1]) * step / steps
            _light(cells, round(across), round(down), curve.style)
        before = dot


def _dot(y: float, rows: int) -> int:
    """Dot row of a value, from the top."""
    return round((1 - min(1.0, max(0.0, y))) * (4 * rows - 1))


def _light(cells: dict, across: int, down: int, style: str) -> None:
    cell = across // 2, down // 4
    bits, before = cells.get(cell, (0, style))
    cells[cell] = bits | DOTS[across % 2][down % 4], style if before == style else SHARED
