"""Two tracks on one small thing: one is hit, the other, unseen, is expected at the same place with the same speed.

That comes of a detector that told one object twice for a moment, or of a turn that was none. In a crossing the speeds differ, and
larger things do hide each other while they walk side by side: only small ones can be twins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.tracking.assignment import candidates
from streamdet.tracking.belief import PLAIN_PX
from streamdet.tracking.pairing import length_of, size_of
from streamdet.tracking.table import TrackTable
from streamdet.types import COASTING, CONFIRMED, TENTATIVE

__all__ = ["twins", "unite"]

Rows = NDArray[np.intp]

LEAST_MISSES = 2
INSIDE = 0.6  # share of the size within which one is expected on the other
ALONGSIDE_S = 0.1  # ... and would still be about there after this time


def unite(table: TrackTable) -> NDArray[np.int64]:
    """Mark unseen twins; those that have been for a while become one track, the older one.

    Returns (K,2) keys given up, and for which.
    """
    rows = table.rows
    rows["twin"] = False
    if not ((rows["detection_row"] < 0) & (rows["state"] != TENTATIVE)).any():
        return np.zeros((0, 2), np.int64)
    unseen, hit = twins(rows, (rows["state"] == CONFIRMED) | (rows["state"] == COASTING))
    rows["twin"][unseen] = True
    for_good = (rows["misses"][unseen] >= LEAST_MISSES) & (np.bincount(hit, minlength=1)[hit] == 1)
    unseen, hit = unseen[for_good], hit[for_good]
    older = rows["id"][unseen] < rows["id"][hit]
    table.carry_over(unseen[older], hit[older])
    gone = np.where(older, hit, unseen)
    joined = np.stack([rows["key"][gone], rows["key"][np.where(older, unseen, hit)]], axis=1)
    if len(gone):
        table.keep(~np.isin(np.arange(len(rows)), gone))
    return joined


def twins(rows: NDArray[Any], known: NDArray[np.bool_]) -> tuple[Rows, Rows]:
    """Unseen rows among `known`, and for each the row of the one that is hit in its place."""
    size = size_of(rows["wh"])
    small = known & (size <= PLAIN_PX)
    unseen = np.flatnonzero(small & (rows["detection_row"] < 0))
    hit = np.flatnonzero(small & (rows["detection_row"] >= 0))
    i, j, distance = candidates(rows["position"][unseen], 2 + INSIDE * size[unseen], rows["last"][hit], nearest=1)
    one, other = unseen[i], hit[j]
    apart = length_of(rows["velocity"][one] - rows["velocity"][other]) * ALONGSIDE_S
    same = (distance <= INSIDE * np.maximum(size[one], size[other])) & (apart <= size[one] + size[other])
    return one[same], other[same]
