"""A look at the pixels of one sheet: where they differ from the background, how they hang together, what moved just now."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np

from streamdet.motion.activity import BLOCK_PX
from streamdet.motion.shapes import Planes, Window
from streamdet.motion.sheet import Sheet, pooled
from streamdet.types import F32, I32, U8, Bool

__all__ = ["Glance", "Pixels", "look"]

_KERNEL = np.ones((3, 3), np.uint8)
_NEAR = np.ones((7, 7), np.uint8)  # px within half the threshold count where one above it is this near
_STRIPE_PIXELS = 131_072


@dataclass(frozen=True, slots=True)
class Pixels:
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
    def concat(parts: list[Pixels], offsets: list[int]) -> Pixels:
        region = np.concatenate([part.region + offset for part, offset in zip(parts, offsets, strict=True)])
        rest = [np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Pixels)[1:]]
        return Pixels(region, *rest)


@dataclass(frozen=True, slots=True, eq=False)
class Glance:
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
    pixels: Pixels


def look(planes: Planes, sheet: Sheet, threshold: F32, first: int) -> Glance | None:
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
    number = sheet.number_at(x, y)
    bound = level.ravel()[at]
    shift = sheet.shift[number]
    place = y * pool + shift[..., 1], x * pool + shift[..., 0]
    pixels = Pixels(
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
    return Glance(sheet, windows, first, group, low, np.minimum(change, past), level, pixels)


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
