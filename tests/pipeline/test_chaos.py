"""What must hold whatever a stream does: cuts, new epochs, other sizes, repeats, times that stand still or run backwards."""

from __future__ import annotations

import functools
from typing import Any

import msgspec
import numpy as np
import pytest

from streamdet.config import Line, RulesConfig, TilesConfig, TrackerConfig, Zone
from streamdet.rules.engine import RulesEngine
from streamdet.tiles.plan import plan_tiles
from streamdet.tiles.schedule import TileScheduler
from streamdet.tracking.lookback import Lookback
from streamdet.tracking.tracker import Tracker
from streamdet.types import Detections, Event, Frame, Motion, Picture, Tracks

SIZES = (640, 360), (320, 240), (33, 17)
PICTURES = {wh: Picture(np.zeros(wh[::-1], np.uint8), bgr=np.zeros((*wh[::-1], 3), np.uint8)) for wh in SIZES}
RULES = RulesConfig(
    zones=[Zone(name="z", polygon=[(0.1, 0.1), (0.9, 0.1), (0.9, 0.9)])],
    lines=[Line(name="l", start=(0.5, 0), end=(0.5, 1))],
)
TROUBLES = ("size", "epoch", "back", "same", "gap", "repeat", "repeat", "repeat", "cut", "moving", "exposure")


class Chaos:
    """Scheduler, tracker, look-back and rules of one stream, fed with movers, noise and trouble."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.movers = bool(seed % 2)
        config = TilesConfig(look="motion" if seed % 4 > 1 else "auto")
        self.scheduler = TileScheduler(
            config,
            make_plan=functools.partial(plan_tiles, input_wh=(160, 160), config=config),
            movers=self.movers,
            collages=seed % 3 > 0,
        )
        self.tracker = Tracker(TrackerConfig(), threshold=0.3, movers=self.movers)
        self.lookback: Lookback[Frame] = Lookback(6, movers=self.movers)
        self.rules = RulesEngine(RULES, labels=("a", "b", "c"), stream="s")
        self.wh, self.pts_s, self.epoch = SIZES[0], 0.0, 0
        self.place, self.speed = self.random.random((5, 2)) * SIZES[0], self.random.normal(0, 200, (5, 2))
        self.tracks, self.found = Tracks.empty(), Detections.empty()
        self.events: list[Event] = []

    def frame(self, index: int) -> None:
        state: Any = "steady"
        trouble = TROUBLES[self.random.integers(len(TROUBLES))] if self.random.random() < 0.2 else ""
        step_s = {"back": -self.random.random() * 3, "same": 0.0, "gap": 10.0 ** self.random.integers(6)}.get(
            trouble, 1 / 30
        )
        if trouble == "size":
            self.wh, state = SIZES[self.random.integers(3)], "cut"
        elif trouble == "epoch":
            self.epoch, self.pts_s, state = self.epoch + 1, 0.0, "first"
        elif trouble in ("repeat", "cut", "moving", "exposure"):
            state = trouble
        self.pts_s = float(self.pts_s + step_s)
        frame = Frame("s", index, self.pts_s, PICTURES[self.wh], 0.0, epoch=self.epoch)
        boxes = self._boxes()
        motion = Motion(
            frame.picture.luma,
            regions=np.nan_to_num(boxes),
            strength=self.random.random(len(boxes)).astype(np.float32),
            state=state,
            shift_xy=(5.0, -3.0) if state == "moving" else (0.0, 0.0),
        )
        tiles = None
        if state != "repeat":
            tiles = self.scheduler(frame, motion, self.tracks)
            self.found = self._found(frame, boxes, tiles)
        stands = None if self.movers else self.scheduler.stands()
        self.tracks = self.tracker.update(frame, motion, self.found, tiles, stands)
        self._tell(self.lookback.push(frame, self.pts_s, self.tracks))

    def _boxes(self) -> Any:
        self.place += self.speed / 30
        self.speed = np.where((self.place < 0) | (self.place > SIZES[0]), -self.speed, self.speed)
        seen = self.place[self.random.random(5) < 0.8]
        middle = np.concatenate([seen, self.random.random((self.random.integers(4), 2)) * self.wh])
        half = self.random.choice([2, 5, 20, 60], (len(middle), 1))
        return np.concatenate([middle - half, middle + half], axis=1).astype(np.float32)

    def _found(self, frame: Frame, boxes: Any, tiles: Any) -> Detections:
        if not len(tiles):
            return Detections.empty()
        count = len(boxes)
        score, label = self.random.random(count), self.random.integers(0, 3, count)
        found = Detections.of(boxes, score, label, self.random.integers(0, len(tiles), count))
        if self.movers:
            if count and self.random.random() < 0.05:
                found.xyxy[0, 0] = np.nan
            return found
        return self.scheduler.recall(frame, tiles, found).of_tiles(len(tiles))

    def _tell(self, final: list[tuple[Frame, Tracks]]) -> None:
        for frame, tracks in final:
            told = tracks.id[tracks.id > 0]
            assert len(np.unique(told)) == len(told)
            assert np.isfinite(tracks.xyxy).all()
            assert np.isfinite(tracks.velocity_xy).all()
            self.events += self.rules(frame, tracks)

    def end(self) -> None:
        self._tell(self.lookback.flush())
        self.events += self.rules.finish()


@pytest.mark.parametrize("seed", range(6))
def test_every_object_is_told_once_and_ends_once_and_is_forgotten(seed: int) -> None:
    chaos = Chaos(seed)
    for index in range(400):
        chaos.frame(index)
    chaos.end()
    told = {kind: [event.track for event in chaos.events if event.type == kind] for kind in ("new", "end")}
    assert len(told["new"]) > 5
    assert len(set(told["new"])) == len(told["new"])
    assert sorted(told["end"]) == sorted(told["new"])
    assert all(event.track in set(told["new"]) for event in chaos.events)
    msgspec.json.encode(chaos.events)
    assert not chaos.rules._lives.slot_of
    assert set(chaos.lookback._lives) <= set(chaos.tracker._table.rows["key"].tolist())
