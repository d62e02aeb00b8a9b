"""Raw DETR heads: class logits (N,Q,C) beside boxes (N,Q,4) = cx, cy, w, h relative to the input.

Transformers exports call them ``logits`` and ``pred_boxes``, RF-DETR ``labels`` and ``dets``. Families trained with focal
loss (Deformable DETR, RT-DETR, D-FINE, RF-DETR) want a sigmoid; DETR itself a softmax whose last column is "no object".
"""

from __future__ import annotations

from streamdet.detectors.decode.layout import Candidates, Family, Layout, Raw, Seen, activate, role, split, to_xyxy

_COCO_WITH_NOTHING = 92


def recognise(seen: Seen) -> Layout | None:
    boxes = [
        n for n, a in seen.sample.items() if a.ndim == 3 and a.shape[2] == 4 and n in ("pred_boxes", "dets", "boxes")
    ]
    if not boxes:
        return None
    queries = seen.sample[boxes[0]].shape[1]
    logits = [
        n
        for n, a in seen.sample.items()
        if a.ndim == 3 and a.shape[1] == queries and n in ("logits", "pred_logits", "labels") and a.dtype.kind == "f"
    ]
    if len(logits) != 1:
        return None
    columns = seen.sample[logits[0]].shape[2]
    transformers = logits[0] != "labels"
    nothing = transformers and (columns - 1 == seen.labels or (seen.labels is None and columns == _COCO_WITH_NOTHING))
    return Layout(
        "detr" if transformers else "rfdetr",
        {"boxes": (boxes[0],), "scores": (logits[0],)},
        columns - 1 if nothing else columns,
        activation="softmax" if nothing else "sigmoid",
        box_format="cxcywh",
        box_unit="relative",
    )


def _recognise_as(family: str, seen: Seen) -> Layout | None:
    layout = recognise(seen)
    return layout if layout is not None and layout.family == family else None


def decode(raw: Raw, layout: Layout, wh: tuple[int, int], floor: float) -> Candidates:
    scores = activate(role(raw, layout, "scores"), layout.activation)[..., : layout.classes]
    tile, query, score, label = split(scores, floor)
    boxes = role(raw, layout, "boxes")[tile, query]
    return Candidates.of(to_xyxy(boxes, layout.box_format, layout.box_unit, wh), score, label, tile)


DETR = Family(
    "detr",
    "Transformers' DETR line: logits and pred_boxes",
    lambda seen: _recognise_as("detr", seen),
    decode,
    nms=False,
    stretch=True,
)
RFDETR = Family(
    "rfdetr",
    "RF-DETR: dets and labels",
    lambda seen: _recognise_as("rfdetr", seen),
    decode,
    nms=False,
    stretch=True,
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
)
