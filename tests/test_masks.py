"""Masks: small, exact, joined; written as COCO writes them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streamdet.config import MergeConfig
from streamdet.masks import Mask, coco_rle, polygons, union
from streamdet.merge import merge
from streamdet.types import Detections

PICTURES = arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def disc(radius=10) -> np.ndarray:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return x * x + y * y <= radius * radius


def decoded(text: str) -> list[int]:
    """COCO's rleFrString, from its documentation."""
    counts: list[int] = []
    place = 0
    while place < len(text):
        value, shift, more = 0, 0, True
        while more:
            bits = ord(text[place]) - 48
            value |= (bits & 31) << shift
            more = bool(bits & 32)
            place, shift = place + 1, shift + 5
            if not more and bits & 16:
                value |= -1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    return counts


def whole(mask: Mask, wh: tuple[int, int]) -> np.ndarray:
    rle = coco_rle(mask, wh)
    assert rle["size"] == [wh[1], wh[0]]
    counts = decoded(rle["counts"])
    ones = np.arange(len(counts)) % 2 == 1
    return np.repeat(ones, counts).reshape(wh).T


@given(PICTURES)
def test_what_goes_in_comes_out(pixels: np.ndarray) -> None:
    mask = Mask.of(pixels, (3, 2))
    assert mask.area == pixels.sum()
    again = np.zeros((20, 30), bool)
    x, y = mask.xy
    again[y : y + mask.wh[1], x : x + mask.wh[0]] = mask.pixels()
    wanted = np.zeros((20, 30), bool)
    wanted[2 : 2 + pixels.shape[0], 3 : 3 + pixels.shape[1]] = pixels
    assert (again == wanted).all()


@given(PICTURES)
@settings(max_examples=200)
def test_the_run_lengths_are_those_of_the_whole_frame(pixels: np.ndarray) -> None:
    height, width = pixels.shape
    assert (whole(Mask.of(pixels), (width, height)) == pixels).all()  # runs go on from column to column here
    framed = np.zeros((height + 5, width + 4), bool)
    framed[3 : 3 + height, 2 : 2 + width] = pixels
    assert (whole(Mask.of(pixels, (2, 3)), (width + 4, height + 5)) == framed).all()


def test_the_text_is_what_coco_tools_write() -> None:
    mask_tools = pytest.importorskip("faster_coco_eval.core.mask", reason="faster-coco-eval is not installed")
    rng = np.random.default_rng(1)
    for _ in range(50):
        framed = np.zeros((40, 60), np.uint8)
        part = (rng.random((rng.integers(1, 30), rng.integers(1, 40))) < rng.random()).astype(np.uint8)
        framed[5 : 5 + part.shape[0], 7 : 7 + part.shape[1]] = part
        theirs = mask_tools.encode(np.asfortranarray(framed))
        theirs = theirs["counts"].decode() if isinstance(theirs["counts"], bytes) else theirs["counts"]
        assert coco_rle(Mask.of(part > 0, (7, 5)), (60, 40))["counts"] == theirs


def test_memory_follows_the_object_not_the_frame() -> None:
    pixels = np.zeros((4000, 6000), bool)
    pixels[2000:2021, 3000:3021] = disc()
    mask = Mask.of(pixels)
    assert (mask.xy, mask.wh) == ((3000, 2000), (21, 21))
    assert mask.counts.nbytes < 400


def test_a_union_holds_every_part_once() -> None:
    one, other = Mask.of(disc(), (0, 0)), Mask.of(disc(), (15, 5))
    both = union([one, None, other])
    assert both is not None
    wanted = np.zeros((26, 36), bool)
    wanted[:21, :21] |= disc()
    wanted[5:26, 15:36] |= disc()
    assert (both.pixels() == wanted).all()
    assert union([None, Mask.of(np.zeros((3, 3), bool))]) is None


def test_a_smaller_picture_has_smaller_masks() -> None:
    half = Mask.of(disc(20), (100, 60)).scaled(0.5, 0.5)
    assert half.xy == (50, 30)
    assert half.area == pytest.approx(disc(20).sum() / 4, rel=0.05)
    assert Mask.of(np.eye(9, dtype=bool)).scaled(0.01, 0.01).area == 1


