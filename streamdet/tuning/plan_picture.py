"""A tile plan drawn over a frame: where tiles lie and overlap, where objects were seen, how large they are at the network."""

from __future__ import annotations

import cv2
import numpy as np

from streamdet.draw.canvas import Pen, Text, shade
from streamdet.tiles.plan import coarse_rows, describe
from streamdet.tuning.sizes import ObjectSizes
from streamdet.types import U8, TilePlan

__all__ = ["plan_picture"]

_WIDEST = 1920
_LINE, _SHARED, _SEEN = (235, 200, 60), (180, 140, 30), (80, 220, 255)  # BGR


def plan_picture(picture: U8, plan: TilePlan, sizes: ObjectSizes | None, *, said: list[str]) -> U8:
    """`picture` (BGR) with `plan` drawn over it and the lines `said` under it; never wider than 1920 px."""
    shrink = min(1.0, _WIDEST / picture.shape[1])
    wh = (round(picture.shape[1] * shrink), round(picture.shape[0] * shrink))
    out: U8 = np.array(cv2.resize(picture, wh, interpolation=cv2.INTER_AREA) if shrink < 1 else picture, np.uint8)
    fine = plan[~coarse_rows(plan)]
    _draw_shared(out, fine, shrink)
    pen = Pen.for_picture(wh)
    for number, box in enumerate(np.round(fine.xyxy * shrink).astype(int).tolist()):
        x1, y1, x2, y2 = box
        first = number == len(fine) // 2  # one whole tile stands out: neighbours overlap and hide each other's edges
        cv2.rectangle(out, (x1, y1), (x2 - 1, y2 - 1), (0, 0, 0), 3 if first else 2, cv2.LINE_AA)
        cv2.rectangle(out, (x1, y1), (x2 - 1, y2 - 1), _LINE, 2 if first else 1, cv2.LINE_AA)
        if first and len(fine) > 1:
            shade(out, (x1 + 2, y1 + 2, x2 - 2, y2 - 2), 0.25, (255, 255, 255))
    if sizes is not None:
        _draw_seen(out, sizes, shrink)
    return _with_text(out, [describe(plan), *said], pen)


def _draw_shared(out: U8, fine: TilePlan, shrink: float) -> None:
    """What more than one tile sees is tinted."""
    count = np.zeros(out.shape[:2], np.uint8)
    for x1, y1, x2, y2 in np.round(fine.xyxy * shrink).astype(int).tolist():
        count[y1:y2, x1:x2] += 1
    shared = count > 1
    tint = np.array(_SHARED, np.float32)
    out[shared] = (out[shared] * 0.65 + tint * 0.35).astype(np.uint8)


def _draw_seen(out: U8, sizes: ObjectSizes, shrink: float) -> None:
    """Where objects were: at most 400 of the sightings, each with its own size."""
    count = len(sizes.centres)
    for row in np.unique(np.linspace(0, count - 1, min(count, 400)).round().astype(int)).tolist() if count else ():
        x, y = (sizes.centres[row] * shrink).round().astype(int).tolist()
        radius = max(3, round(float(sizes.size[row]) * shrink / 2))
        cv2.circle(out, (x, y), radius, (0, 0, 0), 2, cv2.LINE_AA)
        cv2.circle(out, (x, y), radius, _SEEN, 1, cv2.LINE_AA)


def _with_text(picture: U8, lines: list[str], pen: Pen) -> U8:
    """A dark strip with the lines under the picture; lines that are too long are broken."""
    text, size = Text(), max(14, round(picture.shape[1] / 90))
    room = picture.shape[1] - 2 * size
    fitted: list[str] = []
    for line in lines:
        words: list[str] = []
        for word in line.split(" "):
            if words and text.width(" ".join([*words, word]), size) > room:
                fitted.append(" ".join(words))
                words = ["   "]
            words.append(word)
        fitted.append(" ".join(words))
    high = round(size * 1.7)
    strip = np.full((high * len(fitted) + size, picture.shape[1], 3), (28, 24, 21), np.uint8)
    for number, line in enumerate(fitted):
        text.write(strip, line, (size, size + high * number + size // 2), size, (235, 232, 228))
    return np.vstack([picture, strip])
