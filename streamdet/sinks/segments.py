"""The annotated stream as films of some seconds each, one after another, kept for a while."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from streamdet.coded.mp4file import Mp4File
from streamdet.coded.packet import CodedPacket
from streamdet.mailbox import Closed
from streamdet.sinks.packet_queue import PacketQueue

__all__ = ["SegmentsOutlet", "Shelf"]

log = logging.getLogger(__name__)

_QUEUE_S = 10.0
_NAME = "film"


class Shelf(Protocol):
    """Where films are kept: gives free places (None: no room now), and is told what became of them."""

    def promise(self, stream: str, when: datetime, stem: str, suffix: str = ".mp4") -> Path | None: ...
    def added(self, file: Path) -> None: ...
    def dropped(self, file: Path | None = None, error: OSError | None = None) -> None: ...


class SegmentsOutlet:
    """Writes MP4 files of `segment_s`, cut at key frames: no picture is missing between one and the next.

    Each plays while it is written, and to within a second of the end when the process is killed. A slow disk loses pictures
    (unless `patient`), a full one whole films.
    """

    def __init__(self, shelf: Shelf, *, stream: str, segment_s: float = 60.0, patient: bool = False) -> None:
        self._shelf, self._stream, self._segment_s = shelf, stream, segment_s
        self._queue = PacketQueue(_QUEUE_S, patient=patient)
        self._file: Mp4File | None = None
        self._needs_key = True
        self.films = 0
        self._thread = threading.Thread(target=self._work, name=f"films-{stream}", daemon=True)

    @property
    def wanted(self) -> bool:
        return True

    def start(self) -> None:
        self._thread.start()

    def put(self, packet: CodedPacket) -> None:
        self._queue.put(packet)

    def stop(self) -> None:
        self._queue.close()
        self._thread.join(timeout=30.0)

    def status(self) -> dict[str, object]:
        return {
            "to": "films",
            "state": "running" if self._file is not None else "waiting",
            "films": self.films,
            "dropped": self._queue.dropped,
        }

    def _work(self) -> None:
        number = -1
        while True:
            try:
                packet = self._queue.get(1.0)
            except Closed:
                self._close()
                return
            if packet is None:
                continue
            if packet.number != number + 1:
                self._needs_key = True
            number = packet.number
            self._write(packet)

    def _write(self, packet: CodedPacket) -> None:
        file = self._file
        if file is not None and (
            packet.run is not file.first.run
            or (packet.key and packet.at_s - file.first.at_s >= self._segment_s - 1e-3)
            or packet.at_s < file.first.at_s
        ):
            self._close()
        if self._needs_key and not packet.key:
            return
        self._needs_key = False
        try:
            if self._file is not None:
                self._file.add(packet)
            elif packet.key:
                self._open(packet)
            else:
                self._needs_key = True
        except Exception as error:  # the disk's, or whatever FFmpeg thinks of a packet: it costs this film only
            self._give_up(error)

    def _open(self, packet: CodedPacket) -> None:
        path = self._shelf.promise(self._stream, datetime.now(UTC), _NAME)
        if path is None:
            self._needs_key = True
            return
        self._file = Mp4File(path, packet, in_place=True)

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            self._shelf.added(file.close())
            self.films += 1
        except Exception as error:
            self._file = file
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        file, self._file, self._needs_key = self._file, None, True
        if file is not None:
            file.discard()
        if not isinstance(error, OSError):
            log.warning("a film of %s cannot be made: %s", self._stream, error)
        self._shelf.dropped(file.path if file is not None else None, error if isinstance(error, OSError) else None)
