"""How crowded a place is with detections that belong to nothing: the measure of how little a coincidence proves.

Leaves, a crowd, flickering light give detections that come and go. Where they are dense, the next one lies near any
prediction by chance; where nothing ever happens, a detection at the predicted place proves a lot. The picture is cut
into a few cells; each remembers how many unexplained detections a frame holds there, over the last seconds.
(The clutter map of radar tracking: Blackman & Popoli, Design and Analysis of Modern Tracking Systems, 6.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["ClutterMap"]

F64 = NDArray[np.float64]

CELLS_WH = (16, 9)
REMEMBERED_S = 2.0
# rows and columns of the map with a border of one cell, a copy of the outermost
_AROUND_Y, _AROUND_X = np.ix_(*(np.clip(np.arange(-1, side + 1), 0, side - 1) for side in CELLS_WH[::-1]))
LEAST_PER_FRAME = 0.5  # unexplained detections to reckon with in any picture


class ClutterMap:
    """Expected unexplained detections per frame and px^2, by place."""

    def __init__(self, frame_wh: tuple[int, int]) -> None:
        self._frame = np.maximum(np.asarray(frame_wh, np.float64), 1.0)
        self._cells = np.zeros((CELLS_WH[1], CELLS_WH[0]))
        self._density = self._cells + LEAST_PER_FRAME / self._frame.prod()

    def density(self, xy: F64) -> F64:
        """(N,) unexplained detections per px^2 to expect at (N,2) places in one frame."""
        column, row = self._cell(xy)
        return np.asarray(self._density[row, column])

    def add(self, xy: F64, dt_s: float) -> None:
        """This frame's (N,2) unexplained detections, `dt_s` after the frame before."""
        fade = float(np.exp(-max(dt_s, 1e-3) / REMEMBERED_S))
        column, row = self._cell(xy)
        now = np.bincount(row * CELLS_WH[0] + column, minlength=self._cells.size).reshape(self._cells.shape)
        self._cells = fade * self._cells + (1 - fade) * now
        around = self._cells[_AROUND_Y, _AROUND_X]
        height, width = self._cells.shape
        blurred = sum(around[y : y + height, x : x + width] for y in range(3) for x in range(3)) / 9
        # Before the map has learnt anything, this frame alone says whether the scene is busy.
        floor = max(LEAST_PER_FRAME, 0.25 * len(xy)) / self._frame.prod()
        cell_area = self._frame.prod() / self._cells.size
        self._density = np.maximum(np.maximum(blurred, 0.5 * self._cells) / cell_area, floor)

    def _cell(self, xy: F64) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        at = np.clip(xy / self._frame, 0, 1 - 1e-9) * CELLS_WH
        return at[:, 0].astype(np.intp), at[:, 1].astype(np.intp)
