"""Pictures that carry their own number, so that a test knows which one it looks at, and what it must look like."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
CELL, BITS = 16, 12
LIVE = {"preset": "veryfast", "tune": "zerolatency", "x264-params": "sliced-threads=0", "g": "25", "bf": "0"}


def picture(number: int, wh: tuple[int, int], *, seed: int = 0) -> U8:
    """(H, W) grey: texture, the number as a row of blocks on top, a white block on its way below."""
    width, height = wh
    grey = np.random.default_rng(seed).integers(70, 150, (height // 8 + 1, width // 8 + 1), dtype=np.uint8)
    grey = np.kron(grey, np.ones((8, 8), np.uint8))[:height, :width]
    bits = [(number >> (BITS - 1 - bit)) & 1 for bit in range(BITS)]
    row = np.where(np.array([*bits, sum(bits) & 1]), 235, 16).astype(np.uint8)
    grey[:CELL, : CELL * (BITS + 1)] = np.kron(row, np.ones((CELL, CELL), np.uint8))
    x = (number * 6) % (width - 12)
    y = height // 3 + (number * 2) % (height // 2)
    grey[y : y + 8, x : x + 8] = 235
    return grey


def number_of(luma: U8) -> int | None:
    """The number in a picture; None if it cannot be read."""
    middle = luma[CELL // 2, CELL // 2 : CELL * (BITS + 1) : CELL].astype(int)
    if ((middle > 60) & (middle < 190)).any():
        return None
    bits = (middle > 125).astype(int)
    if bits[:-1].sum() & 1 != bits[-1]:
        return None
    return int("".join(map(str, bits[:-1])), 2)


def clip(
    path: Path,
    count: int,
    *,
    wh: tuple[int, int] = (320, 240),
    first: int = 0,
    fps: int = 25,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
) -> Path:
    """Pictures `first`.. in one film."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = *wh, "yuv420p"
        stream.codec_context.options = LIVE if options is None else options
        for index in range(count):
            grey = picture(first + index, wh)
            planes = np.vstack([grey, np.full((wh[1] // 2, wh[0]), 128, np.uint8)])
            frame = av.VideoFrame.from_ndarray(planes, "yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def truth(path: Path) -> dict[int, U8]:
    """What an undisturbed reader sees, by number."""
    seen: dict[int, U8] = {}
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            luma = frame.to_ndarray()[: frame.height].copy()
            number = number_of(luma)
            assert number is not None
            seen[number] = luma
    return seen
