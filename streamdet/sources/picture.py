"""A decoded AVFrame -> the Picture a player would show: upright, square pixels, planar YUV 4:2:0 in 8 bits.

Most video is 8-bit 4:2:0 already: its planes are viewed where the decoder left them, nothing is copied, and the arrays
keep the AVFrame alive. Everything else (10 bit, 4:2:2, 4:4:4, RGB, packed) goes through swscale once, with colour matrix
and range kept. Rotation and mirroring are views too. High dynamic range is not tone-mapped, fields are not interleaved
apart.
"""

from __future__ import annotations

import threading
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from av import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from streamdet.sources.hardware import HardwarePicture, planes_of
from streamdet.types import U8, DevicePlanes, Matrix, Picture

__all__ = ["UPRIGHT", "Orientation", "PictureMaker", "orientation_of", "square_wh"]

_PLANAR = ("yuv420p", "yuvj420p", "yuva420p")
_AS_IT_IS = (*_PLANAR, "nv12", "gray")
_BT601_HEIGHT_BELOW_PX = 720  # untagged video: what players assume
_LARGEST_PIXEL_ASPECT = 8  # beyond this a pixel aspect is taken for garbage
# without accurate rounding swscale turns RGB grey 128 into luma, u, v that show as 126, 126, 124
_INTERPOLATION = int(Interpolation.BILINEAR | Interpolation.ACCURATE_RND)
# AVCOL_SPC_*: numbers of ITU-T H.273 "matrix coefficients"
_MATRIX_OF: dict[int, Matrix] = {
    1: "bt709",
    4: "bt601",  # FCC, within a level of it
    5: "bt601",
    6: "bt601",
    7: "bt709",  # SMPTE 240M, the analogue ancestor
    9: "bt2020",
    10: "bt2020",
}
_SWSCALE_OF: dict[Matrix, int] = {
    "bt601": int(Colorspace.ITU601),
    "bt709": int(Colorspace.ITU709),
    "bt2020": int(Colorspace.BT2020),
}


