"""What a study shows while it goes on: progress by arm, the latest answers, time left. Folded from events, drawn by a
pure function.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lab.live.display import Watch
from lab.live.display import choose as choose_display
from lab.live.run_screen import duration
from lab.progress.study import Course
from lab.store.frames import heard
from metrics.studies.protocol import Choice
from scenarios.messages import clean

EVERY_S = 10.0  # between two lines of the plain display


def choose(display: str, console: Console, path: str, earlier: Iterable[dict] = ()) -> Watch:
    """`earlier`: events of a study that goes on."""
    course = Course()
    for event in earlier:
        course.fold(event)
    return choose_display(
        display,
        console,
        path,
        course.fold,
        lambda event: told(course, event),
        lambda where: render(course, where, time.time()),
    )


def told(course: Course, event: Mapping) -> str:
    """The event, which the course has taken in, as a line of text; "" where it is none for people, or comes soon after
    another.
    """
    if event["event"] == "started":
        return f"{course.header['name']} on {', '.join(course.header['models'].values())}, size {course.header['size']}"
    if event["event"] in ("phase", "recovered", "ended") or (
        event["event"] == "taught" and event["step"] == event["steps"]
    ):
        return f"== {course.phase}"
    if event["event"] in ("answer", "arm") and course.clock - course.told >= EVERY_S:
        course.told = course.clock
        return f"{progress(course)}  {answer(event)}"
    return ""


def render(course: Course, where: str, now: float) -> RenderableType:
    """The screen at `now`, in seconds since 1970. `where`: the run's folder, or how to watch it."""
    header, left = course.header, course.seconds_left()
    spent = f"  {duration(max(0.0, max(now, course.clock) - course.began))}" if course.began else ""
    who = ", ".join((header.get("models") or {}).values())
    about = "  ".join(str(part) for part in (who, header.get("size"), header.get("device"), course.phase) if part)
    head = Text.assemble(
        (clean(str(header.get("name") or "a study")), "bold"),
        f"  {clean(about)}{spent}",
        f"  {duration(left)} left" if left is not None else "",
        f"\n{clean(str(header.get('claim') or ''))}\n",
        (clean(where), "dim"),
    )
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
    return f"[{course.done}/{sum(total for _, total in arms.values())}]" + (
        f" {duration(left)} left" if left is not None else ""
    )


def answer(event: Mapping) -> str:
    """`arm · item · “what was asked” → “ violin.” 62%`, or the words that were said; of a run or a training its last
    line or step.
    """
    if event["event"] == "arm":
        return clean(f"{event['arm']} · {event['detail']}")
    if "nats" in event:
        p = Choice(tuple(event["nats"]), tuple(event["tokens"])).p
        found = f"“{event['options'][int(p.argmax())]}” {p.max():.0%}"
    else:
        found = f"“{event['text']}”"
    return clean(f"{event['arm']} · {event['item']} · “{heard(event)}” → {found}")
