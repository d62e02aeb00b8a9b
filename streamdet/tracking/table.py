"""What is remembered of every track: one row each, ordered by key, in one array that grows and is never thrown away."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.tracking.looks import LOOK
from streamdet.types import COASTING

__all__ = ["COURSE", "LOST", "NOW", "TRACK", "TrackTable", "take"]

LOST = COASTING + 1  # coasted too long to be shown, kept to be found again; never leaves this folder

TRACK = np.dtype(
    [
        ("key", "i8"),
        ("id", "i8"),
        ("state", "u1"),
        # the filter
        ("position", "f8", 2),  # centre, px
        ("velocity", "f8", 2),  # px/s
        ("covariance", "f8", 3),
        ("wh", "f8", 2),  # smoothed, px
        # the last hit
        ("box", "f8", 4),
        ("last", "f8", 2),  # its centre, px
        ("last_s", "f8"),
        ("score", "f8"),
        ("detection_row", "i4"),
        ("held", "?"),  # it stands from an earlier frame
        ("misses", "i4"),  # frames since in which it was looked for
        ("ignored_s", "f8"),  # time since in which nobody looked where it is
        # the course before an abrupt turn, until the new one has proved itself
        ("trial", "i4"),  # hits still needed for that
        ("old_position", "f8", 2),
        ("old_velocity", "f8", 2),
        ("old_covariance", "f8", 3),
        ("old_last", "f8", 2),
        ("old_last_s", "f8"),
        # the whole life
        ("birth", "f8", 2),  # centre of the first hit
        ("birth_s", "f8"),
        ("birth_pts_s", "f8"),
        ("smooth", "f8", 2),  # centre without its jitter
        ("longest_step", "f8"),  # px between two hits
        ("hits", "i8"),
        ("looks", "i8"),  # of these, by how many looks: what stands is told again and again
        ("score_sum", "f8"),
        ("evidence", "f8"),  # log odds that these hits are no coincidence
        ("odds", "f8"),  # mean log odds of its scores of late, see belief.py
        ("odds_weight", "f8"),
        ("long_odds", "f8"),  # the same over a longer time
        ("long_weight", "f8"),
        ("flow", "f8", 2),  # sum of its steps of late, px
        ("flow_length", "f8"),
        ("anchor", "f8", 2),  # where it was on average of late
        ("doubted", "?"),  # known, but not believed at present: told as a tentative one
        ("doubted_s", "f8"),  # for how long
        ("twin", "?"),  # unseen, and another is seen in its place
        ("look", "f4", LOOK),  # NaN: not known
        ("label", "i4"),
        ("label_lead", "f8"),  # by how much score its label leads over all others
    ]
)
NOW = (
    "position",
    "velocity",
    "covariance",
    "wh",
    "box",
    "last",
    "last_s",
    "score",
    "detection_row",
    "held",
    "misses",
    "smooth",
    "trial",
    "odds",
    "odds_weight",
    "flow",
    "flow_length",
    "anchor",
)
COURSE = ("position", "velocity", "covariance", "last", "last_s")
PLACES = ("position", "last", "birth", "smooth", "anchor", "old_position", "old_last")


def take(rows: NDArray[Any], index: NDArray[np.intp]) -> NDArray[Any]:
    """Copies of the rows `index`: whole rows, many times faster than numpy's way of field by field."""
    return _as_bytes(rows)[index].reshape(-1).view(TRACK)


def _as_bytes(rows: NDArray[Any]) -> NDArray[np.uint8]:
    return rows.view(np.uint8).reshape(len(rows), TRACK.itemsize)


class TrackTable:
    """The living rows of an array with spare room. ``rows`` is a view: write into its columns."""

    def __init__(self, capacity: int = 64) -> None:
        self._all = np.zeros(capacity, TRACK)
        self._count = 0

    @property
    def rows(self) -> NDArray[Any]:
        return self._all[: self._count]

    @property
    def capacity(self) -> int:
        return len(self._all)

    def __len__(self) -> int:
        return self._count

    def append(self, count: int) -> NDArray[Any]:
        """`count` new rows at the end, all zero. Views of ``rows`` taken before may be stale after this."""
        need = self._count + count
        if need > len(self._all):
            grown = np.zeros(max(need, 2 * len(self._all)), TRACK)
            grown[: self._count] = self.rows
            self._all = grown
        fresh = self._all[self._count : need]
        fresh[:] = np.zeros((), TRACK)
        fresh["look"] = np.nan
        self._count = need
        return fresh

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Drop the rows where `mask` is False; the others keep their order."""
        if mask.all():
            return
        kept = take(self.rows, np.flatnonzero(mask))
        _as_bytes(self._all)[: len(kept)] = _as_bytes(kept)
        self._count = len(kept)

    def carry_over(self, old: NDArray[np.intp], new: NDArray[np.intp]) -> None:
        """Rows `old` go on from where rows `new` are."""
        for column in NOW:
            self.rows[column][old] = self.rows[column][new]

    def shift(self, xy: tuple[float, float]) -> None:
        """The camera moved: everything remembered in px moves with the scene."""
        if xy != (0.0, 0.0):
            for place in PLACES:
                self.rows[place] += np.asarray(xy, np.float64)
            self.rows["box"] += np.asarray(xy + xy, np.float64)
