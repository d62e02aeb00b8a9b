"""Networks that give boxes beside scores.

===============  ====================================================================  =================================
family           outputs                                                               made by
===============  ====================================================================  =================================
``detections``   boxes (N,M,4) or (M,4), scores, class ids and perhaps a count         SSD, torchvision, TensorFlow,
                                                                                       EfficientNMS, RT-DETR, D-FINE, DEIM
``dense``        boxes (N,A,4), scores (N,A,C) or (N,C,A), not suppressed              YOLO-NAS, PicoDet without NMS
``selected``     the same and the (M,3) rows an ONNX NonMaxSuppression picked          NMS in the graph
``paddle``       (M,6) class, score, x1, y1, x2, y2 and a count per picture            PaddleDetection
``paddle_rtdetr``  the same, 300 rows a picture, and an input im_shape: pictures 0..1  PaddleDetection's RT-DETR
===============  ====================================================================  =================================
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.detectors.decode.layout import (
    BoxFormat,
    Candidates,
    Family,
    Layout,
    Raw,
    Seen,
    activate,
    find,
    guess_activation,
    ids,
    role,
    to_xyxy,
)

_BOXES = r"box|bbox"
_SCORES = r"score|conf|prob"
_LABELS = r"label|class|cls"
_QUERIES = 300  # of RT-DETR


def _boxes(seen: Seen) -> str | None:
    named = [n for n, a in seen.sample.items() if a.dtype.kind == "f" and a.ndim in (2, 3) and a.shape[-1] == 4]
    return named[0] if len(named) == 1 else find({n: seen.sample[n] for n in named}, _BOXES)


# ------------------------------------------------------------------------------------------------------- detections


def _recognise_detections(seen: Seen) -> Layout | None:
    boxes = _boxes(seen)
    if boxes is None:
        return None
    rows = seen.sample[boxes].shape[:-1]
    beside = {n: a for n, a in seen.sample.items() if n != boxes and a.shape == rows}
    integers = [n for n, a in beside.items() if a.dtype.kind in "iu"]
    labels = integers[0] if len(integers) == 1 else find(beside, _LABELS, kind="fiu")
    scores = find({n: a for n, a in beside.items() if n != labels}, "")
    if labels is None or scores is None:
        return None
    roles = {"boxes": (boxes,), "scores": (scores,), "labels": (labels,)}
    count = find({n: a for n, a in seen.sample.items() if n not in (boxes, labels, scores)}, "num|count", kind="fiu")
    if count is not None:
        roles["count"] = (count,)
    tensorflow = boxes.startswith("detection_boxes")
    return Layout(
        "detections",
        roles,
        box_format="yxyx" if tensorflow else "xyxy",
        box_unit="relative" if tensorflow else None,
    )


def _decode_detections(raw: Raw, layout: Layout, wh: tuple[int, int], floor: float) -> Candidates:
    scores, boxes, labels = (role(raw, layout, name) for name in ("scores", "boxes", "labels"))
    if scores.ndim == 1:
        scores, boxes, labels = scores[None], boxes[None], labels[None]
    keep = ~(scores < floor)
    if "count" in layout.roles:
        count = ids(role(raw, layout, "count").reshape(-1))
        keep &= np.arange(scores.shape[1]) < count[:, None]
    tile, row = np.nonzero(keep)
    found = to_xyxy(boxes[tile, row], layout.box_format, layout.box_unit, wh)
    return Candidates.of(found, scores[tile, row], ids(labels[tile, row]) - layout.first_label, tile)


# ------------------------------------------------------------------------------------------------ dense and selected


def _dense(seen: Seen) -> tuple[dict[str, tuple[str, ...]], int, NDArray[Any], bool] | None:
    boxes = _boxes(seen)
    if boxes is None or seen.sample[boxes].ndim != 3:
        return None
    anchors = seen.sample[boxes].shape[1]
    beside = [n for n, a in seen.sample.items() if n != boxes and a.ndim == 3 and a.dtype.kind == "f"]
    if len(beside) != 1 or anchors not in seen.sample[beside[0]].shape[1:]:
        return None
    scores = seen.sample[beside[0]]
    transposed = scores.shape[1] != anchors or (seen.labels == scores.shape[1] and seen.labels != scores.shape[2])
    classes = scores.shape[1 if transposed else 2]
    return {"boxes": (boxes,), "scores": (beside[0],)}, classes, scores, transposed


def _recognise_dense(seen: Seen) -> Layout | None:
    found = _dense(seen)
    if found is None or len(seen.sample) != 2:
        return None
    roles, classes, scores, transposed = found
    return Layout("dense", roles, classes, activation=guess_activation(scores), transposed=transposed, box_unit=None)


def _decode_dense(raw: Raw, layout: Layout, wh: tuple[int, int], floor: float) -> Candidates:
    scores, boxes = activate(role(raw, layout, "scores"), layout.activation), role(raw, layout, "boxes")
    axis = 1 if layout.transposed else 2
    best = scores.max(axis=axis)
    tile, anchor = np.nonzero(~(best < floor))
    picked = scores[tile, :, anchor] if layout.transposed else scores[tile, anchor]
    found = to_xyxy(boxes[tile, anchor], layout.box_format, layout.box_unit, wh)
    return Candidates.of(found, best[tile, anchor], picked.argmax(axis=1), tile)


def _recognise_selected(seen: Seen) -> Layout | None:
    found = _dense(seen)
    picks = [n for n, a in seen.sample.items() if a.dtype.kind in "iu" and a.ndim in (2, 3) and a.shape[-1] == 3]
    if found is None or len(picks) != 1 or len(seen.sample) != 3:
        return None
    roles, classes, scores, transposed = found
    roles["selected"] = (picks[0],)
    box_format: BoxFormat = "yxyx" if picks[0].startswith("yolonms") else "xyxy"  # the ONNX model zoo's YOLOv3
    return Layout(
        "selected",
        roles,
        classes,
        activation=guess_activation(scores),
        transposed=transposed,
        box_unit=None,
        box_format=box_format,
    )


def _decode_selected(raw: Raw, layout: Layout, wh: tuple[int, int], floor: float) -> Candidates:
    picks = role(raw, layout, "selected").reshape(-1, 3)
    picks = picks[picks[:, 2] >= 0]  # padding
    scores, boxes = role(raw, layout, "scores"), role(raw, layout, "boxes")
    tile, label, anchor = picks[:, 0], picks[:, 1], picks[:, 2]
    picked = scores[tile, label, anchor] if layout.transposed else scores[tile, anchor, label]
    score = activate(picked, layout.activation)
    keep = ~(score < floor)
    tile, label, anchor = tile[keep], label[keep], anchor[keep]
    found = to_xyxy(boxes[tile, anchor], layout.box_format, layout.box_unit, wh)
    return Candidates.of(found, score[keep], label, tile)


# ------------------------------------------------------------------------------------------------------------ paddle


def _recognise_paddle(seen: Seen) -> Layout | None:
    rows = [n for n, a in seen.sample.items() if a.dtype.kind == "f" and a.ndim == 2 and a.shape[1] == 6]
    counts = [n for n, a in seen.sample.items() if a.dtype.kind in "iu" and a.ndim == 1]
    if len(rows) != 1 or len(seen.sample) > 2 or len(seen.sample) != 1 + len(counts):
        return None
    roles = {"output": (rows[0],)}
    if counts:
        roles["count"] = (counts[0],)
    return Layout("paddle", roles)


def _recognise_paddle_rtdetr(seen: Seen) -> Layout | None:
    """It suppresses nothing: every query comes out, even of noise; two-stage networks with im_shape give but a few rows."""
    layout = _recognise_paddle(seen)
    if layout is None or not any("im_shape" in name for name in seen.extra):
        return None
    counts = seen.sample[layout.roles["count"][0]] if "count" in layout.roles else np.array([0])
    return replace(layout, family="paddle_rtdetr") if (counts == _QUERIES).all() else None


def _decode_paddle(raw: Raw, layout: Layout, wh: tuple[int, int], floor: float) -> Candidates:
    rows = role(raw, layout, "output")
    tile = np.zeros(len(rows), np.int32)
    if "count" in layout.roles:
        count = role(raw, layout, "count")
        tile = np.repeat(np.arange(len(count), dtype=np.int32), count)[: len(rows)]
        rows = rows[: len(tile)]
    keep = ~(rows[:, 1] < floor) & ~(rows[:, 0] < 0)  # class -1: nothing was found
    rows, tile = rows[keep], tile[keep]
    found = to_xyxy(rows[:, 2:], layout.box_format, layout.box_unit, wh)
    return Candidates.of(found, rows[:, 1], ids(rows[:, 0]), tile)


DETECTIONS = Family(
    "detections",
    "boxes, scores and class ids: SSD, EfficientNMS, RT-DETR, D-FINE, DEIM",
    _recognise_detections,
    _decode_detections,
    nms=False,
    stretch=True,
    aliases=("ssd", "rtdetr", "dfine", "deim", "efficientnms"),
)
DENSE = Family("dense", "boxes (N,A,4) and scores (N,A,C)", _recognise_dense, _decode_dense, aliases=("yolonas",))
SELECTED = Family(
    "selected", "boxes, scores and NonMaxSuppression rows (M,3)", _recognise_selected, _decode_selected, nms=False
)
PADDLE_RTDETR = Family(
    "paddle_rtdetr",
    "PaddleDetection's RT-DETR: (M,6) and counts, all 300 queries",
    _recognise_paddle_rtdetr,
    _decode_paddle,
    nms=False,
    stretch=True,
)
PADDLE = Family(
    "paddle",
    "PaddleDetection: (M,6) and counts",
    _recognise_paddle,
    _decode_paddle,
    nms=False,
    stretch=True,
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
)
