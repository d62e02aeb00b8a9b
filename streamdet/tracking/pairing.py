"""What a tracker sees in a frame, and what it costs to say that a detection is a track's next hit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.tracking.assignment import assign, candidates
from streamdet.tracking.looks import LEAST_PX, LEAST_SEEN_PX, LOOK, covering, look_at, strangeness
from streamdet.tracking.table import LOST
from streamdet.types import Detections, Picture

__all__ = ["OTHER_CLASS", "Seen", "length_of", "match", "may_be_one", "see", "size_of", "size_ratio"]

F64 = NDArray[np.float64]
Rows = NDArray[np.intp]

LARGEST_SIZE_RATIO = 4.0
OTHER_CLASS = 0.5  # as `size_ratio`: the most between two hits of different classes, where one of them is not small
LOOK_COST = 0.8  # of a stranger at the right place
FASTEST_SIZES_PER_S = 8.0  # what moves faster is not known by its look: a ball, a blur
TWICE = 0.8  # overlap from which two detections of different classes are one thing that was given two names
IN_PLACE = 0.4  # overlap from which what nobody else claims is the same thing, whatever it looks like now
SOFT_PX = 2.0  # added to sizes before they are compared: 2 px against 4 px says nothing


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """The usable detections of a frame in an order that depends on nothing but themselves.

    ``row`` (N,) is each one's row in the Detections it came from; ``wh`` is at least 1 px. ``look`` (N,LOOK) is NaN for those not
    looked at; ``clear`` (N,): nothing else covers it, so its look is its own. ``fresh`` (N,): seen in this frame's tiles; the
    others stand from an earlier frame.
    """

    row: Rows
    box: F64
    centre: F64
    wh: F64
    size: F64
    score: F64
    label: NDArray[np.int32]
    look: NDArray[np.float32]
    clear: NDArray[np.bool_]
    fresh: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.row)

    @property
    def looked_at(self) -> bool:
        """Whether the look of any is known; of none where all are small or no picture was given."""
        return not bool(np.isnan(self.look[:, 0]).all())

    def own_look(self, column: Rows) -> NDArray[np.float32]:
        """(P,LOOK) by which the detections `column` may be known from now on; NaN for small ones."""
        return np.where(self.size[column, None] >= LEAST_PX, self.look[column], np.float32(np.nan))


def known_by_look(rows: NDArray[Any]) -> NDArray[np.bool_]:
    """(N,) of which tracks the look is known, and says something: what flies by is a blur, and its place tells more."""
    slow = length_of(rows["velocity"]) <= FASTEST_SIZES_PER_S * size_of(rows["wh"])
    return np.asarray(slow & ~np.isnan(rows["look"]).any(axis=1))


def see(merged: Detections, least_score: float, picture: Picture | None = None, *, named_once: bool = False) -> Seen:
    """Rows that are finite and score at least `least_score`, sorted by place: input order never changes a result.

    Looks are taken from `picture`, if it is given. `named_once`: of what was found as a car and as a truck, the better row only.
    """
    box = merged.xyxy.astype(np.float64)
    usable = np.isfinite(box).all(axis=1) & np.isfinite(merged.score)
    usable &= merged.score >= np.float32(least_score)
    row = np.flatnonzero(usable)
    keys = (merged.label[row], merged.score[row], *box[row].T[::-1])
    row = row[np.lexsort(keys)]
    if named_once:
        row = row[~_named_again(box[row], merged.score[row], merged.label[row])]
    box = box[row]
    wh = np.maximum(box[:, 2:] - box[:, :2], 1.0)
    score = np.clip(merged.score[row].astype(np.float64), 0.0, 1.0)
    centre, size = (box[:, :2] + box[:, 2:]) / 2, size_of(wh)
    look = np.full((len(row), LOOK), np.nan, np.float32)
    clear = np.zeros(len(row), np.bool_)
    large = size >= LEAST_PX
    if picture is not None and large.any():
        looked = np.flatnonzero(size >= LEAST_SEEN_PX)
        look[looked] = look_at(picture, box[looked])
        clear[large] = covering(box[large], box) <= 1
    return Seen(row, box, centre, wh, size, score, merged.label[row], look, clear, ~merged.held[row])


def _named_again(box: F64, score: NDArray[np.float32], label: NDArray[np.int32]) -> NDArray[np.bool_]:
    """(N,) which are copies, but for the class, of one that scores higher; `box` sorted by its left edge."""
    again = np.zeros(len(box), np.bool_)
    area = np.prod(box[:, 2:] - box[:, :2], axis=1)
    for step in range(1, len(box)):
        one = np.arange(len(box) - step)
        one = one[box[one + step, 0] - box[one, 0] <= (1 / TWICE - 1) * (box[one, 2] - box[one, 0])]
        if not len(one):
            break
        one = one[label[one] != label[one + step]]
        other = one + step
        shared = np.minimum(box[one, 2:], box[other, 2:]) - np.maximum(box[one, :2], box[other, :2])
        both = np.prod(shared.clip(0), axis=1)
        same = both >= TWICE * (area[one] + area[other] - both)
        one, other = one[same], other[same]
        again[np.where(score[one] >= score[other], other, one)] = True
    return again


def size_of(wh: F64) -> F64:
    """(N,) side in px of the square as large as each box."""
    return np.asarray(np.sqrt(wh[:, 0] * wh[:, 1]))


def length_of(xy: F64) -> F64:
    """(N,) of the vectors (N,2); np.linalg.norm's answer at a fraction of its overhead."""
    x, y = xy[:, 0], xy[:, 1]
    return np.asarray(np.sqrt(x * x + y * y))


