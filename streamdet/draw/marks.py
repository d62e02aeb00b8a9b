"""Marks that point at an object without covering it: a ring round a small one, corners or a box round a large one."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from streamdet.draw.canvas import SHIFT, Colour, Pen, fixed
from streamdet.types import U8

__all__ = ["LARGE_PX", "Box", "draw_mark", "draw_outline", "mark_box", "ring_radius"]

Box = tuple[float, float, float, float]

SMALL_PX = 24.0  # longest side up to which an object gets a ring (in 1080p; more in larger pictures)
LARGE_PX = 30.0  # and from which it gets corners; in between it keeps what it had
_DASHES = 8  # dashes of a ring round a coasting object
_TURN = np.linspace(0, 2 * np.pi, 4 * _DASHES + 1)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], 1)


def is_small(box: Box, pen: Pen, was_small: bool | None) -> bool:
    """Whether the object gets a ring; `was_small` keeps it from changing back and forth."""
    side = max(box[2] - box[0], box[3] - box[1]) / max(1.0, pen.unit)
    if was_small is None:
        return side <= (SMALL_PX + LARGE_PX) / 2
    return side <= (LARGE_PX if was_small else SMALL_PX)


def ring_radius(box: Box, pen: Pen) -> float:
    """Radius in px of the ring round `box`: clear of its corners, never tiny."""
    half = 0.5 * float(np.hypot(box[2] - box[0], box[3] - box[1]))
    return max(half + pen.gap_px, 6.0 + 4.0 * pen.unit)


def mark_box(box: Box, pen: Pen, radius: float | None) -> Box:
    """What the mark takes up: labels keep clear of it."""
    if radius is not None:
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        reach = radius + pen.line_px
        return (x - reach, y - reach, x + reach, y + reach)
    gap = _corner_gap(box, pen)
    return (box[0] - gap, box[1] - gap, box[2] + gap, box[3] + gap)


def draw_mark(
    picture: U8, box: Box, colour: Colour, pen: Pen, *, radius: float | None, dashed: bool, cased: bool = True
) -> None:
    """A ring of `radius` px, or (None) corners. `dashed`: a guess, not seen. `cased`: with a dark edge under it."""
    strokes = _ring(box, radius, dashed) if radius is not None else _corners(box, pen, dashed)
    if cased:
        cv2.polylines(picture, strokes, False, *pen.casing, cv2.LINE_AA, SHIFT)
    cv2.polylines(picture, strokes, False, colour, pen.line_px, cv2.LINE_AA, SHIFT)


def draw_outline(picture: U8, box: Box, colour: Colour) -> None:
    """The plain box, one px wide and at least 3 px large: where thousands of objects lie close together."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    half_w, half_h = max(1.5, (box[2] - box[0]) / 2), max(1.5, (box[3] - box[1]) / 2)
    start, end = (round(x - half_w), round(y - half_h)), (round(x + half_w) - 1, round(y + half_h) - 1)
    cv2.rectangle(picture, start, end, colour, 1)


def _ring(box: Box, radius: float, dashed: bool) -> list[NDArray[np.int32]]:
    centre = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    points = fixed(centre + _CIRCLE * radius)
    if not dashed:
        return [points]
    return [points[start : start + 3] for start in range(0, 4 * _DASHES, 4)]


def _corner_gap(box: Box, pen: Pen) -> float:
    """A small box is given air, a large one is drawn on its edge."""
    side = min(box[2] - box[0], box[3] - box[1])
    return pen.gap_px * float(np.clip(1.6 - side / (60.0 * max(1.0, pen.unit)), 0.15, 1.0))


def _corners(box: Box, pen: Pen, dashed: bool) -> list[NDArray[np.int32]]:
    gap = _corner_gap(box, pen)
    x1, y1, x2, y2 = box[0] - gap, box[1] - gap, box[2] + gap, box[3] + gap
    width, height = x2 - x1, y2 - y1
    arm = float(np.clip(0.25 * min(width, height), 4.0, 9.0 + 14.0 * pen.unit))
    if dashed:
        arm *= 0.55
    turn = min(arm * 0.5, 2.0 + 3.0 * pen.unit)  # corners are round
    bend = turn * (1 - np.sqrt(0.5))
    shape = np.array([[0, arm], [0, turn], [bend, bend], [turn, 0], [arm, 0]])
    strokes = [
        np.array([x, y]) + shape * sign
        for x, y, sign in ((x1, y1, (1, 1)), (x2, y1, (-1, 1)), (x2, y2, (-1, -1)), (x1, y2, (1, -1)))
    ]
    return [fixed(stroke) for stroke in strokes]
