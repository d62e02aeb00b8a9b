"""The line: a frame goes in, a Result comes out. One Line per stream; the detector may be shared by many.

A file's frame goes through in one step, :meth:`Line.process`. Frames of several live streams go through together: each Line
says what it would like to look at (:meth:`Line.survey`), is told how many tiles it may have (:meth:`Line.pack`), all tiles
are detected in one go, and each Line makes its Result (:meth:`Line.complete`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from streamdet.metrics import StageTimer
from streamdet.protocols import (
    Detector,
    Glimpse,
    Lookback,
    Memory,
    Merger,
    MotionModel,
    Packer,
    Rules,
    Scheduler,
    Tracker,
)
from streamdet.types import (
    F32,
    I64,
    U8,
    WHY_NAMES,
    Bool,
    Detections,
    Event,
    Frame,
    Motion,
    Result,
    TileBatch,
    TilePlan,
    Tracks,
)

__all__ = ["Ahead", "Line", "Survey"]


class Ahead(NamedTuple):
    """What is known of a frame's motion before its turn, and the seconds it took."""

    glimpse: Glimpse | None
    spent_s: float


@dataclass(frozen=True, slots=True)
class Survey:
    """A frame, its motion, and the tiles its Line would like to have run (None: an exact repeat, nothing is looked at).

    ``wanted``: in how many network inputs.
    """

    frame: Frame
    motion: Motion
    tiles: TilePlan | None

    @property
    def wanted(self) -> int:
        return 0 if self.tiles is None else self.tiles.slots


