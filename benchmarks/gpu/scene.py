"""Frames for measuring: noise-textured 4:2:0 pictures with small movers, on the host, on the GPU, and as an H.264 film."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from streamdet.types import DevicePlanes, Frame, Motion, Picture

__all__ = ["film", "frames_on_gpu", "motions", "nv12_pictures"]


def nv12_pictures(wh: tuple[int, int], count: int, *, seed: int = 1) -> list[np.ndarray[Any, Any]]:
    """(H * 3 / 2, W) u8 each: limited-range luma, interleaved chroma; no two alike, never zeros."""
    rng = np.random.default_rng(seed)
    width, height = wh
    small = rng.integers(40, 200, (height // 8 + 1, width // 8 + 1), np.uint8)
    base = np.kron(small, np.ones((8, 8), np.uint8))[:height, :width]
    pictures = []
    for index in range(count):
        luma = np.clip(base.astype(np.int16) + rng.integers(-6, 7, base.shape, np.int16), 16, 235).astype(np.uint8)
        for mover in range(12):
            x, y = (97 * mover + 37 * index) % (width - 16), (61 * mover + 23 * index) % (height - 16)
            luma[y : y + 8, x : x + 8] = 230
        chroma = rng.integers(90, 166, (height // 2, width), np.uint8)
        pictures.append(np.concatenate([luma, chroma]))
    return pictures


def frames_on_gpu(device: Any, wh: tuple[int, int], count: int) -> list[Frame]:
    """Frames whose planes lie on the GPU already, as a hardware decoder leaves them."""
    frames, black = [], np.zeros((wh[1], wh[0], 3), np.uint8)
    for index, nv12 in enumerate(nv12_pictures(wh, count)):
        lying = device.empty(nv12.shape, np.uint8)
        device.upload(np.ascontiguousarray(nv12), lying)
        device.synchronize()
        height, width = wh[1], wh[0]
        luma, both = nv12[:height], nv12[height:]
        planes = DevicePlanes(lying.pointer, lying.pointer + height * width, (width, width), owner=lying)
        picture = Picture(
            luma,
            (both[:, 0::2], both[:, 1::2]),
            make_bgr=lambda: black,
            on_device=planes,
        )
        frames.append(Frame("gpu", index, index / 30, picture, 0.0))
    return frames


def motions(frames: list[Frame]) -> list[Motion]:
    """Each frame against the two before it (round the list), as the motion model gives them of a still camera."""
    return [
        Motion(
            frame.picture.luma,
            previous=frames[index - 1].picture.luma,
            before_previous=frames[index - 2].picture.luma,
            state="steady",
            dt_s=1 / 30,
        )
        for index, frame in enumerate(frames)
    ]


def film(path: Path, wh: tuple[int, int], count: int, *, rate: int = 30) -> Path:
    """An H.264 film of such pictures; the same 24 in a loop."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = wh[0], wh[1], "yuv420p"
        stream.codec_context.options = {"preset": "ultrafast", "crf": "26", "g": "30"}
        for index, nv12 in enumerate(_looped(nv12_pictures(wh, 24), count)):
            frame = av.VideoFrame.from_ndarray(nv12, "nv12")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    return path


def _looped(pictures: list[np.ndarray[Any, Any]], count: int) -> Iterator[np.ndarray[Any, Any]]:
    for index in range(count):
        yield pictures[index % len(pictures)]
