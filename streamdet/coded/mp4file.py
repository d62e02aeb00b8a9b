"""Packets -> an MP4 file, without encoding: playable while it is written, after a kill, and in browsers once it is closed."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path

import av
from av.container import OutputContainer
from av.video.stream import VideoStream

from streamdet.coded.isom import moov_first
from streamdet.coded.packet import CodedPacket

__all__ = ["IN_MP4", "PLAYS_IN_BROWSERS", "Mp4File", "mended"]

IN_MP4 = {"h264", "hevc", "av1", "vp9", "mpeg4", "mjpeg"}
PLAYS_IN_BROWSERS = {"h264", "av1", "vp9"}  # H.265 only in some, and only where the hardware decodes it
_TAGS = {"hevc": "hvc1"}  # hev1, FFmpeg's choice, does not play on Apple's
_SAVED_EVERY_S = 1.0
PART = ".part"


class Mp4File:
    """A film that starts at a key frame, its first picture shown at time 0. Lies as ``.NAME.part`` beside `path` until closed
    (`in_place`: at `path` from the beginning).

    Packets are those of one run, in order. Pictures that would be shown before the first one refer to what is not in the film and
    are left out. Written in fragments (a killed process leaves a film that plays; see :func:`mended`), closed with the table of
    contents first.

    Raises:
        OSError: disk full, folder gone (also for what FFmpeg says of it). What was written so far is discarded by ``discard``.
    """

    def __init__(self, path: Path, first: CodedPacket, *, in_place: bool = False) -> None:
        if not first.key:
            raise ValueError("a film starts with a key frame")
        self.path = path
        self.first = first
        self.frames = 0
        self._part = path if in_place else path.with_name(f".{path.name}{PART}")
        self._waiting: CodedPacket | None = None
        self._end = first.pts  # of what is shown, in the run's units
        self._step = max(first.duration, 1)
        self._container: OutputContainer | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        options = {
            "movflags": "+hybrid_fragmented+delay_moov",
            "frag_duration": str(round(_SAVED_EVERY_S * 1e6)),
            "flush_packets": "1",
        }
        # through Python's own file: PyAV holds Python's lock while FFmpeg opens and ends files; a slow disk would stop all
        self._io = self._part.open("wb", buffering=0)
        self._container = av.open(self._io, "w", format="mp4", options=options)
        self._stream: VideoStream = first.run.add_to(self._container)
        if tag := _TAGS.get(first.run.codec):
            self._stream.codec_context.codec_tag = tag
        self.add(first)

    @property
    def seconds(self) -> float:
        """How long it plays."""
        return float((self._end - self.first.pts) * self.first.run.time_base)

    @property
    def end_pts(self) -> int:
        """When the last picture has been shown, in the run's units."""
        return self._end

    @property
    def closed(self) -> bool:
        return self._container is None

    def add(self, packet: CodedPacket) -> None:
        """Raises OSError, or ValueError for a packet of another run."""
        if packet.run is not self.first.run:
            raise ValueError("packets of another run belong into another film")
        if packet.pts < self.first.pts:
            return
        if self._waiting is not None:
            self._step = packet.dts - self._waiting.dts
            self._put(replace(self._waiting, duration=self._step))
        self._waiting = packet
        self._end = max(self._end, packet.pts + max(packet.duration or self._step, 1))
        self.frames += 1

    def close(self) -> Path:
        """Finish the file and put it at its place. Raises OSError."""
        container = self._container
        assert container is not None
        if (
            self._waiting is not None
        ):  # its decoding ends when the last picture has been shown: players take the length from it
            self._put(replace(self._waiting, duration=max(1, self._end - self._waiting.dts)))
        self._container = None
        try:
            container.close()
        except av.FFmpegError as error:
            raise _as_os_error(error) from None
        finally:
            self._io.close()
        moov_first(self._part)
        os.replace(self._part, self.path)
        return self.path

    def discard(self) -> None:
        """Give up: nothing is left."""
        container, self._container = self._container, None
        if container is not None:
            with contextlib.suppress(OSError, av.FFmpegError):  # the disk is full: that is why
                container.close()
        self._io.close()
        self._part.unlink(missing_ok=True)

    def _put(self, packet: CodedPacket) -> None:
        assert self._container is not None
        try:
            self._container.mux(packet.to_packet(self._stream, shift=self.first.pts))
        except av.FFmpegError as error:
            raise _as_os_error(error) from None


def _as_os_error(error: av.FFmpegError) -> OSError:
    if isinstance(error, OSError):
        return error
    return OSError(getattr(error, "errno", None) or 0, error.strerror or str(error))


def mended(part: Path) -> Path | None:
    """Turn what a killed process left into a film at its proper place; None: nothing of it plays, and it is gone."""
    path = part.with_name(part.name.removeprefix(".").removesuffix(PART))
    try:
        with av.open(os.fspath(part)) as container:
            packet = next((p for p in container.demux(video=0) if p.size), None)
    except (OSError, av.FFmpegError, IndexError):
        packet = None
    if packet is None or path.exists():
        part.unlink(missing_ok=True)
        return None
    os.replace(part, path)
    return path
