"""Is anything lost or done twice when a run or training is killed? `python -m lab.selftest --kill N [FILE] [key=value
...]`.

The run is played once without interruption, and then N more times. Each of these is killed (SIGKILL, with every process
that it started) at a moment drawn between the appearance of its folder and its end, resumed with --resume, and compared
with the uninterrupted run: every frame, the adapter of a training, and that every line has one event. Everything runs
in float32, in separate processes.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import polars as pl

from lab.store.event_log import read_events, stream_events
from lab.store.output import say
from lab.store.run_store import read_frames
from scenarios.records import derive_seed
from scenarios.yaml_files import read_yaml

FILE = "scenarios/long_dialogue.yaml"
# of FILE
SMALL = (
    "conversations=2",
    "turns=8",
    "seats.assistant.max_tokens=12",
    "seats.user.max_tokens=12",
    "seats.user.temperature=0",
)
CLOSE = (
    1e-3  # most by which numbers may differ: a run that goes on reads in larger batches, and so sums in another order
)
CLOSE_WEIGHTS = 1e-5
OWN = ("run_id", "seconds", "seconds_play", "seconds_learn")  # columns that no two runs share
POLL_S = 0.005
TRIPPED = 1  # the exit code of a training that a tripwire ended


class Process(Protocol):
    """The part of subprocess.Popen that is used; the process leads a process group of its own."""

    pid: int

    def poll(self) -> int | None: ...

    def wait(self) -> int: ...


Start = Callable[[str, Sequence[str]], Process]  # command, arguments


@dataclass(frozen=True)
class Kill:
    """The result of one kill and resume."""

    moment: float  # seconds after the folder appeared
    there: str  # what its folder held at the kill
    after: str  # what the resumed run added
    apart: str  # the first difference from the uninterrupted run; "" for none


def kill_and_report(file: str | None, overrides: Sequence[str], times: int, seed: int, address: str) -> int:
    """Prints one line per kill. Returns the exit code: 0 where nothing was lost or done twice, else 1.

    Raises ValueError like `kills`.
    """
    if times < 1:
        raise ValueError(f"--kill is {times}; expected 1 or more")
    if file is None or "=" in file:
        overrides, file = [*SMALL, *filter(None, (file,)), *overrides], FILE
    apart = 0
    for number, kill in enumerate(kills(file, overrides, times, seed, address), start=1):
        say(kill_text(number, kill), flush=True)
        apart += bool(kill.apart)
    ended = (
        f"FAILED, {apart} gave other results than the uninterrupted run" if apart else "nothing is lost or done twice"
    )
    say(f"{times} kills: {ended}")
    return int(apart > 0)


def start(command: str, arguments: Sequence[str]) -> subprocess.Popen:
    """Starts a command of the lab in a process group of its own, with its output discarded."""
    return subprocess.Popen(
        [sys.executable, "-m", f"lab.{command}", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def kills(
    file: str, overrides: Sequence[str], times: int, seed: int, address: str = "none", begin: Start = start
) -> Iterator[Kill]:
    """Kills and resumes the run `times` times, and yields the result of each.

    Raises ValueError where the file cannot be played or a killed run cannot be resumed.
    """
    told_by = read_yaml(file).data
    if other := next((key for key in ("study", "axes") if key in told_by), None):
        raise ValueError(
            f"{file} holds {other!r}; expected a scenario or a training, whose lines and steps can be compared"
        )
    command = "train" if "scenario" in told_by else "run"
    how = ["--address", address, "--display", "none"]
    arguments = [file, *overrides, "dtype=float32", *how]
    draw = random.Random(derive_seed(seed, "kill"))
    with tempfile.TemporaryDirectory(prefix="lab-kill-") as folder:
        undisturbed, spent = _left_alone(begin, command, arguments, Path(folder) / "undisturbed")
        for number in range(times):
            moment, runs = draw.uniform(0, spent), Path(folder) / str(number)
            run = _killed(begin(command, [*arguments, "--runs", str(runs)]), runs, moment)
            if not (
                run / "manifest.json"
            ).is_file():  # not a run yet: there is nothing to go on from, and nothing that was said
                yield Kill(
                    moment, "nothing yet", "", "" if not (run / "events.jsonl").exists() else "events, but no manifest"
                )
                continue
            there, before = _state_text(run), _counts_by_kind(run)
            _finished(
                begin(command, ["--resume", str(run), *how]),
                f"killed after {moment:.2f} s ({there}), it could not be resumed",
            )
            after = {name: count - before.get(name, 0) for name, count in _counts_by_kind(run).items()}
            yield Kill(
                moment, there, ", ".join(f"{count} {name}" for name, count in after.items()), _apart(run, undisturbed)
            )


def kill_text(number: int, kill: Kill) -> str:
    """The result of one kill as a line of text."""
    return (
        f"{number:3}  killed after {kill.moment:6.2f} s   {kill.there:<40} "
        f"{'then ' + kill.after if kill.after else '':<24} {'DIFFERENT: ' + kill.apart if kill.apart else 'same'}"
    )


def _left_alone(begin: Start, command: str, arguments: Sequence[str], runs: Path) -> tuple[Path, float]:
    """Plays the uninterrupted run; returns its folder, and the seconds from the folder's appearance to the end."""
    process = begin(command, [*arguments, "--runs", str(runs)])
    path = _appears(process, runs)
    began = time.monotonic()
    _finished(process, "the uninterrupted run failed")
    return path, time.monotonic() - began


