"""Video of any kind FFmpeg reads: files, network streams, cameras. One VideoSource is one stream."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import chain
from math import ceil
from pathlib import Path
from types import TracebackType
from typing import Self

import av
from av import VideoFrame
from av.codec.context import Flags
from av.container import InputContainer
from av.stream import Discard
from av.video.stream import VideoStream

from streamdet.config import SourceConfig
from streamdet.errors import SourceLostError, SourceOpenError, redact
from streamdet.sources.behind import open_behind
from streamdet.sources.clock import MediaClock, utc_now
from streamdet.sources.decode import Decoder, Opened
from streamdet.sources.hardware import accelerator
from streamdet.sources.loss import LossWatch
from streamdet.sources.opening import (
    ALWAYS_LIVE,
    descriptor_of,
    is_address,
    local_path,
    open_media,
    reason_of,
    scheme_of,
    video_stream_of,
)
from streamdet.sources.picture import PictureMaker
from streamdet.sources.tap import PacketTap, Tapping
from streamdet.types import Frame, SourceInfo

__all__ = ["CameraSource", "VideoSource"]

_LOG = logging.getLogger(__name__)
_CAMERAS = "v4l2"  # Video4Linux2
_ASSUMED_FPS = 25.0
_BELIEVABLE_FPS = 2000
_MISSING_S = 1.0  # a file whose pictures end this much before its stated length is called cut short


class VideoSource:
    """Frames of a video file, address or device, in the order they are shown. Implements `protocols.Source`.

    Time: ``pts_s`` counts from the first frame (see :class:`MediaClock` for missing or unsound stamps). A *live* stream
    (rtsp, rtmp, udp, cameras; http without a length) gets ``utc``, is decoded without delay, and its end or a time-out
    raises SourceLostError. A *file* (also one served over http) yields every frame that can be decoded; what cannot is
    counted, and told in :attr:`warnings`: sentences for the user, without secrets.

    ``counts``: "decoded" frames; "damaged" packets that gave no picture or are missing from the file; "concealed"
    frames among the decoded ones that the decoder patched up; "tainted" frames of a live stream that were not given out because
    something had been lost on the way (see `streamdet.sources.loss`); "skipped" is 0 here.

    ``close()`` may come from any thread: the iterator ends with the next packet, at the latest after
    ``config.read_timeout_s``. Entered and iterated once. The picture's size may change in the middle of a stream.

    `tap` is shown the packets as they are read (:class:`PacketTap`); `epoch` is the number of this connection. `hwaccel`: the GPU
    that decodes (``cuda:0``), None for the CPU, which also does what that GPU cannot.
    """

    def __init__(
        self,
        uri: str,
        *,
        stream: str,
        config: SourceConfig,
        live: bool | None = None,
        format: str | None = None,
        options: dict[str, str] | None = None,
        tap: PacketTap | None = None,
        epoch: int = 0,
        hwaccel: str | None = None,
    ) -> None:
        self._told_concealed = False
        self.counts = {"decoded": 0, "damaged": 0, "concealed": 0, "tainted": 0, "skipped": 0}
        self.warnings: list[str] = []
        self._uri, self._stream, self._config, self._live = uri, stream, config, live
        self._format, self._options = format, options
        self._name = redact(uri)
        self._tap, self._epoch = tap, epoch
        self._hwaccel = hwaccel
        self._info: SourceInfo | None = None
        self._decoder: Decoder | None = None
        self._frames: Iterator[tuple[VideoFrame, float]] = iter(())
        self._make_picture = PictureMaker()
        self._unreadable = 0
        self._stated_packets = 0
        self._trust_pts = True

    def __enter__(self) -> Self:
        """Open and wait for the first picture. Raises SourceOpenError: one sentence, the source and the remedy."""
        container, video = self._open()
        try:
            live = _is_live(container, self._uri, self._format) if self._live is None else self._live
            _set_up(container, video, live=live)
            aspect = video.sample_aspect_ratio
            self._stated_packets = video.frames
            self._trust_pts = container.format.name != "avi"  # it stores none
        except BaseException:
            container.close()
            raise
        self._make_picture = PictureMaker(aspect, threads=1 if live else 0)
        self._decoder = Decoder(
            container,
            video,
            tolerant=not live,
            reopen=None if live else self._open,
            copies=self._format == _CAMERAS,
            device=descriptor_of(self._uri) if self._format == _CAMERAS else None,
            device_timeout_s=self._config.read_timeout_s,
            tapping=Tapping(self._tap, stream=self._stream, epoch=self._epoch) if self._tap is not None else None,
            loss=LossWatch(self.counts) if live else None,
            patience_s=self._config.read_timeout_s if live else 0.0,
        )
        self._frames = iter(self._decoder)
        try:
            first = self._first_frame(live=live)
            self._info = self._describe(container, video, first[0], live=live)
        except BaseException:
            self.close()
            raise
        self._frames = chain([first], self._frames)
        return self

    def _open(self) -> Opened:
        hardware = accelerator(self._hwaccel, self._name)
        container = open_media(self._uri, self._config, format=self._format, options=self._options, hwaccel=hardware)
        try:
            video = video_stream_of(container, self._uri)
        except BaseException:
            container.close()
            raise
        if hardware is not None and not video.codec_context.is_hwaccel:
            codec = video.codec_context.name
            _LOG.warning("%s is decoded on the CPU: the GPU has no decoder for %s", self._name, codec)
        return container, video

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._decoder is not None:
            self._decoder.close()
        self._tell_concealed()  # also of a file that was not read to its end

    @property
    def info(self) -> SourceInfo:
        """Known once entered. ``frame_wh`` is the upright, square-pixel size of the first picture."""
        if self._info is None:
            raise RuntimeError("open the source first: `with source:`")
        return self._info

    def __iter__(self) -> Iterator[Frame]:
        """Raises SourceLostError when a live stream ends or stops delivering."""
        info, clock = self.info, MediaClock(trust_pts=self._trust_pts)
        last_captured_s: float | None = None
        for decoded, captured_s in self._frames:
            step_s = 1.0 / (info.fps or _ASSUMED_FPS)
            if info.live and decoded.pts is None and last_captured_s is not None:
                step_s = captured_s - last_captured_s  # the arrival is all that is known
            last_captured_s = captured_s
            try:
                picture = self._make_picture(decoded)
            except (av.FFmpegError, ValueError):
                self._unreadable += 1
                continue
            pts_s = clock(decoded.pts, decoded.dts, decoded.time_base, step_s=step_s)
            frame = Frame(
                stream=self._stream,
                index=self.counts["decoded"] + self.counts["tainted"],
                pts_s=pts_s,
                picture=picture,
                captured_s=captured_s,
                pts=clock.stamp,
                time_base=decoded.time_base,
                epoch=self._epoch,
                utc=utc_now() if info.live else None,
            )
            self._count(decoded)
            yield frame
        assert self._decoder is not None
        self._count(None)
        if self._decoder.closed:
            return
        if info.live:
            raise SourceLostError(self._lost(self._decoder))
        self._tell_damage(self._decoder, info, clock.last_s)
        self.close()

    def _first_frame(self, *, live: bool) -> tuple[VideoFrame, float]:
        first = next(self._frames, None)
        if first is not None:
            return first
        assert self._decoder is not None
        if self._decoder.ended_by is not None and (live or is_address(self._uri)):
            why = f"it opened, but no picture came ({reason_of(self._decoder.ended_by)}); check the stream in a player"
        elif self._decoder.damaged:
            why = f"none of its {self._decoder.packets} pictures can be decoded; the file is damaged, copy it again"
        else:
            why = "it holds no picture at all; record or copy it again"
        raise SourceOpenError(f"cannot use {self._name}: {why}")

    def _describe(self, container: InputContainer, video: VideoStream, first: VideoFrame, *, live: bool) -> SourceInfo:
        is_file = self._format is None and not is_address(self._uri)
        return SourceInfo(
            stream=self._stream,
            uri=self._name,
            frame_wh=self._make_picture.upright_wh(first),
            fps=_fps(video, live=live),
            live=live,
            frame_count=None if live else _frame_count(video),
            duration_s=None if live else _duration_s(container, video),
            path=str(Path(local_path(self._uri))) if is_file else None,
        )

    def _count(self, decoded: VideoFrame | None) -> None:
        assert self._decoder is not None
        self.counts["damaged"] = self._decoder.damaged + self._unreadable
        if decoded is not None:
            self.counts["decoded"] += 1
            self.counts["concealed"] += decoded.is_corrupt

    def _lost(self, decoder: Decoder) -> str:
        if decoder.ended_by is None:
            return f"{self._name} ended: the sender closed the stream; check that it still runs"
        if isinstance(decoder.ended_by, av.ExitError | TimeoutError):
            return f"{self._name} sent nothing for {self._config.read_timeout_s:g} s; check the camera and the network"
        return f"{self._name} was lost ({reason_of(decoder.ended_by)}); check the camera and the network"

    def _tell_damage(self, decoder: Decoder, info: SourceInfo, last_s: float) -> None:
        """Fill ``counts`` and ``warnings`` at the end of a file. Raises SourceLostError if a server went away."""
        error = decoder.ended_by
        if error is not None and is_address(self._uri) and not isinstance(error, av.InvalidDataError):
            raise SourceLostError(self._lost(decoder))
        missing = max(0, self._stated_packets - decoder.packets)
        self.counts["damaged"] += missing + decoder.swallowed
        decoded, damaged = self.counts["decoded"], self.counts["damaged"]
        if damaged:
            cut = " (the file is cut short)" if missing else ""
            self.warnings.append(
                f"{self._name}: {damaged} of {damaged + decoded} pictures could not be decoded{cut}; "
                f"the other {decoded} were used"
            )
        elif error is not None:
            self.warnings.append(f"{self._name}: reading stopped after {decoded} pictures ({reason_of(error)})")
        elif info.duration_s is not None and info.duration_s - last_s > max(_MISSING_S, 0.05 * info.duration_s):
            self.warnings.append(
                f"{self._name}: ends after {last_s:.1f} s of {info.duration_s:.1f} s; is it cut short?"
            )
        self._tell_concealed()

    def _tell_concealed(self) -> None:
        concealed = self.counts["concealed"]
        if concealed and not self._told_concealed and self._info is not None and not self._info.live:
            self._told_concealed = True
            told = "1 picture is damaged and was" if concealed == 1 else f"{concealed} pictures are damaged and were"
            self.warnings.append(f"{self._name}: {told} patched up by the decoder")


class CameraSource(VideoSource):
    """A camera of this machine through Video4Linux2. `device`: "0" or "/dev/video0"."""

    def __init__(
        self, device: str, *, stream: str, config: SourceConfig, tap: PacketTap | None = None, epoch: int = 0
    ) -> None:
        path = f"/dev/video{int(device)}" if device.isdecimal() else device
        super().__init__(path, stream=stream, config=config, live=True, format=_CAMERAS, tap=tap, epoch=epoch)


def _set_up(container: InputContainer, video: VideoStream, *, live: bool) -> None:
    for other in container.streams:
        if other is not video:
            other.discard = Discard.all
    if live or video.codec_context.is_hwaccel:  # threads over frames would hold back as many frames
        video.thread_type = "SLICE"
        if live:
            video.codec_context.flags |= Flags.low_delay
    else:
        video.thread_type = "AUTO"
        open_behind(video.codec_context)


def _is_live(container: InputContainer, uri: str, format: str | None) -> bool:
    """Whether the end means loss. http: not if it says how long it is (or how big, unless that is a playlist)."""
    if format == _CAMERAS or scheme_of(uri) in ALWAYS_LIVE:
        return True
    if not is_address(uri):
        return False
    if container.duration is not None and container.duration > 0:
        return False
    return "hls" in container.format.name or container.size <= 0


def _fps(video: VideoStream, *, live: bool) -> float | None:
    """A live stream is not watched long enough to measure; its header then knows better than FFmpeg's guess (of fields)."""
    rate = video.average_rate or video.codec_context.framerate or (None if live else video.guessed_rate)
    return float(rate) if rate and 0 < rate <= _BELIEVABLE_FPS else None


def _duration_s(container: InputContainer, video: VideoStream) -> float | None:
    if video.duration and video.time_base:
        return float(video.duration * video.time_base)
    if container.duration and len(container.streams) == 1:  # with sound it may be the sound's
        return container.duration / av.time_base
    return None


def _frame_count(video: VideoStream) -> int | None:
    """How many frames will be shown; fewer than stored if an edit list (a trimmed phone video) hides some."""
    stored = video.frames or None
    if stored and video.duration and video.time_base and video.average_rate:
        shown = ceil(video.duration * video.time_base * video.average_rate)
        return shown if 0 < shown < 0.95 * stored else stored
    return stored
