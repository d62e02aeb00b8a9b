"""Pushed streams arrive at real servers; one that freezes, dies or is not there harms nobody, and is served when it is back."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from streamdet.coded.encoder import Encoder
from streamdet.errors import ConfigError
from streamdet.sinks.broadcast import BroadcastSink
from streamdet.sinks.packet_queue import PacketQueue
from streamdet.sinks.push import PushOutlet
from streamdet.types import Detections, Frame, Picture, Result, Tracks

HERE = Path(__file__).parent
WH = (320, 240)


def result_of(index: int, *, fps: float = 25, wh: tuple[int, int] = WH, epoch: int = 0) -> Result:
    picture = np.full((wh[1], wh[0], 3), 40 + index % 150, np.uint8)
    picture[::7] = 128
    frame = Frame("cam", index, index / fps, Picture(picture[..., 0], bgr=picture), time.monotonic(), epoch=epoch)
    return Result(frame, Detections.empty(), Tracks.empty(), painter=lambda result: result.frame.picture.bgr)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def until(done: Callable[[], object], *, within_s: float, why: str) -> None:
    deadline = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < deadline, why
        time.sleep(0.05)


class Server:
    """push_server.py as a process, and what it has printed."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "push_server.py"), url],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        until(lambda: "READY" in self.lines, within_s=30, why="the server does not come up")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.strip())

    @property
    def frames(self) -> int:
        return sum(line.startswith(("rtsp", "rtmp")) for line in self.lines)

    def close(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Feed:
    """Writes Results to a sink, 25 a second, on a thread of its own; remembers the longest write."""

    def __init__(self, sink: BroadcastSink, *, noisy: bool = False) -> None:
        self._noise = np.random.default_rng(0).integers(0, 255, (5, WH[1], WH[0], 3), np.uint8) if noisy else None
        self.longest_s = 0.0
        self.written = 0
        self._sink = sink
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.04):
            started_s = time.monotonic()
            result = result_of(self.written)
            if self._noise is not None:  # nothing of it can be compressed: buffers fill soon
                result.painted.append(self._noise[self.written % 5])
            self._sink.write(result)
            self.written += 1
            self.longest_s = max(self.longest_s, time.monotonic() - started_s)


