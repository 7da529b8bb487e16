"""The events of a run's log as they become due, read while another process may write it; the log is never locked or
written.
"""

from __future__ import annotations

from lab.store.event_log import moment
from lab.store.tail import Log

AT_ONCE = float("inf")  # a speed


class Playback:
    """The events of a log, each when it is due.

    They are due `speed` times as fast as they were written; all at once for AT_ONCE, and after the end of the log was
    first reached. Pauses between two executions are left out. `clock` is the current time of the log, in seconds since
    1970.
    """

    def __init__(self, log: Log, speed: float) -> None:
        self.log, self.speed, self.clock = log, speed, 0.0
        self.caught_up = False  # all that there was has been given, once
        self._ended = False  # so says the last event that was given
        self._coming: dict | None = None

    @property
    def over(self) -> bool:
        """Whether the run has ended and all of its events were returned, as far as is known."""
        return self._ended and self.caught_up

    def advance(self, seconds: float) -> None:
        """Advances the log's time by `seconds` times the speed."""
        if self.clock and not self.caught_up and self.speed != AT_ONCE:
            self.clock += seconds * self.speed

    def next(self) -> dict | None:
        """The next event that is due, or None. Raises ValueError like `Log.next`."""
        if self._coming is None:
            self._coming = self.log.next()
        event = self._coming
        if event is None:
            self.caught_up = True
            return None
        due = moment(event)
        begins = not self.clock or (event["event"] == "phase" and event.get("phase") == "loading")
        if not (self.caught_up or begins or self.speed == AT_ONCE or due <= self.clock):
            return None
        self.clock = max(self.clock, due)
        self._ended = event["event"] == "ended"
        self._coming = None
        return event
