"""A live source that never dies: lost, it is opened again, with a longer and longer pause, as a new epoch of the same stream."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Literal, Self

from streamdet.config import LiveConfig
from streamdet.errors import SourceLostError, SourceOpenError, SourceRefusedError
from streamdet.protocols import Source
from streamdet.types import Frame, SourceInfo

__all__ = ["Reconnecting", "SourceState"]

log = logging.getLogger(__name__)

SourceState = Literal["opening", "running", "stalled", "lost", "refused", "paused", "closed"]

SHARE_OF_OUTAGE = (
    0.25  # a stream is tried again after this share of the time it has been gone: it is never gone much longer
)
GOOD_AFTER_S = 5.0  # a connection that held for so long was a good one: the next loss starts counting afresh
PATIENCE_S = 60.0
JITTER = 0.2  # so that a hundred cameras behind one switch do not come back in one moment


class Reconnecting:
    """The frames of one source after another, all made by `make(epoch)`. Implements `protocols.Source`.

    ``epoch`` counts the connections that followed one that had given frames; ``Frame.index`` goes on over all of them. Between
    them nothing is yielded: no frame is ever made up. ``on_loss`` is called (on the capture thread) when the frames cease.

    `patient`: ``__enter__`` does not open anything, the iterator does, and a source that cannot be opened is tried again like a
    lost one. Otherwise the first opening is done in ``__enter__`` and its SourceOpenError is the caller's. `again`: the end of a
    file is followed by its beginning. An eager source that turns out to be no live one (a file over http) is not tried again.

    A source that answers but refuses (wrong password, unknown path) is asked again only every ``refused_retry_s``. With
    ``give_up_s`` the iterator raises SourceLostError once the stream has been gone for so long.

    ``pause()`` lets the connection go, ``resume()`` opens a new one. These and ``close`` may come from any thread.
    """

    def __init__(
        self,
        make: Callable[[int], Source],
        *,
        stream: str,
        uri: str,
        config: LiveConfig,
        patient: bool = False,
        again: bool = False,
        first_epoch: int = 0,
        first_index: int = 0,
    ) -> None:
        self.on_loss: Callable[[], None] | None = None
        self.epoch = first_epoch
        self.reconnects = 0
        self.since_s = time.monotonic()  # of the present state
        self.last_frame_s: float | None = None
        self._make, self._config, self._patient, self._again = make, config, patient, again
        self._info = SourceInfo(stream, uri, None, live=True)
        self._state: SourceState = "opening"
        self._reason: str | None = None
        self._tainted = 0
        self.index = self._first_index = first_index  # of the next frame
        self._earlier: Counter[str] = Counter()
        self._warned: list[str] = []
        self._source: Source | None = None
        self._had_frames = first_index > 0
        self._gone_since_s = time.monotonic()
        self._closed = threading.Event()
        self._wake = threading.Event()
        self._paused = False
        self._random = random.Random()

    # ------------------------------------------------------------------------------------------------- how things stand

    @property
    def info(self) -> SourceInfo:
        """Redacted; sizes and rate are those of the latest connection, None before the first."""
        return self._info

    @property
    def state(self) -> SourceState:
        if self._state == "running" and self.silence_s > self._config.stalled_s:
            return "stalled"
        return self._state

    @property
    def reason(self) -> str | None:
        """Why it is not running."""
        if self.state != "stalled":
            return self._reason
        damaged = self.counts.get("tainted", 0) > self._tainted
        why = (
            "what comes is damaged on the way; use TCP, or a better link"
            if damaged
            else "check the camera and the network"
        )
        return f"{self._info.uri} gave no picture for {self.silence_s:.0f} s: {why}"

    @property
    def silence_s(self) -> float:
        """Since the last frame, or since the connection stands."""
        return time.monotonic() - max(self.last_frame_s or 0.0, self.since_s)

    @property
    def counts(self) -> dict[str, int]:
        source = self._source
        return dict(self._earlier + Counter(source.counts if source is not None else {}))

    @property
    def warnings(self) -> list[str]:
        back = f"{self._info.uri} was lost and came back {self.reconnects} times"
        source = self._source
        return [back] * (self.reconnects > 0) + self._warned + (source.warnings if source is not None else [])

    # ---------------------------------------------------------------------------------------------------- from any thread

    def close(self) -> None:
        self._closed.set()
        self._wake.set()
        source = self._source
        if source is not None:
            source.close()

    def pause(self) -> None:
        self._paused = True
        source = self._source
        if source is not None:
            source.close()

    def resume(self) -> None:
        self._paused = False
        self._wake.set()

    # ------------------------------------------------------------------------------------------------- as a Source does

    def __enter__(self) -> Self:
        if not self._patient:
            self._source = self._opened()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()
        self._leave()

    def __iter__(self) -> Iterator[Frame]:
        while not self._closed.is_set():
            if self._paused:
                self._rest()
                continue
            try:
                self._source = self._source or self._opened()
                for frame in self._source:
                    yield self._noted(frame)
                if not (self._closed.is_set() or self._paused or self._again):
                    return  # the end of the material, which only a file has
            except (SourceLostError, SourceOpenError) as error:
                self._lost(error)
            finally:
                self._leave()
            if self._state in ("lost", "refused"):
                self._wait()
        self._be("closed", None)

    def _opened(self) -> Source:
        """Raises SourceOpenError."""
        if self._state == "paused":
            self._be("opening", None)
        source = self._make(self.epoch + self._had_frames)
        source.__enter__()
        info = source.info
        self._info = replace(info, live=info.live or self._patient)
        self._first_index = self.index
        self.reconnects += self._had_frames and not self._again
        self.epoch += self._had_frames
        self._had_frames = False
        if self._closed.is_set() or self._paused:  # meanwhile
            source.close()
        self._be("running", None)
        return source

    def _noted(self, frame: Frame) -> Frame:
        self._had_frames = True
        self.last_frame_s = time.monotonic()
        if self.last_frame_s - self.since_s > GOOD_AFTER_S:
            self._gone_since_s = self.last_frame_s
        frame = replace(frame, index=self._first_index + frame.index, epoch=self.epoch)
        self.index = frame.index + 1
        self._tainted = self.counts.get("tainted", 0)
        return frame

    def _leave(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            self._earlier += Counter(source.counts)
            self._warned += [text for text in source.warnings if text not in self._warned]
            source.__exit__(None, None, None)

    def _lost(self, error: SourceLostError | SourceOpenError) -> None:
        if self._closed.is_set() or self._paused:
            return
        if not self._info.live:
            raise error
        gone_s = time.monotonic() - self._gone_since_s
        # a server that is starting up does not know its paths yet: a stream that ran is given a minute
        refused = isinstance(error, SourceRefusedError) and (not self.index or gone_s > PATIENCE_S)
        if self._reason is None:
            log.warning("%s: %s", self._info.stream, error)
        was_running = self._state == "running"
        self._be("refused" if refused else "lost", str(error))
        if was_running and self.on_loss is not None:
            self.on_loss()
        if self._config.give_up_s and gone_s >= self._config.give_up_s:
            raise SourceLostError(f"{error}; it has been gone for {gone_s:.0f} s") from None

    def _wait(self) -> None:
        """Before the next attempt."""
        gone_s = time.monotonic() - self._gone_since_s
        pause_s = min(max(SHARE_OF_OUTAGE * gone_s, self._config.retry_first_s), self._config.retry_most_s)
        if self._state == "refused":
            pause_s = self._config.refused_retry_s
        self._wake.clear()
        if not self._closed.is_set() and not self._paused:
            self._wake.wait(pause_s * self._random.uniform(1 - JITTER, 1 + JITTER))

    def _rest(self) -> None:
        """Paused: until it is over."""
        was_running = self._state == "running"
        self._be("paused", None)
        if was_running and self.on_loss is not None:
            self.on_loss()
        while self._paused and not self._closed.is_set():
            self._wake.wait(1.0)
            self._wake.clear()
        self._gone_since_s = time.monotonic()

    def _be(self, state: SourceState, reason: str | None) -> None:
        if state != self._state:
            self.since_s = time.monotonic()
            if state == "running" and self._reason is not None:
                log.warning("%s: running again", self._info.stream)
        self._state, self._reason = state, reason
