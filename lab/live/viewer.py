"""The views of `lab.watch`, and what the keys change in them: folded from events and drawn by pure functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rich.console import RenderableType
from rich.layout import Layout
from rich.text import Text

from lab.live import study_screen, sweep_screen, training_screen
from lab.live.dialogue_panels import rows
from lab.live.run_screen import page_at, pages, render, render_one, rows_in_sight
from lab.progress.run import State, apply
from lab.progress.study import StudyProgress
from lab.progress.sweep import SweepProgress
from lab.progress.training import TrainingProgress
from lab.store.run_store import SCENARIO, SWEEP
from scenarios.jobs.recipe import Recipe
from scenarios.jobs.study import is_study
from scenarios.jobs.sweep import Sweep
from scenarios.yaml_files import read_yaml, validate

NUMBER_LENGTH = 9  # digits of a dialogue's number that can be typed
KEYS = (
    ("n  →  ↓", "next page of dialogues"),
    ("p  ←  ↑", "previous page"),
    ("12 Enter", "show dialogue 12 in full"),
    ("Esc", "turn pages automatically again"),
    ("", ""),
    ("↑ ↓  PgUp PgDn", "in a dialogue: scroll; at the end, follow new lines"),
    ("Home End", "in a dialogue: beginning, end"),
    ("n p  → ←", "in a dialogue: next, previous dialogue"),
    ("Esc", "back to all dialogues"),
    ("", ""),
)


@dataclass(frozen=True)
class Window:
    """The size of the screen in characters, and the time `now`, in seconds since 1970."""

    width: int
    height: int
    now: float


class Viewer(Protocol):
    """A view: it folds events, handles keys and draws itself."""

    keys: Sequence[tuple[str, str]]  # of its own, and what they do

    def fold(self, event: dict, /) -> None: ...

    def press(self, key: str, window: Window) -> bool:
        """Handles a key; returns whether the key has a meaning in this view."""
        ...

    def draw(self, window: Window, hints: Sequence[str]) -> RenderableType: ...


@dataclass
class RunViewer:
    """The dialogues of a run by pages, or one dialogue in full."""

    state: State
    keys: Sequence[tuple[str, str]] = KEYS
    page: int | None = None  # None: they turn by themselves
    followed: int | None = None  # the dialogue that is followed
    top: int | None = None  # its first row in sight; None: its end is
    typed: str = ""
    problem: str = ""  # what was wrong with that

    def fold(self, event: dict) -> None:
        apply(self.state, event)

    def press(self, key: str, window: Window) -> bool:
        self.problem = ""
        if key.isdecimal() and key.isascii():
            self.typed = (self.typed + key)[:NUMBER_LENGTH]
            return True
        if self.typed and key in ("enter", "backspace", "escape"):
            self._finish(key)
            return True
        self.typed = ""
        if key == "escape":
            self.followed = self.top = self.page = None
        elif key in ("n", "right", "p", "left"):
            self._turn(1 if key in ("n", "right") else -1, window)
        elif self.followed is not None and key in ("up", "down", "page up", "page down", "home", "end"):
            self._scroll(self.followed, key, window)
        elif key in ("up", "down", "page up", "page down"):
            self._turn(1 if key.endswith("down") else -1, window)
        else:
            return False
        return True

    def draw(self, window: Window, hints: Sequence[str]) -> RenderableType:
        width, height, now = window.width, window.height, window.now
        if self.typed:
            hints = [f"dialogue {self.typed}▏ Enter shows it, Esc does not"]
        elif self.problem:
            hints = [self.problem]
        if self.followed is not None:
            return render_one(self.state, self.followed, width, height, now, self.top, hints)
        return render(self.state, width, height, now, self.page, hints)

    def _finish(self, key: str) -> None:
        """Handles a key that ends or shortens a typed number."""
        number, self.typed = self.typed, self.typed[:-1] if key == "backspace" else ""
        if key == "enter":
            if int(number) in self.state.dialogues:
                self.followed, self.top = int(number), None
            else:
                last = max(self.state.dialogues, default=None)
                self.problem = f"there is no dialogue {int(number)}" + (
                    f", they go to {last}" if last is not None else " yet"
                )

    def _turn(self, by: int, window: Window) -> None:
        if self.followed is not None:
            numbers = sorted(self.state.dialogues)
            self.followed, self.top = numbers[(numbers.index(self.followed) + by) % len(numbers)], None
        else:
            here = page_at(self.state, max(window.now, self.state.clock)) if self.page is None else self.page
            self.page = (here + by) % pages(self.state, window.width, window.height)

    def _scroll(self, followed: int, key: str, window: Window) -> None:
        room = rows_in_sight(window.width, window.height)
        lowest = max(0, len(rows(self.state, followed, window.width)) - room)
        here = lowest if self.top is None else min(self.top, lowest)
        to = {
            "up": here - 1,
            "down": here + 1,
            "page up": here - room,
            "page down": here + room,
            "home": 0,
            "end": lowest,
        }[key]
        self.top = max(0, to) if to < lowest else None


@dataclass
class ProgressViewer:
    """The screen of a training, a study or a sweep, with a footer below it.

    `view` draws the screen at a time, in seconds since 1970.
    """

    fold: Callable[[dict], None]
    view: Callable[[float], RenderableType]
    keys: Sequence[tuple[str, str]] = ()

    def press(self, key: str, window: Window) -> bool:
        return False

    def draw(self, window: Window, hints: Sequence[str]) -> RenderableType:
        hint = next((hint for hint in hints if len(hint) < window.width), hints[-1])
        return over_footer(self.view(window.now), Text(hint, style="dim", justify="right"))


def over_footer(view: RenderableType, footer: Text) -> Layout:
    """The view, cut to the screen without its last line, which shows the footer."""
    footer.no_wrap = True
    out = Layout()
    out.split_column(Layout(view), Layout(footer, size=1))
    return out


def viewer(folder: Path) -> Viewer:
    """The viewer for the kind of the folder. Raises ScenarioError where its scenario.yaml or sweep.yaml is damaged."""
    path = str(folder)
    if sweep := sweep_in(folder):
        swept = SweepProgress()
        return ProgressViewer(swept.fold, lambda now: sweep_screen.render(swept, sweep, path, max(now, swept.clock)))
    if study_in(folder):
        asked = StudyProgress()
        return ProgressViewer(asked.fold, lambda now: study_screen.render(asked, path, now))
    recipe = recipe_in(folder)
    if recipe is None:
        return RunViewer(State(path=path))
    taught = TrainingProgress()
    return ProgressViewer(
        taught.fold,
        lambda now: training_screen.render(
            recipe,
            path,
            taught.steps,
            taught.phase,
            max(now, taught.clock) - taught.began if taught.began else 0.0,
            taught.stopped,
        ),
    )


def recipe_in(folder: Path) -> Recipe | None:
    """The recipe of a training, without reading the files that it names; None for a run.

    Raises ScenarioError where scenario.yaml is damaged.
    """
    path = folder / SCENARIO
    document = read_yaml(path) if path.is_file() else None
    return validate(document, Recipe) if document and "method" in document.data else None


def study_in(folder: Path) -> bool:
    """Whether the folder is a study's. Raises ScenarioError where its scenario.yaml is damaged."""
    return (folder / SCENARIO).is_file() and is_study(folder / SCENARIO)


def sweep_in(folder: Path) -> Sweep | None:
    """The sweep of the folder, without reading the file of its base; None for other folders.

    Raises ScenarioError where sweep.yaml is damaged.
    """
    path = folder / SWEEP
    return validate(read_yaml(path), Sweep) if path.is_file() else None
