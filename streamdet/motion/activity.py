"""Where anything changed at all: maxima of absolute differences per block, and how restless each block usually is.

One pass over the full-resolution planes in stripes that stay in the cache; everything after it touches the small block
map only (240 x 135 for a 4K picture), or the pixels of blocks that moved.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from streamdet.types import U8

__all__ = [
    "BLOCK_PX",
    "BlockMaxima",
    "BlockNoise",
    "components",
    "enlarged",
    "maxima_along",
    "mean_within",
    "tolerant_difference",
]

BLOCK_PX = 16
_STRIPE_PX = 64  # of a 4K picture three such stripes, two planes and their difference, leave room in a cache of 1 MB
_MOST_BUFFERED = 1 << 22


class BlockMaxima:
    """Block maxima of |now - then|; buffers are reused, results are fresh.

    Works in stripes of `stripe_px` rows: small ones stay in the cache; beside a thread that is busy with Python few large ones
    are faster, as each has to wait for the interpreter.
    """

    def __init__(self, wh: tuple[int, int], stripe_px: int = _STRIPE_PX) -> None:
        self._wh = wh
        columns, rows = -(-wh[0] // BLOCK_PX), -(-wh[1] // BLOCK_PX)
        self.shape = (rows, columns)
        stripe = max(BLOCK_PX, min(stripe_px, _MOST_BUFFERED // max(wh[0], 1)) // BLOCK_PX * BLOCK_PX)
        self._buffer = np.zeros((stripe, wh[0]), np.uint8)
        self._rows = np.zeros((rows, columns * BLOCK_PX), np.uint8)

    def __call__(self, now: U8, then: U8) -> U8:
        """(rows, columns) u8 maxima of |now - then| per block of 16 x 16 px; the last ones may be partial."""
        width, height = self._wh
        buffer, stripe = self._buffer, len(self._buffer)
        for top in range(0, height, stripe):
            bottom = min(top + stripe, height)
            cv2.absdiff(now[top:bottom], then[top:bottom], buffer[: bottom - top])
            blocks = -(-(bottom - top) // BLOCK_PX)
            buffer[bottom - top : blocks * BLOCK_PX] = 0
            part = buffer[: blocks * BLOCK_PX].reshape(blocks, BLOCK_PX, width)
            row = top // BLOCK_PX
            np.maximum.reduce(part, axis=1, out=self._rows[row : row + blocks, :width])
        return maxima_along(self._rows, BLOCK_PX)

    def of(self, difference: U8) -> U8:
        """The same of a difference that is there already."""
        width, height = self._wh
        whole = height // BLOCK_PX * BLOCK_PX
        if whole:
            part = difference[:whole].reshape(-1, BLOCK_PX, width)
            np.maximum.reduce(part, axis=1, out=self._rows[: whole // BLOCK_PX, :width])
        if whole < height:
            np.maximum.reduce(difference[whole:], axis=0, out=self._rows[whole // BLOCK_PX, :width])
        return maxima_along(self._rows, BLOCK_PX)


def enlarged(blocks: Any, side: int) -> Any:
    """Every value of a small map as a square of `side` x `side`."""
    return np.repeat(np.repeat(blocks, side, axis=1), side, axis=0)


def components(mask: Any) -> tuple[int, Any, Any]:
    """How many parts of a (H,W) mask hang together, the background counted; (H,W) which each pixel is of; `cv2`'s stats of each.

    With labels of 16 bits where they suffice: OpenCV gathers its stats more than twice as fast then.
    """
    most = -(-mask.shape[0] // 2) * -(-mask.shape[1] // 2)  # one in a square of four
    kind = cv2.CV_16U if most < 1 << 16 else cv2.CV_32S
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8, ltype=kind)
    return count, labels, stats


def maxima_along(rows: U8, count: int) -> U8:
    """(H, W/count) maxima of every `count` neighbours of a line, `count` a power of two; (H,W) contiguous."""
    if count == 2:
        pairs = rows.view(np.uint16)
        return np.asarray(np.maximum(pairs & 0xFF, pairs >> 8).astype(np.uint8))
    turned: Any = cv2.transpose(
        rows.reshape(-1, count)
    )  # neighbours lie far apart then, and their neighbours beside them
    while count > 1:
        count //= 2
        turned = cv2.max(turned[:count], turned[count:])
    return np.asarray(turned.reshape(len(rows), -1), np.uint8)


def mean_within(plane: U8, mask: Any) -> float:
    """What `cv2.mean` says of the pixels where `mask` is set, to the last bit, in a tenth of the time; 0 of none."""
    count = cv2.countNonZero(mask)
    return cv2.norm(plane, cv2.NORM_L1, mask) * (1.0 / count) if count else 0.0


class BlockNoise:
    """How much each block usually changes, in grey levels: an upper quartile over the last seconds.

    Foliage, water, LED boards and crowds flicker on the spot and raise it within seconds; an object that passes is there too
    short a time, and one that creeps does not flicker, because what is fed here is the *smaller* of the difference to the
    preceding frame and to the background.
    """

    _UP, _DOWN = 0.7, 0.3  # a level exceeded 30 % of the time is noise

    def __init__(self, shape: tuple[int, int]) -> None:
        self.level = np.full(shape, 3.0, np.float32)
        self._age_s = 0.0

    def update(self, change: U8, dt_s: float) -> None:
        """Take one frame's block maxima into account, weighted by the media seconds since the preceding one."""
        self._age_s += dt_s
        hurry = 1.0 + 6.0 * np.exp(-self._age_s / 0.5)  # find the sensor's noise within the first half second
        step = (4.0 + 0.2 * self.level) * np.float32(min(dt_s, 0.5) * hurry)
        move = np.maximum(change - self.level, -self._DOWN * step)
        np.minimum(move, self._UP * step, out=move)
        self.level += move


def tolerant_difference(now: U8, then: U8) -> U8:
    """How far `now` lies outside the range of `then`'s 3x3 neighbourhood: blind to misalignment of up to a pixel."""
    kernel = np.ones((3, 3), np.uint8)
    above = cv2.subtract(now, cv2.dilate(then, kernel))
    below = cv2.subtract(cv2.erode(then, kernel), now)
    return np.asarray(cv2.max(above, below), np.uint8)
