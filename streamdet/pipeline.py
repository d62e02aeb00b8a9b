"""The line: a frame goes in, a Result comes out; and the threads that carry frames to it and Results away.

::

    capture thread --Mailbox--> the caller's thread: Line.process --Mailbox--> one thread per sink
    (per stream)                (owns the detector)

Without a network, the motion of a file's frames is computed on the capture thread, ahead of what follows it.

A file blocks (every frame); a live source drops (newest wins, counted). Whoever fails closes all mailboxes; the first error is
raised once everything is joined. Parts come ready-made from :mod:`streamdet.assemble`; nothing here knows their classes.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from streamdet.errors import SourceLostError, StreamdetError
from streamdet.mailbox import Closed, Mailbox
from streamdet.metrics import StageTimer
from streamdet.protocols import Detector, Merger, MotionModel, Packer, Rules, Scheduler, Sink, Source, Tracker
from streamdet.types import F32, I64, U8, WHY_NAMES, Bool, Detections, Event, Frame, Motion, Result, TilePlan, Tracks

__all__ = ["Line", "Pipeline", "Stream"]

log = logging.getLogger(__name__)

CAPTURE_AHEAD = 4  # decoded pictures waiting: a 4K one is 12 MB
SINK_BEHIND = 8  # Results waiting per sink
TILES_AT_ONCE = 64  # in one packed batch: 133 MB at 416 px


class Look(NamedTuple):
    """A frame's motion, and the seconds it took."""

    motion: Motion
    spent_s: float


@dataclass(slots=True)
class Line:
    """The stages one stream's frames go through, with the little they remember between frames."""

    motion_model: MotionModel
    scheduler: Scheduler
    packer: Packer
    detector: Detector
    merger: Merger
    tracker: Tracker
    rules: Rules
    keep: Callable[[tuple[int, int], F32], Bool | None]  # region of interest: rows to keep, None for all
    painter: Callable[[Result], U8]
    max_detections: int = 1000  # per frame, the best
    record: Callable[[tuple[Event, ...]], tuple[Event, ...]] | None = None  # gives events their clips; returns at once
    timer: StageTimer = field(default_factory=StageTimer)
    tiles_run: I64 = field(default_factory=lambda: np.zeros(len(WHY_NAMES), np.int64))  # by why
    tiles_of: int = 0
    _tracks: Tracks = field(default_factory=Tracks.empty)
    _merged: Detections = field(default_factory=Detections.empty)
    _weak: Detections = field(default_factory=Detections.empty)

    @property
    def may_look_ahead(self) -> bool:
        """Motion may already see the next frame: without a network nobody reads its planes, which the next call changes."""
        return self.detector.input is None

    def look(self, frame: Frame) -> Look:
        """The frame's motion and the time it took: the first stage, apart where the rest follows on another thread."""
        started_s = time.perf_counter()
        motion = self.motion_model(frame)
        return Look(motion, time.perf_counter() - started_s)

    def process(self, frame: Frame, look: Look | None = None) -> Result:
        """One frame, straight through; `look`: its own, if that was taken ahead."""
        timed = self.timer
        motion, spent_s = look or self.look(frame)
        timed.add("motion", spent_s)
        tiles: TilePlan | None = None
        if motion.state != "repeat":  # an exact repeat holds what was found in the frame it repeats
            with timed("schedule"):
                tiles = self.scheduler(frame, motion, self._tracks)
                self._count(tiles)
            found = self._detect(frame, motion, tiles)
            with timed("merge"):
                self._merged, self._weak = self._merge(self._inside(frame, found))
        with timed("track"):
            candidates = self._merged if frame.still else Detections.concat([self._merged, self._weak])
            self._tracks = self.tracker.update(frame, motion, candidates, tiles if tiles and tiles.of else None)
        with timed("rules"):
            events = self.recorded(self.rules(frame, self._tracks))
        return Result(
            frame=frame,
            detections=self._merged,
            tracks=self._linked(),
            events=events,
            tiles=tiles if tiles and tiles.of else None,
            motion_state=motion.state,
            labels=self.detector.labels,
            timings_s=timed.take(),
            painter=self.painter,
        )

    def recorded(self, events: tuple[Event, ...]) -> tuple[Event, ...]:
        """The events with the names of the clips that are made of them, if any are."""
        return self.record(events) if self.record is not None and events else events

    def _detect(self, frame: Frame, motion: Motion, tiles: TilePlan) -> Detections:
        """Pack and detect, a bounded number of tiles at a time: a huge picture must not become a huge tensor."""
        parts = []
        for first in range(0, max(len(tiles), 1), TILES_AT_ONCE):
            with self.timer("pack"):
                batch = self.packer(frame, motion, tiles[first : first + TILES_AT_ONCE])
            with self.timer("detect"):
                found = self.detector(batch)
            parts.append(replace(found, tile=np.where(found.tile < 0, found.tile, found.tile + np.int32(first))))
        return Detections.concat(parts)

    def _merge(self, found: Detections) -> tuple[Detections, Detections]:
        """One row per object, and the weak rows beside them: only the tracker sees those."""
        strong = found.score >= self.detector.thresholds[found.label]
        merged = self.merger(found[strong])[: self.max_detections]  # the best come first
        return merged, self.merger.beside(merged, found[~strong])

    def _linked(self) -> Tracks:
        """The tracks with their links into the rows a user sees."""
        row = self._tracks.detection_row
        return replace(self._tracks, detection_row=np.where(row < len(self._merged), row, np.int32(-1)))

    def _count(self, tiles: TilePlan) -> None:
        self.tiles_run += np.bincount(tiles.why, minlength=len(WHY_NAMES))
        self.tiles_of += tiles.of

    def _inside(self, frame: Frame, found: Detections) -> Detections:
        rows = self.keep(frame.wh, found.xyxy)
        return found if rows is None or bool(np.all(rows)) else found[rows]


