"""Whoever wants a camera's own packets (clips without re-encoding) taps them where they are read, before they are decoded."""

from __future__ import annotations

import logging
from typing import Protocol

from av import Packet
from av.video.stream import VideoStream

__all__ = ["PacketTap", "Tapping"]

log = logging.getLogger(__name__)


class PacketTap(Protocol):
    """Shown every packet of a stream, on the capture thread: both methods must return at once, and copy what they keep.

    ``opened`` comes before the first packet of every connection (`epoch` counts them); the stream belongs to the source and
    is gone when it closes. ``packet`` comes in the order of decoding, damaged ones too; `captured_s` is ``time.monotonic()``
    when it was read.
    """

    def opened(self, stream: VideoStream, epoch: int) -> None: ...
    def packet(self, packet: Packet[VideoStream], captured_s: float) -> None: ...


class Tapping:
    """Guards a tap: it is told of the stream before the first packet, and one that fails is dropped with one warning."""

    def __init__(self, tap: PacketTap | None, *, stream: str, epoch: int) -> None:
        self._tap = tap
        self._stream = stream
        self._epoch = epoch
        self._told = False

    def __call__(self, video: VideoStream, packet: Packet[VideoStream], captured_s: float) -> None:
        if self._tap is None:
            return
        try:
            if not self._told:
                self._told = True
                self._tap.opened(video, self._epoch)
            self._tap.packet(packet, captured_s)
        except Exception as error:  # a clip less, never a camera less
            self._tap = None
            log.warning("%s: its packets are recorded no more (%s: %s)", self._stream, type(error).__name__, error)
