"""What a coarse sample of the picture tells: is this frame a repeat, did the light jump, is it another scene?"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import cv2
import numpy as np

from streamdet.types import F32, I16, U8

__all__ = ["Relight", "Spectrum", "another_scene", "fit_light", "grid_of", "sample"]

_SAMPLES = 32_768
_BINS = 12
_COARSE_SPREAD = 2.5  # grey levels
_COARSE_SHARE = 0.2  # of the pixels' own spread; of mere noise an eighth is left in the mean of 64
_LEAST_SQUARES = 6
_MAY_BE_GONE = 0.15  # of a side: how far the camera may have jumped
_ALIKE = 0.75  # correlation of the middle with the best place before; seen: .88 and more in one scene, mostly .6 and less in two
_ABSOLUTE = np.abs(np.arange(-255, 256))


def sample(plane: U8) -> I16:
    """About 32,000 evenly spaced pixels of a plane, flat i16. The same grid for every plane of one size."""
    first, step = grid_of(plane.shape)
    return plane[first::step, first::step].astype(np.int16).ravel()


def grid_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """The first row and column of :func:`sample`, and how many px lie from each to the next."""
    step = max(1, int(np.sqrt(shape[0] * shape[1] / _SAMPLES)))
    return step // 2, step


def another_scene(now: I16, then: I16, shape: tuple[int, ...], spread: float) -> bool:
    """Whether two samples of planes of `shape` show different things, wherever the camera has turned in between.

    `spread`: :meth:`Spectrum.spread` between them. Two skies of one tone agree within a dozen levels in half of their pixels, and
    so do two noisy frames of one sky. Means of many pixels tell them apart: noise is gone from them. And what a camera saw
    before it jumped is still there, only elsewhere.
    """
    first, step = grid_of(shape)
    columns = len(range(first, shape[1], step))
    difference = _coarse(now, columns, 8) - _coarse(then, columns, 8)
    if min(difference.shape) < _LEAST_SQUARES:
        return False
    coarse = 1.4826 * float(np.median(np.abs(difference - np.median(difference))))
    if coarse < max(_COARSE_SPREAD, _COARSE_SHARE * spread):
        return False
    middle, before = _coarse(now, columns, 4), _coarse(then, columns, 4)
    top, left = (round(size * _MAY_BE_GONE) for size in middle.shape)
    middle = np.ascontiguousarray(middle[top:-top, left:-left])
    return float(cv2.matchTemplate(before, middle, cv2.TM_CCOEFF_NORMED).max()) < _ALIKE


def _coarse(sampled: I16, columns: int, side: int) -> F32:
    """Means of squares of `side` x `side` samples; what is left over at the right and below does not count."""
    grid = sampled.reshape(-1, columns)
    down, across = (size // side for size in grid.shape)
    squares = grid[: down * side, : across * side].reshape(down, side, across, side)
    return np.asarray(squares.mean(axis=(1, 3), dtype=np.float32))


class Spectrum:
    """How often each difference between two samples occurs: everything asked about it then costs next to nothing."""

    def __init__(self, now: I16, then: I16) -> None:
        self._count = np.bincount(np.subtract(now, then, dtype=np.int64) + 255, minlength=511)
        self._total = len(now)

    def mean(self) -> float:
        """Of the absolute differences, in grey levels."""
        return float(self._count @ _ABSOLUTE) / self._total

    def within(self, tolerance: float) -> float:
        """Share of pixels that differ by no more."""
        return float(self._count[tolerance >= _ABSOLUTE].sum()) / self._total

    def median(self) -> float:
        below = np.cumsum(self._count)
        low, high = np.searchsorted(below, [(self._total - 1) // 2, self._total // 2], side="right")
        return (int(low) + int(high)) / 2 - 255

    def spread(self) -> float:
        """Robust standard deviation about the median, in grey levels, below one level too.

        Two thirds of the values lie within it: the share within the nearest whole level is compared with a normal
        distribution, which movers in the remaining third cannot disturb.
        """
        centre = 255 + int(self.median())
        count = self._count[centre:].astype(np.int64)
        under = self._count[:centre][::-1]
        longest = max(len(count), len(under) + 1)
        count = np.concatenate([count, np.zeros(longest - len(count), np.int64)])
        count[1 : len(under) + 1] += under
        share = np.cumsum(count) / self._total
        level = int(np.searchsorted(share, 0.6827))
        within = float(share[level])
        if within >= 1.0:
            return 0.0 if level == 0 else float(level)
        return (level + 0.5) / NormalDist().inv_cdf((1 + within) / 2)


@dataclass(frozen=True, slots=True)
class Relight:
    """How the picture's brightness relates to an earlier one's.

    ``table`` (256,) u8 maps the old levels to the new; ``shift`` is the largest change it makes to a level in use;
    ``before`` and ``after`` are the shares of pixels that agree without and with it.
    """

    table: U8
    shift: float
    before: float
    after: float


def fit_light(now: I16, then: I16, tolerance: float) -> Relight:
    """Robust gain and offset that turn `then` into `now` (both from :func:`sample`): a line through the medians of level bins."""
    before = float(np.mean(np.abs(now - then) <= tolerance))
    order = np.argsort(then, kind="stable")
    parts = np.array_split(order, min(_BINS, max(1, len(order) // 16)))
    x = np.array([np.median(then[p]) for p in parts], np.float32)
    y = np.array([np.median((now - then)[p]) for p in parts], np.float32)
    gain, offset = _robust_line(x, y)
    levels = np.arange(256, dtype=np.float32)
    table = np.clip(levels * (1 + gain) + offset + 0.5, 0, 255).astype(np.uint8)
    lit = table[then].astype(np.int16)
    after = float(np.mean(np.abs(now - lit) <= tolerance))
    used = x[[0, -1]]
    return Relight(table, float(np.abs(used * gain + offset).max()), before, after)


def _robust_line(x: F32, y: F32) -> tuple[float, float]:
    """Theil-Sen slope and intercept; a slope only where the levels spread widely enough to tell one."""
    dx = x[:, None] - x[None, :]
    far = dx > 12
    slope = float(np.median(((y[:, None] - y[None, :])[far]) / dx[far])) if far.sum() >= 3 else 0.0
    slope = float(np.clip(slope, -0.6, 1.5))
    return slope, float(np.median(y - slope * x))
