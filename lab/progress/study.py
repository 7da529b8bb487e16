"""The state of a study, as a pure fold of its events."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from lab.store.event_log import moment

LATEST = 5  # answers shown
ENOUGH = 8  # answers before a pace is estimated: the first ones arrive together


@dataclass
class StudyProgress:
    """The state of a study after its events so far.

    - `clock`, `began`: the time of the last event, and of this execution's first question, in seconds since 1970.
    - `before`: the number of answers at `began`.
    - `printed_at`: the time at which the plain display last printed the progress.
    """

    header: dict = field(default_factory=dict)  # the `started` event
    phase: str = "starting"
    answered: dict[str, int] = field(default_factory=dict)  # by arm; of a run or a training lines or steps
    latest: deque[dict] = field(default_factory=lambda: deque(maxlen=LATEST))
    began: float | None = None
    before: int = 0
    clock: float = 0.0
    printed_at: float = 0.0

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
        """The number of answers so far, with the lines and steps of arms that are runs and trainings."""
        return sum(self.answered.values())

    def arms(self) -> dict[str, tuple[int, int]]:
        """(answers so far, expected answers) by arm; where answers led to further questions, more are expected than
        planned.
        """
        planned: Mapping[str, int] = self.header.get("arms") or {}
        done = {arm: self.answered.get(arm, 0) for arm in {**planned, **self.answered}}
        return {arm: (count, max(planned.get(arm, 0), count)) for arm, count in done.items()}

    def seconds_left(self) -> float | None:
        """Seconds left at the average rate of this execution; None before it has enough answers."""
        left = sum(total - done for done, total in self.arms().values())
        if self.began is None or self.done - self.before < ENOUGH or not self.phase.startswith("asking"):
            return None
        return (self.clock - self.began) / (self.done - self.before) * left


@dataclass
class ArmProgress:
    """The progress of an arm that is a run or a training; `done` counts lines, or steps and evaluation conditions."""

    done: int
    max_steps: int = 0  # of a training

    def fold(self, event: dict) -> str | None:
        """Counts the event. Returns a text that describes it; None for an event that says nothing of the progress."""
        kind = event["event"]
        evaluating = kind == "phase" and event["phase"] == "evaluating"
        self.done += evaluating or kind in ("line", "step")
        if evaluating:
            return f"evaluating: {event['detail']}"
        if kind == "line":
            return f"#{event['conversation']} {event['seat']}: {event['text']}"
        if kind == "step":
            reward = event.get("reward")
            suffix = f", reward {reward:.3f}" if reward is not None else ""
            return f"step {event['step'] + 1}/{self.max_steps}{suffix}"
        if kind == "collected":
            return f"dialogues {event['batch'] + 1}/{event['batches']} to learn from"
        if kind in ("stopped", "recovered"):
            return event.get("reason") or event.get("detail") or kind
        return None
