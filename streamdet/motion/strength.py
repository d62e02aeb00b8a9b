"""How surely a region is a small mover: a logistic function of what it looks like and where it is."""

from __future__ import annotations

import cv2
import numpy as np

from streamdet.motion.activity import BLOCK_PX
from streamdet.motion.regions import Shapes
from streamdet.types import F32, U8, Bool

__all__ = ["FEATURES", "describe", "strength_of"]

FEATURES = (
    "ratio", "prominence", "moving", "area", "area2", "fill", "long", "busy", "fresh", "detail", "rank",
    "parent", "still_ratio", "crowd", "restless", "detail_fresh",
)  # fmt: skip


def describe(shapes: Shapes, active: Bool, earlier: U8, noise: F32) -> F32:
    """(R, K) f32, one column per name in FEATURES. Block maps: `active`, `earlier` = the preceding frame's largest change, `noise`."""
    n = len(shapes)
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
    columns = [
        ratio,
        np.log(np.maximum(shapes.prominence, 0.1)),
        shapes.moving,
        area,
        area * area / 8,
        shapes.area / (side[:, 0] * side[:, 1]),
        np.log(side.max(1) / side.min(1)),
        busy,
        fresh,
        detail,
        np.log1p(np.maximum(shapes.rank, 0)),
        np.log1p(shapes.parent) / 8,
        (1 - shapes.moving) * ratio,
        np.log(np.maximum(crowd, 1)),
        np.log((noise[row, column] + 3.0) / (shapes.contrast + 3.0)),
        detail * fresh,
    ]
    return np.stack(columns, 1).astype(np.float32) if n else np.zeros((0, len(FEATURES)), np.float32)


_WEIGHTS = np.array([-1.642, 4.463, 3.031, 1.177, -1.236, 1.569, -0.927, -0.849, -0.264, 1.876, -0.158, -2.023, 1.006, -1.356, -0.153, 0.184], np.float32)  # fmt: skip
_BIAS = -5.739


def strength_of(features: F32) -> F32:
    return np.asarray(1 / (1 + np.exp(-(features @ _WEIGHTS + _BIAS))), np.float32)
