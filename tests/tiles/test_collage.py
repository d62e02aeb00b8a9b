"""Collages: what is looked at is in a piece whole, pieces lie side by side, each shows what a tile of its own would."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_pack_cpu import SIX, bgr, frame_of, yuv

from streamdet.config import MergeConfig, TilesConfig
from streamdet.detectors.decode.layout import Candidates
from streamdet.detectors.network import in_pieces
from streamdet.inputspec import InputSpec
from streamdet.merge import merge
from streamdet.tiles.collage import (
    GAP_PX,
    MOVERS,
    ORDINARY,
    Sight,
    collage,
    fit_in_pieces,
    lay_out,
    subjects,
)
from streamdet.tiles.pack_cpu import CpuPacker
from streamdet.tiles.plan import plan_tiles
from streamdet.tiles.schedule import TileScheduler
from streamdet.types import (
    CONFIRMED,
    WHY_MOTION,
    WHY_NAMES,
    WHY_SWEEP,
    WHY_TRACK,
    Detections,
    Frame,
    Motion,
    Picture,
    TilePlan,
    Tracks,
)

WH = (1920, 1440)
NET = (416, 416)


def plan(wh: tuple[int, int] = WH, **kw: Any) -> TilePlan:
    return plan_tiles(wh, input_wh=NET, config=TilesConfig(**{"tile": 416, **kw}))


def boxes(*rows: Any) -> Any:
    return np.array(rows, np.float32).reshape(-1, 4)


def scattered(seed: int, count: int, wh: tuple[int, int] = WH) -> Any:
    """Boxes of 4 to 300 px, a few over the frame's border."""
    rng = np.random.default_rng(seed)
    size = np.exp(rng.uniform(np.log(4), np.log(300), (count, 2)))
    low = rng.uniform(-20, 1, (count, 2)) + rng.random((count, 2)) * np.array(wh)
    return np.concatenate([low, low + size], 1).astype(np.float32)


def reasons(seed: int, count: int) -> Any:
    return np.random.default_rng(seed).choice(np.array([WHY_MOTION, WHY_TRACK], np.uint8), count)


def covered_px(tiles: TilePlan) -> Any:
    """(T,2) px of the input each row takes."""
    return np.round((tiles.xyxy[:, 2:] - tiles.xyxy[:, :2]) * tiles.scale.astype(np.float64)).astype(int)


