"""An event log, read while another process writes it."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

from lab.store.event_log import LONGEST, NO_EVENT, TOO_LONG, EventError, event_of
from scenarios.input_files import regular

CHUNK = 2**20  # bytes read at once
END = 2**16  # bytes of a log among which its last event is looked for


class Log:
    """The complete events of a log, each returned once.

    `line` is the number of the last one returned. `begun_again` counts how often the file was replaced or had become
    shorter than what was read, and was therefore read from its start. A last line that is incomplete or no event is not
    returned: it is still being written, or a resumed run will cut it off.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.line, self.begun_again = path, 0, 0
        self._taken, self._file = 0, -1  # bytes of whole events, and the file's number
        self._lines: deque[bytes] = deque()
        self._last = b""  # what was read behind those lines

    def next(self) -> dict | None:
        """The next event, or None while there is none. Raises ValueError for a damaged line before the last, an event
        that its kind does not allow, or an unreadable log.
        """
        if not self._lines:
            self._read()
        event = self._first()
        if event is None and self._lines:
            self._read()  # it may have been cut away since
            event = self._first()
            if event is None and (len(self._lines) > 1 or (self._lines and self._last)):
                raise ValueError(f"{self.path}, line {self.line + 1}: {NO_EVENT}")
        if event is not None:
            self._taken += len(self._lines.popleft()) + 1
            self.line += 1
        return event

    def _first(self) -> dict | None:
        """The event on the first line that was read."""
        try:
            return event_of(self._lines[0]) if self._lines else None
        except EventError as error:
            raise ValueError(f"{self.path}, line {self.line + 1}: {error}") from None

    def _read(self) -> None:
        """Reads the lines after those already returned: at least one, if there is one."""
        self._lines.clear()
        try:
            with regular(self.path, "the log of a run") as file:
                status = os.fstat(file.fileno())
                if self._taken and (status.st_size < self._taken or status.st_ino != self._file):
                    self._taken, self.line, self.begun_again = 0, 0, self.begun_again + 1
                self._file = status.st_ino
                file.seek(self._taken)
                data = more = file.read(CHUNK)
                while more and b"\n" not in more:
                    data += (more := file.read(CHUNK))
                    if len(data) > LONGEST:
                        raise ValueError(f"{self.path}, line {self.line + 1}: {TOO_LONG}")
        except FileNotFoundError:
            if self._taken:
                raise ValueError(f"{self.path} has gone while it was read; expected it to stay") from None
            return
        except OSError as error:
            raise ValueError(f"{self.path} cannot be read: {error.strerror}") from None
        *whole, self._last = data.split(b"\n")
        self._lines.extend(whole)


def ended(path: Path) -> bool:
    """Whether the last complete line of a log is an `ended` event; False where there is no log."""
    try:
        with regular(path, "the log of a run") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - END))
            whole = file.read().split(b"\n")[:-1]
        last = event_of(whole[-1]) if whole else None
    except (OSError, EventError):  # not there yet, or reported when it is read
        return False
    return last is not None and last["event"] == "ended"
