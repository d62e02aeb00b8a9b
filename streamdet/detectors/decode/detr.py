"""Raw DETR heads: class logits (N,Q,C) beside boxes (N,Q,4) = cx, cy, w, h relative to the input.

====================  ==================  ===================================  ==========================================
family                outputs             scores                               pictures
====================  ==================  ===================================  ==========================================
``detr``              logits, pred_boxes  softmax, last column "no object";    ImageNet's mean and std
                                          or 91 columns and a sigmoid
``detr_sigmoid``      logits, pred_boxes  sigmoid                              0..1
``rfdetr``            labels, dets        sigmoid                              ImageNet's mean and std
====================  ==================  ===================================  ==========================================

``detr``: Transformers' DETR, Table Transformer, YOLOS; Deformable and Conditional DETR trained on COCO (the 91 columns).
``detr_sigmoid``: RT-DETR, RT-DETRv2, D-FINE as Transformers exports them, whose image processor only rescales. One that was
trained otherwise says so in its manifest (mean, std). Source of the processors' habits: their ``preprocessor_config.json``.
"""

from __future__ import annotations

from streamdet.detectors.decode.layout import Candidates, Family, Layout, Raw, Seen, activate, role, split, to_xyxy

_COCO_WITH_NOTHING, _COCO_IDS = 92, 91


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
    imagenet = nothing or columns == _COCO_IDS
    return Layout(
        "rfdetr" if not transformers else "detr" if imagenet else "detr_sigmoid",
        {"boxes": (boxes[0],), "scores": (logits[0],)},
        columns - 1 if nothing else columns,
        activation="softmax" if nothing else "sigmoid",
        box_format="cxcywh",
        box_unit="relative",
    )


def _recognise_as(families: tuple[str, ...], seen: Seen) -> Layout | None:
    layout = recognise(seen)
    return layout if layout is not None and layout.family in families else None


def decode(raw: Raw, layout: Layout, wh: tuple[int, int], floor: float) -> Candidates:
    scores = activate(role(raw, layout, "scores"), layout.activation)[..., : layout.classes]
    tile, query, score, label = split(scores, floor)
    boxes = role(raw, layout, "boxes")[tile, query]
    return Candidates.of(to_xyxy(boxes, layout.box_format, layout.box_unit, wh), score, label, tile)


DETR_SIGMOID = Family(
    "detr_sigmoid",
    "Transformers' RT-DETR and D-FINE: logits and pred_boxes, no class for nothing",
    lambda seen: _recognise_as(("detr_sigmoid",), seen),
    decode,
    nms=False,
    stretch=True,
)
DETR = Family(
    "detr",
    "Transformers' DETR line: logits and pred_boxes",
    lambda seen: _recognise_as(("detr", "detr_sigmoid"), seen),  # who names it in a manifest means its pictures
    decode,
    nms=False,
    stretch=True,
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
    aliases=("yolos", "deformabledetr", "conditionaldetr"),
)
RFDETR = Family(
    "rfdetr",
    "RF-DETR: dets and labels",
    lambda seen: _recognise_as(("rfdetr",), seen),
    decode,
    nms=False,
    stretch=True,
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
)
