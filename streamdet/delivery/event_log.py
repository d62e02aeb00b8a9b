"""Events to a file of JSON lines that is turned over by size and age; on disk when acknowledged."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from streamdet.config import EventLogConfig
from streamdet.delivery.outcome import Unreachable
from streamdet.types import StoredEvent

__all__ = ["EventLogDestination"]


class EventLogDestination:
    """PATH grows; when full or old it becomes PATH.1, that PATH.2, and so on to `keep`. Lines are whole, whatever happens.

    If somebody else moves PATH away (logrotate without copytruncate), a new one is begun with the next event.
    """

    window = 500
    dead = 0

    def __init__(self, config: EventLogConfig, *, now_s: Callable[[], float] = time.time) -> None:
        self._config = config
        self._path = Path(config.path)
        self._now_s = now_s
        self._fd = -1
        self._begun_s = 0.0
        self._settled = 0

    @property
    def address(self) -> str:
        return self._config.path

    @property
    def settled(self) -> int:
        return self._settled

    def open(self, wake: Callable[[], None]) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._begin()
        except OSError as error:
            raise self._trouble(error) from None

    def attend(self, *, caught_up: bool) -> None:
        """Nothing: what is sent is written at once."""

    def send(self, events: Sequence[StoredEvent]) -> None:
        try:
            if self._moved_away():
                self._begin()
            for event in events:
                self._write(event.json + b"\n")
                last = event.seq
            os.fdatasync(self._fd)
            self._settled = last
        except OSError as error:
            raise self._trouble(error) from None

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # ----------------------------------------------------------------------------------------------------------- inside

    def _trouble(self, error: OSError) -> Unreachable:
        return Unreachable(f"cannot write {self._path}: {error.strerror or error}; make room or give another path")

    def _begin(self) -> None:
        self.close()
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._cut_torn_line()
        self._begun_s = self._age_of_first_line()

    def _write(self, line: bytes) -> None:
        size = os.fstat(self._fd).st_size
        most = self._config.rotate_mb
        old = self._config.rotate_hours is not None and self._now_s() - self._begun_s > self._config.rotate_hours * 3600
        if size and (old or (most is not None and size + len(line) > most * 1e6)):
            os.fdatasync(self._fd)
            self._turn_over()
            size = 0
        left = memoryview(line)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, size)
            raise

    def _turn_over(self) -> None:
        for number in range(self._config.keep, 0, -1):
            older = Path(f"{self._path}.{number}")
            newer = Path(f"{self._path}.{number - 1}") if number > 1 else self._path
            with contextlib.suppress(FileNotFoundError):
                os.replace(newer, older)
        self._begin()

    def _moved_away(self) -> bool:
        try:
            there, ours = os.stat(self._path), os.fstat(self._fd)
        except FileNotFoundError:
            return True
        return (there.st_ino, there.st_dev) != (ours.st_ino, ours.st_dev)

    def _cut_torn_line(self) -> None:
        """A crash of the machine may have left half a line: those events are sent again."""
        size = os.fstat(self._fd).st_size
        tail = os.pread(self._fd, 1_000_000, max(0, size - 1_000_000))
        if tail and not tail.endswith(b"\n"):
            os.ftruncate(self._fd, size - (len(tail) - tail.rfind(b"\n") - 1))

    def _age_of_first_line(self) -> float:
        """When the file was begun, as its first event says; now, if that has no time."""
        with contextlib.suppress(ValueError, KeyError, TypeError):
            utc = json.loads(os.pread(self._fd, 100_000, 0).partition(b"\n")[0])["utc"]
            return datetime.datetime.fromisoformat(utc).timestamp()
        return self._now_s()
