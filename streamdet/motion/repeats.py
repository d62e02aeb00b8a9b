"""Is this frame an exact repeat of the one before? 15-18 % of broadcast and phone frames are."""

from __future__ import annotations

import numpy as np

from streamdet.motion.activity import BLOCK_PX
from streamdet.types import U8, Motion

__all__ = ["Repeats"]

_QUIET = 0.3  # of the usual mean difference: noise repeats itself only in a copy
_LARGE, _LARGE_SHARE = 12, 2e-4  # a level, and the share of pixels that may exceed it
_NOISY = 0.5  # mean level from which a picture counts as noisy
_LONGEST_S = 0.25  # what does not change for longer is a still scene


class Repeats:
    """Knows how much frames of this stream usually differ, and calls those repeats that differ far less.

    A still scene with sensor noise differs as usual. In one without noise (rendered, or coded as "skip") a repeat shows in
    movers that stopped all at once; if none moved before there is nothing to hold, and the frame counts as steady.
    """

    def __init__(self) -> None:
        self._usual = 0.0
        self._frozen = False

    def __call__(self, mean: float, change: U8, last: Motion, dt_s: float) -> bool:
        """`mean`: absolute difference to the preceding distinct frame; `change`: its largest per block; `last`: that frame."""
        copy = self._is_copy(mean, change, last)
        self._frozen = copy and (self._frozen or dt_s > _LONGEST_S)
        if copy and not self._frozen:
            return True
        if not copy:
            self._usual = mean if self._usual == 0 else self._usual + 0.1 * (mean - self._usual)
        return False

    def _is_copy(self, mean: float, change: U8, last: Motion) -> bool:
        if (
            mean > _QUIET * self._usual
            or np.count_nonzero(change > _LARGE) / change.size > _LARGE_SHARE * BLOCK_PX**2 / 4
        ):
            return False
        if self._usual > _NOISY:
            return True
        was = last.strength > 0.3
        if not was.any():
            return False
        column, row = _centres(last)
        return bool((change[row[was], column[was]] <= _LARGE // 2).all())


def _centres(last: Motion) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.int64]], ...]:
    middle = (last.regions[:, :2] + last.regions[:, 2:]) / 2 // BLOCK_PX
    return middle[:, 0].astype(np.int64), middle[:, 1].astype(np.int64)
