"""Watch a run, a training or a sweep from its events alone, while it runs or afterwards: `python -m lab.watch
runs/RUN`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.commands import Parser, obeyed
from lab.live.replay import AT_ONCE, Playback
from lab.live.run_screen import can_draw
from lab.live.terminal import KEYBOARD, Terminal
from lab.live.watcher import SPEED, Watching, follow_as_lines
from lab.store.console import Console
from lab.store.event_log import EVENTS, RUN_FOLDER, check_folder
from lab.store.run_store import LOCK, SCENARIO, SWEEP
from lab.store.session import INTERRUPTED
from lab.store.tail import Log, ended

EXAMPLES = """examples:
  python -m lab.watch runs/20260101T120000Z-long_dialogue-1a2b
  python -m lab.watch runs/20260101T120000Z-long_dialogue-1a2b --speed 20
  python -m lab.watch runs/20260101T120000Z-long_dialogue-1a2b --display plain | grep ✗

Press ? for the list of keys. Nothing is written into the run's folder.
"""


def parser() -> Parser:
    out = Parser(
        prog="python -m lab.watch",
        description="Follow a run, a training or a sweep while it runs, or replay a finished one.",
        epilog=EXAMPLES,
    )
    out.add_argument("run", help="folder of the run, training or sweep")
    out.add_argument(
        "--speed",
        metavar="N",
        help="replay from the beginning at N times the original speed; max: without waiting (default: show the "
        f"present state of a run that still runs; replay a finished run at {SPEED:g} times its speed, or without "
        "waiting where the display is plain)",
    )
    out.add_argument("--display", default="auto", choices=("auto", "rich", "plain"), help="how the run is shown")
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 watched, 2 refused with a sentence on stderr, 130 interrupted."""
    return obeyed(parser(), _watch, arguments)


def _watch(args: argparse.Namespace) -> int:
    speed, folder = _speed(args.speed), _folder(args.run)
    console, log = Console(), Log(folder / EVENTS)
    full = args.display != "plain" and can_draw(console) and os.isatty(KEYBOARD)
    playback = Playback(log, speed or (SPEED if full and ended(log.path) else AT_ONCE))
    if not full:
        return follow_as_lines(folder, playback, console)
    with Terminal(console) as terminal:
        Watching(folder, playback, terminal).go_on()
    return INTERRUPTED if terminal.stopped else 0


def _speed(text: str | None) -> float | None:
    """The speed, or None without --speed. ValueError where it is neither a number above 0 nor max."""
    if text is None:
        return None
    try:
        speed = AT_ONCE if text == "max" else float(text)
    except ValueError:
        speed = 0.0
    if not speed > 0:
        raise ValueError(f"--speed is {text!r}; expected a number above 0, or max")
    return speed


def _folder(name: str) -> Path:
    """The path of that folder. ValueError where it neither holds a run nor is about to hold one."""
    path = Path(name)
    check_folder(path)
    held = {file.name for file in path.iterdir()}
    if EVENTS not in held and held - {
        LOCK,
        SCENARIO,
        SWEEP,
        f".{SCENARIO}.tmp",
        f".{SWEEP}.tmp",
    }:  # these are there before the first event
        raise ValueError(f"{path} is no run: it has no {EVENTS}; expected the folder of a run, {RUN_FOLDER}")
    return path


if __name__ == "__main__":
    sys.exit(main())
