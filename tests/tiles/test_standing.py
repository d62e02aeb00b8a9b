"""What was found stands while the picture is the same: given again for nothing, forgotten when anything changes there."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from streamdet.config import TilesConfig, TrackerConfig
from streamdet.tiles.plan import plan_tiles
from streamdet.tiles.schedule import TileScheduler
from streamdet.tracking import Tracker
from streamdet.types import CONFIRMED, WHY_TRACK, Detections, Frame, Motion, Picture, TilePlan, Tracks

WH = (800, 600)
TILE = 300


def boxes(*rows: Any) -> Any:
    return np.array(rows, np.float32).reshape(-1, 4)


class Street:
    """A scheduler for a network that sees what stands still, on frames of noise that tests paint on; frame by frame."""

    def __init__(self, **config: Any) -> None:
        config = {"look": "motion", "tile": TILE} | config
        self.config = TilesConfig(**config)
        make_plan = functools.partial(plan_tiles, input_wh=(TILE, TILE), config=self.config)
        self.look = TileScheduler(self.config, make_plan=make_plan, collages=True, movers=False)
        self.luma = np.random.default_rng(3).integers(40, 200, WH[::-1]).astype(np.uint8)
        self.index = -1

    def see(self, there: Any, *regions: Any, tracks: Tracks | None = None, state: Any = "steady") -> Detections:
        """What is known to be at `there` (N,4), of which the network finds what lies whole in a tile that is run."""
        self.index += 1
        picture = Picture(self.luma.copy(), bgr=np.repeat(self.luma[..., None], 3, 2))
        self.frame = Frame("s", self.index, self.index / 10, picture, 0.0)
        state = "first" if self.index == 0 else state
        self.motion = Motion(picture.luma, regions=boxes(*regions), state=state)
        self.tiles: TilePlan = self.look(self.frame, self.motion, tracks or Tracks.empty())
        found = [
            Detections.of(box, 0.8, 0, tile)
            for box in there
            for tile, (x1, y1, x2, y2) in enumerate(self.tiles.xyxy.tolist())
            if x1 <= box[0] and y1 <= box[1] and x2 >= box[2] and y2 >= box[3]
        ]
        return self.look.recall(self.frame, self.tiles, Detections.concat(found)).of_tiles(len(self.tiles))


CAR = (60, 50, 160, 130)


def test_the_first_frame_is_looked_at_everywhere_and_what_was_found_stands_for_nothing() -> None:
    street = Street()
    assert not street.see([CAR]).held.any()
    assert street.tiles.everywhere
    inputs = 0
    for _ in range(10):
        found = street.see([])  # were it looked at again, it would not be found
        inputs += street.tiles.slots
        shown = (street.tiles.xyxy[:, :2] <= 60).all(1) & (street.tiles.xyxy[:, 2:] >= 160).all(1)
        if shown.any():
            assert not len(found)
            break
        assert found.xyxy.tolist() == [list(CAR)]
        assert found.held.all()
    assert inputs <= 5  # twelve tiles in four seconds


@pytest.mark.parametrize("regions", [[(70, 60, 110, 120)], [(150, 120, 190, 160), (60, 50, 90, 80)]])
def test_it_is_forgotten_where_something_moves(regions: Any) -> None:
    street = Street()
    street.see([CAR])
    assert not street.see([], *regions).held.any()


def test_what_moves_elsewhere_or_is_a_speck_changes_nothing() -> None:
    street = Street()
    street.see([CAR])
    assert street.see([], (400, 300, 440, 360), (100, 60, 108, 66)).held.tolist() == [True]


def test_what_nobody_saw_move_is_noticed_in_the_picture() -> None:
    """A ball is gone, something crept in: no region is told, and yet the picture is another."""
    street = Street()
    street.see([CAR])
    street.luma[50:90, 60:160] = 250
    assert not street.see([]).held.any()
    assert not street.look.stands()[4, 6]  # the place is to be looked at again


def test_noise_and_a_hair_of_light_change_nothing() -> None:
    street = Street()
    street.see([CAR])
    rng = np.random.default_rng(8)
    street.luma = np.clip(street.luma + rng.normal(3, 2, street.luma.shape), 0, 255).astype(np.uint8)
    assert street.see([]).held.all()


@pytest.mark.parametrize("state", ["moving", "exposure", "cut"])
def test_other_light_another_view_another_scene_end_all(state: Any) -> None:
    street = Street()
    street.see([CAR])
    assert not street.see([], state=state).held.any()
    assert not street.see([]).held.any()


@pytest.mark.parametrize("state", ["moving", "exposure", "cut"])
def test_nothing_outlasts_a_look_everywhere_that_another_view_asks_for(state: Any) -> None:
    """Not even what was seen in a piece, where no tile shows as much of it."""
    street = Street(look="auto")
    street.see([])
    across = (200, 260, 350, 330)  # the tiles' seams run through it
    street.look.recall(street.frame, piece_of(street, across), Detections.of(across, 0.8, 0, 0))
    assert street.see([]).held.any()
    assert not street.see([], state=state).held.any()


def piece_of(street: Street, box: Any) -> TilePlan:
    grown = np.array([[box[0] - 40, box[1] - 40, box[2] + 40, box[3] + 40]], np.int32)
    return replace(street.tiles[:1], xyxy=grown, slot=np.zeros(1, np.int32), at=np.zeros((1, 2), np.int32))


def test_what_fills_a_piece_from_edge_to_edge_is_the_piece() -> None:
    """A known object has room on all sides in its piece; a box across all of it is none."""
    street = Street()
    street.see([])
    piece = replace(piece_of(street, CAR), why=np.full(1, WHY_TRACK, np.uint8))
    street.look._rows, street.look._subjects = np.array([-1]), boxes(CAR)
    for truncated, kept in ((4, 1), (5, 0), (10, 0), (15, 0), (3, 1)):
        found = Detections.of(CAR, 0.8, 0, 0, truncated)
        assert len(street.look._of_subjects(piece, found)) == kept


def test_a_later_look_that_shows_it_as_well_has_the_last_word() -> None:
    street = Street(still_sweep_s=0.5, sweep_s=0.5)
    street.see([CAR])
    for _ in range(8):  # the sweep has been everywhere
        found = street.see([])
    assert not len(found)


def test_another_tile_that_misses_it_does_not_take_it_back() -> None:
    """With all tiles in every frame either of two that overlap may find what the other misses."""
    street = Street()
    street.see([])
    at = street.tiles.xyxy.tolist()
    box = (205, 50, 235, 90)  # whole in two tiles
    both = [i for i, (x1, y1, x2, y2) in enumerate(at) if x1 <= 205 and y1 <= 50 and x2 >= 235 and y2 >= 90]
    assert len(both) == 2
    only = street.tiles[[both[0]]]
    every = np.ones(1, np.bool_)
    standing = street.look._attention.standing
    standing.recall(street.frame, only, Detections.of(box, 0.8, 0, 0), turns=every)
    other, nothing = street.tiles[[both[1]]], Detections.empty()
    assert len(standing.recall(street.frame, other, nothing, turns=every)) == 1
    assert len(standing.recall(street.frame, only, nothing, turns=every)) == 0


def test_what_is_held_is_as_good_as_one_look_everywhere_and_no_more() -> None:
    """Bounded: many frames on, there is one row for each thing and tile that shows it."""
    street = Street(still_sweep_s=1.0)
    there = [CAR, (500, 400, 560, 520), (300, 100, 330, 180)]
    once = len(street.see(there))
    assert once >= 3
    for _ in range(60):
        assert len(street.see(there)) <= once


def test_a_thing_standing_still_is_confirmed_at_once_held_and_left_alone() -> None:
    street, tracker = Street(), Tracker(TrackerConfig(), threshold=0.25, movers=False)
    tracks = Tracks.empty()
    states, runs = [], []
    for _ in range(12):
        found = street.see([CAR], tracks=tracks)
        tracks = tracker.update(street.frame, street.motion, found, street.tiles, street.look.stands())
        states.append(tracks.state.tolist())
        runs.append(int((street.tiles.slot_why == 2).sum()))  # for a track
    assert states[2:] == [[CONFIRMED]] * 10
    assert tracks.held is not None
    assert tracks.held.tolist() == [True]
    assert sum(runs) == 0


def test_a_thing_that_is_gone_is_missed_where_the_place_stands_as_it_was_seen() -> None:
    """Nobody has to look at an empty place again to know it is empty."""
    street, tracker = Street(), Tracker(TrackerConfig(), threshold=0.25, movers=False)
    tracks = Tracks.empty()
    for _ in range(4):
        found = street.see([CAR], tracks=tracks)
        tracks = tracker.update(street.frame, street.motion, found, street.tiles, street.look.stands())
    assert len(tracks.shown) == 1
    found = street.see([], CAR, tracks=tracks)  # it is lifted away: seen to move, and looked at
    tracks = tracker.update(street.frame, street.motion, found, street.tiles, street.look.stands())
    street.luma[50:130, 60:160] = 120
    for _ in range(8):
        found = street.see([], tracks=tracks)
        tracks = tracker.update(street.frame, street.motion, found, street.tiles, street.look.stands())
    assert len(tracks.shown) == 0


def test_what_is_found_in_a_piece_beside_what_it_shows_does_not_count() -> None:
    street = Street()
    street.see([])
    ball, ghost = (400, 300, 420, 320), (365, 270, 395, 299)
    street.see([], ball, (60, 520, 80, 540), (700, 40, 720, 60))
    assert street.tiles.slot is not None  # pieces: one input instead of three
    inside = (street.tiles.xyxy[:, :2] <= ghost[:2]).all(1) & (street.tiles.xyxy[:, 2:] >= ball[2:]).all(1)
    row = int(np.flatnonzero(inside)[0])
    found = Detections.of([ball, ghost], [0.9, 0.9], 0, row)
    kept = street.look.recall(street.frame, street.tiles, found)
    assert kept.xyxy[~kept.held & (kept.tile == row)].tolist() == [list(ball)]