@dataclass(slots=True)
class Line:
    """The stages one stream's frames go through, with the little they remember between frames."""

    motion_model: MotionModel
    scheduler: Scheduler
    packer: Packer
    detector: Detector
    merger: Merger
    tracker: Tracker
    lookback: Lookback
    rules: Rules
    keep: Callable[[tuple[int, int], F32], Bool | None]  # region of interest: rows to keep, None for all
    painter: Callable[[Result], U8]
    max_detections: int = 1000  # per frame, the best
    finer: Callable[[TilePlan, F32], TilePlan] | None = (
        None  # more tiles, given what was run and boxes of what may be there
    )
    on_tiles: Callable[[int, int], None] | None = None  # how far a frame of many tiles has come
    memory: Memory | None = None  # of what was found where nothing has moved since
    free: Callable[[], None] | None = None  # gives back what the stages hold outside of Python's memory
    timer: StageTimer = field(default_factory=StageTimer)
    tiles_run: I64 = field(default_factory=lambda: np.zeros(len(WHY_NAMES), np.int64))  # by why
    tiles_of: int = 0
    tiles_put_off: int = 0  # wanted, and not run for want of time
    _tracks: Tracks = field(default_factory=Tracks.empty)
    _merged: Detections = field(default_factory=Detections.empty)
    _weak: Detections = field(default_factory=Detections.empty)
    _given: Detections = field(default_factory=Detections.empty)  # both: what the tracker was given

    def glimpse(self, frame: Frame) -> Ahead:
        """What of the frame's motion needs nothing but the frame before: for another thread, in order, before its turn."""
        started_s = time.perf_counter()
        glimpse = self.motion_model.glimpse(frame)
        return Ahead(glimpse, time.perf_counter() - started_s)

    def process(self, frame: Frame, ahead: Ahead | None = None) -> list[Result]:
        """One frame of a recording, straight through; gives the Results that are final now: those of a few frames ago."""
        survey = self.survey(frame, ahead)
        tiles, found = survey.tiles, None
        if tiles is not None:
            self._ran(survey, tiles)
            found = self._detect(survey, tiles)
            if self.finer is not None:
                tiles, found = self._closer(survey, tiles, found)
        traced = self._trace(survey, tiles, found)
        held = self.lookback.push(
            traced, frame.pts_s, self._tracks, self._given, repeat=survey.motion.state == "repeat"
        )
        return [self._conclude(*final) for final in held]

    def drain(self) -> list[Result]:
        """The last frames of a recording: nothing follows them."""
        return [self._conclude(*final) for final in self.lookback.flush()]

    def survey(self, frame: Frame, ahead: Ahead | None = None) -> Survey:
        """The frame's motion and where to look; nothing is promised to be run yet."""
        glimpse, spent_s = ahead or (None, 0.0)
        self.timer.add("motion", spent_s)
        with self.timer("motion"):
            motion = self.motion_model(frame, glimpse)
        if motion.state == "repeat":  # an exact repeat holds what was found in the frame it repeats
            return Survey(frame, motion, None)
        with self.timer("schedule"):
            return Survey(frame, motion, self.scheduler.wanted(frame, motion, self._tracks))

    def pack(self, survey: Survey, most: int) -> TileBatch | None:
        """The most urgent of the wanted tiles, at most so many, as network input; None for an exact repeat."""
        if survey.tiles is None:
            return None
        with self.timer("schedule"):
            tiles = self.scheduler.most_urgent(survey.tiles, most)
            self._ran(survey, tiles)
        with self.timer("pack"):
            return self.packer(survey.frame, survey.motion, tiles)

    def complete(self, survey: Survey, tiles: TilePlan | None, found: Detections | None) -> Result:
        """A live frame: what was found in these `tiles` -> tracks, events, Result. Both None for an exact repeat."""
        return self._conclude(self._trace(survey, tiles, found), self._tracks)

    def _trace(self, survey: Survey, tiles: TilePlan | None, found: Detections | None) -> Result:
        """Merge and track; what follows may have to wait for the next frames."""
        frame, motion, timed = survey.frame, survey.motion, self.timer
        if found is not None:
            with timed("merge"):
                if self.memory is not None and tiles is not None:
                    found = self.memory.recall(frame, tiles, found)
                self._merged, self._weak = self._merge(
                    self._inside(frame, found), None if tiles is None else len(tiles)
                )
        with timed("track"):
            self._given = self._merged if frame.still else Detections.concat([self._merged, self._weak])
            stands = None if self.memory is None else self.memory.stands()
            looked = tiles if tiles is not None and tiles.of else None  # a plan of no tiles is one too: nobody looked
            self._tracks = self.tracker.update(frame, motion, self._given, looked, stands)
        return Result(
            frame=frame,
            detections=self._merged,
            tracks=self._tracks,
            tiles=looked,
            motion_state=motion.state,
            labels=self.detector.labels,
            timings_s=timed.take(),
            painter=self.painter,
        )

    def _conclude(self, traced: Result, tracks: Tracks) -> Result:
        """The frame's final tracks, with their links into the rows a user sees, and what happened in it."""
        row = tracks.detection_row
        tracks = replace(tracks, detection_row=np.where(row < len(traced.detections), row, np.int32(-1)))
        with self.timer("rules"):
            events = self.rules(traced.frame, tracks)
        return replace(traced, tracks=tracks, events=events, timings_s={**traced.timings_s, **self.timer.take()})

    def finish(self) -> tuple[Event, ...]:
        """The ends of what is alive: the stream ended, or is lost for now."""
        return self.rules.finish()

    def close(self) -> None:
        """No frame follows. From any thread."""
        if self.free is not None:
            self.free()

    def _closer(self, survey: Survey, tiles: TilePlan, found: Detections) -> tuple[TilePlan, Detections]:
        """A second look, magnified, round what seems small; both looks are merged as one."""
        assert self.finer is not None
        extra = self.finer(tiles, np.concatenate([found.xyxy, self._tracks.xyxy]))
        if not len(extra):
            return tiles, found
        self.tiles_run += np.bincount(extra.why, minlength=len(WHY_NAMES))
        self.tiles_of += extra.slots
        again = self._detect(survey, extra)
        return tiles.beside(extra), Detections.concat([found, again.moved(len(tiles))])

    def _detect(self, survey: Survey, tiles: TilePlan) -> Detections:
        """Pack and detect, a bounded number of tiles at a time: a huge picture must not become a huge tensor."""
        parts, rows, of, most = [], 0, tiles.slots, tiles.at_once
        for first in range(0, max(of, 1), most):
            part = tiles.between(first, first + most)
            with self.timer("pack"):
                batch = self.packer(survey.frame, survey.motion, part)
            with self.timer("detect"):
                found = self.detector(batch)
            parts.append(found.moved(rows))
            rows += len(part)
            if self.on_tiles is not None and of > most:
                self.on_tiles(min(first + most, of), of)
        return Detections.concat(parts)

    def _merge(self, found: Detections, tiles: int | None) -> tuple[Detections, Detections]:
        """One row per object, and the weak rows beside them: only the tracker sees those.

        What lies in none of the `tiles` that were run stands from an earlier frame.
        """
        strong = found.score >= self.detector.thresholds[found.label]
        merged = self.merger(found[strong])[: self.max_detections]  # the best come first
        weak = self.merger.beside(merged, found[~strong])
        return (merged, weak) if tiles is None else (merged.of_tiles(tiles), weak.of_tiles(tiles))

    def _ran(self, survey: Survey, tiles: TilePlan) -> None:
        self.scheduler.ran(survey.frame, survey.motion, tiles)
        self.tiles_run += np.bincount(tiles.slot_why, minlength=len(WHY_NAMES))
        self.tiles_of += tiles.of
        self.tiles_put_off += survey.wanted - tiles.slots

    def _inside(self, frame: Frame, found: Detections) -> Detections:
        rows = self.keep(frame.wh, found.xyxy)
        return found if rows is None or bool(np.all(rows)) else found[rows]
