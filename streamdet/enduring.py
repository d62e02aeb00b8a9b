"""A sink that may fail without taking its camera with it: a full disk loses films, not the watch over the camera."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from streamdet.errors import redact
from streamdet.protocols import Sink
from streamdet.types import Event, Result

__all__ = ["Enduring"]

log = logging.getLogger(__name__)

AGAIN_AFTER_S = 30.0


class Enduring:
    """Hands everything on to a sink made by `make`. When that fails it is told once, left alone for a while, and made anew.

    ``failures`` counts the faults, ``missed`` the Results that came meanwhile; ``reason`` is the fault, None while all is well.
    """

    def __init__(self, make: Callable[[], Sink], what: str, *, again_after_s: float = AGAIN_AFTER_S) -> None:
        self.failures = 0
        self.missed = 0
        self.reason: str | None = None
        self._make, self._what, self._again_after_s = make, what, again_after_s
        self._sink: Sink | None = None
        self._again_s = 0.0
        like = make()
        self.lossy = like.lossy
        self.tell = self._tell if hasattr(like, "tell") else None  # see streamdet.stream

    def __enter__(self) -> Self:
        self._try(lambda sink: None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._leave()

    def write(self, result: Result) -> None:
        self._try(lambda sink: sink.write(result))

    def finish(self, events: tuple[Event, ...]) -> None:
        self._try(lambda sink: sink.finish(events))

    def _tell(self, events: tuple[Event, ...]) -> None:
        self._try(lambda sink: sink.tell(events))  # type: ignore[attr-defined]

    def _try(self, step: Callable[[Sink], None]) -> None:
        if self._sink is None and time.monotonic() < self._again_s:
            self.missed += 1
            return
        try:
            if self._sink is None:
                self._sink = self._make().__enter__()
            step(self._sink)
            if self.reason is not None:
                log.warning("%s: works again; %d results were missed", self._what, self.missed)
                self.reason = None
        except Exception as error:
            self.failures += 1
            self.missed += 1
            if self.reason is None:
                log.error("%s: %s; tried again every %.0f s", self._what, redact(str(error)), self._again_after_s)
            self.reason = redact(str(error))
            self._again_s = time.monotonic() + self._again_after_s
            self._leave()

    def _leave(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            try:
                sink.__exit__(None, None, None)
            except Exception as error:
                log.error("%s: %s", self._what, redact(str(error)))
