"""Decoding threads of a recording have less claim to the processor than the thread that uses the pictures."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from streamdet.config import SourceConfig
from streamdet.sources.behind import BEHIND
from streamdet.sources.video import VideoSource


def film(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for i in range(20):
            picture = np.full((240, 320, 3), 40 + i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def niceness() -> dict[int, int]:
    """By thread of this process."""
    return {int(task): os.getpriority(os.PRIO_PROCESS, int(task)) for task in os.listdir("/proc/self/task")}


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priorities of their own elsewhere")
def test_threads_that_decode_give_way(tmp_path: Path) -> None:
    path, before = film(tmp_path / "film.mp4"), niceness()
    own = before[os.getpid()]
    with VideoSource(str(path), stream="film", config=SourceConfig()) as source:
        assert source.info.frame_count == 20
        new = {task: level for task, level in niceness().items() if task not in before}
        assert new, "no threads: then nothing is decoded ahead"
        assert set(new.values()) == {min(own + BEHIND, 19)}
        assert os.getpriority(os.PRIO_PROCESS, 0) == own, "the caller keeps its claim"
        assert len(list(source)) == 20