class TestPlanner:
    @pytest.mark.parametrize("sight", [ORDINARY, MOVERS])
    @settings(max_examples=60, deadline=None)
    @given(seed=st.integers(0, 10**6), count=st.integers(1, 40))
    def test_pieces_hold_what_is_looked_at_and_never_overlap(self, sight: Any, seed: int, count: int) -> None:
        full = plan()
        regions, why = scattered(seed, count), reasons(seed, count)
        fits = fit_in_pieces(regions, why, full, sight)
        regions, why = regions[fits], why[fits]
        tiles = collage(regions, why, full, sight)
        assert tiles.slot is not None
        assert tiles.at is not None
        assert np.unique(tiles.slot).tolist() == list(range(tiles.slots)), "no slot is empty"
        assert (np.diff(tiles.slot) >= 0).all()
        assert (tiles.scale <= full.scale[0] * 1.02).all(), "nothing is magnified"
        size = covered_px(tiles)
        assert (tiles.at >= 0).all()
        assert (tiles.at + size <= NET).all()
        assert (tiles.xyxy[:, :2] >= 0).all()
        assert (tiles.xyxy[:, 2:] <= WH).all()
        clipped = np.clip(regions, 0, np.tile(WH, 2))
        for box, kind in zip(clipped, why.tolist()):
            least = sight.unknown_context_px if kind == WHY_MOTION else sight.context_px
            room = np.concatenate([box[:2] - tiles.xyxy[:, :2], tiles.xyxy[:, 2:] - box[2:]], 1)
            border = np.concatenate([tiles.xyxy[:, :2] == 0, tiles.xyxy[:, 2:] == WH], 1)
            assert ((room >= least - 1) | (border & (room >= 0))).all(1).any(), "whole, with surroundings"
        for slot in range(tiles.slots):
            mine = np.flatnonzero(tiles.slot == slot)
            low, high = tiles.at[mine], tiles.at[mine] + size[mine] + GAP_PX
            apart = ((low[:, None] >= high) | (high[:, None] <= low)).any(2)
            assert (apart | np.eye(len(mine), dtype=bool)).all()

    @given(seed=st.integers(0, 10**6))
    @settings(max_examples=25, deadline=None)
    def test_the_order_of_regions_does_not_matter(self, seed: int) -> None:
        full, regions, why = plan(), scattered(seed, 25), reasons(seed, 25)
        fits = fit_in_pieces(regions, why, full, ORDINARY)
        regions, why = regions[fits], why[fits]
        again = np.random.default_rng(seed).permutation(len(regions))
        one, other = collage(regions, why, full, ORDINARY), collage(regions[again], why[again], full, ORDINARY)
        for name in ("xyxy", "scale", "why", "slot", "at"):
            assert (getattr(one, name) == getattr(other, name)).all(), name

    def test_a_dozen_people_take_few_inputs(self) -> None:
        people = boxes(*([150 * i, 100 * (i % 5) + 30, 150 * i + 90, 100 * (i % 5) + 240] for i in range(12)))
        why = np.full(12, WHY_TRACK, np.uint8)
        assert collage(people, why, plan(), ORDINARY).slots <= 6  # a dozen tiles and more

    def test_what_overlaps_is_one_piece(self) -> None:
        pair = boxes([500, 500, 560, 560], [520, 510, 580, 570])
        tiles = collage(pair, np.array([WHY_TRACK, WHY_MOTION], np.uint8), plan(), ORDINARY)
        assert len(tiles) == 1
        assert tiles.why.tolist() == [WHY_MOTION]

    def test_what_is_too_large_is_left_to_tiles(self) -> None:
        wide = boxes([100, 100, 1500, 300])
        assert not fit_in_pieces(wide, np.array([WHY_MOTION], np.uint8), plan(), ORDINARY).any()
        assert not fit_in_pieces(boxes([0, 0, 380, 380]), np.array([WHY_MOTION], np.uint8), plan(), MOVERS).any()

    def test_one_known_large_object_is_shrunk_to_what_is_needed(self) -> None:
        tiles = collage(boxes([100, 100, 400, 1100]), np.array([WHY_TRACK], np.uint8), plan(), ORDINARY)
        assert len(tiles) == 1
        assert 64 <= 1000 * tiles.scale[0, 1] <= 128

    def test_limbs_are_one_subject_and_a_crowd_is_several(self) -> None:
        limbs = boxes([500, 300, 530, 330], [505, 345, 540, 400], [510, 420, 530, 460])
        assert subjects(limbs, np.ones(3, bool), plan(), ORDINARY).tolist() == [[500, 300, 540, 460]]
        crowd = boxes([100, 100, 1500, 900], [120, 120, 180, 300], [900, 400, 960, 600])
        found = subjects(crowd, np.ones(3, bool), plan(), ORDINARY)
        assert sorted(found.tolist()) == [[120, 120, 180, 300], [900, 400, 960, 600]]
        assert len(subjects(limbs, np.zeros(3, bool), plan(), ORDINARY)) == 0

    def test_hundreds_are_laid_out_without_much_waste(self) -> None:
        sizes = np.random.default_rng(1).integers(30, 150, (200, 2))
        slot, at = lay_out(sizes, NET)
        assert (at + sizes <= NET).all()
        assert slot.max() + 1 <= 1.35 * sizes.prod(1).sum() / (NET[0] * NET[1])


