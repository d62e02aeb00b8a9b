"""Collages: pieces of a frame side by side in one network input, so that a person costs a person's pixels and not a tile's.

What has to be looked at (a track's predicted box, a moving region) gets a margin of its surroundings, for networks judge a thing
by what is round it; what is large is shown no larger than it needs to be recognised. Pieces that overlap are united where that
saves input pixels; then they are laid into as few inputs (slots) as possible, largest first, `GAP_PX` apart.

Packing is MAXRECTS with best short side fit (J. Jylänki, "A Thousand Ways to Pack the Bin", 2010).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamdet.tiles.cover import hulls
from streamdet.types import F32, I32, U8, WHY_MOTION, Bool, TilePlan

__all__ = ["MOST_PIECES", "MOVERS", "ORDINARY", "Sight", "collage", "fit_in_pieces", "lay_out", "subjects"]

SHRINK_STEPS = 2  # what is shrunk is so in steps, so many of which halve it: pieces of like scale can be united
HALF_SLACK = 1.3  # a piece larger than half an input by no more than this becomes half of one, margins permitting
UNITE_SHARES = 0.0, 0.5  # tried in turn: few large pieces, or small ones, which are easier to lay out
GAP_PX = 4  # of padding between two pieces
GRID_PX = 8  # pieces begin and end at multiples of it in the frame, where that allows it
NEAR_PX = 24.0  # what moves no further apart may be one thing
MOST_PIECES = 150  # more things than this: whole tiles


@dataclass(frozen=True, slots=True)
class Sight:
    """How large a network has to see what it is to find, px of its input; what is larger is shrunk to that.

    `context_px`, `context_share`: its surroundings, at least, and at least so much of its longer side, on all sides. `known_px`:
    longer side of an object it has found before. `unknown_*`, `least`: of what moves nobody knows how small its parts are, and
    what it is a part of, so it is kept larger, with more round it, and never shrunk below this share of the tiles' scale.
    """

    context_px: float
    context_share: float
    known_px: float
    unknown_context_px: float
    unknown_share: float
    unknown_px: float
    least: float


ORDINARY = Sight(40.0, 0.2, 128.0, 48.0, 0.5, 192.0, 0.5)  # finds people and cars, large or small
MOVERS = Sight(
    64.0, 0.5, np.inf, 64.0, 0.5, np.inf, 1.0
)  # finds what is small by its surroundings; large may hide a ball

Rectangle = tuple[int, int, int, int]
I64 = NDArray[np.int64]
F64 = NDArray[np.float64]


def fit_in_pieces(regions: F32, why: U8, plan: TilePlan, sight: Sight) -> Bool:
    """(R,) which of (R,4) frame boxes are small enough to be shown, with their surroundings, in one input of `plan`."""
    rectangles, scale = _grown(regions, why, plan, sight)
    return np.asarray((_sizes(rectangles, scale, plan) <= plan.input_wh).all(1))


def subjects(moving: F32, due: Bool, plan: TilePlan, sight: Sight) -> F32:
    """(S,4) what to look at where (R,4) regions move and are `due`: things, not their arms and legs, for nobody moves all over.

    What moves side by side is one thing, as far as that fits into a piece. What does not, and holds other moving regions, stands
    for these: several things that touch.
    """
    kind = np.full(len(moving), WHY_MOTION, np.uint8)
    fits = fit_in_pieces(moving, kind, plan, sight)
    inside = (moving[:, None, :2] >= moving[:, :2]) & (moving[:, None, 2:] <= moving[:, 2:])
    held = inside.all(2).sum(0) > 1
    chosen = moving[due & (fits | ~held)]
    groups = hulls(chosen, NEAR_PX)
    good = fit_in_pieces(groups, kind[: len(groups)], plan, sight)
    low, high = groups[good, :2], groups[good, 2:]
    taken = ((chosen[:, None, :2] >= low) & (chosen[:, None, 2:] <= high)).all(2).any(1)
    return np.concatenate([groups[good], chosen[~taken]])


def collage(regions: F32, why: U8, plan: TilePlan, sight: Sight) -> TilePlan:
    """Pieces that show (R,4) `regions` (frame px; all fit), laid into inputs; none is larger than at the scale of `plan`.

    A piece has the first reason among those of its regions. The order of the regions does not matter.
    """
    rectangles, scale = _grown(regions, why, plan, sight)
    order = np.lexsort((why, scale, *rectangles.T[::-1]))
    rectangles, scale, why = rectangles[order], scale[order], np.asarray(why, np.uint8)[order]
    best: TilePlan | None = None
    for least in UNITE_SHARES:
        layout = _laid(*_united(rectangles, scale, why, plan, least), plan)
        if best is None or layout.slots < best.slots:
            best = layout
        if best.slots <= 1:  # nothing can be better
            break
    assert best is not None
    return best


def _laid(xyxy: I64, scale: F64, why: U8, plan: TilePlan) -> TilePlan:
    """Pieces as a plan, in the order of their slots."""
    order = np.lexsort((xyxy[:, 0], xyxy[:, 1]))
    xyxy, scale, why = xyxy[order], scale[order], why[order]
    sizes = _sizes(xyxy, scale, plan)
    slot, at = lay_out(sizes, plan.input_wh)
    order = np.argsort(slot, kind="stable")
    rows = np.asarray(xyxy[order], np.int32)
    exact = np.asarray(sizes[order] / (rows[:, 2:] - rows[:, :2]), np.float32)
    return TilePlan(plan.frame_wh, plan.input_wh, rows, exact, why[order], plan.of, slot[order], at[order])


def _grown(regions: F32, why: U8, plan: TilePlan, sight: Sight) -> tuple[I64, F64]:
    """(R,4) regions with their surroundings, on the grid, inside the frame; (R,) share of the plan's scale they are shown at."""
    frame, full = np.array(plan.frame_wh), plan.scale[0].astype(np.float64)
    box = np.clip(np.asarray(regions, np.float64).reshape(-1, 4), 0, np.tile(frame, 2))
    longer = ((box[:, 2:] - box[:, :2]) * full).max(1, initial=0)
    known = np.asarray(why) != WHY_MOTION
    steps = np.ceil(SHRINK_STEPS * np.log2(np.maximum(longer / np.where(known, sight.known_px, sight.unknown_px), 1)))
    scale = np.maximum(0.5 ** (steps / SHRINK_STEPS), np.where(known, 0, sight.least))
    least = (np.where(known, sight.context_px, sight.unknown_context_px) / scale)[:, None] / full
    share = np.where(known, sight.context_share, sight.unknown_share)
    margin = np.maximum(least, (share * longer)[:, None] / full)
    wh = box[:, 2:] - box[:, :2]
    half = (np.array(plan.input_wh) - GAP_PX) / 2 / scale[:, None] / full - 2 * GRID_PX
    halved = (half - wh) / 2  # a little less round it, and two find room side by side
    worth = (wh + 2 * margin <= HALF_SLACK * half) & (halved >= least)
    margin = np.where(worth, np.minimum(margin, halved), margin)
    low = np.maximum(np.floor((box[:, :2] - margin) / GRID_PX) * GRID_PX, 0)
    high = np.minimum(np.ceil((box[:, 2:] + margin) / GRID_PX) * GRID_PX, frame)
    return np.concatenate([low, high], 1).astype(np.int64), scale


