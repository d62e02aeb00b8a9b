"""How things look: who is who after a crossing is told by clothes and paint where places and speeds no longer tell it.

A look is the mean luma and colour of four bands of a box, from top to bottom, sampled at a few points of its inner part and
straight from the planes of the picture: no crops, no conversion, no network. A track's look is that of its own hits, averaged
over the last moments; hits that others cover are not learned from. What is small has none: of a ball or a bird 10 px large the
background is most of what such a box shows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.tracking.assignment import candidates
from streamdet.types import Picture

__all__ = ["LEAST_PX", "LEAST_SEEN_PX", "LOOK", "covering", "learn", "look_at", "strangeness", "unlike"]

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]

LEAST_PX = 20.0  # side of the square as large as a box that is known by its look
LEAST_SEEN_PX = 8.0  # ... and of one that is compared with those: a small thing is not a large one half hidden
BANDS, ROWS, COLUMNS = 4, 4, 6
LOOK = 3 * BANDS  # numbers
INNER_X, INNER_Y = (0.25, 0.75), (0.06, 0.94)  # of the box: its rim shows what is behind
LUMA_WEIGHT = 0.4  # light and shadow change it, colour hardly
SHADOW = 0.25  # share of a change of luma common to all bands that may be light and shadow
MOST_OF_BAND = 40.0  # weighted levels: one band behind a post says no more than this
LEVELS = 24.0  # weighted levels, over all bands, that are as unlike as can be
ALIKE, STRANGE = 0.25, 0.75  # as unlike as one thing to itself may be; as it hardly ever is
LEARN_S = 0.6
COVERED = 0.2  # share of a box that another may lie over before its look is a mixture


def look_at(picture: Picture, box: F64) -> F32:
    """(N,LOOK) mean luma, u, v of each band of `box` (N,4) px; what reaches out of the picture repeats its rim."""
    width, height = picture.wh
    across, down = np.linspace(*INNER_X, COLUMNS), np.linspace(*INNER_Y, BANDS * ROWS)
    wh = box[:, 2:] - box[:, :2]
    x = np.clip(box[:, :1] + wh[:, :1] * across, 0, width - 1).astype(np.intp)[:, None, :]
    y = np.clip(box[:, 1:2] + wh[:, 1:] * down, 0, height - 1).astype(np.intp)[:, :, None]
    planes = picture.sampled(x, y) if picture.is_yuv else _of_bgr(picture.bgr[y, x])
    bands = [plane.reshape(len(box), BANDS, ROWS * COLUMNS).mean(axis=2, dtype=np.float32) for plane in planes]
    return np.concatenate(bands, axis=1)


def _of_bgr(pixels: NDArray[np.uint8]) -> tuple[NDArray[Any], ...]:
    blue, green, red = np.moveaxis(pixels.astype(np.float32), -1, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return luma, 128 + 0.564 * (blue - luma), 128 + 0.713 * (red - luma)


def unlike(one: NDArray[Any], other: NDArray[Any]) -> F64:
    """(P,) 0..1 how unlike looks (P,LOOK) are; NaN where one is not known."""
    apart = (one - other).reshape(-1, 3, BANDS).astype(np.float64)
    apart[:, 0] -= SHADOW * apart[:, 0].mean(axis=1, keepdims=True)
    apart[:, 0] *= LUMA_WEIGHT
    band = np.minimum(np.sqrt((apart**2).sum(axis=1)), MOST_OF_BAND)
    return np.asarray(np.minimum(band.mean(axis=1) / LEVELS, 1.0))


def strangeness(one: NDArray[Any], other: NDArray[Any]) -> F64:
    """(P,) 0..1 how surely looks (P,LOOK) are not of the same thing; 0 where one is not known."""
    strange = np.clip((unlike(one, other) - ALIKE) / (STRANGE - ALIKE), 0.0, 1.0)
    return np.asarray(np.nan_to_num(strange, nan=0.0))


def learn(known: NDArray[Any], seen: NDArray[Any], clear: NDArray[np.bool_], gap_s: F64) -> NDArray[Any]:
    """(P,LOOK) tracks' looks after one more hit, `gap_s` (P,) after the last; of what others cover only if none was known."""
    share = np.where(clear, 1 - np.exp(-gap_s / LEARN_S), 0.0).astype(np.float32)[:, None]
    return np.where(np.isnan(known), seen, np.where(np.isnan(seen), known, known + share * (seen - known)))


def covering(box: F64, other: F64) -> NDArray[np.intp]:
    """(N,) how many of the boxes `other` (M,4) lie over more than COVERED of each `box` (N,4)."""
    wh, other_wh = box[:, 2:] - box[:, :2], other[:, 2:] - other[:, :2]
    reach = (np.hypot(*wh.T) + np.hypot(*other_wh.T).max(initial=0.0)) / 2
    i, j, _ = candidates((box[:, :2] + box[:, 2:]) / 2, reach, (other[:, :2] + other[:, 2:]) / 2)
    shared = np.maximum(np.minimum(box[i, 2:], other[j, 2:]) - np.maximum(box[i, :2], other[j, :2]), 0).prod(axis=1)
    return np.bincount(i[shared > COVERED * wh[i].prod(axis=1)], minlength=len(box))
