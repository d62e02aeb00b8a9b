"""The API over real HTTP, in front of a real station."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import threading
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from station_up import Running, running
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from streamdet.config import CameraConfig, ServeConfig
from streamdet.records import FrameRecord


def ws(up: Running, path: str) -> str:
    return up.url.replace("http", "ws") + path


# -------------------------------------------------------------------------------------------------------------- cameras


def test_cameras_tell_how_they_do(court: Running) -> None:
    (camera,) = court.client.get("/api/cameras").json()["cameras"]
    assert (camera["name"], camera["state"], camera["frame_wh"]) == ("court", "running", [640, 360])
    assert camera["frames"] >= 3
    assert camera["stages"]["motion"][0] > 0
    assert court.client.get("/api/cameras/court").json()["name"] == "court"
    missing = court.client.get("/api/cameras/nowhere")
    assert missing.status_code == 404
    assert missing.json() == {"error": "there is no camera 'nowhere'; GET /api/cameras lists them"}


def test_a_camera_is_paused_resumed_added_removed(court: Running) -> None:
    client = court.client
    assert client.post("/api/cameras/court/pause").json()["state"] == "paused"
    court.wait(lambda: client.get("/api/cameras/court").json()["state"] == "paused")
    assert client.get("/healthz").status_code == 200  # it is as it should be
    client.post("/api/cameras/court/resume")
    court.wait(lambda: client.get("/api/cameras/court").json()["state"] == "running")

    added = client.post("/api/cameras", json={"name": "second", "source": "demo", "fps": 5})
    assert added.status_code == 201
    court.wait(lambda: client.get("/api/cameras/second").json()["state"] == "running")
    again = client.post("/api/cameras", json={"name": "second", "source": "demo"})
    assert again.status_code == 409
    assert client.delete("/api/cameras/second").status_code == 204
    assert client.get("/api/cameras/second").status_code == 404
    assert client.delete("/api/cameras/second").status_code == 404


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("/etc/passwd", "files and devices"),
        ("file:///etc/passwd", "files and devices"),
        ("/dev/video0", "files and devices"),
        ("concat:/etc/passwd", "files and devices"),
        ("http://169.254.169.254/latest/meta-data/", "169.254.169.254"),
        ("rtsp://127.0.0.1/x", "127.0.0.1"),
        ("rtsp://localhost/x", "may not open"),
        ("rtsp://[::1]/x", "::1"),
        ("rtsp://[::ffff:127.0.0.1]/x", "127.0.0.1"),
        ("rtsp://0.0.0.0/x", "0.0.0.0"),
        ("rtsp://2130706433/x", "127.0.0.1"),
        ("http://8.8.8.8/x", "private"),
        ("rtsp://cam/${file:/etc/passwd}", "${...}"),
        ("rtsp://cam/x y", "spaces"),
        ("rtsp://no-such-host.invalid/x", "cannot be found"),
    ],
)
def test_the_api_does_not_open_what_only_this_machine_can_reach(court: Running, source: str, why: str) -> None:
    answer = court.client.post("/api/cameras", json={"name": "evil", "source": source})
    assert answer.status_code == 403
    assert why in answer.json()["error"]
    assert court.client.get("/api/cameras/evil").status_code == 404


# ------------------------------------------------------------------------------------------------------------- pictures


def test_snapshot_whole_and_small(court: Running) -> None:
    whole = court.client.get("/cameras/court/snapshot.jpg")
    assert whole.headers["content-type"] == "image/jpeg"
    assert float(whole.headers["x-frame-age"]) < 30
    picture = cv2.imdecode(np.frombuffer(whole.content, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (360, 640, 3)
    small = court.client.get("/cameras/court/snapshot.jpg", params={"width": 160, "annotated": "true"})
    picture = cv2.imdecode(np.frombuffer(small.content, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (90, 160, 3)


def test_mjpeg_goes_on_and_counts_as_a_viewer(court: Running) -> None:
    with court.client.stream("GET", "/cameras/court/mjpeg", params={"width": 160}) as answer:
        assert answer.headers["content-type"].startswith("multipart/x-mixed-replace")
        taken = b""
        for chunk in answer.iter_bytes():
            taken += chunk
            if taken.count(b"--streamdet-frame") >= 4:
                assert court.client.get("/api/state").json()["viewers"] >= 1
                break
    parts = taken.split(b"--streamdet-frame")[1:4]
    pictures = [cv2.imdecode(np.frombuffer(p.split(b"\r\n\r\n", 1)[1][:-2], np.uint8), cv2.IMREAD_COLOR) for p in parts]
    assert all(picture is not None and picture.shape == (90, 160, 3) for picture in pictures)
    court.wait(lambda: court.client.get("/api/state").json()["viewers"] == 0)


def test_live_frames_carry_their_record_and_wait_for_the_viewer(court: Running) -> None:
    import msgspec

    with connect(ws(court, "/cameras/court/live?width=320"), open_timeout=30) as socket:
        seen = []
        for _ in range(5):
            data = socket.recv(timeout=30)
            assert isinstance(data, bytes)
            (length,) = struct.unpack_from("<I", data)
            head = json.loads(data[4 : 4 + length])
            record = msgspec.convert(head["record"], FrameRecord)
            picture = cv2.imdecode(np.frombuffer(data[4 + length :], np.uint8), cv2.IMREAD_COLOR)
            assert picture is not None
            assert picture.shape == (180, 320, 3)
            assert (record.stream, head["wh"]) == ("court", [640, 360])
            seen.append(head["seq"])
            socket.send(str(head["seq"]))
        assert seen == sorted(set(seen))
        # who does not say what he has drawn is sent two frames and no more, and then the newest
        held = [socket.recv(timeout=30), socket.recv(timeout=30)]
        with pytest.raises(TimeoutError):
            socket.recv(timeout=1.0)
        (length,) = struct.unpack_from("<I", held[-1])  # type: ignore[arg-type]
        last = json.loads(held[-1][4 : 4 + length])["seq"]  # type: ignore[index]
        socket.send(str(last))
        data = socket.recv(timeout=30)
        (length,) = struct.unpack_from("<I", data)  # type: ignore[arg-type]
        assert json.loads(data[4 : 4 + length])["seq"] > last + 5  # type: ignore[index]


def test_a_lost_viewer_costs_nothing(court: Running) -> None:
    court.wait(lambda: court.client.get("/api/state").json()["viewers"] == 0)
    before = court.hub.encoded
    court.wait_for_frames("court", 10)
    assert court.hub.encoded == before


# --------------------------------------------------------------------------------------------------------------- events


def test_events_are_found_paged_and_counted(court: Running) -> None:
    client = court.client
    court.wait(lambda: len(client.get("/api/events").json()["events"]) >= 6)
    newest = client.get("/api/events", params={"limit": 3}).json()
    ids = [event["id"] for event in newest["events"]]
    assert ids == sorted(ids, reverse=True)
    older = client.get("/api/events", params={"limit": 3, "before": newest["next"]}).json()["events"]
    assert max(event["id"] for event in older) < min(ids)
    forward = client.get("/api/events", params={"after": older[-1]["id"], "limit": 2}).json()["events"]
    assert [event["id"] for event in forward] == sorted(event["id"] for event in older)[1:3]
    assert {e["type"] for e in client.get("/api/events?type=new&type=end").json()["events"]} <= {"new", "end"}
    assert client.get("/api/events", params={"stream": "nowhere"}).json()["events"] == []
    assert client.get("/api/events", params={"until": "2020-01-01T00:00:00Z"}).json()["events"] == []
    assert client.get(f"/api/events/{ids[0]}").json() == newest["events"][0]
    assert client.get("/api/events/none").status_code == 404
    counts = client.get("/api/events/counts", params={"by": "type"}).json()["counts"]
    assert counts["new"] >= 1


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "type=nonsense", "lmit=3", "since=yesterday-ok", "limit=1&limit=2", "after=%00"]
)
def test_a_wrong_query_is_refused_in_one_sentence(court: Running, query: str) -> None:
    answer = court.client.get(f"/api/events?{query}")
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("query:")


def test_server_sent_events_go_on_where_one_was(court: Running) -> None:
    client = court.client
    court.wait(lambda: len(client.get("/api/events").json()["events"]) >= 4)
    known = client.get("/api/events", params={"limit": 4}).json()["events"][::-1]
    told: list[dict[str, object]] = []
    with client.stream("GET", "/api/events/stream", headers={"last-event-id": known[0]["id"]}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data: "):
                told.append(json.loads(line[6:]))
            if len(told) >= 5:  # the three known ones, then some that happen now
                break
    assert told[:3] == known[1:]
    assert [event["id"] for event in told] == sorted({str(event["id"]) for event in told})


def test_the_pages_socket_tells_events_and_states(court: Running) -> None:
    with connect(ws(court, "/api/live?type=new&type=update"), open_timeout=30) as socket:
        told = [json.loads(socket.recv(timeout=60)) for _ in range(8)]
    assert told[0]["cameras"][0]["name"] == "court"
    events = [message["event"] for message in told if "event" in message]
    assert {event["type"] for event in events} <= {"new", "update"}


# ---------------------------------------------------------------------------------------------------------------- zones


def test_zones_are_kept_over_a_restart_and_make_events(tmp_path: Path) -> None:
    everywhere = {"name": "everywhere", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}
    half = {"name": "half", "start": [0.5, 0], "end": [0.5, 1]}
    with running(tmp_path) as up:
        up.wait_for_frames("court")
        assert up.client.get("/api/cameras/court/zones").json() == {"zones": [], "lines": []}
        put = up.client.put("/api/cameras/court/zones", json={"zones": [everywhere], "lines": [half]})
        assert put.status_code == 200
        assert up.client.get("/api/cameras/court").json()["rules"] == 1
        up.wait(lambda: up.client.get("/api/events?type=enter&zone=everywhere").json()["events"])
        for bad, status in (
            ({"zones": [everywhere, everywhere]}, 409),
            ({"zones": [{**everywhere, "polygon": [[0, 0], [1, 1]]}]}, 422),
            ({"zones": [{**everywhere, "classes": ["unicorn"]}]}, 422),
            ({"zones": [{**everywhere, "colour": "red"}]}, 422),
            ({"lines": [{**half, "end": [0.5, 0]}]}, 409),
        ):
            answer = up.client.put("/api/cameras/court/zones", json=bad)
            assert answer.status_code == status, bad
            assert answer.json()["error"]
        up.client.post("/api/cameras", json={"name": "more", "source": "demo"})
    assert (tmp_path / "page.json").stat().st_mode & 0o077 == 0
    with running(tmp_path) as up:
        kept = up.client.get("/api/cameras/court/zones").json()
        assert kept["zones"][0]["name"] == "everywhere"
        assert kept["lines"][0]["start"] == [0.5, 0.0]
        assert up.client.get("/api/cameras/more").json()["added"] is True
        assert up.client.delete("/api/cameras/court").status_code == 204
    with running(tmp_path) as up:
        assert [camera["name"] for camera in up.client.get("/api/cameras").json()["cameras"]] == ["more"]


# ------------------------------------------------------------------------------------------------------ health, metrics


def test_health_says_why(tmp_path: Path) -> None:
    cameras = {"gate": CameraConfig(source="rtsp://user:pa55word@127.0.0.1:9/x")}
    with running(tmp_path, cameras=cameras, serve=ServeConfig(port=0, stale_s=0.5)) as up:
        up.wait(lambda: up.client.get("/healthz").status_code == 503)
        (reason,) = up.client.get("/healthz").json()["reasons"]
        assert reason.startswith("camera 'gate' is ")
        for path in ("/healthz", "/metrics", "/api/cameras", "/api/state", "/api/config"):
            assert "pa55word" not in up.client.get(path).text
        waiting = up.client.get("/cameras/gate/snapshot.jpg")
        assert waiting.status_code == 503


def test_health_says_when_frames_come_and_nobody_looks_at_them(tmp_path: Path) -> None:
    """A network that hangs: the cameras are well, the station is not."""
    again = threading.Event()
    with running(tmp_path, serve=ServeConfig(port=0, stale_s=3)) as up:
        up.wait(lambda: up.client.get("/healthz").status_code == 200)
        up.station._pipeline.order(lambda: again.wait(60) and None)
        try:
            up.wait(lambda: up.client.get("/healthz").status_code == 503)
            assert any("nothing is processed" in why for why in up.client.get("/healthz").json()["reasons"])
        finally:
            again.set()
        up.wait(lambda: up.client.get("/healthz").status_code == 200)


def test_metrics_are_what_prometheus_reads(court: Running) -> None:
    answer = court.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = answer.text
    for part in (
        'streamdet_frames_total{stream="court"}',
        'streamdet_dropped_frames_total{stream="court",reason="late"}',
        'streamdet_stage_seconds_bucket{stream="court",stage="motion",le="+Inf"}',
        'streamdet_camera_state{stream="court",state="running"} 1',
        'streamdet_reconnects_total{stream="court"} 0',
        "streamdet_store_queue",
        "streamdet_store_writable 1",
        "streamdet_processing_silence_seconds",
    ):
        assert part in text
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (apt: prometheus)")
    checked = subprocess.run([promtool, "check", "metrics"], input=text, text=True, capture_output=True, timeout=60)
    assert checked.returncode == 0, checked.stderr


def test_a_configuration_is_checked_and_nothing_of_this_machine_told(
    court: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMDET_TEST_SECRET", "swordfish")
    check = "/api/config/validate"
    good = court.client.post(check, json={"text": "cameras:\n  a: {source: '${STREAMDET_TEST_SECRET}'}"})
    assert good.json() == {"valid": True, "error": None}
    bad = court.client.post(check, json={"text": "tiles: {overlap: '${STREAMDET_TEST_SECRET}'}"}).json()
    assert bad["valid"] is False
    assert "tiles.overlap" in bad["error"]
    assert "swordfish" not in bad["error"]
    assert court.client.post(check, json={"text": "a: [1"}).json()["valid"] is False
    assert court.client.get("/api/config/schema").json()["title"] == "streamdet configuration"


def test_the_document_describes_every_operation(court: Running) -> None:
    document = court.client.get("/api/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    assert set(document["paths"]["/api/cameras/{camera}/zones"]) == {"get", "put"}
    assert document["components"]["schemas"]["NewCamera"]["additionalProperties"] is False


def test_viewers_are_limited(tmp_path: Path) -> None:
    with running(tmp_path, serve=ServeConfig(port=0, viewers=1)) as up:
        up.wait_for_frames("court")
        with connect(ws(up, "/cameras/court/live"), open_timeout=30):
            up.wait(lambda: up.client.get("/api/state").json()["viewers"] == 1)
            assert up.client.get("/cameras/court/mjpeg").status_code == 503
            with pytest.raises(InvalidStatus):
                connect(ws(up, "/cameras/court/live"), open_timeout=30)
        up.wait(lambda: up.client.get("/api/state").json()["viewers"] == 0)


def test_stopping_ends_what_viewers_have_open(tmp_path: Path) -> None:
    ended = threading.Event()

    def watch(url: str) -> None:
        try:
            with httpx.stream("GET", f"{url}/cameras/court/mjpeg", timeout=30) as answer:
                for _ in answer.iter_bytes():
                    pass
        except httpx.HTTPError:
            pass
        ended.set()

    with running(tmp_path) as up:
        up.wait_for_frames("court")
        viewer = threading.Thread(target=watch, args=(up.url,))
        viewer.start()
        up.wait(lambda: up.client.get("/api/state").json()["viewers"] == 1)
    viewer.join(30)
    assert ended.is_set()
