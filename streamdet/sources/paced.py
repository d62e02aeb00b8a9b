"""A file that behaves like a camera: its frames come when they are due, and after the last comes the first again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType
from typing import Self

from streamdet.protocols import Source
from streamdet.sources.clock import utc_now
from streamdet.types import Frame, SourceInfo

__all__ = ["Paced"]


class Paced:
    """`source`, a file, in real time. Its end is the end of the iterator."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._closed = threading.Event()

    @property
    def info(self) -> SourceInfo:
        return replace(self._source.info, live=True, path=None)

    @property
    def counts(self) -> dict[str, int]:
        return self._source.counts

    @property
    def warnings(self) -> list[str]:
        return self._source.warnings

    def __enter__(self) -> Self:
        self._source.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()
        self._source.__exit__(kind, error, trace)

    def close(self) -> None:
        self._closed.set()
        self._source.close()

    def __iter__(self) -> Iterator[Frame]:
        started_s = time.monotonic()
        for frame in self._source:
            if self._closed.wait(max(0.0, started_s + frame.pts_s - time.monotonic())):
                return
            yield replace(frame, captured_s=time.monotonic(), utc=utc_now())
