"""The best moment of an object: a crop with what is round it, and the whole annotated picture, as JPEG."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from streamdet.types import U8, Result

__all__ = ["Best", "Shot"]

_CONTEXT = 5.0  # sides of the crop, in sides of the object ...
_LEAST_PX = 96  # ... but at least this
_SHOWN_PX = 384  # small crops are enlarged to this
_FULL_PX = 1920  # the whole picture is no wider
_QUALITY = 88
_BETTER = 1.08  # another moment must be this much better
_KNOWN_S = 0.5
_SHARP = 60.0  # variance of the Laplacian at which a thing counts as half sharp


@dataclass(frozen=True, slots=True)
class Shot:
    """JPEG data of one moment."""

    crop: bytes
    full: bytes
    worth: float


class Best:
    """Remembers the best shot of one track. ``offer`` is cheap for moments that are no better."""

    def __init__(self) -> None:
        self.shot: Shot | None = None

    def offer(self, result: Result, row: int) -> bool:
        """Look at track row `row` of `result`; True: this is the best moment so far, and ``shot`` holds it."""
        tracks = result.tracks
        box = tracks.xyxy[row]
        known = min(1.0, float(tracks.age_s[row]) / _KNOWN_S)  # the box of the first frames is the least sure one
        worth = _worth(result.frame.picture.luma, box, float(tracks.score[row])) * (0.7 + 0.3 * known)
        if self.shot is not None and worth < self.shot.worth * _BETTER:
            return False
        crop = _jpeg(_crop(result, row))
        full = _full(result)
        if crop is None or full is None:
            return False
        self.shot = Shot(crop, full, worth)
        return True


def _worth(luma: U8, box: np.ndarray, score: float) -> float:
    """Score, times how sharp it is (0.5..1), times how large (slowly), halved at the picture's border."""
    height, width = luma.shape
    x1, y1, x2, y2 = (float(value) for value in box)
    left, top, right, bottom = (
        max(0, math.floor(x1)), max(0, math.floor(y1)), min(width, math.ceil(x2)), min(height, math.ceil(y2))
    )  # fmt: skip
    if right - left < 1 or bottom - top < 1:
        return 0.0
    piece = luma[max(0, top - 2) : bottom + 2, max(0, left - 2) : right + 2]
    sharp = float(cv2.Laplacian(np.ascontiguousarray(piece), cv2.CV_32F).var())
    inside = x1 > 1 and y1 > 1 and x2 < width - 1 and y2 < height - 1
    size = math.log2(2 + math.sqrt((x2 - x1) * (y2 - y1)))
    return score * (0.5 + 0.5 * sharp / (sharp + _SHARP)) * size * (1.0 if inside else 0.5)


def _crop(result: Result, row: int) -> U8:
    """The object in its surroundings, square, with corner marks round it: five pixels are easily overlooked."""
    picture = result.frame.picture.bgr
    height, width = picture.shape[:2]
    x1, y1, x2, y2 = (float(value) for value in result.tracks.xyxy[row])
    side = min(int(max(_LEAST_PX, _CONTEXT * max(x2 - x1, y2 - y1))), width, height)
    left = int(np.clip((x1 + x2 - side) / 2, 0, width - side))
    top = int(np.clip((y1 + y2 - side) / 2, 0, height - side))
    piece = picture[top : top + side, left : left + side]
    zoom = max(1.0, _SHOWN_PX / side)
    shown = np.array(cv2.resize(piece, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC), np.uint8, order="C")
    margin = max(6.0, 0.3 * zoom * max(x2 - x1, y2 - y1))
    corners = [
        (x1 - left) * zoom - margin, (y1 - top) * zoom - margin, (x2 - left) * zoom + margin, (y2 - top) * zoom + margin
    ]  # fmt: skip
    _mark_corners(shown, [round(value) for value in corners])
    return shown


def _mark_corners(picture: U8, box: list[int]) -> None:
    x1, y1, x2, y2 = box
    arm = max(4, min(x2 - x1, y2 - y1) // 4)
    for thickness, colour in ((3, (0, 0, 0)), (1, (255, 255, 255))):
        for x, y, along_x, along_y in ((x1, y1, 1, 1), (x2, y1, -1, 1), (x1, y2, 1, -1), (x2, y2, -1, -1)):
            cv2.line(picture, (x, y), (x + along_x * arm, y), colour, thickness, cv2.LINE_AA)
            cv2.line(picture, (x, y), (x, y + along_y * arm), colour, thickness, cv2.LINE_AA)


def _full(result: Result) -> bytes | None:
    picture = result.annotated()
    if picture.shape[1] > _FULL_PX:
        scale = _FULL_PX / picture.shape[1]
        picture = np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    return _jpeg(picture)


def _jpeg(picture: U8) -> bytes | None:
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return data.tobytes() if done else None
