"""Second thoughts: of a recording, a frame's tracks are told a few frames later, when what followed is known.

A live camera's tracks are told at once: a ball shows only when it is surely one, and its mark goes out while it is missed. Where
nobody waits, the same tracker's rows are held back for a few frames, and

- a track's first hits, and those at which it was doubted, are told if it is believed by the end of that time;
- where its way is known, it is followed back to what was seen of it before (:mod:`streamdet.tracking.wayback`);
- between two hits not far apart it is on the way from one to the other (told as coasting: it was not seen there), unless a small
  thing came and went another way: then it was struck in between, or the track goes on with something else;
- a small thing that does not come back is not told where it might have gone: that would be a guess; nor is a single hit that it
  seems to come back for, away from its way and followed by none;
- a small thing has to have been hit a few times more than a live one to be told at all.

The tracker's rows are chosen among and joined; no box or score is changed but that of a filled gap and of a hit on the way
back. A track's label is the one known by the end of that time, and its first velocity the one that takes it to its next hit.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from streamdet.tracking.belief import PLAIN_PX
from streamdet.tracking.moments import Moment, way
from streamdet.tracking.wayback import Leg, go_back
from streamdet.types import COASTING, CONFIRMED, F32, TENTATIVE, Detections, Tracks

__all__ = ["Lookback"]

T = TypeVar("T")
Bool = NDArray[np.bool_]
Rows = NDArray[np.intp]

LONGEST_GAP = 6  # frames from one hit to the next between which a small thing is told, at usual rates
LEAST_STEP_S = 1e-3  # between two pictures, whatever their time stamps say
ASTRAY_PX = 28.0  # a gap whose ends' velocities lead so far past each other is no flight: left open


@dataclass(slots=True)
class _Life:
    """What is known of a track by the newest frame; of its last hit by the frame told last."""

    id: int = 0
    label: int = 0
    hits: int = 0
    box: F32 | None = None
    clock_s: float = 0.0
    frames_ago: int = 0
    came_xy: F32 | None = None  # px/s with which it came there; None: not known
    leg: Leg = field(default_factory=Leg)


class Lookback(Generic[T]):
    """Holds back `frames` frames (0: none). One per stream; `carried` is what belongs to a frame, given back untouched.

    `movers`: as for :class:`streamdet.tracking.Tracker`; things that show what they are by their looks are told as the tracker
    told them, but for their first hits and short gaps. `least_hits`, and `longest_gap` in frames: of movers.
    """

    def __init__(self, frames: int, *, movers: bool, least_hits: int = 5, longest_gap: int = LONGEST_GAP) -> None:
        self._frames = frames
        self._movers = movers
        self._longest_gap = longest_gap
        self._least_hits = least_hits if movers else 1
        self._moments: deque[Moment[T]] = deque()
        self._lives: dict[int, _Life] = {}
        self._pts_s, self._clock_s, self._pictures = 0.0, 0.0, 0

    def push(
        self, carried: T, pts_s: float, tracks: Tracks, found: Detections | None = None, *, repeat: bool = False
    ) -> list[tuple[T, Tracks]]:
        """Take in a frame's rows; gives back the frames whose time has come, with their final rows.

        `found`: what the tracker was given, strong and weak (``seen_row`` of the tracks counts in it). `repeat`: the frame is an
        exact repeat of the one before, which took no time in the scene.
        """
        if self._frames == 0:
            return [(carried, tracks)]
        if not repeat:
            self._clock_s += max(pts_s - self._pts_s, LEAST_STEP_S)
            self._pictures += 1
        self._pts_s = pts_s
        self._join(tracks.joined.tolist())
        self._moments.append(Moment(carried, self._clock_s, tracks, Detections.empty() if found is None else found))
        columns = tracks.key, tracks.id, tracks.label, tracks.seen
        for key, number, label, seen in zip(*(column.tolist() for column in columns)):
            life = self._lives.get(key) or self._lives.setdefault(key, _Life())
            life.id, life.label = number or life.id, label
            life.hits += seen and not repeat
        if self._movers and found is not None and not repeat:
            self._go_back(tracks)
        return [self._tell()] if len(self._moments) > self._frames else []

    def flush(self) -> list[tuple[T, Tracks]]:
        """All that is still held back: nothing will follow."""
        return [self._tell() for _ in range(len(self._moments))]

    def _go_back(self, tracks: Tracks) -> None:
        """Things of which the way is just known: where did they come from?"""
        seen = tracks.seen
        middle = (tracks.xyxy[seen, :2] + tracks.xyxy[seen, 2:]) / 2
        for key, xy in zip(tracks.key[seen].tolist(), middle.tolist()):
            if self._lives[key].leg.add(self._pictures, self._clock_s, *xy):
                go_back(self._moments, key, self._known)

    def _known(self, key: int) -> bool:
        return key in self._lives and self._lives[key].id > 0

    def _join(self, joined: list[list[int]]) -> None:
        """What was seen under a key that proved to be another track was seen of that one."""
        for gone, goes_on in joined:
            life = self._lives.setdefault(goes_on, _Life())
            other_life = self._lives.pop(gone, _Life())
            life.hits, life.leg = life.hits + other_life.hits, other_life.leg
            for moment in self._moments:
                other = moment.key == goes_on
                moment.key[other & ~moment.tracks.seen & (moment.key == gone).any()] = 0  # the guess gives way
                moment.key[(moment.key == gone) & ~(moment.key == goes_on).any()] = goes_on

    def _tell(self) -> tuple[T, Tracks]:
        moment = self._moments.popleft()
        tracks, key = moment.tracks, moment.key
        believed = self._believed(moment)
        nobody = _Life()
        lives = [self._lives.get(k, nobody) for k in key.tolist()]
        number = np.array([life.id for life in lives], np.int64)
        label = np.array([life.label for life in lives], np.int32)
        found = believed & tracks.seen
        found &= ~self._astray(moment, found)
        filled, xyxy, velocity_xy = self._fill(moment, believed & ~tracks.seen)
        for row in np.flatnonzero(found).tolist():
            if lives[row].box is None or lives[row].frames_ago >= self._longest_gap:
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
        named = key > 0
        return moment.carried, _in_order(final if named.all() else final[named])

    def _believed(self, moment: Moment[T]) -> Bool:
        """(M,) rows of tracks told in this moment or a later one, and hit often enough by now."""
        told: set[int] = set()
        for each in (moment, *self._moments):
            told.update(each.key[each.tracks.state != TENTATIVE].tolist())
        often = [
            k in told and k in self._lives and self._lives[k].id > 0 and self._lives[k].hits >= self._least_hits
            for k in moment.key.tolist()
        ]
        return np.array(often, np.bool_)

    def _fill(self, moment: Moment[T], gaps: Bool) -> tuple[Bool, F32, F32]:
        """Rows between two hits: which they are, and the boxes and velocities of all rows."""
        filled = np.zeros(len(gaps), np.bool_)
        xyxy, velocity_xy = moment.tracks.xyxy.copy(), moment.tracks.velocity_xy.copy()
        small = self._small(moment.tracks) & self._movers
        for row in np.flatnonzero(gaps).tolist():
            life = self._lives[int(moment.key[row])]
            ahead, box, clock_s = self._next_hit(int(moment.key[row]), moment.clock_s)
            if life.box is None or box is None:
                continue
            if small[row] and (
                life.frames_ago + ahead > self._longest_gap or self._strays(life, int(moment.key[row]), ahead)
            ):
                continue
            step_s = clock_s - life.clock_s
            xyxy[row] = life.box + np.float32((moment.clock_s - life.clock_s) / step_s) * (box - life.box)
            velocity_xy[row] = way(life.box, box) / step_s
            filled[row] = True
        return filled, xyxy, velocity_xy

    def _astray(self, moment: Moment[T], found: Bool) -> Bool:
        """Hits of small things after a gap that are not where these were going, and followed by none: something else was hit."""
        astray = np.zeros(len(found), np.bool_)
        if len(self._moments) < self._frames:  # the end of the recording: nobody knows what would have followed
            return astray
        for row in np.flatnonzero(found & self._small(moment.tracks) & self._movers).tolist():
            key = int(moment.key[row])
            life = self._lives[key]
            if life.box is None or life.came_xy is None or life.frames_ago < 2:
                continue
            off = way(life.box, moment.tracks.xyxy[row]) - life.came_xy * (moment.clock_s - life.clock_s)
            astray[row] = np.hypot(*off) > ASTRAY_PX and self._next_hit(key, moment.clock_s)[1] is None
        return astray

    def _strays(self, life: _Life, key: int, ahead: int) -> bool:
        """Whether the way through a gap to the hit `ahead` is at odds with how the thing came to it and how it goes on.

        With any steady acceleration the mean velocity between two hits is the mean of those at the hits.
        """
        there = self._moments[ahead - 1]
        box = there.box_of(key)
        if life.box is None or box is None:
            return False
        later, next_box, next_s = self._next_hit(key, there.clock_s, ahead)
        goes_xy = life.came_xy
        if next_box is not None and later <= self._longest_gap:
            goes_xy = way(box, next_box) / (next_s - there.clock_s)
        came_xy = goes_xy if life.came_xy is None else life.came_xy
        if came_xy is None or goes_xy is None:
            return False
        off = way(life.box, box) - (came_xy + goes_xy) / 2 * (there.clock_s - life.clock_s)
        return bool(np.hypot(*off) > ASTRAY_PX)

    def _first_velocity(self, moment: Moment[T], row: int) -> F32:
        """Of a first hit, or the first after a long gap, the tracker knows none."""
        _, box, clock_s = self._next_hit(int(moment.key[row]), moment.clock_s)
        if box is None:
            return np.asarray(moment.tracks.velocity_xy[row], np.float32)
        return np.asarray(way(moment.tracks.xyxy[row], box) / (clock_s - moment.clock_s), np.float32)

    def _next_hit(self, key: int, since_s: float, after: int = 0) -> tuple[int, F32 | None, float]:
        """Frames from `after` until track `key` is seen in a new picture, its box there and when; no box: not held yet."""
        for ahead, later in enumerate(itertools.islice(self._moments, after, None), 1):
            box = later.box_of(key)
            if box is not None and later.clock_s > since_s:
                return ahead, box, later.clock_s
        return 0, None, 0.0

    def _remember(self, moment: Moment[T], found: Bool) -> None:
        for life in self._lives.values():
            life.frames_ago += 1
        for row in np.flatnonzero(found).tolist():
            life, box = self._lives[int(moment.key[row])], moment.tracks.xyxy[row]
            if life.box is None or moment.clock_s > life.clock_s:
                life.came_xy = None
                if life.box is not None and life.frames_ago <= self._longest_gap:
                    life.came_xy = way(life.box, box) / (moment.clock_s - life.clock_s)
            life.box, life.clock_s, life.frames_ago = box, moment.clock_s, 0
        for key in moment.tracks.ended.tolist():
            self._lives.pop(key, None)

    @staticmethod
    def _small(tracks: Tracks) -> Bool:
        wh = tracks.xyxy[:, 2:] - tracks.xyxy[:, :2]
        return np.asarray(np.sqrt(np.maximum(wh[:, 0] * wh[:, 1], 0)) < PLAIN_PX)


def _in_order(tracks: Tracks) -> Tracks:
    """Rows ordered by key, as a tracker gives them."""
    return tracks if bool((np.diff(tracks.key) > 0).all()) else tracks[np.argsort(tracks.key, kind="stable")]
