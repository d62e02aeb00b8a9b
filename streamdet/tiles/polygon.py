"""Regions of interest and ignored regions: polygons against points and rectangles, vectorised and exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.errors import ConfigError
from streamdet.types import Bool

__all__ = ["covered", "inside", "touched"]

Polygons = Sequence[Sequence[tuple[float, float]]]
F64 = NDArray[np.float64]


def inside(polygons: Polygons, frame_wh: tuple[int, int], points: Any) -> Bool:
    """(N,) whether each of `points` (N,2) px lies in any of `polygons` (even-odd rule).

    Polygons are px, or relative to the frame if all their values are at most 1. Raises ConfigError for a polygon of
    fewer than three corners.
    """
    points = np.asarray(points, np.float64).reshape(-1, 2)
    found = np.zeros(len(points), np.bool_)
    for corners in polygons:
        found |= _in_one(_pixels(corners, frame_wh), points)
    return found


def touched(polygons: Polygons, frame_wh: tuple[int, int], xyxy: Any) -> Bool:
    """(T,) whether each rectangle shares any area with any of `polygons`."""
    boxes = np.asarray(xyxy, np.float64).reshape(-1, 4)
    found = np.zeros(len(boxes), np.bool_)
    for corners in polygons:
        polygon = _pixels(corners, frame_wh)
        found |= _in_one(polygon, boxes[:, :2] * 0.5 + boxes[:, 2:] * 0.5) | _edge_enters(polygon, boxes)
    return found


def covered(polygons: Polygons, frame_wh: tuple[int, int], xyxy: Any) -> Bool:
    """(T,) whether each rectangle lies wholly in one of `polygons`."""
    boxes = np.asarray(xyxy, np.float64).reshape(-1, 4)
    found = np.zeros(len(boxes), np.bool_)
    for corners in polygons:
        polygon = _pixels(corners, frame_wh)
        found |= _in_one(polygon, boxes[:, :2] * 0.5 + boxes[:, 2:] * 0.5) & ~_edge_enters(polygon, boxes)
    return found


def _pixels(corners: Sequence[tuple[float, float]], frame_wh: tuple[int, int]) -> F64:
    polygon = np.asarray(corners, np.float64).reshape(-1, 2)
    if len(polygon) < 3 or not np.isfinite(polygon).all():
        raise ConfigError(f"tiles: a polygon in roi or ignore needs at least 3 finite corners, got {list(corners)}")
    return polygon * frame_wh if polygon.max() <= 1 else polygon


def _in_one(polygon: F64, points: F64) -> Bool:
    """Even-odd rule: count the edges a ray to the right meets."""
    (x1, y1), (x2, y2) = polygon.T, np.roll(polygon, -1, 0).T
    x, y = points[:, :1], points[:, 1:]
    straddles = (y1 > y) != (y2 > y)
    with np.errstate(divide="ignore", invalid="ignore"):
        meets = x < (x2 - x1) * (y - y1) / (y2 - y1) + x1
    return np.asarray((straddles & meets).sum(1) % 2 == 1, np.bool_)


def _edge_enters(polygon: F64, boxes: F64) -> Bool:
    """(T,) whether any edge of `polygon` passes through a box's interior (Liang-Barsky clipping)."""
    start = polygon
    along = np.roll(polygon, -1, 0) - start
    enter = np.zeros((len(boxes), len(polygon)))
    leave = np.ones_like(enter)
    outside = np.zeros_like(enter, np.bool_)
    with np.errstate(divide="ignore", invalid="ignore"):
        for axis in (0, 1):
            low = boxes[:, axis, None] - start[:, axis]
            high = boxes[:, axis + 2, None] - start[:, axis]
            flat = along[:, axis] == 0
            near, far = low / along[:, axis], high / along[:, axis]
            enter = np.where(flat, enter, np.maximum(enter, np.minimum(near, far)))
            leave = np.where(flat, leave, np.minimum(leave, np.maximum(near, far)))
            outside |= flat & ((low >= 0) | (high <= 0))
    return np.asarray((~outside & (enter < leave)).any(1), np.bool_)
