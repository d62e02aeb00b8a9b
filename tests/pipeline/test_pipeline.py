"""Threads and back-pressure: whoever fails ends the run with the first error, within 2 s, and no thread is left."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import numpy as np
import pytest

from streamdet.errors import OutputError, SourceLostError, SourceOpenError
from streamdet.pipeline import Line, Pipeline, Stream
from streamdet.tracking.lookback import Lookback
from streamdet.types import Detections, Event, Frame, Motion, Picture, Result, SourceInfo, TileBatch, TilePlan, Tracks

GREY = np.full((16, 16), 128, np.uint8)


class Camera:
    """A source double: `count` frames, then its end, its loss, or a fault; `pace_s` between frames when live."""

    def __init__(
        self,
        name: str = "cam",
        *,
        count: int = 10,
        live: bool = False,
        pace_s: float = 0.0,
        fault: BaseException | None = None,
    ) -> None:
        self.info = SourceInfo(name, name, (16, 16), 30.0, live=live)
        self.counts: dict[str, int] = {}
        self.warnings: list[str] = []
        self.closed = threading.Event()
        self.produced = 0
        self._count, self._pace_s, self._fault = count, pace_s, fault

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self._count):
            if self.closed.wait(self._pace_s) if self._pace_s else self.closed.is_set():
                return
            picture = Picture(GREY, bgr=np.repeat(GREY[..., None], 3, 2))
            self.produced += 1
            yield Frame(self.info.stream, index, index / 30, picture, time.monotonic())
        if self._fault:
            raise self._fault

    def close(self) -> None:
        self.closed.set()


class Stage:
    """Every stage of the line in one double; `fail_in` names the one that raises at frame 3, `work_s` slows the detector."""

    labels = ("thing",)
    threshold = 0.5
    thresholds = np.array([0.5], np.float32)
    input = None

    def __init__(self, *, fail_in: str = "", work_s: float = 0.0) -> None:
        self.fail_in, self.work_s = fail_in, work_s
        self.seen: list[int] = []
        self.glimpsed = 0
        self.finished = 0

    def _at(self, stage: str, frame: Frame) -> None:
        if stage == self.fail_in and frame.index == 3:
            raise RuntimeError(f"{stage} broke")

    def motion(self, frame: Frame, glimpse: int | None) -> Motion:
        self._at("motion", frame)
        assert glimpse in (frame.index, None)
        self.glimpsed += glimpse is not None
        return Motion(frame.picture.luma)

    def glimpse(self, frame: Frame) -> int:
        self._at("glimpse", frame)
        return frame.index

    def wanted(self, frame: Frame, motion: Motion, tracks: Tracks) -> TilePlan:
        self._at("schedule", frame)
        return TilePlan(
            (16, 16), (16, 16), np.zeros((1, 4), np.int32), np.ones((1, 2), np.float32), np.zeros(1, np.uint8), 4
        )

    def most_urgent(self, tiles: TilePlan, most: int) -> TilePlan:
        return tiles

    def ran(self, frame: Frame, motion: Motion, tiles: TilePlan) -> None:
        pass

    def pack(self, frame: Frame, motion: Motion, tiles: TilePlan) -> TileBatch:
        self._at("pack", frame)
        return TileBatch(np.zeros((1, 3, 16, 16), np.float32), tiles, frame, motion)

    def __call__(self, batch: TileBatch) -> Detections:
        self._at("detect", batch.frame)
        self.seen.append(batch.frame.index)
        time.sleep(self.work_s)
        return Detections.of([[1, 1, 4, 4]], [0.9])

    def together(self, batches: Any) -> list[Detections]:
        return [self(batch) for batch in batches]

    def describe(self) -> str:
        return "double"

    def merge(self, found: Detections) -> Detections:
        if self.fail_in == "merge" and len(self.seen) == 4:
            raise RuntimeError("merge broke")
        return found

    def update(
        self, frame: Frame, motion: Motion, merged: Detections, looked: TilePlan | None = None, stands: Any = None
    ) -> Tracks:
        self._at("track", frame)
        return Tracks.empty()


class NoRules:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.inside: dict[str, int] = {}

    def __call__(self, frame: Frame, tracks: Tracks) -> tuple[Event, ...]:
        self.stage._at("rules", frame)
        self.inside = {"thing": frame.index}
        return ()

    def finish(self) -> tuple[Event, ...]:
        self.stage.finished += 1
        self.inside = {}
        return (
            Event(type="end", stream="cam", frame=9, pts_s=0.3, track=1, label="thing", score=0.9, bbox=(1, 1, 4, 4)),
        )

    def counts(self) -> dict[str, object]:
        return {"zones": {"yard": {"occupancy": self.inside}}}


class Basket:
    """A sink double that keeps frame numbers; can be slow, or fail when opened, written to or closed."""

    lossy = False

    def __init__(self, *, fail_in: str = "", work_s: float = 0.0) -> None:
        self.indices: list[int] = []
        self.closing: tuple[Event, ...] | None = None
        self.exited = False
        self._fail_in, self._work_s = fail_in, work_s

    def __enter__(self) -> Self:
        if self._fail_in == "open":
            raise OutputError("cannot write x: choose another path")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.exited = True

    def write(self, result: Result) -> None:
        if self._fail_in == "write" and result.frame.index == 3:
            raise OutputError("disk full")
        time.sleep(self._work_s)
        self.indices.append(result.frame.index)

    def finish(self, events: tuple[Event, ...]) -> None:
        if self._fail_in == "finish":
            raise OutputError("disk full at the end")
        self.closing = events


def make(camera: Any, stage: Stage | None = None, sinks: list[Any] | None = None, held: int = 0, **options: Any) -> Any:
    stage = stage or Stage()

    class Motions:
        def __call__(self, frame: Frame, glimpse: Any = None) -> Motion:
            assert stage is not None
            return stage.motion(frame, glimpse)

        def glimpse(self, frame: Frame) -> Any:
            assert stage is not None
            return stage.glimpse(frame)

    class Parts:
        def update(self, *args: Any) -> Tracks:
            assert stage is not None
            return stage.update(*args)

    class Merging:
        def __call__(self, found: Detections) -> Detections:
            return stage.merge(found)

        def beside(self, merged: Detections, weak: Detections) -> Detections:
            return weak

    def opener(opened: contextlib.ExitStack) -> Stream:
        if isinstance(camera, Exception):
            raise camera
        line = Line(
            motion_model=Motions(), scheduler=stage, packer=stage.pack, detector=stage, merger=Merging(),  # type: ignore[arg-type]
            tracker=Parts(), lookback=Lookback(held, movers=False),
            rules=NoRules(stage), keep=lambda wh, xyxy: None, painter=lambda result: GREY,
        )  # fmt: skip
        return Stream(opened.enter_context(camera), line, sinks or [], **options)

    return opener


def run_to_end(pipeline: Pipeline, within_s: float = 2.0) -> tuple[list[Result], BaseException | None]:
    before, start = set(threading.enumerate()), time.monotonic()
    results: list[Result] = []
    error: BaseException | None = None
    try:
        results.extend(pipeline)  # keeps what came before an error
    except Exception as caught:
        error = caught
    assert time.monotonic() - start < within_s, "the run took too long to end"
    assert set(threading.enumerate()) <= before, "a thread was left behind"
    return results, error


@pytest.mark.parametrize("held", [3, 100])
def test_frames_held_back_for_what_follows_all_come_in_order(held: int) -> None:
    sink = Basket()
    results, error = run_to_end(Pipeline([make(Camera(count=40), sinks=[sink], held=held)]))
    assert error is None
    assert [result.frame.index for result in results] == list(range(40))
    assert sink.indices == list(range(40))


def test_a_run_that_is_stopped_writes_what_was_held_back() -> None:
    sink = Basket()
    pipeline = Pipeline([make(Camera(count=40), sinks=[sink], held=3)])
    seen = []
    for result in pipeline:
        seen.append(result.frame.index)
        if result.frame.index == 9:
            pipeline.stop()
    assert sink.indices == seen == list(range(13))
    zones = pipeline.done[0].counts["zones"]
    assert zones["yard"]["occupancy"] == {"thing": 12}, "who was in the zone in the last frame that was told"


def test_a_file_gives_every_frame_in_order_to_every_sink() -> None:
    sinks = [Basket(), Basket(work_s=0.002)]
    results, error = run_to_end(Pipeline([make(Camera(count=40), sinks=sinks)]))
    assert error is None
    assert [r.frame.index for r in results] == list(range(40))
    for sink in sinks:
        assert sink.indices == list(range(40))
        assert sink.closing is not None
        assert [event.type for event in sink.closing] == ["end"]
        assert sink.exited


@pytest.mark.parametrize("stage", ["glimpse", "motion", "schedule", "pack", "detect", "merge", "track", "rules"])
def test_a_stage_that_raises_ends_the_run_with_its_error(stage: str) -> None:
    sink = Basket()
    _, error = run_to_end(Pipeline([make(Camera(count=10_000), Stage(fail_in=stage), [sink])]))
    assert isinstance(error, RuntimeError)
    assert str(error) == f"{stage} broke"
    assert sink.exited


@pytest.mark.parametrize(
    ("where", "said"), [("open", "choose another path"), ("write", "disk full"), ("finish", "at the end")]
)
def test_a_sink_that_raises_ends_the_run_with_its_error(where: str, said: str) -> None:
    count = 20 if where == "finish" else 100_000
    other = Basket()
    _, error = run_to_end(Pipeline([make(Camera(count=count), sinks=[Basket(fail_in=where), other])]))
    assert isinstance(error, OutputError)
    assert said in str(error)
    assert other.exited


def test_a_source_that_breaks_ends_the_run_with_its_error() -> None:
    _, error = run_to_end(Pipeline([make(Camera(count=5, fault=ValueError("bad packet")))]))
    assert isinstance(error, ValueError)


def test_frames_before_a_loss_are_still_processed() -> None:
    sink = Basket()
    results, error = run_to_end(Pipeline([make(Camera(count=5, fault=SourceLostError("gone")), sinks=[sink])]))
    assert isinstance(error, SourceLostError)
    assert len(results) == 5
    assert sink.indices == [0, 1, 2, 3, 4]


def test_one_file_that_does_not_open_stops_no_other() -> None:
    pipeline = Pipeline(
        [make(Camera("a", count=3)), make(SourceOpenError("no such file: b")), make(Camera("c", count=4))]
    )
    results, error = run_to_end(pipeline)
    assert [r.frame.stream for r in results] == ["a"] * 3 + ["c"] * 4
    assert isinstance(error, SourceOpenError)
    assert [s.name for s in pipeline.done] == ["a", "c"]


def test_a_live_source_keeps_the_newest_and_counts_what_it_drops() -> None:
    camera = Camera(count=100, live=True, pace_s=0.004)
    pipeline = Pipeline([make(camera, Stage(work_s=0.03))], together=True)
    ages = [camera.produced - 1 - result.frame.index for result in pipeline]
    stream = pipeline.done[0]
    assert stream.dropped > 30
    assert stream.dropped + stream.frames == 100
    assert max(ages) <= 14, "a frame was older than one detection's time: the queue grew"


def test_as_many_live_frames_as_asked_for_are_processed_however_many_are_dropped() -> None:
    camera = Camera(count=10_000, live=True, pace_s=0.004)
    pipeline = Pipeline([make(camera, Stage(work_s=0.03), max_frames=8)], together=True)
    results, error = run_to_end(pipeline, within_s=20)
    assert error is None
    assert len(results) == 8
    assert pipeline.done[0].dropped > 8


@pytest.mark.parametrize("broken", ["detect", "pack"])
def test_a_fault_in_one_cameras_tiles_ends_that_camera_alone(broken: str) -> None:
    """Both go through one detector at once; only frame 3 of the one cannot be."""
    stage = Stage(fail_in=broken)
    good, bad = (Camera(name, count=10_000, live=True, pace_s=0.002) for name in ("good", "bad"))
    stage._at = lambda at, frame: _break(at == broken and frame.stream == "bad")  # type: ignore[method-assign]
    gone: list[Stream] = []
    pipeline = Pipeline([make(good, stage), make(bad, stage)], endless=True, retired=gone.append)
    seen = 0
    for result in pipeline:
        seen += result.frame.stream == "good"
        if seen == 20:
            pipeline.stop()
    assert {stream.name: type(stream.error) for stream in gone} == {"good": type(None), "bad": RuntimeError}


def _break(now: bool) -> None:
    if now:
        raise RuntimeError("broke")


def test_live_sources_take_turns_and_a_dead_one_stops_no_other() -> None:
    a = Camera("a", count=60, live=True, pace_s=0.005)
    b = Camera("b", count=5, live=True, pace_s=0.005, fault=SourceLostError("b is gone"))
    results, error = run_to_end(Pipeline([make(a), make(b)], together=True), within_s=5)
    streams = [r.frame.stream for r in results]
    assert streams.count("b") >= 1
    assert streams.count("a") > 20
    assert max(i for i, s in enumerate(streams) if s == "a") > max(i for i, s in enumerate(streams) if s == "b")
    assert isinstance(error, SourceLostError)


def test_stop_finishes_the_files() -> None:
    sink = Basket(work_s=0.001)
    pipeline = Pipeline([make(Camera(count=10_000_000), sinks=[sink]), make(Camera("never", count=5))])
    start, seen = time.monotonic(), 0
    for result in pipeline:
        seen = result.frame.index
        if seen == 20:
            pipeline.stop()
    assert time.monotonic() - start < 2
    assert seen == 20
    assert sink.indices == list(range(21))
    assert sink.exited
    assert sink.closing is not None
    assert len(pipeline.done) == 1


def test_leaving_the_loop_early_finishes_the_files() -> None:
    sink = Basket()
    results = iter(Pipeline([make(Camera(count=10_000_000), sinks=[sink])]))
    before = threading.active_count()
    for _ in range(5):
        next(results)
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() < before + 2
    assert sink.exited
    assert sink.indices == [0, 1, 2, 3, 4]


def test_max_frames() -> None:
    results, error = run_to_end(Pipeline([make(Camera(count=1000), max_frames=7)]))
    assert error is None
    assert len(results) == 7


def test_tiles_are_counted_and_the_timings_are_there() -> None:
    pipeline = Pipeline([make(Camera(count=6))])
    results, _ = run_to_end(pipeline)
    assert pipeline.done[0].tiles_summary() == {"run": 6, "of": 24, "why": {"all": 6}}
    assert set(results[-1].timings_s) == {"motion", "schedule", "pack", "detect", "merge", "track", "rules"}
    assert results[0].annotated() is results[0].annotated()


def test_a_frame_in_which_nobody_looked_says_so() -> None:
    """No tile is due: its record says none of so many, and the tracker must not take its tracks for missed."""

    class Idle(Stage):
        def __init__(self) -> None:
            super().__init__()
            self.looked: list[TilePlan | None] = []

        def wanted(self, frame: Frame, motion: Motion, tracks: Tracks) -> TilePlan:
            return super().wanted(frame, motion, tracks)[:0]

        def update(
            self, frame: Frame, motion: Motion, merged: Detections, looked: TilePlan | None = None, stands: Any = None
        ) -> Tracks:
            self.looked.append(looked)
            return Tracks.empty()

    stage = Idle()
    results, error = run_to_end(Pipeline([make(Camera(count=3), stage)]))
    assert error is None
    assert [(len(plan), plan.of) for plan in stage.looked if plan is not None] == [(0, 4)] * 3
    assert [(result.tiles.slots, result.tiles.of) for result in results if result.tiles is not None] == [(0, 4)] * 3
