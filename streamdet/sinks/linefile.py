"""Whole lines or nothing: unbuffered writing to a file or stdout, for the sinks that write text."""

from __future__ import annotations

import os
import select
import stat
import sys
from pathlib import Path

from streamdet.errors import OutputClosed, OutputError

__all__ = ["LineFile", "prepare_folder", "unwritable"]


def unwritable(path: str | os.PathLike[str], error: OSError) -> OutputError:
    """The one sentence for an output that cannot be written."""
    reason = error.strerror or str(error)
    return OutputError(f"cannot write {os.fspath(path)}: {reason}; give another place or make room there")


def prepare_folder(path: Path) -> None:
    """Make the folder `path` is to lie in. Raises OutputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from None
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder; give a file name")


class LineFile:
    """Each ``write`` hands whole lines to the system in one call, so that a killed process leaves whole lines behind.

    A file that fills the disk is cut back to its last whole line. ``-`` is stdout, which is never closed.
    """

    def __init__(self, target: str | os.PathLike[str]) -> None:
        self.target = os.fspath(target)
        self._fd = -1
        self._regular = False

    def open(self) -> None:
        """Raises OutputError."""
        if self.target == "-":
            sys.stdout.flush()
            self._fd = 1
        else:
            prepare_folder(Path(self.target))
            try:
                self._fd = os.open(self.target, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            except OSError as error:
                raise unwritable(self.target, error) from None
        self._regular = stat.S_ISREG(os.fstat(self._fd).st_mode) and self.target != "-"

    def write(self, data: bytes, *, over: int = 0) -> None:
        """Append `data`, first stepping back `over` bytes (regular files only). Raises OutputError, OutputClosed."""
        if self._regular:
            start = os.lseek(self._fd, 0, os.SEEK_END)
            os.lseek(self._fd, -over, os.SEEK_END)
        left = memoryview(data)
        try:
            while left:
                left = left[self._write_some(left) :]
        except BrokenPipeError:
            raise OutputClosed(f"the reader of {self._name} went away") from None
        except OSError as error:
            if self._regular:
                os.ftruncate(self._fd, start - over)
            raise unwritable(self._name, error) from None

    def close(self) -> None:
        if self._fd > 2:
            os.close(self._fd)
        self._fd = -1

    @property
    def _name(self) -> str:
        return "stdout" if self.target == "-" else self.target

    def _write_some(self, data: memoryview) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:  # stdout shared with a terminal that somebody made non-blocking
            select.select([], [self._fd], [], 1.0)
            return 0
