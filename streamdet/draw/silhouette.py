"""An object's mask over the picture: a veil of its colour and a fine outline, so that what lies under it can still be seen."""

from __future__ import annotations

import cv2
import numpy as np

from streamdet.draw.canvas import Colour, Pen
from streamdet.masks import Mask
from streamdet.types import U8

__all__ = ["draw_silhouette"]

VEIL = 0.35


def draw_silhouette(picture: U8, mask: Mask, colour: Colour, pen: Pen) -> None:
    """On `picture` (H, W, 3) in place. A mask that reaches beyond the picture is drawn as far as it lies in it."""
    height, width = picture.shape[:2]
    x, y = mask.xy
    x2, y2 = min(x + mask.wh[0], width), min(y + mask.wh[1], height)
    if mask.area == 0 or x2 <= max(x, 0) or y2 <= max(y, 0):
        return
    inside = mask.pixels()[max(-y, 0) : y2 - y, max(-x, 0) : x2 - x]
    part = picture[max(y, 0) : y2, max(x, 0) : x2]
    veiled = part[inside].astype(np.float32) * (1 - VEIL) + np.array(colour, np.float32) * VEIL
    part[inside] = np.rint(veiled).astype(np.uint8)
    outlines, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    corner = (max(x, 0), max(y, 0))
    cv2.drawContours(picture, outlines, -1, colour, max(1, pen.line_px // 2), cv2.LINE_AA, offset=corner)
