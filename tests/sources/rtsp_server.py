"""A tiny RTSP server in a thread, for tests: one H.264 clip, looped in real time, over interleaved TCP (RFC 2326, 6184).

PyAV's own `rtp` muxer cuts the packets. It can demand a password, fall silent (`stall_after` frames), and be stopped.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any

import av


class RtspServer:
    """``with RtspServer(clip) as server: server.url``. Serves any number of readers, each from a keyframe of its own."""

    def __init__(
        self, clip: Path, *, login: str = "", stall_after: int | None = None, first_stall: bool = False
    ) -> None:
        self._clip, self._login, self._stall_after, self._mute = clip, login, stall_after, first_stall
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stopping = threading.Event()
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        user = f"{login}@" if login else ""
        self.url = f"rtsp://{user}127.0.0.1:{self._listener.getsockname()[1]}/live"

    def __enter__(self) -> RtspServer:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """What a dying process does: every socket is closed."""
        self._stopping.set()
        for one in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(client)
            thread = threading.Thread(target=self._talk, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _talk(self, client: socket.socket) -> None:
        try:
            with client, client.makefile("rb") as lines:
                while (first := lines.read(1)) and not self._stopping.is_set():
                    if first == b"$":  # receiver reports
                        _, size = struct.unpack(">BH", lines.read(3))
                        lines.read(size)
                        continue
                    request = (first + lines.readline()).decode().split()
                    headers = {}
                    while line := lines.readline().decode().strip():
                        name, _, value = line.partition(":")
                        headers[name.lower()] = value.strip()
                    self._answer(client, request[0], request[1], headers)
        except (OSError, ValueError):
            return

    def _answer(self, client: socket.socket, verb: str, url: str, headers: dict[str, str]) -> None:
        def reply(status: str = "200 OK", body: str = "", **more: str) -> None:
            lines = [f"RTSP/1.0 {status}", f"CSeq: {headers.get('cseq', '0')}"]
            lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
            lines += [f"Content-Length: {len(body)}", "", body]
            client.sendall("\r\n".join(lines).encode())

        wanted = "Basic " + base64.b64encode(self._login.encode()).decode()
        if self._login and verb != "OPTIONS" and headers.get("authorization") != wanted:
            reply("401 Unauthorized", WWW_Authenticate='Basic realm="test"')
        elif verb == "OPTIONS":
            reply(Public="OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
        elif verb == "DESCRIBE":
            reply(body=_description(self._clip), Content_Type="application/sdp", Content_Base=url.rstrip("/") + "/")
        elif verb == "SETUP":
            reply(Transport="RTP/AVP/TCP;unicast;interleaved=0-1", Session="1;timeout=60")
        elif verb == "PLAY":
            reply(Session="1", Range="npt=0.000-")
            thread = threading.Thread(target=self._play, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()
        else:
            reply(Session="1")

    def _play(self, client: socket.socket) -> None:
        sent, started_s, offset = 0, time.monotonic(), 0
        pieces: list[bytes] = []
        sink: Any = type("Sink", (), {"write": lambda _, data: pieces.append(bytes(data)) or len(data)})()
        try:
            with av.open(sink, "w", format="rtp", options={"packetsize": "1400"}, buffer_size=1400) as rtp:
                track = None
                while True:
                    with av.open(str(self._clip)) as clip:
                        video = clip.streams.video[0]
                        track = track or rtp.add_stream_from_template(video)
                        end = 0
                        for packet in clip.demux(video):
                            if not packet.size or packet.dts is None or packet.pts is None:
                                continue
                            packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                            end = packet.dts + (packet.duration or 0)
                            due_s = started_s + float(packet.dts * video.time_base)
                            if self._stopping.wait(max(0.0, due_s - time.monotonic())):
                                return
                            packet.stream = track
                            rtp.mux(packet)
                            if self._mute or (self._stall_after is not None and sent >= self._stall_after):
                                pieces.clear()
                            for piece in pieces:
                                channel = 1 if 200 <= piece[1] <= 204 else 0
                                client.sendall(b"$" + struct.pack(">BH", channel, len(piece)) + piece)
                            pieces.clear()
                            sent += 1
                        offset = end
        except (OSError, ValueError):
            return


def _description(clip: Path) -> str:
    with av.open(str(clip)) as container:
        extradata = bytes(container.streams.video[0].codec_context.extradata or b"")
    units = [unit.rstrip(b"\0") for unit in extradata.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if unit]
    sets = ",".join(base64.b64encode(unit).decode() for unit in units if unit[0] & 31 in (7, 8))
    return (
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n"
        "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
        f"a=fmtp:96 packetization-mode=1; sprop-parameter-sets={sets}\r\na=control:track0\r\n"
    )
