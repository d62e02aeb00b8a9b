"""From changed blocks to regions: which pixels differ from the background, how they hang together, what they are like.

Pixels are looked at only inside windows round groups of active blocks. A pixel belongs to a region if it differs from
the background *now*; the place a mover has just left does not, so a mover is one region, at its present position.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from streamdet.motion.activity import BLOCK_PX, components, mean_within
from streamdet.motion.glance import Glance, Pixels, flat, look, whole_levels
from streamdet.motion.shapes import SPLIT_BELOW_PX, STILL_BELOW, Planes, Shapes, Window
from streamdet.motion.sheet import Group, Sheet
from streamdet.motion.tremble import stand_out
from streamdet.types import F32, I64, Bool

__all__ = ["find_regions"]

_KERNEL = np.ones((3, 3), np.uint8)
_MOST_WINDOWS = 96
_MOST_DETAILS = 12
_DETAILS_ABOVE_PX = 24.0
_SMALLEST_AREA_PX = 2
_LARGE_SHARE = 0.8
_DEAR_PIXELS = 150_000  # looked at, from which on it is cheaper to try a few of each region for what differs with slack
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
    level = whole_levels(threshold)
    sheets = _sheets(_groups(planes, active))
    dear = sum(int(np.count_nonzero(sheet.own)) for sheet in sheets) * BLOCK_PX**2 > _DEAR_PIXELS
    for sheet in sheets:
        glance = look(planes, sheet, level, len(windows), dear=dear)
        if glance is not None:
            glances.append(glance)
            windows += glance.windows
    if not glances:
        return Shapes.concat([]), []
    whole, found = _measure(planes, glances)
    return _with_surroundings(*_with_details(whole, found, glances, limit_px), glances), windows


def _groups(planes: Planes, active: Bool) -> list[Group]:
    """Px boxes round groups of active blocks, and which blocks in each are the group's own."""
    height, width = planes.luma.shape
    grown = cv2.dilate(active.astype(np.uint8), _KERNEL)
    count, groups, stats = components(grown)
    boxes = stats[1:, :4].astype(np.int64)
    if count - 1 > _MOST_WINDOWS or (boxes[:, 2] * boxes[:, 3]).sum() > _LARGE_SHARE * active.size:
        boxes, groups = np.array([[0, 0, active.shape[1], active.shape[0]]]), np.asarray(grown, np.int32)
    found = []
    far = np.minimum((boxes[:, :2] + boxes[:, 2:]) * BLOCK_PX, [width, height]).tolist()
    for group, ((column, row, columns, rows), (x2, y2)) in enumerate(zip(boxes.tolist(), far, strict=True), 1):
        own = groups[row : row + rows, column : column + columns] == group
        found.append(Group((column * BLOCK_PX, row * BLOCK_PX, x2, y2), own))
    return found


def _sheets(groups: list[Group]) -> list[Sheet]:
    """The groups by how finely they are looked at."""
    sheets: dict[int, list[Group]] = {}
    for group in groups:
        area = group.area_px
        sheets.setdefault(next((pool for pixels, pool in _POOLED_ABOVE_PX if area > pixels), 1), []).append(group)
    return [Sheet(sheets[pool], pool) for pool in sorted(sheets)]


def _measure(planes: Planes, glances: list[Glance]) -> tuple[Shapes, I64]:
    """All regions of all windows, those that are no noise, and the glance of each."""
    regions = np.array([len(glance.group) for glance in glances])
    found = np.repeat(np.arange(len(glances)), regions)
    window = np.concatenate([glance.group + np.int32(glance.first) for glance in glances])
    counts = np.concatenate([glance.count for glance in glances])
    p = Pixels.concat([glance.pixels for glance in glances])
    start = np.cumsum(counts) - counts

    def total(column: Any) -> F32:
        return np.add.reduceat(column, start, dtype=np.int64).astype(np.float32)

    pool = np.array([glance.sheet.pool for glance in glances], np.float32)[found]
    core, n = total(p.value > p.bound), counts.astype(np.float32)
    squares = np.square(p.value, dtype=np.uint16)
    contrast = np.asarray(total(squares) / np.maximum(total(p.value), 1), np.float32)
    rows = np.flatnonzero((core > 0) & (n * pool**2 >= _SMALLEST_AREA_PX))
    rows = rows[stand_out(planes, glances, p, counts, contrast, rows)]
    ratio = contrast * n / total(p.bound).clip(1)
    none = np.zeros(len(window), np.float32)
    end = np.array([window.xyxy[2:] for glance in glances for window in glance.windows], np.float32)[window]
    shapes = Shapes(
        xyxy=_tight(p, counts, contrast, pool, end),
        area=n * pool**2,
        core=core * pool**2,
        contrast=contrast,
        ratio=ratio,
        moving=(total(p.moved) / n).astype(np.float32),
        sign=none + 1,
        prominence=ratio,
        rank=np.full(len(window), -1, np.int32),
        parent=none,
        around=none,
        around_now=none,
        window=window,
        label=np.concatenate([np.arange(1, count + 1, dtype=np.int32) for count in regions.tolist()]),
    )
    shapes = shapes[rows]
    return replace(shapes, sign=_signs(planes, p, start[rows], counts[rows], shapes)), found[rows]


