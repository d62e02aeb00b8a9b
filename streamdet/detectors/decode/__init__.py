"""The table of output layouts we read: one file per family, tried in this order. To add one, write a file and a row."""

from __future__ import annotations

from streamdet.detectors.decode.boxes_scores import DENSE, DETECTIONS, PADDLE, PADDLE_RTDETR, SELECTED
from streamdet.detectors.decode.centers import CENTERS
from streamdet.detectors.decode.detr import DETR, DETR_SIGMOID, RFDETR
from streamdet.detectors.decode.fastestdet import FASTESTDET
from streamdet.detectors.decode.gfl import NANODET, PICODET
from streamdet.detectors.decode.heatmaps import BALL_GRID, HEATMAPS
from streamdet.detectors.decode.layout import Candidates, Family, Layout, Raw, Seen
from streamdet.detectors.decode.yolo import YOLO_END2END, YOLOV5, YOLOV7_END2END, YOLOV8
from streamdet.detectors.decode.yolox import YOLOX

__all__ = ["FAMILIES", "Candidates", "Family", "Layout", "Raw", "Seen", "family_named"]

FAMILIES: tuple[Family, ...] = (
    CENTERS,
    DETR_SIGMOID,
    DETR,
    RFDETR,
    SELECTED,
    DETECTIONS,
    DENSE,
    PADDLE_RTDETR,
    PADDLE,
    PICODET,
    NANODET,
    YOLOV5,
    YOLOX,
    YOLOV8,
    YOLO_END2END,
    YOLOV7_END2END,
    BALL_GRID,
    HEATMAPS,
    FASTESTDET,
)


def family_named(name: str) -> Family | None:
    """The family called `name` or known under it."""
    wanted = name.lower().replace("-", "_")
    for family in FAMILIES:
        if wanted == family.name or wanted.replace("_", "") in family.aliases:
            return family
    return None