class Orientation(NamedTuple):
    """How coded pixels become upright: transpose first, then mirror left-right, then top-bottom."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def wh(self, wh: tuple[int, int]) -> tuple[int, int]:
        return (wh[1], wh[0]) if self.transpose else wh

    def __call__(self, plane: U8) -> U8:
        """A view of (H, W) or (H, W, C) `plane`, upright."""
        if self.transpose:
            plane = plane.swapaxes(0, 1)
        if self.flip_x:
            plane = plane[:, ::-1]
        return plane[::-1] if self.flip_y else plane


UPRIGHT = Orientation()


def orientation_of(frame: VideoFrame) -> Orientation:
    """Read the display matrix (phones store it), snapped to quarter turns and mirrorings.

    The matrix maps coded (x, y) to shown (a x + c y, b x + d y), stored as a b u c d v x y w (ISO 14496-12, `tkhd`).
    """
    try:
        data: Any = frame.side_data
        matrix = next((item for item in data if item.type.name == "DISPLAYMATRIX"), None)
    except (ValueError, KeyError):  # side data of a kind PyAV has no name for hides the rest; the angle is still told
        return {90: Orientation(True, False, True), -90: Orientation(True, True, False)}.get(
            frame.rotation, Orientation(False, True, True) if abs(frame.rotation) == 180 else UPRIGHT
        )
    if matrix is None:
        return UPRIGHT
    a, b, _, c, d = (int(value) for value in np.frombuffer(matrix, np.int32)[:5])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)


def square_wh(wh: tuple[int, int], pixel_aspect: Fraction | None) -> tuple[int, int]:
    """Size of a `wh` picture with pixels of `pixel_aspect` (width / height) once they are square.

    The short side of a pixel is stretched, so no detail is lost (as mpv does).
    """
    if not pixel_aspect or not Fraction(1, _LARGEST_PIXEL_ASPECT) <= pixel_aspect <= _LARGEST_PIXEL_ASPECT:
        return wh
    width, height = wh
    if pixel_aspect >= 1:
        return round(width * pixel_aspect), height
    return width, round(height / pixel_aspect)


class PictureMaker:
    """Turns frames of one stream into Pictures. Remembers swscale contexts; not for several threads at once
    (the BGR of its Pictures may be asked for on any thread)."""

    def __init__(self, pixel_aspect: Fraction | None = None, *, threads: int = 0) -> None:
        self._pixel_aspect = pixel_aspect
        self._threads = threads
        self._to_yuv = VideoReformatter()
        self._to_bgr = VideoReformatter()
        self._to_host = VideoReformatter()
        self._bgr_lock = threading.Lock()
        self._grey: tuple[U8, U8] | None = None
        self._turn: tuple[int, Orientation] | None = None

    def __call__(self, frame: VideoFrame) -> Picture:
        """Raises av.FFmpegError or ValueError for a pixel format swscale cannot read."""
        turn = self._orientation(frame)
        matrix, full_range = _colours(frame)
        if turn == UPRIGHT and self.upright_wh(frame) == (frame.width, frame.height):
            on_device = planes_of(frame)
            if on_device is not None:
                return self._left_there(frame, on_device, matrix, full_range)
        frame = self._canonical(frame, matrix, full_range)
        luma, chroma = self._planes(frame)
        return Picture(
            turn(luma),
            (turn(chroma[0]), turn(chroma[1])),
            make_bgr=lambda: self._bgr(frame, turn, matrix, full_range),
            matrix=matrix,
            full_range=full_range,
        )

    def _left_there(self, frame: VideoFrame, planes: DevicePlanes, matrix: Matrix, full_range: bool) -> Picture:
        """A picture whose pixels come to the host only when they are asked for, on whatever thread that is."""

        def fetch() -> tuple[U8, tuple[U8, U8]]:
            with self._bgr_lock:
                host = self._to_host.reformat(frame, format="nv12")
            return self._planes(host)

        return HardwarePicture(
            (frame.width, frame.height),
            planes,
            fetch=fetch,
            make_bgr=lambda: self._bgr(frame, UPRIGHT, matrix, full_range),
            matrix=matrix,
            full_range=full_range,
        )

    def upright_wh(self, frame: VideoFrame) -> tuple[int, int]:
        """Size of the Picture that `frame` would become."""
        return self._orientation(frame).wh(square_wh((frame.width, frame.height), self._pixel_aspect))

    def _orientation(self, frame: VideoFrame) -> Orientation:
        """Looked up anew only when the angle changes: a frame asked for its side data is freed by the garbage
        collector alone (PyAV 18.1 makes the two refer to each other), and gigabytes of 4K frames pile up."""
        angle = frame.rotation
        if self._turn is None or self._turn[0] != angle:
            self._turn = angle, orientation_of(frame)
        return self._turn[1]

    def _canonical(self, frame: VideoFrame, matrix: Matrix, full_range: bool) -> VideoFrame:
        wh = square_wh((frame.width, frame.height), self._pixel_aspect)
        if frame.format.name in _AS_IT_IS and wh == (frame.width, frame.height):
            return frame
        is_rgb = frame.format.is_rgb
        levels = int(ColorRange.JPEG if full_range else ColorRange.MPEG)
        return self._to_yuv.reformat(
            frame,
            width=wh[0],
            height=wh[1],
            format="yuv420p",
            src_colorspace=None if is_rgb else _SWSCALE_OF[matrix],
            dst_colorspace=_SWSCALE_OF[matrix],
            src_color_range=int(ColorRange.JPEG) if is_rgb else levels,
            dst_color_range=levels,
            interpolation=_INTERPOLATION,
            threads=self._threads,
        )

    def _planes(self, frame: VideoFrame) -> tuple[U8, tuple[U8, U8]]:
        planes, layout = frame.planes, frame.format.name  # asked once: PyAV makes all of them anew each time
        luma = _view(planes[0])
        if layout == "gray":
            return luma, self._neutral(luma.shape)
        if layout == "nv12":
            both = _view(planes[1], pairs=True)
            return luma, (both[:, 0::2], both[:, 1::2])
        return luma, (_view(planes[1]), _view(planes[2]))

    def _neutral(self, shape: tuple[int, ...]) -> tuple[U8, U8]:
        want = ((shape[0] + 1) // 2, (shape[1] + 1) // 2)
        if self._grey is None or self._grey[0].shape != want:
            plane = np.full(want, 128, np.uint8)
            self._grey = plane, plane
        return self._grey

    def _bgr(self, frame: VideoFrame, turn: Orientation, matrix: Matrix, full_range: bool) -> U8:
        with self._bgr_lock:
            bgr = self._to_bgr.reformat(
                frame,
                format="bgr24",
                src_colorspace=_SWSCALE_OF[matrix],
                src_color_range=int(ColorRange.JPEG if full_range else ColorRange.MPEG),
                dst_color_range=int(ColorRange.JPEG),
                threads=self._threads,
            )
        return np.ascontiguousarray(turn(_view(bgr.planes[0], channels=3)))


def _view(plane: VideoPlane, *, channels: int = 1, pairs: bool = False) -> U8:
    """(H, W) or (H, W, channels) view of a plane without its padding; it keeps its frame alive. `pairs`: (H, 2 W) chroma."""
    width = plane.width * (2 if pairs else 1)
    step = abs(plane.line_size)
    bottom_up = plane.line_size < 0
    shape: tuple[int, ...] = (plane.height, width) if channels == 1 else (plane.height, width, channels)
    strides: tuple[int, ...] = (-step if bottom_up else step, *((1,) if channels == 1 else (channels, 1)))
    offset = (plane.height - 1) * step if bottom_up else 0
    return np.ndarray(shape, np.uint8, buffer=plane, offset=offset, strides=strides)  # type: ignore[arg-type]


def _colours(frame: VideoFrame) -> tuple[Matrix, bool]:
    """Matrix and full range, as tagged; untagged: what players and swscale assume."""
    name = frame.format.name
    matrix = _MATRIX_OF.get(frame.colorspace)
    if matrix is None:
        matrix = "bt601" if frame.height < _BT601_HEIGHT_BELOW_PX else "bt709"
    if frame.format.is_rgb or name.startswith("yuvj"):
        return matrix, True
    if frame.color_range == ColorRange.UNSPECIFIED:
        return matrix, name.startswith(("gray", "ya", "mono", "pal"))
    return matrix, frame.color_range == ColorRange.JPEG
