"""From changed blocks to regions: which pixels differ from the background, how they hang together, what they are like.

Pixels are looked at only inside windows round groups of active blocks. A pixel belongs to a region if it differs from
the background *now*; the place a mover has just left does not, so a mover is one region, at its present position.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from streamdet.motion.activity import BLOCK_PX
from streamdet.motion.glance import Glance, Pixels, look
from streamdet.motion.shapes import Planes, Shapes, Window
from streamdet.motion.sheet import Group, Sheet
from streamdet.types import F32, I32, I64, U8, Bool

__all__ = ["find_regions"]

_KERNEL = np.ones((3, 3), np.uint8)
_MOST_WINDOWS = 96
_MOST_DETAILS = 12
_DETAILS_ABOVE_PX = 24.0
_SMALLEST_AREA_PX = 2
_STANDS_OUT_SHARE = 0.1
_LARGE_SHARE = 0.8
_POOLED_ABOVE_PX = ((100_000, 4), (25_000, 2))  # windows of more pixels are looked at in squares of so many px


def find_regions(planes: Planes, active: Bool, threshold: F32, limit_px: float = 60.0) -> tuple[Shapes, list[Window]]:
    """Regions of pixels that differ from the background by more than `threshold` (grey levels per block) in `active` blocks.

    Groups of active blocks, with a margin of one block, are looked at side by side on a sheet; many or large groups in one go.
    Then all their regions are measured together, and the large ones searched for details no larger than `limit_px`.
    """
    if not active.any():
        return Shapes.concat([]), []
    glances: list[Glance] = []
    windows: list[Window] = []
    for sheet in _sheets(_groups(planes, active)):
        glance = look(planes, sheet, threshold, len(windows))
        if glance is not None:
            glances.append(glance)
            windows += glance.windows
    if not glances:
        return Shapes.concat([]), []
    whole, found = _measure(glances)
    long = (whole.xyxy[:, 2:] - whole.xyxy[:, :2]).max(1, initial=0)
    parts = [whole]
    for row in np.flatnonzero((long > _DETAILS_ABOVE_PX) & (whole.moving > 0.02)).tolist():
        part = _details(whole[row : row + 1], glances[found[row]], limit_px)
        if part is not None:
            parts.append(part)
            found = np.append(found, np.full(len(part), found[row]))
    return _with_surroundings(Shapes.concat(parts), glances, found), windows


def _groups(planes: Planes, active: Bool) -> list[Group]:
    """Px boxes round groups of active blocks, and which blocks in each are the group's own."""
    height, width = planes.luma.shape
    grown = cv2.dilate(active.astype(np.uint8), _KERNEL)
    count, groups, stats, _ = cv2.connectedComponentsWithStats(grown, connectivity=8)
    boxes = stats[1:, :4].astype(np.int64)
    if count - 1 > _MOST_WINDOWS or (boxes[:, 2] * boxes[:, 3]).sum() > _LARGE_SHARE * active.size:
        boxes, groups = np.array([[0, 0, active.shape[1], active.shape[0]]]), np.asarray(grown, np.int32)
    found = []
    for group, (column, row, columns, rows) in enumerate(boxes.tolist(), 1):
        own = groups[row : row + rows, column : column + columns] == group
        x1, y1 = column * BLOCK_PX, row * BLOCK_PX
        found.append(Group((x1, y1, min(x1 + columns * BLOCK_PX, width), min(y1 + rows * BLOCK_PX, height)), own))
    return found


def _sheets(groups: list[Group]) -> list[Sheet]:
    """The groups by how finely they are looked at."""
    pools = [next((pool for pixels, pool in _POOLED_ABOVE_PX if group.area_px > pixels), 1) for group in groups]
    return [
        Sheet([group for group, own in zip(groups, pools, strict=True) if own == pool], pool)
        for pool in sorted(set(pools))
    ]


def _measure(glances: list[Glance]) -> tuple[Shapes, I64]:
    """All regions of all windows, those that are no noise, and the glance of each."""
    counts = np.array([len(glance.group) for glance in glances])
    offsets = np.concatenate([[0], np.cumsum(counts)[:-1]])
    found = np.repeat(np.arange(len(glances)), counts)
    window = np.concatenate([glance.group + np.int32(glance.first) for glance in glances])
    p = Pixels.concat([glance.pixels for glance in glances], offsets.tolist())

    def total(weights: Any = None) -> F32:
        return np.bincount(p.region, weights, len(window)).astype(np.float32)

    pool = np.array([glance.sheet.pool for glance in glances], np.float32)[found]
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
    end = np.array([window.xyxy[2:] for glance in glances for window in glance.windows], np.float32)[window]
    shapes = Shapes(
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
        label=(np.arange(len(window)) - offsets[found] + 1).astype(np.int32),
    )
    return shapes[keep], found[keep]


def _tight(p: Pixels, contrast: F32, pool: F32, end: F32) -> F32:
    """Boxes round the pixels above a quarter of their region's contrast: what is fainter is blur, ringing or noise."""
    strong = np.flatnonzero(p.value > np.float32(0.25) * contrast[p.region])
    low = np.full((len(contrast), 2), np.iinfo(np.int32).max, np.int32)
    high = np.zeros((len(contrast), 2), np.int32)
    row, x, y = p.region[strong], p.x[strong], p.y[strong]
    low[row[::-1], 1], high[row, 1] = y[::-1], y  # pixels come line by line, and the last one written stays
    across = np.argsort(x.astype(np.uint16), kind="stable")
    row, x = row[across], x[across]
    low[row[::-1], 0], high[row, 0] = x[::-1], x
    corner = np.minimum(high + pool[:, None], end)
    return np.concatenate([low.astype(np.float32), corner.astype(np.float32)], 1)


