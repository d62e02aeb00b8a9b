"""What became of each region over time: has it travelled, or does it come and go on the spot?

One frame cannot tell the lamp of a score board from a ball: both are small, bright and new. The next frames can. Every
region is followed from frame to frame for as long as it overlaps itself; of each such *trace* it is known how far it has
come and in which frames nothing in it moved. Then

- what *popped up* (was there all at once) and stands still without ever having travelled is no mover yet: for a moment, in
  which ghosts are healed, it is a detection too weak to found a track by standing there; and if after half a second
  nothing in it has moved, none at all (a codec lets small things stand for some frames, but not for ever);
- where several such things happened within a few seconds is a board, a screen, a crowd: in that neighbourhood nothing
  counts that stands still and has not travelled. What flies across it moves in every frame and is not touched;
- what is small and creeps steadily for half a second is a mover, however little of it changes from one frame to the next.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from streamdet.motion.activity import BLOCK_PX
from streamdet.motion.shapes import Shapes
from streamdet.types import F32, I64, U8, Bool

__all__ = ["History"]

LEAST = 0.02  # regions less sure than this are not followed: nothing here could make them detections
UNSEEN_S, CREEPER_UNSEEN_S = 0.1, 0.5  # a trace survives this long without its region; what creeps is faint
SMOOTH_S = 0.08
POPPED = 0.3  # share of moving pixels from which a region came all at once
STILL = 0.12  # ... and below which it stands
BORN_STILL_RATIO = 2.5  # what begins standing still and this clear was cut loose from something else, or uncovered
TRAVELLED_PX, TRAVELLED_SHARE = 3.0, 0.35  # net way: at least so many px, and this share of its size
STEPS, SLOW_STEPS = 2.0, 4.0  # ... and as many of its longest steps; the second where it mostly stands, and jumps
MOSTLY = 0.6
YOUNG_S = 0.2
STANDS_S, STANDS_SHARE, STANDS_PX = 0.5, 0.97, 1.0
CREEPS_S, CREEPS_BELOW, CREEPER_PX = 0.5, 0.6, 16.0  # what creeps is far away, and so is small
CREEP_LOGIT = 2.5
STANDING, NOTHING = 0.35, 0.05  # strengths left: enough to go on with a track, but not for a new one; not even that
RESTLESS, REMEMBERED_S = 2.5, 4.0  # blocks in which something blinked, fading; one thing can lie in two
NEAR_BLOCKS, NEAR_SHARE = 4, 1 / 16  # how far a blink is felt: blocks, and of the picture's height
RESTED_S = 0.3  # in a restless place, what has stood this long must travel anew

_TRACE = np.dtype(
    [
        ("birth", "f4", 2),
        ("smooth", "f4", 2),  # centre without its jitter
        ("centre", "f4", 2),
        ("size", "f4"),
        ("longest", "f4"),  # px between two frames
        ("age_s", "f4"),
        ("unseen_s", "f4"),
        ("rest_s", "f4"),  # since anything in it moved
        ("frames", "i4"),
        ("stood", "i4"),  # of them
        ("popped", "?"),
        ("crept", "?"),
        ("travelled", "?"),
        ("counted", "?"),  # as a blink
    ]
)
Traces = NDArray[Any]


class History:
    """One per scene; `shape`: rows and columns of the block map."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._traces: Traces = np.zeros(0, _TRACE)
        self._blinks = np.zeros(shape, np.float32)  # things that popped up and stood, fading
        self._near = self._blinks  # how many of them near each block
        self._reach = 2 * max(NEAR_BLOCKS, round(NEAR_SHARE * shape[0])) + 1

    def __call__(self, shapes: Shapes, strength: F32, dt_s: float, shift_xy: tuple[float, float] = (0.0, 0.0)) -> F32:
        """The strengths (R,) of this frame's regions in the light of what they did before; `strength` is not changed."""
        self._advance(dt_s, shift_xy)
        rows = np.flatnonzero(strength >= LEAST)
        if not len(rows):
            return strength
        box, moving, ratio = shapes.xyxy[rows], shapes.moving[rows], shapes.ratio[rows]
        mine = self._follow(box, moving, dt_s)
        self._count_blinks()
        fresh = np.flatnonzero(mine < 0)
        born = _born(box[fresh], moving[fresh], ratio[fresh])
        mine[fresh] = len(self._traces) + np.arange(len(fresh))
        self._traces = np.concatenate([_as_bytes(self._traces), _as_bytes(born)]).reshape(-1).view(_TRACE)
        out = strength.copy()
        out[rows] = self._judge(_taken(self._traces, mine), strength[rows], moving)
        return out

    def _advance(self, dt_s: float, shift_xy: tuple[float, float]) -> None:
        faint = self._traces["crept"] & ~self._restless(self._traces["centre"])
        traces = _taken(self._traces, self._traces["unseen_s"] <= np.where(faint, CREEPER_UNSEEN_S, UNSEEN_S))
        traces["unseen_s"] += dt_s
        traces["age_s"] += dt_s
        if shift_xy != (0.0, 0.0):
            for place in ("birth", "smooth", "centre"):
                traces[place] += np.asarray(shift_xy, np.float32)
        self._traces = traces
        self._blinks *= np.float32(np.exp(-dt_s / REMEMBERED_S))

    def _follow(self, box: F32, moving: F32, dt_s: float) -> I64:
        """(N,) the trace each region continues, -1 for none; a trace goes on with the nearest of its regions."""
        traces = self._traces
        if not len(traces):
            return np.full(len(box), -1, np.int64)
        centre, size = _centre(box), _size(box)
        apart = np.square(centre[:, None, 0] - traces["centre"][None, :, 0])
        apart += np.square(centre[:, None, 1] - traces["centre"][None, :, 1])
        apart[apart > np.square(2 + 0.5 * np.minimum(size[:, None], traces["size"][None]))] = np.inf
        mine = np.where(np.isfinite(apart.min(1)), apart.argmin(1), -1)
        seen = np.flatnonzero(np.isfinite(apart.min(0)))
        region = apart.argmin(0)[seen]
        _as_bytes(traces)[seen] = _as_bytes(_continued(_taken(traces, seen), box[region], moving[region], dt_s))
        return mine.astype(np.int64)

    def _count_blinks(self) -> None:
        """Enter what popped up and stands into the map, once each; what has rested in a restless place must travel anew."""
        traces = self._traces
        row, column = self._blocks(traces["centre"])
        new = np.flatnonzero(traces["popped"] & ~traces["travelled"] & (traces["stood"] > 0) & ~traces["counted"])
        self._blinks[row[new], column[new]] = 1  # however often: one thing that flickers is no board
        traces["counted"][new] = True
        reach = (self._reach, self._reach)
        near = cv2.boxFilter(self._blinks, -1, reach, normalize=False, borderType=cv2.BORDER_CONSTANT)
        self._near = np.asarray(near, np.float32)
        tired = traces["travelled"] & (traces["rest_s"] > RESTED_S)
        if tired.any():
            stale = np.flatnonzero(tired)
            stale = stale[self._restless(traces["centre"][stale])]
            traces["travelled"][stale] = False
            traces["birth"][stale] = traces["smooth"][stale] = traces["centre"][stale]
            traces["longest"][stale] = 0

    def _judge(self, traces: Traces, strength: F32, moving: F32) -> F32:
        out = strength.astype(np.float64)
        creeps = traces["crept"] & (traces["age_s"] >= CREEPS_S)
        creeps &= (moving < CREEPS_BELOW) & (traces["size"] <= CREEPER_PX)
        odds = out[creeps] / np.maximum(1 - out[creeps], 1e-6) * np.exp(CREEP_LOGIT)
        out[creeps] = odds / (1 + odds)
        stood = ~traces["travelled"] & (traces["stood"] > 0)
        popped = stood & traces["popped"]
        young = popped & (traces["age_s"] < YOUNG_S)
        out[young] = np.minimum(out[young], STANDING)
        way = np.hypot(*(traces["smooth"] - traces["birth"]).T)
        lies = (traces["stood"] >= STANDS_SHARE * traces["frames"] - 1) & (
            way < STANDS_PX
        )  # less the one in which it came
        nothing = popped & lies & (traces["age_s"] >= STANDS_S)
        nothing |= stood & self._restless(traces["centre"])
        out[nothing] = np.minimum(out[nothing], NOTHING)
        return out.astype(np.float32)

    def _restless(self, centre: F32) -> Bool:
        """(N,) whether several blinks were counted near each place."""
        return np.asarray(self._near[self._blocks(centre)] >= RESTLESS, np.bool_)

    def _blocks(self, centre: F32) -> tuple[I64, I64]:
        rows, columns = self._blinks.shape
        at = np.maximum(centre * np.float32(1 / BLOCK_PX), 0).astype(np.int64)
        return np.minimum(at[:, 1], rows - 1), np.minimum(at[:, 0], columns - 1)