def _signs(planes: Planes, p: Pixels, start: I64, counts: I64, shapes: Shapes) -> F32:
    """(R,) mean signs of the differences to the background, of those that are asked for them: small ones that stand."""
    sign = np.ones(len(shapes), np.float32)
    rows = np.flatnonzero((shapes.moving < STILL_BELOW) & (_areas(shapes.xyxy) <= SPLIT_BELOW_PX))
    if len(rows):
        first, many = start[rows], counts[rows]
        begin = np.cumsum(many) - many
        at = np.arange(int(many.sum())) + (first - begin).repeat(many)
        x, y = p.x.take(at).astype(np.int64), p.y.take(at).astype(np.int64)
        (luma, pitch), (background, other) = flat(planes.luma), flat(planes.background)
        brighter = luma.take(y * pitch + x) > background.take(y * other + x)
        sign[rows] = (
            np.add.reduceat(brighter, begin, dtype=np.int64).astype(np.float32) / many.astype(np.float32) * 2 - 1
        )
    return sign


def _areas(xyxy: F32) -> F32:
    return np.asarray((xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1]), np.float32)


def _tight(p: Pixels, counts: I64, contrast: F32, pool: F32, end: F32) -> F32:
    """Boxes round the pixels above a quarter of their region's contrast: what is fainter is blur, ringing or noise."""
    strong = p.value > (np.float32(0.25) * contrast).astype(np.uint8).repeat(counts)  # above it is above its whole part
    counts = np.add.reduceat(strong, np.cumsum(counts) - counts, dtype=np.int64)
    stop = np.cumsum(counts)
    start = stop - counts  # the strongest is always among them
    at = strong.nonzero()[0]
    x, y = p.x.take(at), p.y.take(at)
    low = np.stack([np.minimum.reduceat(x, start), y[start]], 1)  # pixels come line by line
    high = np.stack([np.maximum.reduceat(x, start), y[stop - 1]], 1)
    corner = np.minimum(high + pool[:, None], end)
    return np.concatenate([low.astype(np.float32), corner.astype(np.float32)], 1)


def _with_surroundings(shapes: Shapes, found: I64, glances: list[Glance]) -> Shapes:
    """Fill in ``around`` and ``around_now``: shares of differing pixels in a ring round each box, as wide as half the box and
    3 px, within its window."""
    around, around_now = np.zeros(len(shapes), np.float32), np.zeros(len(shapes), np.float32)
    inner = _on_sheet(shapes, found, glances)
    x1, y1, x2, y2 = inner
    reach = 3 + np.maximum(x2 - x1, y2 - y1) // 2
    outer = np.stack([x1 - reach, y1 - reach, x2 + reach, y2 + reach])
    bounds = np.concatenate([glance.sheet.bounds for glance in glances]).T[:, shapes.window]
    np.maximum(outer[:2], bounds[:2], out=outer[:2])
    np.minimum(outer[2:], bounds[2:], out=outer[2:])
    ring = np.maximum(_size(outer) - _size(inner), 1)
    pitch = np.array([glance.mask.shape[1] + 1 for glance in glances])[found]
    places = np.concatenate([_corners(outer, pitch), _corners(inner, pitch)])
    for number, glance in enumerate(glances):
        rows = (found == number).nonzero()[0]
        now = cv2.bitwise_and(glance.mask, cv2.compare(glance.now, glance.half, cv2.CMP_GT))
        for mask, shares in ((glance.mask, around), (now, around_now)):
            a, b, c, d, e, f, g, h = np.asarray(cv2.integral(mask)).ravel().take(places[:, rows])
            shares[rows] = ((a - b - c + d) - (e - f - g + h)) / 255 / ring[rows]
    return replace(shapes, around=around, around_now=around_now)


def _on_sheet(shapes: Shapes, found: I64, glances: list[Glance]) -> I64:
    """(4,R) x1, y1, x2, y2 of the regions' boxes in pixels of their sheets."""
    shift = np.concatenate([glance.sheet.shift for glance in glances]).T[:, shapes.window]
    pool = np.array([glance.sheet.pool for glance in glances])[found]
    local = shapes.xyxy.T - np.concatenate([shift, shift])
    return np.asarray(np.ceil(local / pool), np.int64)  # only the far corner of a last, partial pixel is no multiple


def _size(box: I64) -> I64:
    """(R,) pixels in boxes (4,R)."""
    return np.asarray((box[2] - box[0]) * (box[3] - box[1]))


