"""What everything is drawn with: sizes that follow the picture's, colours, text, and a few shapes.

Text uses the TrueType fonts inside OpenCV 5 (Latin, Greek, Cyrillic, Arabic, CJK); OpenCV 4 has only stroke fonts for ASCII,
there letters lose their accents and what is left over is shown by its class number.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from streamdet.types import U8

__all__ = ["DARK", "PALETTE", "WHITE", "Colour", "Pen", "Text", "colour_of", "dimmed", "shade"]

Colour = tuple[int, int, int]  # BGR

WHITE: Colour = (245, 245, 245)
DARK: Colour = (24, 20, 18)

# Eight colours that lie on pictures and under dark text (contrast at least 5), told apart also with protanopia, deuteranopia and
# tritanopia as simulated by Machado et al. 2009: CIELAB distance of any two at least 13, of following ones 34 (the test says so)
_RGB = ("#4CC3FF", "#FF7A3D", "#FFB3C7", "#9C6BFF", "#00C27A", "#FFF07C", "#E8553F", "#FFB000")
PALETTE: tuple[Colour, ...] = tuple((int(c[5:7], 16), int(c[3:5], 16), int(c[1:3], 16)) for c in _RGB)

SHIFT = 4  # fractional bits of coordinates handed to OpenCV
ONE = 1 << SHIFT
_FAR = 1e6


def colour_of(number: int) -> Colour:
    """The colour of a track (or class) number: always the same one."""
    return PALETTE[(number - 1) % len(PALETTE)]


def dimmed(colour: Colour, amount: float) -> Colour:
    """`colour` mixed with grey; 0 leaves it."""
    return tuple(round(c + (128 - c) * amount) for c in colour)  # type: ignore[return-value]


def fixed(points: Any) -> NDArray[np.int32]:
    """Float px (centre of the first pixel = 0.5) -> OpenCV's fixed-point coordinates (centre of the first pixel = 0)."""
    inside = np.clip(np.asarray(points, np.float64) - 0.5, -_FAR, _FAR)
    return np.round(inside * ONE).astype(np.int32)


@dataclass(frozen=True, slots=True)
class Pen:
    """Sizes in px for pictures of one size: thin lines on a small picture, readable text on a large one."""

    line_px: int
    text_px: int
    unit: float  # 1 at 1080p

    @classmethod
    def for_picture(cls, wh: tuple[int, int]) -> Pen:
        short = min(wh)
        return cls(line_px=max(1, round(short / 600)), text_px=round(7 + short * 0.0085), unit=short / 1080)

    @property
    def casing(self) -> tuple[Colour, int]:
        """Colour and width in px of the dark edge under a line; softer under thin ones, which it would drown."""
        return (DARK, self.line_px + 2) if self.line_px > 1 else ((70, 64, 60), 2)

    @property
    def gap_px(self) -> float:
        """Air between a small object and the mark round it."""
        return 3.0 + 2.5 * self.unit


def shade(picture: U8, xyxy: tuple[int, int, int, int], alpha: float, colour: Colour = DARK) -> None:
    """Mix `colour` into a rectangle of `picture`, in place."""
    height, width = picture.shape[:2]
    x1, y1, x2, y2 = max(0, xyxy[0]), max(0, xyxy[1]), min(width, xyxy[2]), min(height, xyxy[3])
    if x1 >= x2 or y1 >= y2:
        return
    part = picture[y1:y2, x1:x2]
    part[:] = cv2.addWeighted(part, 1 - alpha, np.full_like(part, colour), alpha, 0)


_QUARTER = np.linspace(0, np.pi / 2, 5)
_ARCS = np.stack(  # (4,5,2) quarter circles: right-bottom, left-bottom, left-top, right-top
    [np.stack([np.cos(_QUARTER + n * np.pi / 2), np.sin(_QUARTER + n * np.pi / 2)], 1) for n in range(4)]
)
_INWARD = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])


def rounded(xyxy: tuple[float, float, float, float], radius_px: float) -> NDArray[np.int32]:
    """Outline of a rectangle with round corners, in fixed-point coordinates."""
    x1, y1, x2, y2 = xyxy
    radius = max(0.0, min(radius_px, (x2 - x1) / 2, (y2 - y1) / 2))
    inner = np.array([[x2, y2], [x1, y2], [x1, y1], [x2, y1]]) + radius * _INWARD
    return fixed((inner[:, None] + radius * _ARCS).reshape(-1, 2))


class Text:
    """Writes text; sizes are remembered, since the same few texts come again in every frame."""

    def __init__(self) -> None:
        self._face = cv2.FontFace("sans") if hasattr(cv2, "FontFace") else None
        self._sizes: dict[tuple[str, int, int], int] = {}

    def readable(self, text: str, instead: str) -> str:
        """`text` as far as it can be drawn here, on one line; `instead` when nothing of it can."""
        text = " ".join(text.encode("utf-8", "replace").decode().split())  # OpenCV crashes on half a surrogate pair
        if not text.isascii() and self._face is None:
            text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
        return "".join(c for c in text if c.isprintable()).strip() or instead

    def width(self, text: str, size_px: int, weight: int = 500) -> int:
        """Width in px."""
        key = (text, size_px, weight)
        if key not in self._sizes:
            if len(self._sizes) > 2000:
                self._sizes.clear()
            self._sizes[key] = self._measure(text, size_px, weight)
        return self._sizes[key]

    def write(
        self, picture: U8, text: str, at: tuple[int, int], size_px: int, colour: Colour, weight: int = 500
    ) -> None:
        """Write in place; `at` is the left end of the baseline."""
        if self._face is not None:
            cv2.putText(picture, text, at, colour, self._face, size_px, weight)
            return
        scale, thick = _stroke(size_px, weight)
        cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thick, cv2.LINE_AA)

    def _measure(self, text: str, size_px: int, weight: int) -> int:
        if self._face is not None:
            _, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), self._face, size_px, weight)
            return int(width)
        (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, *_stroke(size_px, weight))
        return int(width)


def _stroke(size_px: int, weight: int) -> tuple[float, int]:
    """Scale and thickness of a stroke font about as large as a TrueType one of `size_px`."""
    return size_px / 32, max(1, round(size_px / 20 * weight / 500))
