"""The annotated film: H.264 in MP4, MOV or Matroska, timed like its source, with the source's sound.

The only sink that imports PyAV. While it is written an MP4 is fragmented (``hybrid_fragmented``: a killed process leaves a film
that plays to within about a second of the end); when it is closed it becomes an ordinary one with its table of contents first.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import cv2
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from streamdet.coded.isom import cut_to_whole, moov_first
from streamdet.errors import OutputError
from streamdet.sinks.linefile import prepare_folder, unwritable
from streamdet.types import U8, Event, Frame, Result, SourceInfo

__all__ = ["VideoSink"]

log = logging.getLogger(__name__)

TIME_BASE = Fraction(1, 90_000)
_ISO = (".mp4", ".mov", ".m4v")
_SUFFIXES = (*_ISO, ".mkv")
_COPIED_AUDIO = {"aac", "mp3", "opus", "flac", "ac3", "eac3", "alac"}  # others become AAC
_KEY_FRAME_EVERY_S = 2.0
_SAVED_EVERY_S = 1.0  # what a killed process may lose, beside what the encoder still holds
_PRESET = "veryfast"
# without ACCURATE_RND greys turn a shade green (chroma 127); FULL_CHR_H_INP makes up for most of its cost
_CONVERSION = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP


class VideoSink:
    """Writes ``result.annotated()`` of every Result. Nothing is made before the first one.

    Frames are shown at their media time (``pts_s``), so a variable frame rate stays what it was; after a reconnect the film
    goes on without a gap. A frame of another size than the first is scaled into it, with black borders. Odd sizes grow by
    one repeated pixel, which 4:2:0 needs. Sound is copied (made AAC if its codec is unusual) for the time the film covers.

    Args:
        path: ends in .mp4, .mov, .m4v or .mkv.
        info: of the source: ``fps`` guides the encoder, ``path`` is where sound comes from.
        crf: quality 0..51, lower is better.

    Raises:
        OutputError: unknown suffix, not writable, disk full.
    """

    lossy = False

    def __init__(self, path: str | os.PathLike[str], *, info: SourceInfo, crf: int = 23, audio: bool = True) -> None:
        self._path = Path(path)
        if self._path.suffix.lower() not in _SUFFIXES:
            raise OutputError(f"cannot write a film called {self._path}: its name must end in {', '.join(_SUFFIXES)}")
        self._info = info
        self._crf = crf
        self._wants_audio = audio and info.path is not None
        self._container: av.container.OutputContainer | None = None
        self._stream: Any = None
        self._sound: _Sound | None = None
        self._reformatter = VideoReformatter()
        self._clock = _Clock(info.fps)
        self._wh = (0, 0)

    def __enter__(self) -> Self:
        prepare_folder(self._path)
        existed = self._path.exists()
        try:
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644))
        except OSError as error:
            raise unwritable(self._path, error) from None
        if not existed:  # only a try: a run without a frame leaves no file behind
            self._path.unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if self._container is None:
            return
        try:
            self._close()
        except OutputError:
            if self._path.suffix.lower() in _ISO:
                cut_to_whole(self._path)
            if error is None:  # else the first error is the one to tell
                raise

    def write(self, result: Result) -> None:
        frame = result.frame
        picture = result.annotated()
        try:
            if self._container is None:
                self._open(frame, picture)
            ticks = self._clock(frame)
            self._encode(picture, ticks)
            if self._sound is not None:
                self._sound.copy_until(float(ticks * TIME_BASE))
        except (av.error.FFmpegError, OSError) as error:
            raise self._failed(error) from None

    def finish(self, events: tuple[Event, ...]) -> None:
        """Nothing: a film has no events."""

    def _open(self, frame: Frame, picture: U8) -> None:
        height, width = picture.shape[:2]
        self._wh = (width, height)
        rate = Fraction(self._info.fps or 30.0).limit_denominator(1001)
        if self._path.suffix.lower() in _ISO:
            options = {
                "movflags": "+hybrid_fragmented+delay_moov",  # delay: else B-frames make the film start late
                "frag_duration": str(round(_SAVED_EVERY_S * 1e6)),
                "video_track_timescale": str(TIME_BASE.denominator),
            }
        else:
            options = {"cluster_time_limit": str(round(_SAVED_EVERY_S * 1e3))}
        options["flush_packets"] = "1"
        self._container = av.open(os.fspath(self._path), "w", options=options)
        stream = self._container.add_stream("libx264", rate=rate)
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        # no B-frames: FFmpeg's mov writer takes the length from the last frame *decoded*, and players cut the one shown after it
        stream.options = {"preset": _PRESET, "crf": str(self._crf), "bf": "0"}
        context = stream.codec_context
        context.time_base = TIME_BASE
        context.gop_size = max(1, round(_KEY_FRAME_EVERY_S * float(rate)))
        # players guess the matrix of untagged film from its size: tags and guess shall agree
        standard = 1 if height >= 720 else 6
        context.colorspace, context.color_primaries, context.color_trc = standard, standard, standard
        context.color_range = ColorRange.MPEG
        self._stream = stream
        self._matrix = Colorspace.ITU709 if standard == 1 else Colorspace.ITU601
        if self._wants_audio:
            self._sound = _Sound.open(self._info.path or "", self._container, _start_s(frame))

    def _encode(self, picture: U8, ticks: int) -> None:
        image = av.VideoFrame.from_numpy_buffer(self._fitted(picture), format="bgr24")
        image = self._reformatter.reformat(
            image,
            format="yuv420p",
            dst_colorspace=self._matrix,
            dst_color_range=ColorRange.MPEG,
            interpolation=_CONVERSION,
        )
        image.pts, image.time_base = ticks, TIME_BASE
        self._mux(self._stream.encode(image))

    def _fitted(self, picture: U8) -> U8:
        """The picture at the film's size, even in both directions, C-contiguous."""
        height, width = picture.shape[:2]
        if (width, height) != self._wh:
            picture = _letterboxed(picture, self._wh)
        right, bottom = self._stream.width - self._wh[0], self._stream.height - self._wh[1]
        if right or bottom:
            picture = np.asarray(cv2.copyMakeBorder(picture, 0, bottom, 0, right, cv2.BORDER_REPLICATE), np.uint8)
        return np.ascontiguousarray(picture)

    def _mux(self, packets: list[Any]) -> None:
        assert self._container is not None
        for packet in packets:
            packet.duration = self._clock.step  # decides only how long the last one is shown
            self._container.mux(packet)

    def _close(self) -> None:
        container, self._container = self._container, None
        assert container is not None
        try:
            self._container = container
            self._mux(self._stream.encode(None))
            if self._sound is not None:
                self._sound.copy_until(float(self._clock.end * TIME_BASE), last=True)
            container.close()
        except (av.error.FFmpegError, OSError) as error:
            raise self._failed(error) from None
        finally:
            self._container = None
            if self._sound is not None:
                self._sound.close()
        if self._path.suffix.lower() in _ISO:
            moov_first(self._path)

    def _failed(self, error: Exception) -> OutputError:
        if isinstance(error, OSError):
            return unwritable(self._path, error)
        return OutputError(f"cannot write film {self._path}: {error}")


