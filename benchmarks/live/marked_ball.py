"""Clips for the eight cameras: the court and ball of :mod:`glass`, encoded once."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from glass import ENCODER, Scene, crossing


def clip(path: Path, wh: tuple[int, int], fps: int, *, seconds: float) -> Path:
    """Whole crossings only, so that the clip's end is like its beginning."""
    scene, each = Scene(wh), crossing(wh[0])
    count = max(1, round(seconds * fps / each)) * each
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = *wh, "yuv420p"
        stream.codec_context.options = {**ENCODER, "preset": "veryfast", "g": str(fps)}
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(scene.draw(number), "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