class Stream:
    """One source on its way through a Line to its sinks. Owns its threads from ``start`` to ``finish``."""

    def __init__(self, source: Source, line: Line, sinks: Sequence[Sink], *, max_frames: int = 0) -> None:
        self.source = source
        self.line = line
        self.sinks = sinks
        self.frames = 0
        self.events = 0
        self.started_s = time.monotonic()
        self.wall_s = 0.0
        self.error: BaseException | None = None
        self.counts: dict[str, Any] = {}
        self.capture_timer = StageTimer()
        self._max_frames = max_frames
        live = source.info.live
        self._looks_ahead = not live and line.may_look_ahead
        self._inbox: Mailbox[tuple[Frame, Look | None]] = Mailbox(1 if live else CAPTURE_AHEAD, newest_wins=live)
        self._outboxes = [Mailbox[Result](SINK_BEHIND, newest_wins=sink.lossy) for sink in sinks]
        self._last_events: tuple[Event, ...] = ()
        self._threads: list[threading.Thread] = []
        self._arrived = threading.Event()

    @property
    def name(self) -> str:
        return self.source.info.stream

    @property
    def dropped(self) -> int:
        """Decoded frames that were never processed because a newer one had come (live sources only)."""
        return self._inbox.dropped

    @property
    def closing_events(self) -> tuple[Event, ...]:
        """The events that ended what was still alive when the stream ended."""
        return self._last_events

    def tiles_summary(self) -> dict[str, object] | None:
        """Tiles run, of how many, and why; None without a network."""
        if not self.line.tiles_of:
            return None
        run = self.line.tiles_run
        why = {name: int(count) for name, count in zip(WHY_NAMES, run, strict=True) if count}
        return {"run": int(run.sum()), "of": self.line.tiles_of, "why": why}

    def start(self, arrived: threading.Event) -> None:
        self._arrived = arrived
        self.started_s = time.monotonic()
        capture = threading.Thread(target=self._capture, name=f"capture-{self.name}", daemon=True)
        publishers = [
            threading.Thread(target=self._publish, args=pair, name=f"sink-{type(pair[0]).__name__}", daemon=True)
            for pair in zip(self.sinks, self._outboxes, strict=True)
        ]
        self._threads = [capture, *publishers]
        for thread in self._threads:
            thread.start()

    def take(self) -> tuple[Frame, Look | None] | None:
        """The next frame if one is waiting, with the look at it if that was taken ahead. Raises Closed at the end."""
        with contextlib.suppress(TimeoutError):
            return self._inbox.get(timeout_s=0)
        return None

    def process(self, frame: Frame, look: Look | None = None) -> Result:
        result = replace(self.line.process(frame, look), dropped=self.dropped)
        self.frames += 1
        self.events += len(result.events)
        for outbox in self._outboxes:
            outbox.put(result)
        return result

    def stop(self) -> None:
        """Ask the source to end; what was captured so far is still processed unless the stream is finished."""
        self._inbox.close(discard=True)
        self.source.close()

    def finish(self, *, abort: bool = False) -> None:
        """End everything: events that close the stream are delivered, sinks drained (not with `abort`), threads joined."""
        self._inbox.close(discard=True)
        self.source.close()
        self.counts = self.line.rules.counts()
        if not abort and self.error is None:
            try:
                self._last_events = self.line.recorded(self.line.rules.finish())
                self.events += len(self._last_events)
                self.counts = _with_occupancy(self.line.rules.counts(), self.counts)
            except Exception as error:  # a fault in closing must not lose what the sinks hold
                self.fail(error)
        for outbox in self._outboxes:
            outbox.close(discard=abort)
        for thread in self._threads:
            thread.join(timeout=None if thread.name.startswith("sink-") else 15.0)
        self.wall_s = time.monotonic() - self.started_s

    def fail(self, error: BaseException) -> None:
        """Remember the first error and let nobody wait for anybody."""
        if self.error is None:
            self.error = error
        self._inbox.close(discard=True)
        for outbox in self._outboxes:
            outbox.close()
        self._arrived.set()

    def _capture(self) -> None:
        taken = 0
        frames = iter(self.source)
        try:
            while not self._max_frames or taken < self._max_frames:
                with self.capture_timer("decode"):
                    frame = next(frames, None)
                self.capture_timer.take()
                if frame is None:
                    break
                look = self.line.look(frame) if self._looks_ahead else None  # beside the tracking of the frame before
                self._inbox.put((frame, look))
                self._arrived.set()
                taken += 1
        except Closed:
            pass
        except SourceLostError as error:  # what was captured before the loss is still processed
            self.error = self.error or error
        except BaseException as error:
            self.fail(error)
        finally:
            self._inbox.close()
            self._arrived.set()

    def _publish(self, sink: Sink, outbox: Mailbox[Result]) -> None:
        try:
            with sink:
                while True:
                    try:
                        result = outbox.get()
                    except Closed:
                        break
                    sink.write(result)
                sink.finish(self._last_events)
        except BaseException as error:
            self.fail(error)