class _Clock:
    """Media time -> ticks of TIME_BASE, strictly increasing, going on after a new epoch as if nothing had happened."""

    def __init__(self, fps: float | None) -> None:
        self.step = round((1 / fps if fps else 1 / 30) / TIME_BASE)  # of the latest frame
        self.end = 0
        self._last = -1
        self._epoch: int | None = None
        self._offset = 0

    def __call__(self, frame: Frame) -> int:
        ticks = round(frame.pts_s / TIME_BASE)
        if frame.epoch != self._epoch:
            self._offset = self.end - ticks
            self._epoch = frame.epoch
        ticks = max(ticks + self._offset, self._last + 1)
        if self._last >= 0:
            self.step = ticks - self._last
        self._last = ticks
        self.end = ticks + self.step
        return ticks


class _Sound:
    """The source's first audio stream on its way into the film, kept level with the pictures."""

    def __init__(self, source: av.container.InputContainer, film: av.container.OutputContainer, start_s: float) -> None:
        self._source = source
        self._film = film
        self._start_s = start_s  # time of the first picture in the source
        self._in = source.streams.audio[0]
        name = self._in.codec_context.name
        # AAC without its configuration is ADTS (AVI, MPEG-TS): the film's container cannot take it as it is
        self._copied = name in _COPIED_AUDIO and not (name == "aac" and not self._in.codec_context.extradata)
        self._out: Any
        if self._copied:
            self._out = film.add_stream_from_template(self._in)
        else:
            self._out = film.add_stream("aac", rate=self._in.codec_context.sample_rate or 48_000)
            context: AudioCodecContext = self._out.codec_context
            context.layout = "mono" if self._in.codec_context.channels == 1 else "stereo"
        self._packets = self._timed_packets()
        self._waiting: tuple[float, Any] | None = None
        self._over = False

    @classmethod
    def open(cls, path: str, film: av.container.OutputContainer, start_s: float) -> _Sound | None:
        """None (and a word in the log) when there is no sound to be had."""
        try:
            source = av.open(path)
        except (av.error.FFmpegError, OSError):
            return None
        if source.streams.audio:
            try:
                return cls(source, film, start_s)
            except (av.error.FFmpegError, ValueError) as error:
                log.warning("the film is silent: sound of %s cannot be carried over (%s)", path, error)
        source.close()
        return None

    def copy_until(self, time_s: float, *, last: bool = False) -> None:
        """Put all sound that begins before `time_s` of the film into it."""
        while not self._over and (self._waiting is not None or self._next()):
            assert self._waiting is not None
            if self._waiting[0] >= time_s:
                break
            self._film.mux(self._waiting[1])
            self._waiting = None
        if last and not self._copied:
            self._film.mux(self._out.encode(None))

    def close(self) -> None:
        self._source.close()

    def _next(self) -> bool:
        self._waiting = next(self._packets, None)
        self._over = self._waiting is None
        return not self._over

    def _timed_packets(self) -> Iterator[tuple[float, Any]]:
        """(time in the film, packet or list of packets); ends quietly where the source is damaged."""
        try:
            yield from self._copies() if self._copied else self._transcoded()
        except av.error.FFmpegError as error:
            log.warning("sound ends early: %s", error)

    def _copies(self) -> Iterator[tuple[float, Any]]:
        for packet in self._source.demux(self._in):
            if packet.pts is None or packet.time_base is None:
                continue
            time_s = float(packet.pts * packet.time_base) - self._start_s
            if time_s < -1e-3:
                continue
            shift = round(self._start_s / packet.time_base)
            packet.pts -= shift
            packet.dts = packet.pts
            packet.stream = self._out
            yield time_s, packet

    def _transcoded(self) -> Iterator[tuple[float, Any]]:
        context = self._out.codec_context
        resampler = av.AudioResampler(format="fltp", layout=context.layout, rate=context.sample_rate)
        for frame in self._source.decode(self._in):
            if frame.pts is None or frame.time_base is None:
                continue
            time_s = float(frame.pts * frame.time_base) - self._start_s
            if time_s < 0:
                continue
            frame.pts = round(time_s / frame.time_base)
            packets = [packet for piece in resampler.resample(frame) for packet in self._out.encode(piece)]
            yield time_s, packets


def _start_s(frame: Frame) -> float:
    """When the first picture of the film is shown in its source."""
    if frame.pts is None or frame.time_base is None:
        return frame.pts_s
    return float(frame.pts * frame.time_base)


def _letterboxed(picture: U8, wh: tuple[int, int]) -> U8:
    width, height = wh
    scale = min(width / picture.shape[1], height / picture.shape[0])
    inner = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    full = np.zeros((height, width, 3), np.uint8)
    full[top : top + inner[1], left : left + inner[0]] = cv2.resize(picture, inner, interpolation=cv2.INTER_AREA)
    return full
