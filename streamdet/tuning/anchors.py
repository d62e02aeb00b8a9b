"""Anchors for an anchor-based detector, fitted to labels: k-means, then a genetic search, as YOLOv5's autoanchor does it.

A box is matched by an anchor if neither side differs by more than a factor of 4. *Best possible recall* is the share of boxes
matched by some anchor; *fitness* the mean of the best match's ratio over all boxes, unmatched ones counting 0. Boxes are
measured in pictures whose longer side is scaled to the training size, and those below 2 px are left out.
Source: ultralytics/yolov5, ``utils/autoanchor.py`` (semantics; the code is ours).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.errors import ConfigError, UsageError
from streamdet.scoring.coco import is_coco
from streamdet.scoring.labels import read_labels
from streamdet.tuning.dataset import picture_wh, read_dataset

__all__ = ["USUAL", "AnchorScore", "FittedAnchors", "fit_anchors", "kmeans_anchors", "score_anchors"]

F64 = NDArray[np.float64]

USUAL = np.array(  # YOLOv5's and YOLOv7's for COCO at 640 px, strides 8, 16, 32
    [[10, 13], [16, 30], [33, 23], [30, 61], [62, 45], [59, 119], [116, 90], [156, 198], [373, 326]], np.float64
)
RATIO = 4.0
LEAST_PX = 2.0
_MUTATED, _SIGMA = 0.9, 0.1
_SAMPLE = 20_000  # boxes the genetic search looks at


@dataclass(frozen=True, slots=True)
class AnchorScore:
    """``best_possible_recall`` and ``fitness`` 0..1; ``anchors_per_box``: how many match a box on average."""

    best_possible_recall: float
    fitness: float
    anchors_per_box: float

    def to_dict(self) -> dict[str, float]:
        return {name: round(getattr(self, name), 4) for name in self.__slots__}


@dataclass(frozen=True, slots=True, eq=False)
class FittedAnchors:
    """``anchors`` (N,2) width and height in px of the training size, smallest first; scores before and after."""

    anchors: F64
    before: AnchorScore
    clustered: AnchorScore
    after: AnchorScore
    boxes: int
    left_out: int
    image_size: int

    def to_dict(self) -> dict[str, Any]:
        levels = [
            group.ravel().round(1).tolist() for group in np.array_split(self.anchors, max(1, len(self.anchors) // 3))
        ]
        return {
            "anchors": levels,
            "image_size": self.image_size,
            "boxes": self.boxes,
            "boxes_left_out": self.left_out,
            "before": self.before.to_dict(),
            "kmeans": self.clustered.to_dict(),
            "after": self.after.to_dict(),
        }

    def describe(self) -> str:
        return (
            f"{len(self.anchors)} anchors for {self.boxes} boxes at {self.image_size} px: best possible recall "
            f"{self.before.best_possible_recall:.4f} (COCO's anchors) -> {self.after.best_possible_recall:.4f}, fitness "
            f"{self.before.fitness:.4f} -> {self.clustered.fitness:.4f} (k-means) -> {self.after.fitness:.4f} (genetic)"
        )


def score_anchors(wh: F64, anchors: F64) -> AnchorScore:
    """How `anchors` (N,2) fit boxes `wh` (M,2)."""
    ratio = wh[:, None] / anchors[None]
    match = np.minimum(ratio, 1 / ratio).min(axis=2)  # (M, N) the worse side of each pair
    best = match.max(axis=1)
    matched = best > 1 / RATIO
    return AnchorScore(
        float(matched.mean()), float((best * matched).mean()), float((match > 1 / RATIO).sum(axis=1).mean())
    )


def kmeans_anchors(wh: F64, count: int, *, seed: int = 0) -> F64:
    """(count,2) cluster centres of `wh`, both sides scaled by their spread; smallest area first. Raises UsageError."""
    from scipy.cluster.vq import kmeans

    spread = wh.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    centres = np.asarray(kmeans(wh / spread, count, iter=30, rng=np.random.default_rng(seed))[0]) * spread
    if len(centres) < count:
        raise UsageError(f"--anchors {count}: the labels have only {len(centres)} kinds of boxes; ask for fewer")
    return _by_area(centres)


def evolve_anchors(wh: F64, anchors: F64, *, generations: int, seed: int = 0) -> F64:
    """`anchors` after so many random changes, each kept if it is fitter."""
    rng = np.random.default_rng(seed)
    fitness = score_anchors(wh, anchors).fitness
    for _ in range(generations):
        change = np.ones_like(anchors)
        while (change == 1).all():
            change = (rng.random(anchors.shape) < _MUTATED) * rng.random() * rng.normal(size=anchors.shape) * _SIGMA + 1
        trial = (anchors * change.clip(0.3, 3.0)).clip(min=LEAST_PX)
        better = score_anchors(wh, trial).fitness
        if better > fitness:
            anchors, fitness = trial, better
    return _by_area(anchors)


def fit_anchors(
    labels: str | os.PathLike[str], *, count: int = 9, image_size: int = 640, generations: int = 1000, seed: int = 0
) -> FittedAnchors:
    """Fit `count` anchors to a COCO or YOLO data set, or to the boxes of a clip's labels (taken as they are).

    Raises ConfigError for labels without boxes, UsageError if there are fewer kinds of boxes than anchors.
    """
    wh = _boxes(labels, image_size)
    usable = wh[(wh >= LEAST_PX).any(axis=1)]
    usable = usable[(usable > 0).all(axis=1)]
    if len(usable) < count:
        raise ConfigError(
            f"labels {labels} hold {len(usable)} boxes of {LEAST_PX:g} px and more; {count} anchors need at least {count}"
        )
    clustered = kmeans_anchors(usable, count, seed=seed)
    usual = USUAL * (image_size / 640)
    starts = [clustered] if count != len(usual) else [clustered, usual]  # k-means may be worse than what COCO has
    sample = usable[np.random.default_rng(seed).permutation(len(usable))[:_SAMPLE]]
    start = max(starts, key=lambda anchors: score_anchors(sample, anchors).fitness)
    evolved = evolve_anchors(sample, start, generations=generations, seed=seed)
    return FittedAnchors(
        anchors=evolved,
        before=score_anchors(usable, usual),
        clustered=score_anchors(usable, clustered),
        after=score_anchors(usable, evolved),
        boxes=len(usable),
        left_out=len(wh) - len(usable),
        image_size=image_size,
    )


def _boxes(labels: str | os.PathLike[str], image_size: int) -> F64:
    """(M,2) in pictures whose longer side is `image_size` px."""
    if not (os.path.isdir(labels) or is_coco(labels) or os.fspath(labels).endswith((".yaml", ".yml"))):
        clip = read_labels(labels)
        rows = clip.visible & (clip.wh > 0).all(axis=1)
        if not rows.any():
            raise ConfigError(f"labels {labels} are points; anchors need boxes")
        return clip.wh[rows]
    parts: list[F64] = []
    for picture in read_dataset(labels).pictures:
        if not len(picture.label):
            continue
        wh = picture.wh or picture_wh(picture.path)
        box = picture.in_px(wh)[~picture.crowd]
        parts.append((box[:, 2:] - box[:, :2]) * (image_size / max(wh)))
    return np.concatenate([*parts, np.zeros((0, 2))])


def _by_area(anchors: F64) -> F64:
    return np.asarray(anchors[np.argsort(anchors.prod(axis=1), kind="stable")])
