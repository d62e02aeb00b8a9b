"""What belongs to the scene and not to one object: zones, lines, tile rectangles."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from streamdet.config import Anchor, Line, Point, Zone
from streamdet.draw.canvas import PALETTE, SHIFT, WHITE, Colour, Pen, Text, fixed, shade
from streamdet.types import F32, U8, WHY_NAMES, Event, TilePlan, Tracks

__all__ = ["Lines", "Zones", "anchor_points", "clear_of", "draw_tiles"]

_FILL = 0.13
_FLASH_S = 0.5  # how long a line stays bright after a crossing
_WHY_COLOURS: dict[str, Colour] = {
    "all": (190, 190, 190),
    "motion": PALETTE[1],
    "track": PALETTE[4],
    "sweep": PALETTE[0],
    "small": PALETTE[5],
}


def in_px(points: Sequence[Point], wh: tuple[int, int]) -> NDArray[np.float64]:
    """(N,2) px from points in px or, when every value is <= 1, relative to the picture."""
    array = np.array(points, np.float64).reshape(-1, 2)
    return array * wh if len(array) and array.max() <= 1 else array


def anchor_points(xyxy: F32, anchor: Anchor) -> NDArray[np.floating]:
    """(N,2) px: the point of each box that counts."""
    x1, y1, x2, y2 = xyxy.T
    if anchor == "bottom_center":
        y = y2
    elif anchor == "top_center":
        y = y1
    else:
        y = (y1 + y2) / 2
    return np.stack([(x1 + x2) / 2, y], 1)


class Zones:
    """Translucent polygons with their name and how many shown tracks are inside; what is the same in every frame is kept."""

    def __init__(self, zones: Sequence[Zone], labels: Sequence[str]) -> None:
        self._zones = zones
        self._labels = labels
        self._wh = (0, 0)
        self._shapes: list[tuple[NDArray[np.float64], tuple[int, int, int, int], U8]] = []

    def draw(self, picture: U8, pen: Pen, text: Text, tracks: Tracks, *, corner: tuple[float, float] = (0, 0)) -> None:
        """`corner`: px at the top left where another text stands."""
        height, width = picture.shape[:2]
        if self._wh != (width, height):
            self._wh = (width, height)
            self._shapes = [_shape(in_px(zone.polygon, self._wh), self._wh) for zone in self._zones]
        for number, (zone, (polygon, (x1, y1, x2, y2), mask)) in enumerate(zip(self._zones, self._shapes)):
            if mask.size == 0:
                continue
            colour = PALETTE[(number * 3 + 7) % len(PALETTE)]
            part = picture[y1:y2, x1:x2]
            cv2.copyTo(_mixed(part, colour), mask, part)
            outline = fixed(polygon)
            cv2.polylines(picture, [outline], True, *pen.casing, cv2.LINE_AA, SHIFT)
            cv2.polylines(picture, [outline], True, colour, max(1, pen.line_px - 1), cv2.LINE_AA, SHIFT)
            top = polygon[np.argmin(polygon @ (1, 2))]  # its uppermost corner, rather on the left
            words = f"{text.readable(zone.name, f'zone {number + 1}')}  {self._inside(zone, polygon, tracks)}"
            plate(picture, words, clear_of(corner, (top[0] + 4, top[1] + 4)), pen, text, colour)

    def _inside(self, zone: Zone, polygon: NDArray[np.float64], tracks: Tracks) -> int:
        rows = _of_classes(tracks, zone.classes, self._labels)
        contour = polygon.astype(np.float32)
        points = anchor_points(rows.xyxy, zone.anchor)
        return sum(cv2.pointPolygonTest(contour, (float(x), float(y)), False) >= 0 for x, y in points)


class Lines:
    """Directed lines with an arrow to their "in" side, and what has crossed them in the Results drawn so far."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self._lines = lines
        self._counts = {line.name: [0, 0] for line in lines}
        self._crossed_s = dict.fromkeys(self._counts, -1e9)

    def note(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.type == "cross" and event.line in self._counts:
                self._counts[event.line][event.direction != "in"] += 1
                self._crossed_s[event.line] = event.pts_s

    def draw(self, picture: U8, pen: Pen, text: Text, now_s: float, *, corner: tuple[float, float] = (0, 0)) -> None:
        """`corner`: px at the top left where another text stands."""
        height, width = picture.shape[:2]
        for number, line in enumerate(self._lines):
            start, end = in_px([line.start, line.end], (width, height))
            along = end - start
            length = float(np.hypot(*along))
            if length < 1:
                continue
            inward = np.array([-along[1], along[0]]) / length  # right-hand side, seen along the line
            colour = PALETTE[(number * 3 + 5) % len(PALETTE)]
            bright = 0 <= now_s - self._crossed_s[line.name] < _FLASH_S
            thick = pen.line_px + (2 if bright else 0)
            middle = (start + end) / 2
            head = 7 + 9 * pen.unit
            tip, left, right = (
                middle + inward * head * 2,
                middle + inward * head + along / length * head * 0.6,
                middle + inward * head - along / length * head * 0.6,
            )
            a, b, m, t = fixed([start, end, middle, middle + inward * head]).tolist()
            for tint, px in (
                (pen.casing[0], thick + pen.casing[1] - pen.line_px),
                (WHITE if bright else colour, thick),
            ):
                cv2.line(picture, a, b, tint, px, cv2.LINE_AA, SHIFT)
                cv2.line(picture, m, t, tint, px, cv2.LINE_AA, SHIFT)
            cv2.fillConvexPoly(picture, fixed([tip, left, right]), colour, cv2.LINE_AA, SHIFT)
            for end_point in (a, b):
                cv2.circle(picture, end_point, round((2 + 2 * pen.unit) * 16), colour, -1, cv2.LINE_AA, SHIFT)
            came, went = self._counts[line.name]
            words = f"{text.readable(line.name, f'line {number + 1}')}  in {came}  out {went}"
            plate(picture, words, clear_of(corner, (start[0] + 6, start[1] + 6)), pen, text, colour)


def draw_tiles(picture: U8, tiles: TilePlan, pen: Pen, text: Text) -> None:
    """Thin rectangles, coloured by why each tile was run, with a key at the bottom."""
    rank = np.argsort(tiles.why == WHY_NAMES.index("sweep"), kind="stable")[::-1]  # sweeps first: the others lie on top
    for (x1, y1, x2, y2), why in zip(tiles.xyxy[rank].tolist(), tiles.why[rank].tolist()):
        colour = _WHY_COLOURS[WHY_NAMES[why]]
        inset = pen.line_px
        cv2.rectangle(picture, (x1 + inset, y1 + inset), (x2 - 1 - inset, y2 - 1 - inset), colour, pen.line_px)
    x = 6 + round(8 * pen.unit)
    y = picture.shape[0] - round(pen.text_px * 2.1)
    for why in np.unique(tiles.why).tolist():
        words = f"{WHY_NAMES[why]} {int((tiles.why == why).sum())}"
        x += plate(picture, words, (x, y), pen, text, _WHY_COLOURS[WHY_NAMES[why]]) + 4


def plate(
    picture: U8, words: str, at: tuple[float, float], pen: Pen, text: Text, colour: Colour, *, alpha: float = 0.62
) -> int:
    """Words on a dark see-through plate with a coloured left edge, kept inside the picture. Returns its width in px."""
    height, width = picture.shape[:2]
    size = pen.text_px
    pad = round(size * 0.45)
    wide, high = text.width(words, size, 500) + 2 * pad + 3, round(size * 1.6)
    if wide > width or high > height:
        return 0
    x = int(np.clip(at[0], 0, width - wide))
    y = int(np.clip(at[1], 0, height - high))
    shade(picture, (x, y, x + wide, y + high), alpha)
    picture[y : y + high, x : x + 3] = colour
    text.write(picture, words, (x + 3 + pad, y + round(size * 1.14)), size, WHITE, 500)
    return wide


def clear_of(corner: tuple[float, float], at: tuple[float, float]) -> tuple[float, float]:
    """The place of a plate, moved below what stands in the top left corner."""
    return (at[0], max(at[1], corner[1])) if at[0] < corner[0] else at


def _shape(
    polygon: NDArray[np.float64], wh: tuple[int, int]
) -> tuple[NDArray[np.float64], tuple[int, int, int, int], U8]:
    """The polygon, the part of the picture it lies in, and its mask there."""
    low = np.clip(np.floor(polygon.min(axis=0)), 0, wh).astype(int)
    high = np.clip(np.ceil(polygon.max(axis=0)) + 1, 0, wh).astype(int)
    mask = np.zeros((max(0, high[1] - low[1]), max(0, high[0] - low[0])), np.uint8)
    if mask.size:
        cv2.fillPoly(mask, [fixed(polygon - low)], 255, cv2.LINE_8, SHIFT)
    return polygon, (int(low[0]), int(low[1]), int(high[0]), int(high[1])), mask


def _mixed(part: U8, colour: Colour) -> U8:
    """The part with `colour` mixed in: one table look-up per channel, the cheapest way over large areas."""
    levels = np.arange(256)[:, None] * (1 - _FILL) + np.array(colour) * _FILL
    return np.asarray(cv2.LUT(part, np.round(levels).astype(np.uint8).reshape(1, 256, 3)), np.uint8)


def _of_classes(tracks: Tracks, classes: Sequence[str], labels: Sequence[str]) -> Tracks:
    if not classes:
        return tracks
    wanted = [i for i, name in enumerate(labels) if name in classes or str(i) in classes]
    return tracks[np.isin(tracks.label, wanted)]
