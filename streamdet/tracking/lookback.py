"""Second thoughts: of a recording, a frame's tracks are told a few frames later, when what followed is known.

A live camera's tracks are told at once: a ball shows only when it is surely one, and its mark goes out while it is missed. Where
nobody waits, the same tracker's rows are held back for a few frames, and

- a track's first hits, and those at which it was doubted, are told if it is believed by the end of that time;
- between two hits not far apart it is on the way from one to the other (told as coasting: it was not seen there), unless a small
  thing came and went another way: then it was struck in between, or the track goes on with something else;
- a small thing that does not come back is not told where it might have gone: that would be a guess;
- a small thing has to have been hit a few times more than a live one to be told at all.

The tracker's rows are chosen among and joined; no box or score is changed but that of a filled gap. A track's label is the one
known by the end of that time, and its first velocity the one that takes it to its next hit.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from streamdet.tracking.belief import PLAIN_PX
from streamdet.types import COASTING, CONFIRMED, F32, TENTATIVE, Tracks

__all__ = ["Lookback"]

T = TypeVar("T")
Bool = NDArray[np.bool_]
Rows = NDArray[np.intp]

LONGEST_GAP = 6  # frames without a hit that are filled for a small thing
ASTRAY_PX = 28.0  # a gap whose ends' velocities lead so far past each other is no flight: left open


@dataclass(slots=True)
class _Moment(Generic[T]):
    """A frame's rows on their way, and what comes with them."""

    carried: T
    pts_s: float
    tracks: Tracks
    key: NDArray[np.int64] = field(init=False)  # of each row; or of the track it turned out to be, 0: of none

    def __post_init__(self) -> None:
        self.key = self.tracks.key.copy()

    def row_of(self, key: NDArray[np.int64], among: Bool) -> NDArray[np.int64]:
        """(N,) for each key its row, if that is one of `among`; else -1."""
        rows = np.flatnonzero(among)
        order = rows[np.argsort(self.key[rows], kind="stable")]
        at = np.minimum(np.searchsorted(self.key[order], key), max(len(order) - 1, 0))
        return np.where(self.key[order][at] == key, order[at], -1) if len(order) else np.full(len(key), -1)


@dataclass(slots=True)
class _Life:
    """What is known of a track by the newest frame; of its last hit by the frame told last."""

    id: int = 0
    label: int = 0
    hits: int = 0
    box: F32 | None = None
    pts_s: float = 0.0
    frames_ago: int = 0
    came_xy: F32 | None = None  # px/s with which it came there; None: not known


