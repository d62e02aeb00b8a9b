"""What is lost on the way must never be looked at: a picture that comes out is the one that went in, to the last grey level."""

from __future__ import annotations

import time
from pathlib import Path

import marked
import numpy as np
import pytest
from camera_server import CameraServer

from streamdet.config import SourceConfig
from streamdet.sources.video import VideoSource

UDP = SourceConfig(open_timeout_s=10, read_timeout_s=10, rtsp_transport="udp")
TCP = SourceConfig(open_timeout_s=10, read_timeout_s=10)
HEVC = {"preset": "ultrafast", "x265-params": "keyint=25:bframes=0:log-level=error:repeat-headers=1"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("loss")
    return {
        "h264": marked.clip(folder / "a.ts", 250),
        "hevc": marked.clip(folder / "b.ts", 250, codec="libx265", options=HEVC),
        "b-frames": marked.clip(folder / "c.ts", 250, options={"preset": "veryfast", "g": "25", "bf": "2"}),
    }


def watched(
    url: str, config: SourceConfig, seconds: float
) -> tuple[list[tuple[int | None, np.ndarray]], dict[str, int]]:
    """(number, luma) of the pictures that come in that time, and the source's counts."""
    seen = []
    with VideoSource(url, stream="cam", config=config) as source:
        until_s = time.monotonic() + seconds
        for frame in source:
            seen.append((marked.number_of(frame.picture.luma), frame.picture.luma.copy()))
            if time.monotonic() > until_s:
                break
        return seen, dict(source.counts)


@pytest.mark.parametrize("kind", ["h264", "hevc", "b-frames"])
@pytest.mark.parametrize("loss", [1.0, 5.0])
def test_over_udp_with_loss_only_whole_pictures_come_out(clips: dict[str, Path], kind: str, loss: float) -> None:
    whole = marked.truth(clips[kind])
    with CameraServer([clips[kind]], loss=loss) as camera:
        seen, counts = watched(camera.url, UDP, 8)
    wrong = [number for number, luma in seen if number is None or not np.array_equal(luma, whole[number])]
    assert not wrong, f"{len(wrong)} of {len(seen)} pictures are not what was sent: {wrong[:10]}"
    assert len(seen) > 5
    assert counts["tainted"] > 0


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_without_loss_nothing_is_withheld(clips: dict[str, Path], transport: str) -> None:
    with CameraServer([clips["h264"]]) as camera:
        seen, counts = watched(camera.url, UDP if transport == "udp" else TCP, 3)
    assert len(seen) > 40
    assert counts["tainted"] == counts["damaged"] == 0


def test_garbage_in_the_packets_neither_ends_nor_stops_the_stream(clips: dict[str, Path]) -> None:
    """Bytes that arrive wrong and decode all the same cannot be told from right ones; the next key frame mends them."""
    whole = marked.truth(clips["h264"])
    with CameraServer([clips["h264"]], garbage=2.0) as camera:
        seen, counts = watched(camera.url, TCP, 8)
    right = [number for number, luma in seen if number is not None and np.array_equal(luma, whole[number])]
    assert len(right) > len(seen) / 4
    assert counts["tainted"] + counts["damaged"] > 0
