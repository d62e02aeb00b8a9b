"""From changed blocks to regions: which pixels differ from the background, how they hang together, what they are like.

Pixels are looked at only inside windows round groups of active blocks. A pixel belongs to a region if it differs from
the background *now*; the place a mover has just left does not, so a mover is one region, at its present position.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import cv2
import numpy as np

from streamdet.motion.activity import BLOCK_PX
from streamdet.motion.sheet import Box, Group, Sheet, pooled
from streamdet.types import F32, I32, I64, U8, Bool

__all__ = ["Box", "Planes", "Shapes", "Window", "find_regions"]

_KERNEL = np.ones((3, 3), np.uint8)
_NEAR = np.ones((7, 7), np.uint8)  # px within half the threshold count where one above it is this near
_MOST_WINDOWS = 96
_MOST_DETAILS = 12
_DETAILS_ABOVE_PX = 24.0
_SMALLEST_AREA_PX = 2
_STANDS_OUT_SHARE = 0.1
_LARGE_SHARE = 0.8
_STRIPE_PIXELS = 65_536
_POOLED_ABOVE_PX = ((100_000, 4), (25_000, 2))  # windows of more pixels are looked at in squares of so many px


@dataclass(frozen=True, slots=True)
class Planes:
    """The aligned planes of one frame; `tolerant`: compare with a pixel of slack, because the camera moves."""

    luma: U8
    previous: U8
    background: U8
    tolerant: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle that was looked at: `labels` say which region each pixel belongs to, `mask` which pixels differ.

    In a large window a "pixel" is a square of `pool` px.
    """

    xyxy: Box
    labels: I32
    mask: U8
    pool: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class _Glance:
    """One sheet with its measures: where pixels differ (`mask`), what moved here and now (`now`, the smaller of the differences
    to background and preceding frame), the level per pixel, and the differing pixels one by one.

    `windows`: the parts of the sheet; they are numbered from `first` on. `group`: the one each region lies in.
    """

    sheet: Sheet
    windows: list[Window]
    first: int
    group: I32
    mask: U8
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

    Groups of active blocks, with a margin of one block, are looked at side by side on a sheet; many or large groups in one go.
    Then all their regions are measured together, and the large ones searched for details no larger than `limit_px`.
    """
    if not active.any():
        return Shapes.concat([]), []
    glances: list[_Glance] = []
    windows: list[Window] = []
    for sheet in _sheets(_groups(planes, active)):
        glance = _look(planes, sheet, threshold, len(windows))
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


def _look(planes: Planes, sheet: Sheet, threshold: F32, first: int) -> _Glance | None:
    """The differing pixels of a sheet's windows and how they hang together; None if there are none. `first`: windows before."""
    pool = sheet.pool
    level = sheet.spread(np.clip(threshold, 2, 250), between=255)
    half = level // 2
    change, loose, past = _differences(planes, sheet)
    near_core = cv2.dilate(cv2.compare(change, level, cv2.CMP_GT), _NEAR)
    low = np.asarray(cv2.bitwise_and(cv2.compare(change, half, cv2.CMP_GT), near_core), np.uint8)
    if not sheet.own.all():  # blocks of another group inside this rectangle are looked at with their own
        low = np.asarray(cv2.bitwise_and(low, sheet.enlarged(sheet.own.astype(np.uint8) * np.uint8(255))), np.uint8)
    count, labels = cv2.connectedComponents(cv2.dilate(low, _KERNEL), connectivity=8)
    if count <= 1:
        return None
    at = np.flatnonzero(low > 0)
    y, x = np.divmod(at, low.shape[1])
    number = sheet.number[y * pool // BLOCK_PX, x * pool // BLOCK_PX]
    bound = level.ravel()[at]
    place = y * pool + sheet.shift[number, 1], x * pool + sheet.shift[number, 0]
    pixels = _Pixels(
        region=labels.ravel()[at] - 1,
        x=place[1],
        y=place[0],
        value=change.ravel()[at].astype(np.float32),
        bound=bound.astype(np.float32),
        # edges of what stands still differ when camera or air tremble by a fraction of a pixel; with a pixel of slack not
        stands_out=loose.ravel()[at] > bound // 2,
        moved=past.ravel()[at] > bound // 2,
        brighter=planes.luma[place] > planes.background[place],
    )
    group = np.zeros(count - 1, np.int32)
    group[pixels.region] = number
    labels = np.asarray(labels, np.int32)
    windows = [Window(g.xyxy, sheet.part(k, labels), sheet.part(k, low), pool) for k, g in enumerate(sheet.groups)]
    return _Glance(sheet, windows, first, group, low, np.minimum(change, past), level, pixels)


def _differences(planes: Planes, sheet: Sheet) -> tuple[U8, U8, U8]:
    """(Pooled) differences on a sheet: to the background, to it with a pixel of slack, and to the preceding frame.

    Line by line of stripes that stay in the cache.
    """
    pool, (width, height) = sheet.pool, sheet.wh
    now, background, previous = (sheet.gather(p) for p in (planes.luma, planes.background, planes.previous))
    # what lies between the windows must have no say: it is lowest where the highest is sought, and highest where the lowest
    roofs = [
        sheet.gather(p, between=255)
        for p in ((planes.background, planes.previous) if planes.tolerant else (planes.background,))
    ]
    change, loose, past = (np.zeros((-(-height // pool), -(-width // pool)), np.uint8) for _ in range(3))
    stripe = max(BLOCK_PX, _STRIPE_PIXELS // width // BLOCK_PX * BLOCK_PX)
    for top in range(0, height, stripe):
        bottom = min(top + stripe, height)
        columns = np.flatnonzero(sheet.own[top // BLOCK_PX : -(-bottom // BLOCK_PX)].any(0))
        if not len(columns):
            continue
        left, right = int(columns[0]) * BLOCK_PX, min((int(columns[-1]) + 1) * BLOCK_PX, width)
        part = np.s_[top // pool : -(-bottom // pool), left // pool : -(-right // pool)]
        here = np.s_[top:bottom, left:right]
        loose[part] = pooled(_tolerant_difference(now, background, roofs[0], here), pool)
        if planes.tolerant:
            change[part] = loose[part]
            past[part] = pooled(_tolerant_difference(now, previous, roofs[1], here), pool)
        else:
            change[part] = pooled(np.asarray(cv2.absdiff(now[here], background[here]), np.uint8), pool)
            past[part] = pooled(np.asarray(cv2.absdiff(now[here], previous[here]), np.uint8), pool)
    return change, loose, past


def _tolerant_difference(now: U8, floor: U8, roof: U8, here: tuple[slice, slice]) -> U8:
    """:func:`~streamdet.motion.activity.tolerant_difference` of a part of the planes."""
    rows, columns = here
    top, left = max(rows.start - 1, 0), max(columns.start - 1, 0)
    wider = np.s_[top : rows.stop + 1, left : columns.stop + 1]
    inner = np.s_[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    above = cv2.subtract(now[here], cv2.dilate(floor[wider], _KERNEL)[inner])
    below = cv2.subtract(cv2.erode(roof[wider], _KERNEL)[inner], now[here])
    return np.asarray(cv2.max(above, below), np.uint8)


def _measure(glances: list[_Glance]) -> tuple[Shapes, I64]:
    """All regions of all windows, those that are no noise, and the glance of each."""
    counts = np.array([len(glance.group) for glance in glances])
    offsets = np.concatenate([[0], np.cumsum(counts)[:-1]])
    found = np.repeat(np.arange(len(glances)), counts)
    window = np.concatenate([glance.group + np.int32(glance.first) for glance in glances])
    p = _Pixels.concat([glance.pixels for glance in glances], offsets.tolist())

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


def _tight(p: _Pixels, contrast: F32, pool: F32, end: F32) -> F32:
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


def _with_surroundings(shapes: Shapes, glances: list[_Glance], found: I64) -> Shapes:
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
    local = xyxy - np.tile(sheet.shift[group], 2)
    return np.ceil(local / sheet.pool).astype(np.int64)  # only the far corner of a last, partial pixel is no multiple


def _ring_share(mask: U8, inner: Any, bounds: Any) -> F32:
    """(R,) share of set (255) pixels in a ring round each box, as wide as half the box and 3 px, within its `bounds`."""
    total = cv2.integral(mask)
    reach = 3 + (inner[:, 2:] - inner[:, :2]).max(1, keepdims=True) // 2
    outer = np.concatenate([inner[:, :2] - reach, inner[:, 2:] + reach], 1)
    outer = np.clip(outer, np.tile(bounds[:, :2], 2), np.tile(bounds[:, 2:], 2))

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
        high = (value > int(bound * factor)).view(np.uint8)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(high, connectivity=8)
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
        xyxy=(box * pool + np.tile(whole.xyxy[0, :2], 2)).astype(np.float32),
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
