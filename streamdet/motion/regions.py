"""From changed blocks to regions: which pixels differ from the background, how they hang together, what they are like.

Pixels are looked at only inside windows round groups of active blocks. A pixel belongs to a region if it differs from
the background *now*; the place a mover has just left does not, so a mover is one region, at its present position.
"""

from __future__ import annotations

from collections.abc import Iterator
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
_DETAILS_ABOVE_PX = 24.0
_SMALLEST_AREA_PX = 2
_STANDS_OUT_SHARE = 0.1
_LARGE_SHARE = 0.8
_POOLED_ABOVE_PX = ((100_000, 4), (25_000, 2))  # windows of more pixels are looked at in squares of so many px

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
    """A rectangle that was looked at: `labels` say which region each pixel belongs to, `mask` which pixels differ.

    In a large window a "pixel" is a square of `pool` px.
    """

    xyxy: Box
    labels: I32
    mask: U8
    pool: int = 1


@dataclass(frozen=True, slots=True)
class _Glance:
    """One window with its measures: differences to background (`change`) and what moved here and now (`now`, the smaller of that
    and the difference to the preceding frame), the level per pixel, and the differing pixels one by one."""

    window: Window
    count: int  # of regions
    now: U8
    level: U8
    pixels: _Pixels


@dataclass(frozen=True, slots=True)
class _Pixels:
    """P differing pixels: region (0-based), place in px of the frame, change, level, and three yes or no."""

    region: Any
    x: Any
    y: Any
    value: F32
    bound: F32
    stands_out: Bool
    moved: Bool
    brighter: Bool

    @staticmethod
    def concat(parts: list[_Pixels], offsets: list[int]) -> _Pixels:
        region = np.concatenate([part.region + offset for part, offset in zip(parts, offsets, strict=True)])
        rest = [np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(_Pixels)[1:]]
        return _Pixels(region, *rest)


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

    Groups of active blocks, with a margin of one block, are looked at one by one; many or large groups in one go. Then all
    their regions are measured together, and the large ones searched for details no larger than `limit_px`.
    """
    if not active.any():
        return Shapes.concat([]), []
    glances = [glance for xyxy, own in _groups(planes, active) if (glance := _look(planes, xyxy, threshold, own))]
    if not glances:
        return Shapes.concat([]), []
    shapes = _measure(glances)
    long = (shapes.xyxy[:, 2:] - shapes.xyxy[:, :2]).max(1, initial=0)
    parts = [shapes]
    for row in np.flatnonzero((long > _DETAILS_ABOVE_PX) & (shapes.moving > 0.02)):
        part = _details(shapes[row : row + 1], glances[shapes.window[row]], limit_px)
        if part is not None:
            parts.append(part)
    return _with_surroundings(Shapes.concat(parts), glances), [glance.window for glance in glances]


def _groups(planes: Planes, active: Bool) -> Iterator[tuple[Box, Bool]]:
    """Px boxes round groups of active blocks, and which blocks in each are the group's own."""
    height, width = planes.luma.shape
    grown = cv2.dilate(active.astype(np.uint8), _KERNEL)
    count, groups, stats, _ = cv2.connectedComponentsWithStats(grown, connectivity=8)
    boxes = stats[1:, :4].astype(np.int64)
    if count - 1 > _MOST_WINDOWS or (boxes[:, 2] * boxes[:, 3]).sum() > _LARGE_SHARE * active.size:
        boxes, groups = np.array([[0, 0, active.shape[1], active.shape[0]]]), np.asarray(grown, np.int32)
    for group, (column, row, columns, rows) in enumerate(boxes.tolist(), 1):
        own = groups[row : row + rows, column : column + columns] == group
        x1, y1 = column * BLOCK_PX, row * BLOCK_PX
        yield (x1, y1, min(x1 + columns * BLOCK_PX, width), min(y1 + rows * BLOCK_PX, height)), own


