"""Shows a run while it plays, from its events alone: on the full screen, as lines of text, or not at all."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from typing import Protocol, Self

import polars as pl
from rich import box
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lab.live.dialogue_panels import BAD, COLOURS, RETURN, conflict_sentence
from lab.live.run_screen import can_draw, duration, elsewhere, render
from lab.progress.run import LineMark, State, apply, expected_lines, seconds_left, tokens_per_second
from lab.reports.conflict_text import contradicting_lines_text
from lab.reports.headline import HeadlineRow, caution, headline
from lab.reports.spend_text import spend_sentences
from lab.reports.validity_text import NOT_VALID, validity_sentences
from lab.store import console as cleaning
from metrics.entry import MISSING
from scenarios.messages import clean
from scenarios.records import SEATS

DISPLAYS = ("auto", "rich", "plain", "none")
REFRESH_PER_S = 4
PROGRESS_EVERY_S = 30.0  # the plain monitor says how far it is this often, by the events' clock
LINE_WIDTH = 200  # characters of an utterance shown by the plain monitor


class RunOnlooker(Protocol):
    """What is shown every event of a run, in order, and holds the run's state."""

    state: State

    def show(self, event: dict) -> None: ...


class Monitor(RunOnlooker, Protocol):
    """An onlooker of a run that is a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def choose_monitor(display: str = "auto", console: Console | None = None, path: str = "") -> Monitor:
    """The monitor for `--display`: a full screen where the console is a terminal that can draw it, otherwise lines of
    text.

    Raises ValueError for a display other than auto, rich, plain or none.
    """
    if display not in DISPLAYS:
        raise ValueError(f"display {display!r}: expected one of {', '.join(DISPLAYS)}")
    console = console or cleaning.Console()
    if display == "none":
        return SilentMonitor(path)
    if can_draw(console) and display != "plain":
        return LiveMonitor(console, path)
    return PlainMonitor(console, path, *elsewhere(path)[:1])


class SilentMonitor:
    """Keeps the state and shows nothing."""

    def __init__(self, path: str = ""):
        self.state = State(path=str(path))

    def show(self, event: dict) -> None:
        apply(self.state, event)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class LiveMonitor:
    """The full screen, drawn REFRESH_PER_S times per second by a thread of its own."""

    def __init__(self, console: Console, path: str = ""):
        self.state = State(path=str(path))
        self._console, self._busy = console, threading.Lock()
        # what libraries print belongs into the log
        self._live = Live(
            get_renderable=self._view,
            console=console,
            screen=True,
            refresh_per_second=REFRESH_PER_S,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def show(self, event: dict) -> None:
        with self._busy:
            apply(self.state, event)

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def _view(self):
        with self._busy:
            return render(self.state, *self._console.size, now=time.time(), where=elsewhere(self.state.path))


class PlainMonitor:
    """Prints a line of text for every line, conflict of a line and change of phase, after the line `hint`.

    Colour is used only in a terminal that supports it.
    """

    def __init__(self, console: Console, path: str = "", hint: str = ""):
        self.state = State(path=str(path))
        self._console, self._hint = console, hint
        self._styled = console.is_terminal and not console.no_color
        self._printed_at = 0.0

    def show(self, event: dict) -> None:
        dialogue, turn = self.state.dialogues.get(event.get("conversation", -1)), event.get("turn", -1)
        mark_before = dialogue.marks.get(turn) if dialogue else None
        apply(self.state, event)
        kind = event["event"]
        if kind == "started":
            self._printed_at = self.state.clock
        if kind == "judged":
            mark = self.state.dialogues[event["conversation"]].marks.get(turn)
            if mark and mark != mark_before:
                self._print(conflict_text(self.state, mark), "green" if mark.conflict.returns else "red")
        elif kind == "validated":
            for sentence in validity_sentences({"validation": event}):
                self._print(sentence, "")
        elif kind in TELL and (text := TELL[kind](self.state, event)):
            self._print(text, "bold" if kind in ("started", "phase", "ended") else "")
        if kind == "usage" and self.state.clock - self._printed_at >= PROGRESS_EVERY_S:
            self._printed_at = self.state.clock
            self._print(run_progress_text(self.state), "")

    def __enter__(self) -> Self:
        if self._hint:
            self._print(self._hint, "dim")
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def _print(self, text: str, style: str) -> None:
        encoding = self._console.encoding or "utf-8"
        text = clean(text).encode(encoding, "replace").decode(encoding)
        self._console.print(Text(text, style=style if self._styled else ""), soft_wrap=True)


def conflict_text(state: State, mark: LineMark) -> str:
    """` ✗ #3 t4 user grace contradicts fact job (ledger): “I work as a nurse”`; ↩ in place of ✗ for a return.

    The quotation is the first contradicting words where their span is known, otherwise the line, cut.
    """
    line, spans = state.dialogues[mark.conversation].lines.get(mark.turn), mark.spans
    said = "" if line is None else line["text"][slice(*spans[0])] if spans else line["text"]
    who = state.dialogues[mark.conversation].cast.get(mark.seat, "")
    place = f"#{mark.conversation} t{mark.turn} {mark.seat} {who}"
    sign, judges = RETURN if mark.conflict.returns else BAD, ", ".join(mark.conflict.judges)
    return f"  {sign}{place} {conflict_sentence(state, mark)} ({judges}): “{_cut(said)}”"


def run_progress_text(state: State) -> str:
    """The progress of a run: `[12/320] 48 generated tokens/s, 4:12 left`."""
    rate, left = tokens_per_second(state), seconds_left(state)
    parts = [f"{rate:,.0f} generated tokens/s"] if rate is not None else []
    parts += [f"{duration(left)} left"] if left is not None else []
    return f"{_count(state)} {', '.join(parts) or state.phase}"


def conclude(console: Console, table: RenderableType, path: object, notes: Iterable[str] = ()) -> None:
    """Prints the table of results, the notes on it, and the folder on a line that is not wrapped, so that it can be
    copied.
    """
    console.print(table)
    for note in notes:
        console.print(Text(clean(note), style="bright_black" if NOT_VALID in note else ""), soft_wrap=True)
    console.print(Text(clean(str(path)), style="bold"), soft_wrap=True)


def closing_notes(manifest: Mapping) -> list[str]:
    """The sentences under the table of results: on the validity of the judges, the notices, and what servers took."""
    return [*validity_sentences(manifest), *manifest.get("notices", []), *spend_sentences(manifest)]


def run_summary(frames: Mapping[str, pl.DataFrame], manifest: Mapping | None = None) -> Table:
    """The table at the end of a run, from its frames (metrics, judgements): metric × seat, `value [low, high] n=…`.

    A drift is red, and its cell ends with ▲, as in `lab.reports.headline`. What a judge measured that is not valid in
    these personas, as the manifest says, is grey. The caption says what the intervals are computed over.
    """
    table = Table(title="Results", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    table.add_column("measure")
    table.add_column("judge", style="dim")
    for seat in SEATS:
        table.add_column(seat, header_style=f"bold {COLOURS[seat]}")
    rows = headline(frames["metrics"], frames["judgements"], manifest)
    for index, row in enumerate(rows):
        cells = [
            Text(
                row.cells.get(seat, MISSING) + (" ▲" if seat in row.worse else ""),
                style=_style(row, seat),
            )
            for seat in SEATS
        ]
        last = index + 1 == len(rows) or rows[index + 1].group != row.group
        table.add_row(Text(row.label), Text(row.judge), *cells, end_section=last)
    if not rows:
        table.add_row(Text("nothing was measured"), "", "", "")
    elif "turns" in frames:
        table.caption = Text(caution(frames["turns"]))
    return table


def _style(row: HeadlineRow, seat: str) -> str:
    if not row.valid:
        return "bright_black"
    return "red" if seat in row.worse else "yellow" if row.group == "unscored" else ""


def _cut(text: str) -> str:
    return text if len(text) <= LINE_WIDTH else text[: LINE_WIDTH - 1] + "…"


def _count(state: State) -> str:
    return f"[{state.lines}/{expected_lines(state)}]"


def _line(state: State, event: dict) -> str:
    place = f"#{event['conversation']} t{event['turn']} {event['seat']} {event['persona']} @{event['node']}"
    return f"{_count(state)} {place}: {_cut(event['text'])}"


def _started(state: State, event: dict) -> str:
    models = " × ".join(dict.fromkeys(str(model) for model in state.models.values()))
    about = " · ".join(part for part in (models, f"{state.device} {state.dtype}".strip(), state.path) if part)
    again = "resumed" if event.get("resumed") else "started"
    return f"{state.name or state.run_id} {again}: {state.conversations} dialogues of {state.turns} lines · {about}"


def _phase(state: State, event: dict) -> str:
    return f"== {state.phase}" + (f" · {state.detail}" if state.detail else "")


def _conversation(state: State, event: dict) -> str:
    return f"#{event['conversation']} {event['status']}" + (f": {event['reason']}" if event.get("reason") else "")


def _recovered(state: State, event: dict) -> str:
    return f"recovered: {state.note}"


def _notice(state: State, event: dict) -> str:
    return f"notice: {event['detail']}"


def _ended(state: State, event: dict) -> str:
    reason = f": {state.reason}" if state.reason else ""
    return (
        f"== {state.status}{reason} · {_count(state)} lines · {contradicting_lines_text(state.contradicting_lines)} · "
        f"{state.unscored} unscored"
    )


TELL = {
    "started": _started,
    "phase": _phase,
    "line": _line,
    "conversation": _conversation,
    "recovered": _recovered,
    "notice": _notice,
    "ended": _ended,
}
