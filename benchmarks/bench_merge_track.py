"""Time of the merger and the tracker at 10 to 10,000 objects, beside supervision's and SAHI's merging of the same boxes.

python benchmarks/bench_merge_track.py

The scene: objects of 6-40 px moving straight over a frame that grows with their number (constant density), each box off by
half a pixel; 5 % are missed in a frame, 2 % false ones come on top. For merging every object that lies in the overlap of
416 px tiles is there twice, as a tiled detector reports it. The tracker is timed after 15 frames. SAHI and supervision are
given their own objects ready made: only their merging is timed.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from typing import Any

import harness
import numpy as np

from streamdet.config import MergeConfig, TrackerConfig
from streamdet.merge import Merger
from streamdet.tracking import Tracker
from streamdet.types import Detections, Frame, Motion, Picture, TilePlan

COUNTS = (10, 100, 1_000, 10_000)
AREA_PX2 = 1920 * 1080 / 100  # of frame per object: a hundred objects fill a 1080p picture as they would a crowd
TILE, STEP = 416, 333
DT_S = 1 / 30
SAHI_MOST = 1_000  # its own result objects take minutes beyond


class Scene:
    """`count` objects moving through a frame as large as keeps their density."""

    def __init__(self, count: int, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        side = max(TILE, math.sqrt(count * AREA_PX2))
        self.wh = round(side * 4 / 3), round(side * 3 / 4)
        self.centre = self.random.random((count, 2)) * self.wh
        self.size = self.random.uniform(6, 40, (count, 2))
        self.speed = self.random.normal(0, 90, (count, 2))
        self.label = self.random.integers(0, 5, count)

    def step(self) -> Detections:
        """The next frame's detections, one per object."""
        self.centre = (self.centre + self.speed * DT_S) % self.wh
        there = self.random.random(len(self.centre)) > 0.05
        false = max(1, len(self.centre) // 50)
        centre = np.concatenate([self.centre[there], self.random.random((false, 2)) * self.wh])
        size = np.concatenate([self.size[there], self.random.uniform(6, 40, (false, 2))])
        label = np.concatenate([self.label[there], self.random.integers(0, 5, false)])
        noise = self.random.normal(0, 0.5, (len(centre), 4))
        xyxy = np.concatenate([centre - size / 2, centre + size / 2], 1) + noise
        return Detections.of(xyxy, self.random.uniform(0.3, 0.95, len(xyxy)), label)

    def tiled(self) -> Detections:
        """The same as tiles report it: once per tile that shows it, cut at the tile's edges."""
        found = self.step()
        parts = []
        starts = [[*range(0, max(1, side - TILE), STEP), max(0, side - TILE)] for side in self.wh]
        tiles = np.array([[x, y, x + TILE, y + TILE] for y in starts[1] for x in starts[0]], np.int32)
        scale, why = np.ones((len(tiles), 2), np.float32), np.zeros(len(tiles), np.uint8)
        plan = TilePlan(self.wh, (TILE, TILE), tiles, scale, why, len(tiles))
        for row, tile in enumerate(tiles.astype(np.float32)):
            middle = (found.xyxy[:, :2] + found.xyxy[:, 2:]) / 2
            rows = np.flatnonzero(((middle > tile[:2]) & (middle < tile[2:])).all(1))
            noise = self.random.normal(0, 0.3, (len(rows), 4))
            box = (found.xyxy[rows] + noise).clip(np.tile(tile[:2], 2), np.tile(tile[2:], 2)).astype(np.float32)
            where = np.full(len(rows), row, np.int32)
            cut = plan.truncated(box, where)
            parts.append(Detections.of(box, found.score[rows], found.label[rows], where, cut))
        return Detections.concat(parts)


def measure(work: Callable[[], Any], repeats: int) -> list[float]:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def tracker_ms(count: int, repeats: int) -> tuple[list[float], int]:
    scene = Scene(count)
    tracker = Tracker(TrackerConfig(), threshold=0.3)
    picture = Picture(np.zeros(scene.wh[::-1], np.uint8), make_bgr=lambda: np.zeros((*scene.wh[::-1], 3), np.uint8))
    motion = Motion(picture.luma, state="steady")
    times: list[float] = []
    shown = 0
    for index in range(15 + repeats):
        found = scene.step()
        frame = Frame("scene", index, index * DT_S, picture, 0.0)
        start = time.perf_counter()
        tracks = tracker.update(frame, motion, found)
        times.append((time.perf_counter() - start) * 1e3)
        shown = len(tracks.shown)
    return times[15:], shown


def mergers(found: Detections) -> dict[str, tuple[Callable[[], Any], Callable[[Any], int]]]:
    """By name: what to time, and how many rows its result has."""
    import supervision as sv
    from sahi.postprocess.combine import GreedyNMMPostprocess
    from sahi.prediction import ObjectPrediction

    greedy = Merger(MergeConfig(method="greedy_nmm", metric="ios", threshold=0.5))
    nms = Merger(MergeConfig(method="nms", metric="iou", threshold=0.5))
    theirs = sv.Detections(xyxy=found.xyxy, confidence=found.score, class_id=found.label.astype(int))
    by = sv.OverlapMetric.IOS
    work: dict[str, tuple[Callable[[], Any], Callable[[Any], int]]] = {
        "streamdet greedy_nmm": (lambda: greedy(found), len),
        "streamdet nms": (lambda: nms(found), len),
        "supervision with_nms": (lambda: theirs.with_nms(0.5), len),
        "supervision with_nmm": (lambda: theirs.with_nmm(0.5, overlap_metric=by), len),
    }
    if len(found) <= 2 * SAHI_MOST:
        post = GreedyNMMPostprocess(match_threshold=0.5, match_metric="IOS", class_agnostic=False)
        rows = [
            ObjectPrediction(bbox=box, category_id=label, score=score, category_name=str(label))
            for box, label, score in zip(found.xyxy.tolist(), found.label.tolist(), found.score.tolist(), strict=True)
        ]
        work["SAHI GREEDYNMM"] = (lambda: post(list(rows)), len)
    return work


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=15)
    words = parser.parse_args()
    merge: dict[str, Any] = {}
    track: dict[str, Any] = {}
    for count in COUNTS:
        repeats = words.repeats if count <= 1_000 else max(5, words.repeats // 3)
        found = Scene(count).tiled()
        merge[str(count)] = {"boxes": len(found)}
        work = mergers(found)
        slow: set[str] = set()
        for name, (once, _) in work.items():
            if measure(once, 1)[0] > 3_000:
                slow.add(name)
        times: dict[str, list[float]] = {name: [] for name in work}
        for number in range(repeats):
            for name, (once, _) in work.items():
                if name not in slow or number == 0:
                    times[name] += measure(once, 1)
        for name, (once, rows) in work.items():
            merge[str(count)][name] = {"ms": harness.spread(times[name]), "rows": rows(once())}
        spent, shown = tracker_ms(count, repeats)
        track[str(count)] = {"ms": harness.spread(spent), "tracks": shown}
        line = ", ".join(f"{name} {harness.spread(t)['median']:.2f}" for name, t in times.items())
        print(
            f"{count:>6} objects, {len(found)} boxes: merge ms {line}; track ms {track[str(count)]['ms']['median']:.2f}"
        )
    harness.save("merge_track", {"merge": merge, "track": track})


if __name__ == "__main__":
    main()
