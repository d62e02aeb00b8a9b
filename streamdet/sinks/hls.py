"""The annotated stream as HLS: a playlist and short films in a folder, for browsers and players through any web server."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from pathlib import Path

import av
from av.container import OutputContainer
from av.video.stream import VideoStream

from streamdet.coded.packet import CodedPacket, CodedRun
from streamdet.mailbox import Closed
from streamdet.sinks.packet_queue import PacketQueue

__all__ = ["PLAYLIST", "HlsOutlet"]

log = logging.getLogger(__name__)

PLAYLIST = "live.m3u8"
_LISTED = 6  # segments a player finds
_QUEUE_S = 5.0
_FORGOTTEN_S = 20.0  # a viewer that asked for nothing for so long is gone
_AGAIN_S = 5.0


class HlsOutlet:
    """Writes `folder`/live.m3u8 and its segments, the last six of them, each of at least `segment_s` from a key frame on.

    On demand it writes only while somebody looks: ``wake`` is called for every request, and the first one waits for the playlist.
    A disk that is full or fails loses pictures; it is tried again. The format is RFC 8216 with MPEG-TS segments; a file is put in
    its place whole (players read half-written ones otherwise).
    """

    def __init__(self, folder: str | os.PathLike[str], *, segment_s: float = 2.0, on_demand: bool = False) -> None:
        self.folder = Path(os.path.expanduser(folder))
        self.failures = 0
        self._segment_s, self._on_demand = segment_s, on_demand
        self._asked_s = float("-inf")
        self._queue = PacketQueue(_QUEUE_S)
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._run: CodedRun | None = None
        self._not_before_s = 0.0
        self._thread = threading.Thread(target=self._work, name="hls", daemon=True)

    @property
    def wanted(self) -> bool:
        return not self._on_demand or time.monotonic() - self._asked_s < _FORGOTTEN_S

    def wake(self, timeout_s: float = 0.0) -> bool:
        """Somebody looks: go on (or begin) writing. Waits up to `timeout_s` for the playlist; whether it is there."""
        self._asked_s = time.monotonic()
        deadline = self._asked_s + timeout_s
        playlist = self.folder / PLAYLIST
        while not playlist.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        return playlist.exists()

    def start(self) -> None:
        self._clean()
        self._thread.start()

    def put(self, packet: CodedPacket) -> None:
        self._queue.put(packet)

    def stop(self) -> None:
        """Write the end of the playlist: players show the rest and stop."""
        self._queue.close()
        self._thread.join(timeout=10.0)

    def status(self) -> dict[str, object]:
        return {
            "to": str(self.folder / PLAYLIST),
            "state": "running" if self._container is not None else "waiting",
            "dropped": self._queue.dropped,
            "failures": self.failures,
        }

    # -------------------------------------------------------------------------------------------------------- its thread

    def _work(self) -> None:
        while True:
            try:
                packet = self._queue.get(1.0)
            except Closed:
                self._close(last=True)
                return
            if packet is not None:
                self._write(packet)
            elif self._on_demand and not self.wanted and self._container is not None:
                self._close(last=False)
                self._queue.clear()
                self._clean()

    def _write(self, packet: CodedPacket) -> None:
        if time.monotonic() < self._not_before_s:
            return
        try:
            if packet.run is not self._run:
                self._close(last=False)
                if not packet.key:
                    return
                self._open(packet.run)
            assert self._container is not None
            assert self._stream is not None
            self._container.mux(packet.to_packet(self._stream))
        except (OSError, av.FFmpegError) as error:
            self.failures += 1
            self._not_before_s = time.monotonic() + _AGAIN_S
            if self.failures == 1:
                log.warning("cannot write HLS to %s: %s; tried again", self.folder, error)
            self._close(last=False)

    def _open(self, run: CodedRun) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        options = {
            "hls_time": str(self._segment_s),
            "hls_list_size": str(_LISTED),
            "hls_flags": "delete_segments+temp_file+independent_segments+program_date_time+omit_endlist",
            "hls_segment_filename": str(self.folder / "live-%d.ts").replace("%%", "%"),
            "start_number": str(int(time.time() * 10)),  # greater than any before: players go forward
        }
        container = av.open(str(self.folder / PLAYLIST), "w", format="hls", options=options)
        self._container, self._stream, self._run = container, run.add_to(container), run

    def _close(self, *, last: bool) -> None:
        container, self._container, self._run = self._container, None, None
        if container is None:
            return
        try:
            container.close()
            if last:
                with (self.folder / PLAYLIST).open("a", encoding="ascii") as playlist:
                    playlist.write("#EXT-X-ENDLIST\n")
        except (OSError, av.FFmpegError) as error:
            log.debug("HLS in %s ends without its last piece: %s", self.folder, error)

    def _clean(self) -> None:
        """Old segments would be shown as if they were now."""
        with contextlib.suppress(OSError):
            for file in self.folder.glob("live*"):
                if file.suffix in (".ts", ".m3u8", ".tmp"):
                    file.unlink(missing_ok=True)
