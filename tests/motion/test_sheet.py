"""Windows side by side on a sheet: the same regions as window by window."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from motion_scene import disc, noisy, texture

from streamdet.motion import regions as regions_module
from streamdet.motion import tremble
from streamdet.motion.activity import BlockMaxima, tolerant_difference
from streamdet.motion.glance import look
from streamdet.motion.regions import find_regions
from streamdet.motion.shapes import Planes, Shapes
from streamdet.motion.sheet import Group, Sheet, pooled

COLUMNS = (
    "xyxy",
    "area",
    "core",
    "contrast",
    "ratio",
    "moving",
    "sign",
    "prominence",
    "rank",
    "parent",
    "around",
    "around_now",
)


def crowd(wh: tuple[int, int], seed: int, *, large: int) -> Planes:
    """Many small movers, some touching the border, and a few large textured ones, before a noisy background."""
    rng = np.random.default_rng(seed)
    still = texture(wh, seed)
    earlier, now = still.copy(), still.copy()
    for _ in range(wh[0] * wh[1] // 40_000):
        x, y, radius = *(rng.random(2) * wh), rng.uniform(1, 5)
        level = int(rng.integers(0, 256))
        earlier, now = disc(earlier, (x - 3, y), radius, level), disc(now, (x, y), radius, level)
    for _ in range(large):
        w, h = rng.integers(90, 260, 2)
        x, y = (rng.random(2) * np.array(wh)).astype(int)
        patch = texture((int(w), int(h)), int(rng.integers(1000)), 0, 255)
        for picture, shift in ((earlier, 0), (now, 6)):
            place = picture[y : y + h, x + shift : x + shift + w]
            place[:] = patch[: place.shape[0], : place.shape[1]]
    background = noisy(still, seed + 2)
    return Planes(noisy(now, seed), noisy(earlier, seed + 1), background, tolerant=bool(seed % 2))


def ordered(shapes: Shapes) -> list[np.ndarray]:
    order = np.lexsort((shapes.prominence, shapes.area, *shapes.xyxy.T))
    return [np.asarray(getattr(shapes, name))[order] for name in COLUMNS]


@pytest.mark.parametrize(
    ("wh", "seed", "large"), [((900, 640), 1, 2), ((1000, 700), 2, 4), ((393, 317), 3, 0), ((1280, 720), 4, 0)]
)
def test_together_as_one_by_one(wh: tuple[int, int], seed: int, large: int, monkeypatch: pytest.MonkeyPatch) -> None:
    planes = crowd(wh, seed, large=large)
    maxima = BlockMaxima(wh)
    active = maxima(planes.luma, planes.background) > 16
    threshold = np.full(active.shape, 16.0, np.float32)
    together, windows = find_regions(planes, active, threshold)
    assert len(windows) > 1
    groups = regions_module._groups(planes, active)
    parts = []
    for group in groups:
        monkeypatch.setattr(regions_module, "_groups", lambda _planes, _active, only=group: [only])
        parts.append(find_regions(planes, active, threshold)[0])
    alone = Shapes.concat(parts)
    assert len(together) == len(alone) > 0
    for name, one, other in zip(COLUMNS, ordered(together), ordered(alone), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("tolerant", [False, True])
def test_beyond_the_border_of_the_picture_lies_nothing(tolerant: bool) -> None:
    """A picture that ends within a block: that block's rest lies on the sheet too."""
    wh = (440, 331)
    still = texture(wh, 7, 90, 200)
    now = still.copy()
    for x, y in ((438, 100), (200, 329), (439, 330), (60, 60), (300, 200)):
        now = disc(now, (x, y), 3, 20)
    planes = Planes(now, still, noisy(still, 3), tolerant=tolerant)
    maxima = BlockMaxima(wh)
    active = maxima(now, planes.background) > 20
    shapes, windows = find_regions(planes, active, np.full(active.shape, 20.0, np.float32))
    assert len(windows) >= 4
    assert len(shapes) == 5
    assert (shapes.xyxy[:, :2] >= 0).all()
    assert (shapes.xyxy[:, 2:] <= wh).all()


