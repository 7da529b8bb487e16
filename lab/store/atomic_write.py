"""Writes that never damage existing files: a file is replaced as a whole, a device or pipe is written to, and errors
say what is kept.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

_LINE = json.JSONEncoder(ensure_ascii=False, allow_nan=False)  # made once, for the many events
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StoreError(ValueError):
    """A file of a run could not be written."""


def dumps(value: Mapping, indent: int | None = None) -> bytes:
    """JSON in UTF-8; numbers that are not finite become null, and lone surrogates are escaped."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent) if indent else _LINE.encode(value)
    except ValueError:
        text = json.dumps(_finite(value), ensure_ascii=False, indent=indent)
    return text.encode("utf-8", "backslashreplace")


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


def write_all(handle: int, data: bytes | memoryview) -> None:
    """Writes all of `data`, in as many writes as needed. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def replace(path: Path, data: bytes | memoryview, lines: int | None = None) -> None:
    """Replaces the file at `path` by `data`, or leaves it unchanged and raises StoreError; `lines` is as in `failure`.

    A character device or a pipe stays, and the data is written to it.
    """
    replace_in_parts(path, (data,), lines)


def replace_in_parts(path: Path, parts: Iterable[bytes | memoryview], lines: int | None = None) -> None:
    """Like `replace`, with data in parts that need not be in memory together. An error of `parts` leaves the file
    unchanged too.
    """
    if _is_no_file(path):
        return _write_into(path, parts, lines)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)  # of a process that was killed; or a link, which would lead elsewhere
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            for part in parts:
                write_all(handle, part)
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise failure(path, error, lines) from error
        raise


def _is_no_file(path: Path) -> bool:
    """Whether the path leads to something that is not a regular file, or is a link of the system, such as
    /dev/stdout.
    """
    try:
        mode = path.stat().st_mode
    except OSError:  # nothing is there, or it cannot be inspected: the write reports why
        return False
    folder = os.path.realpath(path.parent)
    return not stat.S_ISREG(mode) or (path.is_symlink() and (folder == "/dev" or folder.startswith("/proc/")))


def _write_into(path: Path, parts: Iterable[bytes | memoryview], lines: int | None) -> None:
    """Writes all parts to a device or pipe. Raises StoreError, also for a disk."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOCTTY)
        try:
            if stat.S_ISBLK(os.fstat(handle).st_mode):
                raise OSError(errno.EINVAL, "it is a disk; expected a file")
            for part in parts:
                write_all(handle, part)
        finally:
            os.close(handle)
    except OSError as error:
        raise failure(path, error, lines) from error


def failure(path: Path, error: OSError, lines: int | None = None) -> StoreError:
    """The error, as one sentence: what could not be written, where, why, the free space, what is kept, and how to
    continue.

    `lines` is the number of finished lines of a run, None where it has none.
    """
    folder = path.parent if path.parent.is_dir() else Path(".")
    free = shutil.disk_usage(folder).free
    cure = "make room" if error.errno in FULL else "see to that"
    if lines == 0:
        kept = f"no line was finished yet: {cure} and start again"
    else:
        done = "what was done is" if lines is None else f"the {lines} finished lines are"
        kept = f"{done} kept: {cure} and continue with --resume {path.parent}"
    return StoreError(
        f"cannot write {path.name} in {path.parent}: {error.strerror or error} ({free / 1e6:,.1f} MB free); {kept}"
    )
