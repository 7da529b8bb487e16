"""Control of the terminal: single keys, the full screen for drawing, and the old state restored at the end."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import termios
import tty
from collections.abc import Iterator
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live

KEYBOARD = 0  # the file descriptor of stdin
ESCAPE_S = 0.05  # what belongs to an escape sequence follows within this time
SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O[ -~])")
NAMES = {
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1b[C": "right",
    "\x1b[D": "left",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b[H": "home",
    "\x1b[F": "end",
    "\x1b[1~": "home",
    "\x1b[4~": "end",
    "\x1b[7~": "home",
    "\x1b[8~": "end",
    "\x1b": "escape",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\b": "backspace",
    "\x1a": "suspend",
    "\x04": "q",
}
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def named(typed: str) -> Iterator[str]:
    """The keys in a terminal's input: characters as they are, others by name; unknown sequences are left out."""
    while typed:
        match = SEQUENCE.match(typed)
        key = match[0].replace("\x1bO", "\x1b[") if match else typed[0]
        typed = typed[len(match[0]) if match else 1 :]
        if key in NAMES:
            yield NAMES[key]
        elif key.isprintable():
            yield key


class Terminal:
    """The full screen, drawn by `draw`, with its keys read by `keys`.

    `stopped` says whether a signal asked to end; until the terminal is restored, that signal has no other effect.
    """

    def __init__(self, console: Console) -> None:
        self.console, self.stopped = console, False
        self._live = Live(
            console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        self._modes: list | None = None
        self._handlers: dict = {}

    def __enter__(self) -> Self:
        self._handlers = {number: signal.signal(number, self._stop) for number in STOPS}
        try:
            self._take()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._give_back()
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    def draw(self, view: RenderableType) -> None:
        self._live.update(view, refresh=True)

    def keys(self, timeout_s: float) -> list[str]:
        """The keys pressed within `timeout_s` seconds; "q" where the keyboard is no longer connected."""
        typed = self._read(timeout_s)
        if typed is None:
            return ["q"]
        if typed.endswith("\x1b") or typed.endswith("\x1b["):
            typed += self._read(ESCAPE_S) or ""
        return list(named(typed))

    def suspend(self) -> None:
        """Restores the terminal and stops this process, as Ctrl-Z does, until its parent continues it."""
        self._give_back()
        os.kill(0, signal.SIGTSTP)
        self._take()

    def _stop(self, *_: object) -> None:
        self.stopped = True

    def _read(self, timeout_s: float) -> str | None:
        if not select.select([KEYBOARD], [], [], timeout_s)[0]:
            return ""
        try:
            typed = os.read(KEYBOARD, 1024)
        except OSError:
            return None
        return typed.decode("utf-8", "ignore") if typed else None

    def _take(self) -> None:
        self._modes = termios.tcgetattr(KEYBOARD)
        tty.setcbreak(KEYBOARD, termios.TCSANOW)
        modes = termios.tcgetattr(KEYBOARD)
        modes[6][termios.VSUSP] = b"\0"  # Ctrl-Z comes as a key, so that the terminal can be given back first
        termios.tcsetattr(KEYBOARD, termios.TCSANOW, modes)
        self._live.start()

    def _give_back(self) -> None:
        try:
            with contextlib.suppress(OSError):  # where the terminal itself has gone
                self._live.stop()
        finally:
            if self._modes is not None:
                with contextlib.suppress(termios.error):
                    termios.tcflush(KEYBOARD, termios.TCIFLUSH)  # keys meant for us
                    termios.tcsetattr(KEYBOARD, termios.TCSANOW, self._modes)
            self._modes = None
