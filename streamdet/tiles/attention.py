"""What in a frame deserves a look, and whether it is time: what moves, and where tracks should be now.

How long each may wait is in :mod:`streamdet.tiles.revisit`, what need not be asked again in `streamdet.tiles.standing`; which
tiles or pieces then show it is the scheduler's business.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamdet.boxes import shift
from streamdet.tiles.collage import Sight, subjects
from streamdet.tiles.revisit import Visits, explained, parts, patience_s
from streamdet.tiles.standing import Standing, moves_in
from streamdet.types import F32, TENTATIVE, U8, WHY_MOTION, WHY_TRACK, Bool, Frame, Motion, TilePlan, Tracks

__all__ = ["Attention", "Looks"]

PIECE_SHARE = 0.75  # of an input: known objects that are larger are shown in tiles, not shrunk
SPECK_PX = 30.0  # of the input: candidates, too, if no larger
UNKNOWN_SHARE = 0.3  # ... and so is what moves and may be anything
SURE_STRENGTH = 0.5  # balls have 0.9 and more, arms and legs less than 0.1
LIKELY_STRENGTH = 0.2  # one moving region in twenty of a match before a crowd, and most balls that are flying free

F64 = NDArray[np.float64]


class Looks(NamedTuple):
    """(R,4) boxes in the frame, px; (R,) why one looks there, what is due now, and what a piece shows well enough.

    ``unknown`` (U,4): what moves, is no known object, and was not looked at in vain before.
    """

    regions: F32
    reason: U8
    due: Bool
    piecewise: Bool
    unknown: F32


class Attention:
    """For one stream as long as nothing is cut: a new size or epoch wants a new one.

    `movers`: for a detector of small movers; others see what stands still, in ``standing``.
    """

    def __init__(self, frame_wh: tuple[int, int], *, movers: bool, sight: Sight, still_sweep_s: float) -> None:
        self._movers = movers
        self._sight = sight
        self.visits = Visits(frame_wh)
        self.standing = Standing(still_sweep_s=still_sweep_s)

    def stir(self, frame: Frame, motion: Motion) -> bool:
        """Remember where something moves: what is known of other places stays true. Returns whether it is everywhere."""
        still = motion.state in ("steady", "repeat")
        everywhere = np.array([[0, 0, *frame.wh]], np.float32)
        self.visits.stir(motion.regions.reshape(-1, 4) if still else everywhere, frame.pts_s)
        if not self._movers:
            self.visits.stir(self.standing.check(frame, motion), frame.pts_s)
        return not still

    def looks(self, fine: TilePlan, motion: Motion, tracks: Tracks, now_s: float, since_s: float, dt_s: float) -> Looks:
        """What to look at at `now_s`, `since_s` after the frame of these `tracks`; frames come every `dt_s`."""
        expected = shift(tracks.xyxy, tracks.velocity_xy * np.float32(since_s) + np.array(motion.shift_xy, np.float32))
        regions = np.concatenate([motion.regions.reshape(-1, 4), expected.reshape(-1, 4)])
        due, unknown = self._is_time(regions, motion, tracks, now_s, dt_s)
        moves = np.arange(len(regions)) < len(motion.regions)
        width, height = fine.frame_wh
        seen = (regions[:, 0] < width) & (regions[:, 1] < height) & (regions[:, 2] > 0) & (regions[:, 3] > 0)
        reason = np.where(moves, WHY_MOTION, WHY_TRACK).astype(np.uint8)
        if self._movers:
            return Looks(regions[seen], reason[seen], due[seen], np.ones(int(seen.sum()), np.bool_), unknown)
        small = np.concatenate([_strong(motion, SURE_STRENGTH), np.zeros(len(tracks), np.bool_)])
        rest, known = seen & moves & ~small, seen & ~moves
        things = subjects(regions[rest], due[rest], fine, self._sight)
        things = np.concatenate([regions[seen & small & due], things])
        state = tracks.state[known[len(motion.regions) :]]
        largest_px = np.where(state == TENTATIVE, SPECK_PX, PIECE_SHARE * min(fine.input_wh))
        return Looks(
            np.concatenate([things, regions[known]]),
            np.concatenate([np.full(len(things), WHY_MOTION, np.uint8), reason[known]]),
            np.concatenate([np.ones(len(things), np.bool_), due[known]]),
            np.concatenate(
                [
                    _longer(things, fine) <= UNKNOWN_SHARE * min(fine.input_wh),
                    _longer(regions[known], fine) <= largest_px,
                ]
            ),
            unknown,
        )

    def _is_time(self, regions: F32, motion: Motion, tracks: Tracks, now_s: float, dt_s: float) -> tuple[Bool, F32]:
        """(R + M,) which moving regions, then expected tracks, have to be looked at in this frame; and ``Looks.unknown``."""
        count = len(motion.regions)
        last_s = self.visits.last_s(regions)
        unseen_s = now_s - last_s
        still = None if self._movers else self.standing.holds(regions[count:])
        stirred = None if self._movers else moves_in(regions[count:], regions[:count])
        self.visits.learn(regions[count:], now_s)
        likely = _strong(motion, LIKELY_STRENGTH) if self._movers else None
        futile_s = self.visits.patience_s(regions[:count], dt_s, likely)
        wait = np.concatenate([futile_s, patience_s(tracks, unseen_s[count:], dt_s, still, stirred)])
        due = np.asarray(unseen_s + dt_s / 2 >= wait)  # nearer to its time now than in the next frame
        known = explained(regions[:count], regions[count:][tracks.state != TENTATIVE])
        if not self._movers:
            known |= parts(regions[:count], regions[count:]) & ~_strong(motion, SURE_STRENGTH)
        due[:count] &= ~known
        return due, regions[:count][~known & (futile_s <= 0)]


def _strong(motion: Motion, least: float) -> Bool:
    """(R,) which regions are small things of their own, as the motion model sees it: a ball, not an arm."""
    if len(motion.strength) != len(motion.regions):
        return np.zeros(len(motion.regions), np.bool_)
    return np.asarray(motion.strength >= least)


def _longer(boxes: F32, plan: TilePlan) -> F64:
    """(N,) longer sides of (N,4) frame boxes, px of the input."""
    return np.asarray(((boxes[:, 2:] - boxes[:, :2]) * plan.scale[0]).max(1, initial=0), np.float64)
