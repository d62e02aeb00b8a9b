"""The annotated stream pushed to an RTSP or RTMP server, for as long as it takes it."""

from __future__ import annotations

import logging
import os
import random
import select
import subprocess
import sys
import threading
import time
from typing import IO, Literal, cast

import msgspec

from streamdet.coded.packet import CodedPacket, CodedRun
from streamdet.errors import ConfigError, redact
from streamdet.mailbox import Closed
from streamdet.sinks.packet_queue import PacketQueue
from streamdet.sinks.push_worker import HEAD, Head

__all__ = ["PushOutlet"]

log = logging.getLogger(__name__)

_QUEUE_S = 1.0  # more than this never waits here
_FIRST_BACKOFF_S, _MOST_BACKOFF_S = 0.5, 30.0
_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps")

State = Literal["waiting", "running", "stopped"]


class PushOutlet:
    """Sends packets to `url`, through a process of its own (see `push_worker`), and comes back whenever the server does.

    The server being down, refusing, frozen or slow never reaches the encoder: what cannot be sent in time is dropped up to the
    next key frame (``dropped``), one that takes nothing for `deadline_s` is given up, and a lost server is tried again
    after 0.5 s, doubled up to 30 s, with jitter. While it is away nothing is wanted, so nothing is encoded for it, but for one
    picture per try, which says what is to be announced. The address is on no command line and in no log.

    Raises ConfigError for an address that is neither rtsp(s):// nor rtmp(s)://.
    """

    def __init__(self, url: str, *, stream: str, deadline_s: float = 4.0) -> None:
        scheme = url.partition("://")[0].lower()
        if scheme not in _SCHEMES:
            raise ConfigError(
                f"cannot push to {redact(url)}: {scheme}:// is not known; use rtsp://, rtsps://, rtmp:// or rtmps://"
            )
        self.state: State = "waiting"
        self.reason: str | None = None
        self.sent = 0
        self.connections = 0
        self._url, self._name, self._is_rtsp = url, f"{stream} to {redact(url)}", scheme.startswith("rtsp")
        self._deadline_s = deadline_s
        self._queue = PacketQueue(_QUEUE_S)
        self._asks = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"push-{stream}", daemon=True)

    # ------------------------------------------------------------------------------------------------- the sink's thread

    @property
    def wanted(self) -> bool:
        return self.state == "running" or self._asks

    @property
    def dropped(self) -> int:
        return self._queue.dropped

    def start(self) -> None:
        self._thread.start()

    def put(self, packet: CodedPacket) -> None:
        self._queue.put(packet)

    def stop(self) -> None:
        self._stopping.set()
        self._queue.close()
        self._thread.join(timeout=3 * self._deadline_s)

    def status(self) -> dict[str, object]:
        return {
            "to": redact(self._url),
            "state": self.state,
            "reason": self.reason,
            "sent": self.sent,
            "dropped": self.dropped,
            "connections": self.connections,
        }

    # -------------------------------------------------------------------------------------------------------- its thread

    def _work(self) -> None:
        backoff_s = _FIRST_BACKOFF_S
        while not self._stopping.is_set():
            sent = self.sent
            try:
                self._send()
            except Closed:
                break
            except OSError as error:
                self._say(error)
            if self.sent > sent + 1:
                backoff_s = _FIRST_BACKOFF_S
            self.state = "waiting"
            self._stopping.wait(backoff_s * random.uniform(0.75, 1.25))
            backoff_s = min(2 * backoff_s, _MOST_BACKOFF_S)
        self.state = "stopped"

    def _send(self) -> None:
        """Until the pictures change their size (returns), the stream ends (Closed) or the server is lost (OSError)."""
        self._queue.clear()
        self._asks = True
        first = self._next()
        self._asks = False
        with _Worker(self._head(first.run), self._deadline_s) as worker:
            worker.send(first)
            worker.wait_until_open()
            self.sent += 1
            self._queue.clear()  # what waited while it connected is old by now
            self.state, self.reason = "running", None
            self.connections += 1
            log.info("%s: sending", self._name)
            while True:
                packet = self._next(worker)
                if packet.run is not first.run:
                    return
                worker.send(packet)
                self.sent += 1

    def _next(self, worker: _Worker | None = None) -> CodedPacket:
        while True:
            packet = self._queue.get(0.5)
            if worker is not None:
                worker.check()
            if packet is not None:
                return packet

    def _head(self, run: CodedRun) -> Head:
        options = {"rtsp_transport": "tcp"} if self._is_rtsp else {"flvflags": "no_duration_filesize"}
        return Head(self._url, "rtsp" if self._is_rtsp else "flv", options, run.wh, run.time_base.denominator)

    def _say(self, error: OSError) -> None:
        """Once per reason: a server that is away for days fills no log."""
        said = redact(error.strerror or str(error))
        if said != self.reason:
            log.warning("%s: %s; tried again", self._name, said)
        self.reason = said


class _Worker:
    """The process that sends. Everything here ends within `deadline_s`; OSError says why it sends no more."""

    def __init__(self, head: Head, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        command = [sys.executable, "-m", "streamdet.sinks.push_worker"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
        self._in, self._out = cast(IO[bytes], self._process.stdin), cast(IO[bytes], self._process.stdout)
        for pipe in (self._in, self._out):
            os.set_blocking(pipe.fileno(), False)
        self._said = b""
        self._head = msgspec.json.encode(head) + b"\n"

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._in.close()  # it ends the session properly
            self._process.wait(self._deadline_s)
        except (OSError, subprocess.TimeoutExpired):
            pass
        finally:
            self._process.kill()
            self._process.wait()
            self._out.close()

    def send(self, packet: CodedPacket) -> None:
        head, self._head = self._head, b""
        data = HEAD.pack(packet.pts, packet.dts, packet.key, len(packet.data))
        left = memoryview(b"".join((head, data, packet.data)))
        until_s = time.monotonic() + self._deadline_s
        while left:
            _, ready, _ = select.select([], [self._in], [], max(0.0, until_s - time.monotonic()))
            if not ready:
                raise TimeoutError(None, "it takes nothing any more")
            try:
                left = left[os.write(self._in.fileno(), left) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                self.check(ended=True)

    def wait_until_open(self) -> None:
        """Starting Python takes its time too: that is not the server's."""
        until_s = time.monotonic() + self._deadline_s + 2.0
        while b"open\n" not in self._said:
            select.select([self._out], [], [], 0.1)
            self.check()
            if time.monotonic() > until_s:
                raise TimeoutError(None, "it does not answer")

    def check(self, *, ended: bool = False) -> None:
        """Raises OSError if the process has said that it cannot go on."""
        while data := self._read():
            self._said += data
        if b"error " in self._said:
            why = self._said.split(b"error ", 1)[1].decode("utf-8", "replace").strip()
            raise ConnectionError(None, why or "the server ended the session")
        if ended or self._process.poll() is not None:
            raise ConnectionError(None, "the server ended the session")

    def _read(self) -> bytes:
        try:
            return os.read(self._out.fileno(), 4096)
        except BlockingIOError:
            return b""
