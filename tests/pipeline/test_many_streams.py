"""Many live streams and one detector that is too slow for them: everybody gets a part, and what is shown stays fresh."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import numpy as np

from streamdet.budget import Budget
from streamdet.line import Line
from streamdet.pipeline import Pipeline
from streamdet.stream import Pace, Stream
from streamdet.tracking.lookback import Lookback
from streamdet.types import Detections, Event, Frame, Motion, Picture, Result, SourceInfo, TileBatch, TilePlan, Tracks

GREY = np.full((16, 16), 128, np.uint8)
TILE_S = 0.004


class Camera:
    """25 frames a second, without end."""

    def __init__(self, name: str, *, silent: bool = False) -> None:
        self.info = SourceInfo(name, name, (16, 16), 25.0, live=True)
        self.counts: dict[str, int] = {}
        self.warnings: list[str] = []
        self.closed = threading.Event()
        self._silent = silent

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.closed.set()

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        while not self.closed.wait(1 / 25):
            if not self._silent:
                picture = Picture(GREY, bgr=np.repeat(GREY[..., None], 3, 2))
                yield Frame(self.info.stream, index, index / 25, picture, time.monotonic(), utc="now")
                index += 1


class SlowDetector:
    """`TILE_S` a tile; remembers how many streams' tiles came together."""

    labels = ("thing",)
    threshold = 0.5
    thresholds = np.array([0.5], np.float32)
    input = None

    def __init__(self) -> None:
        self.tiles: Counter[str] = Counter()
        self.streams: list[int] = []

    def together(self, batches: Sequence[TileBatch]) -> list[Detections]:
        self.streams.append(len({batch.frame.stream for batch in batches}))
        for batch in batches:
            self.tiles[batch.frame.stream] += len(batch.tiles)
            time.sleep(TILE_S * len(batch.tiles))
        return [Detections.empty() for _ in batches]


class Wants:
    """A scheduler that always wants so many tiles."""

    def __init__(self, count: int) -> None:
        self._count = count

    def wanted(self, frame: Frame, motion: Motion, tracks: Tracks) -> TilePlan:
        rows = np.zeros((self._count, 4), np.int32)
        return TilePlan(
            (16, 16), (16, 16), rows, np.ones((self._count, 2), np.float32), np.zeros(self._count, np.uint8), 40
        )

    def most_urgent(self, tiles: TilePlan, most: int) -> TilePlan:
        return tiles[:most]

    def ran(self, frame: Frame, motion: Motion, tiles: TilePlan) -> None:
        pass


class Nothing:
    """Merger, tracker and rules that find nothing."""

    def __call__(self, *_: Any) -> Any:
        return _[0] if len(_) == 1 else ()

    def beside(self, merged: Detections, weak: Detections) -> Detections:
        return weak

    def update(self, *_: Any) -> Tracks:
        return Tracks.empty()

    def finish(self) -> tuple[Event, ...]:
        return ()

    def counts(self) -> dict[str, object]:
        return {}


def stream_of(
    camera: Camera, detector: SlowDetector, wants: int, *, share: float = 1.0, fps: float | None = None
) -> Stream:
    like_always: Any = Nothing()
    line = Line(
        motion_model=lambda frame, glimpse: Motion(frame.picture.luma),  # type: ignore[arg-type]
        scheduler=Wants(wants),
        packer=lambda frame, motion, tiles: TileBatch(np.zeros((len(tiles), 1)), tiles, frame, motion),
        detector=detector,  # type: ignore[arg-type]
        merger=like_always,
        tracker=like_always,
        lookback=Lookback(0, movers=False),
        rules=like_always,
        keep=lambda wh, xyxy: None,
        painter=lambda result: GREY,
    )
    return Stream(camera, line, [], share=share, fps=fps)


def run_for(seconds: float, streams: list[Stream], **options: Any) -> list[Result]:
    pipeline = Pipeline([lambda _, stream=stream: stream for stream in streams], together=True, **options)  # type: ignore[misc]
    threading.Timer(seconds, pipeline.stop).start()
    return list(pipeline)


def test_everybody_gets_a_part_and_what_is_shown_stays_fresh() -> None:
    """Six cameras want 1,500 tiles a second of a detector that manages 250."""
    detector = SlowDetector()
    streams = [stream_of(Camera(f"c{number}"), detector, 10) for number in range(6)]
    ages: list[float] = []
    pipeline = Pipeline([lambda _, stream=stream: stream for stream in streams], together=True)  # type: ignore[misc]
    threading.Timer(4, pipeline.stop).start()
    seen: Counter[str] = Counter()
    for result in pipeline:
        seen[result.frame.stream] += 1
        ages.append(time.monotonic() - result.frame.captured_s)
    assert len(seen) == 6
    assert max(seen.values()) < 2.5 * min(seen.values()), seen
    assert max(detector.tiles.values()) < 2.5 * min(detector.tiles.values()), detector.tiles
    # without a bound the first turn alone would last 240 ms, and each frame would be as old as all the work before it
    assert float(np.median(ages)) < 0.2
    assert sum(stream.line.tiles_put_off for stream in streams) > 100
    assert max(detector.streams) > 1, "tiles of several streams never ran together"


def test_a_larger_share_is_a_larger_part() -> None:
    detector = SlowDetector()
    streams = [stream_of(Camera("small"), detector, 12), stream_of(Camera("large"), detector, 12, share=4.0)]
    run_for(3, streams)
    assert detector.tiles["large"] > 1.7 * detector.tiles["small"], detector.tiles


def test_a_silent_camera_takes_nothing_from_the_others() -> None:
    detector = SlowDetector()
    streams = [stream_of(Camera("talks"), detector, 1), stream_of(Camera("silent", silent=True), detector, 1)]
    results = run_for(2, streams)
    assert len(results) > 20
    assert {result.frame.stream for result in results} == {"talks"}


def test_with_time_for_all_nothing_is_put_off() -> None:
    detector = SlowDetector()
    stream = stream_of(Camera("one"), detector, 2)
    run_for(2, [stream], budget=Budget(turn_s=1.0))
    assert stream.line.tiles_put_off == 0


def test_a_pace_skips_evenly_and_starts_afresh_with_an_epoch() -> None:
    frame = Frame("c", 0, 0.0, Picture(GREY, bgr=np.repeat(GREY[..., None], 3, 2)), 0.0)
    for fps, of_25 in ((25.0, 25), (10.0, 10), (5.0, 5), (1.0, 1), (100.0, 25)):
        pace = Pace(fps)
        for epoch in (0, 1):
            passed = [pace(replace(frame, pts_s=index / 25, epoch=epoch)) for index in range(250)]
            assert passed[0]
            assert abs(sum(passed) - 10 * of_25) <= 1
    assert all(Pace(None)(replace(frame, pts_s=index / 25)) for index in range(5))
