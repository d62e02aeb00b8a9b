"""Who crosses a line, and which way."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from streamdet.config import Line
from streamdet.errors import ConfigError
from streamdet.rules.geometry import allowed_labels, anchors, to_px

__all__ = ["LineWatch"]

Direction = Literal["in", "out"]


class LineWatch:
    """Watches one directed line. Tracks are known by a slot number; only real hits are shown to it, never predictions.

    Somebody walking from `start` to `end` on the picture has one side on his right hand: going to it is "in", to the other
    "out" (a line drawn from left to right is crossed "in" downwards). An object is believed on a side once it is more than
    ``hysteresis_px`` from the line through both points; it crossed if its polyline of hits passed between `start` and `end` an
    odd number of times since it was last believed on the other side. So trembling on the line counts once, passing round an
    end not at all, and a jump over the line, however long in way or time, once.
    """

    def __init__(self, line: Line, labels: tuple[str, ...]) -> None:
        if line.start == line.end:
            raise ConfigError(f"line '{line.name}' starts and ends at {line.start}; it needs two different points")
        self.line = line
        self.crossings: dict[Direction, Counter[int]] = {"in": Counter(), "out": Counter()}
        self._allowed = allowed_labels(line.classes, labels, f"line '{line.name}'")
        self._start, self._along, self._length = np.zeros(2), np.array([1.0, 0.0]), 1.0
        self._side = np.zeros(0, np.int8)  # +1 right hand, -1 left hand, 0 not known yet
        self._odd = np.zeros(0, np.bool_)  # passed between the ends an odd number of times since the side was believed
        self._offset_px = np.zeros(0)  # of the preceding hit: distance to the right of the line; NaN before the first
        self._along_px = np.zeros(0)  # of the preceding hit: how far along the line

    def resolve(self, frame_wh: tuple[int, int]) -> None:
        """Take the size of the picture: relative coordinates become px."""
        start, end = to_px([self.line.start, self.line.end], frame_wh)
        self._start, self._length = start, float(np.hypot(*(end - start)))
        self._along = (end - start) / self._length

    def reserve(self, slots: int) -> None:
        """Make room for slot numbers below `slots`."""
        more = slots - len(self._side)
        self._side = np.concatenate([self._side, np.zeros(more, np.int8)])
        self._odd = np.concatenate([self._odd, np.zeros(more, np.bool_)])
        self._offset_px = np.concatenate([self._offset_px, np.full(more, np.nan)])
        self._along_px = np.concatenate([self._along_px, np.zeros(more)])

    def step(self, slots: NDArray[np.int64], xyxy: NDArray[Any], label: NDArray[Any]) -> list[tuple[int, Direction]]:
        """Look at the hits of one frame; returns (position in `slots`, direction) of the crossings."""
        from_start = anchors(xyxy, self.line.anchor) - self._start
        offset = self._along[0] * from_start[:, 1] - self._along[1] * from_start[:, 0]
        along = from_start @ self._along
        old_offset, old_along = self._offset_px[slots], self._along_px[slots]
        passes = ~np.isnan(old_offset) & ((offset > 0) != (old_offset > 0))
        part = np.divide(old_offset, old_offset - offset, out=np.zeros(len(slots)), where=passes)
        at = old_along + part * (along - old_along)
        odd = self._odd[slots] ^ (passes & (at >= 0) & (at <= self._length))

        side = np.where(np.abs(offset) > self.line.hysteresis_px, np.sign(offset), 0).astype(np.int8)
        before = self._side[slots]
        turned = (side != 0) & (before != 0) & (side != before)
        self._side[slots] = np.where(side != 0, side, before)
        self._odd[slots] = odd & (side == 0)
        self._offset_px[slots], self._along_px[slots] = offset, along
        crossed = turned & odd
        if self._allowed is not None:
            crossed &= np.isin(label, self._allowed)
        return [(row, "in" if side[row] > 0 else "out") for row in np.flatnonzero(crossed).tolist()]

    def forget(self, slot: int) -> None:
        """The track of `slot` is no more."""
        self._side[slot], self._odd[slot], self._offset_px[slot] = 0, False, np.nan
