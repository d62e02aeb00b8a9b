"""The latest packets of a camera, as it sent them: what a clip's beginning is cut from."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from dataclasses import replace
from itertools import islice
from typing import Any

import av

from streamdet.coded.packet import CodedPacket, CodedRun, run_of
from streamdet.coded.parameters import parameter_sets

__all__ = ["PacketRing"]

_JUMP_BACK_S = 0.5  # decoding stamps that go back this far, or ...
_JUMP_AHEAD_S = 30.0  # ... forward this far, begin a new run
_MOST_PACKETS = 60_000


class PacketRing:
    """Keeps at least `seconds` of packets, from a key frame on, in at most `max_bytes`. Implements ``sources.tap.PacketTap``.

    Filled on the capture thread, which never waits for more than another thread's look into the list. When the bytes do not
    fit, whole groups from the oldest key frame on are forgotten (``too_big`` counts them), so what is left always starts with
    a key frame. A new connection, other parameter sets (size, codec) or a jump of the stamps begin a new :class:`CodedRun`.

    ``at_s`` of a packet is the stream's own time: it goes on over all runs, with the stamps inside a run and with the clock of
    the capture thread between runs.
    """

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self.changed = threading.Condition()
        self.size = 0
        self.too_big = 0
        self.run: CodedRun | None = None
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._packets: deque[CodedPacket] = deque()
        self._keys: deque[CodedPacket] = deque()
        self._next = 0
        self._runs = 0
        self._stream: Any = None
        self._epoch = 0
        self._sets = b""
        self._last: CodedPacket | None = None

    # ------------------------------------------------------------------------------------------------ the capture thread

    def opened(self, stream: Any, epoch: int) -> None:
        """A new connection: what comes from now on belongs to another run."""
        self._begin(stream, epoch, b"")

    def packet(self, packet: Any, captured_s: float) -> None:
        """Take one packet of the stream. Returns at once."""
        run, key = self.run, bool(packet.is_keyframe)
        assert run is not None, "opened() comes first"
        data = bytes(packet)
        sets = (
            parameter_sets(run.codec, data) if key and run.extradata[:1] != b"\x01" else b""
        )  # 1: they are not in the packets
        if sets and sets != self._sets:
            if self._sets or not run.extradata:
                run = self._begin(
                    self._stream, self._epoch, sets, _size_of(run.codec, sets, data) if self._sets else None
                )
            self._sets = sets
        dts, pts = packet.dts, packet.pts
        last = self._last if self._last is not None and self._last.run is run else None
        dts = dts if dts is not None else pts if pts is not None else None
        if dts is None:  # no stamp at all: after the one before, as the clock says
            passed_s = captured_s - last.captured_s if last else 0.0
            dts = last.dts + max(1, round(passed_s / run.time_base)) if last else 0
        pts = pts if pts is not None else dts
        if last is not None:
            step_s = float((dts - last.dts) * run.time_base)
            if step_s < -_JUMP_BACK_S or step_s > _JUMP_AHEAD_S:
                run, last = self._begin(self._stream, self._epoch, self._sets), None
            elif dts <= last.dts:
                dts = last.dts + 1
        at_s = self._time_of(dts, captured_s, run, last)
        self._put(CodedPacket(run, self._next, data, max(pts, dts), dts, key, captured_s, at_s, packet.duration or 0))

    def _put(self, packet: CodedPacket) -> None:
        with self.changed:
            self.run = packet.run
            self._next, self._last = packet.number + 1, packet
            if packet.key:
                self._keys.append(packet)
            if self._keys:  # nothing can be begun with what comes before the first key frame
                self._packets.append(packet)
                self.size += len(packet.data)
                self._forget(packet.at_s)
            self.changed.notify_all()

    def put_coded(self, packet: CodedPacket) -> None:
        """Take a packet of our own encoder: numbered and timed here."""
        last = self._last if self._last is not None and self._last.run is packet.run else None
        at_s = self._time_of(packet.dts, packet.captured_s, packet.run, last)
        self._put(replace(packet, number=self._next, at_s=at_s))

    @property
    def next_number(self) -> int:
        return self._next

    # ------------------------------------------------------------------------------------------------------- any thread

    def since(self, number: int) -> list[CodedPacket]:
        """Packets from `number` on that are still there; a gap before the first one shows by its number."""
        with self.changed:
            if not self._packets or number > self._packets[-1].number:
                return []
            skip = max(0, number - self._packets[0].number)
            return list(islice(self._packets, skip, None))

    def at(self, pts: int | None, epoch: int) -> CodedPacket | None:
        """The packet of the picture with this stamp (the newest such); None: it is gone or never was."""
        if pts is None:
            return None
        with self.changed:
            for packet in reversed(self._packets):
                if packet.run.epoch < epoch:
                    return None
                if pts in (packet.pts, packet.dts) and packet.run.epoch == epoch:
                    return packet
        return None

    def newest(self) -> CodedPacket | None:
        with self.changed:
            return self._packets[-1] if self._packets else None

    def key_before(self, at_s: float, run: CodedRun) -> CodedPacket | None:
        """The last key frame of `run` at or before `at_s`, else the first one after it."""
        with self.changed:
            keys = [key for key in self._keys if key.run is run]
        index = bisect_left(keys, at_s, key=lambda key: key.at_s + 1e-6)
        return keys[max(0, index - 1)] if keys else None

    # ---------------------------------------------------------------------------------------------------------- inside

    def _begin(self, stream: Any, epoch: int, sets: bytes, wh: tuple[int, int] | None = None) -> CodedRun:
        self._runs += 1
        self._stream, self._epoch, self._sets = stream, epoch, sets
        run = run_of(stream, self._runs, epoch=epoch, extradata=sets or None, wh=wh)
        with self.changed:
            self.run = run
            self.changed.notify_all()
        return run

    def _time_of(self, dts: int, captured_s: float, run: CodedRun, last: CodedPacket | None) -> float:
        if last is not None:
            return last.at_s + float((dts - last.dts) * run.time_base)
        if self._last is None:
            return 0.0
        return self._last.at_s + max(1e-3, captured_s - self._last.captured_s)

    def _forget(self, now_s: float) -> None:
        """Drop the oldest group while the next one alone reaches back far enough, or what is kept is too much."""
        while self._keys:
            too_big = self.size > self._max_bytes or len(self._packets) > _MOST_PACKETS
            if not too_big and (len(self._keys) < 2 or now_s - self._keys[1].at_s < self._seconds):
                return
            self.too_big += too_big
            self._keys.popleft()
            until = self._keys[0].number if self._keys else self._next
            while self._packets and self._packets[0].number < until:
                self.size -= len(self._packets.popleft().data)


def _size_of(codec: str, sets: bytes, data: bytes) -> tuple[int, int] | None:
    """Width and height of the picture a key frame holds: a camera that changed its size says so nowhere else."""
    context: Any = av.CodecContext.create(codec, "r")
    context.extradata = sets
    try:
        frames = [*context.decode(av.Packet(data + bytes(64))), *context.decode(None)]
    except av.FFmpegError:
        return None
    return (frames[0].width, frames[0].height) if frames else None