def _with_occupancy(after: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """The totals after the end, with who was in each zone when it came."""
    zones = {
        name: {**zone, "occupancy": before["zones"][name]["occupancy"]} for name, zone in after.get("zones", {}).items()
    }
    return {**after, "zones": zones} if zones else after


class Pipeline:
    """Runs streams: files one after another, live sources side by side, all through one detector on the calling thread.

    `openers` make a Stream each, when its turn comes; one that fails to open or is lost does not stop the others. Iterate to get
    Results; afterwards ``errors`` holds what went wrong (iteration raises the first when everything is done) and ``done`` the
    streams that ran. ``stop()`` drains and finishes files properly; ``stop(abort=True)`` does not wait for the sinks' backlog.
    """

    def __init__(self, openers: Sequence[Callable[[contextlib.ExitStack], Stream]], *, together: bool = False) -> None:
        self._groups = [list(openers)] if together else [[opener] for opener in openers]
        self._stopping = False
        self._aborting = False
        self._arrived = threading.Event()
        self._running: list[Stream] = []
        self.done: list[Stream] = []
        self.errors: list[BaseException] = []

    @property
    def running(self) -> tuple[Stream, ...]:
        """The streams open now."""
        return tuple(self._running)

    def stop(self, *, abort: bool = False) -> None:
        """May be called from another thread or a signal handler."""
        self._stopping = True
        self._aborting = self._aborting or abort
        self._arrived.set()

    def __iter__(self) -> Iterator[Result]:
        for group in self._groups:
            if self._stopping:
                break
            yield from self._run_group(group)
        if self.errors:
            raise self.errors[0]

    def _run_group(self, openers: Sequence[Callable[[contextlib.ExitStack], Stream]]) -> Iterator[Result]:
        with contextlib.ExitStack() as opened:
            for opener in openers:
                try:
                    self._running.append(opener(opened))
                except StreamdetError as error:
                    self._note(error)
            for stream in self._running:
                stream.start(self._arrived)
            try:
                yield from self._turns()
            except GeneratorExit:  # the caller had enough: finish the files as they are
                raise
            except BaseException:
                self._aborting = True
                raise
            finally:
                for stream in list(self._running):
                    self._retire(stream)

    def _turns(self) -> Iterator[Result]:
        """Take one waiting frame of each stream in turn, so that none starves another."""
        while self._running and not self._stopping:
            self._arrived.clear()
            busy = False
            for stream in list(self._running):
                try:
                    waiting = stream.take()
                    if waiting is not None:
                        busy = True
                        yield stream.process(*waiting)
                except Closed:
                    self._retire(stream)
                if self._stopping:
                    break
            if not busy and self._running:
                self._arrived.wait(0.5)

    def _retire(self, stream: Stream) -> None:
        self._running.remove(stream)
        stream.finish(abort=self._aborting)
        self.done.append(stream)
        if stream.error is not None:
            self._note(stream.error)

    def _note(self, error: BaseException) -> None:
        self.errors.append(error)
        log.info("%s", error)
