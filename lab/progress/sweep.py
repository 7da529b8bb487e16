"""The state of a sweep and of each of its trials, as a pure fold of its events."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lab.store.event_log import moment
from scenarios.jobs.sweep import Best

WAITING, RUNNING, DONE = "waiting", "running", ("finished", "stopped")


@dataclass
class TrialProgress:
    """The state of a trial. `began` is in seconds since 1970; `seconds` is its duration."""

    values: Mapping[str, Any]
    status: str = WAITING  # or running, finished, stopped (by the scheduler), failed, again (it will be tried again)
    reason: str | None = None
    node: str | None = None
    attempts: int = 0
    lines: int = 0
    of: int = 0
    step: int = 0
    numbers: Mapping[str, float] = field(default_factory=dict)  # of a training's last step
    metrics: Sequence[Mapping] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    verdict: str | None = None  # of a study
    seconds: float | None = None
    began: float = 0.0

    @property
    def done(self) -> bool:
        """Whether the trial needs no further work. A trial with failed dialogues is not done: a resumed sweep repeats
        them.
        """
        return self.status in DONE and not self.counts.get("failed")

    def __str__(self) -> str:
        """`key=value` pairs, each key shortened to its last part unless two keys share that part."""
        short = [key.rpartition(".")[2] for key in self.values]
        names = [name if short.count(name) == 1 else key for key, name in zip(self.values, short, strict=True)]
        return " ".join(
            f"{name}={json.dumps(value, ensure_ascii=False)}"
            for name, value in zip(names, self.values.values(), strict=True)
        )


@dataclass
class SweepProgress:
    """The state of a sweep after its events so far.

    `clock` and `began` are in seconds since 1970; `cores` are the CPU cores of all nodes, `free` those not in use.
    """

    trials: dict[str, TrialProgress] = field(default_factory=dict)
    name: str = ""
    phase: str = ""
    began: float = 0.0
    clock: float = 0.0
    nodes: int = 0
    cores: float = 0.0
    free: float = 0.0

    def fold(self, event: dict) -> None:
        self.clock = max(self.clock, moment(event)) if "time" in event else self.clock
        kind = event["event"]
        if kind == "sweep":
            self.name, self.began = event["name"], self.clock
            before, self.trials = self.trials, {}
            for trial, values in event["trials"].items():
                seen = self.trials[trial] = before.get(trial) or TrialProgress(values)
                seen.values = values
                if seen.status == RUNNING:  # the earlier session ended while it ran
                    seen.status = WAITING
        elif kind in ("trial", "reported", "progress") and event["trial"] not in self.trials:
            return  # which no `sweep` named
        elif kind == "trial":
            self._trial(self.trials[event["trial"]], event)
        elif kind in ("reported", "progress"):
            seen = self.trials[event["trial"]]
            seen.lines, seen.of = event["lines"], event["of"]
            seen.step, seen.numbers = event.get("step", seen.step), event.get("numbers", seen.numbers)
        elif kind == "nodes":
            self.nodes, self.cores, self.free = event["nodes"], event["cores"], event["free"]
        elif kind == "phase":
            self.phase = event["phase"] + (f" for a node: {event['detail']}" if event["phase"] == WAITING else "")
        elif kind == "ended":
            self.phase = event["status"] + (f": {event['reason']}" if event.get("reason") else "")

    def _trial(self, seen: TrialProgress, event: dict) -> None:
        seen.status, seen.reason = event["status"], event.get("reason")
        if seen.status == RUNNING:
            seen.attempts, seen.node, seen.began = seen.attempts + 1, event.get("node"), self.clock
        if seen.status == "finished":
            seen.metrics, seen.counts = event.get("metrics", ()), event.get("counts", {})
            seen.seconds = event.get("seconds")
            seen.reason, seen.verdict = event.get("stopped"), event.get("verdict")
        elif seen.status == "failed":
            # it had finished before except for failed dialogues; those results no longer hold
            seen.metrics, seen.counts, seen.seconds, seen.verdict = (), {}, None, None

    def count(self, *statuses: str) -> int:
        """The number of trials with one of these statuses."""
        return sum(seen.status in statuses for seen in self.trials.values())

    def best(self, by: Best) -> tuple[TrialProgress, Mapping] | None:
        """The best finished trial by that metric and seat, and its row of that metric; None where none has a value."""
        candidates = [
            (row["value"], place, seen, row)
            for place, seen in enumerate(self.trials.values())
            for row in seen.metrics
            if seen.status == "finished"
            and (row["metric"], row["seat"]) == (by.metric, by.seat)
            and row["value"] is not None
            and row["value"] == row["value"]
        ]
        if not candidates:
            return None
        *_, seen, row = (max if by.mode == "max" else min)(
            candidates, key=lambda candidate: (candidate[0], -candidate[1] if by.mode == "max" else candidate[1])
        )
        return seen, row
