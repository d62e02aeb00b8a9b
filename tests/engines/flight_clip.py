"""A clip for tests of the recipe: a white disc of 10 px crosses a grey still at 8 px per frame; its place as points."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np

FRAMES = 24


def place(frame: int) -> tuple[int, int]:
    return 40 + 8 * frame, 60 + 2 * frame


def make_flight(folder: Path) -> Path:
    """``flight.mp4``, 320x240, with ``flight.csv`` beside it."""
    still = np.random.default_rng(1).integers(70, 90, (30, 40, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(folder / "flight.mp4"), "w") as sink:
        stream = sink.add_stream("libx264", rate=30, options={"crf": "16"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for frame in range(FRAMES):
            picture = cv2.circle(still.copy(), place(frame), 5, (255, 255, 255), -1, cv2.LINE_AA)
            sink.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        sink.mux(stream.encode(None))
    rows = [f"{frame},1,{place(frame)[0]},{place(frame)[1]}" for frame in range(FRAMES)]
    (folder / "flight.csv").write_text("\n".join(["frame,visible,cx,cy", *rows]) + "\n")
    return folder / "flight.mp4"
