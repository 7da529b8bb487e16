"""What all long commands share: their output goes to a log, their end is stored, and they have the same exit codes."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeVar

from lab.store.output import say
from scenarios.messages import clean_lines, hidden

if TYPE_CHECKING:
    from rich.console import Console

    from lab.store.run_store import RunStore


INTERRUPTED = 130
T = TypeVar("T")
LOG = "log.txt"
Apart = Callable[[Path], contextlib.AbstractContextManager[tuple[TextIO, TextIO]]]


def unfinished(
    prog: str,
    kept: str,
    status: str,
    reason: str | None,
    console: Console | None,
    errors: TextIO,
    path: Path,
) -> int:
    """The exit code of a command that did not finish: 2 after a failure, 130 after an interruption.

    A failure prints its reason on `errors`. An interruption prints on `console` (None: nothing) that every `kept`, such
    as "finished line", is kept, and how to resume the folder `path`.
    """
    if status == "failed":
        say(f"{prog}: {reason}", file=errors)
        return 2
    if console is not None:
        with contextlib.suppress(BrokenPipeError, SystemExit):
            console.print(
                f"Interrupted. Every {kept} is kept: python -m {prog} --resume {path}", soft_wrap=True, markup=False
            )
    return INTERRUPTED


def carried_out(
    work: Callable[[], T], store: RunStore, show: Callable[[dict], None], left: str
) -> tuple[str, str | None, T | None]:
    """Calls `work` and stores and shows how it ended. Returns (status, reason, result); errors of `work` are not
    raised.

    The status is finished, failed or interrupted; reason and result are None where they do not apply. It is failed,
    too, where the end could not be stored. `left` names what --resume continues from, such as "line".
    """
    status, reason, outcome = "finished", None, None
    try:
        outcome = work()
    except (KeyboardInterrupt, BrokenPipeError, SystemExit):  # the last two: whoever read our output has gone
        status, reason = "interrupted", f"interrupted; --resume continues from the last {left}"
    except ValueError as error:
        status, reason = "failed", hidden(str(error))
    except Exception as error:  # the only place where an unforeseen error becomes data
        say(hidden(traceback.format_exc()), file=sys.stderr, end="")  # to the log
        message = (hidden(str(error)).strip() or "no message").splitlines()[-1][:300]
        status, reason = "failed", f"{type(error).__name__}: {message} (the traceback is in {store.path / LOG})"
    try:
        show(store.append({"event": "ended", "status": status, "reason": reason}))
        store.finish(status, reason)
    except ValueError as error:
        if status == "finished":
            status, reason = "failed", str(error)
        with contextlib.suppress(ValueError):
            # the manifest is small, and may be stored where events and frames may not
            store.update_manifest(status=status, reason=reason)
    return status, reason, outcome


def apart(log: Path) -> contextlib.AbstractContextManager[tuple[TextIO, TextIO]]:
    """Like `aside`, but where sys.stdout and sys.stderr have been replaced, it does not touch the process's file
    descriptors.

    Notebooks, test runners and `contextlib.redirect_stdout` replace them. Then what Python code prints goes to the log,
    and the streams returned are the replacements.
    """
    return aside(log) if _own_streams(sys.stdout, sys.stderr) else _streams_aside(log)


def _own_streams(*streams: TextIO) -> bool:
    try:
        return all(stream.fileno() == number for number, stream in enumerate(streams, start=1)) and (
            streams == (sys.__stdout__, sys.__stderr__)
        )
    except (AttributeError, OSError, ValueError):  # no stream at all, one without a descriptor, or a closed one
        return False


@contextlib.contextmanager
def _streams_aside(log: Path) -> Iterator[tuple[TextIO, TextIO]]:
    streams = sys.stdout, sys.stderr
    with (
        LogStream(log.open("ab"), encoding="utf-8", errors="replace", line_buffering=True) as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        yield streams


class LogStream(io.TextIOWrapper):
    """A stream of a log, which gets what strangers wrote as text alone (`scenarios.messages.clean_lines`)."""

    def write(self, text: str, /) -> int:
        super().write(clean_lines(text))
        return len(text)


@contextlib.contextmanager
def aside(log: Path) -> Iterator[tuple[TextIO, TextIO]]:
    """A context in which all output of libraries, Ray and C code goes to the log; gives streams to the real stdout and
    stderr. What Python code prints is cleaned, as in `LogStream`.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    out, err = (os.fdopen(handle, "w", encoding="utf-8", errors="replace") for handle in kept)
    written = [
        LogStream(
            io.BufferedWriter(io.FileIO(number, "w", closefd=False)),
            encoding="utf-8",
            errors="replace",
            line_buffering=True,
        )
        for number in (1, 2)
    ]
    before = sys.stdout, sys.stderr
    try:
        with contextlib.redirect_stdout(written[0]), contextlib.redirect_stderr(written[1]):
            yield out, err
    finally:
        for ours in written:
            with contextlib.suppress(OSError):
                ours.flush()
        for number, (stream, ours) in enumerate(zip((out, err), before, strict=True), start=1):
            with contextlib.suppress(OSError):  # a full disk, or a reader that has gone
                ours.flush()
            os.dup2(kept[number - 1], number)
            with contextlib.suppress(OSError):
                stream.close()
