"""How surely a region is a small mover: a logistic function of what it looks like and where it is."""

from __future__ import annotations

import cv2
import numpy as np

from streamdet.motion.activity import BLOCK_PX
from streamdet.motion.shapes import Shapes
from streamdet.types import F32, U8, Bool

__all__ = ["FEATURES", "describe", "strength_of"]

FEATURES = (
    "ratio", "prominence", "moving", "area", "area2", "fill", "long", "busy", "fresh", "detail", "rank",
    "parent", "still_ratio", "crowd", "restless", "detail_fresh", "around", "around_now", "detail_around_now",
)  # fmt: skip


def describe(shapes: Shapes, active: Bool, earlier: U8, noise: F32) -> F32:
    """(R, K) f32, one column per name in FEATURES.

    Block maps: `active`, `earlier` (the preceding frame's largest change) and `noise` (the usual one).
    """
    side = np.maximum(shapes.xyxy[:, 2:] - shapes.xyxy[:, :2], 1)
    centre = (shapes.xyxy[:, :2] + shapes.xyxy[:, 2:]) / 2
    column = np.minimum((centre[:, 0] // BLOCK_PX).astype(int), active.shape[1] - 1)
    row = np.minimum((centre[:, 1] // BLOCK_PX).astype(int), active.shape[0] - 1)
    busy = cv2.blur(active.astype(np.float32), (7, 7))[row, column]
    count = np.zeros(active.shape, np.float32)
    np.add.at(count, (row, column), 1)
    crowd = cv2.boxFilter(count, -1, (7, 7), normalize=False, borderType=cv2.BORDER_CONSTANT)[row, column]
    area = np.log(shapes.area)
    ratio = np.log(np.maximum(shapes.ratio, 0.1))
    detail = (shapes.parent > 0).astype(np.float32)
    fresh = np.log((earlier[row, column] + 6.0) / (shapes.contrast + 6.0))
    columns = (
        ratio,
        np.log(np.maximum(shapes.prominence, 0.1)),
        shapes.moving,
        area,
        area * area / 8,
        shapes.area / (side[:, 0] * side[:, 1]),
        np.log(np.maximum(side[:, 0], side[:, 1]) / np.minimum(side[:, 0], side[:, 1])),
        busy,
        fresh,
        detail,
        np.log1p(np.maximum(shapes.rank, 0)),
        np.log1p(shapes.parent) / 8,
        (1 - shapes.moving) * ratio,
        np.log(np.maximum(crowd, 1)),
        np.log((noise[row, column] + 3.0) / (shapes.contrast + 3.0)),
        detail * fresh,
        shapes.around,
        shapes.around_now,
        detail * shapes.around_now,
    )
    features = np.empty((len(shapes), len(FEATURES)), np.float32)
    for number, values in enumerate(columns):
        features[:, number] = values
    return features


# Logistic regression on 40,000 regions of 38 training clips of drones, birds and planes, one tennis clip, and clips of
# pedestrians, cars and people, in which every small region is wrong. Nothing was fitted on badminton or clips/air, but which
# features and which weight of the negatives to keep was decided by looking at their scores too: those are not unseen.
_WEIGHTS = np.array(
    [
        -2.186,  # ratio
        5.620,  # prominence
        3.194,  # moving
        1.425,  # area
        -2.123,  # area2
        0.591,  # fill
        -0.463,  # long
        1.207,  # busy
        -0.345,  # fresh
        2.981,  # detail
        -0.460,  # rank
        -3.329,  # parent
        -0.132,  # still_ratio
        -1.626,  # crowd
        -0.575,  # restless
        0.107,  # detail_fresh
        -1.540,  # around
        -3.096,  # around_now
        1.432,  # detail_around_now
    ],
    np.float32,
)
_BIAS = -6.134


def strength_of(features: F32) -> F32:
    """(R,) f32 in 0..1."""
    return np.asarray(1 / (1 + np.exp(-np.clip(features @ _WEIGHTS + _BIAS, -30, 30))), np.float32)
