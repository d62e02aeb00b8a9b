"""A change that cannot be kept is not made; who sends a token by drops gives up its place; old clips go by themselves."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import pytest
from station_up import running

import streamdet.service.app as app
from streamdet.config import CameraConfig, Config, ServeConfig, with_values
from streamdet.errors import OutputError, UsageError
from streamdet.overlay import Overlay
from streamdet.station import Station

ZONES = {"zones": [{"name": "yard", "polygon": [[0, 0], [1, 0], [1, 1]]}], "lines": []}


def _refuse_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)


def test_a_change_that_cannot_be_kept_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path) as up:
        up.wait_for_frames("court")
        with monkeypatch.context() as patched:
            _refuse_writing(patched)
            asked = [
                up.client.put("/api/cameras/court/zones", json=ZONES),
                up.client.post("/api/cameras", json={"name": "gate", "source": "demo"}),
                up.client.post("/api/cameras/court/pause"),
                up.client.delete("/api/cameras/court"),
            ]
        assert all(answer.status_code >= 400 for answer in asked), [answer.status_code for answer in asked]
        assert up.client.get("/api/cameras/court/zones").json()["zones"] == []
        assert [camera["name"] for camera in up.client.get("/api/cameras").json()["cameras"]] == ["court"]
        up.wait_for_frames("court")
        assert up.client.put("/api/cameras/court/zones", json=ZONES).status_code == 200
    kept = Overlay(tmp_path / "page.json").apply(Config(cameras={"court": CameraConfig(source="demo")}))
    assert [zone.name for zone in kept.cameras["court"].zones or []] == ["yard"]
    assert list(kept.cameras) == ["court"]


def test_what_cannot_be_done_is_not_kept_either(tmp_path: Path) -> None:
    overlay = Overlay(tmp_path / "page.json")
    overlay.set_enabled("court", False)
    before = overlay.path.read_bytes()

    def remove() -> None:
        with overlay.unless_it_fails():
            overlay.remove_camera("court")
            raise UsageError("there is no camera called 'court'")

    with pytest.raises(UsageError):
        remove()
    assert overlay.path.read_bytes() == before
    (tmp_path / "there").write_text("a file, no folder")
    overlay.path = tmp_path / "there" / "page.json"
    with pytest.raises(OutputError):
        overlay.set_enabled("court", True)
    overlay.path = tmp_path / "page.json"
    overlay.set_enabled("gate", False)
    kept = Overlay(tmp_path / "page.json").apply(
        Config(cameras={n: CameraConfig(source="demo") for n in ("court", "gate")})
    )
    assert [camera.enabled for camera in kept.cameras.values()] == [False, False]


def test_a_token_that_drips_in_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_LOGIN_S", 0.5)
    with running(tmp_path, serve=ServeConfig(port=0, token="a-token-for-this-test")) as up:
        host, port = up.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as slow:
            slow.sendall(
                f"POST /login HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/x-www-form-urlencoded\r\n"
                "content-length: 40\r\n\r\ntoken=".encode()
            )
            answer = slow.recv(4096)
        assert b" 303 " in answer.split(b"\r\n")[0]
        assert b"/login?wait" in answer


def test_old_clips_go_though_nothing_new_comes(tmp_path: Path) -> None:
    settings = {
        "model.name": "motion",
        "store.path": str(tmp_path / "e.db"),
        "record.dir": str(tmp_path / "clips"),
        "record.keep.days": 1,
    }
    station = Station(with_values(Config(), settings))
    thread = threading.Thread(target=station.run)
    thread.start()
    try:
        assert station.ready.wait(60)
        assert station.archive is not None
        clip = station.archive.folder / "2026-01-01" / "court" / "120000.000-ball.mp4"
        clip.parent.mkdir(parents=True)
        clip.write_bytes(b"film")
        station.archive.added(clip)
        station.archive._clock = lambda: time.time() + 3 * 86_400
        until_s = time.monotonic() + 30
        while clip.exists() and time.monotonic() < until_s:
            time.sleep(0.1)
        assert not clip.exists()
        assert station.archive.counts()["removed"] == 1
    finally:
        station.stop()
        thread.join(60)