def _sizes(xyxy: I64, scale: F64, plan: TilePlan) -> I64:
    """(P,2) px of the input."""
    sizes = (xyxy[:, 2:] - xyxy[:, :2]) * plan.scale[0].astype(np.float64) * scale[:, None]
    return np.asarray(np.maximum(1, np.round(sizes)), np.int64)


def _united(xyxy: I64, scale: F64, why: U8, plan: TilePlan, least: float) -> tuple[I64, F64, U8]:
    """Rectangles of which one for both, if it fits, saves at least the share `least` of the smaller one; the best pairs first."""
    while len(xyxy) > 1:
        low = np.minimum(xyxy[:, None, :2], xyxy[:, :2])
        high = np.maximum(xyxy[:, None, 2:], xyxy[:, 2:])
        finer = np.maximum(scale[:, None], scale)
        area = (xyxy[:, 2:] - xyxy[:, :2]).prod(1) * scale**2
        saved = area[:, None] + area - (high - low).prod(2) * finer**2
        fits = ((high - low) * plan.scale[0] * finer[..., None] < np.array(plan.input_wh) + 0.5).all(2)
        saved = np.where(fits & (saved >= least * np.minimum(area[:, None], area)), saved, -1)
        np.fill_diagonal(saved, -1)
        best = saved.argmax(1)
        rows = np.arange(len(xyxy))
        first = rows[(saved.max(1) >= 0) & (best[best] == rows) & (rows < best)]
        if not len(first):
            break
        second = best[first]
        xyxy, scale, why = xyxy.copy(), scale.copy(), why.copy()
        xyxy[first] = np.concatenate([low[first, second], high[first, second]], 1)
        scale[first] = finer[first, second]
        why[first] = np.minimum(why[first], why[second])
        kept = np.ones(len(xyxy), np.bool_)
        kept[second] = False
        xyxy, scale, why = xyxy[kept], scale[kept], why[kept]
    return xyxy, scale, why


