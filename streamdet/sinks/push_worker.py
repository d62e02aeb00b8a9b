"""The process that talks to a server: ``python -m streamdet.sinks.push_worker``, packets on standard input.

Why a process: FFmpeg cannot be told to give up while it connects or sends, and PyAV holds Python's lock while it connects; a
server that accepts and says nothing would freeze every camera. A process can be killed.

Input: a line of JSON (:class:`Head`), then packets, each with `HEAD` before its data. Output: ``open`` once the first packet is
through, or ``error WHY``.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from fractions import Fraction
from typing import Any, BinaryIO

import msgspec

from streamdet.errors import redact

__all__ = ["HEAD", "Head"]

HEAD = struct.Struct("<qqBI")  # pts, dts, key, length
_SEND_BUFFER = 256 * 1024  # bytes that may wait in the kernel: they are latency


class Head(msgspec.Struct, frozen=True):
    """What is sent where. `time_base`: denominator, in 1/s."""

    url: str
    format: str
    options: dict[str, str]
    wh: tuple[int, int]
    time_base: int


def main() -> int:
    source, out = sys.stdin.buffer, os.dup(1)
    os.dup2(2, 1)  # whatever FFmpeg prints is no answer
    try:
        _send(source, out)
    except Exception as error:
        said = (
            "it does not answer" if isinstance(error, TimeoutError) else getattr(error, "strerror", None) or str(error)
        )
        os.write(out, f"error {redact(said)}\n".encode())
        return 1
    return 0


def _send(source: BinaryIO, out: int) -> None:
    import av

    head = msgspec.json.decode(source.readline(), type=Head)
    container = av.open(head.url, "w", format=head.format, options=head.options)
    stream = container.add_mux_stream("h264", rate=30, width=head.wh[0], height=head.wh[1])
    stream.time_base = Fraction(1, head.time_base)
    opened = False
    try:
        while len(data := source.read(HEAD.size)) == HEAD.size:
            pts, dts, key, size = HEAD.unpack(data)
            packet: Any = av.Packet(source.read(size))
            packet.stream, packet.time_base = stream, Fraction(1, head.time_base)
            packet.pts, packet.dts, packet.is_keyframe = pts, dts, bool(key)
            container.mux(packet)
            if not opened:
                opened = True
                _keep_short()
                os.write(out, b"open\n")
    finally:
        with contextlib.suppress(OSError, av.FFmpegError):
            container.close()


def _keep_short() -> None:
    """Little may wait in the kernel for a slow receiver, and nothing for company. All sockets here are FFmpeg's."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(name))) as twin:
            twin.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            twin.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


if __name__ == "__main__":
    sys.exit(main())
