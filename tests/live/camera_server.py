"""An RTSP camera in a process of its own (RFC 2326, TCP and UDP), which can be killed, frozen, and made to misbehave.

``with CameraServer([clip]) as camera: camera.url``. The clips are played one after another, again and again, in real time;
readers begin at a key frame. PyAV's own ``rtp`` muxer cuts the packets.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av

Send = Callable[[bytes], None]


class CameraServer:
    """The process, from outside. `loss`, `garbage`: per cent of the RTP packets that are left out (UDP) or overwritten."""

    def __init__(
        self,
        clips: Sequence[Path],
        *,
        login: str = "",
        loss: float = 0.0,
        garbage: float = 0.0,
        host: str = "127.0.0.1",
        path: str = "live",
        port: int = 0,
        inside: Sequence[str] = (),
    ) -> None:
        self.port = port or _free_port()
        self.url = f"rtsp://{login + '@' if login else ''}{host}:{self.port}/{path}"
        self._words = [*inside, sys.executable, __file__, "--host", host, "--port", str(self.port), "--path", path]
        self._words += ["--login", login, "--loss", str(loss), "--garbage", str(garbage), *map(str, clips)]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> CameraServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Returns once it listens."""
        self._process = subprocess.Popen(self._words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"READY\n", "the camera did not start"

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


# ------------------------------------------------------------------------------------------------------- in the process


class Feed:
    """Packs the clips' pictures into RTP packets when they are due, for everybody who listens."""

    def __init__(self, clips: Sequence[str], *, garbage: float) -> None:
        self.readers: dict[object, Send] = {}
        self._fresh: set[object] = set()  # wait for a key frame
        self._clips, self._garbage = clips, garbage
        self._pieces: list[bytes] = []
        self._random = random.Random(1)

    def join(self, who: object, send: Send) -> None:
        self.readers[who] = send
        self._fresh.add(who)

    def leave(self, who: object) -> None:
        self.readers.pop(who, None)
        self._fresh.discard(who)

    async def run(self) -> None:
        sink: Any = type("Sink", (), {"write": lambda _, data: self._pieces.append(bytes(data)) or len(data)})()
        rtp, track, offset, started_s = None, None, 0, time.monotonic()
        while True:
            for name in self._clips:
                with av.open(name) as clip:
                    video = clip.streams.video[0]
                    if rtp is None:
                        rtp = av.open(sink, "w", format="rtp", options={"packetsize": "1200"}, buffer_size=1200)
                        track = rtp.add_stream_from_template(video)
                    first, end = None, offset
                    for packet in clip.demux(video):
                        if not packet.size or packet.dts is None or packet.pts is None:
                            continue
                        first = packet.dts if first is None else first
                        packet.pts, packet.dts = packet.pts - first + offset, packet.dts - first + offset
                        end = packet.dts + (packet.duration or 3600)
                        await asyncio.sleep(
                            max(0.0, started_s + float(packet.dts * video.time_base) - time.monotonic())
                        )
                        key = packet.is_keyframe
                        packet.stream = track
                        rtp.mux(packet)
                        self._send(key)
                    offset = end

    def _send(self, key: bool) -> None:
        pieces, self._pieces = self._pieces, []
        for who, send in list(self.readers.items()):
            if key:
                self._fresh.discard(who)
            if who in self._fresh:
                continue
            for piece in pieces:
                control = 200 <= piece[1] <= 204
                if not control and self._random.random() * 100 < self._garbage:
                    piece = piece[:12] + self._random.randbytes(len(piece) - 12)
                with contextlib.suppress(OSError):
                    send(piece)


def _units(extradata: bytes) -> list[bytes]:
    return [unit.rstrip(b"\0") for unit in extradata.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if unit]


def description(clip: str) -> str:
    """The SDP, with the parameter sets, so that a reader knows the picture at once."""
    with av.open(clip) as container:
        codec = container.streams.video[0].codec_context
        units = _units(bytes(codec.extradata or b""))
        h264 = codec.name == "h264"

    def text(unit: bytes) -> str:
        return base64.b64encode(unit).decode()

    if h264:
        sets = ",".join(text(unit) for unit in units if unit[0] & 31 in (7, 8))
        form = f"H264/90000\r\na=fmtp:96 packetization-mode=1; sprop-parameter-sets={sets}"
    else:
        named = {32: "vps", 33: "sps", 34: "pps"}
        sets = "; ".join(
            f"sprop-{named[unit[0] >> 1 & 63]}={text(unit)}" for unit in units if unit[0] >> 1 & 63 in named
        )
        form = f"H265/90000\r\na=fmtp:96 {sets}"
    return (
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n"
        f"m=video 0 RTP/AVP 96\r\na=rtpmap:96 {form}\r\na=control:track0\r\n"
    )


class Visitor:
    """One reader's connection."""

    def __init__(self, server: Any, feed: Feed, sdp: str) -> None:
        self._server, self._feed, self._sdp = server, feed, sdp
        self._send: Send | None = None
        self._sockets: list[socket.socket] = []

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while True:
                first = await reader.readexactly(1)
                if first == b"$":  # receiver reports
                    head = await reader.readexactly(3)
                    await reader.readexactly(struct.unpack(">BH", head)[1])
                    continue
                lines = (first + await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                verb, url, _ = lines[0].split(" ", 2)
                headers = {
                    name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
                }
                self._answer(writer, verb, url, headers)
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            pass
        finally:
            self._feed.leave(self)
            for one in self._sockets:
                one.close()
            writer.close()

    def _answer(self, writer: asyncio.StreamWriter, verb: str, url: str, headers: dict[str, str]) -> None:
        def reply(status: str = "200 OK", body: str = "", **more: str) -> None:
            lines = [f"RTSP/1.0 {status}", f"CSeq: {headers.get('cseq', '0')}"]
            lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
            lines += [f"Content-Length: {len(body)}", "", body]
            writer.write("\r\n".join(lines).encode())

        login = self._server.login
        wanted = "Basic " + base64.b64encode(login.encode()).decode()
        if login and verb != "OPTIONS" and headers.get("authorization") != wanted:
            reply("401 Unauthorized", WWW_Authenticate='Basic realm="test"')
        elif verb == "OPTIONS":
            reply(Public="OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER")
        elif f"/{self._server.path}" not in url:
            reply("404 Not Found")
        elif verb == "DESCRIBE":
            reply(body=self._sdp, Content_Type="application/sdp", Content_Base=url.rstrip("/") + "/")
        elif verb == "SETUP":
            reply(Transport=self._set_up(writer, headers["transport"]), Session="1;timeout=60")
        elif verb == "PLAY":
            reply(Session="1", Range="npt=0.000-")
            assert self._send is not None
            self._feed.join(self, self._send)
        else:
            reply(Session="1")

    def _set_up(self, writer: asyncio.StreamWriter, asked: str) -> str:
        if "TCP" in asked:
            self._send = lambda piece: writer.write(
                b"$" + struct.pack(">BH", 200 <= piece[1] <= 204, len(piece)) + piece
            )
            return "RTP/AVP/TCP;unicast;interleaved=0-1"
        port = int(asked.split("client_port=")[1].split("-")[0])
        here, there = writer.get_extra_info("sockname")[0], writer.get_extra_info("peername")[0]
        while len(self._sockets) < 2:
            first = random.randrange(20000, 60000, 2)
            self._sockets = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(2)]
            try:
                for number, one in enumerate(self._sockets):
                    one.bind((here, first + number))
            except OSError:
                for one in self._sockets:
                    one.close()
                self._sockets = []
        lossy = random.Random(2)

        def send(piece: bytes) -> None:
            control = 200 <= piece[1] <= 204
            if control or lossy.random() * 100 >= self._server.loss:
                self._sockets[control].sendto(piece, (there, port + control))

        self._send = send
        return f"RTP/AVP;unicast;client_port={port}-{port + 1};server_port={first}-{first + 1}"


async def serve(arguments: Any) -> None:
    feed = Feed(arguments.clips, garbage=arguments.garbage)
    sdp = description(arguments.clips[0])
    server = await asyncio.start_server(
        lambda reader, writer: Visitor(arguments, feed, sdp).talk(reader, writer), arguments.host, arguments.port
    )
    print("READY", flush=True)  # noqa: T201
    async with server:
        await feed.run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("host", "path", "login"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--port", type=int)
    parser.add_argument("--loss", type=float)
    parser.add_argument("--garbage", type=float)
    parser.add_argument("clips", nargs="+")
    asyncio.run(serve(parser.parse_args()))
