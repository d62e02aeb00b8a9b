"""Whoever wants a camera's own packets (clips without re-encoding) taps them where they are read, before they are decoded."""

from __future__ import annotations

import logging
from typing import Protocol

from av import Packet
from av.video.stream import VideoStream

__all__ = ["PacketTap", "Tapping"]

log = logging.getLogger(__name__)

AGAIN_AFTER_S = 5.0


class PacketTap(Protocol):
    """Shown every packet of a stream, on the capture thread: both methods must return at once, and copy what they keep.

    ``opened`` comes before the first packet of every connection (`epoch` counts them), and again after a fault in the tap; the
    stream belongs to the source and is gone when it closes. ``packet`` comes in the order of decoding, damaged ones too;
    `captured_s` is ``time.monotonic()`` when it was read.
    """

    def opened(self, stream: VideoStream, epoch: int) -> None: ...
    def packet(self, packet: Packet[VideoStream], captured_s: float) -> None: ...


class Tapping:
    """Guards a tap: it is told of the stream before the first packet; one that fails is shown none for a while, with one warning.

    Then it begins anew, at a key packet: events go on promising clips, so there have to be some again.
    """

    def __init__(self, tap: PacketTap | None, *, stream: str, epoch: int) -> None:
        self._tap = tap
        self._stream = stream
        self._epoch = epoch
        self._told = False
        self._again_s: float | None = None  # when it may be tried again
        self._warned = False

    def __call__(self, video: VideoStream, packet: Packet[VideoStream], captured_s: float) -> None:
        if self._tap is None or not self._ready(packet, captured_s):
            return
        try:
            if not self._told:
                self._told = True
                self._tap.opened(video, self._epoch)
            self._tap.packet(packet, captured_s)
        except Exception as error:  # a clip less, never a camera less
            self._told, self._again_s = False, captured_s + AGAIN_AFTER_S
            level = logging.DEBUG if self._warned else logging.WARNING
            self._warned = True
            said = "%s: its packets are not recorded for %.0f s (%s: %s)"
            log.log(level, said, self._stream, AGAIN_AFTER_S, type(error).__name__, error)

    def _ready(self, packet: Packet[VideoStream], captured_s: float) -> bool:
        if self._again_s is None:
            return True
        if captured_s < self._again_s or not packet.is_keyframe:
            return False
        self._again_s = None
        return True
