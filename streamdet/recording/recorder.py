"""One camera's recorder: events get the names of clip and snapshot at once, the files follow when they are ready."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np

from streamdet.coded.encoder import Encoder
from streamdet.coded.mp4file import IN_MP4, PLAYS_IN_BROWSERS
from streamdet.coded.packet import CodedRun
from streamdet.config import RecordConfig
from streamdet.errors import OutputError
from streamdet.recording.archive import Archive
from streamdet.recording.names import safe_name
from streamdet.recording.ring import PacketRing
from streamdet.recording.snapshot import Best
from streamdet.recording.take import Take, seconds_into
from streamdet.types import TENTATIVE, Event, Result

__all__ = ["ClipSink", "Recorder"]

log = logging.getLogger(__name__)

_SLACK_S = 4.0  # how late an event may be told and still find its pre-roll
_COPIED = IN_MP4 - {"mjpeg", "mpeg4"}  # those are made H.264: no browser plays them
_SILENT_S = 10.0  # a clip is finished when nothing has come for so long
_MOST_TRACKS = 2000


class Recorder:
    """Clips and snapshots of one stream's events.

    Three doors, each on a thread of its own: the recorder is the ``tap`` of the source (capture thread), ``record`` names the
    files of events (processing thread; never waits), and :class:`ClipSink` takes Results (a sink's thread). A fourth thread
    writes the clips.

    Events that overlap share a film: it begins ``pre_s`` before the first of them (at the key frame before that), goes on
    while any of them does, ends ``post_s`` after the last one, or after ``max_s``, or when the connection does; each event's
    address says where in it to start (``#t=``).

    H.264, H.265, AV1 and VP9 are cut as the camera sent them. Anything else (MJPEG and raw video of USB cameras, pictures,
    the demo) is encoded as H.264 from the processed frames on the sink's thread, all the time: about as much work as drawing.
    """

    def __init__(self, archive: Archive, config: RecordConfig, *, stream: str) -> None:
        self.ring = PacketRing(config.pre_s + _SLACK_S, config.memory_mb << 20)
        self.holes = 0
        self._archive, self._config, self._stream = archive, config, stream
        self._copies = False
        self._told_codec: str | None = None
        self._lock = threading.Lock()
        self._takes: list[Take] = []
        self._tracks: dict[int, tuple[str | None, str | None]] = {}  # what their events carry: clip, snapshot
        self._shots: dict[int, _Shooting] = {}
        self._stopping = False
        self._writer: threading.Thread | None = None

    # ------------------------------------------------------------------------------------------- tap: the capture thread

    def opened(self, stream: Any, epoch: int) -> None:
        codec = stream.codec_context.codec.canonical_name
        self._copies = self._config.clips and self._config.encode == "auto" and codec in _COPIED
        if self._copies:
            self.ring.opened(stream, epoch)
        if codec != self._told_codec and self._config.clips:
            self._told_codec = codec
            if not self._copies:
                log.info("%s: clips are encoded as H.264 from the pictures (the source sends %s)", self._stream, codec)
            elif codec not in PLAYS_IN_BROWSERS:
                log.info("%s: clips hold the camera's own %s, which some browsers cannot play; record.encode=always makes"
                         " them H.264", self._stream, codec)  # fmt: skip

    def packet(self, packet: Any, captured_s: float) -> None:
        if self._copies:
            self.ring.packet(packet, captured_s)

    # ----------------------------------------------------------------------------------- record: the processing thread

    def record(self, events: tuple[Event, ...]) -> tuple[Event, ...]:
        """The events, with ``clip`` and ``snapshot`` where there is (or will be) one."""
        return tuple(self._told(event) for event in events)

    def _told(self, event: Event) -> Event:
        with self._lock:
            if self._begins(event):
                self._begin(event)
            clip, snapshot = self._tracks.get(event.track, (None, None))
            if event.type in ("leave", "end"):
                self._let_go(event)
        return event if clip is snapshot is None else msgspec.structs.replace(event, clip=clip, snapshot=snapshot)

    def _begins(self, event: Event) -> bool:
        config = self._config
        return (
            event.type in config.on
            and (not config.labels or event.label in config.labels)
            and (not config.zones or event.type == "new" or (event.zone or event.line) in config.zones)
            and max(event.score, event.top_score or 0.0) >= config.min_score
        )

    def _begin(self, event: Event) -> None:
        old_clip, snapshot = self._tracks.get(event.track, (None, None))
        if event.utc is None:  # a file: clip and snapshot are called after now
            event = msgspec.structs.replace(event, utc=datetime.now(UTC).isoformat())
        clip = self._clip_of(event) if self._config.clips else None
        if snapshot is None and self._config.snapshots:
            path = self._promise(event, ".jpg")
            if path is not None:
                self._shots[event.track] = _Shooting(path)
                snapshot = self._archive.address(path)
        self._tracks[event.track] = (clip or old_clip, snapshot)
        while len(self._tracks) > _MOST_TRACKS:
            self._tracks.pop(next(iter(self._tracks)))

    def _clip_of(self, event: Event) -> str | None:
        """The address of a film that shows `event`: one that is running, or a new one."""
        config = self._config
        at_s, run = self._when(event)
        age_s = event.pts_s - event.start_s if event.type == "new" and event.start_s is not None else 0.0
        from_s = at_s - max(0.0, age_s) - config.pre_s
        for take in self._takes:
            if take.room_for(at_s, run, min(config.post_s, config.max_s / 2)):
                break
        else:
            path = self._promise(event, ".mp4")
            if path is None:
                return None
            first = self.ring.key_before(from_s, run) if run is not None else None
            take = Take(self._archive, path, first=first, run=run, at_s=at_s, max_s=config.max_s)
            self._takes.append(take)
        take.extend(at_s + config.post_s)
        if event.type != "cross":
            take.hold(event.track, _why(event))
        with self.ring.changed:
            self.ring.changed.notify_all()
        return f"{self._archive.address(take.path)}#t={seconds_into(take, from_s):g}"

    def _let_go(self, event: Event) -> None:
        at_s, _ = self._when(event)
        why = None if event.type == "end" else _why(event)
        for take in self._takes:
            take.let_go(event.track, why, at_s + self._config.post_s)
        if event.type == "end":
            self._tracks.pop(event.track, None)
            if (shooting := self._shots.get(event.track)) is not None:
                shooting.over = True

    def _promise(self, event: Event, suffix: str) -> Path | None:
        assert event.utc is not None
        return self._archive.promise(
            self._stream, datetime.fromisoformat(event.utc), f"{safe_name(event.label)}-{event.track}", suffix
        )

    def _when(self, event: Event) -> tuple[float, CodedRun | None]:
        """`event` on the packets' clock, and the run it is in."""
        packet = self.ring.at(event.pts, event.epoch) if self._copies else None
        if packet is not None:
            return packet.at_s, packet.run
        newest = self.ring.newest()
        if newest is None or newest.run.epoch != event.epoch:
            return (newest.at_s + 1e-3 if newest else 0.0), None
        if self._copies:
            return newest.at_s, newest.run
        return newest.at_s + event.pts_s - float(newest.pts * newest.run.time_base), newest.run

    # ------------------------------------------------------------------------------------------------ the writer's thread

    def start(self) -> None:
        """Also again, after ``stop``: a sink that failed is made anew."""
        self._stopping = False
        self._writer = threading.Thread(target=self._write, name=f"clips-{self._stream}", daemon=True)
        self._writer.start()

    def stop(self) -> None:
        """Finish the clips with what has come."""
        with self.ring.changed:
            self._stopping = True
            self.ring.changed.notify_all()
        if self._writer is not None:
            self._writer.join(timeout=30.0)

    def _write(self) -> None:
        seen, stopping = -1, False
        while not stopping:
            with self.ring.changed:
                self.ring.changed.wait_for(functools.partial(self._has_work, seen), 0.5)
                stopping, seen = self._stopping, self.ring.next_number
            newest = self.ring.newest()
            silent = newest is not None and time.monotonic() - newest.captured_s > _SILENT_S
            with self._lock:
                takes = list(self._takes)
            for take in takes:
                take.feed(self.ring.since(take.next_number))
                if stopping or silent:
                    take.close()
                if take.done:
                    self.holes += take.holes
                    with self._lock:
                        self._takes.remove(take)

    def _has_work(self, seen: int) -> bool:
        return self._stopping or (bool(self._takes) and self.ring.next_number > seen)

    # ------------------------------------------------------------------------------------------------ the sink's thread

    def sink(self) -> ClipSink:
        return ClipSink(self)

    def shoot(self, result: Result) -> None:
        """Look whether this is the best moment of any track that is to have a snapshot."""
        with self._lock:
            shots = dict(self._shots)
        if not shots:
            return
        tracks = result.tracks
        rows = np.flatnonzero((tracks.state != TENTATIVE) & (tracks.detection_row >= 0))
        for row in rows.tolist():
            shooting = shots.get(int(tracks.id[row]))
            if shooting is not None and shooting.best.offer(result, row) and not shooting.saved:
                self._save(shooting)  # a first one at once: whoever hears of the event wants to see it
        self.save_finished()

    def save_finished(self, *, all_of_them: bool = False) -> None:
        with self._lock:
            over = {track: one for track, one in self._shots.items() if one.over or all_of_them}
            for track in over:
                del self._shots[track]
        for shooting in over.values():
            self._save(shooting)

    def _save(self, shooting: _Shooting) -> None:
        shot = shooting.best.shot
        if shot is None:
            self._archive.release(shooting.path)
            return
        if shot.worth == shooting.saved:
            return
        for path, data in ((shooting.path.with_suffix(".frame.jpg"), shot.full), (shooting.path, shot.crop)):
            try:
                _put(path, data)
            except OSError as error:
                self._archive.dropped(shooting.path, error)
                return
            self._archive.added(path)
        shooting.saved = shot.worth

    @property
    def encodes(self) -> bool:
        """Whether clips are made from pictures: nobody else brings packets."""
        return self._config.clips and not self._copies

    @property
    def crf(self) -> int:
        return self._config.crf


class _Shooting:
    """The snapshot of one track in the making. ``saved``: what the one on disk is worth."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.best = Best()
        self.over = False
        self.saved = 0.0


class ClipSink:
    """Snapshots, and packets for clips where the source has none that can be used. Starts and stops its recorder's writer."""

    lossy = True  # a moment missed is a snapshot a little worse; events were named before

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._encoder = Encoder(crf=recorder.crf)

    def __enter__(self) -> Self:
        self._recorder.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        with contextlib.suppress(OSError):
            self._recorder.save_finished(all_of_them=True)
        self._recorder.stop()

    def write(self, result: Result) -> None:
        if self._recorder.encodes:
            self._encode(result)
        self._recorder.shoot(result)

    def finish(self, events: tuple[Event, ...]) -> None:
        """Nothing more: they were named when they were made."""

    def _encode(self, result: Result) -> None:
        frame = result.frame
        try:
            for packet in self._encoder.encode(frame.picture, frame.pts_s, frame.captured_s, epoch=frame.epoch):
                self._recorder.ring.put_coded(packet)
        except OutputError as error:
            log.warning("a picture of %s is missing in its clips: %s", frame.stream, error)


def _why(event: Event) -> str:
    """What an event holds a clip open for: its track's life, or its stay in a zone."""
    return f"zone {event.zone}" if event.type in ("enter", "dwell", "leave") else "life"


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
