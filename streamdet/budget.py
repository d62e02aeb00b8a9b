"""How much of the detector each live stream may use now: so that nobody waits for long, and nobody for ever.

The costs of a frame (decoded motion, tracking) and of a tile are learned while running. A *turn* takes frames of as many
streams as are likely to fit into ``turn_s``, those first that had least of the machine for their share; and it gives every
frame as many tiles as fit, but one at least. What a turn can last is thereby bounded, and with it the age of every frame.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence

__all__ = ["Budget", "Cost", "allot"]

SAMPLES = 21
UNKNOWN_TILES = 4  # per frame, while nobody knows what a tile costs
SHORTEST_S, LONGEST_S, ASSUMED_S = 0.02, 0.1, 0.04  # of a turn that sets itself
SHARE_FOR_TILES = 0.9  # the rest is for what was not foreseen


class Cost:
    """The median of the latest measurements: one hiccup of the machine teaches nothing."""

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=SAMPLES)

    def add(self, seconds: float) -> None:
        self._seen.append(seconds)

    @property
    def seconds(self) -> float | None:
        return statistics.median(self._seen) if self._seen else None


def allot(wanted: Sequence[int], shares: Sequence[float], most: int) -> list[int]:
    """Divide `most` tiles by `shares`: nobody gets more than wanted, all get at least one, what one leaves the others get."""
    given = [min(want, 1) for want in wanted]
    left = max(0, most - sum(given))
    while left:
        hungry = [row for row, want in enumerate(wanted) if given[row] < want]
        if not hungry:
            break
        total = sum(shares[row] for row in hungry)
        parts = {row: min(wanted[row] - given[row], int(left * shares[row] / total)) for row in hungry}
        if not any(parts.values()):  # fewer left than there are hungry: to who has least for its share
            for row in sorted(hungry, key=lambda row: given[row] / shares[row])[:left]:
                given[row] += 1
            break
        for row, part in parts.items():
            given[row] += part
        left = max(0, most - sum(given))
    return given


class Budget:
    """What one turn may hold. `turn_s`: the length of a turn; 0: as long as the streams' frames are apart (20 to 100 ms)."""

    def __init__(self, *, turn_s: float = 0.0) -> None:
        self._turn_s = turn_s
        self.tile = Cost()
        self.frame = Cost()

    def turn_s(self, intervals_s: Sequence[float | None]) -> float:
        """The length of a turn with streams whose frames are so far apart (None: unknown)."""
        if self._turn_s:
            return self._turn_s
        known = [interval for interval in intervals_s if interval]
        return min(max(min(known, default=ASSUMED_S), SHORTEST_S), LONGEST_S)

    def streams(self, waiting: int, turn_s: float) -> int:
        """How many of the streams that wait fit into a turn, with one tile each."""
        each_s = (self.frame.seconds or 0.0) + (self.tile.seconds or 0.0)
        return max(1, min(waiting, int(turn_s / each_s))) if each_s else waiting

    def tiles(self, frames: int, turn_s: float) -> int:
        """How many tiles fit into a turn beside so many frames."""
        tile_s = self.tile.seconds
        if not tile_s:
            return UNKNOWN_TILES * frames
        return int((SHARE_FOR_TILES * turn_s - frames * (self.frame.seconds or 0.0)) / tile_s)