def lay_out(sizes: I64, input_wh: tuple[int, int]) -> tuple[I32, I32]:
    """Lay (P,2) rectangles, none larger than an input, into as few inputs as can be found quickly.

    Returns:
        (P,) the slot of each, without a gap, and (P,2) px of the input where it begins.
    """
    room = input_wh[0] + GAP_PX, input_wh[1] + GAP_PX  # the last ones need no gap behind them
    free: list[tuple[int, Rectangle]] = []
    slots = 0
    slot, at = np.zeros(len(sizes), np.int32), np.zeros((len(sizes), 2), np.int32)
    order = np.lexsort((np.arange(len(sizes)), -sizes.min(1, initial=0), -sizes.max(1, initial=0)))
    for row in order.tolist():
        width, height = int(sizes[row, 0]) + GAP_PX, int(sizes[row, 1]) + GAP_PX
        fitting = [
            (min(x2 - x1 - width, y2 - y1 - height), number, y1, x1)
            for number, (x1, y1, x2, y2) in free
            if x2 - x1 >= width and y2 - y1 >= height
        ]
        if fitting:
            _, number, y, x = min(fitting)
        else:
            number, y, x = slots, 0, 0
            free.append((number, (0, 0, *room)))
            slots += 1
        slot[row], at[row] = number, (x, y)
        free = _without(free, number, (x, y, x + width, y + height))
    return slot, at


def _without(free: list[tuple[int, Rectangle]], number: int, taken: Rectangle) -> list[tuple[int, Rectangle]]:
    """The largest free rectangles of all slots after one of slot `number` was taken."""
    others: list[tuple[int, Rectangle]] = []
    rest: list[Rectangle] = []
    tx1, ty1, tx2, ty2 = taken
    for where, rectangle in free:
        x1, y1, x2, y2 = rectangle
        if where != number:
            others.append((where, rectangle))
        elif tx1 >= x2 or tx2 <= x1 or ty1 >= y2 or ty2 <= y1:
            rest.append(rectangle)
        else:
            parts = ((x1, y1, tx1, y2), (tx2, y1, x2, y2), (x1, y1, x2, ty1), (x1, ty2, x2, y2))
            rest += [part for part in parts if part[2] - part[0] > GAP_PX and part[3] - part[1] > GAP_PX]
    rest = sorted(set(rest))
    return others + [(number, one) for one in rest if not any(_holds(other, one) for other in rest if other != one)]


def _holds(outer: Rectangle, inner: Rectangle) -> bool:
    return outer[0] <= inner[0] and outer[1] <= inner[1] and outer[2] >= inner[2] and outer[3] >= inner[3]
