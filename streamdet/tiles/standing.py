"""What stands: where the picture is the same as when a place was looked at, so is what the network says of it.

What was found there is given to merger and tracker again in every frame, as a look everywhere would, and costs nothing: what
stands still is confirmed as soon as with ``--look all``, does not fade between two turns of the sweep, and need not be looked at
again. Such rows lie in none of the frame's tiles (``tile`` -1) and are told as ``held``.

An answer stands until something moves in its box, the picture there is another (which also finds what creeps below the threshold
of motion), the light or the camera moves, a later look shows the place as well as the one it comes from, or it has grown old.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamdet.boxes import area, intersection, iou
from streamdet.tiles.cover import own_slack_px, slack_px
from streamdet.types import F32, I32, U8, Bool, Detections, Frame, Motion, Picture, TilePlan

__all__ = ["Standing", "moves_in"]

STIRRED_SHARE = 0.02  # of a box in which something moves: its answer is none any more
SAMPLES = 12  # rows and columns of points of a box that are compared
CHANGED_LEVELS, CHANGED_SIGMAS = 16.0, 6.0  # grey levels, and noise of the picture, from which a point is another
CHANGED_SHARE = 0.06  # of the points: the picture is another
SAME_IOU = 0.5  # a fresh box that overlaps a held one by so much takes its place; a track that does is what was found
ROOM_PX = 12.0  # between a box and the edge of its tile: more makes an answer no better
SWEEPS = 2.0  # an answer stands for so many turns of the slow sweep at most

F64 = NDArray[np.float64]


class Answers(NamedTuple):
    """What was found (N rows); of each the rectangle it was seen in (N,4) px, whether that is a tile that has its turns (N,), its
    scale, when (N,), and grey levels (N,K)."""

    rows: Detections
    place: I32
    turns: Bool
    scale: F32
    at_s: F64
    levels: U8

    def only(self, which: Bool) -> Answers:
        place, turns, scale = self.place[which], self.turns[which], self.scale[which]
        return Answers(self.rows[which], place, turns, scale, self.at_s[which], self.levels[which])

    def beside(self, other: Answers) -> Answers:
        rows = Detections.concat([self.rows, other.rows])
        place, turns = np.concatenate([self.place, other.place]), np.concatenate([self.turns, other.turns])
        scale, at_s = np.concatenate([self.scale, other.scale]), np.concatenate([self.at_s, other.at_s])
        return Answers(rows, place, turns, scale, at_s, np.concatenate([self.levels, other.levels]))


def _none() -> Answers:
    place, turns, scale = np.zeros((0, 4), np.int32), np.zeros(0, np.bool_), np.zeros(0, np.float32)
    return Answers(Detections.empty(), place, turns, scale, np.zeros(0), np.zeros((0, SAMPLES**2), np.uint8))


class Standing:
    """For one stream; call ``check`` first, then ``recall``, once each for every frame that is no repeat.

    Bounded: what is held was found in one look at every place.
    """

    def __init__(self, *, still_sweep_s: float) -> None:
        self._longest_s = SWEEPS * still_sweep_s
        self._answers = _none()

    def check(self, frame: Frame, motion: Motion) -> F32:
        """Forget what does not stand any more. Returns the boxes (K,4) where nothing was seen to move and yet much is changed."""
        held = self._answers
        if motion.state not in ("steady", "repeat") or not len(held.rows):
            self._answers = _none()
            return self._answers.rows.xyxy
        age_s = frame.pts_s - held.at_s
        held = held.only((age_s >= 0) & (age_s <= self._longest_s) & ~moves_in(held.rows.xyxy, motion.regions))
        apart = np.abs(_levels(frame.picture, held.rows.xyxy).astype(np.int16) - held.levels)
        changed = apart > max(CHANGED_LEVELS, CHANGED_SIGMAS * motion.noise)
        same = changed.mean(1) <= CHANGED_SHARE
        self._answers = held.only(same)
        return np.asarray(held.rows.xyxy[~same], np.float32)

    def holds(self, boxes: F32) -> Bool:
        """(M,) of which boxes (M,4) what was found there stands."""
        return np.asarray((iou(boxes, self._answers.rows.xyxy) >= SAME_IOU).any(1))

    def recall(self, frame: Frame, tiles: TilePlan, found: Detections, *, turns: Bool) -> Detections:
        """`found` in `tiles`, and behind it what stands, with tile numbers beyond those of `tiles`: one for each place.

        `turns` (T,): which of the tiles will be run again in their turn, the very same.
        """
        held = self._answers
        held = held.only(~_outdone(held, tiles) & ~_seen_again(held.rows, found))
        fresh = Answers(
            found,
            tiles.xyxy[found.tile],
            turns[found.tile],
            tiles.scale[found.tile].min(1),
            np.full(len(found), frame.pts_s),
            _levels(frame.picture, found.xyxy),
        )
        self._answers = fresh.beside(held)
        if not len(held.rows):
            return found
        place = np.unique(held.place, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int32)
        return Detections.concat([found, replace(held.rows, tile=place + np.int32(len(tiles)))])


def _levels(picture: Picture, boxes: F32) -> U8:
    """(N,K) grey levels at points spread evenly over each box."""
    width, height = picture.wh
    share = (np.arange(SAMPLES) + 0.5) / SAMPLES
    wh = boxes[:, 2:] - boxes[:, :2]
    x = np.clip(boxes[:, :1] + wh[:, :1] * share, 0, width - 1).astype(np.intp)[:, None, :]
    y = np.clip(boxes[:, 1:2] + wh[:, 1:] * share, 0, height - 1).astype(np.intp)[:, :, None]
    if not len(boxes):
        return np.zeros((0, SAMPLES**2), np.uint8)
    luma = picture.sampled(x, y)[0] if picture.is_yuv else picture.luma[y, x]
    return np.asarray(luma, np.uint8).reshape(len(boxes), -1)


def moves_in(boxes: F32, regions: F32) -> Bool:
    """(N,) in which boxes something moves."""
    return np.asarray(intersection(boxes, regions).sum(1) > STIRRED_SHARE * area(boxes))


def _outdone(held: Answers, tiles: TilePlan) -> Bool:
    """(N,) whether the look each answer comes from is had again: by the same tile, or, if it has no turns, by any as good.

    Another tile with turns is another look: with all tiles in every frame either may find what the other misses.
    """
    boxes, wh = held.rows.xyxy, tiles.frame_wh
    had = np.minimum(own_slack_px(held.place, boxes, wh), ROOM_PX)
    as_well = (slack_px(tiles.xyxy, boxes, wh) >= had[:, None]) & (tiles.scale.min(1) >= held.scale[:, None] - 1e-6)
    again = (held.place[:, None] == tiles.xyxy).all(2)
    return np.asarray((np.where(held.turns[:, None], again, as_well)).any(1))


def _seen_again(held: Detections, found: Detections) -> Bool:
    """(N,) whether the same is found now, whole, if not as large."""
    return np.asarray((iou(held.xyxy, found.xyxy[found.truncated == 0]) >= SAME_IOU).any(1))
