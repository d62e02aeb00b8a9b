"""Runs streams: files one after another, live sources side by side, all through one detector on the calling thread.

What one frame goes through is in :mod:`streamdet.line`, what carries it there and away in :mod:`streamdet.stream`. Here is
who comes when::

    files:         for frame in stream: results = stream.process(frame)     those of a few frames ago
    live streams:  a turn:  surveys = the newest frame of each that waits, its motion, and where it would like to look
                            tiles   = as many of those as there is time for, divided by share
                            found   = detector.together(all their tiles)
                            results = one each

Whoever fails closes all mailboxes; the first error is raised once everything is joined. Parts come ready-made from
:mod:`streamdet.assemble`; nothing here knows their classes.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from streamdet.budget import Budget, allot
from streamdet.errors import StreamdetError, redact
from streamdet.line import Line, Survey
from streamdet.mailbox import Closed
from streamdet.stream import Stream
from streamdet.types import Detections, Result, TileBatch

__all__ = ["Line", "Opener", "Pipeline", "Stream"]

log = logging.getLogger(__name__)

T = TypeVar("T")
Opener = Callable[[contextlib.ExitStack], Stream]


class Pipeline:
    """`openers` make a Stream each, when its turn comes; one that fails to open or is lost does not stop the others.

    Iterate to get Results; afterwards ``errors`` holds what went wrong (iteration raises the first when everything is done) and
    ``done`` the streams that ran. ``stop()`` drains and finishes files properly; ``stop(abort=True)`` does not wait for the
    sinks' backlog.

    With `endless` it runs until it is stopped, also with no stream at all: streams come with ``add`` and go with ``remove``,
    from any thread, and one that fails takes no other with it. `retired` is then told of each that ended, and nothing is kept.
    """

    def __init__(
        self,
        openers: Sequence[Opener],
        *,
        together: bool = False,
        endless: bool = False,
        budget: Budget | None = None,
        retired: Callable[[Stream], None] | None = None,
    ) -> None:
        self._groups = [list(openers)] if together or endless else [[opener] for opener in openers]
        self._endless = endless
        self._budget = budget or Budget()
        self._retired = retired
        self._stopping = False
        self._aborting = False
        self._arrived = threading.Event()
        self._running: list[Stream] = []
        self._orders: deque[Callable[[], None]] = deque()
        self._leaving: list[threading.Thread] = []
        self._floor_s = 0.0
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

    def add(self, opener: Opener) -> None:
        """Let one more stream run, soon. The opener is called on the processing thread: it must not wait for a network."""
        self.order(lambda: self._open(opener))

    def remove(self, stream: Stream) -> None:
        """Finish a stream, soon, beside the others' work."""
        self.order(lambda: self._retire(stream) if stream in self._running else None)

    def order(self, what: Callable[[], None]) -> None:
        """Have `what` done on the processing thread, between two frames."""
        self._orders.append(what)
        self._arrived.set()

    def __iter__(self) -> Iterator[Result]:
        for group in self._groups or [[]]:
            if self._stopping:
                break
            yield from self._run_group(group)
        if self.errors:
            raise self.errors[0]

    def _run_group(self, openers: Sequence[Opener]) -> Iterator[Result]:
        with contextlib.ExitStack() as self._opened:
            for opener in openers:
                self._open(opener, start=False)
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
                for thread in self._leaving:
                    thread.join()

    def _open(self, opener: Opener, *, start: bool = True) -> None:
        try:
            stream = opener(self._opened)
        except StreamdetError as error:
            self._note(error)
            return
        stream.used_s = self._floor_s
        self._running.append(stream)
        if start:
            stream.start(self._arrived)

    def _turns(self) -> Iterator[Result]:
        """One waiting frame of each file in turn, and of as many live streams as there is time for."""
        while (self._running or self._endless) and not self._stopping:
            self._arrived.clear()
            while self._orders:
                self._orders.popleft()()
            busy = False
            waiting: list[Stream] = []
            for stream in list(self._running):
                try:
                    if stream.live:
                        if stream.waiting():
                            waiting.append(stream)
                    elif (taken := stream.take()) is not None:
                        busy = True
                        yield from stream.process(*taken)
                except Closed:
                    yield from stream.drain()
                    self._retire(stream)
                if self._stopping:
                    break
            if waiting and not self._stopping:
                yield from self._turn(waiting)
            elif not busy and (self._running or self._endless):
                self._arrived.wait(0.5)
        if not self._aborting:  # stopped in the middle: what was held back of a recording is told
            for stream in list(self._running):
                yield from stream.drain()

    # ------------------------------------------------------------------------------------------- live streams together

    def _turn(self, waiting: list[Stream]) -> Iterator[Result]:
        """The newest frames of those streams that had least of the machine, all their tiles through the detector at once."""
        waiting.sort(key=lambda stream: stream.used_s)
        turn_s = self._budget.turn_s([stream.interval_s for stream in waiting])
        chosen = waiting[: self._budget.streams(len(waiting), turn_s)]
        self._floor_s = max(self._floor_s, chosen[0].used_s)
        surveys: list[tuple[Stream, Survey]] = []
        for stream in chosen:
            stream.used_s = max(stream.used_s, self._floor_s)  # who was silent for long has saved nothing up
            survey = self._guarded(stream, lambda stream=stream: _survey(stream))  # type: ignore[misc]
            if survey is not None:
                surveys.append((stream, survey))
        most = self._budget.tiles(len(surveys), turn_s)
        allowed = allot([survey.wanted for _, survey in surveys], [stream.share for stream, _ in surveys], most)
        for detector in {id(stream.line.detector): stream.line.detector for stream, _ in surveys}.values():
            rows = [row for row, (stream, _) in enumerate(surveys) if stream.line.detector is detector]
            yield from self._detect([(*surveys[row], allowed[row]) for row in rows])

    def _detect(self, members: list[tuple[Stream, Survey, int]]) -> Iterator[Result]:
        """Members share one detector."""
        started_s = time.perf_counter()
        batches: list[TileBatch] = []
        rows: list[int] = []
        for row, (stream, survey, most) in enumerate(members):
            batch = self._guarded(stream, lambda s=stream, v=survey, m=most: s.line.pack(v, m))  # type: ignore[misc]
            if batch is not None:
                batches.append(batch)
                rows.append(row)
        packed_s = time.perf_counter()
        together = self._together([members[row][0] for row in rows], batches)
        spent_s = time.perf_counter() - packed_s
        tiles = sum(batch.tiles.slots for batch in batches)
        if tiles:
            self._budget.tile.add((time.perf_counter() - started_s) / tiles)
        found: dict[int, tuple[TileBatch, Detections | None]] = dict(
            zip(rows, zip(batches, together, strict=True), strict=True)
        )
        for row, (stream, survey, _) in enumerate(members):
            batch, detections = found.get(row, (None, None))
            if detections is None and survey.tiles is not None:
                continue  # it failed in packing or detecting
            part = batch.tiles.slots / tiles if batch is not None and tiles else 1 / len(members)
            if batch is not None:
                stream.line.timer.add("detect", spent_s * part)
            result = self._guarded(
                stream,
                lambda s=stream, v=survey, b=batch, d=detections: s.complete(v, b and b.tiles, d),  # type: ignore[misc]
            )
            if result is None:
                continue
            own_s = sum(result.timings_s.values())
            self._budget.frame.add(own_s - result.timings_s.get("pack", 0.0) - result.timings_s.get("detect", 0.0))
            stream.used_s += own_s / stream.share
            yield result

    def _together(self, streams: list[Stream], batches: list[TileBatch]) -> list[Detections | None]:
        """What is in each stream's batch. Endless, a fault is sought in each batch alone: it ends only whose it is."""
        detector = streams[0].line.detector if streams else None
        if detector is None:
            return []
        try:
            return list(detector.together(batches))
        except Exception:
            if not self._endless:
                raise
        pairs = zip(streams, batches, strict=True)
        return [self._guarded(stream, lambda one=batch: detector.together([one])[0]) for stream, batch in pairs]  # type: ignore[misc]

    def _guarded(self, stream: Stream, step: Callable[[], T | None]) -> T | None:
        """A step of one stream; endless, its fault ends that stream only."""
        try:
            return step()
        except Exception as error:
            if not self._endless:
                raise
            log.error("%s: %s", stream.name, redact(traceback.format_exc()))
            stream.fail(error)
            return None

    # --------------------------------------------------------------------------------------------------------- the end

    def _retire(self, stream: Stream) -> None:
        self._running.remove(stream)
        if not self._endless:
            self._finish(stream)
            self.done.append(stream)
            if stream.error is not None:
                self._note(stream.error)
            return
        self._leaving = [thread for thread in self._leaving if thread.is_alive()]
        thread = threading.Thread(target=self._finish, args=(stream,), name=f"leave-{stream.name}", daemon=True)
        self._leaving.append(thread)
        thread.start()

    def _finish(self, stream: Stream) -> None:
        stream.finish(abort=self._aborting)
        if self._retired is not None:
            self._retired(stream)

    def _note(self, error: BaseException) -> None:
        if not self._endless:
            self.errors.append(error)
        log.info("%s", error)


def _survey(stream: Stream) -> Survey | None:
    taken = stream.take()
    return None if taken is None else stream.line.survey(*taken)
