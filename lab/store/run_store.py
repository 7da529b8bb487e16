"""Run folders: how events and frames are written, and how a stopped run is opened again.

Every event is one line appended to events.jsonl in one write; manifest and frames are replaced as a whole (temporary
file, fsync, rename). A process killed at any moment loses at most the line in progress, and a write that fails leaves
the old file. One process holds a run at a time (flock on `.lock`, which the kernel releases when the process dies).
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import platform
import re
import secrets
import subprocess
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import polars as pl

from lab.store.atomic_write import StoreError, dumps, failure, replace, write_all
from lab.store.event_log import EVENTS, check_folder, now, read_events, whole_events
from lab.store.frames import (
    ACTIVATIONS,
    CUT,
    JUDGEMENTS,
    METRICS,
    TURNS,
    Totals,
    conform,
    fold,
    frames_of,
    judgements_frame,
    turns_frame,
)
from lab.store.manifest import checked_manifest
from lab.store.stored_frames import DamagedFrame, read_stored
from scenarios.input_files import kind_of_entry

MANIFEST, SCENARIO, SWEEP, LOCK = "manifest.json", "scenario.yaml", "sweep.yaml", ".lock"
FRAMES = {"turns": TURNS, "judgements": JUDGEMENTS, "metrics": METRICS, "activations": ACTIVATIONS}
STATUSES = ("finished", "failed", "interrupted")
PACKAGES = ("torch", "transformers", "ray", "polars")
SYNC_EVERY_S = 1.0  # events reach the disk itself (fsync) this often; the kernel has them at once
AT_ONCE = 4000  # events of finished conversations that become frames together
FLUSH_SHARE = 0.05  # frames are rewritten as they grow, but never for more than this share of the time


def create(
    runs_dir: str | Path,
    scenario_name: str,
    scenario_yaml: str,
    seed: int,
    digest: str,
    *,
    folder: str | Path | None = None,
    device: str | None = None,
    dtype: str | None = None,
    file: str = SCENARIO,
    **fields: object,
) -> RunStore:
    """A new folder `<UTC time>-<name>-<4 hex digits>` below `runs_dir`, or `folder` itself, locked by this process.

    `file` is the name of the YAML file in it; `fields` are added to the manifest, which is written last. Raises
    StoreError where nothing can be written, ValueError where `folder` is not empty.
    """
    path = _empty_folder(Path(folder)) if folder else _new_folder(Path(runs_dir), scenario_name)
    manifest = {
        "run_id": path.name,
        "status": "running",
        "reason": None,
        "scenario": scenario_name,
        "digest": digest,
        "seed": seed,
        "versions": _versions(),
        "git_revision": git_revision(),
        "device": device,
        "dtype": dtype,
        "models": {},
        "started": now(),
        "finished": None,
        "resumed": [],
        "counts": {},
        "tokens": {},
        "seconds": {},
        **fields,
    }
    lock = _hold(path)
    try:
        replace(path / file, scenario_yaml.encode())
        return RunStore(path, manifest, lock)
    except StoreError:
        os.close(lock)
        raise


def open_for_resume(run_dir: str | Path) -> RunStore:
    """The run in `run_dir`, locked by this process, without an incomplete last event; its events are in `earlier`.

    Raises ValueError where the folder is no run, another process holds it, or a line before the last is damaged.
    """
    path = Path(run_dir)
    read_manifest(path)  # names what is missing before a lock file is left in some other folder
    refuse_strange_entries(path)
    lock = _hold(path)
    try:
        manifest = read_manifest(path)
        with (path / EVENTS).open("rb") as file:
            whole = list(whole_events(file, path / EVENTS))
        events, good = [event for event, _ in whole], whole[-1][1] if whole else 0
        if good < (path / EVENTS).stat().st_size:
            os.truncate(path / EVENTS, good)
        manifest |= {
            "status": "running",
            "reason": None,
            "finished": None,
            "resumed": [*manifest.get("resumed", []), now()],
        }
        return RunStore(path, manifest, lock, events)
    except OSError as error:
        os.close(lock)
        raise failure(path / EVENTS, error) from error
    except ValueError:
        os.close(lock)
        raise


def read_manifest(run_dir: str | Path) -> dict:
    """The manifest of a run. Raises ValueError, with what is missing or damaged, where `run_dir` is no run."""
    path = Path(run_dir)
    check_folder(path)
    settings = SWEEP if (path / SWEEP).is_file() else SCENARIO
    missing = [name for name in (MANIFEST, settings, EVENTS) if not (path / name).is_file()]
    if missing:
        raise ValueError(f"{path} is no run: it has no {', no '.join(missing)}")
    return checked_manifest(path / MANIFEST)


def refuse_strange_entries(run_dir: str | Path) -> None:
    """Raises ValueError where a run's folder holds a symbolic link, since writing would change a file outside of the
    run, or a pipe, a device or a socket, which would block what opens it.
    """
    expected = "expected files in the run's folder, since nothing else is written to"
    for entry in Path(run_dir).rglob("*"):
        if entry.is_symlink():
            raise ValueError(f"{entry} is a link to {os.readlink(entry)}; {expected}")
        if not entry.is_dir() and (kind := kind_of_entry(entry.lstat().st_mode)):
            raise ValueError(f"{entry} is {kind}; {expected}")


def read_frames(run_dir: str | Path) -> dict[str, pl.DataFrame]:
    """The frames turns, judgements and metrics of a run; metrics have no rows before the run is measured.

    Those of a finished run are its files; of any other run, turns and judgements are built from its events. Raises
    ValueError.
    """
    path = Path(run_dir)
    manifest = read_manifest(path)
    metrics = read_stored(path / "metrics.parquet", METRICS, optional=True)
    stored = {name: path / f"{name}.parquet" for name in ("turns", "judgements")}
    if manifest.get("status") == "finished" and all(file.is_file() for file in stored.values()):
        with contextlib.suppress(DamagedFrame):  # which is built from the events again
            return {name: read_stored(file, FRAMES[name]) for name, file in stored.items()} | {"metrics": metrics}
    run_id, events = manifest["run_id"], read_events(path)
    return {"turns": turns_frame(run_id, events), "judgements": judgements_frame(run_id, events), "metrics": metrics}


def write_frame(path: str | Path, frame: pl.DataFrame) -> None:
    """Replaces the parquet file at `path` as a whole. Raises StoreError, with the old file unchanged."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    replace(Path(path), buffer.getbuffer())


