"""What must be remembered of every live track: columns by slot, and its path. Bounded however long a track lives."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.types import Tracks

__all__ = ["Lives", "PathPoint"]

PathPoint = tuple[float, float, float]
I64 = NDArray[np.int64]
FRAME_TIMES = 512  # frames of a gap that are remembered, however high their rate
LONGEST_FILLED_S = 0.5  # gap that is filled in a path: nobody knows where a ball went in a longer one


class Lives:
    """Slots for live tracks, tentative ones too. A slot is reused once its track was forgotten.

    Columns (capacity,): ``key id label start_s last_s hits score top_score next_update_s``, ``xyxy`` (capacity,4),
    ``velocity_xy`` (capacity,2); all of the last *hit*, never of a predicted position. A path has a point for every hit (at
    most 2 x `path_points`: when full, every other one is dropped and from then on only every second hit is kept, and so
    on); frames missed between two hits at most LONGEST_FILLED_S apart are filled in linearly, a longer gap stays one.
    """

    def __init__(self, path_points: int) -> None:
        self.slot_of: dict[int, int] = {}
        self._path_points = path_points
        self._free: list[int] = []
        self._paths: list[list[PathPoint]] = []
        self._frame = 0  # frames seen
        self._times_s: deque[float] = deque(maxlen=FRAME_TIMES)  # of the frames just seen
        self.key = np.zeros(0, np.int64)
        self.id = np.zeros(0, np.int64)
        self.label = np.zeros(0, np.int32)
        self.hits = np.zeros(0, np.int64)
        self.start_s = np.zeros(0)
        self.last_s = np.zeros(0)
        self.score = np.zeros(0)
        self.top_score = np.zeros(0)
        self.next_update_s = np.zeros(0)
        self.xyxy = np.zeros((0, 4))
        self.velocity_xy = np.zeros((0, 2))
        self._last_frame = np.zeros(0, np.int64)
        self._stride = np.zeros(0, np.int64)
        self._stored = np.zeros(0, np.int64)

    @property
    def capacity(self) -> int:
        return len(self.id)

    def slots(self, keys: I64) -> I64:
        """(M,) the slot of every key, new ones for keys not seen before."""
        numbers = keys.tolist()
        fresh = [key for key in numbers if key not in self.slot_of]
        while len(self._free) < len(fresh):
            self._enlarge()
        for key in fresh:
            slot = self._free.pop()
            self.slot_of[key] = slot
            self.key[slot] = key
        return np.array([self.slot_of[key] for key in numbers], np.int64)

    def _enlarge(self) -> None:
        old, more = self.capacity, max(self.capacity, 64)
        for name, column in list(vars(self).items()):
            if isinstance(column, np.ndarray):
                setattr(self, name, np.concatenate([column, np.zeros((more, *column.shape[1:]), column.dtype)]))
        self._paths += [[] for _ in range(more)]
        self._stride[old:] = 1
        self._free += range(old + more - 1, old - 1, -1)

    def record(self, slots: I64, tracks: Tracks, pts_s: float) -> None:
        """Take the hits of one frame (rows of `tracks`); called for every frame, also with none."""
        xyxy = tracks.xyxy.astype(np.float64)
        centre = np.round((xyxy[:, :2] + xyxy[:, 2:]) / 2, 2)
        first = self.hits[slots] == 0
        self.start_s[slots[first]] = pts_s
        missed = ~first & (self._frame - self._last_frame[slots] > 1) & (self._stride[slots] == 1)
        missed &= pts_s - self.last_s[slots] <= LONGEST_FILLED_S + 1e-9
        for row in np.flatnonzero(missed).tolist():
            self._fill(int(slots[row]), pts_s, *centre[row].tolist())
        keep = self.hits[slots] % self._stride[slots] == 0
        time_s, paths = round(pts_s, 6), self._paths
        for slot, (x, y) in zip(slots[keep].tolist(), centre[keep].tolist()):
            paths[slot].append((time_s, x, y))
        self._stored[slots[keep]] += 1
        self.hits[slots] += 1
        self.label[slots], self.score[slots] = tracks.label, tracks.score
        self.top_score[slots] = np.maximum(self.top_score[slots], tracks.score)
        self.xyxy[slots], self.velocity_xy[slots] = xyxy, tracks.velocity_xy
        self.last_s[slots], self._last_frame[slots] = pts_s, self._frame
        for slot in slots[self._stored[slots] > 2 * self._path_points].tolist():
            self._thin(slot)
        self._frame += 1
        self._times_s.append(pts_s)

    def _fill(self, slot: int, pts_s: float, x: float, y: float) -> None:
        """Add points at the times of the frames missed since the last hit, on a straight line to the present one."""
        missed = min(self._frame - int(self._last_frame[slot]) - 1, len(self._times_s))
        times = np.array(list(islice(self._times_s, len(self._times_s) - missed, None)))
        then_s, then = float(self.last_s[slot]), (self.xyxy[slot, :2] + self.xyxy[slot, 2:]) / 2
        times = times[(times > then_s) & (times < pts_s)]
        xs, ys = (np.interp(times, [then_s, pts_s], [then[i], (x, y)[i]]).round(2).tolist() for i in (0, 1))
        self._paths[slot] += zip(times.round(6).tolist(), xs, ys)
        self._stored[slot] += len(times)

    def _thin(self, slot: int) -> None:
        self._paths[slot] = self._paths[slot][::2]
        self._stored[slot] = len(self._paths[slot])
        self._stride[slot] *= 2

    def path(self, slot: int) -> list[PathPoint]:
        """At most `path_points` rows (pts_s, cx, cy), evenly chosen, first and last hit included."""
        x1, y1, x2, y2 = self.xyxy[slot].tolist()
        last = (round(float(self.last_s[slot]), 6), round((x1 + x2) / 2, 2), round((y1 + y2) / 2, 2))
        path = self._paths[slot]
        points = path if path and path[-1][0] == last[0] else [*path, last]
        if len(points) <= self._path_points:
            return list(points)
        chosen = np.linspace(0, len(points) - 1, self._path_points).round().astype(int)
        if self._path_points == 1:
            chosen = np.array([len(points) - 1])
        return [points[i] for i in chosen.tolist()]

    def forget(self, slot: int) -> None:
        """Free a slot and what it held."""
        del self.slot_of[int(self.key[slot])]
        for column in vars(self).values():
            if isinstance(column, np.ndarray):
                column[slot] = 0
        self._stride[slot] = 1
        self._paths[slot] = []
        self._free.append(slot)

    def summary(self, slot: int) -> dict[str, Any]:
        """The last hit of a slot as plain numbers, in an Event's words."""
        vx, vy = self.velocity_xy[slot].tolist()
        return {
            "track": int(self.id[slot]),
            "score": round(float(self.score[slot]), 4),
            "top_score": round(float(self.top_score[slot]), 4),
            "bbox": tuple(round(value, 2) for value in self.xyxy[slot].tolist()),
            "velocity": (round(vx, 2), round(vy, 2)),
            "speed_px_s": round(float(np.hypot(vx, vy)), 2),
            "start_s": round(float(self.start_s[slot]), 6),
        }
