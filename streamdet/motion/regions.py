"""From changed blocks to regions: which pixels differ from the background, how they hang together, what they are like.

Pixels are looked at only inside windows round groups of active blocks. A pixel belongs to a region if it differs from
the background *now*; the place a mover has just left does not, so a mover is one region, at its present position.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import cv2
import numpy as np

from streamdet.motion.activity import BLOCK_PX, to_pixels, tolerant_difference
from streamdet.types import F32, I32, U8, Bool

__all__ = ["Box", "Planes", "Shapes", "Window", "find_regions"]

_KERNEL = np.ones((3, 3), np.uint8)
_NEAR = np.ones((7, 7), np.uint8)  # px within half the threshold count where one above it is this near
_MOST_WINDOWS = 96
_MOST_DETAILS = 12
_SMALLEST_AREA_PX = 2
_STANDS_OUT_SHARE = 0.1
_LARGE_SHARE = 0.8

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Planes:
    """The aligned planes of one frame; `tolerant`: compare with a pixel of slack, because the camera moves."""

    luma: U8
    previous: U8
    background: U8
    tolerant: bool = False

    def changed(self, xyxy: Box, then: U8) -> U8:
        x1, y1, x2, y2 = xyxy
        now, past = self.luma[y1:y2, x1:x2], then[y1:y2, x1:x2]
        return tolerant_difference(now, past) if self.tolerant else np.asarray(cv2.absdiff(now, past), np.uint8)


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle that was looked at: `labels` say which region each pixel belongs to, `mask` which pixels differ."""

    xyxy: Box
    labels: I32
    mask: U8


@dataclass(frozen=True, slots=True, eq=False)
class Shapes:
    """R regions, column by column.

    xyxy (R,4) f32 px, tight; area: px above half the threshold; core: px above the threshold; contrast: grey levels, near the
    peak; ratio: contrast in thresholds; moving: share of its pixels that also differ from the preceding frame; sign: mean
    sign of the difference to the background, -1..1; prominence: contrast over the level at which it comes apart from a larger
    region (its ratio, if it stands alone); rank: 0 the strongest detail of its parent, -1 stands alone; parent: area of the
    larger region it is a detail of, 0 if it stands alone; around, around_now: shares of a ring round its box that differ from the
    background, and from the preceding frame; window, label: where its pixels are (label 0: a detail).
    """

    xyxy: F32
    area: F32
    core: F32
    contrast: F32
    ratio: F32
    moving: F32
    sign: F32
    prominence: F32
    rank: I32
    parent: F32
    around: F32
    around_now: F32
    window: I32
    label: I32

    def __len__(self) -> int:
        return len(self.xyxy)

    def __getitem__(self, rows: Any) -> Shapes:
        return Shapes(*(getattr(self, f.name)[rows] for f in fields(self)))

    @staticmethod
    def concat(parts: list[Shapes]) -> Shapes:
        if not parts:
            none, index = np.zeros(0, np.float32), np.zeros(0, np.int32)
            return Shapes(
                xyxy=np.zeros((0, 4), np.float32),
                area=none,
                core=none,
                contrast=none,
                ratio=none,
                moving=none,
                sign=none,
                prominence=none,
                rank=index,
                parent=none,
                around=none,
                around_now=none,
                window=index,
                label=index,
            )
        return Shapes(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Shapes)))


def find_regions(planes: Planes, active: Bool, threshold: F32, limit_px: float = 60.0) -> tuple[Shapes, list[Window]]:
    """Regions of pixels that differ from the background by more than `threshold` (grey levels per block) in `active` blocks.

    Groups of active blocks, with a margin of one block, are looked at one by one; many or large groups in one go.
    """
    height, width = planes.luma.shape
    if not active.any():
        return Shapes.concat([]), []
    grown = cv2.dilate(active.astype(np.uint8), _KERNEL)
    count, groups, stats, _ = cv2.connectedComponentsWithStats(grown, connectivity=8)
    boxes = stats[1:, :4].astype(np.int64)
    if count - 1 > _MOST_WINDOWS or (boxes[:, 2] * boxes[:, 3]).sum() > _LARGE_SHARE * active.size:
        boxes, groups = np.array([[0, 0, active.shape[1], active.shape[0]]]), np.asarray(grown, np.int32)
    shapes: list[Shapes] = []
    windows: list[Window] = []
    for group, (column, row, columns, rows) in enumerate(boxes.tolist(), 1):
        own = groups[row : row + rows, column : column + columns] == group
        x1, y1 = column * BLOCK_PX, row * BLOCK_PX
        xyxy = (x1, y1, min(x1 + columns * BLOCK_PX, width), min(y1 + rows * BLOCK_PX, height))
        found = _in_window(planes, xyxy, threshold, own, len(windows), 24.0, limit_px)
        if found is not None:
            shapes.append(found[0])
            windows.append(found[1])
    return Shapes.concat(shapes), windows


