"""One clip in the making: which packets belong to it, and its way onto the disk."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from pathlib import Path

from streamdet.coded.mp4file import Mp4File
from streamdet.coded.packet import CodedPacket, CodedRun
from streamdet.recording.archive import Archive

__all__ = ["Take"]

log = logging.getLogger(__name__)


class Take:
    """A clip from `first` (a key frame; None: the next that comes) to ``end_s``, at most to ``cap_s`` of the stream's own time.

    Events still going on ``hold`` it open; each that is over leaves it running for the post-roll. One thread decides (``hold``,
    ``let_go``), another one writes (``feed``, ``close``).
    """

    def __init__(
        self,
        archive: Archive,
        path: Path,
        *,
        first: CodedPacket | None,
        run: CodedRun | None,
        at_s: float,
        max_s: float,
    ) -> None:
        self.path = path
        self.run = run
        self.start_s = first.at_s if first is not None else at_s
        self.end_s = at_s
        self.cap_s = self.start_s + max_s
        self.done = False
        self.holes = 0  # times the disk was so slow that packets were gone before they were written
        self._held: set[tuple[int, str]] = set()
        self._archive = archive
        self._next = first.number if first is not None else -1
        self._file: Mp4File | None = None
        self._waits_for_key = True

    def room_for(self, at_s: float, run: CodedRun | None, least_s: float) -> bool:
        """Whether an event at `at_s` fits in: the clip still runs, and long enough to show something of it."""
        same = run is None or self.run is None or run is self.run
        return not self.done and same and at_s <= self.last_s and self.cap_s - at_s >= least_s

    @property
    def last_s(self) -> float:
        """Where the clip ends as things stand now."""
        return self.cap_s if self._held else min(self.end_s, self.cap_s)

    def hold(self, track: int, why: str) -> None:
        self._held.add((track, why))

    def let_go(self, track: int, why: str | None, until_s: float) -> None:
        """What `track` held (`why` None: all of it) is over; the clip goes on to `until_s` at least."""
        mine = {one for one in self._held if one[0] == track and why in (None, one[1])}
        if mine:
            self.end_s = max(self.end_s, until_s)
            self._held -= mine

    def extend(self, until_s: float) -> None:
        self.end_s = max(self.end_s, until_s)

    @property
    def next_number(self) -> int:
        return self._next

    def feed(self, packets: Iterable[CodedPacket]) -> None:
        """Write what belongs to the clip; closes it with the first packet that does not. A fault costs this clip only."""
        try:
            for packet in packets:
                if self.done:
                    return
                self._take(packet)
        except Exception as error:  # the disk's, or whatever FFmpeg thinks of a damaged packet
            self._give_up(error)

    def close(self) -> None:
        """Finish the file; a clip without a single picture leaves nothing."""
        if self.done:
            return
        self.done = True
        if self._file is None:
            self._archive.dropped(self.path)
            return
        try:
            file, self._file = self._file, None
            path = file.close()
        except Exception as error:
            self._file = file
            self._give_up(error)
        else:
            self._archive.added(path)

    def _take(self, packet: CodedPacket) -> None:
        if (self.run is not None and packet.run is not self.run) or (
            packet.at_s > self.last_s and not self._fills(packet)
        ):
            self.close()
            return
        if self._file is not None and packet.number != self._next:
            self.holes += 1
            self._waits_for_key = True
        self._next = packet.number + 1
        if self._waits_for_key and not packet.key:
            return
        self._waits_for_key = False
        if self._file is None:
            self._file, self.run = Mp4File(self.path, packet), packet.run
            self.cap_s = min(self.cap_s, packet.at_s + (self.cap_s - self.start_s))
        else:
            self._file.add(packet)

    def _fills(self, packet: CodedPacket) -> bool:
        """Whether it is shown before a picture that is in the film already: B-frames come late."""
        return self._file is not None and packet.pts < self._file.end_pts

    def _give_up(self, error: BaseException) -> None:
        self.done = True
        if self._file is not None:
            self._file.discard()
            self._file = None
        is_disk = isinstance(error, OSError)
        if not is_disk:
            log.warning("clip %s cannot be made: %s", self.path.name, error)
        self._archive.dropped(self.path, error if isinstance(error, OSError) else None)


def seconds_into(take: Take, at_s: float) -> float:
    """Where in the clip `at_s` of the stream is, to a hundredth."""
    return max(0.0, math.floor((at_s - take.start_s) * 100) / 100)