@pytest.mark.parametrize("at_once", [30_000, 0])
@pytest.mark.parametrize(("pool", "dear"), [(1, True), (2, True), (4, True), (1, False), (2, False), (4, False)])
def test_what_stands_out_against_every_pixel_tried(
    pool: int, dear: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Edges that tremble, and things among them: the quick way to tell them apart says what the slow one says."""
    monkeypatch.setattr(tremble, "_AT_ONCE", at_once)
    wh = (700, 500)
    still = texture(wh, 5, 0, 255)
    now = still.copy()
    now[100:300, 100:300] = np.roll(still, 1, 1)[100:300, 100:300]
    now[320:480, 400:690] = cv2.GaussianBlur(np.roll(still, 1, 0), (3, 3), 0)[320:480, 400:690]
    for x, y, radius in ((50, 50, 4), (620, 60, 9), (350, 60, 30), (200, 200, 3), (450, 400, 12), (698, 499, 6)):
        now = disc(now, (x, y), radius, 255 if radius % 2 else 0)
    planes = Planes(now, still, still)
    sheets = [Sheet([Group((0, 0, *wh), np.ones((32, 44), bool))], pool)]
    level = np.full((32, 44), 14, np.uint8)
    glances = [glance for sheet in sheets if (glance := look(planes, sheet, level, 0, dear=dear))]
    counts, pixels = glances[0].count, glances[0].pixels
    start = np.cumsum(counts) - counts
    contrast = np.maximum.reduceat(pixels.value, start).astype(np.float32)
    rows = np.arange(0, len(counts), 1 if pool > 1 else 2)
    found = tremble.stand_out(planes, glances, pixels, counts, contrast, rows)
    loose = pooled(tolerant_difference(now, still), pool)
    out = loose[pixels.y // pool, pixels.x // pool] > pixels.bound // 2
    share = np.add.reduceat(out.astype(int), start) / counts
    np.testing.assert_array_equal(found, (share >= 0.1)[rows])
    assert 0 < found.sum() < len(rows)


def test_groups_do_not_touch_and_come_back() -> None:
    rng = np.random.default_rng(5)
    plane = rng.integers(1, 255, (480, 800)).astype(np.uint8)
    groups = []
    for _ in range(30):
        column, row = int(rng.integers(0, 40)), int(rng.integers(0, 24))
        columns, rows = int(rng.integers(1, 10)), int(rng.integers(1, 6))
        own = np.ones((min(rows, 30 - row), min(columns, 50 - column)), bool)
        groups.append(Group((column * 16, row * 16, (column + own.shape[1]) * 16, (row + own.shape[0]) * 16), own))
    sheet = Sheet(groups, 1)
    (laid,) = sheet.gather(plane)
    for number, group in enumerate(groups):
        x1, y1, x2, y2 = group.xyxy
        np.testing.assert_array_equal(laid[sheet.parts[number]], plane[y1:y2, x1:x2])
    count = cv2.connectedComponents((laid > 0).astype(np.uint8), connectivity=8)[0]
    assert count - 1 == len(groups)
    assert laid.size < 2.5 * sum(group.area_px for group in groups)


@pytest.mark.parametrize("pool", [1, 2, 4])
@pytest.mark.parametrize("wh", [(64, 48), (37, 29), (5, 3), (16, 1)])
def test_pooled_is_the_maximum_of_squares(wh: tuple[int, int], pool: int) -> None:
    plane = np.random.default_rng(1).integers(0, 256, wh[::-1]).astype(np.uint8)
    slow = [[plane[y : y + pool, x : x + pool].max() for x in range(0, wh[0], pool)] for y in range(0, wh[1], pool)]
    np.testing.assert_array_equal(pooled(plane, pool), slow)
