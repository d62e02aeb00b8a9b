"""The large things that move in the demo scene and are not wanted: people and a car; drawn with OpenCV's polygons."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from streamdet.types import U8

__all__ = ["Brush", "Yuv", "draw_car", "draw_person"]

Yuv = tuple[int, int, int]
Point = tuple[float, float]
Box = tuple[float, float, float, float]

_SKIN: Yuv = (150, 112, 148)
_SHORTS: Yuv = (190, 130, 126)
_DARK: Yuv = (44, 128, 128)
_GLASS: Yuv = (60, 134, 122)


@dataclass(frozen=True, slots=True)
class Brush:
    """Draws the same shape on a luma plane (in px) and its 4:2:0 chroma planes; values are taken down by the pedestals."""

    luma: U8
    u: U8
    v: U8
    luma_pedestal: int
    chroma_pedestal: int

    def _planes(self, yuv: Yuv) -> tuple[tuple[U8, int, int], ...]:
        """Plane, value, fractional bits: half-size planes read the same numbers with one bit more."""
        low = self.chroma_pedestal
        return (self.luma, yuv[0] - self.luma_pedestal, 3), (self.u, yuv[1] - low, 4), (self.v, yuv[2] - low, 4)

    def polygon(self, points: list[Point], yuv: Yuv) -> None:
        corners = np.asarray(np.round(np.asarray(points) * 8), np.int32)
        for plane, value, bits in self._planes(yuv):
            cv2.fillPoly(plane, [corners], value, cv2.LINE_AA, bits)

    def ellipse(self, centre: Point, radius_x: float, radius_y: float, yuv: Yuv) -> None:
        middle = (round(centre[0] * 8), round(centre[1] * 8))
        axes = (max(1, round(radius_x * 8)), max(1, round(radius_y * 8)))
        for plane, value, bits in self._planes(yuv):
            cv2.ellipse(plane, middle, axes, 0, 0, 360, value, -1, cv2.LINE_AA, bits)

    def limb(self, points: list[Point], width: float, yuv: Yuv) -> None:
        """A bent stick with round joints."""
        for (x0, y0), (x1, y1) in pairwise(points):
            length = math.hypot(x1 - x0, y1 - y0) or 1.0
            nx, ny = (y0 - y1) / length * width / 2, (x1 - x0) / length * width / 2
            self.polygon([(x0 + nx, y0 + ny), (x1 + nx, y1 + ny), (x1 - nx, y1 - ny), (x0 - nx, y0 - ny)], yuv)
        for joint in points[1:]:
            self.ellipse(joint, width / 2, width / 2, yuv)


def draw_person(
    brush: Brush, feet: Point, height: float, *, stride: float, shirt: Yuv, facing: int, swing: float | None = None
) -> Box:
    """A person of `height` px standing on `feet`; `stride` radians of the walk; `swing` 0..1 of a racket arm.

    Returns the px box round all that was drawn.
    """
    x, y = feet
    swung = math.sin(stride)
    hip, neck = (x, y - 0.48 * height), (x + 0.01 * facing * height, y - 0.82 * height)
    brush.ellipse((x - 0.1 * height, y), 0.30 * height, 0.035 * height, (88, 122, 122))  # shadow
    for side, tone in ((-1, -14), (1, 0)):
        foot = (x + side * swung * 0.20 * height, y - max(0.0, side * math.cos(stride)) * 0.05 * height)
        knee = ((hip[0] + foot[0]) / 2 + 0.03 * facing * height, (hip[1] + foot[1]) / 2)
        brush.limb([hip, knee, foot], 0.075 * height, (_SKIN[0] + tone, _SKIN[1], _SKIN[2]))
        brush.ellipse((foot[0] + 0.02 * facing * height, foot[1]), 0.055 * height, 0.022 * height, _DARK)
        if side < 0 or swing is None:
            hand = (neck[0] - side * swung * 0.16 * height, y - 0.50 * height)
            brush.limb([(neck[0], neck[1] + 0.05 * height), hand], 0.055 * height, _SKIN)
    torso = [(-0.085, -0.83), (0.085, -0.83), (0.075, -0.5), (-0.075, -0.5)]
    brush.polygon([(x + dx * height, y + dy * height) for dx, dy in torso], shirt)
    shorts = [(-0.08, -0.53), (0.08, -0.53), (0.095, -0.36), (-0.095, -0.36)]
    brush.polygon([(x + dx * height, y + dy * height) for dx, dy in shorts], _SHORTS)
    head = (neck[0] + 0.015 * facing * height, y - 0.92 * height)
    brush.ellipse(head, 0.058 * height, 0.075 * height, _SKIN)
    brush.ellipse((head[0] - 0.01 * facing * height, head[1] - 0.03 * height), 0.06 * height, 0.05 * height, _DARK)
    left, right = x - 0.40 * height, x + 0.27 * height
    if swing is not None:
        angle = -0.9 + 1.7 * swing  # from hanging low to level, in front
        shoulder = (neck[0], neck[1] + 0.04 * height)
        hand = (
            shoulder[0] + facing * math.cos(angle - 0.9) * 0.30 * height,
            shoulder[1] - math.sin(angle - 0.9) * 0.30 * height,
        )
        tip = (
            hand[0] + facing * math.cos(angle - 0.4) * 0.13 * height,
            hand[1] - math.sin(angle - 0.4) * 0.13 * height,
        )
        brush.limb([shoulder, hand], 0.055 * height, _SKIN)
        brush.limb([hand, tip], 0.02 * height, _DARK)
        brush.ellipse((tip[0] + facing * 0.04 * height, tip[1]), 0.075 * height, 0.06 * height, (168, 126, 130))
        left, right = min(left, tip[0] - 0.13 * height), max(right, tip[0] + 0.13 * height)
    return left, y - height, right, y + 0.05 * height


def draw_car(brush: Brush, ground: Point, length: float, *, facing: int, paint: Yuv) -> Box:
    """A car of `length` px standing on `ground` (middle of its wheels). Returns its px box."""
    x, y = ground

    def at(points: list[Point]) -> list[Point]:
        return [(x + facing * dx * length, y + dy * length) for dx, dy in points]

    brush.ellipse((x, y + 0.01 * length), 0.52 * length, 0.035 * length, (70, 126, 126))
    body = [(-0.5, -0.06), (-0.5, -0.18), (-0.46, -0.21), (-0.3, -0.22), (-0.18, -0.33), (0.12, -0.33), (0.27, -0.22),
            (0.46, -0.18), (0.5, -0.12), (0.49, -0.05)]  # fmt: skip
    brush.polygon(at(body), paint)
    brush.polygon(at([(-0.26, -0.22), (-0.17, -0.31), (-0.03, -0.31), (-0.03, -0.22)]), _GLASS)
    brush.polygon(at([(0.0, -0.22), (0.0, -0.31), (0.11, -0.31), (0.22, -0.22)]), _GLASS)
    for wheel in (-0.30, 0.30):
        brush.ellipse((x + wheel * length, y - 0.05 * length), 0.075 * length, 0.075 * length, (30, 128, 128))
        brush.ellipse((x + wheel * length, y - 0.05 * length), 0.035 * length, 0.035 * length, (140, 128, 128))
    return x - 0.52 * length, y - 0.34 * length, x + 0.52 * length, y + 0.045 * length
