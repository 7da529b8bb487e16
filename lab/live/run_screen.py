"""The full-screen view of a run: a pure function of its state, the size and the time.

Generated text is shown as rich Text, never as markup, and without control characters, so that it cannot change the
screen.
"""

from __future__ import annotations

import heapq
import shlex
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lab.live.braille_chart import Curve, draw_chart
from lab.live.dialogue_panels import (
    COLOURS,
    ENDED,
    Tail,
    about_dialogue,
    contradictions_panel,
    cut,
    dialogue_panel,
    framed,
    line_text,
    rows,
    title_of,
)
from lab.progress.run import (
    State,
    consistency_by_turn,
    expected_lines,
    overall,
    seconds_left,
    tokens_per_second,
)
from lab.reports.conflict_text import contradicting_lines_text
from metrics.catalogue import CONSISTENCIES, TITLES
from scenarios.messages import clean
from scenarios.records import SEATS

SMOOTH = {"prompt_to_line": 3, "line_to_line": 3, "qa": 1}  # turns of a seat pooled into one point
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
PANEL_WIDTH, PANEL_HEIGHT = 38, 7  # the least a dialogue needs
PAGE_S = 8.0  # a page of dialogues stays this long
SMALLEST = (56, 14)  # below this width or height there is one column of text


def can_draw(console: Console) -> bool:
    """Whether the console is a terminal that can draw a full screen."""
    return console.is_terminal and not console.is_dumb_terminal and not console.options.ascii_only


def elsewhere(path: str) -> tuple[str, ...]:
    """How to watch the run in that folder from another terminal: (a sentence with the command, the command); () for
    "".
    """
    command = f"python -m lab.watch {shlex.quote(path)}"
    return (f"watch it from another terminal: {command}", command) if path else ()


def render(
    state: State,
    width: int,
    height: int,
    now: float | None = None,
    page: int | None = None,
    hints: Sequence[str] = (),
    where: Sequence[str] = (),
) -> RenderableType:
    """The view, `width` by `height` characters, at `now` (seconds since 1970; by default the time of the last event).

    Where there are more dialogues than fit, pages change every PAGE_S seconds, unless `page` (0-based) is given. The
    footer has the first of the `hints` that fits, in place of the run's state, and the first of `where` that fits, in
    place of the folder.
    """
    now = max(state.clock, now if now is not None else state.clock)
    if _is_small(width, height):
        return _small(state, width, height, now)
    chart_height, list_height, middle = _heights(height)
    shape = _shape(state, width, middle)
    shown, note = _page(state, shape[0] * shape[1], now, page)
    parts = [_header(state, width, now), _dialogues(state, shown, shape, width, middle)]
    if chart_height:
        parts.insert(1, _curves(state, width, chart_height))
    if list_height:
        parts.append(contradictions_panel(state, width, list_height))
    return Group(*parts, _footer(state, width, note, hints, where))


def render_one(
    state: State,
    number: int,
    width: int,
    height: int,
    now: float | None = None,
    top: int | None = None,
    hints: Sequence[str] = (),
) -> RenderableType:
    """One dialogue in full, with what its lines contradict, from row `top` (of `rows`) on; None shows its last rows."""
    now = max(state.clock, now if now is not None else state.clock)
    every, room = rows(state, number, width), rows_in_sight(width, height)
    lowest = max(0, len(every) - room)
    first = lowest if top is None else min(top, lowest)
    shown = every[first : first + room]
    if _is_small(width, height):
        about = [cut(_head(state, now), width), cut(title_of(state.dialogues[number], number), width)]
        return Group(*about[:height], *shown[: max(0, height - len(about))])
    dialogue = state.dialogues[number]
    about = about_dialogue(state, dialogue)
    if len(every) > room:
        about.append(f" · rows {first + 1}–{first + len(shown)} of {len(every)}")
    panel = framed(Group(*shown), dialogue, number, about, width, height - 5)
    return Group(_header(state, width, now), panel, _footer(state, width, "", hints))


def rows_in_sight(width: int, height: int) -> int:
    """The number of rows of a dialogue that `render_one` shows at once."""
    return max(1, height - 2 if _is_small(width, height) else height - 7)


