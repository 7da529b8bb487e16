"""What somebody who watches a run looks at, and what the keys change of it: folded from events, drawn by pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rich.console import RenderableType
from rich.layout import Layout
from rich.text import Text

from lab import sweeping
from lab.progress import State, apply
from lab.screen import page_at, pages, render, render_one, rows, rows_in_sight
from lab.store import SCENARIO, SWEEP
from lab.study_screen import Course as Asked
from lab.study_screen import render as render_study
from lab.watching import Course
from lab.watching import render as render_training
from scenarios.reading import read, validate
from scenarios.recipe import Recipe
from scenarios.study import is_study
from scenarios.sweep import Sweep

NUMBER_LENGTH = 9  # digits of a dialogue's number that can be typed
KEYS = (("n  →  ↓", "next page of dialogues"), ("p  ←  ↑", "page before"), ("12 Enter", "all of dialogue 12"),
        ("Esc", "pages turn by themselves again"), ("", ""),
        ("↑ ↓  PgUp PgDn", "in a dialogue: move in it; from its end on it is followed again"), ("Home End", "its beginning, its end"),
        ("n p  → ←", "the next dialogue, the one before"), ("Esc", "back to all dialogues"), ("", ""))


@dataclass(frozen=True)
class Window:
    """In characters; `now`: what time it is shown at, in seconds since 1970."""

    width: int
    height: int
    now: float


class Viewer(Protocol):
    keys: Sequence[tuple[str, str]]  # of its own, and what they do

    def fold(self, event: dict) -> None: ...

    def press(self, key: str, window: Window) -> bool:
        """Whether the key means anything."""

    def draw(self, window: Window, hints: Sequence[str]) -> RenderableType: ...


@dataclass
class RunViewer:
    """A run's dialogues by pages, or one of them in full."""

    state: State
    keys: Sequence[tuple[str, str]] = KEYS
    page: int | None = None  # None: they turn by themselves
    one: int | None = None  # the dialogue that is followed
    top: int | None = None  # its first row in sight; None: its end is
    typed: str = ""
    told: str = ""  # what was wrong with that

    def fold(self, event: dict) -> None:
        apply(self.state, event)

    def press(self, key: str, window: Window) -> bool:
        self.told = ""
        if key.isdecimal() and key.isascii():
            self.typed = (self.typed + key)[:NUMBER_LENGTH]
            return True
        if self.typed and key in ("enter", "backspace", "escape"):
            self._finish(key)
            return True
        self.typed = ""
        if key == "escape":
            self.one = self.top = self.page = None
        elif key in ("n", "right", "p", "left"):
            self._turn(1 if key in ("n", "right") else -1, window)
        elif self.one is not None and key in ("up", "down", "page up", "page down", "home", "end"):
            self._scroll(key, window)
        elif key in ("up", "down", "page up", "page down"):
            self._turn(1 if key.endswith("down") else -1, window)
        else:
            return False
        return True

    def draw(self, window: Window, hints: Sequence[str]) -> RenderableType:
        width, height, now = window.width, window.height, window.now
        if self.typed:
            hints = [f"dialogue {self.typed}▏ Enter shows it, Esc does not"]
        elif self.told:
            hints = [self.told]
        if self.one is not None:
            return render_one(self.state, self.one, width, height, now, self.top, hints)
        return render(self.state, width, height, now, self.page, hints)

    def _finish(self, key: str) -> None:
        """Of a number that is being typed."""
        number, self.typed = self.typed, self.typed[:-1] if key == "backspace" else ""
        if key == "enter":
            if int(number) in self.state.dialogues:
                self.one, self.top = int(number), None
            else:
                last = max(self.state.dialogues, default=None)
                self.told = f"there is no dialogue {int(number)}" + (f", they go to {last}" if last is not None else " yet")

    def _turn(self, by: int, window: Window) -> None:
        if self.one is not None:
            numbers = sorted(self.state.dialogues)
            self.one, self.top = numbers[(numbers.index(self.one) + by) % len(numbers)], None
        else:
            here = page_at(self.state, max(window.now, self.state.clock)) if self.page is None else self.page
            self.page = (here + by) % pages(self.state, window.width, window.height)

    def _scroll(self, key: str, window: Window) -> None:
        room = rows_in_sight(window.width, window.height)
        lowest = max(0, len(rows(self.state, self.one, window.width)) - room)
        here = lowest if self.top is None else min(self.top, lowest)
        to = {"up": here - 1, "down": here + 1, "page up": here - room, "page down": here + room, "home": 0, "end": lowest}[key]
        self.top = max(0, to) if to < lowest else None


