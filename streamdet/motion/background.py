"""The running background: a clipped-step (median-like) average with its rate in grey levels per second.

Each update moves a pixel towards the picture by at most the levels due since the last one. So what passes costs the
background a few levels however bright it is, noise averages to the median, and slow light is followed. Stripes take
turns, each catching up with the time that went by for it; eight bits suffice because the step is a whole level or none.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from streamdet.motion.activity import BLOCK_PX, enlarged
from streamdet.types import U8, Bool

__all__ = ["Background", "Patch", "Turns"]

_STRIPE_PX = 4 * BLOCK_PX
_TURNS = 3
_LEVELS = 20.0  # levels followed in one time constant
_LARGE_PX = 4_000_000  # larger pictures follow in steps of two levels, half as often
_WARM_UP_S = 0.5

Patch = tuple[int, int, U8]  # x, y px of the top left corner, (h,w) mask


class Turns:
    """Which stripes of 64 rows follow the picture now, and by how many grey levels. `seconds`: time constant, see the module."""

    def __init__(self, shape: tuple[int, ...], seconds: float) -> None:
        self._rate = _LEVELS / seconds
        self._age_s = 0.0
        stripes = -(-shape[0] // _STRIPE_PX)
        self._least = 2 if shape[0] * shape[1] > _LARGE_PX else 1
        turns = _TURNS * self._least
        self._due = (np.arange(stripes) % turns) / _TURNS  # levels each stripe is behind; staggered: they take turns

    def levels(self, dt_s: float) -> U8:
        """(stripes,) u8 for `dt_s` seconds more: grey levels each stripe may move now, 0 for those that wait."""
        hurry = 1.0 + 4.0 * np.exp(-self._age_s / _WARM_UP_S)  # frame 0 alone is a noisy background
        self._age_s += dt_s
        self._due += self._rate * hurry * min(dt_s, 1.0)
        levels = np.where(self._due >= self._least, self._due.astype(np.int64), 0)
        self._due -= levels
        return np.minimum(levels, 255).astype(np.uint8)


class Background:
    """One u8 plane that starts as a copy of `first`. `seconds`: time constant; `turns`: go on with these instead."""

    def __init__(self, first: U8, seconds: float, turns: Turns | None = None) -> None:
        self.plane: U8 = np.array(first, np.uint8, order="C")
        self._turns = turns or Turns(first.shape, seconds)
        shape = (min(_STRIPE_PX, len(first)), first.shape[1])
        self._low, self._high, self._step = (np.zeros(shape, np.uint8) for _ in range(3))

    def update(self, luma: U8, dt_s: float, frozen: Bool) -> None:
        """Follow `luma` for `dt_s` seconds except in `frozen` blocks (of 16 px), where something stands before it."""
        levels = self._turns.levels(dt_s)
        for stripe in np.flatnonzero(levels).tolist():
            top = stripe * _STRIPE_PX
            self._follow(luma, slice(top, min(top + _STRIPE_PX, len(luma))), int(levels[stripe]), frozen)

    def _follow(self, luma: U8, rows: slice, levels: int, frozen: Bool) -> None:
        plane = self.plane[rows]
        low, high, step = self._low[: len(plane)], self._high[: len(plane)], self._step[: len(plane)]
        if self._step[0, 0] != levels:
            self._step[:] = levels
        cv2.subtract(plane, step, low)
        cv2.add(plane, step, high)
        cv2.min(luma[rows], high, high)
        held = frozen[rows.start // BLOCK_PX : -(-rows.stop // BLOCK_PX)]
        if not held.any():
            cv2.max(high, low, plane)
            return
        cv2.max(high, low, high)
        free = enlarged((~held).astype(np.uint8), BLOCK_PX)
        cv2.copyTo(high, free[: len(plane), : plane.shape[1]], plane)

    def heal(self, luma: U8, patches: Iterable[Patch]) -> None:
        """Take the picture over at once where a mask says that the background is wrong."""
        for x, y, mask in patches:
            height, width = mask.shape
            target = self.plane[y : y + height, x : x + width]
            np.copyto(target, luma[y : y + height, x : x + width], where=mask != 0)

    def relight(self, table: U8) -> None:
        """Apply a brightness table (256,) u8: the light or the exposure changed."""
        cv2.LUT(self.plane, table, self.plane)

    def replace(self, plane: U8) -> None:
        """Start from another plane of the same size (the camera moved on)."""
        np.copyto(self.plane, plane)
