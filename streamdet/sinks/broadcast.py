"""The annotated stream as H.264: drawn and encoded once however many take it, and not at all while nobody does."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from streamdet.coded.encoder import Encoder
from streamdet.coded.packet import CodedPacket
from streamdet.errors import OutputError
from streamdet.types import Event, Frame, Result

__all__ = ["BroadcastSink", "Outlet"]

log = logging.getLogger(__name__)


class Outlet(Protocol):
    """One taker of the encoded stream, with a thread of its own. ``put`` returns at once.

    ``wanted``: whether it takes packets now; it changes by itself (a server that is down wants none). Starts with a key frame.
    """

    @property
    def wanted(self) -> bool: ...
    def start(self) -> None: ...
    def put(self, packet: CodedPacket) -> None: ...
    def stop(self) -> None:
        """Finish, in bounded time."""

    def status(self) -> dict[str, object]:
        """For people and metrics; without secrets."""


class BroadcastSink:
    """Gives every Outlet the same packets of ``result.annotated()``.

    Frames are shown at their media time; after a reconnect of the source the film goes on without a gap. ``encoded`` counts
    pictures. `live`: Results are dropped when encoding is slower than the source, which costs pictures, never time. A
    recording loses none; with `real_time` it is shown as fast as it was filmed, and all of the run takes that long.
    """

    def __init__(
        self, outlets: Sequence[Outlet], encoder: Encoder, *, live: bool = True, real_time: bool = False
    ) -> None:
        self.lossy = live
        self._real_time = real_time and not live
        self._started_s: float | None = None
        self.outlets = tuple(outlets)
        self.encoded = 0
        self._encoder = encoder
        self._clock = _Clock()
        self._taking: set[int] = set()  # which outlets took the latest packet
        self._told = False

    def __enter__(self) -> Self:
        for outlet in self.outlets:
            outlet.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        for outlet in self.outlets:
            outlet.stop()

    def write(self, result: Result) -> None:
        taking = {index for index, outlet in enumerate(self.outlets) if outlet.wanted}
        if taking - self._taking:
            self._encoder.key_please()  # whoever joins begins at once
        self._taking = taking
        if not taking:
            return
        frame = result.frame
        now_s = self._clock(frame)
        if self._real_time:
            self._wait_for(now_s)
        try:
            packets = self._encoder.encode(result.annotated(), now_s, frame.captured_s)
        except OutputError as error:
            if not self._told:
                log.warning("%s: %s; told once", frame.stream, error)
            self._told = True
            return
        self.encoded += len(packets)
        for packet in packets:
            for index in taking:
                self.outlets[index].put(packet)

    def _wait_for(self, now_s: float) -> None:
        if self._started_s is None:
            self._started_s = time.monotonic() - now_s
        time.sleep(max(0.0, self._started_s + now_s - time.monotonic()))

    def finish(self, events: tuple[Event, ...]) -> None:
        """Nothing: what was drawn has been sent."""


class _Clock:
    """Media time that goes on over reconnects."""

    def __init__(self) -> None:
        self._epoch: int | None = None
        self._offset_s = 0.0
        self._last_s = 0.0
        self._step_s = 1 / 25

    def __call__(self, frame: Frame) -> float:
        if self._epoch is None:
            self._epoch, self._offset_s = frame.epoch, -frame.pts_s
        elif frame.epoch != self._epoch:
            self._epoch, self._offset_s = frame.epoch, self._last_s + self._step_s - frame.pts_s
        now_s = frame.pts_s + self._offset_s
        if 0 < now_s - self._last_s < 1:
            self._step_s = now_s - self._last_s
        self._last_s = max(self._last_s, now_s)
        return now_s
