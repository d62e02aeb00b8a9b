"""YOLOX (Megvii): ``(N, cells, 5 + C)`` = cx, cy, w, h, objectness, classes; score = objectness x best class.

Exports come in two kinds: with boxes in input px (``--decode_in_inference``), or as offsets of their grid cell with the
logarithm of the size (the official ONNX files). Networks want BGR 0..255, letterboxed with 114.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.detectors.decode.layout import (
    Candidates,
    Family,
    Layout,
    Raw,
    Seen,
    activate,
    from_centre,
    grid_points,
    guess_activation,
    role,
    strides_of,
)


def objectness_rows(
    raw: NDArray[Any], layout: Layout, floor: float
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """(T, A, 5+C..) -> tile, anchor, score, label and the whole row of those not below `floor`."""
    # a class score never exceeds 1: objectness alone tells which rows to look at, and the rest is never touched
    objectness = activate(raw[..., 4], layout.activation)
    tile, anchor = np.nonzero(~(objectness < floor))
    rows = raw[tile, anchor]
    classes = activate(rows[:, 5 : 5 + layout.classes], layout.activation)
    if classes.shape[1] == 0:
        score, label = objectness[tile, anchor], np.zeros(len(rows), np.int32)
    else:
        score, label = objectness[tile, anchor] * classes.max(axis=1), classes.argmax(axis=1)
    keep = ~(score < floor)
    return tile[keep], anchor[keep], score[keep], label[keep], rows[keep]


def recognise(seen: Seen) -> Layout | None:
    array = seen.only
    if array is None or array.ndim != 3 or array.shape[2] < 6:
        return None
    strides = strides_of(array.shape[1], seen)
    columns = array.shape[2]
    if not strides or (seen.labels is not None and columns != 5 + seen.labels):
        return None
    if seen.labels is None and (columns in (84, 112) or len(strides) == 4):
        return None  # the COCO widths of transposed YOLOv8 and NanoDet-Plus
    name = next(iter(seen.sample))
    # a raw offset is at most a few cells, a decoded centre runs up to the width in px
    decoded = bool(np.fmax.reduce(array[..., 0], axis=None) > seen.wh[0] / 2)
    return Layout(
        "yolox",
        {"output": (name,)},
        classes=columns - 5,
        strides=strides,
        decoded=decoded,
        activation=guess_activation(array[..., 4:]),
        box_format="cxcywh",
    )


def decode(raw: Raw, layout: Layout, wh: tuple[int, int], floor: float) -> Candidates:
    tile, anchor, score, label, rows = objectness_rows(role(raw, layout, "output"), layout, floor)
    centre, size = rows[:, :2], rows[:, 2:4]
    if not layout.decoded:
        cell, stride = grid_points(wh, layout.strides, anchor)
        with np.errstate(over="ignore", invalid="ignore"):
            centre = (centre + cell) * stride[:, None]
            size = np.exp(size) * stride[:, None]
    with np.errstate(invalid="ignore"):
        return Candidates.of(from_centre(centre, size), score, label, tile)


YOLOX = Family(
    "yolox",
    "YOLOX, offsets of grid cells or px: (N, cells, 5+C)",
    recognise,
    decode,
    channels=("b", "g", "r"),
    std=(1.0,),
)
