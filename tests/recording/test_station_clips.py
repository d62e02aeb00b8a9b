"""A camera over real RTSP, watched by a Station: its events' clips and snapshots are there, cut from what it sent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from recording_stage import shown
from rtsp_server import RtspServer
from source_clips import encode

from streamdet.config import Config, with_values
from streamdet.station import Station
from streamdet.types import Event


def flights(count: int) -> list[np.ndarray]:
    """A bright dot crosses a grey scene for two seconds, then nothing for three, and so on (25 a second)."""
    noise = np.random.default_rng(1).integers(90, 110, (240, 320, 3), dtype=np.uint8)
    pictures = []
    for index in range(count):
        picture = noise.copy()
        if index % 125 < 50:
            cv2.circle(picture, (20 + 5 * (index % 125), 60 + (index % 125)), 4, (255, 255, 255), -1)
        pictures.append(picture)
    return pictures


def until(done: Callable[[], bool], *, within_s: float, why: str) -> None:
    deadline = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < deadline, why
        time.sleep(0.1)


@pytest.mark.timeout(240)
def test_events_of_a_camera_have_clips_and_snapshots(tmp_path: Path, folder: Path) -> None:
    options = {"tune": "zerolatency", "x264-params": "sliced-threads=0", "g": "25", "bf": "0"}
    clip = encode(tmp_path / "a.ts", flights(250), options=options)
    with RtspServer(clip) as server:
        values = {
            "cameras": {"garden": {"source": server.url}},
            "model.name": "motion",
            "store.path": str(tmp_path / "events.db"),
            "record.dir": str(folder),
            "record.pre_s": 1.0,
            "record.post_s": 1.0,
        }
        station = Station(with_values(Config(), values))
        thread = threading.Thread(target=station.run, daemon=True)
        thread.start()

        def events() -> list[Event]:
            return [] if station.store is None else [one.event for one in station.store.query(limit=1000)]

        try:
            until(lambda: any(e.type == "end" for e in events()), within_s=90, why="no event ended")
            assert station.archive is not None
            archive = station.archive
            ended = next(e for e in events() if e.type == "end")
            assert ended.clip is not None
            assert ended.snapshot is not None
            told = events()
            clip_at, shot_at = ended.clip, ended.snapshot
            until(lambda: archive.file(clip_at) is not None, within_s=60, why="the clip never came")
            until(lambda: archive.file(shot_at) is not None, within_s=20, why="the snapshot never came")
        finally:
            station.stop()
            thread.join(60)
        assert not thread.is_alive()
        film, picture = archive.file(clip_at), archive.file(shot_at)
        assert film is not None
        assert picture is not None
    assert {e.clip for e in told if e.track == ended.track} == {ended.clip}, "from the first event on"
    got = shown(film)
    assert got[0][0] == 0
    assert got[-1][0] >= 1.5
    sources = {image.tobytes() for _, image in shown(clip)}
    assert all(image.tobytes() in sources for _, image in got), "every picture is one the camera sent, bit for bit"
    image = cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    bright = cv2.erode((image > 200).astype(np.uint8), np.ones((9, 9), np.uint8))
    assert bright.any(), "the dot is in the snapshot (corner marks are thinner)"
    with av.open(str(film)) as container:
        assert container.duration is not None
