"""The YOLO lines of Ultralytics and their kin.

======================  ======================  =================================================
family                  output                  columns
======================  ======================  =================================================
``yolov5`` (v5, v7)     (N, 3 x cells, 5+C)     cx, cy, w, h in px, objectness, classes
``yolov8`` (v8-v12)     (N, 4+C, cells)         cx, cy, w, h in px, classes; key point columns may follow
``yolo_end2end`` (v10,  (N, 300, 6..)           x1, y1, x2, y2 in px, score, class; nothing to suppress
26), NMS in the graph
``yolov7_end2end``      (M, 7)                  image, x1, y1, x2, y2 in px, class, score
======================  ======================  =================================================

Segmentation exports have a second output of prototype maps, and as many more columns: they give masks.
Oriented boxes (task "obb") are read as the upright boxes round them.
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
    cells,
    from_centre,
    guess_activation,
    ids,
    role,
    strides_of,
    to_xyxy,
)
from streamdet.detectors.decode.prototypes import mixtures, prototype_role
from streamdet.detectors.decode.yolox import objectness_rows
from streamdet.types import F32

_END_TO_END_ROWS = 1000
_ANCHORS = 3


def _name(seen: Seen) -> dict[str, tuple[str, ...]]:
    """The detections are the first output; segmentation exports add prototype maps."""
    return {"output": (next(iter(seen.sample)),), **prototype_role(seen)[0]}


def _first(seen: Seen, ndim: int) -> tuple[int, ...] | None:
    arrays = list(seen.sample.values())
    if not arrays or arrays[0].ndim != ndim or arrays[0].dtype.kind != "f" or len(arrays) > 2:
        return None
    if len(arrays) == 2 and arrays[1].ndim != 4:
        return None
    return arrays[0].shape


def _may_have_more(columns: int, seen: Seen) -> bool:
    """Whether `columns` beyond the classes are masks, key points or an angle rather than a wrong number of labels."""
    return columns > 0 and (len(seen.sample) == 2 or seen.task in ("segment", "pose", "obb"))


def _recognise_v5(seen: Seen) -> Layout | None:
    shape = _first(seen, 3)
    if shape is None or shape[2] < 6 or shape[1] % _ANCHORS:
        return None
    strides = strides_of(shape[1] // _ANCHORS, seen)
    classes = shape[2] - 5 - prototype_role(seen)[1] if seen.labels is None else seen.labels
    if not strides or classes < 0 or not (shape[2] == 5 + classes or _may_have_more(shape[2] - 5 - classes, seen)):
        return None
    array = seen.sample[next(iter(seen.sample))]
    activation = guess_activation(array[..., 4 : 5 + classes])
    return Layout("yolov5", _name(seen), classes, strides, activation, box_format="cxcywh")


def _decode_v5(raw: Raw, layout: Layout, wh: tuple[int, int], floor: float) -> Candidates:
    tile, _, score, label, rows = objectness_rows(role(raw, layout, "output"), layout, floor)
    mixed = mixtures(raw, layout, tile, rows[:, 5 + layout.classes :])
    return Candidates.of(to_xyxy(rows[:, :4], layout.box_format, layout.box_unit, wh), score, label, tile, mixed)


def _recognise_v8(seen: Seen) -> Layout | None:
    shape = _first(seen, 3)
    if shape is None:
        return None
    for columns, rows, upright in ((shape[1], shape[2], True), (shape[2], shape[1], False)):
        strides = strides_of(rows, seen)
        classes = columns - 4 - prototype_role(seen)[1] if seen.labels is None else seen.labels
        if (
            strides
            and classes > 0
            and (columns == 4 + classes or (upright and _may_have_more(columns - 4 - classes, seen)))
        ):
            array = seen.sample[next(iter(seen.sample))]
            scores = array[:, 4 : 4 + classes] if upright else array[..., 4 : 4 + classes]
            activation = guess_activation(scores)
            return Layout(
                "yolov8",
                _name(seen),
                classes,
                strides,
                activation,
                transposed=not upright,
                oriented=seen.task == "obb",
                box_format="cxcywh",
            )
    return None


def _decode_v8(raw: Raw, layout: Layout, wh: tuple[int, int], floor: float) -> Candidates:
    array = role(raw, layout, "output")
    if layout.transposed:
        array = array.transpose(0, 2, 1)
    scores = activate(array[:, 4 : 4 + layout.classes], layout.activation)
    best = scores.max(axis=1)
    tile, anchor = np.nonzero(~(best < floor))
    label = scores[tile, :, anchor].argmax(axis=1)
    boxes = array[tile, :4, anchor]
    if layout.oriented:
        boxes = _upright(boxes, array[tile, -1, anchor])
    else:
        boxes = to_xyxy(boxes, layout.box_format, layout.box_unit, wh)
    mixed = mixtures(raw, layout, tile, array[tile, 4 + layout.classes :, anchor])
    return Candidates.of(boxes, best[tile, anchor], label, tile, mixed)


def _upright(boxes: NDArray[Any], angle: NDArray[Any]) -> F32:
    cos, sin = np.abs(np.cos(angle)), np.abs(np.sin(angle))
    width, height = boxes[:, 2], boxes[:, 3]
    size = np.stack([width * cos + height * sin, width * sin + height * cos], axis=1)
    return from_centre(boxes[:, :2], size)


def _recognise_end2end(seen: Seen) -> Layout | None:
    shape = _first(seen, 3)
    if shape is None or shape[2] < 6 or shape[1] > _END_TO_END_ROWS:
        return None
    if any(cells(seen.wh, strides) in shape[1:] for strides in (seen.strides, (8, 16, 32)) if strides):
        return None
    return Layout("yolo_end2end", _name(seen))


def _decode_end2end(raw: Raw, layout: Layout, wh: tuple[int, int], floor: float) -> Candidates:
    array = role(raw, layout, "output")
    tile, row = np.nonzero(~(array[..., 4] < floor))
    rows = array[tile, row]
    mixed = mixtures(raw, layout, tile, rows[:, 6:])
    boxes = to_xyxy(rows[:, :4], layout.box_format, layout.box_unit, wh)
    return Candidates.of(boxes, rows[:, 4], ids(rows[:, 5]), tile, mixed)


def _recognise_v7_end2end(seen: Seen) -> Layout | None:
    shape = _first(seen, 2)
    return None if shape is None or shape[1] != 7 else Layout("yolov7_end2end", _name(seen))


def _decode_v7_end2end(raw: Raw, layout: Layout, wh: tuple[int, int], floor: float) -> Candidates:
    array = role(raw, layout, "output")
    rows = array[~(array[:, 6] < floor)]
    boxes = to_xyxy(rows[:, 1:5], layout.box_format, layout.box_unit, wh)
    return Candidates.of(boxes, rows[:, 6], ids(rows[:, 5]), ids(rows[:, 0]))


YOLOV5 = Family("yolov5", "YOLOv5/v7: (N, 3 x cells, 5+C)", _recognise_v5, _decode_v5, aliases=("yolov7", "yolov3"))
YOLOV8 = Family(
    "yolov8", "YOLOv8/9/11/12: (N, 4+C, cells)", _recognise_v8, _decode_v8, aliases=("yolov9", "yolo11", "yolov12")
)
YOLO_END2END = Family(
    "yolo_end2end",
    "YOLOv10/26 or NMS in the graph: (N, rows, 6)",
    _recognise_end2end,
    _decode_end2end,
    nms=False,
    aliases=("yolov10", "yolo26"),
)
YOLOV7_END2END = Family(
    "yolov7_end2end", "YOLOv7 --end2end: (M, 7)", _recognise_v7_end2end, _decode_v7_end2end, nms=False
)
