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
_Flat = tuple[U8, int]

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
        self._flat = flat(planes.luma), flat(planes.background)
        self._wh = planes.luma.shape[1], planes.luma.shape[0]

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
        nth *= step.take(row)
        nth += self._start.take(row)
        return self._enough(row, nth)

    def _clear(self, which: I64, contrast: F32) -> Bool:
        """(N,) whether enough is found in the clearest pixels of regions `which`."""
        row, nth = _each(self._counts[which])
        at = self._start[which].take(row) + nth
        clear = self._pixels.value.take(at) > (np.float32(_CLEAR) * contrast).astype(np.uint8).take(row)
        return self._enough(which[row[clear]], at[clear])[which]

    def _all(self, which: I64) -> Bool:
        """(N,) whether regions `which` stand out, all their pixels tried."""
        row, nth = _each(self._counts[which])
        row, at = which[row], self._start[which][row] + nth
        pool = self._pool[row]
        if np.square(pool).sum() > _AT_ONCE:
            out = self._whole(row, at)
        else:
            out = np.zeros(len(at), np.bool_)
            for side in np.unique(pool).tolist():
                mine = np.flatnonzero(pool == side)
                out[mine] = self._out(at[mine], 0, side)
        return np.asarray((np.bincount(row[out], minlength=len(self._counts)) >= self._needed)[which], np.bool_)

    def _enough(self, row: I64, at: I64) -> Bool:
        """(K,) whether enough of the places `at`, each of a region, stand out in the middle."""
        out = self._out(at, (self._pool // 2).take(row), 1)
        return np.asarray(np.bincount(row[out], minlength=len(self._counts)) >= self._needed, np.bool_)

    def _out(self, at: I64, inwards: Any, side: int) -> Bool:
        """(P,) whether anything stands out in squares of `side` px, so far right and down of the places `at`."""
        p = self._pixels
        x, y = p.x.take(at) + inwards, p.y.take(at) + inwards
        slack = _slack(self._flat, x, y, side, self._wh)
        return np.asarray(slack.reshape(side * side, -1).max(0) > p.bound.take(at) // 2, np.bool_)

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
    row = np.arange(len(counts)).repeat(counts)
    nth = np.arange(len(row))
    nth -= (np.cumsum(counts) - counts).repeat(counts)
    return row, nth


def _slack(planes: tuple[_Flat, _Flat], x: Any, y: Any, side: int, wh: tuple[int, int]) -> U8:
    """(side, side, P) differences with slack in squares, given their corners, looking nowhere beyond the picture.

    (Nor beyond the windows these are of: what differs lies blocks from their edges.) `planes`: picture and background.
    """
    (luma, other), (background, pitch) = planes
    width, height = wh
    if side == 1:
        x, y = np.minimum(x, width - 1), np.minimum(y, height - 1)
    inside = (x > 0) & (y > 0) & (x < width - side) & (y < height - side)
    near = _taken(background, pitch, (y - 1) * pitch + (x - 1), side + 2)
    rest = np.flatnonzero(~inside)
    beyond: Any = None
    if len(rest):
        step = np.arange(-1, side + 1)[:, None]
        columns, lines = x[rest] + step, y[rest] + step
        beyond = (columns >= width)[None, 1:-1] | (lines >= height)[1:-1, None]
        columns, lines = np.clip(columns, 0, width - 1), np.clip(lines, 0, height - 1)
        near[:, :, rest] = background.take(lines[:, None] * pitch + columns)
    low, high = _extremes(near, side)
    now = _taken(luma, other, y * other + x, side)
    slack = np.maximum(now - np.minimum(high, now), low - np.minimum(low, now))
    if beyond is not None:
        slack[:, :, rest] *= ~beyond  # no pixels of the picture, or of another window
    return np.asarray(slack, np.uint8)


def _taken(plane: U8, pitch: int, corner: I64, side: int) -> U8:
    """(side, side, P) levels of squares, given the places of their corners in a flat plane; of what lies beyond it, any."""
    if side == 1:
        return plane.take(corner, mode="clip")[None, None]
    found = np.empty((side, side, len(corner)), np.uint8)
    line = np.arange(side)[:, None]
    for down in range(side):
        plane[down * pitch :].take(corner + line, mode="clip", out=found[down])
    return found


def _extremes(near: U8, side: int) -> tuple[U8, U8]:
    """The lowest and the highest of each 3x3 neighbourhood, (side, side, P) each."""
    found = []
    for least in (np.minimum, np.maximum):
        line = least(near[:, :side], near[:, 1 : side + 1])
        least(line, near[:, 2:], out=line)
        both = least(line[:side], line[1 : side + 1])
        found.append(np.asarray(least(both, line[2:], out=both), np.uint8))
    return found[0], found[1]
