"""An inset in a corner that shows the best small object several times as large."""

from __future__ import annotations

import cv2
import numpy as np

from streamdet.draw.canvas import DARK, SHIFT, WHITE, Colour, Pen, Text, fixed
from streamdet.draw.marks import Box
from streamdet.types import U8

__all__ = ["Magnifier"]

_SHARE = 0.24  # of the picture's shorter side
_CORNERS = ((1, 1), (0, 1), (1, 0))  # right/bottom, left/bottom, right/top; the status line has the fourth


class Magnifier:
    """Stays with one object, and in one corner, as long as it can."""

    def __init__(self) -> None:
        self._corner = 0

    def draw(self, picture: U8, original: U8, box: Box, colour: Colour, pen: Pen, text: Text) -> None:
        """Show what `original` holds round `box` in a corner of `picture`."""
        height, width = picture.shape[:2]
        side = round(min(width, height) * _SHARE)
        if side < 40:
            return
        margin = round(8 + 10 * pen.unit)
        zoom = int(np.clip(side / 4 / max(box[2] - box[0], box[3] - box[1], 1), 4, 6))
        x, y = self._place(box, (width, height), side, margin)
        view = _view(original, ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), side, zoom)
        picture[y : y + side, x : x + side] = view
        edge = fixed([(x, y), (x + side, y), (x + side, y + side), (x, y + side)])
        cv2.polylines(picture, [edge], True, DARK, 2 * pen.line_px + 1, cv2.LINE_AA, SHIFT)
        cv2.polylines(picture, [edge], True, colour, pen.line_px, cv2.LINE_AA, SHIFT)
        words = f"{zoom}x"
        text.write(picture, words, (x + pen.text_px // 2 + 1, y + side - pen.text_px // 2 + 1), pen.text_px, DARK, 600)
        text.write(picture, words, (x + pen.text_px // 2, y + side - pen.text_px // 2), pen.text_px, WHITE, 600)

    def _place(self, box: Box, wh: tuple[int, int], side: int, margin: int) -> tuple[int, int]:
        def at(corner: int) -> tuple[int, int]:
            right, bottom = _CORNERS[corner]
            return (
                wh[0] - margin - side if right else margin,
                wh[1] - margin - side if bottom else margin,
            )

        def covers(corner: int) -> bool:
            x, y = at(corner)
            return (
                x - margin < box[2]
                and box[0] < x + side + margin
                and y - margin < box[3]
                and box[1] < y + side + margin
            )

        if covers(self._corner):
            self._corner = next((c for c in range(len(_CORNERS)) if not covers(c)), self._corner)
        return at(self._corner)


def _view(original: U8, centre: tuple[float, float], side: int, zoom: int) -> U8:
    """(side, side, 3) round `centre`; black beyond the picture."""
    matrix = np.array([[zoom, 0, side / 2 - zoom * centre[0]], [0, zoom, side / 2 - zoom * centre[1]]], np.float64)
    height, width = original.shape[:2]
    half = side / zoom / 2 + 2
    x1, y1 = max(0, int(centre[0] - half)), max(0, int(centre[1] - half))
    part = original[y1 : min(height, int(centre[1] + half) + 2), x1 : min(width, int(centre[0] + half) + 2)]
    if part.size == 0:
        return np.zeros((side, side, 3), np.uint8)
    matrix[:, 2] += zoom * np.array([x1, y1])
    flags, border = cv2.INTER_CUBIC, cv2.BORDER_CONSTANT
    return np.asarray(cv2.warpAffine(part, matrix, (side, side), flags=flags, borderMode=border), np.uint8)
