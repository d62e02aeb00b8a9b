"""Encoded pictures as plain data: a packet, and the run of packets that one decoder could play from a key frame on."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
from av.container import OutputContainer
from av.video.stream import VideoStream

__all__ = ["CodedPacket", "CodedRun", "run_of"]


@dataclass(frozen=True, slots=True, eq=False)
class CodedRun:
    """Packets that belong together: same connection, codec, size and parameter sets, time stamps that go on.

    Attributes:
        number: 1.. in order; every change of what is said here is a new run.
        codec: FFmpeg's name ("h264", "hevc", "mjpeg", ...).
        time_base: seconds per unit of the packets' stamps.
        extradata: parameter sets as the container (or the latest key frame) gave them; may be empty.
        epoch: of the source's connection.
    """

    number: int
    codec: str
    wh: tuple[int, int]
    time_base: Fraction
    extradata: bytes = field(default=b"", repr=False)
    epoch: int = 0
    _template: VideoStream | None = field(default=None, repr=False)
    _holder: OutputContainer | None = field(default=None, repr=False)  # the template lives in it

    def add_to(self, container: OutputContainer) -> VideoStream:
        """A stream of `container` for these packets."""
        assert self._template is not None
        stream = container.add_stream_from_template(self._template, opaque=True)
        stream.time_base = self.time_base
        if self.extradata:
            stream.codec_context.extradata = self.extradata
        stream.width, stream.height = self.wh
        return stream


@dataclass(frozen=True, slots=True, eq=False)
class CodedPacket:
    """One encoded picture. `pts`, `dts`, `duration` in ``run.time_base``; `at_s` on one clock for all runs of a stream.

    `number` counts without a gap; `dts` grows strictly within a run. `captured_s` is ``time.monotonic()``.
    """

    run: CodedRun
    number: int
    data: bytes = field(repr=False)
    pts: int
    dts: int
    key: bool
    captured_s: float
    at_s: float = 0.0
    duration: int = 0

    def to_packet(self, stream: VideoStream, *, shift: int = 0) -> av.Packet[VideoStream]:
        """A packet for `stream` with `shift` taken off its stamps. Not a copy: many files share the bytes."""
        packet: Any = av.Packet(self.data)
        packet.stream = stream
        packet.time_base = self.run.time_base
        packet.pts, packet.dts, packet.duration = self.pts - shift, self.dts - shift, self.duration
        packet.is_keyframe = self.key
        return packet  # type: ignore[no-any-return]


def run_of(
    stream: VideoStream,
    number: int,
    *,
    epoch: int = 0,
    extradata: bytes | None = None,
    wh: tuple[int, int] | None = None,
) -> CodedRun:
    """The run that packets of `stream` belong to; it stays good when the stream's container is closed.

    `extradata`, `wh`: what the stream does not say (any more).
    """
    holder = av.open(io.BytesIO(), "w", format="matroska")  # never started: it only keeps the codec's parameters
    template = holder.add_stream_from_template(stream, opaque=True)
    context = stream.codec_context
    return CodedRun(
        number=number,
        codec=context.codec.canonical_name,
        wh=wh or (context.width, context.height),
        time_base=stream.time_base or Fraction(1, 90_000),
        extradata=bytes(context.extradata or b"") if extradata is None else extradata,
        epoch=epoch,
        _template=template,
        _holder=holder,
    )
