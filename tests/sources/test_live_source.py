"""Streams over real sockets: they open quickly, and every way of going away ends in one clear error, in time."""

from __future__ import annotations

import functools
import http.server
import itertools
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from rtsp_server import RtspServer
from source_clips import encode, moving_bgr

from streamdet.config import SourceConfig
from streamdet.errors import SourceLostError, SourceOpenError
from streamdet.sources.decode import Decoder
from streamdet.sources.opening import descriptor_of
from streamdet.sources.video import CameraSource, VideoSource

QUICK = SourceConfig(open_timeout_s=3, read_timeout_s=1)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("live") / "a.ts"
    options = {"tune": "zerolatency", "x264-params": "sliced-threads=0", "g": "5", "bf": "0"}
    return encode(path, moving_bgr((320, 240), 50), options=options)


def test_rtsp_runs_with_wall_clock_and_media_time(clip: Path) -> None:
    with RtspServer(clip) as server, VideoSource(server.url, stream="cam", config=QUICK) as source:
        opened_s = time.monotonic()
        frames = []
        for frame in source:
            frames.append(frame)
            if len(frames) == 30:
                break
        assert time.monotonic() - opened_s < 4
    assert source.info.live
    assert source.info.frame_wh == frames[0].wh == (320, 240)
    assert source.info.frame_count is None
    assert source.info.fps == 25
    steps = [later.pts_s - earlier.pts_s for earlier, later in itertools.pairwise(frames)]
    assert all(step > 0 for step in steps)
    assert frames[-1].pts_s == pytest.approx(29 / 25, abs=0.1)
    assert all(frame.utc is not None and frame.utc.endswith("Z") for frame in frames)


def test_dead_server_is_a_lost_stream(clip: Path) -> None:
    with RtspServer(clip) as server, VideoSource(server.url, stream="cam", config=QUICK) as source:
        frames = iter(source)
        for _ in range(5):
            next(frames)
        server.kill()
        with pytest.raises(SourceLostError) as caught:
            list(frames)
    assert "rtsp://127.0.0.1" in str(caught.value)


def test_silent_server_is_a_lost_stream_in_time(clip: Path) -> None:
    seen = []
    with RtspServer(clip, stall_after=12) as server, VideoSource(server.url, stream="cam", config=QUICK) as source:
        with pytest.raises(SourceLostError):
            seen.extend(frame.captured_s for frame in source)
        assert len(seen) >= 11
        assert time.monotonic() - seen[-1] < 2 * QUICK.read_timeout_s + 1


def test_password_never_shows(clip: Path) -> None:
    with RtspServer(clip, login="anna:s3cret") as server:
        with VideoSource(server.url, stream="cam", config=QUICK) as source:
            assert "s3cret" not in source.info.uri
            assert next(iter(source)).index == 0
        wrong = server.url.replace("s3cret", "wr0ng")
        with pytest.raises(SourceOpenError) as caught, VideoSource(wrong, stream="cam", config=QUICK):
            pass
    assert "password is missing or wrong" in str(caught.value)
    assert "wr0ng" not in str(caught.value)
    assert "anna" not in str(caught.value)


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(SourceOpenError, match="nothing listens there"):
        VideoSource(f"rtsp://127.0.0.1:{port}/x", stream="cam", config=QUICK).__enter__()


@pytest.mark.parametrize("scheme", ["rtsp", "http", "rtmp"])
def test_silence_at_opening_has_a_time_limit(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"{scheme}://u:s3cret@127.0.0.1:{mute.getsockname()[1]}/x"
        started_s = time.monotonic()
        with pytest.raises(SourceOpenError) as caught:
            VideoSource(url, stream="cam", config=SourceConfig(open_timeout_s=1, read_timeout_s=1)).__enter__()
    assert time.monotonic() - started_s < 4
    assert "s3cret" not in str(caught.value)


def test_close_from_another_thread(clip: Path) -> None:
    with RtspServer(clip) as server, VideoSource(server.url, stream="cam", config=QUICK) as source:
        threading.Timer(0.3, source.close).start()
        started_s = time.monotonic()
        assert sum(1 for _ in source) > 0
        assert time.monotonic() - started_s < 1.5


@pytest.fixture
def web(clip: Path, tmp_path: Path) -> Iterator[str]:
    encode(tmp_path / "b.mp4", moving_bgr((96, 64), 20))
    (tmp_path / "c.ts").write_bytes(clip.read_bytes())

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("name", "count"), [("b.mp4", 20), ("c.ts", 50)])
def test_a_file_over_http_is_a_file(web: str, name: str, count: int) -> None:
    with VideoSource(f"{web}/{name}", stream="cam", config=QUICK) as source:
        assert sum(1 for _ in source) == count
    assert not source.info.live
    assert source.info.path is None
    assert source.warnings == []


def test_missing_page(web: str) -> None:
    with pytest.raises(SourceOpenError, match="no stream of that name"):
        VideoSource(f"{web}/none.mp4?token=s3cret", stream="cam", config=QUICK).__enter__()


def test_missing_camera() -> None:
    with pytest.raises(SourceOpenError, match="/dev/video93") as caught:
        CameraSource("93", stream="cam", config=QUICK).__enter__()
    assert "no such file or device" in str(caught.value)


def test_a_hanging_device_times_out_and_can_be_closed(clip: Path) -> None:
    """A pipe nobody writes to stands for a camera that hangs."""
    readable, writable = os.pipe()
    for closing in (False, True):
        container = av.open(str(clip))
        decoder = Decoder(
            container,
            container.streams.video[0],
            tolerant=False,
            device=readable,
            device_timeout_s=30 if closing else 0.5,
        )
        if closing:
            threading.Timer(0.3, decoder.close).start()
        started_s = time.monotonic()
        assert list(decoder) == []
        assert time.monotonic() - started_s < 1.5
        assert isinstance(decoder.ended_by, TimeoutError) != closing
        decoder.close()
    os.close(readable)
    os.close(writable)


def test_descriptor_of_an_open_device(tmp_path: Path) -> None:
    device = tmp_path / "video0"
    device.touch()
    assert descriptor_of(str(device)) is None
    with device.open() as file:
        assert descriptor_of(str(device)) == file.fileno()