def pages(state: State, width: int, height: int) -> int:
    """The number of pages of dialogues; 1 in a window too small for panels."""
    if _is_small(width, height):
        return 1
    columns, high = _shape(state, width, _heights(height)[2])
    return max(1, -(-len(_order(state)) // (columns * high)))


def page_at(state: State, now: float) -> int:
    """The number of automatic page changes since this execution began."""
    return int((now - (state.began or now)) / PAGE_S)


def render_keys(keys: Sequence[tuple[str, str]], width: int, height: int) -> RenderableType:
    """A panel of that size with each key and what it does."""
    table = Table.grid(padding=(0, 2))
    for key, does in keys:
        table.add_row(Text(key, style="bold"), Text(does))
    return Panel(
        table,
        title=Text("keys", style="bold"),
        title_align="left",
        width=width,
        height=height,
        border_style="blue",
        box=box.ROUNDED,
    )


def duration(seconds: float) -> str:
    """Seconds as text: 75 -> "1:15", 3700 -> "1:01:40"."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def short(count: float) -> str:
    """A count as text: 1234 -> "1.2k", 2500000 -> "2.5M"."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return f"{count:.0f}"


def _is_small(width: int, height: int) -> bool:
    return width < SMALLEST[0] or height < SMALLEST[1]


def _heights(height: int) -> tuple[int, int, int]:
    """The heights of the curves, of the list of contradictions (0 where they do not fit) and of the dialogues between
    them.
    """
    chart = min(12, max(7, height // 4)) if height >= 20 else 0
    latest = min(12, max(4, height // 5)) if height >= 24 else 0
    return chart, latest, height - 5 - chart - latest


def _status(state: State, now: float) -> tuple[str, str]:
    return ENDED.get(state.status) or (SPINNER[int(now * 8) % len(SPINNER)], "green")


def _head(state: State, now: float) -> Text:
    sign, style = _status(state, now)
    phase = state.phase if state.status == "running" else state.status
    head = Text.assemble(
        (f"{sign} ", style),
        (clean(state.name or Path(state.path).name or "run"), "bold"),
        " · ",
        (clean(phase), f"bold {style}"),
    )
    detail = state.detail if state.status == "running" else state.reason
    if detail:
        head.append(f" · {clean(detail)}", style="dim")
    return head


def _pace(state: State, now: float) -> str:
    total = expected_lines(state)
    parts = [f"{state.lines}/{total} lines", f"{state.lines / total:.0%}" if total else "–"]
    left = seconds_left(state, now) if state.phase == "playing" else None
    if left is not None:
        parts.append(f"{duration(left)} left")
    elif state.began is not None and state.status == "running":
        parts.append(f"{duration(now - state.began)} so far")
    return " · ".join(parts)


def _figures(state: State, width: int) -> Text:
    figures = Text(no_wrap=True, overflow="ellipsis")
    rate = tokens_per_second(state)
    figures.append(f"{rate:,.0f}" if rate is not None else "–", style="bold").append(" generated tokens/s")
    new, computed = state.tokens.get("tokens_new", 0), state.tokens.get("tokens_computed", 0)
    if new:
        ratio = f" ({computed / new:.2f}×)" if width >= 100 else ""
        figures.append(f" · {short(computed)} tokens through the model / {short(new)} read{ratio}")
    if state.unscored:
        figures.append(f" · {state.unscored} unscored", style="yellow")
    figures.append(" · ").append(
        contradicting_lines_text(state.contradicting_lines), style="red" if state.contradicting_lines else ""
    )
    if state.recovered:
        figures.append(f" · recovered {state.recovered}×: {clean(state.note)}", style="yellow")
    if state.notice:
        figures.append(f" · {clean(state.notice)}", style="yellow")
    return figures


def _header(state: State, width: int, now: float) -> RenderableType:
    pace = _pace(state, now)
    total = max(1, expected_lines(state))
    progress = Table.grid(expand=True)
    progress.add_column(ratio=1)
    progress.add_column(no_wrap=True)
    room = width - 6 - len(pace)
    progress.add_row(
        ProgressBar(
            total=total, completed=state.lines, width=max(4, room), complete_style="green", finished_style="green"
        ),
        Text(pace),
    )
    models = " × ".join(dict.fromkeys(clean(str(model)) for model in state.models.values()))
    about = " · ".join(part for part in (models, f"{state.device} {state.dtype}".strip()) if part)
    return Panel(
        Group(progress, _figures(state, width)),
        title=cut(_head(state, now), width - 6),
        title_align="left",
        subtitle=Text(about, style="dim") if about else None,
        subtitle_align="right",
        width=width,
        height=4,
        border_style="blue",
        box=box.ROUNDED,
    )


def _footer(state: State, width: int, note: str, hints: Sequence[str] = (), where: Sequence[str] = ()) -> Text:
    standing = {"running": "ctrl-c stops and keeps all lines", "finished": "report.html is in the run's folder"}
    hints = hints or (standing.get(state.status, "resume it with python -m lab.run --resume"),)
    joined = (f"{note} · {hint}" if note else hint for hint in hints)
    hint_shown = next((hint for hint in joined if len(hint) < width - 20), note or hints[-1])
    place = next(
        (candidate for candidate in where if len(candidate) + len(hint_shown) + 4 <= width), state.path or state.run_id
    )
    place = Text(" " + clean(place), no_wrap=True)
    place.truncate(max(1, width - len(hint_shown) - 3), overflow="ellipsis", pad=True)
    return cut(Text.assemble((place.plain, "bold"), " ", (hint_shown, "dim")), width)


def _grid(cells: Sequence[RenderableType], widths: Sequence[int]) -> Table:
    grid = Table.grid(padding=0)
    for width in widths:
        grid.add_column(width=width)
    grid.add_row(*cells)
    return grid


def _split(total: int, parts: int) -> list[int]:
    """Whole numbers that differ by one at most and sum to `total`: 11 in 3 -> [4, 4, 3]."""
    return [total // parts + (index < total % parts) for index in range(parts)]


def _curves(state: State, width: int, height: int) -> RenderableType:
    widths = _split(width, len(CONSISTENCIES))
    return _grid(
        [_chart(state, metric, wide, height) for metric, wide in zip(CONSISTENCIES, widths, strict=True)], widths
    )


def _chart(state: State, metric: str, width: int, height: int) -> Panel:
    smooth = SMOOTH[metric]
    curves = [Curve(consistency_by_turn(state, metric, seat, smooth), COLOURS[seat], seat[0]) for seat in SEATS]
    legend = Text()
    for seat in SEATS:
        value, n = overall(state, metric, seat)
        name = seat if width >= 34 else seat[0]
        legend.append("  " if legend else "").append(f"⣿ {name} ", style=COLOURS[seat])
        legend.append(f"{value:.2f}" if n else "–", style="bold")
    judge = state.judges.get(metric)
    title = Text.assemble((TITLES[metric], "bold"), (f" · {clean(judge)}" if judge and width > 34 else "", "dim"))
    return Panel(
        draw_chart(curves, max(1, state.turns - 1), width - 2, height - 2),
        title=title,
        subtitle=legend,
        width=width,
        height=height,
        padding=0,
        border_style="bright_black",
        box=box.ROUNDED,
    )


def _page(state: State, fit: int, now: float, page: int | None) -> tuple[list[int], str]:
    """The conversations to show where `fit` have room, and a note where that is not all; the last page is full too."""
    order = _order(state)
    count = max(1, -(-len(order) // fit))
    if count == 1:
        return order, ""
    page = (page_at(state, now) if page is None else page) % count
    first = min(page * fit, len(order) - fit)
    return order[first : first + fit], f"{fit} of {len(order)} dialogues, page {page + 1}/{count}"


def _shape(state: State, width: int, height: int) -> tuple[int, int]:
    """(columns, rows) of dialogues: as many as fit and as there are dialogues."""
    count = max(1, len(_order(state)))
    columns = min(max(1, width // PANEL_WIDTH), count)
    return columns, min(max(1, height // PANEL_HEIGHT), -(-count // columns))


def _dialogues(state: State, shown: Sequence[int], shape: tuple[int, int], width: int, height: int) -> RenderableType:
    columns, rows = shape
    widths = _split(width, columns)
    if not shown:
        return Panel(Text("nothing said yet", style="dim"), width=width, height=height, border_style="bright_black")
    lines = []
    for row, high in enumerate(_split(height, rows)):
        cells: list[RenderableType] = [
            dialogue_panel(state, number, wide, high)
            for number, wide in zip(shown[row * columns :], widths, strict=False)
        ]
        lines.append(_grid(cells + [""] * (columns - len(cells)), widths))
    return Group(*lines)


def _order(state: State) -> list[int]:
    """Conversations to show: those being played, then the ended ones; the waiting ones only before any began."""
    by_status: dict[str, list[int]] = {}
    for number in sorted(state.dialogues):
        by_status.setdefault(state.dialogues[number].status, []).append(number)
    return by_status.get("playing", []) + by_status.get("failed", []) + by_status.get("finished", []) or by_status.get(
        "waiting", []
    )


def _small(state: State, width: int, height: int, now: float) -> RenderableType:
    """The view of windows too small for panels: the state of the run, and the last lines said."""
    parts: list[RenderableType] = [cut(Text(_pace(state, now)), width)]
    if height > 1:
        parts.insert(0, cut(_head(state, now), width))
    if height > 2:
        parts.append(cut(_figures(state, width), width))
    said = (
        (line["time"], number, turn)
        for number, dialogue in state.dialogues.items()
        for turn, line in dialogue.lines.items()
    )
    texts = [
        Text.assemble((f"#{number} ", "dim"), line_text(state.dialogues[number], turn))
        for _, number, turn in sorted(heapq.nlargest(height, said))
    ]
    if height > 3:
        parts.append(Tail(texts, height - 3))
    return Group(*parts)
