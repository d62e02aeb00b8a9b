"""Where a small thing came from: faint detections on the way that leads back from its first hits.

A ball that leaves a racket, a player or the edge of the picture is seen faintly before it is seen well, and a tracker that does
not know yet where it comes from either leaves these detections alone or goes on with a hand. From three hits of one flight it is
known where it was before: what was detected there, and belongs to nothing else that is known, was it, and a hit of the same track
elsewhere was not.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamdet.tracking.moments import F32, Moment, way
from streamdet.tracking.pairing import size_of, size_ratio

__all__ = ["Leg", "go_back"]

LOOSE_PX, LOOSE_SHARE = 5.0, 0.3  # how far off its course a thing may be: so much, and that share of the step
LONGEST_STEP = 2  # pictures between two hits of one leg
MISSED = 1  # frames in a row without a hit that do not end a way


@dataclass(slots=True)
class Leg:
    """How many of a track's last hits lie on one course; as cheap as can be, for it is asked of every track in every frame."""

    count: int = 0
    picture: int = 0  # of the last one
    last: tuple[float, float, float] = (0.0, 0.0, 0.0)  # when and where: s, px
    velocity: tuple[float, float] = (0.0, 0.0)  # px/s from the hit before to the last one

    def add(self, picture: int, clock_s: float, x: float, y: float) -> bool:
        """One more hit. Returns whether it makes three: the way is known from now on."""
        last_s, last_x, last_y = self.last
        step_s = clock_s - last_s
        if self.count and picture - self.picture <= LONGEST_STEP:
            velocity = (x - last_x) / step_s, (y - last_y) / step_s
            off = math.hypot(velocity[0] - self.velocity[0], velocity[1] - self.velocity[1]) * step_s
            loose = LOOSE_PX + LOOSE_SHARE * math.hypot(x - last_x, y - last_y)
            self.count = self.count + 1 if self.count == 1 or off <= loose else 2
            self.velocity = velocity
        else:
            self.count = 1
        self.picture, self.last = picture, (clock_s, x, y)
        return self.count == 3


@dataclass(frozen=True, slots=True)
class _Hit:
    clock_s: float
    box: F32


@dataclass(slots=True)
class _Course:
    """The way through three hits in a row, as it leads to what was before them."""

    first: _Hit
    second: _Hit
    third: _Hit

    def before(self, clock_s: float) -> tuple[F32, float]:
        """Middle of the thing at that time, px, and how far off it may be.

        Half-way between straight on and accelerated as steadily as the three hits say.
        """
        near, far = _velocity(self.first, self.second), _velocity(self.second, self.third)
        straight = near * (clock_s - self.first.clock_s)
        bend = (far - near) / (self.third.clock_s - self.first.clock_s)
        bend = bend * (clock_s - self.first.clock_s) * (clock_s - self.second.clock_s)
        loose = LOOSE_PX + LOOSE_SHARE * float(np.hypot(*straight)) + float(np.hypot(*bend)) / 2
        middle = (self.first.box[:2] + self.first.box[2:]) / 2
        return np.asarray(middle + straight + bend / 2, np.float32), loose

    def one_flight(self) -> bool:
        """Whether the three fit each other: the second on the way between the others."""
        share = (self.second.clock_s - self.first.clock_s) / (self.third.clock_s - self.first.clock_s)
        whole = way(self.first.box, self.third.box)
        off = way(self.first.box, self.second.box) - share * whole
        return float(np.hypot(*off)) <= LOOSE_PX + LOOSE_SHARE * float(np.hypot(*whole)) / 2


def go_back(moments: Iterable[Moment[Any]], key: int, known: Callable[[int], bool]) -> None:
    """Give track `key`, seen in the last of the `moments`, what is found on its way before it was on this course.

    `known`: whether a key is that of a track with a name; what was seen of such a one stays its own.
    """
    frames = [list(group) for _, group in itertools.groupby(moments, lambda moment: moment.clock_s)]
    seen = [(index, box) for index, group in enumerate(frames) if (box := group[0].box_of(key)) is not None]
    if len(seen) < 3 or seen[-1][0] - seen[-3][0] > 2 + 2 * MISSED:
        return
    course = _Course(*(_Hit(frames[index][0].clock_s, box) for index, box in seen[-3:]))
    if not course.one_flight():
        return
    missed = 0
    stray: list[list[Moment[Any]]] = []
    for group in reversed(frames[: seen[-3][0]]):
        place, loose = course.before(group[0].clock_s)
        box = group[0].box_of(key)
        if box is not None and _apart(box[None], place)[0] <= loose:
            for moment in itertools.chain.from_iterable(stray):  # went off its course and came back to it
                moment.sees_not(key)
            return
        detection = _found(group[0], key, course.first.box, place, loose, known)
        if detection is None:
            missed += 1
            if missed > MISSED:
                return
            if box is not None:
                stray.append(group)
            continue
        missed = 0
        hit = _Hit(group[0].clock_s, group[0].found.xyxy[detection])
        for moment in group:
            moment.sees(key, detection, _velocity(hit, course.first))
        course = _Course(hit, course.first, course.second)


def _found(
    moment: Moment[Any], key: int, like: F32, place: F32, loose_px: float, known: Callable[[int], bool]
) -> int | None:
    """The detection nearest to `place` that may be the thing, of the size of `like`, and is nobody else's."""
    found = moment.found
    apart = _apart(found.xyxy, place)
    rows = np.flatnonzero(apart <= loose_px)
    if not len(rows):
        return None
    wh = np.concatenate([like[None], found.xyxy[rows]])
    size = size_of((wh[:, 2:] - wh[:, :2]).astype(np.float64))
    rows = rows[size_ratio(size[:1], size[1:]) < 1]
    taken = {moment.seen_row(row) for row, other in enumerate(moment.key.tolist()) if other != key and known(other)}
    free = [row for row in rows[np.argsort(apart[rows], kind="stable")].tolist() if row not in taken]
    return free[0] if free else None


def _apart(boxes: F32, place: F32) -> F32:
    """(N,) px from the middles of the boxes (N,4) to a place."""
    off = (boxes[:, :2] + boxes[:, 2:]) / 2 - place
    return np.asarray(np.hypot(off[:, 0], off[:, 1]))


def _velocity(earlier: _Hit, later: _Hit) -> F32:
    return way(earlier.box, later.box) / np.float32(later.clock_s - earlier.clock_s)
