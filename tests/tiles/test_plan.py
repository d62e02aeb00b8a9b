"""Geometry of tile plans: cover, slivers, overlap, scales, regions of interest."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdet.config import TilesConfig
from streamdet.errors import ConfigError
from streamdet.tiles.joined import JOINED_PX, WORTH_JOINING, plan_everywhere
from streamdet.tiles.plan import SMALL_TILE, coarse_rows, describe, keep_mask, plan_tiles
from streamdet.tiles.polygon import covered, inside, touched
from streamdet.types import WHY_ALL, TilePlan

sides = st.integers(1, 2500)


def plan(frame_wh: tuple[int, int], input_wh: tuple[int, int] | None = (416, 416), **kw: Any) -> TilePlan:
    stretch, stride = kw.pop("stretch", False), kw.pop("stride", 32)
    return plan_tiles(frame_wh, input_wh=input_wh, config=TilesConfig(**kw), stretch=stretch, stride=stride)


def axis_starts(tiles: TilePlan, axis: int) -> np.ndarray:
    return np.unique(tiles.xyxy[:, axis])


@settings(max_examples=200, deadline=None)
@given(
    frame=st.tuples(sides, sides),
    network=st.sampled_from([(416, 416), (640, 384), (64, 96), None]),
    tile=st.sampled_from(["auto", "none", 200, "333x217", "640x64"]),
    overlap=st.sampled_from([0.0, 0.2, 0.5, 17.0]),
    stretch=st.booleans(),
    look=st.sampled_from(["all", "motion"]),
)
def test_every_plan_covers_exactly(
    frame: Any, network: Any, tile: Any, overlap: float, stretch: bool, look: Any
) -> None:
    tiles = plan(frame, network, tile=tile, overlap=overlap, stretch=stretch, look=look)
    boxes = tiles.xyxy
    assert boxes.dtype == np.int32
    assert len(tiles) == tiles.of >= 1
    assert (tiles.why == WHY_ALL).all()
    # inside the frame, one size, no two alike
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= frame).all()
    sizes = boxes[:, 2:] - boxes[:, :2]
    assert (sizes == sizes[0]).all()
    assert len(np.unique(boxes, axis=0)) == len(boxes)
    # a full grid whose columns and rows leave no gap and overlap by what was asked at least
    starts = [axis_starts(tiles, axis) for axis in (0, 1)]
    assert len(starts[0]) * len(starts[1]) == len(boxes)
    for axis, start in enumerate(starts):
        size = int(sizes[0, axis])
        assert start[0] == 0
        assert start[-1] + size == frame[axis]
        asked = round(overlap * size) if overlap < 1 else round(overlap)
        assert len(start) == 1 or size - np.diff(start).max() >= asked
        assert (start[:-1] % 2 == 0).all()
    # what the network gets: whole px, inside its input, aspect kept within a px
    packed = sizes * tiles.scale
    np.testing.assert_allclose(packed, np.round(packed), atol=1e-3)
    assert (np.round(packed) <= tiles.input_wh).all()
    if stretch:
        assert (np.round(packed) == tiles.input_wh).all()
    else:
        across, down = (np.round(packed[0]) / sizes[0]).tolist()
        assert abs(across - down) <= 1.0 / sizes[0].min()
    if network is None:
        assert tiles.input_wh[0] % 32 == tiles.input_wh[1] % 32 == 0
    # and back
    corner = np.array([[0, 0, *np.round(packed[-1])]], np.float32)
    row = np.array([len(tiles) - 1], np.int32)
    np.testing.assert_allclose(tiles.to_frame(corner, row)[0], boxes[-1], atol=1e-2)


@pytest.mark.parametrize(
    ("frame", "network", "kw", "count", "size", "scale"),
    [
        ((3840, 2160), (640, 640), {}, 32, (640, 640), 1),  # 8 x 4
        ((7680, 4320), (640, 640), {}, 135, (640, 640), 1),  # 15 x 9
        ((1920, 1080), (416, 416), {}, 18, (416, 416), 1),
        ((1920, 1080), (416, 416), {"smallest_px": 3.0}, 84, (208, 208), 2),
        ((1920, 1080), (416, 416), {"smallest_px": 1.0}, 84, (208, 208), 2),  # never more than twofold
        ((1920, 1080), (416, 416), {"smallest_px": 30.0}, 18, (416, 416), 1),  # never shrunk
        ((1920, 1080), (416, 416), {"tile": "none"}, 1, (1920, 1080), 416 / 1920),
        ((1920, 1080), (416, 416), {"tile": "640"}, 8, (640, 640), 0.65),
        ((320, 240), (640, 640), {}, 1, (320, 240), 2),
        ((16, 16), (416, 416), {}, 1, (16, 16), 26),
        ((640, 480), None, {}, 1, (640, 480), 1),
        ((1920, 1080), None, {"look": "all"}, 1, (1920, 1080), 1),
        ((1920, 1080), None, {"look": "motion"}, 32, (320, 320), 1),
        ((1920, 1080), None, {"tile": 512}, 15, (512, 512), 1),
        ((300, 1080), None, {"tile": 512}, 3, (300, 512), 1),
    ],
)
def test_known_plans(frame: Any, network: Any, kw: Any, count: int, size: Any, scale: float) -> None:
    tiles = plan(frame, network, **kw)
    assert len(tiles) == count
    assert tuple((tiles.xyxy[0, 2:] - tiles.xyxy[0, :2]).tolist()) == size
    np.testing.assert_allclose(tiles.scale, scale, rtol=1e-3)


def test_overlap_of_all_but_one_px() -> None:
    tiles = plan((40, 16), (16, 16), tile=16, overlap=15.0)
    assert tiles.xyxy[:, 0].tolist() == list(range(25))


def test_any_size_network_gets_a_multiple_of_its_stride() -> None:
    assert plan((1000, 500), None, tile="none", stride=8).input_wh == (1000, 504)
    assert plan((1000, 500), None, tile="none", stride=64).input_wh == (1024, 512)
    huge = plan((16384, 16384), None, tile="none")
    assert huge.input_wh[0] * huge.input_wh[1] < 9_000_000
    assert huge.scale[0, 0] < 0.2


def test_gigantic_frame_is_planned_fast() -> None:
    import time

    start = time.perf_counter()
    tiles = plan((16384, 16384), (416, 416))
    assert time.perf_counter() - start < 0.1
    assert len(tiles) == 2500


def test_whole_frame_adds_one_coarse_tile() -> None:
    tiles = plan((1920, 1080), (640, 640), whole_frame=True)
    assert len(tiles) == tiles.of == 9
    assert coarse_rows(tiles).tolist() == [False] * 8 + [True]
    assert tiles.scale[-1].tolist() == pytest.approx([1 / 3, 1 / 3])
    assert not coarse_rows(plan((1920, 1080), (640, 640), tile="none", whole_frame=True)).any()
    assert coarse_rows(tiles[[8]]).all()
    assert len(plan((300, 200), (640, 640), whole_frame=True)) == 1


def test_describe() -> None:
    assert describe(plan((7680, 4320), (640, 640))) == (
        "135 tiles of 640x640 px (scale 1), overlap 152x180 px, network input 640x640"
    )
    assert describe(plan((100, 100), (200, 200))) == "1 tile of 100x100 px (scale 2), network input 200x200"
    assert "and the whole frame (scale 0.333)" in describe(plan((1920, 1080), (640, 640), whole_frame=True))


@pytest.mark.parametrize(
    ("kw", "words"),
    [
        ({"tile": "big"}, "'big'"),
        ({"tile": "1x2x3"}, "'1x2x3'"),
        ({"tile": 0}, "0 px"),
        ({"tile": -640}, "-640 px"),
        ({"tile": 20000}, "20000 px"),
        ({"tile": 640, "overlap": 640.0}, "as large as a tile"),
        ({"tile": 16, "overlap": 0.99}, "as large as a tile"),
        ({"tile": 32, "overlap": 31.0}, "larger tiles"),
        ({"roi": [[(0.0, 0.0), (1.0, 1.0)]]}, "3 finite corners"),
        ({"roi": [[(5000.0, 0.0), (6000.0, 0.0), (6000.0, 900.0)]]}, "leave nothing"),
        ({"ignore": [[(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]]}, "leave nothing"),
    ],
)
def test_nonsense_gets_one_sentence(kw: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan((3840, 2160), (416, 416), **kw)
    assert words in str(caught.value)


def pixels(tiles: TilePlan) -> int:
    return tiles.slots * tiles.input_wh[0] * tiles.input_wh[1]


class TestEverywhere:
    @settings(max_examples=200, deadline=None)
    @given(
        frame=st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
        network=st.sampled_from([(416, 416), (640, 384), None]),
        look=st.sampled_from(["all", "auto"]),
        overlap=st.sampled_from([0.0, 0.2, 0.5, 17.0]),
        smallest_px=st.sampled_from([3.0, 4.0, 6.0]),
    )
    def test_fewer_larger_inputs_of_one_scale_that_cover_all(
        self, frame: tuple[int, int], network: tuple[int, int] | None, look: Any, overlap: float, smallest_px: float
    ) -> None:
        config = TilesConfig(overlap=overlap, smallest_px=smallest_px, look=look)
        usual = plan_tiles(frame, input_wh=network, config=config)
        joined = plan_everywhere(frame, input_wh=network, config=config)
        if joined.input_wh == usual.input_wh:
            assert np.array_equal(joined.xyxy, usual.xyxy)
            return
        if usual.slots == 1:
            assert len(joined) % 2 == 0  # cut in two, for two cores
        else:
            assert pixels(joined) <= WORTH_JOINING * pixels(usual)
        assert joined.input_wh[0] * joined.input_wh[1] <= JOINED_PX
        assert not any(side % 32 for side in joined.input_wh)
        size = joined.xyxy[:, 2:] - joined.xyxy[:, :2]
        assert (np.abs(joined.scale - (usual.scale[0] if network else 1)) * size <= 1).all()  # px of the input
        assert (size == size[0]).all()
        assert (size * joined.scale <= np.array(joined.input_wh) + 0.5).all()
        fine = usual.xyxy[0, 2:] - usual.xyxy[0, :2] if network else (SMALL_TILE, SMALL_TILE)
        for axis in (0, 1):
            edges = np.unique(joined.xyxy[:, axis])
            assert edges[0] == 0
            assert edges[-1] + size[0, axis] == frame[axis]
            shared = round(overlap * fine[axis]) if overlap < 1 else round(overlap)
            assert (np.diff(edges) <= size[0, axis] - shared + 1).all()  # origins are even

    def test_4k(self) -> None:
        joined = plan_everywhere((3840, 2160), input_wh=(416, 416), config=TilesConfig(look="all"))
        assert (len(joined), joined.of, joined.input_wh) == (8, 8, (1024, 1152))
        assert joined.scale.tolist() == [[1, 1]] * 8
        for look in ("all", "auto"):
            free = plan_everywhere((1280, 720), input_wh=None, config=TilesConfig(look=look))
            assert (len(free), free.input_wh) == (2, (672, 736))

    @pytest.mark.parametrize("how", [{"tile": 416}, {"tile": "none"}, {"whole_frame": True}])
    def test_a_size_asked_for_is_kept(self, how: Any) -> None:
        config = TilesConfig(look="all", **how)
        usual = plan_tiles((1920, 1080), input_wh=(416, 416), config=config)
        kept = plan_everywhere((1920, 1080), input_wh=(416, 416), config=config)
        assert np.array_equal(kept.xyxy, usual.xyxy)
        assert kept.input_wh == usual.input_wh

    def test_a_small_region_keeps_its_few_tiles(self) -> None:
        config = TilesConfig(look="all", roi=[[(0, 0), (300, 0), (300, 300), (0, 300)]])
        assert plan_everywhere((3840, 2160), input_wh=(416, 416), config=config).input_wh == (416, 416)


class TestRegions:
    STAR = ((0.5, 0.02), (0.62, 0.4), (0.98, 0.4), (0.7, 0.6), (0.8, 0.97), (0.5, 0.75), (0.2, 0.97), (0.3, 0.6))
    WH = (1200, 900)

    def painted(self) -> np.ndarray:
        """The star as a mask of one px per px (OpenCV paints the outline too, hence the tolerance of the tests)."""
        corners = np.round(np.array(self.STAR) * self.WH).astype(np.int32)
        return cv2.fillPoly(np.zeros(self.WH[::-1], np.uint8), [corners], 1)

    def test_tiles_against_a_painted_mask(self) -> None:
        tiles = plan(self.WH, (64, 64), overlap=0.0).xyxy
        mask = self.painted()
        inner = cv2.erode(mask, np.ones((5, 5)))
        outer = cv2.dilate(mask, np.ones((5, 5)))
        share = {
            n: np.array([m[y1:y2, x1:x2].mean() for x1, y1, x2, y2 in tiles])
            for n, m in (("in", inner), ("out", outer))
        }
        hit, whole = touched([list(self.STAR)], self.WH, tiles), covered([list(self.STAR)], self.WH, tiles)
        assert hit[share["in"] > 0].all()
        assert not hit[share["out"] == 0].any()
        assert whole[share["in"] == 1].all()
        assert not whole[share["out"] < 1].any()
        assert 0 < whole.sum() < hit.sum() < len(tiles)

    def test_points_against_a_painted_mask(self) -> None:
        points = np.random.default_rng(0).random((3000, 2)) * self.WH
        found = inside([list(self.STAR)], self.WH, points)
        mask = self.painted()
        x, y = points.astype(int).T
        sure = cv2.erode(mask, np.ones((5, 5)))[y, x] == cv2.dilate(mask, np.ones((5, 5)))[y, x]
        assert (found == (mask[y, x] > 0))[sure].all()
        assert sure.mean() > 0.9

    def test_relative_and_px_are_the_same(self) -> None:
        px = [(x * self.WH[0], y * self.WH[1]) for x, y in self.STAR]
        a, b = (plan(self.WH, (64, 64), roi=[polygon]) for polygon in (list(self.STAR), px))
        assert a.xyxy.tolist() == b.xyxy.tolist()
        assert a.of == len(a) < len(plan(self.WH, (64, 64)))

    def test_a_small_roi_inside_one_tile_keeps_it(self) -> None:
        tiles = plan(self.WH, (300, 300), overlap=0.0, roi=[[(400.0, 400.0), (410.0, 400.0), (410.0, 410.0)]])
        assert tiles.xyxy.tolist() == [[300, 300, 600, 600]]

    def test_only_tiles_wholly_ignored_are_dropped(self) -> None:
        corners = [(150.0, 150.0), (950.0, 150.0), (950.0, 650.0), (150.0, 650.0)]
        left = plan((1200, 900), (300, 300), overlap=0.0, ignore=[corners])
        assert len(left) == 12 - 2
        assert [300, 300, 600, 600] not in left.xyxy.tolist()
        assert [0, 0, 300, 300] in left.xyxy.tolist()

    def test_keep_mask(self) -> None:
        boxes = np.array([[100, 100, 110, 110], [600, 500, 604, 504], [600, 400, 604, 404]], np.float32)
        assert keep_mask(self.WH, TilesConfig(), boxes) is None
        roi = TilesConfig(roi=[list(self.STAR)])
        both = TilesConfig(roi=[list(self.STAR)], ignore=[[(0.0, 0.5), (1.0, 0.5), (1.0, 1.0), (0.0, 1.0)]])
        ignore = TilesConfig(ignore=both.ignore)
        masks = [keep_mask(self.WH, config, boxes) for config in (roi, both, ignore)]
        assert [None if m is None else m.tolist() for m in masks] == [
            [False, True, True],
            [False, False, True],
            [True, False, True],
        ]
        none = keep_mask(self.WH, roi, np.zeros((0, 4), np.float32))
        assert none is not None
        assert none.shape == (0,)