def _look(planes: Planes, xyxy: Box, threshold: F32, own: Bool) -> _Glance | None:
    """The differing pixels of one window and how they hang together; None if there are none."""
    x1, y1, x2, y2 = xyxy
    pool = next((pool for pixels, pool in _POOLED_ABOVE_PX if (x2 - x1) * (y2 - y1) > pixels), 1)
    level = np.ascontiguousarray(to_pixels(np.clip(threshold, 2, 250), xyxy)[::pool, ::pool])
    half = level // 2
    change = _pooled(planes.changed(xyxy, planes.background), pool)
    near_core = cv2.dilate(cv2.compare(change, level, cv2.CMP_GT), _NEAR)
    low = np.asarray(cv2.bitwise_and(cv2.compare(change, half, cv2.CMP_GT), near_core), np.uint8)
    if not own.all():  # blocks of another group inside this rectangle are looked at with their own
        block = BLOCK_PX // pool
        low &= np.repeat(np.repeat(own, block, 0), block, 1)[: low.shape[0], : low.shape[1]] * np.uint8(255)
    count, labels = cv2.connectedComponents(cv2.dilate(low, _KERNEL), connectivity=8)
    if count <= 1:
        return None
    past = _pooled(planes.changed(xyxy, planes.previous), pool)
    # edges of what stands still differ when camera or air tremble by a fraction of a pixel; with a pixel of slack they do not
    here = np.s_[y1:y2, x1:x2]
    now, background = planes.luma[here], planes.background[here]
    loose = change if planes.tolerant else _pooled(tolerant_difference(now, background), pool)
    y, x = np.nonzero(low)
    bound = level[y, x]
    pixels = _Pixels(
        region=labels[y, x] - 1,
        x=x * pool + x1,
        y=y * pool + y1,
        value=change[y, x].astype(np.float32),
        bound=bound.astype(np.float32),
        stands_out=loose[y, x] > bound // 2,
        moved=past[y, x] > bound // 2,
        brighter=now[y * pool, x * pool] > background[y * pool, x * pool],
    )
    window = Window(xyxy, np.asarray(labels, np.int32), low, pool)
    return _Glance(window, count - 1, np.minimum(change, past), level, pixels)


def _measure(glances: list[_Glance]) -> Shapes:
    """All regions of all windows, those that are no noise."""
    counts = np.array([glance.count for glance in glances])
    offsets = np.concatenate([[0], np.cumsum(counts)[:-1]])
    window = np.repeat(np.arange(len(glances)), counts).astype(np.int32)
    p = _Pixels.concat([glance.pixels for glance in glances], offsets.tolist())

    def total(weights: Any = None) -> F32:
        return np.bincount(p.region, weights, len(window)).astype(np.float32)

    pool = np.array([glance.window.pool for glance in glances], np.float32)[window]
    core, pixels = total(p.value > p.bound), total()
    keep = np.flatnonzero(
        (core > 0)
        & (pixels * pool**2 >= _SMALLEST_AREA_PX)
        & (total(p.stands_out) >= np.maximum(1, _STANDS_OUT_SHARE * pixels))
    )
    n = np.maximum(pixels, 1)
    contrast = np.asarray(total(p.value * p.value) / np.maximum(total(p.value), 1), np.float32)
    ratio = contrast * n / total(p.bound).clip(1)
    none = np.zeros(len(window), np.float32)
    end = np.array([glance.window.xyxy[2:] for glance in glances], np.float32)[window]
    return Shapes(
        xyxy=_tight(p, contrast, pool, end),
        area=n * pool**2,
        core=core * pool**2,
        contrast=contrast,
        ratio=ratio,
        moving=(total(p.moved) / n).astype(np.float32),
        sign=(total(p.brighter) / n * 2 - 1).astype(np.float32),
        prominence=ratio,
        rank=np.full(len(window), -1, np.int32),
        parent=none,
        around=none,
        around_now=none,
        window=window,
        label=(np.arange(len(window)) - offsets[window] + 1).astype(np.int32),
    )[keep]


def _tight(p: _Pixels, contrast: F32, pool: F32, end: F32) -> F32:
    """Boxes round the pixels above a quarter of their region's contrast: what is fainter is blur, ringing or noise."""
    strong = p.value > 0.25 * contrast[p.region]
    row = p.region[strong]
    low = np.full((2, len(contrast)), np.iinfo(np.int32).max, np.int32)
    high = np.zeros((2, len(contrast)), np.int32)
    for axis, place in enumerate((p.x[strong].astype(np.int32), p.y[strong].astype(np.int32))):
        np.minimum.at(low[axis], row, place)
        np.maximum.at(high[axis], row, place)
    corner = np.minimum(high.T + pool[:, None], end)
    return np.concatenate([low.T.astype(np.float32), corner.astype(np.float32)], 1)