def _in_window(
    planes: Planes, xyxy: Box, threshold: F32, own: Bool, index: int, small_px: float, limit_px: float
) -> tuple[Shapes, Window] | None:
    x1, y1, x2, y2 = xyxy
    level = to_pixels(np.clip(threshold, 2, 250), xyxy)
    half = level // 2
    change = planes.changed(xyxy, planes.background)
    near_core = cv2.dilate(cv2.compare(change, level, cv2.CMP_GT), _NEAR)
    low = np.asarray(cv2.bitwise_and(cv2.compare(change, half, cv2.CMP_GT), near_core), np.uint8)
    if not own.all():  # blocks of another group inside this rectangle are looked at with their own
        low &= np.repeat(np.repeat(own, BLOCK_PX, 0), BLOCK_PX, 1)[: y2 - y1, : x2 - x1] * np.uint8(255)
    count, labels = cv2.connectedComponents(cv2.dilate(low, _KERNEL), connectivity=8)
    if count <= 1:
        return None
    at = np.flatnonzero(low)
    flat, value = labels.ravel()[at], change.ravel()[at].astype(np.float32)
    bound = level.ravel()[at].astype(np.float32)

    def total(weights: Any = None) -> F32:
        return np.bincount(flat, weights, count)[1:].astype(np.float32)

    core = total(value > bound)
    area = total()
    # edges of what stands still differ when camera or air tremble by a fraction of a pixel; with a pixel of slack they do not
    here = np.s_[y1:y2, x1:x2]
    loose = change if planes.tolerant else tolerant_difference(planes.luma[here], planes.background[here])
    stands_out = total(loose.ravel()[at] > half.ravel()[at])
    keep = np.flatnonzero(
        (core > 0) & (area >= _SMALLEST_AREA_PX) & (stands_out >= np.maximum(1, _STANDS_OUT_SHARE * area))
    )
    if not len(keep):
        return None
    past = planes.changed(xyxy, planes.previous)
    moved = past.ravel()[at] > half.ravel()[at]
    brighter = planes.luma[here][low > 0] > planes.background[here][low > 0]
    area = np.maximum(area, np.float32(1))
    contrast = np.asarray(total(value * value) / np.maximum(total(value), 1), np.float32)
    ratio = contrast * area / total(bound).clip(1)
    shapes = Shapes(
        xyxy=_tight(at, flat, value, contrast, low.shape[1]) + np.array([x1, y1, x1, y1], np.float32),
        area=area,
        core=core,
        contrast=contrast,
        ratio=ratio,
        moving=total(moved) / area,
        sign=total(brighter) / area * 2 - 1,
        prominence=ratio,
        rank=np.full(count - 1, -1, np.int32),
        parent=np.zeros(count - 1, np.float32),
        around=np.zeros(count - 1, np.float32),
        around_now=np.zeros(count - 1, np.float32),
        window=np.full(count - 1, index, np.int32),
        label=np.arange(1, count, dtype=np.int32),
    )[keep]
    window = Window(xyxy, np.asarray(labels, np.int32), low)
    long = (shapes.xyxy[:, 2:] - shapes.xyxy[:, :2]).max(1)
    parts = [shapes]
    now = np.minimum(change, past)
    for row in np.flatnonzero((long > small_px) & (shapes.moving > 0.02)):
        part = _details(shapes[row : row + 1], window, now, level, limit_px)
        if part is not None:
            parts.append(part)
    shapes = Shapes.concat(parts)
    box = shapes.xyxy - np.array([x1, y1, x1, y1], np.float32)
    changed_now = np.asarray(cv2.bitwise_and(low, cv2.compare(now, half, cv2.CMP_GT)), np.uint8)
    return replace(shapes, around=_ring_share(low, box), around_now=_ring_share(changed_now, box)), window