@dataclass
class TrainingViewer:
    """A training's screen, and a footer below it."""

    recipe: Recipe
    path: str
    keys: Sequence[tuple[str, str]] = ()
    course: Course = field(default_factory=Course)

    def fold(self, event: dict) -> None:
        self.course.fold(event)

    def press(self, key: str, window: Window) -> bool:
        return False

    def draw(self, window: Window, hints: Sequence[str]) -> RenderableType:
        course = self.course
        seconds = max(window.now, course.clock) - course.began if course.began else 0.0
        view = render_training(self.recipe, self.path, course.steps, course.phase, seconds, course.stopped)
        hint = next((hint for hint in hints if len(hint) < window.width), hints[-1])
        return over_footer(view, Text(hint, style="dim", justify="right"))


@dataclass
class StudyViewer:
    """A study's screen, and a footer below it."""

    path: str
    keys: Sequence[tuple[str, str]] = ()
    course: Asked = field(default_factory=Asked)

    def fold(self, event: dict) -> None:
        self.course.fold(event)

    def press(self, key: str, window: Window) -> bool:
        return False

    def draw(self, window: Window, hints: Sequence[str]) -> RenderableType:
        hint = next((hint for hint in hints if len(hint) < window.width), hints[-1])
        return over_footer(render_study(self.course, self.path, window.now), Text(hint, style="dim", justify="right"))


@dataclass
class SweepViewer:
    """A sweep's screen, and a footer below it."""

    sweep: Sweep
    path: str
    keys: Sequence[tuple[str, str]] = ()
    course: sweeping.Course = field(default_factory=sweeping.Course)

    def fold(self, event: dict) -> None:
        self.course.fold(event)

    def press(self, key: str, window: Window) -> bool:
        return False

    def draw(self, window: Window, hints: Sequence[str]) -> RenderableType:
        view = sweeping.render(self.course, self.sweep, self.path, max(window.now, self.course.clock))
        hint = next((hint for hint in hints if len(hint) < window.width), hints[-1])
        return over_footer(view, Text(hint, style="dim", justify="right"))


def over_footer(view: RenderableType, footer: Text) -> Layout:
    """The view, cut to the screen but for its last line, which is the footer's."""
    footer.no_wrap = True
    out = Layout()
    out.split_column(Layout(view), Layout(footer, size=1))
    return out


def viewer(folder: Path) -> Viewer:
    """Of what the folder holds. ScenarioError as from `recipe_in` and `sweep_in`."""
    if sweep := sweep_in(folder):
        return SweepViewer(sweep, str(folder))
    if study_in(folder):
        return StudyViewer(str(folder))
    recipe = recipe_in(folder)
    return RunViewer(State(path=str(folder))) if recipe is None else TrainingViewer(recipe, str(folder))


def recipe_in(folder: Path) -> Recipe | None:
    """A training's recipe, the files that it names unread; None for a run. ScenarioError where its scenario.yaml is damaged."""
    path = folder / SCENARIO
    document = read(path) if path.is_file() else None
    return validate(document, Recipe) if document and "method" in document.data else None


def study_in(folder: Path) -> bool:
    """Whether the folder is a study's. ScenarioError where its scenario.yaml is damaged."""
    return (folder / SCENARIO).is_file() and is_study(folder / SCENARIO)


def sweep_in(folder: Path) -> Sweep | None:
    """A sweep as it was asked for, its base's file unread; None for anything else. ScenarioError where its sweep.yaml is damaged."""
    path = folder / SWEEP
    return validate(read(path), Sweep) if path.is_file() else None
