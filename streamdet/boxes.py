"""Array maths on boxes: pure numpy, no object per box, no warnings for empty or degenerate boxes.

Boxes are (N,4) ``x1 y1 x2 y2`` in px, floating point (integers are taken as float64); results have the dtype of the input.
A box with x2 <= x1 or y2 <= y1 has area 0 and overlaps nothing. ``f(a, b)`` gives the (N,M) matrix of all pairs,
``f_paired(a, b)`` the (N,) values of row against row.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Metric",
    "area",
    "candidate_pairs",
    "canonical_order",
    "centres",
    "clip",
    "greedy_owners",
    "intersection",
    "intersection_paired",
    "ios",
    "ios_paired",
    "iou",
    "nms",
    "nwd",
    "nwd_paired",
    "paired",
    "pairwise",
    "shift",
]

Floats = NDArray[np.floating[Any]]
Metric = Literal["iou", "ios", "nwd"]

# The constant of `nwd`: with threshold 0.5, boxes of 4 px are the same up to 3.7 px apart, of 10 px up to 6.2, of 40 px 18.7.
NWD_BASE_PX = 3.0
NWD_PER_SIDE = 0.6


def _floats(values: ArrayLike) -> Floats:
    array = np.asarray(values)
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _ratio(part: Floats, whole: Floats) -> Floats:
    """part / whole, 0 where whole is 0."""
    result: Floats = np.divide(part, whole, out=np.zeros(np.shape(part), part.dtype), where=whole > 0)
    return result


# ----------------------------------------------------------------------------------------------------- one set of boxes


def area(xyxy: ArrayLike) -> Floats:
    """(...,) px^2; 0 for degenerate boxes."""
    box = _floats(xyxy)
    return np.asarray(np.maximum(box[..., 2] - box[..., 0], 0) * np.maximum(box[..., 3] - box[..., 1], 0))


def centres(xyxy: ArrayLike) -> Floats:
    """(...,2) px."""
    box = _floats(xyxy)
    return np.asarray((box[..., :2] + box[..., 2:]) / 2)


def clip(xyxy: ArrayLike, wh: tuple[float, float]) -> Floats:
    """Cut off what lies outside a picture of `wh` px; a box wholly outside becomes degenerate on the border."""
    box = _floats(xyxy)
    return np.clip(box, 0, np.array([wh[0], wh[1], wh[0], wh[1]], box.dtype))


def shift(xyxy: ArrayLike, dxy: ArrayLike) -> Floats:
    """Move by `dxy` px: (2,) for all boxes, or (N,2)."""
    box = _floats(xyxy)
    move = np.asarray(dxy, box.dtype)
    return np.asarray(box + np.concatenate([move, move], axis=-1))


# ------------------------------------------------------------------------------------ two sets: broadcasting definitions


def _intersection(a: Floats, b: Floats) -> Floats:
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    return np.asarray(np.maximum(width, 0) * np.maximum(height, 0))


def _iou(a: Floats, b: Floats) -> Floats:
    shared = _intersection(a, b)
    return _ratio(shared, area(a) + area(b) - shared)


def _ios(a: Floats, b: Floats) -> Floats:
    return _ratio(_intersection(a, b), np.minimum(area(a), area(b)))


def _mean_side(box: Floats) -> Floats:
    return np.asarray((np.maximum(box[..., 2] - box[..., 0], 0) + np.maximum(box[..., 3] - box[..., 1], 0)) / 2)


def _nwd(a: Floats, b: Floats, constant_px: float | None = None) -> Floats:
    # centre distance and half the difference of the sides: the 2-Wasserstein distance of the boxes' inscribed Gaussians
    distance_squared = sum(((a[..., i] - b[..., i]) + (a[..., i + 2] - b[..., i + 2])) ** 2 for i in (0, 1)) / 4
    distance_squared += sum(((a[..., i + 2] - a[..., i]) - (b[..., i + 2] - b[..., i])) ** 2 for i in (0, 1)) / 4
    constant = NWD_BASE_PX + NWD_PER_SIDE / 2 * (_mean_side(a) + _mean_side(b)) if constant_px is None else constant_px
    return np.asarray(np.exp(-np.sqrt(distance_squared) / constant))


_METRICS = {"iou": _iou, "ios": _ios, "nwd": _nwd}


# ----------------------------------------------------------------------------------------------------- two sets: public


def intersection(a: ArrayLike, b: ArrayLike) -> Floats:
    """(N,M) px^2."""
    return _intersection(_floats(a)[:, None], _floats(b)[None])


def intersection_paired(a: ArrayLike, b: ArrayLike) -> Floats:
    """(N,) px^2."""
    return _intersection(_floats(a), _floats(b))


def iou(a: ArrayLike, b: ArrayLike) -> Floats:
    """(N,M) intersection over union, 0..1."""
    return _iou(_floats(a)[:, None], _floats(b)[None])


def ios(a: ArrayLike, b: ArrayLike) -> Floats:
    """(N,M) intersection over the smaller box's area, 0..1."""
    return _ios(_floats(a)[:, None], _floats(b)[None])


