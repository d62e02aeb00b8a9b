"""How large and how fast the objects of a user's material are: from labels, or from what moves in the clip."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.config import Config, with_values
from streamdet.scoring.coco import is_coco
from streamdet.scoring.labels import Labels, read_labels
from streamdet.scoring.score import speeds as speeds_of
from streamdet.tuning.dataset import read_dataset

__all__ = ["ObjectSizes", "sizes_from_labels", "sizes_from_motion"]

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ObjectSizes:
    """``wh`` (N,2) px; ``centres`` (N,2) px where known; ``speed`` px per frame where known; ``origin`` in words."""

    wh: F64
    centres: F64
    speed: F64
    origin: str

    @property
    def size(self) -> F64:
        """(N,) px, square root of the area."""
        return np.asarray(np.sqrt(self.wh.prod(axis=1)))

    def at(self, percent: float) -> float:
        """The size below which `percent` of the sightings are."""
        return float(np.percentile(self.size, percent))

    def to_dict(self) -> dict[str, Any]:
        percents = (5, 25, 50, 75, 95)
        record: dict[str, Any] = {"origin": self.origin, "sightings": len(self.wh)}
        record["size_px"] = {str(p): round(self.at(p), 2) for p in percents}
        if len(self.speed):
            record["speed_px_per_frame"] = {str(p): round(float(np.percentile(self.speed, p)), 2) for p in percents}
        return record

    def describe(self) -> str:
        text = (
            f"{len(self.wh)} sightings of {self.at(5):.1f} / {self.at(50):.1f} / {self.at(95):.1f} px (5 / 50 / 95 %)"
        )
        if len(self.speed):
            text += f", half of them up to {np.median(self.speed):.1f} px per frame"
        return f"{text}, {self.origin}"


def sizes_from_labels(path: str | os.PathLike[str]) -> ObjectSizes | None:
    """Of every labelled object; None where labels are points, which have no size. Raises ConfigError."""
    if is_coco(path) or os.path.isdir(path) or os.fspath(path).endswith((".yaml", ".yml")):
        wh = read_dataset(path).sizes()
        wh = wh[(wh > 0).all(axis=1)]
        return ObjectSizes(wh, np.zeros((0, 2)), np.zeros(0), "from the labels") if len(wh) else None
    labels: Labels = read_labels(path)
    rows = labels.visible & (labels.wh > 0).all(axis=1)
    if not rows.any():
        return None
    speed = speeds_of(labels)[rows]
    origin = "from the labels, which are loose" if labels.format == "loose boxes" else "from the labels"
    return ObjectSizes(labels.wh[rows], labels.centre[rows], speed[np.isfinite(speed)], origin)


def sizes_from_motion(config: Config, *, frames: int) -> ObjectSizes | None:
    """Of what moves and was confirmed as a track in the first `frames` frames; None if nothing does."""
    from streamdet.api import Run

    network: dict[str, Any] = {"model.name": "motion", "model.classes": [], "model.rename": {}, "model.conf": None}
    run = Run(with_values(config, {**network, "source.max_frames": frames}))
    wh, centres, speed = [], [], []
    for result in run:
        tracks = result.tracks.shown
        seen = tracks[tracks.detection_row >= 0]
        fps = (
            run.assembled.pipeline.running[0].source.info.fps
            if run.assembled and run.assembled.pipeline.running
            else None
        )
        wh.append(seen.xyxy[:, 2:] - seen.xyxy[:, :2])
        centres.append((seen.xyxy[:, :2] + seen.xyxy[:, 2:]) / 2)
        if fps:
            speed.append(np.hypot(*seen.velocity_xy.T) / fps)
    sizes = np.concatenate([*wh, np.zeros((0, 2))]).astype(np.float64)
    if not len(sizes):
        return None
    places = np.concatenate(centres).astype(np.float64)
    return ObjectSizes(sizes, places, np.concatenate([*speed, np.zeros(0)]).astype(np.float64), "from what moves")
