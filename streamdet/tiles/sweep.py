"""The sweep: every tile has its turn, so that what stands still is found too.

A tile is run at least once in ``still_sweep_s`` of media time: where nothing has moved since, the picture is the same, and so
would be what the network says of it. From the moment something moves there, it is run within ``sweep_s``. Where both are the
same, every tile is run once in that time, whatever moves.
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
        self._stirred_s: F64 = (
            self.last_run_s.copy()
        )  # when something first moved since it was run last, inf: nothing did
        self._credit = 0.0

    def stir(self, regions: F32, now_s: float) -> None:
        """Something moves in these (R,4) regions now that is no known object."""
        regions = regions[(regions[:, 2:] - regions[:, :2]).max(1, initial=0) >= STIRS_PX]
        low, high = regions[:, None, :2] < self._tiles[:, 2:], regions[:, None, 2:] > self._tiles[:, :2]
        stirred = (low & high).all(2).any(0)
        self._stirred_s[stirred] = np.minimum(self._stirred_s[stirred], now_s)

    def due(self, idle: Bool, now_s: float, since_s: float, dt_s: float) -> Rows:
        """Rows of `idle` tiles to visit now: an even share of them, longest overdue first, and all that cannot wait."""
        rows: Rows = np.flatnonzero(idle)
        left_s = self._due_s[rows] - now_s
        order = np.argsort(left_s, kind="stable")
        share = float((1 / self._period_s[rows]).sum()) * (since_s or dt_s)
        self._credit = min(self._credit + share, float(len(rows)))
        overdue = int((left_s < dt_s - 1e-6 * self._sweep_s).sum())  # before the next frame comes
        count = max(int(self._credit), overdue)
        self._credit = max(0.0, self._credit - count)
        return rows[order[:count]]

    @property
    def _period_s(self) -> F64:
        """(T,) in what time each has to be run again."""
        return np.where(np.isinf(self._stirred_s), self._still_s, self._sweep_s)

    @property
    def _due_s(self) -> F64:
        """(T,) by when each has to be run again."""
        if self._still_s <= self._sweep_s:
            return self.last_run_s + self._sweep_s
        return np.minimum(self._stirred_s + self._sweep_s, self.last_run_s + self._still_s)

    def ran(self, rows: Any, now_s: float) -> None:
        self.last_run_s[rows] = now_s
        self._stirred_s[rows] = np.inf