def ios_paired(a: ArrayLike, b: ArrayLike) -> Floats:
    """(N,) intersection over the smaller box's area, 0..1."""
    return _ios(_floats(a), _floats(b))


def nwd(a: ArrayLike, b: ArrayLike, *, constant_px: float | None = None) -> Floats:
    """(N,M) normalised Wasserstein distance exp(-d/C), 0..1: still tells near from far where boxes do not overlap.

    d^2 = dx^2 + dy^2 + (dw/2)^2 + (dh/2)^2 of centres and sides (Wang et al., 2021). The paper's C is the mean object size
    of a data set (12.8 px for AI-TOD): give it as `constant_px`. By default C = 3 px + 0.6 x the mean side of the two boxes,
    so that one threshold serves 4 px and 40 px objects alike: 0.5 means 3.7 px for 4 px boxes, 18.7 px for 40 px boxes.
    """
    return _nwd(_floats(a)[:, None], _floats(b)[None], constant_px)


def nwd_paired(a: ArrayLike, b: ArrayLike, *, constant_px: float | None = None) -> Floats:
    """(N,) :func:`nwd` of row against row."""
    return _nwd(_floats(a), _floats(b), constant_px)


def pairwise(a: ArrayLike, b: ArrayLike, metric: Metric) -> Floats:
    """(N,M) values of the named metric."""
    return _METRICS[metric](_floats(a)[:, None], _floats(b)[None])


def paired(a: ArrayLike, b: ArrayLike, metric: Metric) -> Floats:
    """(N,) values of the named metric, row against row."""
    return _METRICS[metric](_floats(a), _floats(b))


# ------------------------------------------------------------------------------------------------------ pairs and order


def nwd_reach_px(xyxy: ArrayLike, threshold: float) -> Floats:
    """(N,) px such that two boxes with ``nwd >= threshold`` have their centres within the sum of their reaches."""
    distance = -np.log(max(threshold, 1e-3))
    return np.asarray(distance / 2 * (NWD_BASE_PX + NWD_PER_SIDE * _mean_side(_floats(xyxy))))


def candidate_pairs(
    xyxy: ArrayLike, metric: Metric = "iou", *, threshold: float = 0.5, margin_px: float = 0.0
) -> NDArray[np.int64]:
    """(P,2) rows i < j, sorted, of all boxes that may have ``metric >= threshold``; no others are worth a look.

    For "iou" and "ios" these are the boxes that overlap or touch, for "nwd" those near enough. `margin_px` > 0 adds those
    with a gap of at most that. Near-linear time: boxes are entered in horizontal strips about as high as a box, and each
    strip is swept along x (a plain sweep would compare every box with the whole column above and below it).
    """
    box = _floats(xyxy).astype(np.float64)
    count = len(box)
    if count < 2:
        return np.zeros((0, 2), np.int64)
    if metric == "nwd":
        grow = nwd_reach_px(box, threshold) - (box[:, 2:] - box[:, :2]).min(axis=1) / 2
        grow = np.maximum(grow, 0) + margin_px / 2
    else:
        grow = np.full(count, margin_px / 2)
    low = np.minimum(box[:, :2], box[:, 2:]) - grow[:, None]
    high = np.maximum(box[:, :2], box[:, 2:]) + grow[:, None]
    return _overlapping(low, high) if count > 32 else _overlapping_all(low, high)


def _overlapping_all(low: Floats, high: Floats) -> NDArray[np.int64]:
    """All overlapping pairs by comparing each with each: the quickest way for a handful."""
    meet = (low[:, None] <= high[None]).all(axis=2)
    first, second = np.nonzero(np.triu(meet & meet.T, 1))
    return np.stack([first, second], axis=1).astype(np.int64)