class RunStore:
    """An open run: `path`, `run_id`, `manifest`, and `earlier`, the events that were stored before it was reopened."""

    def __init__(self, path: Path, manifest: dict, lock: int, earlier: Iterable[dict] = ()):
        self.path, self.run_id, self.manifest = path, manifest["run_id"], manifest
        self._spoken = not (path / SWEEP).is_file()  # a sweep's lines are in its trials' folders
        self.earlier = list(earlier)
        self._lock, self._events = lock, -1
        # of each conversation, the last `line` and `judged` event of each turn
        self._open: dict[int, dict[tuple, dict]] = {}
        self._finished: list[dict] = []  # such events of finished conversations, AT_ONCE at most
        self._settled: list[dict[str, pl.DataFrame]] = []  # the frames of earlier ones, far smaller than events
        self._totals, self._begun = Totals(), False
        self._synced = self._flushed = time.monotonic()
        self._flush_took = 0.0
        for event in self.earlier:
            self._fold(event)
        for conversation in list(self._open):
            self._settle(conversation)
        try:
            self._events = os.open(path / EVENTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        except OSError as error:
            raise failure(path / EVENTS, error) from error
        self.update_manifest()

    def append(self, event: dict, *, sync: bool = False) -> dict:
        """`append_all` for one event."""
        return self.append_all([event], sync=sync)[0]

    def append_all(self, events: Sequence[dict], *, sync: bool = False) -> list[dict]:
        """Writes events, each with its `time`, now where it has none, and returns them as written.

        Raises StoreError where they cannot be written, with the log unchanged, and ValueError after `close`.
        """
        time_now = now()
        events = [{"event": event["event"], "time": event.get("time") or time_now, **event} for event in events]
        if self._events < 0:
            raise ValueError(f"{self.path} is closed; open_for_resume opens it again")
        size = os.fstat(self._events).st_size
        try:
            write_all(self._events, b"".join(dumps(event) + b"\n" for event in events))
            if sync or time.monotonic() - self._synced >= SYNC_EVERY_S:
                os.fsync(self._events)
                self._synced = time.monotonic()
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._events, size)
            raise failure(self.path / EVENTS, error, self._lines) from error
        for event in events:
            self._fold(event)
            if event["event"] == "conversation":
                self._settle(event["conversation"])
        return events

    def frames(self) -> dict[str, pl.DataFrame]:
        """The frames `turns` and `judgements` of all events of the run, and `activations` where there are any."""
        events = [event for by_turn in self._open.values() for event in by_turn.values()]
        under_way = frames_of(self.run_id, [*self._finished, *events])
        if self._settled:
            self._settled = [{name: pl.concat([settled[name] for settled in self._settled]) for name in under_way}]
        frames = {
            name: pl.concat([*(settled[name] for settled in self._settled), frame]).sort(
                "conversation", maintain_order=True
            )
            for name, frame in under_way.items()
        }
        if frames["activations"].is_empty():
            del frames["activations"]
        return frames

    def write_frames(self, **frames: pl.DataFrame) -> None:
        """Replaces turns.parquet and judgements.parquet (built from the events unless given) and any other frame given.

        `run_id` is added where a frame lacks it. Raises ValueError for an unknown name or other columns; StoreError.
        """
        for name, frame in ((self.frames() if self._spoken else {}) | frames).items():
            if name not in FRAMES:
                raise ValueError(f"no frame is called {name!r}; expected one of {', '.join(FRAMES)}")
            kept = conform(name, frame.drop(CUT, strict=False), FRAMES[name], self.run_id)
            try:
                write_frame(self.path / f"{name}.parquet", kept)
            except StoreError as error:
                cause = error.__cause__
                assert isinstance(cause, OSError)  # which is what a StoreError is made from
                raise failure(self.path / f"{name}.parquet", cause, self._lines) from cause

    def maybe_flush(self, seconds: float = 5.0) -> bool:
        """Rewrites frames and manifest if `seconds` have passed since, more where that is slow; whether it did."""
        began = time.monotonic()
        if began - self._flushed < max(seconds, self._flush_took / FLUSH_SHARE):
            return False
        self.write_frames()
        self.update_manifest()
        self._flushed = time.monotonic()
        self._flush_took = self._flushed - began
        return True

    def update_manifest(self, **fields: object) -> None:
        """Replaces manifest.json: `fields`, and counts, tokens, seconds by phase of the events. Raises StoreError."""
        self.manifest |= self._totals.as_fields() | fields
        replace(self.path / MANIFEST, dumps(self.manifest, indent=2) + b"\n", self._lines)

    def finish(
        self, status: str, reason: str | None = None, *, metrics: pl.DataFrame | None = None, **fields: object
    ) -> None:
        """Writes all files and closes the run. `status` is finished, failed or interrupted, else ValueError. Raises
        StoreError.
        """
        if status not in STATUSES:
            raise ValueError(f"a run cannot end as {status!r}; expected one of {', '.join(STATUSES)}")
        try:
            self.write_frames(**({} if metrics is None else {"metrics": metrics}))
            self.update_manifest(status=status, reason=reason, finished=now(), **fields)
        finally:
            self.close()

    def close(self) -> None:
        """Releases the lock; the status stays as it is. May be called again."""
        for handle in (self._events, self._lock):
            if handle >= 0:
                os.close(handle)
        self._events = self._lock = -1

    def __enter__(self) -> RunStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _lines(self) -> int | None:
        """The number of finished lines; None for a sweep, a study or a training."""
        spoken = self._totals.lines or self._totals.header.get("conversations") or not self._begun
        return self._totals.lines if spoken else None

    def _fold(self, event: dict) -> None:
        if event["event"] in ("line", "judged"):
            fold(self._open.setdefault(event["conversation"], {}), event)
        self._totals.add(event)
        self._begun = True

    def _settle(self, conversation: int) -> None:
        """Keeps a finished conversation as frames in place of its events."""
        if self._totals.is_whole(conversation):
            self._finished += self._open.pop(conversation).values()
            self._totals.settle(conversation)
        if len(self._finished) > AT_ONCE:
            self._settled.append(frames_of(self.run_id, self._finished))
            self._finished = []


def git_revision() -> str | None:
    """The commit of this code, with `-dirty` where files differ from it; None where it is not in a git repository."""
    here = Path(__file__).parent
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    for command in (["git", "ls-files", "--error-unmatch", Path(__file__).name], describe):
        try:
            done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode:
            return None
    return done.stdout.strip()


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def _new_folder(runs_dir: Path, name: str) -> Path:
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:60] or "run"
    try:
        while True:
            stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
            path = runs_dir / f"{stamp}-{slug}-{secrets.token_hex(2)}"
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                if not runs_dir.is_dir():  # a file stands where the folder should be
                    raise
                continue
            return path
    except OSError as error:
        raise failure(runs_dir / "a new run", error, 0) from error


def _empty_folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise ValueError(f"{path} holds something already; expected a new folder or an empty one")
    except OSError as error:
        raise failure(path, error, 0) from error
    return path


def _hold(path: Path) -> int:
    """The descriptor of the lock file. Raises ValueError where another process holds the run."""
    try:
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise failure(path / LOCK, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if not isinstance(error, BlockingIOError):
            raise failure(path / LOCK, error) from error
        raise ValueError(f"{path} is being written by another process; wait for it, or stop it first") from error
    return lock
