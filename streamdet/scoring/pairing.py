"""Which object is on which labelled target: one to one in every frame, as many as possible, then the nearest."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from streamdet.scoring.labels import Found, Labels

__all__ = ["DISTRACTORS", "Pairing"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

DISTRACTORS = ("person", "car")  # classes in the demo scene's truth that move and are not wanted
_DISTRACTOR_MARGIN = 0.1  # of the box's size, and some pixels: shadows and soft edges belong to it
_DISTRACTOR_MARGIN_PX = 6.0


class Pairing:
    """Who is on whom in one run (arguments: see `streamdet.scoring.point_score`).

    ``found``: objects sorted by frame, then score (so the order of the input is of no account). ``labels``: wanted rows.
    ``on`` (M,) row of `labels` or -1; ``by`` (N,) row of `found` or -1; ``error`` (N,) px; ``aside`` (M,) not judged.
    """

    def __init__(
        self,
        found: Found,
        labels: Labels,
        *,
        within_px: float = 5.0,
        within_box: bool = False,
        others: Collection[str] | None = None,
    ) -> None:
        if others is None:
            others = DISTRACTORS if labels.format == "truth" else ()
        unwanted = np.isin(labels.name, list(others)) if others else np.zeros(len(labels), np.bool_)
        order = np.lexsort((found.track, *found.xyxy.T, -found.score, found.frame))
        self.found = found.rows(order[found.state[order] != "tentative"])
        self.labels = _label_rows(labels, ~unwanted)
        self.unwanted = _label_rows(labels, unwanted)
        self.within_px, self.within_box = within_px, within_box
        self._pair()

    def _pair(self) -> None:
        found, labels = self.found, self.labels
        self.on = np.full(len(found), -1, np.int64)
        self.by = np.full(len(labels), -1, np.int64)
        self.error = np.full(len(labels), np.nan)
        self.hidden = np.zeros(len(found), np.bool_)  # stands where a wanted mover is hidden
        self.beside = np.zeros(len(found), np.bool_)  # near a wanted mover, paired or not
        self.unlabelled = ~np.isin(found.frame, labels.frames)
        centre = found.centre
        for rows, objects in _by_frame(labels.frame, found.frame, labels.frames):
            near, distance = _near(labels, rows, centre[objects], self.within_px, self.within_box)
            self.beside[objects] = near.any(axis=0)
            seen = labels.visible[rows]
            for row, thing in _assign(near[seen], distance[seen]):
                label, item = rows[seen][row], objects[thing]
                self.on[item], self.by[label] = label, item
                self.error[label] = distance[seen][row, thing]
            free = self.on[objects] < 0
            for _, thing in _assign(near[~seen][:, free], distance[~seen][:, free]):
                self.hidden[objects[free][thing]] = True
        self.on_other = (self.on < 0) & ~self.hidden & self._inside_unwanted(centre)
        self.aside = self.hidden | self.on_other | self.unlabelled

    @property
    def false(self) -> Bool:
        """(M,) objects on nothing."""
        return (self.on < 0) & ~self.aside

    @property
    def missed(self) -> Bool:
        """(N,) visible targets nothing was on."""
        return (self.by < 0) & self.labels.visible

    def _inside_unwanted(self, centre: F64) -> Bool:
        inside = np.zeros(len(self.found), np.bool_)
        other = self.unwanted
        for rows, objects in _by_frame(other.frame, self.found.frame, other.frames):
            half = other.wh[rows] * (0.5 + _DISTRACTOR_MARGIN) + _DISTRACTOR_MARGIN_PX
            gap = np.abs(other.centre[rows][:, None] - centre[objects][None])
            inside[objects] = (gap <= half[:, None]).all(axis=2).any(axis=0)
        return inside


def _near(labels: Labels, rows: I64, centre: F64, within_px: float, within_box: bool) -> tuple[Bool, F64]:
    """(R,K) whether object k is on label row r, and the distance of their centres in px."""
    gap = np.abs(labels.centre[rows][:, None] - centre[None])
    distance = np.hypot(gap[..., 0], gap[..., 1])
    near = distance <= within_px
    if within_box:
        near |= (gap <= labels.wh[rows][:, None] / 2).all(axis=2)
    return near, distance


def _assign(near: Bool, distance: F64) -> list[tuple[int, int]]:
    """One-to-one pairs: as many as possible of those `near`, at the least total distance."""
    if not near.any():
        return []
    if near.shape[0] == 1:
        best = int(np.argmin(np.where(near[0], distance[0], np.inf)))
        return [(0, best)]
    from scipy.optimize import linear_sum_assignment

    forbidden = 1.0 + float(distance[near].sum()) * 2
    rows, columns = linear_sum_assignment(np.where(near, distance, forbidden))
    return [(int(r), int(c)) for r, c in zip(rows, columns) if near[r, c]]


def _by_frame(frame: I64, other: I64, frames: I64) -> list[tuple[I64, I64]]:
    """Row numbers of two sorted columns for every frame of `frames` that both hold."""
    both = np.intersect1d(np.intersect1d(frame, other), frames)
    a1, a2 = np.searchsorted(frame, both, "left"), np.searchsorted(frame, both, "right")
    b1, b2 = np.searchsorted(other, both, "left"), np.searchsorted(other, both, "right")
    return [(np.arange(i, j), np.arange(k, m)) for i, j, k, m in zip(a1, a2, b1, b2)]


def _label_rows(labels: Labels, rows: Bool) -> Labels:
    """Chosen rows in order of frames (stable)."""
    order = np.argsort(labels.frame, kind="stable")
    return labels.rows(order[rows[order]])