def _killed(process: Process, runs: Path, moment: float) -> Path:
    """The folder of a run that was killed `moment` seconds after its folder appeared, or that had ended by then."""
    path = _appears(process, runs)
    until = time.monotonic() + moment
    while time.monotonic() < until and process.poll() is None:
        time.sleep(POLL_S)
    with contextlib.suppress(ProcessLookupError):  # it has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return path


def _appears(process: Process, runs: Path) -> Path:
    while not (folders := list(runs.glob("*"))):
        if process.poll() is not None:
            raise ValueError(
                f"it ended with exit code {process.poll()} and left no folder; expected a file that runs to its end: "
                "try it without --kill"
            )
        time.sleep(POLL_S)
    return folders[0]


def _finished(process: Process, otherwise: str) -> None:
    if (code := process.wait()) not in (0, TRIPPED):
        raise ValueError(f"{otherwise}: exit code {code}; expected 0")


def _state_text(run: Path) -> str:
    """What a run's folder holds: the number of lines or steps, of checkpoints, and the phase that it was in."""
    phases = [event["phase"] for event in read_events(run) if event["event"] == "phase"]
    counts = [f"{count} {name}" for name, count in _counts_by_kind(run).items()]
    ended = any(event["event"] == "ended" for event in read_events(run))
    return ", ".join([*counts, "ended" if ended else f"in {phases[-1]}" if phases else "before loading"])


def _counts_by_kind(run: Path) -> dict[str, int]:
    """The number of lines, or of steps and checkpoints."""
    kinds = Counter(event["event"] for event in stream_events(run))
    if (run / "checkpoints").is_dir() or kinds["step"]:
        return {"steps": kinds["step"], "checkpoints": len(list((run / "checkpoints").glob("step-*")))}
    return {"lines": kinds["line"]}


def _apart(run: Path, other: Path) -> str:
    """The first difference between two folders, as text; "" for none."""
    once = Counter(
        (event["event"], event["conversation"], event["turn"], event.get("by"))
        for event in stream_events(run)
        if event["event"] in ("line", "judged")
    )
    if twice := [key for key, count in once.items() if count > 1]:
        return f"{twice[0][0]} of conversation {twice[0][1]}, turn {twice[0][2]} is in the log {once[twice[0]]} times"
    sides = [_frames(folder) for folder in (run, other)]
    for name, frame in sides[1].items():
        if difference := _unequal(sides[0].get(name), frame):
            return f"{name}: {difference}"
    return _weights_apart(run / "adapter", other / "adapter")


def _frames(run: Path) -> dict[str, pl.DataFrame]:
    trained = {
        path.stem: pl.read_parquet(path)
        for path in (run / "training.parquet", run / "evaluation.parquet")
        if path.is_file()
    }
    return trained or read_frames(run)


def _unequal(actual: pl.DataFrame | None, wanted: pl.DataFrame) -> str:
    from polars.testing import assert_frame_equal

    if actual is None:
        return "is missing"
    try:
        assert_frame_equal(actual.drop(OWN, strict=False), wanted.drop(OWN, strict=False), abs_tol=CLOSE)
    except AssertionError as error:
        return " ".join(str(error).split())[:200]
    return ""


def _weights_apart(folder: Path, other: Path) -> str:
    from safetensors.numpy import load_file

    for path in sorted(other.rglob("*.safetensors")):
        mine = folder / path.relative_to(other)
        if not mine.is_file():
            return f"{path.name} is missing"
        actual, wanted = load_file(mine), load_file(path)
        if actual.keys() != wanted.keys():
            return f"{path.name} holds other weights"
        furthest = max(float(abs(actual[name] - wanted[name]).max()) for name in wanted)
        if not furthest <= CLOSE_WEIGHTS:
            return f"{path.name}: weights differ by up to {furthest:.1e}"
    return ""
