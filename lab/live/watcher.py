"""Follows or replays a log in the terminal: reads events, handles keys, and draws the view for the kind of the run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console, RenderableType
from rich.text import Text

from lab.live import study_screen, sweep_screen, training_screen
from lab.live.display import Lines, Watch
from lab.live.replay import AT_ONCE, Playback
from lab.live.run_monitor import REFRESH_PER_S, Monitor, PlainMonitor
from lab.live.run_screen import duration, render_keys
from lab.live.terminal import Terminal
from lab.live.viewer import Viewer, Window, over_footer, recipe_in, study_in, sweep_in, viewer
from lab.progress.study import StudyProgress
from lab.progress.sweep import SweepProgress
from lab.store.tail import Log
from scenarios.messages import clean

SPEED = 4.0  # of a replay on the full screen
LEAST, MOST = 1 / 64, 4096.0  # speeds that keys lead to
POLL_S = 0.1  # keyboard and log are looked at this often
SLICE_S = 0.05  # and after events were taken for so long
SILENT_S = 60.0  # after this long without an event, it is said
WAITING = "{} has no events yet; waiting for the first"
KEYS = (
    ("space", "pause or resume the display; it then catches up"),
    ("+ -", "replay faster, slower"),
    ("e", "skip to the end of the replay"),
    ("?", "show these keys"),
    ("q  Ctrl-C", "leave; the run is not stopped"),
)


def follow_as_lines(folder: Path, playback: Playback, console: Console) -> int:
    """Prints the events as lines of text until the run has ended, and returns 0. Raises ValueError for a damaged
    log.
    """
    shown, passed, waiting = None, time.monotonic(), False
    while True:
        event = playback.next()
        if event is not None:
            shown = shown or _plain(folder, console)
            with _understood(playback.log):
                shown.show(event)
        elif playback.over:
            return 0
        else:
            if shown is None and not waiting:
                console.print(WAITING.format(folder), soft_wrap=True, markup=False, highlight=False)
                waiting = True
            time.sleep(POLL_S)
            now = time.monotonic()
            playback.advance(now - passed)
            passed = now


def _plain(folder: Path, console: Console) -> Monitor | Watch:
    if sweep := sweep_in(folder):
        progress = SweepProgress()
        return Lines(console, progress.fold, lambda event: sweep_screen.sweep_event_text(progress, sweep, event))
    if study_in(folder):
        asked = StudyProgress()
        return Lines(console, asked.fold, lambda event: study_screen.study_event_text(asked, event))
    recipe = recipe_in(folder)
    if recipe is None:
        return PlainMonitor(console, str(folder))
    return Lines(console, lambda event: None, lambda event: training_screen.training_event_text(recipe, event))


@contextlib.contextmanager
def _understood(log: Log) -> Iterator[None]:
    """A context that raises ValueError, with the line of the log, for an event that lacks what its view needs."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ValueError(
            f"{log.path}, line {log.line}: an event that cannot be shown ({type(error).__name__}: {error}); expected "
            "it as the run wrote it"
        ) from None


class Watching:
    """The full screen: the run after its events so far, in the view chosen by keys."""

    def __init__(self, folder: Path, playback: Playback, terminal: Terminal) -> None:
        self._folder, self._playback, self._terminal = folder, playback, terminal
        self._viewer: Viewer | None = None
        self._read_again = 0  # see Log.begun_again
        self._paused_at: float | None = None  # what `_now` was then
        self._helping = self._leaving = self._fresh = False  # fresh: there is something to draw
        self._heard = time.monotonic()  # the last event

    def go_on(self) -> None:
        """Draws until a person leaves or a signal ends it. Raises ValueError where the log is damaged."""
        passed, drawn, size, more = time.monotonic(), 0.0, None, True
        while not (self._leaving or self._terminal.stopped):
            keys = self._terminal.keys(0.0 if more else POLL_S)
            for key in keys:
                self._press(key)
            now, paused = time.monotonic(), self._paused_at is not None
            if not paused and "suspend" not in keys:
                self._playback.advance(now - passed)
            passed, more = now, not paused and self._take()
            before, size = size, self._terminal.console.size
            moving = self._fresh or not (paused or self._playback.over)
            if keys or size != before or (moving and now - drawn >= 1 / REFRESH_PER_S):
                self._terminal.draw(self._view())
                drawn, self._fresh = now, False

    def _take(self) -> bool:
        """Folds the events that are due, for at most SLICE_S seconds; returns whether there are more."""
        until = time.monotonic() + SLICE_S
        while time.monotonic() < until:
            event = self._playback.next()
            if event is None:
                return False
            if self._viewer is None or self._read_again != self._playback.log.begun_again:
                self._viewer, self._read_again = viewer(self._folder), self._playback.log.begun_again
            with _understood(self._playback.log):
                self._viewer.fold(event)
            self._heard, self._fresh = time.monotonic(), True
        return True

    def _press(self, key: str) -> None:
        helped, self._helping = self._helping, False
        playback = self._playback
        if key == "q":
            self._leaving = True
        elif key == "suspend":
            self._terminal.suspend()
        elif key == "?":
            self._helping = not helped
        elif key == " ":
            self._paused_at = self._now() if self._paused_at is None else None
        elif key in ("+", "="):
            playback.speed = max(playback.speed, min(playback.speed * 2, MOST))
        elif key in ("-", "_"):
            playback.speed = min(playback.speed, max(playback.speed / 2, LEAST))
        elif key == "e":
            playback.speed = AT_ONCE
        elif not helped and not (self._viewer and self._viewer.press(key, self._window())) and playback.over:
            self._leaving = True

    def _view(self) -> RenderableType:
        window, hints = self._window(), self._hints()
        if self._helping:
            keys = (*(self._viewer.keys if self._viewer else ()), *KEYS)
            return over_footer(
                render_keys(keys, window.width, max(1, window.height - 1)),
                Text("any key closes this list", style="dim"),
            )
        if self._viewer is None:
            return over_footer(Text(WAITING.format(clean(str(self._folder)))), Text(hints[-1], style="dim"))
        return self._viewer.draw(window, hints)

    def _hints(self) -> list[str]:
        """The hints for the footer, the longest first."""
        playback, silent = self._playback, time.monotonic() - self._heard
        if self._paused_at is not None:
            standing = "paused, space resumes"
        elif playback.over:
            standing = "the run has ended"
        elif not playback.caught_up:
            standing = f"replay ×{playback.speed:g}, + - speed" if playback.speed != AT_ONCE else "catching up"
        else:
            standing = f"nothing new for {duration(silent)}" if silent >= SILENT_S else "following"
        leave = "? keys · q quits"
        pause = [] if self._paused_at is not None or playback.over else ["space pauses"]
        pages = ["n p page", "number Enter: one dialogue"] if self._viewer and self._viewer.keys else []
        return [
            " · ".join([standing, *pause, *pages, leave]),
            " · ".join([standing, *pages[:1], leave]),
            f"{standing} · {leave}",
            leave,
        ]

    def _window(self) -> Window:
        return Window(*self._terminal.console.size, self._now())

    def _now(self) -> float:
        """The time that is shown: the log's in a replay and at the end, else the clock's; it does not change in a
        pause.
        """
        if self._paused_at is not None:
            return self._paused_at
        live = self._playback.caught_up and not self._playback.over
        return time.time() if live else self._playback.clock
