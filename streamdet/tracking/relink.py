"""Finding a lost object again: does this new track begin where that old one would have been?

Between the last hit of the old and the first of the new, the old one's way forward and the new one's way back are two
points moving in straight lines. They are the same object if the two come close at *some* moment between: at all of them
if it flew on unseen, at one of them if it bounced or was hit there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.tracking.assignment import assign, candidates
from streamdet.tracking.looks import strangeness
from streamdet.tracking.pairing import length_of, may_be_one, size_of, size_ratio
from streamdet.tracking.table import take

__all__ = ["closest_approach", "relink"]

F64 = NDArray[np.float64]
Rows = NDArray[np.intp]

STRAYED_S = 0.15
NEAREST = 16  # lost tracks tried for each new one


def closest_approach(old: F64, old_velocity: F64, new: F64, new_velocity: F64, gap_s: F64) -> F64:
    """(P,) px between a point leaving `old` and one that arrives at `new` (P,2) `gap_s` later, at their nearest."""
    apart = old - new + new_velocity * gap_s[:, None]
    drift = old_velocity - new_velocity
    speed2 = np.maximum((drift**2).sum(axis=1), 1e-12)
    when = np.clip(-(apart * drift).sum(axis=1) / speed2, 0, gap_s)
    return np.asarray(length_of(apart + drift * when[:, None]))


def relink(
    tracks: NDArray[Any], lost: Rows, new: Rows, *, longest_s: float, max_speed_px_s: float, other_class: float
) -> tuple[Rows, Rows]:
    """Pair rows `lost` (not hit now) with rows `new` (just worth confirming). Returns lost rows, new rows."""
    none = np.zeros(0, np.intp)
    if len(lost) == 0 or len(new) == 0:
        return none, none
    reach = np.full(len(new), max_speed_px_s * longest_s)
    i, j, _ = candidates(tracks["birth"][new], reach, tracks["last"][lost], nearest=NEAREST)
    a, b = take(tracks, lost[j]), take(tracks, new[i])
    gap = b["birth_s"] - a["last_s"]
    size, other = size_of(a["wh"]), size_of(b["wh"])
    speed = np.maximum(length_of(a["velocity"]), length_of(b["velocity"]))
    # A track about to be lost may take a stray detection or two for its own while the object already founds a new one.
    there = b["birth"] + b["velocity"] * np.maximum(-gap, 0)[:, None]
    distance = closest_approach(a["last"], a["velocity"], there, b["velocity"], np.maximum(gap, 0))
    radius = np.maximum(size, other) + 4 + np.abs(gap) * (40 + 0.3 * speed)
    needed = length_of(b["birth"] - a["last"])
    apart = size_ratio(size, other)
    same_class = a["label"] == b["label"]
    possible = (gap > -STRAYED_S) & (distance <= radius) & (needed <= max_speed_px_s * np.abs(gap) + size)
    possible &= may_be_one(apart, size, other, same_class, other_class)
    strange = strangeness(a["look"], b["look"])
    possible &= strange < 1
    cost = (
        0.4 * strange + 0.6 * distance / np.maximum(radius, 1e-9) + 0.2 * apart + 0.15 * np.clip(gap / longest_s, 0, 1)
    )
    return assign(lost[j][possible], new[i][possible], cost[possible])