def size_ratio(one: F64, other: F64) -> F64:
    """(P,) 0 for equal sizes in px, 1 for the largest difference one object may show between two hits."""
    return np.asarray(np.abs(np.log((one + SOFT_PX) / (other + SOFT_PX))) / np.log(LARGEST_SIZE_RATIO))


def may_be_one(
    apart: F64, size: F64, other: F64, same_class: NDArray[np.bool_], other_class: float
) -> NDArray[np.bool_]:
    """(P,) whether two hits `apart` by :func:`size_ratio` may be one thing: a van may be a truck, but no person a ball.

    Those of different classes at most `other_class` apart (0: never), unless both are small: these are often named wrongly.
    """
    small = (np.maximum(size, other) < LEAST_PX) & (other_class > 0)
    return np.asarray(apart < np.where(same_class | small, 1.0, other_class))


def match(
    tracks: NDArray[Any],
    which: Rows,
    seen: Seen,
    free: Rows,
    *,
    origin: F64,
    radius_px: F64,
    other_class: float = OTHER_CLASS,
    chance: tuple[F64, float] | None = None,
) -> tuple[Rows, Rows]:
    """Pair the tracks `which` with the detections `free`, each within `radius_px` of its `origin` (both per `which`).

    Args:
        other_class: as for :func:`may_be_one`.
        chance: unexplained detections per px^2 round each of `which`, and how many of them may be expected nearer
            than a detection for it still to be believed. What overlaps the track's own box is believed anyway.

    Returns:
        Rows of the table and of `seen`, paired.
    """
    i, j, distance = candidates(origin, radius_px, seen.centre[free])
    row, column = which[i], free[j]
    if not len(row):
        return row, column
    size = size_of(tracks["wh"][row])
    apart = size_ratio(size, seen.size[column])
    same_class = tracks["label"][row] == seen.label[column]
    possible = may_be_one(apart, size, seen.size[column], same_class, other_class)
    if chance is not None:
        possible &= (chance[0][i] * np.pi * distance**2 <= chance[1]) | (distance < size / 2)
    overlap = _diou(origin[i], tracks["wh"][row], seen.centre[column], seen.wh[column])
    cost = 0.5 * distance / np.maximum(radius_px[i], 1e-9) + 0.2 * apart + 0.15 * (1 - overlap)
    if seen.looked_at:
        strange = strangeness(tracks["look"][row], seen.look[column]) * known_by_look(tracks)[row]
        in_place = (overlap >= IN_PLACE) & (tracks["state"][row] < LOST)
        possible &= in_place | (strange < 1)
        cost += LOOK_COST * strange * ~(in_place & _undisputed(row, column, possible))
    return assign(row[possible], column[possible], cost[possible])


def _undisputed(row: Rows, column: Rows, possible: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(P,) whether neither a pair's row nor its column is in any other possible pair."""
    alone = [np.bincount(one[possible], minlength=int(one.max(initial=0)) + 1)[one] <= 1 for one in (row, column)]
    return np.asarray(alone[0] & alone[1])


def _diou(centre: F64, wh: F64, other_centre: F64, other_wh: F64) -> F64:
    """(P,) -1..1: intersection over union, less the squared centre distance over the squared enclosing diagonal.

    (Zheng et al. 2020.) Unlike plain IoU it still says which of two boxes is nearer when neither overlaps.
    """
    low, other_low = centre - wh / 2, other_centre - other_wh / 2
    high, other_high = low + wh, other_low + other_wh
    inner = np.maximum(np.minimum(high, other_high) - np.maximum(low, other_low), 0)
    shared = inner[:, 0] * inner[:, 1]
    outer, apart = np.maximum(high, other_high) - np.minimum(low, other_low), centre - other_centre
    union = wh[:, 0] * wh[:, 1] + other_wh[:, 0] * other_wh[:, 1] - shared
    outer, apart = outer * outer, apart * apart
    return np.asarray(shared / union - (apart[:, 0] + apart[:, 1]) / (outer[:, 0] + outer[:, 1]))
