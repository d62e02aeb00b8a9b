"""Packets -> decoded frames, never stopping at the first bad one, and closable from another thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import av
from av import Packet, VideoFrame
from av.container import InputContainer
from av.video.stream import VideoStream

__all__ = ["Decoder"]

_READ_ERRORS_IN_A_ROW = 50  # a damaged file: how often reading is tried again without getting a packet


class Decoder:
    """Owns an open container and yields the frames of one of its streams.

    A packet that cannot be decoded is counted in ``damaged`` and skipped. Reading goes on after damage too
    (`tolerant`), as long as packets come; otherwise the first error ends the iterator. ``ended_by`` is that error, None
    after a clean end.

    ``close()`` may come from any thread. While FFmpeg works on the container it is not touched: the iterator then frees
    it when FFmpeg comes back, at the latest after the container's read time-out.
    """

    def __init__(self, container: InputContainer, video: VideoStream, *, tolerant: bool) -> None:
        self.damaged = 0
        self.packets = 0
        self.ended_by: BaseException | None = None
        self._container: InputContainer | None = container
        self._video = video
        self._tolerant = tolerant
        self._closed = threading.Event()
        self._at_work = threading.Lock()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def close(self) -> None:
        self._closed.set()
        if self._at_work.acquire(blocking=False):
            try:
                self._free()
            finally:
                self._at_work.release()

    def _free(self) -> None:
        container, self._container = self._container, None
        if container is not None:
            container.close()

    def __iter__(self) -> Iterator[tuple[VideoFrame, float]]:
        """Yields (frame, ``time.monotonic()`` when it left the decoder). Every frame has a time base."""
        packets: Iterator[Packet[VideoStream]] | None = None
        read_errors = 0
        more = True
        while more:
            with self._at_work:
                if self._container is None or self.closed:
                    self._free()
                    return
                packets = packets or self._container.demux(self._video)
                try:
                    packet = next(packets, None)
                    read_errors, self.ended_by = 0, None
                except (av.FFmpegError, OSError) as error:  # the generator is spent; the container may not be
                    self.ended_by = error
                    packets, packet = None, None
                    read_errors += 1
                    if self._may_go_on(error) and read_errors <= _READ_ERRORS_IN_A_ROW:
                        continue
                more = packet is not None
                frames = self._decode(packet)
            now_s = time.monotonic()
            for frame in frames:
                yield frame, now_s
            if self.closed:
                self.close()

    def _may_go_on(self, error: BaseException) -> bool:
        return self._tolerant and isinstance(error, av.InvalidDataError)

    def _decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        """Frames that became ready; None empties the decoder (a no-op if demuxing has done so at its end)."""
        if packet is not None and packet.size:
            self.packets += 1
        try:
            frames = self._video.decode(packet)
        except av.EOFError:
            return []
        except (av.FFmpegError, OSError):
            self.damaged += 1
            return []
        for frame in frames:
            if frame.time_base is None:  # as PyAV leaves it when the decoder was emptied by hand
                frame.time_base = self._video.time_base
        return frames