def _ring_share(mask: U8, xyxy: F32) -> F32:
    """(R,) share of set pixels in a ring round each box, as wide as half the box and 3 px."""
    total = cv2.integral(mask // np.uint8(255))
    height, width = mask.shape
    inner = xyxy.astype(np.int64)
    reach = 3 + (inner[:, 2:] - inner[:, :2]).max(1, keepdims=True) // 2
    outer = np.concatenate([inner[:, :2] - reach, inner[:, 2:] + reach], 1)
    outer = np.clip(outer, 0, [width, height, width, height])

    def inside(box: Any) -> Any:
        x1, y1, x2, y2 = box.T
        return total[y2, x2] - total[y1, x2] - total[y2, x1] + total[y1, x1]

    def size(box: Any) -> Any:
        return (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])

    return np.asarray((inside(outer) - inside(inner)) / np.maximum(size(outer) - size(inner), 1), np.float32)


def _details(whole: Shapes, window: Window, now: U8, level: U8, limit_px: float) -> Shapes | None:
    """Small regions inside the large one `whole` that stand out at a higher level: a ball before a player.

    The threshold is doubled until parts no larger than `limit_px` come apart (a component tree with four levels).
    `now`: smaller of the differences to background and preceding frame in the window: what moved in here and now.
    """
    x1, y1, x2, y2 = (whole.xyxy[0] - np.tile(window.xyxy[:2], 2)).astype(int)
    own = (window.labels[y1:y2, x1:x2] == whole.label[0]) & (window.mask[y1:y2, x1:x2] > 0)
    value = np.where(own, now[y1:y2, x1:x2], 0).astype(np.uint8)
    bound = float(level[y1:y2, x1:x2][own].mean())
    parts = []
    for factor in (1, 2, 4, 8):
        if bound * factor > 200:
            break
        high = (value > int(bound * factor)).astype(np.uint8)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(high, connectivity=8)
        if count <= 1:
            break
        long = stats[:, 2:4].max(1)
        small = (long <= limit_px) & (stats[:, 4] >= 2)
        small[0] = False
        rows = np.flatnonzero(small)
        if len(rows):
            at = np.flatnonzero(high)
            flat, v = labels.ravel()[at], value.ravel()[at].astype(np.float32)
            mass, square = np.bincount(flat, v, count), np.bincount(flat, v * v, count)
            peak = (square / np.maximum(mass, 1))[rows]
            box = stats[rows, :4].astype(np.float32)
            box[:, 2:] += box[:, :2]
            parts.append((box, stats[rows, 4], peak, peak / (bound * factor)))
        value[(long <= limit_px)[labels]] = 0
        if not value.any():
            break
    if not parts:
        return None
    box, area, peak, prominence = (np.concatenate([p[k] for p in parts]) for k in range(4))
    order = np.argsort(-peak * np.sqrt(area), kind="stable")[:_MOST_DETAILS]
    box, area, peak, prominence = box[order], area[order], peak[order], prominence[order]
    n = len(box)
    one = np.ones(n, np.float32)
    return Shapes(
        xyxy=(box + np.tile(whole.xyxy[0, :2], 2)).astype(np.float32),
        area=area.astype(np.float32),
        core=area.astype(np.float32),
        contrast=peak.astype(np.float32),
        ratio=(peak / bound).astype(np.float32),
        moving=one,
        sign=one,
        prominence=prominence.astype(np.float32),
        rank=np.arange(n, dtype=np.int32),
        parent=whole.area[0] * one,
        around=one,
        around_now=one,
        window=np.full(n, whole.window[0], np.int32),
        label=np.zeros(n, np.int32),
    )


def _tight(at: Any, label: Any, value: F32, contrast: F32, width: int) -> F32:
    """Boxes round the pixels above a quarter of their region's contrast: what is fainter is blur, ringing or noise.

    `at`: flat places of pixels, `label` theirs (1 and up), `value` their change.
    """
    strong = value > 0.25 * contrast[label - 1]
    y, x = np.divmod(at[strong].astype(np.int32), np.int32(width))
    row = label[strong] - 1
    low = np.full((2, len(contrast)), np.iinfo(np.int32).max, np.int32)
    high = np.zeros((2, len(contrast)), np.int32)
    for axis, place in enumerate((x, y)):
        np.minimum.at(low[axis], row, place)
        np.maximum.at(high[axis], row, place + 1)
    return np.stack([low[0], low[1], high[0], high[1]], 1).astype(np.float32)
