"""Windows side by side on a sheet: the same regions as window by window."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from motion_scene import disc, noisy, texture

from streamdet.motion import regions as regions_module
from streamdet.motion.activity import BlockMaxima
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
    laid = sheet.gather(plane)
    for number, group in enumerate(groups):
        x1, y1, x2, y2 = group.xyxy
        np.testing.assert_array_equal(sheet.part(number, laid), plane[y1:y2, x1:x2])
    count = cv2.connectedComponents((laid > 0).astype(np.uint8), connectivity=8)[0]
    assert count - 1 == len(groups)
    assert laid.size < 2.5 * sum(group.area_px for group in groups)


@pytest.mark.parametrize("pool", [1, 2, 4])
@pytest.mark.parametrize("wh", [(64, 48), (37, 29), (5, 3), (16, 1)])
def test_pooled_is_the_maximum_of_squares(wh: tuple[int, int], pool: int) -> None:
    plane = np.random.default_rng(1).integers(0, 256, wh[::-1]).astype(np.uint8)
    slow = [[plane[y : y + pool, x : x + pool].max() for x in range(0, wh[0], pool)] for y in range(0, wh[1], pool)]
    np.testing.assert_array_equal(pooled(plane, pool), slow)
