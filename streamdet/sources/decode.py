"""Packets -> decoded frames, never stopping at the first bad one, and closable from another thread."""

from __future__ import annotations

import contextlib
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any

import av
from av import Packet, VideoFrame
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from streamdet.sources.loss import LossWatch
from streamdet.sources.tap import Tapping

__all__ = ["Decoder", "Opened"]

Opened = tuple[InputContainer, VideoStream]

_READ_ERRORS_IN_A_ROW = 50  # a damaged file: how often reading is tried again without getting a packet
_POLL_MS = 100
_REPLAY_LEAST = 64  # packets: more than decoding threads ever hold in flight
_REPLAY_MOST = 1500  # packets, and bytes of them, kept when keyframes are far apart
_REPLAY_MOST_BYTES = 64 << 20
_ONE_PACKET_ONE_FRAME = ("h264", "hevc")  # unless interlaced; others hide frames (vp8) or are not worth asking


class Decoder:
    """Owns an open container and yields the frames of one of its streams.

    A packet that cannot be decoded is counted in ``damaged`` and skipped. Reading goes on after damage too
    (`tolerant`), as long as packets come; otherwise the first error ends the iterator. ``ended_by`` is that error, None
    after a clean end.

    With frame threads (files) a bad packet takes good frames with it that are in flight beside it. So with `reopen` the
    latest packets are remembered; at the first trouble they are decoded again by a careful second decoder without such
    threads, which then does the rest.

    With `copies`, packets are copied as they are read: a device lends its memory only while it is open.

    FFmpeg waits for ever for a camera that hangs; so with `device`, its descriptor, nothing is read from it before it
    has something, and silence of `device_timeout_s` ends the iterator with ``ended_by`` a TimeoutError.

    Every packet read is shown to `tapping`, before it is decoded. With `loss`, pictures that are not whole are not yielded.
    Packets that give no picture at all for `patience_s` (0: for ever) end the iterator as silence does.

    ``close()`` may come from any thread. While FFmpeg works on the container it is not touched: the iterator then frees
    it when FFmpeg comes back, at the latest after the container's read time-out.
    """

    def __init__(
        self,
        container: InputContainer,
        video: VideoStream,
        *,
        tolerant: bool,
        reopen: Callable[[], Opened] | None = None,
        copies: bool = False,
        device: int | None = None,
        device_timeout_s: float = 0.0,
        tapping: Tapping | None = None,
        loss: LossWatch | None = None,
        patience_s: float = 0.0,
    ) -> None:
        self.damaged = 0
        self.packets = 0
        self.ended_by: BaseException | None = None
        self._container: InputContainer | None = container
        self._video: VideoStream | None = video
        self._codec: VideoCodecContext | None = video.codec_context
        self._codec_name = video.codec_context.name
        self._time_base = video.time_base
        self._tolerant = tolerant
        self._expected = 0  # packets that ought to give a frame
        self._yielded = 0
        self._interlaced = False
        self._replay = _Replay() if reopen is not None else None
        self._reopen = reopen
        self._copies = copies
        self._device = device
        self._device_timeout_s = device_timeout_s
        self._tapping = tapping
        self._loss = loss
        self._patience_s = patience_s
        self._second: InputContainer | None = None
        self._packets: Iterator[Packet[VideoStream]] | None = None
        self._closed = threading.Event()
        self._at_work = threading.Lock()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    @property
    def swallowed(self) -> int:
        """Packets the decoder took without complaint and without giving a frame: known at the end, for some codecs."""
        if self._codec_name not in _ONE_PACKET_ONE_FRAME or self._interlaced:
            return 0
        return max(0, self._expected - self.damaged - self._yielded)

    def close(self) -> None:
        self._closed.set()
        if self._at_work.acquire(blocking=False):
            try:
                self._free()
            finally:
                self._at_work.release()

    def _free(self) -> None:
        if isinstance(self._packets, Generator):
            self._packets.close()  # it holds the latest packet, which a device must have back before it closes
        self._settle()
        containers, self._container, self._second = (self._container, self._second), None, None
        self._video = self._codec = self._replay = None  # a decoder of 4K holds 80 MB of pictures and its threads
        for container in containers:
            if container is not None:
                container.close()

    def _settle(self) -> None:
        """Let the decoding threads come to rest, without holding the interpreter.

        PyAV ends them while holding it; one that has a warning to log just then waits for it, and both wait for ever.
        """
        first = self._video.codec_context if self._video is not None else None
        for codec in {id(one): one for one in (first, self._codec) if one is not None}.values():
            with contextlib.suppress(av.FFmpegError, ValueError):
                codec.flush_buffers()

    def __iter__(self) -> Iterator[tuple[VideoFrame, float]]:
        """Yields (frame, ``time.monotonic()`` when it left the decoder). Every frame has a time base."""
        read_errors = 0
        last_s = time.monotonic()
        more = True
        while more:
            with self._at_work, self._reading() as read:
                if self._container is None or self.closed:
                    self._free()
                    return
                packets = self._packets = self._packets or self._container.demux(self._stream())
                try:
                    if not self._device_is_ready():
                        continue
                    packet = self._read(packets)
                    read_errors, self.ended_by = 0, None
                except (av.FFmpegError, OSError) as error:  # the generator is spent; the container may not be
                    self.ended_by = error
                    self._packets, packet = None, None
                    read_errors += 1
                    if self._may_go_on(error) and read_errors <= _READ_ERRORS_IN_A_ROW:
                        continue
                more = packet is not None
                read.append(packet)
                if self._tapping is not None and packet is not None and packet.size:
                    self._tapping(self._stream(), packet, time.monotonic())
                frames = self._decode(packet)
            now_s = time.monotonic()
            if frames:
                last_s = now_s
            elif more and self._patience_s and now_s - last_s > self._patience_s:
                self.ended_by = TimeoutError(f"no picture could be decoded for {self._patience_s:g} s")
                return
            for frame in frames:
                if frame.time_base is None:  # as PyAV leaves it when a decoder is emptied by hand
                    frame.time_base = self._time_base
                self._yielded += 1
                self._interlaced = self._interlaced or frame.interlaced_frame
                if self._loss is None or self._loss.passes(frame):
                    yield frame, now_s
            if self.closed:
                self.close()

    def _reading(self) -> contextlib.AbstractContextManager[list[Packet[VideoStream] | None]]:
        return contextlib.nullcontext([]) if self._loss is None else self._loss.reading()

    def _read(self, packets: Iterator[Packet[VideoStream]]) -> Packet[VideoStream] | None:
        """The next packet; with `copies` a copy: a device's own memory, freed after the device is closed, ends the process."""
        packet = next(packets, None)
        if packet is None or not self._copies or not packet.size:
            return packet
        own: Any = Packet(memoryview(packet).tobytes())
        own.pts, own.dts, own.time_base, own.is_keyframe = packet.pts, packet.dts, packet.time_base, packet.is_keyframe
        made: Packet[VideoStream] = own
        return made

    def _device_is_ready(self) -> bool:
        """Wait until reading cannot block; False when closed meanwhile. Raises TimeoutError."""
        if self._device is None:
            return True
        poll = select.poll()
        poll.register(self._device, select.POLLIN)
        deadline_s = time.monotonic() + self._device_timeout_s
        while not self.closed:
            if poll.poll(_POLL_MS):
                return True
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"no picture within {self._device_timeout_s:g} s")
        return False

    def _stream(self) -> VideoStream:
        assert self._video is not None  # there while the container is
        return self._video

    def _may_go_on(self, error: BaseException) -> bool:
        return self._tolerant and isinstance(error, av.InvalidDataError)

    def _decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        """Frames that became ready; None, or an empty packet, empties the decoder at the end."""
        at_end = packet is None or not packet.size
        if packet is not None and not at_end:
            self.packets += 1
            self._expected += not packet.is_discard
        if self._replay is not None and packet is not None and not at_end:
            self._replay.remember(packet)
        assert self._codec is not None
        try:
            frames = self._codec.decode(packet)
        except av.EOFError:  # emptied before
            return []
        except (av.FFmpegError, OSError):
            if self._replay is not None and self._replay.count:
                return self._start_again(self._replay, at_end=at_end)
            self.damaged += 1
            if self._loss is not None:
                self._loss.damaged()
            return []
        if self._replay is not None:
            self._replay.shown.extend(frame.pts for frame in frames)
            if at_end and self._replay.lacks_some():
                return frames + self._start_again(self._replay, at_end=True)
        return frames

    def _start_again(self, replay: _Replay, *, at_end: bool) -> list[VideoFrame]:
        """Decode what is remembered with a decoder without frame threads, and stay with that one."""
        assert self._reopen is not None
        self._replay = None
        try:
            self._second, video = self._reopen()
        except Exception:  # the file has gone meanwhile; the first decoder still has the rest
            self.damaged += 1
            return []
        video.thread_type = "SLICE"
        self._codec = video.codec_context
        frames = [frame for packet in replay.packets() for frame in self._decode(packet)]
        self.packets -= replay.count  # they were counted the first time
        self._expected -= sum(not packet.is_discard for packet in replay.packets())
        if at_end:
            frames += self._decode(None)
        shown = set(replay.shown)
        return [frame for frame in frames if frame.pts is None or frame.pts not in shown]


