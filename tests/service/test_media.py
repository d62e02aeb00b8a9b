"""Clips and snapshots over HTTP, from a station that records; what it counts is in the metrics."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from station_up import running

from streamdet.config import CameraConfig


@pytest.mark.timeout(200)
def test_an_events_clip_and_snapshot_are_served(tmp_path: Path) -> None:
    settings = {
        "record.dir": str(tmp_path / "clips"),
        "record.pre_s": 0.5,
        "record.post_s": 0.5,
        "record.max_s": 4,
        "broadcast.segments": str(tmp_path / "films"),
        "broadcast.segment_s": 2,
    }
    with running(tmp_path, settings=settings) as up:
        store, archive = up.station.store, up.station.archive
        assert store is not None
        assert archive is not None

        def ready() -> bool:
            clips = {one.event.clip for one in store.query(limit=500)} - {None}
            return any(archive.file(clip or "") for clip in clips) and archive.counts()["files"] >= 3

        up.wait(ready, timeout_s=120)
        event = next(one.event for one in store.query(limit=500) if one.event.clip and archive.file(one.event.clip))
        clip, snapshot = (event.clip or "").split("#")[0], event.snapshot or ""
        part = up.client.get(f"/{clip}", headers={"range": "bytes=0-99"})
        assert part.status_code == 206
        assert part.content[4:8] == b"ftyp"
        assert part.headers["content-type"] == "video/mp4"
        up.wait(lambda: archive.file(snapshot) is not None, timeout_s=60)
        picture = up.client.get(f"/{snapshot}")
        assert picture.status_code == 200
        assert picture.content[:2] == b"\xff\xd8"
        assert "no-cache" in picture.headers["cache-control"], "a better one may take its place"
        assert up.client.get("/media/2026-11-25/../../events.db").status_code == 404
        metrics = up.client.get("/metrics").text
        assert 'streamdet_recording_files{kind="clips"}' in metrics
        assert 'streamdet_outlet_running{stream="court",outlet="0"} 1' in metrics
        up.wait(lambda: up.station.media()["films"]["files"] > 0, timeout_s=60)


def test_hls_is_written_from_the_first_who_looks_on(tmp_path: Path) -> None:
    settings = {"broadcast.hls": str(tmp_path / "hls"), "broadcast.hls_segment_s": 1.0}
    with running(tmp_path, settings=settings) as up:
        up.wait_for_frames("court")
        folder = tmp_path / "hls" / "court"
        assert not list(folder.glob("*")), "nobody asked yet"
        found = up.client.get("/cameras/court/hls/live.m3u8")
        assert found.status_code == 200
        segments = [line for line in found.text.splitlines() if line and not line.startswith("#")]
        assert up.client.get(f"/cameras/court/hls/{segments[0]}").status_code == 200


def test_who_waits_for_a_dead_cameras_hls_keeps_nobody_else_waiting(tmp_path: Path) -> None:
    cameras = {"gate": CameraConfig(source="rtsp://127.0.0.1:9/x")}
    settings = {"broadcast.hls": str(tmp_path / "hls")}
    with running(tmp_path, cameras=cameras, settings=settings) as up, ThreadPoolExecutor(40) as callers:
        waiting = [callers.submit(up.client.get, "/cameras/gate/hls/live.m3u8") for _ in range(40)]
        up.wait(lambda: any(call.running() for call in waiting))
        answered = 0
        while not any(call.done() for call in waiting):
            assert up.client.get("/api/cameras").status_code == 200
            answered += 1
        assert answered > 3
        assert {call.result().status_code for call in waiting} == {404}