def _taken(traces: Traces, rows: I64 | Bool) -> Traces:
    """Copies of some traces: whole ones, many times faster than numpy's way of field by field."""
    return _as_bytes(traces)[rows].reshape(-1).view(_TRACE)


def _as_bytes(traces: Traces) -> U8:
    return traces.view(np.uint8).reshape(len(traces), _TRACE.itemsize)


def _continued(traces: Traces, box: F32, moving: F32, dt_s: float) -> Traces:
    """The traces one frame later, each with its region."""
    centre = _centre(box)
    step = np.hypot(*(centre - traces["centre"]).T)
    traces["longest"] = np.maximum(traces["longest"], step)
    traces["centre"], traces["size"] = centre, _size(box)
    traces["smooth"] += (1 - np.exp(-dt_s / SMOOTH_S)) * (centre - traces["smooth"])
    traces["unseen_s"] = 0
    still = moving < STILL
    traces["frames"] += 1
    traces["stood"] += still
    traces["rest_s"] = np.where(still, traces["rest_s"] + dt_s, 0)
    traces["popped"] |= moving >= POPPED
    way = np.hypot(*(traces["smooth"] - traces["birth"]).T)
    far = way >= np.maximum(TRAVELLED_PX, TRAVELLED_SHARE * traces["size"])
    traces["crept"] |= far & (way >= STEPS * traces["longest"])
    steps = np.where(traces["stood"] > MOSTLY * traces["frames"], SLOW_STEPS, STEPS)
    traces["travelled"] |= far & (way >= steps * traces["longest"])
    return traces


def _born(box: F32, moving: F32, ratio: F32) -> Traces:
    traces = np.zeros(len(box), _TRACE)
    traces["size"] = _size(box)
    traces["birth"] = traces["smooth"] = traces["centre"] = _centre(box)
    traces["frames"] = 1
    still = moving < STILL
    traces["stood"] = still
    traces["popped"] = (moving >= POPPED) | (still & (ratio > BORN_STILL_RATIO))
    return traces


def _centre(box: F32) -> F32:
    return np.asarray((box[:, :2] + box[:, 2:]) / 2, np.float32)


def _size(box: F32) -> F32:
    return np.asarray(np.sqrt((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])), np.float32)