def _overlapping(low: Floats, high: Floats) -> NDArray[np.int64]:
    """All overlapping pairs by strips in y and a sweep in x."""
    strip_px = max(2 * float((high[:, 1] - low[:, 1]).mean()), 1e-3)
    first_strip = np.floor((low[:, 1] - low[:, 1].min()) / strip_px).astype(np.int64)
    last_strip = np.floor((high[:, 1] - low[:, 1].min()) / strip_px).astype(np.int64)
    # a box stands in every strip it meets: at most 2.5 of them on average, whatever the sizes
    row, nth = _expand(last_strip - first_strip + 1)
    strip = first_strip[row] + nth

    left, right = low[:, 0] - low[:, 0].min(), high[:, 0] - low[:, 0].min()
    pitch = float(right.max()) + 1.0  # strips laid end to end on one axis
    order = np.argsort(strip * pitch + left[row], kind="stable")
    row, strip = row[order], strip[order]
    start = strip * pitch + left[row]
    until = np.searchsorted(start, strip * pitch + right[row], side="right")
    entry, nth = _expand(until - np.arange(1, len(row) + 1))
    other = entry + 1 + nth

    top, bottom, begins = low[row, 1], high[row, 1], first_strip[row]
    meet = (top[entry] <= bottom[other]) & (top[other] <= bottom[entry])
    meet &= strip[entry] == np.maximum(begins[entry], begins[other])  # a pair is told once: where it begins
    one, other = row[entry[meet]], row[other[meet]]
    first, second = np.minimum(one, other), np.maximum(one, other)
    order = np.argsort(first * len(low) + second, kind="stable")
    return np.stack([first[order], second[order]], axis=1)


def _expand(lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For runs of the given lengths: the run each element belongs to, and its place in it. [2, 0, 1] -> 0 0 2, 0 1 0."""
    run = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    begin = np.cumsum(lengths) - lengths
    return run, np.arange(len(run), dtype=np.int64) - begin[run]


def canonical_order(xyxy: ArrayLike, score: ArrayLike, *more: ArrayLike) -> NDArray[np.int64]:
    """(N,) rows by descending score, ties by x1 y1 x2 y2 and then by the columns in `more`, all ascending.

    The order depends on the values only, never on where a row stood.
    """
    box, points = _floats(xyxy), _floats(score)
    order = np.argsort(-points, kind="stable")
    equal = points[order][1:] == points[order][:-1]
    if equal.any():  # scores are rarely equal: only the ties pay for the long sort
        place = np.flatnonzero(np.append(equal, False) | np.append(False, equal))
        tied = order[place]
        keys = [np.asarray(column)[tied] for column in reversed(more)]
        keys += [*(box[tied, i] for i in (3, 2, 1, 0)), -points[tied]]
        order[place] = tied[np.lexsort(keys)]
    return np.asarray(order, np.int64)


def greedy_owners(count: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """(count,) the row that keeps each row; rows 0.. stand in order of priority, `pairs` i < j are sorted conflicts.

    The first row is kept and takes those it conflicts with, then the next one not taken, and so on: classical greedy
    suppression, in time linear in the conflicts only.
    """
    owner = list(range(count))
    for keeper, row in zip(pairs[:, 0].tolist(), pairs[:, 1].tolist()):
        if owner[keeper] == keeper and owner[row] == row:
            owner[row] = keeper
    return np.array(owner, np.int64)


def nms(
    xyxy: ArrayLike, score: ArrayLike, label: ArrayLike | None = None, threshold: float = 0.5, *, metric: Metric = "iou"
) -> NDArray[np.int64]:
    """Kept rows by descending score (ties by coordinates): those not overlapping a better kept one by more than `threshold`.

    `label` (N,) restricts suppression to rows of the same label; None suppresses across all.
    """
    box = _floats(xyxy).reshape(-1, 4)
    order = canonical_order(box, score, *(() if label is None else (label,)))
    box = box[order]
    pairs = candidate_pairs(box, metric, threshold=threshold)
    if not len(pairs):
        return order
    if label is not None:
        ordered = np.asarray(label)[order]
        pairs = pairs[ordered[pairs[:, 0]] == ordered[pairs[:, 1]]]
    pairs = pairs[paired(box[pairs[:, 0]], box[pairs[:, 1]], metric) > threshold]
    kept = greedy_owners(len(box), pairs) == np.arange(len(box))
    return np.asarray(order[kept], np.int64)
