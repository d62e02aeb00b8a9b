"""A look at the pixels of one sheet: where they differ from the background, how they hang together, what moved just now."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np

from streamdet.motion.activity import BLOCK_PX, tolerant_difference
from streamdet.motion.shapes import Planes, Window
from streamdet.motion.sheet import Group, Sheet, pooled
from streamdet.types import F32, I32, I64, U8

__all__ = ["Glance", "Pixels", "flat", "look", "slack_differences", "whole_levels"]

_KERNEL = np.ones((3, 3), np.uint8)
_NEAR = np.ones((7, 7), np.uint8)  # px within half the threshold count where one above it is this near
_STRIPE_PIXELS = 131_072

_Place = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class Pixels:
    """P differing pixels, region by region, in each from top to bottom: place in px of the frame, change, and level.

    `moved`: 1 where it also differs from the preceding frame.
    """

    x: I32
    y: I32
    value: U8
    bound: U8
    moved: U8

    @staticmethod
    def concat(parts: list[Pixels]) -> Pixels:
        if len(parts) == 1:
            return parts[0]
        return Pixels(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Pixels)))


@dataclass(frozen=True, slots=True, eq=False)
class Glance:
    """One sheet with its measures: where pixels differ (`mask`), what moved here and now (`now`, the smaller of the differences
    to background and preceding frame), the level per pixel and half of it, and the differing pixels one by one.

    `windows`: the parts of the sheet; they are numbered from `first` on. `group`: the one each region lies in; `count`: its
    pixels. `out`: 1 for pixels that differ from the background with a pixel of slack too, None where nobody has looked yet.
    """

    sheet: Sheet
    windows: list[Window]
    first: int
    group: I32
    count: I64
    mask: U8
    now: U8
    level: U8
    half: U8
    pixels: Pixels
    out: U8 | None


def look(planes: Planes, sheet: Sheet, threshold: U8, first: int, *, dear: bool) -> Glance | None:
    """The differing pixels of a sheet's windows and how they hang together; None if there are none. `first`: windows before.

    `threshold`: whole grey levels by block of the frame (see :func:`whole_levels`). `dear`: nothing is told yet of which pixels
    differ with a pixel of slack.
    """
    level, half = _levels(sheet, threshold)
    change, past, loose = _differences(planes, sheet, dear=dear or planes.tolerant)
    near_core = cv2.dilate(cv2.compare(change, level, cv2.CMP_GT), _NEAR)
    low = np.asarray(cv2.bitwise_and(cv2.compare(change, half, cv2.CMP_GT), near_core), np.uint8)
    count, named = cv2.connectedComponents(cv2.dilate(low, _KERNEL), connectivity=8)
    if count <= 1:
        return None
    labels = np.asarray(named, np.int32)
    at = np.flatnonzero(low.view(np.bool_))
    region = labels.ravel().take(at)
    order = np.argsort(region.astype(np.uint16) if count <= 1 << 16 else region, kind="stable")
    at = at.take(order)
    counts = np.bincount(region, minlength=count)[1:]
    place = at.astype(np.int32)
    y = place // np.int32(low.shape[1])
    x = place - y * np.int32(low.shape[1])
    start = np.cumsum(counts) - counts
    group = sheet.number_at(x[start], y[start])
    shift = sheet.shift[group].astype(np.int32)
    for line, off in ((x, shift[:, 0]), (y, shift[:, 1])):
        line *= np.int32(sheet.pool)
        line += off.repeat(counts)
    under = half.ravel().take(at)
    pixels = Pixels(
        x=x,
        y=y,
        value=change.ravel().take(at),
        bound=level.ravel().take(at),
        moved=(past.ravel().take(at) > under).view(np.uint8),
    )
    windows = [
        Window(g.xyxy, labels[part], low[part], sheet.pool) for g, part in zip(sheet.groups, sheet.parts, strict=True)
    ]
    now = np.asarray(cv2.min(change, past), np.uint8)
    out = None if loose is None else (loose.ravel().take(at) > under).view(np.uint8)
    return Glance(sheet, windows, first, group, counts, low, now, level, half, pixels, out)


def whole_levels(threshold: F32) -> U8:
    """A block map of thresholds as they are compared with pixels."""
    return np.clip(threshold, 2, 250).astype(np.uint8)


def _levels(sheet: Sheet, threshold: U8) -> tuple[U8, U8]:
    """Threshold per (pooled) pixel of the sheet, and half of it; what is not the sheet's own to look at differs never."""
    level = sheet.spread(threshold, between=255)
    half = level // np.uint8(2)
    others = ~sheet.own
    level[others] = half[others] = 255
    return sheet.enlarged(level), sheet.enlarged(half)