def _pooled(plane: U8, pool: int) -> U8:
    """Maxima of squares of `pool` x `pool` px, a power of two; the last ones may be partial."""
    while pool > 1:
        if plane.shape[0] % 2 or plane.shape[1] % 2:
            plane = np.pad(plane, ((0, plane.shape[0] % 2), (0, plane.shape[1] % 2)))
        rows = np.maximum(plane[::2], plane[1::2])
        plane, pool = np.maximum(rows[:, ::2], rows[:, 1::2]), pool // 2
    return plane


def _with_surroundings(shapes: Shapes, glances: list[_Glance]) -> Shapes:
    """Fill in ``around`` and ``around_now``."""
    around, around_now = np.zeros(len(shapes), np.float32), np.zeros(len(shapes), np.float32)
    for number in np.unique(shapes.window):
        glance, rows = glances[number], shapes.window == number
        window = glance.window
        now = cv2.bitwise_and(window.mask, cv2.compare(glance.now, glance.level // 2, cv2.CMP_GT))
        box = _in_window(shapes.xyxy[rows], window)
        around[rows], around_now[rows] = _ring_share(window.mask, box), _ring_share(np.asarray(now, np.uint8), box)
    return replace(shapes, around=around, around_now=around_now)


def _in_window(xyxy: F32, window: Window) -> Any:
    """From px of the frame to pixels of a window, (R,4) int."""
    local = xyxy - np.tile(np.array(window.xyxy[:2], np.float32), 2)
    return np.ceil(local / window.pool).astype(np.int64)  # only the far corner of a last, partial pixel is no multiple


def _ring_share(mask: U8, inner: Any) -> F32:
    """(R,) share of set (255) pixels in a ring round each box, as wide as half the box and 3 px."""
    total = cv2.integral(mask)
    height, width = mask.shape
    reach = 3 + (inner[:, 2:] - inner[:, :2]).max(1, keepdims=True) // 2
    outer = np.concatenate([inner[:, :2] - reach, inner[:, 2:] + reach], 1)
    outer = np.clip(outer, 0, [width, height, width, height])

    def inside(box: Any) -> Any:
        x1, y1, x2, y2 = box.T
        return total[y2, x2] - total[y1, x2] - total[y2, x1] + total[y1, x1]

    def size(box: Any) -> Any:
        return (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])

    share = (inside(outer) - inside(inner)) / 255 / np.maximum(size(outer) - size(inner), 1)
    return np.asarray(share, np.float32)


def _details(whole: Shapes, glance: _Glance, limit_px: float) -> Shapes | None:
    """Small regions inside the large one `whole` that stand out at a higher level: a ball before a player.

    The threshold is doubled until parts no larger than `limit_px` come apart (a component tree with four levels).
    Only what moved here and now counts.
    """
    window, limit = glance.window, limit_px / glance.window.pool
    x1, y1, x2, y2 = _in_window(whole.xyxy, window)[0].tolist()
    own = (window.labels[y1:y2, x1:x2] == whole.label[0]) & (window.mask[y1:y2, x1:x2] > 0)
    value = np.where(own, glance.now[y1:y2, x1:x2], 0).astype(np.uint8)
    bound = float(glance.level[y1:y2, x1:x2][own].mean())
    parts = []
    for factor in (1, 2, 4, 8):
        if bound * factor > 200:
            break
        high = (value > int(bound * factor)).astype(np.uint8)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(high, connectivity=8)
        if count <= 1:
            break
        long = stats[:, 2:4].max(1)
        small = (long <= limit) & (stats[:, 4] >= 2)
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
        value[(long <= limit)[labels]] = 0
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
        xyxy=(box * window.pool + np.tile(whole.xyxy[0, :2], 2)).astype(np.float32),
        area=area.astype(np.float32) * window.pool**2,
        core=area.astype(np.float32) * window.pool**2,
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