class TestPlan:
    def collage(self) -> TilePlan:
        regions = boxes(
            [100, 100, 150, 200],
            [900, 700, 960, 760],
            [1500, 300, 1590, 480],
            [400, 1200, 480, 1400],
            [1850, 20, 1920, 90],
        )
        return collage(regions, np.array([1, 2, 1, 2, 2], np.uint8), plan(), ORDINARY)

    def test_from_input_to_frame_and_back(self) -> None:
        tiles = self.collage()
        for row in range(len(tiles)):
            inside = tiles.xyxy[row] + np.array([5, 7, -9, -3], np.float32)
            origin = tiles.xyxy[row, :2].astype(np.float32)
            there = (inside - np.tile(origin, 2)) * np.tile(tiles.scale[row], 2) + np.tile(tiles.corner[row], 2)
            back = tiles.to_frame(there[None].astype(np.float32), np.array([row]))
            assert back[0] == pytest.approx(inside, abs=0.01)
            middle = ((there[:2] + there[2:]) / 2)[None].astype(np.float32)
            assert tiles.rows_at(middle, tiles.slot_rows[row : row + 1]).tolist() == [row]

    def test_tiles_come_first_and_slots_close_up(self) -> None:
        pieces, full = self.collage(), plan()
        both = full[[3, 7]].beside(pieces, counted=False)
        assert both.slots == 2 + pieces.slots
        assert both.of == full.of
        assert not both.everywhere
        assert both.slot_rows[:3].tolist() == [0, 1, 2]
        kept = both[both.slot_rows != 1]
        assert np.unique(kept.slot_rows).tolist() == list(range(both.slots - 1))
        parts = [both.between(first, first + 1) for first in range(both.slots)]
        assert np.concatenate([part.xyxy for part in parts]).tolist() == both.xyxy.tolist()
        assert all(part.slots == 1 for part in parts)

    def test_an_input_counts_once_for_its_first_reason(self) -> None:
        tiles = replace(
            self.collage(), why=np.array([2, 1, 2, 2, 2], np.uint8), slot=np.array([0, 0, 0, 1, 1], np.int32)
        )
        assert tiles.slot_why.tolist() == [1, 2]
        assert WHY_NAMES[1] == "motion"

    def test_a_box_belongs_to_the_piece_its_middle_lies_in(self) -> None:
        tiles = self.collage()
        assert tiles.at is not None
        assert tiles.slot is not None
        low = tiles.at.astype(np.float32)
        high = low + covered_px(tiles)
        xyxy = np.concatenate([low - 30, high - 2], 1).astype(np.float32)  # sticks out at the left and the top
        padding = np.array([[*NET, NET[0] + 20, NET[1] + 20]], np.float32)
        found = Candidates.of(np.concatenate([xyxy, padding]), np.ones(len(tiles) + 1), 0 * np.arange(len(tiles) + 1),
                              np.append(tiles.slot, 0))  # fmt: skip
        mine = in_pieces(found, tiles)
        assert mine.tile.tolist() == list(range(len(tiles)))
        assert (mine.xyxy[:, :2] == low).all(), "cut to the piece"
        frame = tiles.to_frame(mine.xyxy, mine.tile)
        inner = (tiles.truncated(frame, mine.tile) & 3).tolist()
        borders = [3 - (x == 0) - 2 * (y == 0) for x, y in tiles.xyxy[:, :2].tolist()]
        assert inner == borders, "a piece's edge truncates, the frame's does not"

    def test_what_a_piece_cuts_yields_to_the_whole(self) -> None:
        cut = Detections.of([[100, 100, 140, 180]], 0.9, 0, tile=1, truncated=4)
        whole = Detections.of([[100, 100, 190, 182]], 0.6, 0, tile=0)
        merged = merge(Detections.concat([cut, whole]), MergeConfig())
        assert merged.xyxy.tolist() == [[100, 100, 190, 182]]
        assert merged.score[0] == np.float32(0.9)


class TestPacking:
    @pytest.mark.parametrize("kind", [yuv, bgr])
    @pytest.mark.parametrize(("layout", "dtype"), [("nchw", "float32"), ("nhwc", "float16"), ("nchw", "uint8")])
    def test_every_piece_is_as_if_it_were_alone(self, kind: Any, layout: Any, dtype: Any) -> None:
        channels = ("b", "g", "r") if dtype == "uint8" else SIX
        spec = InputSpec(wh=(160, 160), channels=channels, layout=layout, dtype=dtype)
        wh = (400, 300)
        full = plan_tiles(wh, input_wh=(160, 160), config=TilesConfig(tile=160))
        regions = boxes([10, 10, 30, 40], [200, 100, 215, 111], [351, 201, 400, 290], [100, 180, 260, 290])
        tiles = full[:1].beside(
            collage(regions, np.array([1, 1, 2, 2], np.uint8), full, Sight(8.0, 0.5, 64.0, 8.0, 0.5, 96.0, 0.5)),
            counted=False,
        )
        assert tiles.slots < len(tiles)
        frame, before, background = (kind(seed, wh) for seed in (1, 5, 9))
        motion = Motion(frame.luma, before.luma, background.luma, background.luma)
        together = CpuPacker(spec)(frame_of(frame), motion, tiles).data.copy()
        assert len(together) == tiles.slots
        padding = np.ones((tiles.slots, 160, 160), bool)
        alone = CpuPacker(spec)
        for row, ((x, y), (width, height)) in enumerate(zip(tiles.corner.tolist(), covered_px(tiles).tolist())):
            one = replace(
                tiles, xyxy=tiles.xyxy[[row]], scale=tiles.scale[[row]], why=tiles.why[[row]], slot=None, at=None
            )
            own = alone(frame_of(frame), motion, one).data[0]
            slot = together[tiles.slot_rows[row]]
            if layout == "nhwc":
                own, slot = own.transpose(2, 0, 1), slot.transpose(2, 0, 1)
            assert (slot[:, y : y + height, x : x + width] == own[:, :height, :width]).all()
            padding[tiles.slot_rows[row], y : y + height, x : x + width] = False
        planes = together.transpose(0, 3, 1, 2) if layout == "nhwc" else together
        for index, channel in enumerate(spec.parsed):
            assert (planes[:, index][padding] == (0 if channel.signed else 114)).all()