def test_outlines_run_along_the_edges_of_the_pixels() -> None:
    (outline,) = polygons(Mask.of(np.ones((4, 6), bool), (10, 20)))
    x, y = np.array(outline[0::2]), np.array(outline[1::2])
    assert (x.min(), y.min(), x.max(), y.max()) == (10, 20, 16, 24)


def test_one_pixel_has_an_outline() -> None:
    (outline,) = polygons(Mask.of(np.ones((1, 1), bool), (3, 4)))
    assert sorted(zip(outline[0::2], outline[1::2])) == [(3, 4), (3, 5), (4, 4), (4, 5)]


@given(st.integers(0, 40))
def test_the_area_of_an_outline_is_that_of_the_mask(radius: int) -> None:
    (outline,) = polygons(Mask.of(disc(radius), (5, 5)))
    x, y = np.array(outline[0::2]), np.array(outline[1::2])
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    assert area == pytest.approx(disc(radius).sum(), rel=0.01)


def test_separate_parts_are_separate_outlines() -> None:
    pixels = np.zeros((10, 30), bool)
    pixels[2:8, 2:8] = pixels[2:8, 20:28] = True
    assert len(polygons(Mask.of(pixels))) == 2


# ----------------------------------------------------------------------------------------------------- merging masks


def with_masks(found: Detections, masks: list[Mask | None]) -> Detections:
    column = np.full(len(masks), None)
    column[:] = masks
    return Detections(found.xyxy, found.score, found.label, found.tile, found.truncated, column)


def filled(box) -> Mask:
    x1, y1, x2, y2 = box
    return Mask.of(np.ones((y2 - y1, x2 - x1), bool), (x1, y1))


def test_pieces_cut_at_a_seam_are_one_mask() -> None:
    left, right = (20, 10, 64, 40), (52, 10, 90, 40)  # tiles share 52..64
    found = Detections.of([left, right], [0.8, 0.9], tile=[0, 1], truncated=[4, 1])
    (row,) = [merge(with_masks(found, [filled(left), filled(right)]), MergeConfig())]
    assert row.xyxy.tolist() == [[20, 10, 90, 40]]
    assert row.masks is not None
    assert (row.masks[0].xy, row.masks[0].wh, row.masks[0].area) == ((20, 10), (70, 30), 2100)


def test_a_piece_yields_to_the_whole_with_its_mask() -> None:
    whole_box, piece = (20, 10, 90, 40), (20, 10, 64, 40)
    found = Detections.of([piece, whole_box], [0.9, 0.5], tile=[0, 1], truncated=[4, 0])
    merged = merge(with_masks(found, [filled(piece), Mask.of(disc(), (40, 15))]), MergeConfig())
    assert merged.masks is not None
    assert merged.masks[0].area == disc().sum()


@pytest.mark.parametrize("method", ["greedy_nmm", "nmm", "nms", "fusion", "soft_nms"])
def test_the_order_of_the_input_never_matters(method) -> None:
    rng = np.random.default_rng(3)
    corner = rng.integers(0, 60, (40, 2))
    boxes = np.concatenate([corner, corner + rng.integers(5, 30, (40, 2))], axis=1)
    rows = with_masks(
        Detections.of(boxes, rng.random(40), rng.integers(0, 2, 40), rng.integers(0, 3, 40)),
        [filled(box) for box in boxes.tolist()],
    )
    first = merge(rows, MergeConfig(method=method))
    again = merge(rows[rng.permutation(40)], MergeConfig(method=method))
    assert first.masks is not None
    assert again.masks is not None
    assert (first.xyxy == again.xyxy).all()
    assert [(m.xy, m.wh, m.area) for m in first.masks] == [(m.xy, m.wh, m.area) for m in again.masks]


def test_rows_without_masks_stand_beside_rows_with_them() -> None:
    one = with_masks(Detections.of([[0, 0, 4, 4]], [0.5]), [filled((0, 0, 4, 4))])
    both = Detections.concat([one, Detections.of([[8, 8, 9, 9]], [0.4])])
    assert both.masks is not None
    assert both.masks[1] is None
    assert both[1:].masks is not None
    with pytest.raises(ValueError, match="masks"):
        Detections(both.xyxy, both.score, both.label, both.tile, both.truncated, both.masks[:1])
