"""The frames a look back still holds: each one's rows, which may yet change, and what was detected in it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from streamdet.types import TENTATIVE, Detections, Tracks

__all__ = ["Moment", "way"]

T = TypeVar("T")
F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]


@dataclass(slots=True)
class Moment(Generic[T]):
    """A frame's rows on their way, and what comes with them.

    ``clock_s`` is time in the scene: a frame that repeats the one before took none. ``found``: all that was detected, weak or
    strong; ``seen_row`` of the rows is a row of it.
    """

    carried: T
    clock_s: float
    tracks: Tracks
    found: Detections
    key: NDArray[np.int64] = field(init=False)  # of each row; or of the track it turned out to be, 0: of none

    def __post_init__(self) -> None:
        self.key = self.tracks.key.copy()

    def row_of(self, key: NDArray[np.int64], among: Bool) -> NDArray[np.int64]:
        """(N,) for each key its row, if that is one of `among`; else -1."""
        rows = np.flatnonzero(among)
        order = rows[np.argsort(self.key[rows], kind="stable")]
        at = np.minimum(np.searchsorted(self.key[order], key), max(len(order) - 1, 0))
        return np.where(self.key[order][at] == key, order[at], -1) if len(order) else np.full(len(key), -1)

    def box_of(self, key: int) -> F32 | None:
        """(4,) where track `key` was seen in this frame; None: it was not."""
        row = int(self.row_of(np.array([key]), self.tracks.seen)[0])
        return None if row < 0 else self.tracks.xyxy[row]

    def seen_row(self, row: int) -> int:
        """The row of `found` that its row `row` was hit by; -1: by none."""
        return int(_seen_rows(self.tracks)[row])

    def sees(self, key: int, detection: int, velocity_xy: F32) -> None:
        """Track `key` was seen in this frame after all, as that row of `found`; whoever had that row before was not."""
        self._free(detection)
        rows = np.flatnonzero(self.key == key)
        if not len(rows):
            self._append(key)
            rows = np.array([len(self.key) - 1])
        row, tracks = rows[0], self.tracks
        xyxy, score, velocities = tracks.xyxy.copy(), tracks.score.copy(), tracks.velocity_xy.copy()
        xyxy[row], score[row], velocities[row] = self.found.xyxy[detection], self.found.score[detection], velocity_xy
        seen_row = _seen_rows(tracks)
        seen_row[row] = detection
        self.tracks = replace(tracks, xyxy=xyxy, score=score, velocity_xy=velocities, seen_row=seen_row)

    def sees_not(self, key: int) -> None:
        """What was taken for track `key` in this frame was something else."""
        seen_row = _seen_rows(self.tracks)
        seen_row[self.key == key] = -1
        self.tracks = replace(self.tracks, seen_row=seen_row)

    def _free(self, detection: int) -> None:
        self.key[_seen_rows(self.tracks) == detection] = 0

    def _append(self, key: int) -> None:
        """A row for a track that has none here: told only if it is believed later."""
        tracks = self.tracks
        self.tracks = replace(
            tracks,
            id=np.append(tracks.id, 0),
            key=np.append(tracks.key, key),
            xyxy=np.concatenate([tracks.xyxy, np.zeros((1, 4), np.float32)]),
            velocity_xy=np.concatenate([tracks.velocity_xy, np.zeros((1, 2), np.float32)]),
            score=np.append(tracks.score, np.float32(0)),
            label=np.append(tracks.label, np.int32(0)),
            state=np.append(tracks.state, np.uint8(TENTATIVE)),
            age_s=np.append(tracks.age_s, np.float32(0)),
            detection_row=np.append(tracks.detection_row, np.int32(-1)),
            seen_row=np.append(_seen_rows(tracks), np.int32(-1)),
            held=None if tracks.held is None else np.append(tracks.held, False),
        )
        self.key = np.append(self.key, key)


def way(box: F32, other: F32) -> F32:
    """From the middle of one to that of the other, px."""
    return np.asarray((other - box).reshape(2, 2).mean(axis=0))


def _seen_rows(tracks: Tracks) -> NDArray[np.int32]:
    return (tracks.detection_row if tracks.seen_row is None else tracks.seen_row).copy()
