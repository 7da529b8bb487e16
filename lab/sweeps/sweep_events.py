"""From the messages of trials to the events of a sweep, which are stored or only shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from scenarios.messages import hidden

if TYPE_CHECKING:
    from lab.progress.sweep import SweepProgress


@dataclass
class SweepEvents:
    """Turns the messages of trials into events of the sweep, which are stored (`emit`) or only shown (`show`)."""

    folder: Path
    emit: Callable[..., None]
    progress: SweepProgress
    show: Callable[[dict], None]

    def receive(self, trial: str, message: Mapping) -> None:
        """Handles a message of a trial: its node, its outcome, a step's numbers, its number of lines, or a part of a
        file.
        """
        if "node" in message:
            self.emit("trial", trial=trial, status="running", node=message["node"])
        elif "outcome" in message:
            self.emit("trial", trial=trial, status="finished", **message["outcome"])
        elif "numbers" in message:
            self.emit("reported", trial=trial, **message)
        elif "lines" in message:  # often, and nothing that --resume wants to know
            self.show({"event": "progress", "trial": trial, **message})
        elif "part" in message:
            self._keep(trial, *message["part"])

    def trial_ended(self, trial: str, status: str, reason: str) -> None:
        """Stores that a trial ended without an outcome; `status` is again, failed or stopped."""
        self.emit("trial", trial=trial, status=status, reason=hidden(reason))

    def cluster_state(self, alive: int, cores: float, free: float) -> None:
        """Stores the state of the cluster where the number of living nodes changed; otherwise only shows it."""
        event = {"nodes": alive, "cores": cores, "free": free}
        if alive != self.progress.nodes:
            self.emit("nodes", **event)
        else:
            self.show({"event": "nodes", **event})

    def _keep(self, trial: str, name: str, first: bool, reference) -> None:
        """Writes a part of a file from the folder of a trial on a machine that does not share this disk."""
        import ray
        from ray.exceptions import RayError

        from lab.sweeps.trial import TRIALS

        try:
            data = cast("bytes", ray.get(reference))
        except RayError:  # its node has gone meanwhile, and the trial is tried again
            return
        path = self.folder / TRIALS / trial / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb" if first else "ab") as file:
            file.write(data)