class _Replay:
    """The latest packets, from a keyframe on and at least as many as can be in flight; and the stamps shown of late.

    Empty where keyframes are too far apart to remember all since the last one.
    """

    def __init__(self) -> None:
        self.shown: deque[int | None] = deque(maxlen=2 * _REPLAY_MOST)
        self.count = 0
        self._bytes = 0
        self._groups: deque[list[Packet[VideoStream]]] = deque()  # each starts with a keyframe

    def remember(self, packet: Packet[VideoStream]) -> None:
        if packet.is_keyframe:
            self._groups.append([])
        elif not self._groups:
            return
        self._groups[-1].append(packet)
        self.count += 1
        self._bytes += packet.size
        while self._groups and self._too_many():
            oldest = self._groups.popleft()
            self.count -= len(oldest)
            self._bytes -= sum(old.size for old in oldest)

    def _too_many(self) -> bool:
        enough = self.count - len(self._groups[0]) >= _REPLAY_LEAST
        return enough or self.count > _REPLAY_MOST or self._bytes > _REPLAY_MOST_BYTES

    def packets(self) -> Iterator[Packet[VideoStream]]:
        for group in self._groups:
            yield from group

    def lacks_some(self) -> bool:
        """Whether a remembered packet gave no frame (some never do; then looking again only costs a little time)."""
        shown = set(self.shown)
        return any(p.pts is not None and p.pts not in shown and not p.is_discard for p in self.packets())
