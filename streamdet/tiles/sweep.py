"""The sweep: every tile has its turn, so that what stands still is found too.

A tile is run at least once in ``sweep_s`` of media time. Where it was run and nothing has moved since, the picture is the
same, and so would be what the network says of it: then once in ``still_sweep_s`` will do, until something moves there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.types import F32, I32, Bool

__all__ = ["Sweep"]

STIRS_PX = 24.0  # smaller regions stir nothing: each is looked at where it is, most are noise

F64 = NDArray[np.float64]
Rows = NDArray[np.intp]


class Sweep:
    """When each of (T,4) tiles (frame px) was run last, and which are due. `now_s`: media time of the first frame."""

    def __init__(self, tiles_xyxy: I32, now_s: float, *, sweep_s: float, still_sweep_s: float) -> None:
        count = len(tiles_xyxy)
        turn = (np.arange(count) + 1) / max(1, count)  # the last tile is due in sweep_s, the first at once
        self.last_run_s: F64 = now_s - sweep_s * (1 - turn)
        self._sweep_s, self._still_s = sweep_s, max(sweep_s, still_sweep_s)
        self._tiles = tiles_xyxy
        self._moved: Bool = np.ones(count, np.bool_)  # since it was run last
        self._credit = 0.0

    def stir(self, regions: F32) -> None:
        """Something moves in these (R,4) regions now that is no known object."""
        regions = regions[(regions[:, 2:] - regions[:, :2]).max(1, initial=0) >= STIRS_PX]
        low, high = regions[:, None, :2] < self._tiles[:, 2:], regions[:, None, 2:] > self._tiles[:, :2]
        self._moved |= (low & high).all(2).any(0)

    def due(self, idle: Bool, now_s: float, since_s: float, dt_s: float) -> Rows:
        """Rows of `idle` tiles to visit now: an even share of them, longest overdue first, and all that cannot wait."""
        rows: Rows = np.flatnonzero(idle)
        period = self._period_s[rows]
        ages = now_s - self.last_run_s[rows]
        order = np.argsort(-ages / period, kind="stable")
        share = float((1 / period).sum()) * (since_s or dt_s)
        self._credit = min(self._credit + share, float(len(rows)))
        overdue = int((ages + dt_s > period * (1 + 1e-6)).sum())  # before the next frame comes
        count = max(int(self._credit), overdue)
        self._credit = max(0.0, self._credit - count)
        return rows[order[:count]]

    @property
    def _period_s(self) -> F64:
        """(T,) in what time each has to be run again."""
        return np.where(self._moved, self._sweep_s, self._still_s)

    def ran(self, rows: Any, now_s: float) -> None:
        self.last_run_s[rows] = now_s
        self._moved[rows] = False
