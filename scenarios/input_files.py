"""Files that are read and may come from anybody: regular files alone are opened, and no more is read than a limit."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from scenarios.suggestions import nearest_path

LARGEST = 512 * 2**20  # bytes that are read of any file, decompressed where it is gzipped
GZIP = b"\x1f\x8b"
UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # byte order marks
KINDS = {  # of entries of a folder that are no regular files, in words
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class InputError(ValueError):
    """A file that cannot be read; `problem` is the message without the path at its beginning."""

    def __init__(self, path: Path, problem: str):
        self.problem = problem
        super().__init__(f"{path} {problem}")


def kind_of_entry(mode: int) -> str:
    """What an entry with that mode is, such as "a named pipe"; "" for a regular file."""
    return KINDS.get(stat.S_IFMT(mode), "")


def is_file(path: Path) -> bool:
    """Whether a file is there; False too for what can be none, such as a path that is too long."""
    try:
        return path.is_file()
    except OSError:
        return False


def home_expanded(path: str | os.PathLike[str]) -> Path:
    """The path with a folder in place of "~" or "~NAME", where there is one."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # nobody has that name
        return Path(path)


def exists(path: Path) -> bool:
    """Whether something is there; False too for what can be no path."""
    try:
        return path.exists()
    except OSError:
        return False


def regular(path: Path, expected: str) -> IO[bytes]:
    """The open file. Raises OSError, and InputError where it is no regular file.

    It is looked at before it is opened, since opening a device may do something, and afterwards, since another may be
    in its place by then.
    """
    if kind := kind_of_entry(path.stat().st_mode):
        raise InputError(path, f"is {kind}; expected {expected}")
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb")
    if kind := kind_of_entry(os.fstat(file.fileno()).st_mode):
        file.close()
        raise InputError(path, f"is {kind}; expected {expected}")
    return file


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], expected: str) -> Iterator[IO[bytes]]:
    """The content of a regular file as a stream of bytes, decompressed where it is gzipped.

    Raises InputError, ending in `expected`, where the file is missing or no regular file; then it is not opened, since
    a pipe or a device may block or never end. Errors of reading within the context become InputErrors too, and so does
    reading more than LARGEST bytes.
    """
    path = Path(path)
    try:
        with regular(path, expected) as raw:
            zipped = raw.read(len(GZIP)) == GZIP
            raw.seek(0)
            with gzip.open(raw) if zipped else raw as file:
                yield io.BufferedReader(_Bounded(cast("IO[bytes]", file), path))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(path, f"is a damaged gzip file ({error}); expected a whole one") from None
    except OSError as error:
        hint = nearest_path(path) or f"; expected {expected}"
        missing = isinstance(error, FileNotFoundError)
        reason = "does not exist" if missing else f"cannot be read ({error.strerror or error})"
        raise InputError(path, reason + hint) from None


def content(path: str | os.PathLike[str], most: int, expected: str, cure: str = "a smaller file") -> bytes:
    """The whole content of a regular file, decompressed where it is gzipped.

    Raises InputError as `opened` does, and beyond `most` bytes; `cure` says what is expected then.
    """
    with opened(path, expected) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise InputError(Path(path), f"is larger than {_size(most)}; expected {cure}")
    return data


class _Bounded(io.RawIOBase):
    """A stream that raises InputError once more than LARGEST bytes of it were read."""

    def __init__(self, file: IO[bytes], path: Path):
        self._file, self._path, self._left = file, path, LARGEST + 1

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any, /) -> int:
        data = self._file.read(len(buffer))
        self._left -= len(data)
        if self._left <= 0:
            raise InputError(self._path, f"goes on after {LARGEST >> 20} MiB; expected a smaller file")
        buffer[: len(data)] = data
        return len(data)


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 2**20 else f"{count >> 10} KiB" if count >= 2**10 else f"{count} bytes"
