"""How far from where it is expected an object may be found."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.tracking import kalman
from streamdet.tracking.pairing import length_of, size_of
from streamdet.types import Bool, TilePlan

__all__ = ["covered", "fits_better", "gate_px", "in_cells", "reach_px", "top_speed"]

F64 = NDArray[np.float64]

GATE_SIGMA = 3.5
LARGEST_GATE_S = 0.12  # a prediction is never trusted further off than its object moves in this time, and its size
SMALL_PX = 12.0  # what is no larger can turn up anywhere within the top speed
SIZES_PER_S = 20.0  # what is larger moves at most this many times its own size in a second
CELL_PX = 8
STANDING_CELL_PX = 16
BETTER_PX = 5.0


def gate_px(rows: NDArray[Any], course: str = "") -> F64:
    """(N,) px round the predicted place: by uncertainty, but never absurdly wide for what has been unseen long.

    `course` "old_": round where the course before an abrupt turn would lead.
    """
    size, speed = size_of(rows["wh"]), length_of(rows[course + "velocity"])
    sigma = np.sqrt(rows[course + "covariance"][:, 0] + kalman.measurement_noise_px(size) ** 2)
    return np.asarray(np.minimum(GATE_SIGMA * sigma + 0.3 * size, SMALL_PX + 1.5 * size + LARGEST_GATE_S * speed))


def reach_px(rows: NDArray[Any], gap_s: F64, fastest_px_s: float) -> F64:
    """(N,) px round the last hit, `gap_s` ago, where each could be by now whatever it did."""
    size, speed = size_of(rows["wh"]), length_of(rows["velocity"])
    return np.asarray(size + gap_s * np.maximum(top_speed(size, fastest_px_s), np.minimum(3 * speed, fastest_px_s)))


def top_speed(size_px: F64, fastest_px_s: float) -> F64:
    """(N,) px/s a thing of `size_px` may have: a ball any speed, a person or a car a few of its own sizes."""
    nimble = fastest_px_s * np.minimum(1.0, SMALL_PX / np.maximum(size_px, 1e-9)) ** 2
    return np.asarray(np.minimum(fastest_px_s, nimble + SIZES_PER_S * size_px))


def covered(xy: F64, looked: TilePlan) -> NDArray[np.bool_]:
    """(N,) whether (N,2) places lie in any of the tiles, told in steps of 8 px."""
    width, height = looked.frame_wh
    cells = np.zeros((-(-height // CELL_PX), -(-width // CELL_PX)), np.bool_)
    for x1, y1, x2, y2 in looked.xyxy.tolist():
        right = -(-x2 // CELL_PX) if x2 >= width else x2 // CELL_PX
        bottom = -(-y2 // CELL_PX) if y2 >= height else y2 // CELL_PX
        cells[-(-y1 // CELL_PX) : bottom, -(-x1 // CELL_PX) : right] = True
    at = np.clip(xy / CELL_PX, 0, np.asarray(cells.shape[::-1]) - 1).astype(np.intp)
    return np.asarray(cells[at[:, 1], at[:, 0]])


def in_cells(xy: F64, cells: Bool) -> NDArray[np.bool_]:
    """(N,) the value of the cell of 16 px in which each of (N,2) places lies."""
    at = np.clip(xy / STANDING_CELL_PX, 0, np.asarray(cells.shape[::-1]) - 1).astype(np.intp)
    return np.asarray(cells[at[:, 1], at[:, 0]])


def fits_better(rows: NDArray[Any], found: F64) -> NDArray[np.bool_]:
    """(N,) whether one of the `found` (D,2) lies nearer to where a track's new leg leads than any to where its old course would.

    By more than what a detection's place is worth: in doubt a turn was none.
    """
    better = np.zeros(len(rows), np.bool_)
    for row in np.flatnonzero(rows["trial"] > 0).tolist() if len(found) else ():
        new, old = (length_of(found - rows[name][row]).min() for name in ("position", "old_position"))
        better[row] = new + BETTER_PX < old
    return better
