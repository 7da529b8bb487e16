"""What a study shows while it goes on: progress by arm, the latest answers, time left. Folded from events, drawn by a pure function."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lab.asking import heard
from lab.progress import moment
from lab.screen import able, clean, duration, elsewhere
from metrics.finding import Choice

LATEST = 5  # answers shown
ENOUGH = 8  # answers before a pace is told: the first come together
EVERY_S = 10.0  # between two lines of the plain display


@dataclass
class Course:
    """What a study's events have told so far. `clock`: the time of the last one, `began`: when this sitting began to ask, in seconds since
    1970; `before`: what was answered by then."""

    header: dict = field(default_factory=dict)  # the `started` event
    phase: str = "starting"
    answered: dict[str, int] = field(default_factory=dict)  # by arm; of a run or a training lines or steps
    latest: deque[dict] = field(default_factory=lambda: deque(maxlen=LATEST))
    began: float | None = None
    before: int = 0
    clock: float = 0.0

    def fold(self, event: dict) -> None:
        self.clock, kind = max(self.clock, moment(event)), event["event"]
        if kind == "started":
            self.header = event
        elif kind == "phase":
            self.phase = f"{event['phase']} {event.get('detail') or ''}".strip()
            if event["phase"] == "asking":
                self.began, self.before = moment(event), self.done
        elif kind == "answer":
            self.answered[event["arm"]] = self.answered.get(event["arm"], 0) + 1
            self.phase = f"asking {event['arm']}"
            self.latest.append(event)
        elif kind == "taught":
            self.phase = f"teaching {event['arm']} {event['step']}/{event['steps']}, loss {event['loss']:.3g}"
        elif kind == "arm":
            self.answered[event["arm"]] = event["done"]
            self.phase = f"playing {event['arm']}"
            self.latest.append(event)
        elif kind == "recovered":
            self.phase = f"recovered: {event.get('detail') or ''}"
        elif kind == "ended":
            self.phase = event["status"] + (f": {event['reason']}" if event.get("reason") else "")

    @property
    def done(self) -> int:
        return sum(self.answered.values())

    def arms(self) -> dict[str, tuple[int, int]]:
        """Answers and what they will come to, by arm; more than was planned where answers made for more questions."""
        planned: Mapping[str, int] = self.header.get("arms") or {}
        done = {arm: self.answered.get(arm, 0) for arm in {**planned, **self.answered}}
        return {arm: (count, max(planned.get(arm, 0), count)) for arm, count in done.items()}

    def seconds_left(self) -> float | None:
        """At this sitting's average pace; None before its first answers."""
        left = sum(total - done for done, total in self.arms().values())
        if self.began is None or self.done - self.before < ENOUGH or not self.phase.startswith("asking"):
            return None
        return (self.clock - self.began) / (self.done - self.before) * left


class Watch(Protocol):
    def show(self, event: dict) -> None: ...

    def catch_up(self, event: dict) -> None:
        """An event of an earlier sitting."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def choose(display: str, console: Console, path: str) -> Watch:
    """The full screen where the console is a terminal that can draw it, else a line every now and then, or nothing."""
    if display == "none":
        return Lines(None)
    return Screen(console, path) if able(console) and display != "plain" else Lines(console, *elsewhere(path)[:1])


class Lines:
    """`hint`: a line that comes first."""

    def __init__(self, console: Console | None, hint: str = "") -> None:
        self._console, self._hint, self._course, self._told = console, hint, Course(), 0.0

    def catch_up(self, event: dict) -> None:
        self._course.fold(event)

    def show(self, event: dict) -> None:
        course = self._course
        course.fold(event)
        if event["event"] == "started":
            self._print(f"{course.header['name']} on {', '.join(course.header['models'].values())}, size {course.header['size']}")
        elif event["event"] in ("phase", "recovered", "ended") or event["event"] == "taught" and event["step"] == event["steps"]:
            self._print(f"== {course.phase}")
        elif event["event"] in ("answer", "arm") and course.clock - self._told >= EVERY_S:
            self._told = course.clock
            self._print(f"{progress(course)}  {answer(event)}")

    def _print(self, text: str) -> None:
        if self._console is not None:
            self._console.print(Text(clean(text)), soft_wrap=True)

    def __enter__(self) -> Self:
        if self._hint:
            self._print(self._hint)
        return self

    def __exit__(self, *_: object) -> None:
        return None


class Screen:
    """The whole terminal, drawn again every second."""

    def __init__(self, console: Console, path: str) -> None:
        self._console, self._path, self._course = console, path, Course()
        self._live = Live(get_renderable=self._view, console=console, screen=True, refresh_per_second=2, redirect_stdout=False,
                          redirect_stderr=False)

    def catch_up(self, event: dict) -> None:
        self._course.fold(event)

    def show(self, event: dict) -> None:
        self._course.fold(event)

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def _view(self) -> RenderableType:
        where = next((hint for hint in elsewhere(self._path) if len(hint) <= self._console.width - 4), self._path)
        return render(self._course, where, time.time())


def render(course: Course, where: str, now: float) -> RenderableType:
    """The screen at `now`, in seconds since 1970. `where`: the run's folder, or how to watch it."""
    header, left = course.header, course.seconds_left()
    spent = f"  {duration(max(0.0, max(now, course.clock) - course.began))}" if course.began else ""
    who = ", ".join((header.get("models") or {}).values())
    about = "  ".join(str(part) for part in (who, header.get("size"), header.get("device"), course.phase) if part)
    head = Text.assemble((clean(str(header.get("name") or "a study")), "bold"), f"  {clean(about)}{spent}",
                         f"  {duration(left)} left" if left is not None else "", f"\n{clean(str(header.get('claim') or ''))}\n",
                         (clean(where), "dim"))
    arms = Table(box=None, padding=(0, 2), expand=True)
    for title, ratio in (("arm", 2), ("done", 1), ("", 3)):
        arms.add_column(title, ratio=ratio, no_wrap=True)
    for arm, (done, total) in course.arms().items():
        arms.add_row(Text(clean(arm)), f"{done}/{total}", ProgressBar(total=max(total, 1), completed=done))
    latest = [Text(answer(event), no_wrap=True, overflow="ellipsis") for event in reversed(course.latest)]
    return Group(Panel(head), Panel(arms, title="by arm"), Panel(Group(*latest), title="the latest"))


def progress(course: Course) -> str:
    """`[12/320] 4:12 left`"""
    arms, left = course.arms(), course.seconds_left()
    return f"[{course.done}/{sum(total for _, total in arms.values())}]" + (f" {duration(left)} left" if left is not None else "")


def answer(event: Mapping) -> str:
    """`arm · item · “what was asked” → “ violin.” 62%`, or the words that were said; of a run or a training its last line or step."""
    if event["event"] == "arm":
        return clean(f"{event['arm']} · {event['detail']}")
    if "nats" in event:
        p = Choice(tuple(event["nats"]), tuple(event["tokens"])).p
        found = f"“{event['options'][int(p.argmax())]}” {p.max():.0%}"
    else:
        found = f"“{event['text']}”"
    return clean(f"{event['arm']} · {event['item']} · “{heard(event)}” → {found}")
