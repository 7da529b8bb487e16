"""The state of a training, as a pure fold of its events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lab.store.event_log import moment

PART = "reward_"  # how the means of a reward's parts begin
SHOWN = {
    "reward": "reward",
    "reward_prompt_to_line": "prompt-to-line",
    "reward_line_to_line": "line-to-line",
    "reward_qa": "Q&A",
    "reward_relevance": "relevance",
    "penalised": "tripwires tripped",
    "kl": "KL, nats per token",
    "ratio": "ratio",
    "entropy": "entropy",
    "length": "tokens per line",
    "grad_norm": "gradient norm",
    "loss": "loss",
}


@dataclass
class TrainingProgress:
    """The state of a training after its events so far.

    `clock` is the time of the last event, and `began` the beginning of this execution, in seconds since 1970.
    """

    steps: list[dict] = field(default_factory=list)
    phase: str = "loading"
    stopped: str = ""
    began: float = 0.0
    clock: float = 0.0

    def fold(self, event: dict) -> None:
        """Folds an event. A step that is repeated after a checkpoint replaces the earlier one, and removes all later
        steps.
        """
        self.clock = max(self.clock, moment(event))
        if event["event"] == "started":
            self._forget(event.get("first", 0))
        elif event["event"] == "step":
            self._forget(event["step"])
            self.steps.append(event)
        elif event["event"] == "phase":
            self.phase = f"{event['phase']} {event.get('detail', '')}"
            if event["phase"] == "loading":
                self.began, self.stopped = moment(event), ""
        elif event["event"] == "collected":
            self.phase = collected_text(event)
        elif event["event"] == "stopped":
            self.stopped = f"stopped after step {event['step']}: {event['reason']}"
        elif event["event"] == "ended":
            self.phase = event["status"] + (f": {event['reason']}" if event.get("reason") else "")

    def _forget(self, step: int) -> None:
        while self.steps and self.steps[-1]["step"] >= step:
            self.steps.pop()


def steps_before(events: Iterable[dict], done: int) -> list[dict]:
    """The `step` events of the first `done` steps; of a repeated step, the last event."""
    progress = TrainingProgress()
    for event in events:
        progress.fold(event)
    return [step for step in progress.steps if step["step"] < done]


def numbers_text(event: Mapping) -> str:
    """The figures of a `step` or `collected` event, as text."""
    added = {
        key: key.removeprefix(PART).replace("_", " ") for key in event if key.startswith(PART) and key not in SHOWN
    }
    shown = SHOWN | added  # which are parts that installed packages bring
    return "  ".join(f"{name} {short_number(event[key])}" for key, name in shown.items() if is_number(event.get(key)))


def collected_text(event: Mapping) -> str:
    """A `collected` event as text."""
    return f"played by the untouched {event['seat']} {event['batch'] + 1}/{event['batches']}  {numbers_text(event)}"


def is_number(value: object) -> bool:
    """Whether the value is a number other than NaN."""
    return isinstance(value, (int, float)) and value == value


def short_number(value: float) -> str:
    """The value with at most three decimals, or with four significant digits below 0.01."""
    return f"{value:.4g}" if abs(value) < 0.01 else f"{value:.3f}".rstrip("0").rstrip(".")