class TestScheduler:
    def scheduler(self, *, movers: bool = False, collages: bool = True, **kw: Any) -> TileScheduler:
        config = TilesConfig(**{"tile": 416, "look": "motion", "sweep_s": 1000, "still_sweep_s": 1000, **kw})
        make_plan = functools.partial(plan_tiles, input_wh=NET, config=config)
        return TileScheduler(config, make_plan=make_plan, collages=collages, movers=movers)

    def frame(self, index: int, **kw: Any) -> Frame:
        return Frame("s", index, index / 25, PICTURE, 0.0, **kw)

    def moving(self, *rows: Any) -> Motion:
        return Motion(PICTURE.luma, regions=boxes(*rows), state="steady")

    BALLS = tuple([x, 200 + x // 2, x + 12, 212 + x // 2] for x in range(100, 1900, 220))

    def test_scattered_movers_share_an_input(self) -> None:
        apart = self.scheduler(collages=False)
        together = self.scheduler()
        for look in (apart, together):
            look(self.frame(0), self.moving(), Tracks.empty())
        tiles = apart(self.frame(1), self.moving(*self.BALLS), Tracks.empty())
        pieces = together(self.frame(1), self.moving(*self.BALLS), Tracks.empty())
        assert tiles.slots >= 5
        assert pieces.slots <= 2
        assert len(pieces) >= len(self.BALLS)
        assert together.counters["motion"] <= 2

    def test_one_mover_is_shown_by_a_tile_if_that_costs_no_more(self) -> None:
        look = self.scheduler()
        look(self.frame(0), self.moving(), Tracks.empty())
        assert look(self.frame(1), self.moving([500, 500, 510, 510]), Tracks.empty()).slot is None

    def test_stills_and_looks_everywhere_are_tiles(self) -> None:
        look = self.scheduler(look="all")
        assert look(self.frame(0), self.moving(*self.BALLS), Tracks.empty()).everywhere
        look = self.scheduler()
        assert look(self.frame(0, still=True), self.moving(*self.BALLS), Tracks.empty()).everywhere

    def test_a_short_budget_is_told_in_inputs(self) -> None:
        look = self.scheduler(sweep_s=0.2)
        look(self.frame(0), self.moving(), Tracks.empty())
        frame, motion = self.frame(1), self.moving(*self.BALLS)
        wanted = look.wanted(frame, motion, Tracks.empty())
        assert wanted.slots > 2
        assert (wanted.why == WHY_SWEEP).any()
        few = look.most_urgent(wanted, 1)
        assert few.slots == 1
        assert (few.slot_why != WHY_SWEEP).all(), "what moves comes first"
        look.ran(frame, motion, few)
        assert sum(look.counters.values()) == 1 + look.counters["sweep"]

    def test_room_left_is_given_to_tracks_that_are_not_due(self) -> None:
        look = self.scheduler()
        look(self.frame(0), self.moving(), Tracks.empty())
        one, flat = np.arange(1, 3), np.ones(2, np.float32)
        at_rest = boxes([300, 1000, 360, 1100], [1500, 200, 1560, 300])  # nothing moves there: the sweep would do
        zero = np.zeros((2, 2), np.float32)
        kind = np.full(2, CONFIRMED, np.uint8)
        known = Tracks(one, one, at_rest, zero, flat, one.astype(np.int32), kind, flat * 9, one.astype(np.int32))
        look(self.frame(1), self.moving(*self.BALLS), known)
        alone = look(self.frame(2), self.moving(), known)
        assert not len(alone)
        tiles = self.scheduler()(self.frame(3), self.moving(*self.BALLS), known)
        assert all(((tiles.xyxy[:, :2] <= box[:2]) & (tiles.xyxy[:, 2:] >= box[2:])).all(1).any() for box in at_rest)

    def test_pieces_count_as_seen(self) -> None:
        look = self.scheduler(movers=False)
        look(self.frame(0), self.moving(), Tracks.empty())
        looks = [look(self.frame(i), self.moving(*self.BALLS), Tracks.empty()).slots for i in range(1, 30)]
        assert min(looks) == 0, "places where nothing is ever found wait"


PICTURE = Picture(np.zeros(WH[::-1], np.uint8), bgr=np.zeros((*WH[::-1], 3), np.uint8))
