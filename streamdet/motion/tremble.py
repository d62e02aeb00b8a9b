"""Is a region more than the trembling of an edge?

Edges of what stands still differ when camera or air tremble by a fraction of a pixel; with a pixel of slack (the difference to
the nearest level in the background's 3x3 neighbourhood) they do not. A real thing stands out in a good part of its pixels even
then. That is much to compute for every pixel, and a few are enough to see it for most regions: only those that remain in
doubt are looked at pixel by pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamdet.motion.glance import Glance, Pixels, flat, slack_differences
from streamdet.motion.shapes import Planes
from streamdet.types import F32, I64, U8, Bool

__all__ = ["stand_out"]

_SHARE = 0.1
_EVERY, _FEW = 7, 16  # pixels tried first of a region of more than a few
_CLEAR = 0.75  # ... and then those that differ by so much of the region's contrast
_AT_ONCE = 30_000  # pixels; for more it is cheaper to compute whole windows


def stand_out(planes: Planes, glances: list[Glance], pixels: Pixels, counts: I64, contrast: F32, rows: I64) -> Bool:
    """(K,) whether each of the regions `rows` stands out in a tenth of its pixels, and in one at least.

    `pixels`, `counts`, `contrast`: of all regions of all glances, one after another.
    """
    if planes.tolerant:  # compared with a pixel of slack in the first place
        return np.ones(len(rows), np.bool_)
    number = np.repeat(np.arange(len(glances)), [len(glance.group) for glance in glances])
    seen = np.zeros(len(number), np.int64)
    for k, glance in enumerate(glances):
        if glance.out is not None:
            seen[number == k] = np.add.reduceat(glance.out, np.cumsum(glance.count) - glance.count, dtype=np.int64)
    found = np.asarray(seen[rows] >= np.maximum(1, _SHARE * counts[rows].astype(np.float32)), np.bool_)
    unseen = np.array([glance.out is None for glance in glances])
    large = np.flatnonzero(unseen[number[rows]])
    if len(large):
        trial = _Trial(planes, glances, pixels, counts, rows[large])
        found[large] = trial(contrast[rows[large]])
    return found


class _Trial:
    """K regions looked at in squares of `pool` px, of which a few are tried.

    One try in the middle of a square can only find too few that stand out.
    """

    def __init__(self, planes: Planes, glances: list[Glance], pixels: Pixels, counts: I64, rows: I64) -> None:
        self._planes, self._glances, self._pixels = planes, glances, pixels
        self._start, self._counts = (np.cumsum(counts) - counts)[rows], counts[rows]
        self._needed = np.maximum(1, _SHARE * self._counts.astype(np.float32))
        of = np.repeat(np.arange(len(glances)), [len(glance.group) for glance in glances])[rows]
        self._pool = np.array([glance.sheet.pool for glance in glances])[of]
        self._window = np.concatenate([glance.group + glance.first for glance in glances])[rows]
        self._bounds = np.array([window.xyxy for glance in glances for window in glance.windows])[self._window]

    def __call__(self, contrast: F32) -> Bool:
        """(K,) whether each stands out."""
        many = self._counts > _FEW
        found = self._few(np.where(many, _EVERY, 1))
        doubt = np.flatnonzero(~found & many)
        if len(doubt) and self._counts[doubt].sum() <= 4 * _AT_ONCE:
            found[doubt] = self._clear(doubt, contrast[doubt])
        doubt = np.flatnonzero(~found)
        if len(doubt):
            found[doubt] = self._all(doubt)
        return found

    def _few(self, step: I64) -> Bool:
        """(K,) whether enough is found in every `step`-th pixel."""
        tried = -(-self._counts // step)
        if tried.sum() > _AT_ONCE:
            return np.zeros(len(step), np.bool_)
        row, nth = _each(tried)
        return self._enough(row, self._start[row] + nth * step[row])

    def _clear(self, which: I64, contrast: F32) -> Bool:
        """(N,) whether enough is found in the clearest pixels of regions `which`."""
        row, nth = _each(self._counts[which])
        at = self._start[which][row] + nth
        clear = self._pixels.value[at] > (np.float32(_CLEAR) * contrast)[row]
        return self._enough(which[row[clear]], at[clear])[which]

    def _all(self, which: I64) -> Bool:
        """(N,) whether regions `which` stand out, all their pixels tried."""
        row, nth = _each(self._counts[which])
        row, at = which[row], self._start[which][row] + nth
        square = self._pool[row] ** 2
        if square.sum() > _AT_ONCE:
            out = self._whole(row, at)
        else:
            pixel, nth = _each(square)
            region = row[pixel]
            side = self._pool[region]
            out = np.logical_or.reduceat(
                self._out(at[pixel], region, nth % side, nth // side), np.cumsum(square) - square
            )
        return np.asarray((np.bincount(row[out], minlength=len(self._counts)) >= self._needed)[which], np.bool_)

    def _enough(self, row: I64, at: I64) -> Bool:
        """(K,) whether enough of the places `at`, each of a region, stand out in the middle."""
        middle = self._pool[row] // 2
        out = self._out(at, row, middle, middle)
        return np.asarray(np.bincount(row[out], minlength=len(self._counts)) >= self._needed, np.bool_)

    def _out(self, at: I64, row: I64, right: I64, down: I64) -> Bool:
        """(P,) whether the picture's pixel `right` and `down` of each place `at` stands out."""
        p = self._pixels
        slack = _slack(self._planes, p.x[at] + right, p.y[at] + down, self._bounds[row])
        return np.asarray(slack > p.bound[at] // 2, np.bool_)

    def _whole(self, row: I64, at: I64) -> Bool:
        """(P,) whether anything in the squares at these places stands out: their windows are computed whole."""
        p, window = self._pixels, self._window[row]
        out = np.zeros(len(at), np.bool_)
        for glance in self._glances:
            mine = np.flatnonzero((window >= glance.first) & (window < glance.first + len(glance.windows)))
            if len(mine):
                sheet, number, here = glance.sheet, window[mine] - glance.first, at[mine]
                loose = slack_differences(self._planes, sheet, np.unique(number).tolist())
                x, y = p.x[here] - sheet.shift[number, 0], p.y[here] - sheet.shift[number, 1]
                out[mine] = loose[y // sheet.pool, x // sheet.pool] > p.bound[here] // 2
        return out


def _each(counts: I64) -> tuple[I64, I64]:
    """Of `counts` things each: whose, and the how manieth."""
    row = np.repeat(np.arange(len(counts)), counts)
    return row, np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)


def _slack(planes: Planes, x: Any, y: Any, bounds: I64) -> U8:
    """(P,) differences with slack at pixels, or the nearest in their windows' `bounds`, looking nowhere beyond these."""
    x1, y1, x2, y2 = bounds.T
    x, y = np.minimum(x, x2 - 1), np.minimum(y, y2 - 1)
    columns = np.maximum(x - 1, x1), x, np.minimum(x + 1, x2 - 1)
    background, pitch = flat(planes.background)
    low: Any = None
    high: Any = None
    for line in (np.maximum(y - 1, y1) * pitch, y * pitch, np.minimum(y + 1, y2 - 1) * pitch):
        for column in columns:
            level = background.take(line + column)
            low = level if low is None else np.minimum(low, level, out=low)
            high = level.copy() if high is None else np.maximum(high, level, out=high)
    luma, pitch = flat(planes.luma)
    now = luma.take(y * pitch + x)
    return np.asarray(np.maximum(now - np.minimum(high, now), low - np.minimum(low, now)), np.uint8)