class Lookback(Generic[T]):
    """Holds back `frames` frames (0: none). One per stream; `carried` is what belongs to a frame, given back untouched.

    `movers`: as for :class:`streamdet.tracking.Tracker`; things that show what they are by their looks are told as the tracker
    told them, but for their first hits and short gaps. `least_hits`: of movers.
    """

    def __init__(self, frames: int, *, movers: bool, least_hits: int = 5) -> None:
        self._frames = frames
        self._movers = movers
        self._least_hits = least_hits if movers else 1
        self._moments: deque[_Moment[T]] = deque()
        self._lives: dict[int, _Life] = {}

    def push(self, carried: T, pts_s: float, tracks: Tracks) -> list[tuple[T, Tracks]]:
        """Take in a frame's rows; gives back the frames whose time has come, with their final rows."""
        if self._frames == 0:
            return [(carried, tracks)]
        self._join(tracks.joined.tolist())
        self._moments.append(_Moment(carried, pts_s, tracks))
        columns = tracks.key, tracks.id, tracks.label, tracks.seen
        for key, number, label, seen in zip(*(column.tolist() for column in columns)):
            life = self._lives.setdefault(key, _Life())
            life.id, life.label = number or life.id, label
            life.hits += seen
        return [self._tell()] if len(self._moments) > self._frames else []

    def flush(self) -> list[tuple[T, Tracks]]:
        """All that is still held back: nothing will follow."""
        return [self._tell() for _ in range(len(self._moments))]

    def _join(self, joined: list[list[int]]) -> None:
        """What was seen under a key that proved to be another track was seen of that one."""
        for gone, goes_on in joined:
            life = self._lives.setdefault(goes_on, _Life())
            life.hits += self._lives.pop(gone, _Life()).hits
            for moment in self._moments:
                other = moment.key == goes_on
                moment.key[other & ~moment.tracks.seen & (moment.key == gone).any()] = 0  # the guess gives way
                moment.key[(moment.key == gone) & ~(moment.key == goes_on).any()] = goes_on

    def _tell(self) -> tuple[T, Tracks]:
        moment = self._moments.popleft()
        tracks, key = moment.tracks, moment.key
        believed = self._believed(moment)
        lives = [self._lives.get(k, _Life()) for k in key.tolist()]
        number = np.array([life.id for life in lives], np.int64)
        label = np.array([life.label for life in lives], np.int32)
        found = believed & tracks.seen
        filled, xyxy, velocity_xy = self._fill(moment, believed & ~tracks.seen)
        for row in np.flatnonzero(found).tolist():
            if lives[row].box is None or lives[row].frames_ago >= LONGEST_GAP:
                velocity_xy[row] = self._first_velocity(moment, row)
        kept = believed & ~found & ~filled & (tracks.state == COASTING) & ~(self._small(tracks) & self._movers)
        state = np.where(found, CONFIRMED, np.where(filled | kept, COASTING, TENTATIVE)).astype(np.uint8)
        told = state != TENTATIVE
        seen_row = tracks.detection_row if tracks.seen_row is None else tracks.seen_row
        final = replace(
            tracks,
            id=np.where(told, number, 0),
            key=key,
            label=np.where(told, label, tracks.label),
            xyxy=xyxy,
            velocity_xy=velocity_xy,
            state=state,
            detection_row=np.where(found, seen_row, -1).astype(np.int32),
        )
        self._remember(moment, found)
        return moment.carried, _in_order(final[key > 0])

    def _believed(self, moment: _Moment[T]) -> Bool:
        """(M,) rows of tracks told in this moment or a later one, and hit often enough by now."""
        told = [m.key[m.tracks.state != TENTATIVE] for m in (moment, *self._moments)]
        often = [
            k in self._lives and self._lives[k].id > 0 and self._lives[k].hits >= self._least_hits
            for k in moment.key.tolist()
        ]
        return np.asarray(np.isin(moment.key, np.concatenate(told)) & np.array(often, np.bool_))

    def _fill(self, moment: _Moment[T], gaps: Bool) -> tuple[Bool, F32, F32]:
        """Rows between two hits: which they are, and the boxes and velocities of all rows."""
        filled = np.zeros(len(gaps), np.bool_)
        xyxy, velocity_xy = moment.tracks.xyxy.copy(), moment.tracks.velocity_xy.copy()
        small = self._small(moment.tracks) & self._movers
        for row in np.flatnonzero(gaps).tolist():
            life = self._lives[int(moment.key[row])]
            ahead, box, pts_s = self._next_hit(moment.key[row : row + 1])
            if life.box is None or box is None:
                continue
            step_s = pts_s - life.pts_s
            if small[row] and (life.frames_ago + ahead > LONGEST_GAP or self._strays(life, moment.key[row], ahead)):
                continue
            share = np.float32((moment.pts_s - life.pts_s) / step_s if step_s > 0 else 0.5)
            xyxy[row] = life.box + share * (box - life.box)
            if step_s > 0:
                velocity_xy[row] = _way(life.box, box) / step_s
            filled[row] = True
        return filled, xyxy, velocity_xy

    def _strays(self, life: _Life, key: np.int64, ahead: int) -> bool:
        """Whether the way through a gap to the hit `ahead` is at odds with how the thing came to it and how it goes on.

        With any steady acceleration the mean velocity between two hits is the mean of those at the hits.
        """
        there = self._moments[ahead - 1]
        box = there.tracks.xyxy[there.row_of(np.array([key]), there.tracks.seen)[0]]
        later, next_box, next_s = self._next_hit(np.array([key]), ahead)
        if life.box is None or life.came_xy is None or next_box is None or later > LONGEST_GAP:
            return False
        step_s = there.pts_s - life.pts_s
        if step_s <= 0 or next_s <= there.pts_s:
            return False
        goes_xy = _way(box, next_box) / (next_s - there.pts_s)
        off = _way(life.box, box) - (life.came_xy + goes_xy) / 2 * step_s
        return bool(np.hypot(*off) > ASTRAY_PX)

    def _first_velocity(self, moment: _Moment[T], row: int) -> F32:
        """Of a first hit, or the first after a long gap, the tracker knows none."""
        _, box, pts_s = self._next_hit(moment.key[row : row + 1])
        if box is None or pts_s <= moment.pts_s:
            return np.asarray(moment.tracks.velocity_xy[row], np.float32)
        return np.asarray(_way(moment.tracks.xyxy[row], box) / (pts_s - moment.pts_s), np.float32)

    def _next_hit(self, key: NDArray[np.int64], after: int = 0) -> tuple[int, F32 | None, float]:
        """Frames from `after` until track `key` (1,) is seen again, its box there and when; no box if that is not held."""
        for ahead, later in enumerate(itertools.islice(self._moments, after, None), 1):
            row = int(later.row_of(key, later.tracks.seen)[0])
            if row >= 0:
                return ahead, later.tracks.xyxy[row], later.pts_s
        return 0, None, 0.0

    def _remember(self, moment: _Moment[T], found: Bool) -> None:
        for life in self._lives.values():
            life.frames_ago += 1
        for row in np.flatnonzero(found).tolist():
            life, box = self._lives[int(moment.key[row])], moment.tracks.xyxy[row]
            soon = life.frames_ago <= LONGEST_GAP and moment.pts_s > life.pts_s
            life.came_xy = None
            if life.box is not None and soon:
                life.came_xy = _way(life.box, box) / (moment.pts_s - life.pts_s)
            life.box, life.pts_s, life.frames_ago = box, moment.pts_s, 0
        for key in moment.tracks.ended.tolist():
            self._lives.pop(key, None)

    @staticmethod
    def _small(tracks: Tracks) -> Bool:
        wh = tracks.xyxy[:, 2:] - tracks.xyxy[:, :2]
        return np.asarray(np.sqrt(np.maximum(wh[:, 0] * wh[:, 1], 0)) < PLAIN_PX)


def _way(box: F32, other: F32) -> F32:
    """From the middle of one to that of the other, px."""
    return np.asarray((other - box).reshape(2, 2).mean(axis=0))


def _in_order(tracks: Tracks) -> Tracks:
    """Rows ordered by key, as a tracker gives them."""
    return tracks if bool((np.diff(tracks.key) > 0).all()) else tracks[np.argsort(tracks.key, kind="stable")]
