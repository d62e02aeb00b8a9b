"""JSON lines: one per processed frame, one per event, to a file or stdout (``-``)."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

from streamdet.records import encode, frame_record
from streamdet.sinks.linefile import LineFile
from streamdet.types import Event, Result

__all__ = ["EventsSink", "FramesSink"]


class _Lines:
    lossy = False

    def __init__(self, target: str | os.PathLike[str]) -> None:
        self._file = LineFile(target)

    def __enter__(self) -> Self:
        self._file.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._file.close()


class FramesSink(_Lines):
    """One line per frame (:class:`streamdet.records.FrameRecord`); with `tentative` also objects not confirmed yet.

    Raises:
        OutputError: the file cannot be written, on entering or later (disk full).
        OutputClosed: whoever read stdout went away.
    """

    def __init__(self, target: str | os.PathLike[str], *, tentative: bool = False) -> None:
        super().__init__(target)
        self._tentative = tentative

    def write(self, result: Result) -> None:
        self._file.write(encode(frame_record(result, tentative=self._tentative)))

    def finish(self, events: tuple[Event, ...]) -> None:
        """Nothing: events have a file of their own."""


class EventsSink(_Lines):
    """One line per :class:`streamdet.types.Event`. Raises as :class:`FramesSink`."""

    only_events = True

    def write(self, result: Result) -> None:
        self._put(result.events)

    def tell(self, events: tuple[Event, ...]) -> None:
        """Events between two frames: the stream was lost, and what was in it has ended."""
        self._put(events)

    def finish(self, events: tuple[Event, ...]) -> None:
        self._put(events)

    def _put(self, events: tuple[Event, ...]) -> None:
        if events:
            self._file.write(b"".join(encode(event) for event in events))