def _corners(box: I64, pitch: I64) -> I64:
    """(4,R) where the sums of boxes (4,R) are in integrals with rows so long."""
    left, right = box[0], box[2]
    top, bottom = box[1::2] * pitch
    return np.asarray(np.stack([bottom + right, top + right, bottom + left, top + left]))


def _with_details(whole: Shapes, found: I64, glances: list[Glance], limit_px: float) -> tuple[Shapes, I64]:
    """All regions, then the details of the large ones that move; and the glance of each."""
    long = (whole.xyxy[:, 2:] - whole.xyxy[:, :2]).max(1, initial=0)
    rows = np.flatnonzero((long > _DETAILS_ABOVE_PX) & (whole.moving > 0.02))
    parts: list[tuple[Any, ...]] = []
    for row in rows.tolist():
        parts += _details(whole, row, glances[found[row]], limit_px)
    if not parts:
        return whole, found
    counts = [len(part[1]) for part in parts]
    of, bound, level = (np.repeat(np.array([part[k] for part in parts]), counts) for k in (0, 4, 5))
    box, area, peak = (np.concatenate([part[k] for part in parts]) for k in (1, 2, 3))
    order = np.lexsort((-peak * np.sqrt(area), of))  # the clearest of each
    first = np.searchsorted(of[order], of[order])
    rank = np.arange(len(order)) - first
    best = order[rank < _MOST_DETAILS]
    of, bound, level, box, area, peak = (column[best] for column in (of, bound, level, box, area, peak))
    pool = np.array([glance.sheet.pool for glance in glances], np.float32)[found[of]]
    one, size = np.ones(len(of), np.float32), area.astype(np.float32) * pool**2
    xyxy = np.concatenate([box[:, :2], box[:, :2] + box[:, 2:]], 1).astype(np.float32) * pool[:, None]
    xyxy += whole.xyxy[of][:, [0, 1, 0, 1]]
    details = Shapes(
        xyxy=np.concatenate(
            [xyxy[:, :2], np.minimum(xyxy[:, 2:], whole.xyxy[of][:, 2:])], 1
        ),  # a last pixel may be partial
        area=size,
        core=size,
        contrast=peak.astype(np.float32),
        ratio=(peak / bound).astype(np.float32),
        moving=one,
        sign=one,
        prominence=(peak / level).astype(np.float32),
        rank=rank[rank < _MOST_DETAILS].astype(np.int32),
        parent=whole.area[of],
        around=one,
        around_now=one,
        window=whole.window[of],
        label=np.zeros(len(of), np.int32),
    )
    return Shapes.concat([whole, details]), np.concatenate([found, found[of]])


def _details(whole: Shapes, row: int, glance: Glance, limit_px: float) -> list[tuple[Any, ...]]:
    """Small regions inside a large one, row `row` of `whole`, that stand out at a higher level: a ball before a player.

    The threshold is doubled until parts no larger than `limit_px` come apart (a component tree with four levels).
    Only what moved here and now counts. Returns for each level at which there are some: `row`, x, y, w, h (N,4) in (pooled)
    pixels from the large one's corner, areas in those, contrast (each (N,)), the large one's threshold, and the level.
    """
    sheet, number = glance.sheet, int(whole.window[row]) - glance.first
    limit = limit_px / sheet.pool
    x1, y1, x2, y2 = sheet.here(whole.xyxy[row].tolist(), number)
    left, top = sheet.bounds[number, :2].tolist()
    own = (glance.windows[number].labels[y1 - top : y2 - top, x1 - left : x2 - left] == whole.label[row]).view(np.uint8)
    own &= glance.mask[y1:y2, x1:x2]  # 1, and 255 of those
    value = np.asarray(glance.now[y1:y2, x1:x2] * own, np.uint8)
    bound = mean_within(glance.level[y1:y2, x1:x2], own)
    line = value.ravel()
    parts: list[tuple[Any, ...]] = []
    for factor in (1, 2, 4, 8):
        if bound * factor > 200:
            break
        high = value > int(bound * factor)
        count, labels, stats = components(high.view(np.uint8))
        if count <= 1:
            break
        small = np.maximum(stats[:, 2], stats[:, 3]) <= limit
        small[0] = False
        if small.any():
            at = high.ravel().nonzero()[0]
            part = labels.ravel().take(at)
            rows = (small & (stats[:, 4] >= 2)).nonzero()[0]
            if len(rows):
                weight = line.take(at).astype(np.float32)
                mass, square = np.bincount(part, weight, count), np.bincount(part, weight * weight, count)
                peak = (square / np.maximum(mass, 1))[rows]
                parts.append((row, stats[rows, :4], stats[rows, 4], peak, bound, bound * factor))
            if small[1:].all():
                break
            line[at[small[part]]] = 0
    return parts
