"""The folder of clips and snapshots: names that are free, what may stay, and what to do when the disk is full."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from streamdet.coded.mp4file import mended
from streamdet.config import KeepConfig
from streamdet.errors import OutputError
from streamdet.recording.names import address_of, media_file, safe_name

__all__ = ["Archive", "Stored"]

log = logging.getLogger(__name__)

_FAVOURITES = "favourites.txt"
_CHECK_AGAIN_S = 10.0  # a full disk is looked at this often
_SWEEP_EVERY_S = 600.0


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that is kept: `name` relative to the folder, as in an event's address; bytes; seconds since 1970."""

    name: str
    size: int
    made_s: float
    favourite: bool = False


class Archive:
    """Clips and snapshots of all cameras below one folder. Thread-safe; a context manager, which reads what lies there.

    What is there is known from the folder alone: files may be deleted or brought back by hand between two runs, and what a killed
    process had not finished is mended. Retention is done when a file is added, or when told to
    (:meth:`sweep`), every ten minutes at most.

    ``counts``: "files" and "bytes" kept; "dropped" clips and snapshots not made because the disk was full or failed;
    "removed" by retention.

    Raises OutputError on entering when the folder cannot be made or written.
    """

    def __init__(
        self, folder: str | os.PathLike[str], keep: KeepConfig, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.folder = Path(os.path.expanduser(folder))
        self._keep = keep
        self._clock = clock
        self._lock = threading.RLock()
        self._files: dict[str, Stored] = {}  # by name
        self._bytes = 0
        self._promised: set[str] = set()
        self._favourites: set[str] = set()
        self._full_until_s: float | None = None
        self._told_full = False
        self._swept_s = 0.0
        self._dropped = 0
        self._removed = 0

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe = self.folder / f".{os.getpid()}.probe"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise OutputError(
                f"cannot write clips to {self.folder}: {error.strerror or error}; give another folder with record.dir"
            ) from None
        with self._lock:
            self._read()
            self.sweep()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        pass

    # --------------------------------------------------------------------------------------------------------- writing

    def promise(self, stream: str, when: datetime, stem: str, suffix: str = ".mp4") -> Path | None:
        """A free place for a file about to be made, and the day's folder for it; None while the disk is full (counted)."""
        with self._lock:
            if self.full():
                self.dropped()
                return None
            when = when.astimezone(UTC)
            folder = f"{when:%Y-%m-%d}/{safe_name(stream)}"
            base = f"{when:%H%M%S}.{when.microsecond // 1000:03d}-{safe_name(stem)}"
            count, name = 1, f"{folder}/{base}{suffix}"
            while name.lower() in self._promised or name in self._files or (self.folder / name).exists():
                count += 1
                name = f"{folder}/{base}-{count}{suffix}"
            self._promised.add(name.lower())  # some file systems do not tell A from a
            return self.folder / name

    def address(self, file: Path) -> str:
        """What stands in an event for `file`."""
        return address_of(self.folder, file)

    def release(self, file: Path) -> None:
        """What was promised will not be made after all."""
        with self._lock:
            self._promised.discard(self._name(file).lower())

    def added(self, file: Path) -> None:
        """`file` is finished: from now on it counts, and may have to make room for others."""
        with self._lock:
            self._promised.discard(self._name(file).lower())
            self._note(file)
            self.sweep()

    def dropped(self, file: Path | None = None, error: OSError | None = None) -> None:
        """Something was not kept, because of `error`: counted; a full disk is told once, until there is room again."""
        with self._lock:
            self._dropped += 1
            if file is not None:
                self._promised.discard(self._name(file).lower())
            if error is not None:
                self._full_until_s = self._clock() + _CHECK_AGAIN_S
                self._tell(f"{error.strerror or error}")

    def full(self) -> bool:
        """Whether there is no room now (looked at every ten seconds)."""
        with self._lock:
            if self._full_until_s is not None and self._clock() < self._full_until_s:
                return True
            if self._room() >= 0:
                if self._told_full:
                    log.warning("clips are kept in %s again: there is room", self.folder)
                self._full_until_s, self._told_full = None, False
                return False
            self._make_room()
            if self._room() >= 0:
                return False
            self._full_until_s = self._clock() + _CHECK_AGAIN_S
            self._tell(f"less than {self._keep.free_gb:g} GB is free there")
            return True

    # --------------------------------------------------------------------------------------------------------- keeping

    def files(self) -> list[Stored]:
        """What is kept, the newest first."""
        with self._lock:
            kept = [
                Stored(one.name, one.size, one.made_s, self._is_favourite(one.name)) for one in self._files.values()
            ]
        return sorted(kept, key=lambda one: (-one.made_s, one.name))

    def file(self, address: str) -> Path | None:
        """The file of an event's clip or snapshot: see :func:`streamdet.recording.names.media_file`."""
        return media_file(self.folder, address)

    def favourite(self, address: str, keep: bool = True) -> bool:
        """Keep a clip (and its pictures) for ever, or no longer; False: there is no such file."""
        file = self.file(address)
        if file is None:
            return False
        stem = _stem(self._name(file))
        with self._lock:
            (self._favourites.add if keep else self._favourites.discard)(stem)
            part = self.folder / f".{_FAVOURITES}.part"
            part.write_text("".join(f"{line}\n" for line in sorted(self._favourites)), encoding="utf-8")
            os.replace(part, self.folder / _FAVOURITES)
        return True

    def delete(self, address: str) -> bool:
        """Remove a clip with its pictures; False: there is no such file."""
        file = self.file(address)
        if file is None:
            return False
        stem = _stem(self._name(file))
        with self._lock:
            for name in [name for name in self._files if _stem(name) == stem]:
                self._remove(name)
            self._favourites.discard(stem)
        return True

    def counts(self) -> dict[str, int]:
        with self._lock:
            return {
                "files": len(self._files),
                "bytes": self._bytes,
                "dropped": self._dropped,
                "removed": self._removed,
            }

    def sweep(self) -> None:
        """Remove what is too old and, oldest first, what is too much."""
        with self._lock:
            now_s, keep = self._clock(), self._keep
            too_much = keep.gb is not None and self._bytes > keep.gb * 1e9
            if not too_much and now_s - self._swept_s < _SWEEP_EVERY_S:
                return
            self._swept_s = now_s
            if keep.days is not None:
                for one in self._oldest_first():
                    if now_s - one.made_s > keep.days * 86_400:
                        self._removed += self._remove(one.name)
            if keep.gb is not None:
                for one in self._oldest_first():
                    if self._bytes <= keep.gb * 1e9:
                        break
                    self._removed += self._remove(one.name)

    # ---------------------------------------------------------------------------------------------------------- inside

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            self._favourites = set((self.folder / _FAVOURITES).read_text(encoding="utf-8").split("\n")) - {""}
        for part in self.folder.rglob(".*.part"):
            if part.name.endswith(".mp4.part"):
                mended(part)
            else:
                part.unlink(missing_ok=True)
        for file in self.folder.rglob("*"):
            if file.suffix in (".mp4", ".jpg"):
                self._note(file)

    def _note(self, file: Path) -> None:
        try:
            known = os.stat(file, follow_symlinks=False)
        except OSError:
            return
        name = self._name(file)
        if (old := self._files.get(name)) is not None:
            self._bytes -= old.size
        self._files[name] = Stored(name, known.st_size, known.st_mtime)
        self._bytes += known.st_size

    def _remove(self, name: str) -> bool:
        one = self._files.pop(name)
        self._bytes -= one.size
        file = self.folder / name
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            log.warning("cannot remove %s: %s", file, error.strerror or error)
            return False
        for folder in (file.parent, file.parent.parent):  # the camera's, the day's
            if folder != self.folder:
                with contextlib.suppress(OSError):  # not empty
                    folder.rmdir()
        return True

    def _oldest_first(self) -> Iterator[Stored]:
        for one in sorted(self._files.values(), key=lambda one: (one.made_s, one.name)):
            if not self._is_favourite(one.name):
                yield one

    def _is_favourite(self, name: str) -> bool:
        return _stem(name) in self._favourites

    def _name(self, file: Path) -> str:
        return file.relative_to(self.folder).as_posix()

    def _room(self) -> int:
        """Bytes that may still be written before the disk counts as full."""
        try:
            return int(shutil.disk_usage(self.folder).free - self._keep.free_gb * 1e9)
        except OSError:
            return -1

    def _make_room(self) -> None:
        """The oldest go until the disk has room again: better a day less of clips than none at all."""
        for one in self._oldest_first():
            if self._room() >= 0:
                return
            self._removed += self._remove(one.name)

    def _tell(self, why: str) -> None:
        if not self._told_full:
            self._told_full = True
            log.warning("no clips are kept in %s for now: %s; events go on", self.folder, why)


def _stem(name: str) -> str:
    """What a clip and its pictures have in common."""
    return name.removesuffix(".mp4").removesuffix(".jpg").removesuffix(".frame")
