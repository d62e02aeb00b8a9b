"""Global motion: how the picture as a whole moved between two frames (hand shake, pan, wind on the mast).

Corners are followed on a reduced picture, then again at full resolution in small patches cut out round them, so that the cost
does not grow with the picture; a similarity is fitted to those that agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from streamdet.types import F32, U8

__all__ = ["Transform", "estimate", "identity", "reduced", "warp"]

Transform = NDArray[np.float64]  # (2,3): where a point of the earlier frame is in the later one

_REDUCED_PX = 960
_MOST_CORNERS = 240
_FEWEST = 12
_PATCH_PX = 48
_MOST_PATCHES = 64
_WINDOW_PX = (15, 15)
_TERM = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.01)


def identity() -> Transform:
    return np.array([[1.0, 0, 0], [0, 1, 0]])


@dataclass(frozen=True, slots=True)
class Estimate:
    """`transform` maps px of the earlier picture to the later one; `agreeing`: share of corners that follow it."""

    transform: Transform
    agreeing: float


def reduced(plane: U8) -> tuple[U8, int]:
    """The plane, averaged down by a whole factor to at most 960 px, and the factor."""
    height, width = plane.shape
    factor = max(1, -(-max(width, height) // _REDUCED_PX))
    if factor == 1:
        return plane, 1
    size = (max(1, width // factor), max(1, height // factor))
    cut = plane[: size[1] * factor, : size[0] * factor]
    return np.asarray(cv2.resize(cut, size, interpolation=cv2.INTER_AREA), np.uint8), factor


def estimate(then: U8, now: U8) -> Estimate | None:
    """How the scene moved from `then` to `now`. None if there is too little to hold on to, or nothing agrees."""
    small_then, factor = reduced(then)
    small_now, _ = reduced(now)
    if min(small_now.shape) < 48:
        return None
    corners = _spread_corners(small_then)
    if len(corners) < _FEWEST:
        return None
    moved, good = _follow(small_then, small_now, corners, levels=4)
    tracked = corners[good]
    if len(tracked) < _FEWEST:
        return None
    found = _fit(tracked, moved[good], 1.0)
    if found is None:
        return None
    matrix, inside = found
    agreeing = float(inside.sum()) / len(corners)
    if inside.sum() < _FEWEST or agreeing < 0.35 or not _spans(tracked[inside], small_then.shape):
        return None
    if factor == 1:
        return Estimate(_simplest(matrix, then.shape), agreeing)
    matrix[:, 2] = factor * matrix[:, 2] + (factor - 1) / 2 * (1 - matrix[:, :2].sum(1))  # pixel centres
    fine = _refine(then, now, tracked[inside] * factor + (factor - 1) / 2, matrix)
    return Estimate(_simplest(fine if fine is not None else matrix, then.shape), agreeing)


def _spread_corners(plane: U8) -> F32:
    """Corners from all over the picture, (N,2) f32: the best of each cell, so that one crowd does not outvote the rest."""
    height, width = plane.shape
    gap = max(4, int(np.sqrt(plane.size / _MOST_CORNERS) * 0.4))
    found = cv2.goodFeaturesToTrack(plane, 8 * _MOST_CORNERS, 0.002, gap, blockSize=5)
    if found is None:
        return np.zeros((0, 2), np.float32)
    points = np.asarray(found.reshape(-1, 2), np.float32)  # best first
    columns, rows = 10, 8
    cell = (points[:, 1] * rows / height).astype(int) * columns + (points[:, 0] * columns / width).astype(int)
    order = np.argsort(cell, kind="stable")
    first = np.searchsorted(cell[order], cell[order])
    rank = np.empty(len(points), int)
    rank[order] = np.arange(len(points)) - first
    return points[rank < _MOST_CORNERS // (columns * rows)]


def _follow(then: U8, now: U8, points: F32, levels: int) -> tuple[F32, NDArray[np.bool_]]:
    start = points.reshape(-1, 1, 2)
    moved, status, _ = cv2.calcOpticalFlowPyrLK(
        then, now, start, start.copy(), winSize=_WINDOW_PX, maxLevel=levels, criteria=_TERM
    )
    end = np.asarray(moved.reshape(-1, 2), np.float32)
    inside = (end >= 0).all(1) & (end[:, 0] < now.shape[1]) & (end[:, 1] < now.shape[0])
    return end, np.asarray((status.ravel() > 0) & inside, np.bool_)


def _fit(then: F32, now: F32, within_px: float) -> tuple[Transform, NDArray[np.bool_]] | None:
    matrix, inside = cv2.estimateAffinePartial2D(
        then, now, method=cv2.RANSAC, ransacReprojThreshold=within_px, maxIters=300
    )
    if matrix is None or not np.isfinite(matrix).all():
        return None
    return np.asarray(matrix, np.float64), inside.ravel() > 0


def _spans(points: F32, shape: tuple[int, ...]) -> bool:
    """Do they cover a good part of the picture? A bus that crosses is not the scene."""
    extent = np.percentile(points, 95, axis=0) - np.percentile(points, 5, axis=0)
    share = extent / np.array([shape[1], shape[0]])
    return bool(share.min() > 0.1 and share.prod() > 0.06)


def _refine(then: U8, now: U8, points: F32, matrix: Transform) -> Transform | None:
    """Follow again at full resolution, in two mosaics of patches: the earlier picture, and the later one where it is expected."""
    points = np.round(points[np.linspace(0, len(points) - 1, min(len(points), _MOST_PATCHES)).astype(int)])
    expected = np.round(points @ matrix[:, :2].T + matrix[:, 2])
    half = _PATCH_PX // 2
    limit = np.array([now.shape[1], now.shape[0]])
    whole = ((points >= half) & (points <= limit - half) & (expected >= half) & (expected <= limit - half)).all(1)
    points, expected = points[whole].astype(int), expected[whole].astype(int)
    if len(points) < _FEWEST:
        return None
    per_row = 8
    size = (-(-len(points) // per_row) * _PATCH_PX, per_row * _PATCH_PX)
    left, right = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    middle = np.empty((len(points), 2), np.float32)
    for k, ((x, y), (u, v)) in enumerate(zip(points, expected)):
        top, side = k // per_row * _PATCH_PX, k % per_row * _PATCH_PX
        left[top : top + _PATCH_PX, side : side + _PATCH_PX] = then[y - half : y + half, x - half : x + half]
        right[top : top + _PATCH_PX, side : side + _PATCH_PX] = now[v - half : v + half, u - half : u + half]
        middle[k] = side + half, top + half
    moved, good = _follow(left, right, middle, levels=1)
    if good.sum() < _FEWEST:
        return None
    target = (expected + (moved - middle))[good].astype(np.float32)
    found = _fit(points[good].astype(np.float32), target, 0.7)
    return None if found is None or found[1].sum() < _FEWEST else found[0]


def _simplest(matrix: Transform, shape: tuple[int, ...]) -> Transform:
    """A pure shift where turning and zooming would move no corner by a third of a pixel: steadier, and cheap to apply."""
    height, width = shape
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], float)
    centre = np.array([width / 2, height / 2])
    shift = centre @ matrix[:, :2].T + matrix[:, 2] - centre
    moved = corners @ matrix[:, :2].T + matrix[:, 2] - corners
    if np.abs(moved - shift).max() < 0.34:
        return np.array([[1.0, 0, shift[0]], [0, 1, shift[1]]])
    return matrix


def compose(later: Transform, earlier: Transform) -> Transform:
    """First `earlier`, then `later`."""
    return np.hstack([later[:, :2] @ earlier[:, :2], (later[:, :2] @ earlier[:, 2] + later[:, 2])[:, None]])


def inverse(transform: Transform) -> Transform:
    return np.asarray(cv2.invertAffineTransform(transform), np.float64)


def warp(plane: U8, transform: Transform, fill: U8) -> U8:
    """`plane` seen from the later frame; where it shows nothing, `fill` (the later frame itself: no difference)."""
    height, width = plane.shape
    moved = np.array(fill, np.uint8, order="C")
    cv2.warpAffine(plane, transform, (width, height), moved, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT)
    return moved
