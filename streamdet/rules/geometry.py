"""Where an object stands for zones and lines, and what lies where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.config import Anchor
from streamdet.errors import ConfigError

__all__ = ["allowed_labels", "anchors", "inside", "to_px"]

F64 = NDArray[np.float64]
Points = Sequence[tuple[float, float]]


def to_px(points: Points, frame_wh: tuple[int, int]) -> F64:
    """(V,2) px; points whose values are all <= 1 are shares of the frame's width and height."""
    array = np.array(points, np.float64).reshape(-1, 2)
    return array * frame_wh if (array <= 1).all() else array


def anchors(xyxy: NDArray[Any], anchor: Anchor) -> F64:
    """(M,2) px: the point of each box that counts."""
    box = xyxy.astype(np.float64)
    x, y = (box[:, 0] + box[:, 2]) / 2, (box[:, 1] + box[:, 3]) / 2
    if anchor == "bottom_center":
        y = box[:, 3]
    elif anchor == "top_center":
        y = box[:, 1]
    return np.stack([x, y], axis=1)


def inside(points: F64, polygon: F64) -> NDArray[np.bool_]:
    """(M,) whether each point lies in the polygon (V,2) by the even-odd rule; of shared edges a point has one side only."""
    x, y = points[:, :1], points[:, 1:]
    x1, y1 = polygon.T
    x2, y2 = np.roll(polygon, -1, axis=0).T
    spans = (y1 > y) != (y2 > y)
    at = x1 + (y - y1) * (x2 - x1) / np.where(y2 == y1, 1, y2 - y1)
    return np.asarray((spans & (x < at)).sum(axis=1) % 2 == 1)


def allowed_labels(classes: Sequence[str], labels: tuple[str, ...], owner: str) -> NDArray[np.int32] | None:
    """Class ids that `classes` (names or ids) stand for; None means all. Raises ConfigError for a class nobody knows."""
    if not classes:
        return None
    ids: list[int] = []
    for name in classes:
        found = [i for i, label in enumerate(labels) if label == name]
        if not found and name.isdigit() and (not labels or int(name) < len(labels)):
            found = [int(name)]
        if not found:
            raise ConfigError(
                f"{owner} is for class '{name}', which the model does not know; it knows {_listed(labels)}"
            )
        ids += found
    return np.array(ids, np.int32)


def _listed(labels: tuple[str, ...]) -> str:
    shown = ", ".join(labels[:12]) or "no classes"
    return f"{shown}, ... ({len(labels)} in all)" if len(labels) > 12 else shown
