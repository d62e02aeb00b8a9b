"""Is a region a mover, a ghost, or a fragment of something else? And how sure is that?"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from streamdet.motion.activity import BLOCK_PX, enlarged, mean_within
from streamdet.motion.background import Patch
from streamdet.motion.shapes import SPLIT_BELOW_PX, STILL_BELOW, Planes, Shapes, Window
from streamdet.types import F32, I64, U8, Bool

__all__ = ["Verdict", "judge"]

F64 = NDArray[np.float64]

_KERNEL = np.ones((3, 3), np.uint8)
_MOST_TESTED = 48
_TEST_EVERY_S = 0.15
_LARGE_BLOCKS, _LARGE_EVERY_S = 40, 0.6  # what is large is dear to test, and comes and goes slowly
# what a codec leaves behind: a few pixels, faint, there since the last key frame
_SPECK_AREA_PX, _SPECK_RATIO, _SPECK_HOLD_S = 16.0, 2.5, 1.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """keep (R,): which regions are real; patches: where the background is wrong and takes the picture over."""

    keep: Bool
    patches: list[Patch]


def judge(planes: Planes, shapes: Shapes, windows: list[Window], age_s: F32, hold_s: float, dt_s: float) -> Verdict:
    """Sort out ghosts (the background shows what is no longer there) and what has stood still for `hold_s` seconds.

    `age_s` (block map) is updated in place: how long something has stood still in each block.
    """
    keep = np.ones(len(shapes), bool)
    patches: list[Patch] = []
    standing = np.zeros(age_s.shape, bool)
    still = np.flatnonzero(shapes.moving < STILL_BELOW)
    if len(still):
        still = still[np.argsort(-shapes.area[still], kind="stable")]
        near = shapes.xyxy[still].astype(np.int64)
        near[:, 2:] += BLOCK_PX - 1
        near //= BLOCK_PX
        speck = (shapes.area[still] < _SPECK_AREA_PX) & (shapes.ratio[still] < _SPECK_RATIO)
        settled = _settled(age_s, near, np.where(speck, min(_SPECK_HOLD_S, hold_s), hold_s))
        patches += [_mask_of(shapes, windows, row, planes.luma.shape) for row in still[settled].tolist()]
        keep[still[settled]] = False
        for left, top, right, bottom in near[~settled].tolist():
            standing[top:bottom, left:right] = True
        for row in still[:_MOST_TESTED][_due(age_s, near[:_MOST_TESTED], dt_s) & ~settled[:_MOST_TESTED]].tolist():
            x, y, mask = _mask_of(shapes, windows, row, planes.luma.shape)
            found = _ghosts(planes, x, y, mask, mixed=abs(float(shapes.sign[row])) < 0.9)
            patches += [(x, y, np.asarray(cv2.dilate(ghost, _KERNEL), np.uint8)) for ghost in found]
            if found and sum(map(cv2.countNonZero, found)) > 0.7 * cv2.countNonZero(mask):
                keep[row] = False
    age_s += np.float32(dt_s)
    age_s[~standing] = 0
    return Verdict(keep, patches)


def _settled(age_s: F32, blocks: I64, patience_s: F64) -> Bool:
    """(K,) whether something has stood in most of the blocks (xyxy) for longer than `patience_s`, of which there are few."""
    left, top, right, bottom = blocks.T
    size = (right - left) * (bottom - top)
    settled = np.zeros(len(blocks), np.bool_)
    for patience in set(patience_s.tolist()):
        old = cv2.integral((age_s > np.float64(patience)).view(np.uint8))
        count = old[bottom, right] - old[top, right] - old[bottom, left] + old[top, left]
        settled |= (patience_s == patience) & (count >= size - size // 2)
    return settled


def _due(age_s: F32, blocks: I64, dt_s: float) -> Bool:
    """(K,) what is tested in this frame: when it appears, and now and then; what becomes a ghost later is found soon enough."""
    left, top, right, bottom = blocks.T
    least = np.minimum(
        np.minimum(age_s[top, left], age_s[top, right - 1]),
        np.minimum(age_s[bottom - 1, left], age_s[bottom - 1, right - 1]),
    ).astype(np.float64)
    for row in np.flatnonzero((right - left > 2) | (bottom - top > 2)).tolist():
        least[row] = age_s[top[row] : bottom[row], left[row] : right[row]].min()
    large = (right - left) * (bottom - top) > _LARGE_BLOCKS
    every_s = np.where(large, _LARGE_EVERY_S, _TEST_EVERY_S)
    return np.asarray((least + 0.02 * (left % 4)) % every_s <= dt_s, np.bool_)


def _mask_of(shapes: Shapes, windows: list[Window], row: int, shape: tuple[int, ...]) -> tuple[int, int, U8]:
    """The pixels of a region as a mask with 2 px of margin, and the mask's place."""
    window = windows[shapes.window[row]]
    x1, y1, x2, y2 = map(int, shapes.xyxy[row].tolist())
    (wx, wy), pool = window.xyxy[:2], window.pool
    inside = np.s_[(y1 - wy) // pool : -(-(y2 - wy) // pool), (x1 - wx) // pool : -(-(x2 - wx) // pool)]
    own = (window.labels[inside] == shapes.label[row]).view(np.uint8)
    own &= window.mask[inside]  # 1, and 255 of those
    if pool > 1:
        own = enlarged(own, pool)[: y2 - y1, : x2 - x1]
    left, top = min(2, x1), min(2, y1)
    right, bottom = min(2, shape[1] - x2), min(2, shape[0] - y2)
    padded = cv2.copyMakeBorder(own, top, bottom, left, right, cv2.BORDER_CONSTANT, value=0)
    return x1 - left, y1 - top, np.asarray(padded, np.uint8)


def _ghosts(planes: Planes, x: int, y: int, mask: U8, *, mixed: bool) -> list[U8]:
    """The parts of `mask` whose outline is an edge in the background but not in the picture.

    A creeping object and the place it has left hang together; their differences have opposite signs, so parts of
    one sign are tried on their own.
    """
    height, width = mask.shape
    now = planes.luma[y : y + height, x : x + width]
    then = planes.background[y : y + height, x : x + width]
    edges_now, edges_then = (
        np.asarray(cv2.morphologyEx(p, cv2.MORPH_GRADIENT, _KERNEL), np.uint8) for p in (now, then)
    )

    def is_ghost(part: U8) -> bool:
        outline = cv2.morphologyEx(part, cv2.MORPH_GRADIENT, _KERNEL)
        return mean_within(edges_then, outline) > 1.5 * mean_within(edges_now, outline) + 3.0

    if is_ghost(mask):
        return [mask]
    if not mixed or mask.size > SPLIT_BELOW_PX:
        return []
    brighter = (now > then).astype(np.uint8)
    parts = (np.asarray(mask & brighter, np.uint8), np.asarray(mask & (1 - brighter), np.uint8))
    return [part for part in parts if np.count_nonzero(part) >= 2 and is_ghost(part)]
