"""The screen of a running study: progress by arm, the latest answers, and the time left. The state is folded from
events and drawn by a pure function.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lab.live.display import Watch, choose_display
from lab.live.run_screen import duration
from lab.progress.study import StudyProgress
from lab.store.frames import question_text
from metrics.studies.protocol import OptionScores
from scenarios.messages import clean

EVERY_S = 10.0  # between two lines of the plain display


def study_display(display: str, console: Console, path: str, earlier: Iterable[dict] = ()) -> Watch:
    """The display of a study. `earlier` holds the stored events of a study that is resumed."""
    progress = StudyProgress()
    for event in earlier:
        progress.fold(event)
    return choose_display(
        display,
        console,
        path,
        progress.fold,
        lambda event: study_event_text(progress, event),
        lambda where: render(progress, where, time.time()),
    )


def study_event_text(progress: StudyProgress, event: Mapping) -> str:
    """An event that `progress` has already folded, as a line of text.

    It is "" for events that are not shown, and for answers that follow the last line too soon.
    """
    if event["event"] == "started":
        header = progress.header
        return f"{header['name']} on {', '.join(header['models'].values())}, size {header['size']}"
    if event["event"] in ("phase", "recovered", "ended") or (
        event["event"] == "taught" and event["step"] == event["steps"]
    ):
        return f"== {progress.phase}"
    if event["event"] in ("answer", "arm") and progress.clock - progress.printed_at >= EVERY_S:
        progress.printed_at = progress.clock
        return f"{study_progress_text(progress)}  {answer(event)}"
    return ""


def render(progress: StudyProgress, where: str, now: float) -> RenderableType:
    """The screen at `now`, in seconds since 1970; `where` is the run's folder, or how to watch it."""
    header, left = progress.header, progress.seconds_left()
    spent = f"  {duration(max(0.0, max(now, progress.clock) - progress.began))}" if progress.began else ""
    who = ", ".join((header.get("models") or {}).values())
    about = "  ".join(str(part) for part in (who, header.get("size"), header.get("device"), progress.phase) if part)
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
    for arm, (done, total) in progress.arms().items():
        arms.add_row(Text(clean(arm)), f"{done}/{total}", ProgressBar(total=max(total, 1), completed=done))
    latest = [Text(answer(event), no_wrap=True, overflow="ellipsis") for event in reversed(progress.latest)]
    return Group(Panel(head), Panel(arms, title="by arm"), Panel(Group(*latest), title="the latest"))


def study_progress_text(progress: StudyProgress) -> str:
    """The progress of a study: `[12/320] 4:12 left`."""
    arms, left = progress.arms(), progress.seconds_left()
    return f"[{progress.done}/{sum(total for _, total in arms.values())}]" + (
        f" {duration(left)} left" if left is not None else ""
    )


def answer(event: Mapping) -> str:
    """An answer as text: `arm · item · “question” → “ violin.” 62%`, or with the sampled text.

    Of an arm that is a run or a training, it is its last line or step.
    """
    if event["event"] == "arm":
        return clean(f"{event['arm']} · {event['detail']}")
    if "nats" in event:
        p = OptionScores(tuple(event["nats"]), tuple(event["tokens"])).p
        answer_text = f"“{event['options'][int(p.argmax())]}” {p.max():.0%}"
    else:
        answer_text = f"“{event['text']}”"
    return clean(f"{event['arm']} · {event['item']} · “{question_text(event)}” → {answer_text}")