@pytest.fixture(params=["rtsp", "rtmp"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    one = Server(f"{request.param}://127.0.0.1:{free_port()}/live/a")
    yield one
    one.close()


def test_the_stream_arrives(server: Server) -> None:
    outlet = PushOutlet(server.url, stream="cam")
    with BroadcastSink([outlet], Encoder(key_every_s=1)) as sink, Feed(sink) as feed:
        until(lambda: server.frames >= 60, within_s=60, why=f"only {server.frames} frames came: {outlet.status()}")
        assert feed.longest_s < 5
        assert outlet.status()["state"] == "running"
        assert outlet.connections == 1
    levels = [float(line.split()[2]) for line in server.lines if line[:2] == "rt"]
    rising = sum(later > earlier - 1 for earlier, later in itertools.pairwise(levels))
    assert rising > 0.8 * len(levels), "the pictures come in order"


@pytest.mark.timeout(180)
def test_a_frozen_server_is_cut_off_and_served_again_when_it_is_back(server: Server) -> None:
    outlet = PushOutlet(server.url, stream="cam", deadline_s=1.5)
    with BroadcastSink([outlet], Encoder(crf=8, key_every_s=0.5)) as sink, Feed(sink, noisy=True) as feed:
        until(lambda: server.frames >= 10, within_s=60, why="nothing came")
        server.process.send_signal(signal.SIGSTOP)
        until(lambda: outlet.reason is not None, within_s=90, why=f"not noticed: {outlet.status()}")
        assert outlet.reason == "it takes nothing any more"
        before = server.frames
        server.process.send_signal(signal.SIGCONT)
        again = f"it was not served again: {outlet.status()}"
        until(lambda: outlet.connections >= 2, within_s=90, why=again)  # what comes before is the old one's rest
        until(lambda: server.frames >= before + 30, within_s=90, why=again)
        assert feed.longest_s < 5, "nobody waited for the frozen server"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("push")]


def test_a_server_that_is_not_there_costs_no_encoding_and_is_found_later() -> None:
    port = free_port()
    outlet = PushOutlet(f"rtsp://anna:s3cret@127.0.0.1:{port}/live", stream="cam")
    with BroadcastSink([outlet], Encoder()) as sink, Feed(sink) as feed:
        until(lambda: feed.written >= 40, within_s=60, why="writing went on")
        assert sink.encoded <= 8, "nobody wants it: nothing is drawn or encoded, but what the announcement needs"
        assert outlet.wanted is False
        assert "s3cret" not in str(outlet.status())
        server = Server(f"rtsp://127.0.0.1:{port}/live")
        try:
            until(lambda: server.frames >= 10, within_s=90, why=f"not found: {outlet.status()}")
        finally:
            server.close()


def test_one_encoder_serves_two_servers() -> None:
    servers = [Server(f"{scheme}://127.0.0.1:{free_port()}/live/a") for scheme in ("rtsp", "rtmp")]
    outlets = [PushOutlet(one.url, stream="cam") for one in servers]
    try:
        with BroadcastSink(outlets, Encoder(key_every_s=1)) as sink, Feed(sink) as feed:
            until(lambda: min(one.frames for one in servers) >= 40, within_s=90, why="not both were served")
            assert sink.encoded <= feed.written + 1
    finally:
        for one in servers:
            one.close()


def test_a_dead_server_never_blocks_the_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:  # accepts and says nothing
        outlet = PushOutlet(f"rtmp://127.0.0.1:{mute.getsockname()[1]}/x", stream="cam", deadline_s=1)
        with BroadcastSink([outlet], Encoder()) as sink, Feed(sink):
            until(lambda: outlet.reason is not None, within_s=60, why="a mute server was noticed")
            started_s = time.monotonic()
        assert time.monotonic() - started_s < 15


@pytest.mark.parametrize("url", ["srt://a.example/x", "http://a.example/x", "file.mp4", "ftp://u:pw0@a.example"])
def test_an_address_that_cannot_be_pushed_to(url: str) -> None:
    with pytest.raises(ConfigError, match="use rtsp://") as caught:
        PushOutlet(url, stream="cam")
    assert "pw0" not in str(caught.value)


def test_a_queue_that_is_full_drops_to_the_next_key_frame() -> None:
    encoder, queue = Encoder(key_every_s=1), PacketQueue(2.0)
    packets = [p for i in range(250) for p in encoder.encode(result_of(i).annotated(), i / 25, 0.0)]
    for packet in packets:
        queue.put(packet)
        assert len(queue) <= 51
    got = []
    while len(queue):
        got.append(queue.get(0))
    assert queue.dropped + len(got) == 250
    assert got[0] is not None
    assert got[0].key
    numbers = [packet.number for packet in got if packet is not None]
    assert numbers == list(range(numbers[0], 250))


RTMP = """
load_module {module};
daemon off; pid {folder}/nginx.pid; error_log {folder}/log info; worker_processes 1;
events {{ worker_connections 64; }}
rtmp {{ server {{ listen 127.0.0.1:{port}; application live {{ live on; record all; record_path {folder}; }} }} }}
"""


def nginx(folder: Path, port: int) -> list[str]:
    module = Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")
    if shutil.which("nginx") is None or not module.exists():
        pytest.skip("nginx with its RTMP module is not installed (apt-get install nginx libnginx-mod-rtmp)")
    folder.chmod(0o777)
    for parent in [*folder.parents][:3]:
        parent.chmod(0o755)
    (folder / "nginx.conf").write_text(RTMP.format(module=module, folder=folder, port=port))
    return ["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)]


GSTREAMER = """
import sys, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer, GLib
Gst.init(None)
server = GstRtspServer.RTSPServer(); server.set_address("127.0.0.1"); server.set_service(sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory(); factory.set_transport_mode(GstRtspServer.RTSPTransportMode.RECORD)
factory.set_launch("( rtph264depay name=depay0 ! h264parse ! video/x-h264,stream-format=byte-stream ! filesink sync=false "
                   "buffer-mode=2 location=" + sys.argv[2] + " )")
factory.set_latency(0); server.get_mount_points().add_factory("/live/a", factory)
assert server.attach(None)
GLib.MainLoop().run()
"""


def gstreamer(folder: Path, port: int) -> list[str]:
    probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    python = "/usr/bin/python3"
    if not Path(python).exists() or subprocess.run([python, "-c", probe], capture_output=True, check=False).returncode:
        pytest.skip("GStreamer's RTSP server is not installed (apt-get install gir1.2-gst-rtsp-server-1.0 python3-gi)")
    return [python, "-c", GSTREAMER, str(port), str(folder / "a.h264")]


@pytest.mark.parametrize(("scheme", "command"), [("rtmp", nginx), ("rtsp", gstreamer)])
def test_servers_that_people_run(tmp_path: Path, scheme: str, command: Callable[[Path, int], list[str]]) -> None:
    import av

    port = free_port()
    process = subprocess.Popen(command(tmp_path, port), stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        outlet = PushOutlet(f"{scheme}://127.0.0.1:{port}/live/a", stream="cam")
        with BroadcastSink([outlet], Encoder(key_every_s=1)) as sink, Feed(sink):
            until(lambda: outlet.sent >= 75, within_s=60, why=f"not sent: {outlet.status()}")
            assert outlet.connections == 1
        time.sleep(1)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)
    recorded = next(file for file in tmp_path.iterdir() if file.suffix in (".flv", ".h264"))
    with av.open(str(recorded)) as container:
        assert sum(1 for _ in container.decode(video=0)) >= 60
