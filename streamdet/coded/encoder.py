"""Pictures -> H.264 packets, each as soon as its picture is there."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream

from streamdet.coded.packet import CodedPacket, CodedRun, run_of
from streamdet.config.record import Preset
from streamdet.errors import OutputError
from streamdet.types import U8, Picture

__all__ = ["Encoder"]

TIME_BASE = Fraction(1, 90_000)
# without ACCURATE_RND greys turn a shade green
_EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND
_MATRICES = {"bt601": Colorspace.ITU601, "bt709": Colorspace.ITU709}


class Encoder:
    """H.264 without B-frames and without delay: ``encode`` gives the packet of the picture it is given.

    A key frame comes at least every `key_every_s` of media time, and with the next picture after ``key_please()``. Another
    size begins a new run. Pictures higher than `max_height` are scaled down. Odd sizes lose their last row or column. `preset`
    is x264's (slower ones: better pictures, more CPU). Not thread-safe.
    """

    def __init__(
        self, *, crf: int = 23, preset: Preset = "ultrafast", key_every_s: float = 1.0, max_height: int | None = None
    ) -> None:
        self._crf, self._preset, self._key_every_s, self._max_height = crf, preset, key_every_s, max_height
        self._reformatter = VideoReformatter()
        self._wh = (0, 0)
        self._run: CodedRun | None = None
        self._runs = 0
        self._number = 0
        self._stream: VideoStream | None = None
        self._holder: OutputContainer | None = None
        self._last_pts = -1
        self._key_pts: int | None = None

    def key_please(self) -> None:
        """Make the next picture a key frame: somebody new wants to begin."""
        self._key_pts = None

    def encode(self, picture: Picture | U8, pts_s: float, captured_s: float, *, epoch: int = 0) -> list[CodedPacket]:
        """The packet of `picture` (a frame's own, or (H,W,3) u8 BGR), shown at `pts_s` of media time. Raises OutputError."""
        try:
            return self._encode(self._image(picture), pts_s, captured_s, epoch)
        except (av.FFmpegError, ValueError) as error:
            raise OutputError(f"a picture cannot be encoded as H.264: {error}") from None

    def _encode(self, image: av.VideoFrame, pts_s: float, captured_s: float, epoch: int) -> list[CodedPacket]:
        if self._run is None or (image.width, image.height) != self._wh or epoch != self._run.epoch:
            self._begin(image.width, image.height, epoch)
        assert self._stream is not None
        assert self._run is not None
        pts = max(round(pts_s / TIME_BASE), self._last_pts + 1)
        self._last_pts = pts
        image.pts, image.time_base = pts, TIME_BASE
        if self._key_pts is None or (pts - self._key_pts) * TIME_BASE >= self._key_every_s:
            image.pict_type = av.video.frame.PictureType.I
            self._key_pts = pts
        return [self._coded(packet, captured_s) for packet in self._stream.encode(image)]

    def _coded(self, packet: av.Packet[VideoStream], captured_s: float) -> CodedPacket:
        assert self._run is not None
        assert packet.pts is not None
        number, self._number = self._number, self._number + 1
        return CodedPacket(
            run=self._run,
            number=number,
            data=bytes(packet),
            pts=packet.pts,
            dts=packet.pts,
            key=packet.is_keyframe,
            captured_s=captured_s,
            at_s=float(packet.pts * TIME_BASE),
        )

    def _image(self, picture: Picture | U8) -> av.VideoFrame:
        if isinstance(picture, Picture) and picture.chroma is not None and picture.matrix in _MATRICES:
            image = _planar(picture.luma, *picture.chroma)
            image.color_range = ColorRange.JPEG if picture.full_range else ColorRange.MPEG
            image.colorspace = _MATRICES[picture.matrix]
        else:
            bgr = picture.bgr if isinstance(picture, Picture) else picture
            image = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(bgr), format="bgr24")
        width, height = image.width, image.height
        if self._max_height is not None and height > self._max_height:
            width, height = round(width * self._max_height / height), self._max_height
        width, height = max(2, width - width % 2), max(2, height - height % 2)
        if image.format.name == "yuv420p" and (width, height) == (image.width, image.height):
            return image
        matrix = Colorspace.ITU709 if height >= 720 else Colorspace.ITU601
        return self._reformatter.reformat(
            image,
            width=width,
            height=height,
            format="yuv420p",
            dst_colorspace=matrix,
            dst_color_range=ColorRange.MPEG,
            interpolation=_EXACT,
        )

    def _begin(self, width: int, height: int, epoch: int) -> None:
        self._holder = av.open(io.BytesIO(), "w", format="mp4")  # only to hold the encoder: nothing is written into it
        stream = self._holder.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {
            "preset": self._preset,
            "tune": "zerolatency",
            "crf": str(self._crf),
            "threads": "2",
            "x264-params": "repeat-headers=1",  # whoever joins late finds all it needs in the next key frame
        }
        context = stream.codec_context
        context.time_base = TIME_BASE
        context.gop_size = 100_000  # key frames come by time, not by number
        standard = 1 if height >= 720 else 6
        context.colorspace, context.color_primaries, context.color_trc = standard, standard, standard
        context.color_range = ColorRange.MPEG
        self._holder.start_encoding()  # opens the encoder: its parameter sets are known from here on
        self._stream, self._wh, self._key_pts = stream, (width, height), None
        self._runs += 1
        self._run = run_of(stream, self._runs, epoch=epoch)


def _planar(luma: U8, u: U8, v: U8) -> av.VideoFrame:
    """The planes, cut to an even size, as a picture of FFmpeg's."""
    height, width = luma.shape[0] // 2 * 2, luma.shape[1] // 2 * 2
    image = av.VideoFrame(width, height, "yuv420p")
    for plane, data in zip(image.planes, (luma, u, v), strict=True):
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)  # type: ignore[call-overload]
        rows[:, : plane.width] = data[: plane.height, : plane.width]
    return image
