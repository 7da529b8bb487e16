"""Copies the folders of trials from the nodes that play them to the sweep's folder."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SEND_EVERY_S = 30.0
PART = 64 * 2**20  # bytes of a file that travel at once


@dataclass(frozen=True)
class Home:
    """The location of the sweep's folder, for a trial on any machine."""

    folder: str
    run_id: str
    storage: str | None
    threads: int

    def shared(self) -> bool:
        """Whether this machine can read the sweep's folder directly."""
        from lab.store.run_store import read_manifest

        with contextlib.suppress(ValueError, OSError):
            return not self.storage and read_manifest(self.folder)["run_id"] == self.run_id
        return False


class SentFolder:
    """A trial's folder on a machine without the sweep's disk, and which of its files have been sent."""

    def __init__(self, home: Home, trial: str, folder: Path) -> None:
        self._home, self._trial, self._folder = home, trial, folder
        self._known: dict[Path, tuple[int, int]] = {}
        self.last = time.monotonic()

    def send_all(self, say: Callable[[dict], None]) -> None:
        """Sends the files that have changed since the last call: to the storage, or else through `say`, in parts of
        `PART` bytes.
        """
        import ray
        from pyarrow import fs

        from lab.store.run_store import MANIFEST

        self.last = time.monotonic()
        if self._home.storage:
            there, place = self._place()
            there.create_dir(place, recursive=True)
            fs.copy_files(str(self._folder), place, destination_filesystem=there)
            return
        files = (path for path in self._folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        for path in sorted(files, key=lambda path: (path == self._folder / MANIFEST, path)):  # it says what is there
            stat = path.stat()
            if self._known.get(path) == (stat.st_mtime_ns, stat.st_size):
                continue
            self._known[path] = stat.st_mtime_ns, stat.st_size
            with path.open("rb") as file:
                data, first = file.read(PART), True
                while data or first:
                    say({"part": (str(path.relative_to(self._folder)), first, ray.put(data))})
                    data, first = file.read(PART), False

    def bring_back(self) -> None:
        """Replaces the local folder by the storage's where that has the longer event log, since another machine may
        have resumed the trial.
        """
        from pyarrow import fs

        from lab.store.event_log import EVENTS

        if not self._home.storage:
            return
        there, place = self._place()
        log, here = there.get_file_info(f"{place}/{EVENTS}"), self._folder / EVENTS
        if log.type != fs.FileType.NotFound and log.size > (here.stat().st_size if here.is_file() else -1):
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True, exist_ok=True)
            fs.copy_files(place, str(self._folder), source_filesystem=there)

    def _place(self) -> tuple:
        """The storage's file system, and the path of the trial's folder in it."""
        from pyarrow import fs

        there, root = fs.FileSystem.from_uri(self._home.storage)
        return there, f"{root.rstrip('/')}/{self._home.run_id}/trials/{self._trial}"