def _differences(planes: Planes, sheet: Sheet, *, dear: bool) -> tuple[U8, U8, U8 | None]:
    """(Pooled) differences on a sheet: to the background, to the preceding frame, and to the background with a pixel of slack.

    0 between its windows. The last is None where it is `dear`, and seldom needed of every pixel.
    """
    if sheet.pool == 1 and not planes.tolerant:
        now, background, previous = sheet.gather(planes.luma, planes.background, planes.previous)
        change, past = (np.asarray(cv2.absdiff(now, then), np.uint8) for then in (background, previous))
        if dear:
            return change, past, None
        loose = tolerant_difference(now, background)
        height, width = planes.luma.shape
        border = ((sheet.xyxy == 0) | (sheet.xyxy == [width, height, width, height])).any(1)
        for number in np.flatnonzero(border).tolist():  # beyond the border of the picture lies nothing, not black
            place, part = sheet.groups[number].place, sheet.parts[number]
            loose[part] = tolerant_difference(planes.luma[place], planes.background[place])
        return change, past, loose
    change, past, loose = (np.zeros(sheet.pooled_shape, np.uint8) for _ in range(3))
    for group, part in zip(sheet.groups, sheet.parts, strict=True):
        place = group.place
        now, background, previous = planes.luma[place], planes.background[place], planes.previous[place]
        strips = _strips(group, sheet.pool)
        pairs = (background, change[part]), (previous, past[part])
        if planes.tolerant:
            for then, found in pairs:
                _slack_difference(now, then, strips, sheet.pool, found)
        else:
            for here, inside in strips:
                for then, found in pairs:
                    difference: Any = cv2.absdiff(now[here], then[here])
                    found[inside] = pooled(difference, sheet.pool)
        if not dear:
            _slack_difference(now, background, strips, sheet.pool, loose[part])
    return change, past, None if dear else loose


def slack_differences(planes: Planes, sheet: Sheet, numbers: list[int]) -> U8:
    """(Pooled) differences to the background with a pixel of slack, of some of a sheet's windows."""
    loose = np.zeros(sheet.pooled_shape, np.uint8)
    for number in numbers:
        group = sheet.groups[number]
        place = group.place
        strips, found = _strips(group, sheet.pool), loose[sheet.parts[number]]
        _slack_difference(planes.luma[place], planes.background[place], strips, sheet.pool, found)
    return loose


def _slack_difference(now: U8, then: U8, strips: list[tuple[_Place, _Place]], pool: int, found: U8) -> None:
    """Fill in `found`, a group's (pooled) :func:`~streamdet.motion.activity.tolerant_difference`."""
    for here, inside in strips:
        found[inside] = pooled(_tolerant_difference(now, then, here), pool)


def _strips(group: Group, pool: int) -> list[tuple[_Place, _Place]]:
    """Parts of the group's window, px, that stay in the cache and cover its own blocks; and the same in squares of `pool` px."""
    x1, y1, x2, y2 = group.xyxy
    height, width = y2 - y1, x2 - x1
    step = max(1, _STRIPE_PIXELS // width // BLOCK_PX)
    if step >= len(group.own):
        return [(np.s_[:height, :width], np.s_[: -(-height // pool), : -(-width // pool)])]
    strips = []
    firsts = range(0, len(group.own), step)
    for first, columns in zip(firsts, np.logical_or.reduceat(group.own, firsts), strict=True):
        if columns.any():
            top, bottom = first * BLOCK_PX, min((first + step) * BLOCK_PX, height)
            left = int(columns.argmax()) * BLOCK_PX
            right = min((len(columns) - int(columns[::-1].argmax())) * BLOCK_PX, width)
            strips.append(
                (
                    np.s_[top:bottom, left:right],
                    np.s_[top // pool : -(-bottom // pool), left // pool : -(-right // pool)],
                )
            )
    return strips


def _tolerant_difference(now: U8, then: U8, here: _Place) -> U8:
    """:func:`~streamdet.motion.activity.tolerant_difference` of a part of a window."""
    rows, columns = here
    first, left = rows.start or 0, columns.start or 0
    above, before = min(first, 1), min(left, 1)
    wider = np.s_[first - above : rows.stop + 1, left - before : columns.stop + 1]
    inner = np.s_[above : rows.stop - first + above, before : columns.stop - left + before]
    return np.ascontiguousarray(tolerant_difference(now[wider], then[wider])[inner])


def flat(plane: U8) -> tuple[U8, int]:
    """The plane's memory as one line, to take single pixels from, and how far apart its rows are in it."""
    pitch = plane.strides[0]
    if plane.flags.c_contiguous:
        return plane.reshape(-1), plane.shape[1]
    if plane.strides[1] != 1 or pitch < plane.shape[1]:
        return np.ascontiguousarray(plane).ravel(), plane.shape[1]
    size = (plane.shape[0] - 1) * pitch + plane.shape[1]
    return np.lib.stride_tricks.as_strided(plane, (size,), (1,), writeable=False), pitch