def _with_surroundings(shapes: Shapes, glances: list[Glance], found: I64) -> Shapes:
    """Fill in ``around`` and ``around_now``."""
    around, around_now = np.zeros(len(shapes), np.float32), np.zeros(len(shapes), np.float32)
    for number, glance in enumerate(glances):
        rows = np.flatnonzero(found == number)
        now = cv2.bitwise_and(glance.mask, cv2.compare(glance.now, glance.level // 2, cv2.CMP_GT))
        group = shapes.window[rows] - glance.first
        box, bounds = _on_sheet(shapes.xyxy[rows], glance.sheet, group), glance.sheet.bounds()[group]
        around[rows] = _ring_share(glance.mask, box, bounds)
        around_now[rows] = _ring_share(np.asarray(now, np.uint8), box, bounds)
    return replace(shapes, around=around, around_now=around_now)


def _on_sheet(xyxy: F32, sheet: Sheet, group: I32) -> Any:
    """From px of the frame to pixels of a sheet, (R,4) int."""
    shift = sheet.shift[group]
    local = xyxy - np.concatenate([shift, shift], 1)
    return np.ceil(local / sheet.pool).astype(np.int64)  # only the far corner of a last, partial pixel is no multiple


def _ring_share(mask: U8, inner: Any, bounds: Any) -> F32:
    """(R,) share of set (255) pixels in a ring round each box, as wide as half the box and 3 px, within its `bounds`."""
    total = cv2.integral(mask)
    reach = 3 + (inner[:, 2:] - inner[:, :2]).max(1, keepdims=True) // 2
    outer = np.concatenate([inner[:, :2] - reach, inner[:, 2:] + reach], 1)
    outer = np.clip(outer, bounds[:, [0, 1, 0, 1]], bounds[:, [2, 3, 2, 3]])

    def inside(box: Any) -> Any:
        x1, y1, x2, y2 = box.T
        return total[y2, x2] - total[y1, x2] - total[y2, x1] + total[y1, x1]

    def size(box: Any) -> Any:
        return (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])

    share = (inside(outer) - inside(inner)) / 255 / np.maximum(size(outer) - size(inner), 1)
    return np.asarray(share, np.float32)


def _details(whole: Shapes, glance: Glance, limit_px: float) -> Shapes | None:
    """Small regions inside the large one `whole` that stand out at a higher level: a ball before a player.

    The threshold is doubled until parts no larger than `limit_px` come apart (a component tree with four levels).
    Only what moved here and now counts.
    """
    pool, window = glance.sheet.pool, glance.windows[whole.window[0] - glance.first]
    limit = limit_px / pool
    x1, y1, x2, y2 = _on_sheet(whole.xyxy, glance.sheet, whole.window - glance.first)[0].tolist()
    left, top = (glance.sheet.places[whole.window[0] - glance.first] // pool).tolist()
    own = window.labels[y1 - top : y2 - top, x1 - left : x2 - left] == whole.label[0]
    own &= glance.mask[y1:y2, x1:x2] > 0
    value = np.asarray(cv2.bitwise_and(glance.now[y1:y2, x1:x2], own.view(np.uint8) * np.uint8(255)), np.uint8)
    bound = float(cv2.mean(glance.level[y1:y2, x1:x2], own.view(np.uint8))[0])
    parts = []
    for factor in (1, 2, 4, 8):
        if bound * factor > 200:
            break
        high = value > int(bound * factor)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(high.view(np.uint8), connectivity=8)
        if count <= 1:
            break
        small = stats[:, 2:4].max(1) <= limit
        small[0] = False
        at = np.flatnonzero(high)
        flat, v = labels.ravel()[at], value.ravel()[at]
        rows = np.flatnonzero(small & (stats[:, 4] >= 2))
        if len(rows):
            weight = v.astype(np.float32)
            mass, square = np.bincount(flat, weight, count), np.bincount(flat, weight * weight, count)
            peak = (square / np.maximum(mass, 1))[rows]
            box = stats[rows, :4].astype(np.float32)
            box[:, 2:] += box[:, :2]
            parts.append((box, stats[rows, 4], peak, peak / (bound * factor)))
        value.ravel()[at[small[flat]]] = 0
        if small[1:].all():
            break
    if not parts:
        return None
    box, area, peak, prominence = (np.concatenate([p[k] for p in parts]) for k in range(4))
    order = np.argsort(-peak * np.sqrt(area), kind="stable")[:_MOST_DETAILS]
    box, area, peak, prominence = box[order], area[order], peak[order], prominence[order]
    n = len(box)
    one = np.ones(n, np.float32)
    return Shapes(
        xyxy=(box * pool + whole.xyxy[0, [0, 1, 0, 1]]).astype(np.float32),
        area=area.astype(np.float32) * pool**2,
        core=area.astype(np.float32) * pool**2,
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
