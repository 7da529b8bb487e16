"""A real pseudo-terminal: what a command shows in it, and keys for it."""

from __future__ import annotations

import os
import pty
import re
import signal
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from unittest import mock

from commands import environment

ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07]*\x07|[()][A-Z0-9]|[=>78])")
TIMEOUT_S = 180
TOOK_SCREEN, GAVE_SCREEN, CURSOR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"


class Pty:
    """`sent`: all that was written to it, escape sequences included."""

    def __init__(self, width: int = 150, height: int = 45) -> None:
        self.ours, self.theirs = pty.openpty()
        self.resize(width, height)
        self.modes = termios.tcgetattr(self.theirs)
        self.sent = ""
        self._closed = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def resize(self, width: int, height: int) -> None:
        termios.tcsetwinsize(self.theirs, (height, width))

    def press(self, keys: str) -> None:
        os.write(self.ours, keys.encode())

    def shown(self) -> str:
        """What was drawn last, from the upper left corner on, without escape sequences."""
        return ESCAPES.sub("", self.sent.rpartition("\x1b[H")[2])

    def wait(self, *parts: str, without: str = "\0") -> str:
        """The screen, once it shows all of these."""
        until = time.monotonic() + TIMEOUT_S
        while time.monotonic() < until:
            view = self.shown()
            if all(part in view for part in parts) and without not in view:
                return view
            time.sleep(0.02)
        raise AssertionError(f"{parts} without {without!r} not seen after {TIMEOUT_S} s in\n{view}")

    def given_back(self) -> bool:
        """Whether the terminal is as it was: its modes, its screen and its cursor."""
        last = max(self.sent.rfind(GAVE_SCREEN), 0)
        return (
            termios.tcgetattr(self.theirs) == self.modes
            and last > self.sent.rfind(TOOK_SCREEN) >= 0
            and self.sent.rfind(CURSOR) > self.sent.rfind("\x1b[?25l")
        )

    def settled(self) -> str:
        """All that was sent, once what is under way has come."""
        before = None
        while before != self.sent:
            before = self.sent
            time.sleep(0.1)
        return before

    def close(self) -> None:
        self._closed = True
        os.close(self.theirs)
        self._reader.join()
        os.close(self.ours)

    def _read(self) -> None:
        data = b""
        while True:
            try:
                more = os.read(self.ours, 65536)
            except OSError:  # nobody holds the other end
                return
            data += more
            self.sent = data.decode("utf-8", "replace")


@contextmanager
def terminal(width: int = 150, height: int = 45) -> Iterator[Pty]:
    screen = Pty(width, height)
    try:
        yield screen
    finally:
        screen.close()


def within(
    screen: Pty, main: Callable, *arguments: object, script: Callable[[Pty], None], **env: str
) -> tuple[int, str]:
    """The command's exit code and what it said on stderr, run in this process with the terminal as stdin and stdout,
    while `script` looks at that and presses keys. Whatever the script leaves undone, q and then SIGINT end.
    """
    failed: list[BaseException] = []
    done = threading.Event()

    def play() -> None:
        try:
            script(screen)
        except BaseException as error:
            failed.append(error)
            screen.press("q")
        if not done.wait(TIMEOUT_S):
            failed.append(AssertionError(f"it goes on after {TIMEOUT_S} s:\n{screen.shown()}"))
            os.kill(os.getpid(), signal.SIGINT)

    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    player = threading.Thread(target=play, daemon=True)
    env = {
        key: value
        for key, value in environment(**{"TERM": "xterm-256color"} | env).items()
        if key not in ("COLUMNS", "LINES")
    }
    with tempfile.TemporaryFile("w+") as err, mock.patch.dict(os.environ, env, clear=True):
        kept = os.dup(0), os.dup(1)
        try:
            os.dup2(screen.theirs, 0), os.dup2(screen.theirs, 1)
            with open(1, "w", closefd=False, encoding="utf-8") as stdout, redirect_stdout(stdout), redirect_stderr(err):
                player.start()
                code = main([str(argument) for argument in arguments])
        finally:
            done.set()
            for number, handle in enumerate(kept):
                os.dup2(handle, number)
                os.close(handle)
            for signum, handler in handlers.items():
                signal.signal(signum, handler)
        player.join()
        screen.settled()
        err.seek(0)
        errors = err.read()
    if failed:
        raise failed[0]
    return code, errors
