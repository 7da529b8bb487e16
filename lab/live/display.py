"""Shows a training, a study or a sweep while it runs: on the full screen, as lines of text, or not at all.

The state is folded from events (`lab.progress`) and drawn by pure functions; see training_screen.py, study_screen.py
and sweep_screen.py. Runs are shown by run_monitor.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol, Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from lab.live.run_screen import can_draw, elsewhere
from scenarios.messages import clean

Fold = Callable[[dict], None]  # takes in an event
Describe = Callable[[dict], str]  # an event that was taken in, as a line of text; "" where it is none for people
# the screen; it is given the folder, or how to watch it, as far as there is room
View = Callable[[str], RenderableType]


class Onlooker(Protocol):
    """What is shown every event, in order."""

    def show(self, event: dict) -> None: ...


class Watch(Onlooker, Protocol):
    """An onlooker that is a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def choose_display(display: str, console: Console, path: str, fold: Fold, describe: Describe, view: View) -> Watch:
    """A full screen where the console is a terminal that can draw it, otherwise lines of text, or nothing.

    - `display`: auto, rich, plain or none.
    - `path`: the run's folder.
    - `fold`: folds an event into the state; `describe`: the folded event as a line of text, "" for none.
    - `view`: draws the screen.
    """
    if display == "none":
        return Lines(None, fold, describe)
    return (
        Screen(console, path, fold, view)
        if can_draw(console) and display != "plain"
        else Lines(console, fold, describe, *elsewhere(path)[:1])
    )


class Lines:
    """Prints a line of text per event, after the line `hint`; without a console, nothing is printed."""

    def __init__(self, console: Console | None, fold: Fold, describe: Describe, hint: str = "") -> None:
        self._console, self._fold, self._describe, self._hint = console, fold, describe, hint

    def show(self, event: dict) -> None:
        self._fold(event)
        if self._console is not None:
            self._print(self._describe(event))

    def _print(self, text: str) -> None:
        if text and self._console is not None:
            self._console.print(Text(clean(text)), soft_wrap=True)

    def __enter__(self) -> Self:
        self._print(self._hint)
        return self

    def __exit__(self, *_: object) -> None:
        return None


class Screen:
    """The full screen, drawn every second by a thread of its own."""

    def __init__(self, console: Console, path: str, fold: Fold, view: View) -> None:
        self._console, self._path, self._fold, self._draw, self._busy = console, path, fold, view, threading.Lock()
        self._live = Live(
            get_renderable=self.view,
            console=console,
            screen=True,
            refresh_per_second=1,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def show(self, event: dict) -> None:
        with self._busy:
            self._fold(event)

    def view(self) -> RenderableType:
        """The screen as a renderable."""
        with self._busy:
            return self._draw(
                next((hint for hint in elsewhere(self._path) if len(hint) <= self._console.width - 4), self._path)
            )

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
