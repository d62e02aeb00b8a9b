"""One source on its way through a Line to its sinks, and the threads that carry its frames and Results.

::

    capture thread --Mailbox--> the caller's thread: Line --Mailbox--> one thread per sink

A file blocks (every frame); a live source drops (newest wins, counted). What of the motion of a file's frames needs no Python
is computed on the capture thread, ahead of what follows it: the rest would only wait there for the interpreter.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from streamdet.errors import SourceLostError
from streamdet.line import Ahead, Line, Survey
from streamdet.mailbox import Closed, Mailbox
from streamdet.metrics import Rate, Recent, StageTimer
from streamdet.protocols import Sink, Source
from streamdet.types import WHY_NAMES, Detections, Event, Frame, Result, TilePlan

__all__ = ["Pace", "Stream"]

CAPTURE_AHEAD = 4  # decoded pictures waiting: a 4K one is 12 MB
SINK_BEHIND = 8  # Results waiting per sink
SINK_LINGERS_S = 0.05  # a recording's, for a few of them at once: each time a sink wakes it holds up the line
JOIN_S = 15.0  # for a capture thread; FFmpeg may be busy with a host that does not answer
ASSUMED_FPS = 25.0

_Parcel = Result | tuple[Event, ...]


class Pace:
    """Lets `fps` frames a second of media time through; None lets all."""

    def __init__(self, fps: float | None) -> None:
        self.fps = fps
        self.skipped = 0
        self._due_s = 0.0
        self._last_s = 0.0
        self._epoch: int | None = None

    def __call__(self, frame: Frame) -> bool:
        if self.fps is None:
            return True
        if frame.epoch != self._epoch:
            self._epoch, self._due_s, self._last_s = frame.epoch, frame.pts_s, frame.pts_s
        step_s, self._last_s = frame.pts_s - self._last_s, frame.pts_s
        if frame.pts_s + step_s / 2 < self._due_s:  # the next one is nearer to the time
            self.skipped += 1
            return False
        self._due_s = max(self._due_s, frame.pts_s - 1 / self.fps) + 1 / self.fps
        return True


class Stream:
    """Owns its threads from ``start`` to ``finish``.

    `fps`: of a live source, at most so many frames a second are processed. `share`: of the detector, beside other live
    streams, where there is not enough for all.
    """

    def __init__(
        self,
        source: Source,
        line: Line,
        sinks: Sequence[Sink],
        *,
        max_frames: int = 0,
        fps: float | None = None,
        share: float = 1.0,
    ) -> None:
        self.source = source
        self.line = line
        self.sinks = sinks
        self.share = share
        self.live = source.info.live
        self.used_s = 0.0  # of the machine, per share: who had least comes first
        self.frames = 0
        self.events = 0
        self.started_s = time.monotonic()
        self.wall_s = 0.0
        self.error: BaseException | None = None
        self.counts: dict[str, Any] = {}
        self.capture_timer = StageTimer()
        self.arrivals, self.departures, self.ages_s = Rate(), Rate(), Recent()
        self.last_captured_s: float | None = None
        self._max_frames = max_frames
        self._pace = Pace(fps if self.live else None)
        self._inbox: Mailbox[tuple[Frame, Ahead | None]] = Mailbox(
            1 if self.live or source.info.still else CAPTURE_AHEAD, newest_wins=self.live
        )
        behind = 1 if source.info.still else SINK_BEHIND  # a still may be 200 MB
        self._outboxes = [Mailbox[_Parcel](behind, newest_wins=sink.lossy) for sink in sinks]
        self._last_events: tuple[Event, ...] = ()
        self._threads: list[threading.Thread] = []
        self._arrived = threading.Event()
        self._lost = threading.Event()
        if hasattr(source, "on_loss"):
            source.on_loss = self._note_loss

    @property
    def name(self) -> str:
        return self.source.info.stream

    @property
    def dropped(self) -> int:
        """Decoded frames that were never processed because a newer one had come (live sources only)."""
        return self._inbox.dropped

    @property
    def drops(self) -> dict[str, int]:
        """Decoded frames that were never processed, by reason."""
        return {"late": self._inbox.dropped, "fps": self._pace.skipped}

    @property
    def interval_s(self) -> float | None:
        """Between the frames that ought to be processed; None: not known."""
        fps = self.source.info.fps
        return 1 / min(self._pace.fps or fps or ASSUMED_FPS, fps or ASSUMED_FPS) if fps or self._pace.fps else None

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
        put_off = {"put_off": self.line.tiles_put_off} if self.live else {}
        return {"run": int(run.sum()), "of": self.line.tiles_of, "why": why, **put_off}

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

    # ------------------------------------------------------------------------------------- on the processing thread

    def waiting(self) -> bool:
        """Whether a frame waits. Raises Closed at the end."""
        if len(self._inbox):
            return True
        if self._lost.is_set():
            self._lost.clear()
            self._settle()
        if self._inbox.closed and not len(self._inbox):
            raise Closed
        return False

    def take(self) -> tuple[Frame, Ahead | None] | None:
        """The next frame if one is waiting, with what is known of it ahead. Raises Closed at the end."""
        with contextlib.suppress(TimeoutError):
            frame, ahead = self._inbox.get(timeout_s=0)
            return (replace(frame, dropped=self.dropped) if self.live else frame), ahead
        return None

    def process(self, frame: Frame, ahead: Ahead | None = None) -> list[Result]:
        """A recording's frame straight through the Line; what is final goes to the sinks."""
        return [self._publish_later(result) for result in self.line.process(frame, ahead)]

    def drain(self) -> list[Result]:
        """The last frames of a recording, to the sinks; none if these have failed."""
        results: list[Result] = []
        with contextlib.suppress(Closed):
            for result in self.line.drain():
                results.append(self._publish_later(result))  # noqa: PERF401  # those before a fault were published
        return results

    def complete(self, survey: Survey, tiles: TilePlan | None, found: Detections | None) -> Result:
        """The last stages of a frame that was detected together with others."""
        return self._publish_later(self.line.complete(survey, tiles, found))

    def _publish_later(self, result: Result) -> Result:
        result = replace(result, dropped=self.dropped)
        self.frames += 1
        self.events += len(result.events)
        self.departures.add()
        self.ages_s.add(time.monotonic() - result.frame.captured_s)
        for sink, outbox in zip(self.sinks, self._outboxes, strict=True):
            if result.events or not getattr(sink, "only_events", False):
                outbox.put(result)
        return result

    def _settle(self) -> None:
        """The source is lost: what was seen in it has ended, and that is told now, not when it comes back."""
        events = self.line.finish()
        self.events += len(events)
        if events:
            for outbox in self._outboxes:
                outbox.put(events)

    # --------------------------------------------------------------------------------------------------------- the end

    def stop(self) -> None:
        """Ask the source to end; what was captured so far is still processed unless the stream is finished."""
        self._inbox.close(discard=True)
        self.source.close()

    def finish(self, *, abort: bool = False) -> None:
        """End everything: events that close the stream are delivered, sinks drained (not with `abort`), threads joined."""
        self._inbox.close(discard=True)
        self.source.close()
        if not abort and self.error is None:
            try:
                self.drain()
                self.counts = self.line.rules.counts()
                self._last_events = self.line.finish()
                self.events += len(self._last_events)
                self.counts = _with_occupancy(self.line.rules.counts(), self.counts)
            except Exception as error:  # a fault in closing must not lose what the sinks hold
                self.fail(error)
        else:
            self.counts = self.line.rules.counts()
        for outbox in self._outboxes:
            outbox.close(discard=abort)
        for thread in self._threads:
            thread.join(timeout=None if thread.name.startswith("sink-") else JOIN_S)
        self.line.close()
        self.wall_s = time.monotonic() - self.started_s

    def fail(self, error: BaseException) -> None:
        """Remember the first error and let nobody wait for anybody."""
        if self.error is None:
            self.error = error
        self._inbox.close(discard=True)
        for outbox in self._outboxes:
            outbox.close()
        self._arrived.set()

    # --------------------------------------------------------------------------------------------- on its own threads

    def _note_loss(self) -> None:
        self._lost.set()
        self._arrived.set()

    def _capture(self) -> None:
        taken = 0
        frames = iter(self.source)
        try:
            while not self._max_frames or taken - self.dropped < self._max_frames:  # who was dropped does not count
                with self.capture_timer("decode"):
                    frame = next(frames, None)
                self.capture_timer.take()
                if frame is None:
                    break
                self.arrivals.add()
                self.last_captured_s = frame.captured_s
                if not self._pace(frame):
                    continue
                self._inbox.put((frame, None if self.live else self.line.glimpse(frame)))
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

    def _publish(self, sink: Sink, outbox: Mailbox[_Parcel]) -> None:
        """A sink with a method ``tell`` gets events that belong to no frame at once, others with the next frame."""
        tell = getattr(sink, "tell", None)
        held: tuple[Event, ...] = ()
        try:
            with sink:
                while True:
                    try:
                        parcel = outbox.get(linger_s=0.0 if self.live else SINK_LINGERS_S)
                    except Closed:
                        break
                    if isinstance(parcel, Result):
                        sink.write(replace(parcel, events=held + parcel.events) if held else parcel)
                        held = ()
                    elif tell is not None:
                        tell(parcel)
                    else:
                        held += parcel
                sink.finish(held + self._last_events)
        except BaseException as error:
            self.fail(error)


def _with_occupancy(after: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """The totals after the end, with who was in each zone when it came."""
    zones = {
        name: {**zone, "occupancy": before["zones"][name]["occupancy"]} for name, zone in after.get("zones", {}).items()
    }
    return {**after, "zones": zones} if zones else after
