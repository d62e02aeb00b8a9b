"""Small videos that tests encode themselves."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
_EXACT = int(Interpolation.BILINEAR | Interpolation.ACCURATE_RND)


def corners_bgr(wh: tuple[int, int]) -> U8:
    """Four colours: red top-left, green top-right, blue bottom-left, white bottom-right."""
    width, height = wh
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = (0, 0, 255)
    picture[: height // 2, width // 2 :] = (0, 255, 0)
    picture[height // 2 :, : width // 2] = (255, 0, 0)
    picture[height // 2 :, width // 2 :] = 255
    return picture


def moving_bgr(wh: tuple[int, int], count: int) -> list[U8]:
    """A textured still background with a white block that moves 2 px a frame."""
    width, height = wh
    noise = np.random.default_rng(0).integers(60, 140, (height, width, 3), dtype=np.uint8)
    pictures = [noise.copy() for _ in range(count)]
    for index, picture in enumerate(pictures):
        picture[10:26, 2 * index : 2 * index + 16] = 255
    return pictures


def encode(
    path: Path,
    pictures: Sequence[U8],
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    rate: int = 25,
    pts: Sequence[int] | None = None,
    matrix: int | None = None,
    levels: int | None = None,
    pixel_aspect: Fraction | None = None,
    rotation: tuple[float, bool, bool] | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    container_format: str | None = None,
) -> Path:
    """`pts` in units of 1/rate. `matrix` 1 = BT.709, 5 = BT.601; `levels` 1 = limited, 2 = full; None: not tagged."""
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w", format=container_format, options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.options = options if options is not None else {"crf": "4", "bf": "2", "g": "25"}
        if matrix is not None:
            stream.codec_context.colorspace = matrix
        if levels is not None:
            stream.codec_context.color_range = levels
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if rotation is not None:
            stream.set_display_rotation(rotation[0], hflip=rotation[1], vflip=rotation[2])
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, "bgr24").reformat(
                format=pixel_format,
                dst_colorspace=matrix or 5,
                dst_color_range=levels or 1,
                src_color_range=2,
                interpolation=_EXACT,
            )
            frame.pts = index if pts is None else pts[index]
            frame.time_base = Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
