"""Where objects have been: a trail per track that thins and fades with media time."""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

from streamdet.draw.canvas import SHIFT, Pen, colour_of, fixed
from streamdet.types import I64, U8

__all__ = ["Trails"]

Floats = NDArray[np.float64]

_LONGEST_GAP_S, _LONGEST_GAP_FRAMES = 0.3, 3  # unseen for longer than both, nobody knows the way: the trail has a hole
_MOST_POINTS = 256  # per trail
_MOST_TRAILS = 500
_MOST_SEGMENTS = 900  # per picture


class Trails:
    """Remembers the centres of tracks for `trail_s` seconds of media. Bounded however long a stream runs."""

    def __init__(self, trail_s: float) -> None:
        self._trail_s = trail_s
        self._points: dict[int, deque[tuple[float, float, float, int]]] = {}  # seconds, px, px, which leg of the way
        self._now_s = 0.0

    def clear(self) -> None:
        self._points.clear()

    def add(self, now_s: float, ids: I64, centres: NDArray[np.floating]) -> None:
        """Note where the tracks `ids` (M,) are now: `centres` (M,2) px."""
        if now_s < self._now_s:
            self.clear()
        torn_s = now_s - max(_LONGEST_GAP_S, _LONGEST_GAP_FRAMES * (now_s - self._now_s)) - 1e-9
        self._now_s = now_s
        for track, (x, y) in zip(ids.tolist(), centres.tolist()):
            points = self._points.setdefault(track, deque(maxlen=_MOST_POINTS))
            if not points or points[-1][0] < now_s:
                leg = points[-1][3] + (points[-1][0] < torn_s) if points else 0
                points.append((now_s, x, y, leg))
        oldest = now_s - self._trail_s
        for track in list(self._points):
            points = self._points[track]
            while points and points[0][0] < oldest:
                points.popleft()
            if not points:
                del self._points[track]
        for track in list(self._points)[:-_MOST_TRAILS]:
            del self._points[track]

    def draw(self, picture: U8, pen: Pen, clear_px: dict[int, float]) -> None:
        """Draw all trails, stopping `clear_px` short of where a track is now, so that nothing lies over the object.

        See-through: each segment is mixed with the picture under its middle (cheaper than a mask, and as good for thin lines).
        """
        total = sum(len(points) for points in self._points.values())
        stride = 1 + total // _MOST_SEGMENTS
        trails = {
            track: np.array([*list(points)[-1::-stride][::-1]])
            for track, points in self._points.items()
            if len(points) > 1
        }
        if self._trail_s <= 0 or not trails:
            return
        of_point = np.repeat(np.arange(len(trails)), [len(trail) for trail in trails.values()])
        points = np.concatenate(list(trails.values()))
        fresh = np.clip(1 - (self._now_s - points[:, 0]) / self._trail_s, 0, 1)
        colours = np.array([colour_of(track) for track in trails], np.float64)[of_point]
        clear = np.array([clear_px.get(track, 0.0) for track in trails])[of_point]
        last = np.array([trail[-1, 1:3] for trail in trails.values()])[of_point]
        legs = of_point * 65536.0 + points[:, 3]
        quads, rows = _ribbons(points[:, 1:3], legs, 0.6 + fresh * (pen.line_px + 0.6), last, clear)
        tints = _mixed(picture, quads, colours[rows], fresh[rows])
        for quad, tint in zip(fixed(quads), tints):
            cv2.fillConvexPoly(picture, quad, tint, cv2.LINE_AA, SHIFT)


def _ribbons(
    place: Floats, legs: Floats, widths: Floats, last: Floats, clear: Floats
) -> tuple[Floats, NDArray[np.int64]]:
    """(S,4,2) quadrilaterals between following points of one leg of a trail, and for each the row (S,) of its newer point.

    `legs`: a number (P,) of each point's own. They share their edges, so that bends leave no gaps. What lies within `clear` px of
    `last` is left out.
    """
    step = np.diff(place, axis=0)
    same = legs[1:] == legs[:-1]
    step *= (same / np.maximum(np.hypot(step[:, 0], step[:, 1]), 1e-6))[:, None]
    nothing = np.zeros((1, 2))
    along = np.vstack([nothing, step]) + np.vstack([step, nothing])
    along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-6)[:, None]
    across = np.stack([-along[:, 1], along[:, 0]], 1) * widths[:, None] / 2

    away = np.hypot(*(place - last).T) - clear  # px outside the circle kept clear
    older, newer = away[:-1], away[1:]
    rows = np.flatnonzero(same & ((older > 0) | (newer > 0))) + 1
    older, newer = older[rows - 1][:, None], newer[rows - 1][:, None]
    span = np.maximum(np.abs(older - newer), 1e-6)
    start, end = place[rows - 1], place[rows]
    start_cut = start + (end - start) * np.clip(-older / span, 0, 1)
    end_cut = end + (start - end) * np.clip(-newer / span, 0, 1)
    before, after = across[rows - 1], across[rows]
    return np.stack([start_cut + before, end_cut + after, end_cut - after, start_cut - before], 1), rows


def _mixed(picture: U8, quads: Floats, colours: Floats, fresh: Floats) -> list[list[float]]:
    """Each colour mixed with the picture in the middle of its quadrilateral: fainter where older."""
    height, width = picture.shape[:2]
    x, y = quads.mean(axis=1).astype(np.int64).T
    under = picture[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    alpha = (0.12 + 0.78 * fresh)[:, None]
    mixed: list[list[float]] = (under * (1 - alpha) + colours * alpha).tolist()
    return mixed
