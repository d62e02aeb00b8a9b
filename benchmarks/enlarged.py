"""Clips enlarged for benchmarks, encoded once into the system's temporary folder: every contender reads the very same file."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import av
import harness

FOLDER = Path(tempfile.gettempdir()) / "streamdet-bench"
CRF = "18"


def enlarged(clip: str, wh: tuple[int, int], frames: int) -> Path:
    """The first `frames` frames of a shared clip at `wh` px as H.264 (4:2:0, BT.601, as OpenCV's reader assumes)."""
    file = FOLDER / f"{Path(clip).stem}_{wh[0]}x{wh[1]}_{frames}.mp4"
    if file.exists():
        return file
    print(f"encoding {file}", file=sys.stderr)
    FOLDER.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".part.mp4")
    with av.open(str(harness.shared_data() / "clips" / clip)) as source, av.open(str(unfinished), "w") as target:
        rate = source.streams.video[0].average_rate
        stream = target.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = *wh, "yuv420p"
        stream.options = {"crf": CRF, "preset": "veryfast"}
        stream.codec_context.colorspace = 6  # SMPTE 170M (BT.601)
        stream.codec_context.color_range = 1  # limited
        for index, frame in enumerate(source.decode(video=0)):
            if index == frames:
                break
            large = frame.reformat(*wh, "yuv420p", dst_colorspace="ITU601", interpolation="BICUBIC")
            large.pts, large.time_base, large.pict_type = index, 1 / rate, 0
            target.mux(stream.encode(large))
        target.mux(stream.encode())
    unfinished.rename(file)
    return file
