"""One run against one label file: every score the labels allow, and why the others are missing.

- *points* always (:mod:`streamdet.scoring.score`);
- *COCO average precision* where labels are tight boxes: COCO JSON, or a CSV or gt.txt with boxes;
- *HOTA, MOTA, IDF1* where labels have identities (gt.txt, a scene's truth) and the run has tracks.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamdet.errors import ConfigError, DependencyError
from streamdet.scoring.average_precision import AveragePrecision, average_precision
from streamdet.scoring.coco import (
    BoxResult,
    CocoTruth,
    as_points,
    found_on_pictures,
    is_coco,
    on_pictures,
    only_pictures,
    read_coco_results,
    read_coco_truth,
    video_truth,
)
from streamdet.scoring.labels import MOST_FRAMES, Found, Labels, read_frames_jsonl, read_labels, read_mot_results
from streamdet.scoring.score import PointScore, point_score
from streamdet.scoring.tracking import TrackingCounts, count_tracking, sequence_of

__all__ = ["Evaluation", "evaluate", "read_results"]


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Scores of one clip or set of pictures, and the columns they were taken from (pictures: one frame each)."""

    found: Found
    labels: Labels
    points: PointScore
    boxes: AveragePrecision | None
    tracking: TrackingCounts | None
    not_scored: dict[str, str]
    boxes_of: tuple[CocoTruth, list[BoxResult]] | None = None
    by_class: bool = True

    def to_dict(self) -> dict[str, Any]:
        """The point score's keys, then ``coco`` and ``tracking`` (None: see ``not_scored``)."""
        return {
            **self.points.to_dict(),
            "coco": None if self.boxes is None else self.boxes.to_dict(),
            "tracking": None if self.tracking is None else self.tracking.to_dict(),
            "not_scored": self.not_scored,
        }


def evaluate(
    results: str | os.PathLike[str],
    labels: str | os.PathLike[str],
    *,
    within_px: float = 5.0,
    within_box: bool = False,
    span: tuple[int, int | None] = (0, None),
    limit: int = 100,
    others: Collection[str] | None = None,
    one_class: bool = False,
) -> Evaluation:
    """Score a results file (frames.jsonl, MOT text, COCO results) against a label file.

    `span`: frames of a video; of pictures, with an end given, those the run processed as these (the others are not missed).

    `one_class`: the boxes of a video are scored without telling classes apart, as they are where no names agree.

    Raises ConfigError for files that cannot be read or do not belong together; DependencyError without faster-coco-eval,
    if the labels are COCO's.
    """
    if is_coco(labels):
        return _pictures(results, labels, within_px=within_px, within_box=within_box, span=span, limit=limit)
    found = read_results(results)
    truth = read_labels(labels).between(*span)
    not_scored: dict[str, str] = {}
    boxes: AveragePrecision | None = None
    pair: tuple[CocoTruth, list[BoxResult]] | None = None
    by_class = True
    reason = _why_no_boxes(truth)
    if reason is None:
        coco, matched, by_class = video_truth(found, truth, others=others, one_class=one_class)
        notes = [*matched.notes(), *([] if by_class else ["classes are not told apart"])]
        pair = coco, matched.results
        try:
            boxes = average_precision(coco, matched.results, limit=limit, notes=notes)
        except DependencyError as error:
            reason = str(error)
    if reason is not None:
        not_scored["coco"] = reason
    counts: TrackingCounts | None = None
    reason = _why_no_tracking(found, truth)
    if reason is None:
        counts = count_tracking(sequence_of(found, truth, others=others))
    else:
        not_scored["tracking"] = reason
    points = point_score(found, truth, within_px=within_px, within_box=within_box, others=others)
    return Evaluation(found, truth, points, boxes, counts, not_scored, pair, by_class)


def _pictures(
    results: str | os.PathLike[str],
    labels: str | os.PathLike[str],
    *,
    within_px: float,
    within_box: bool,
    span: tuple[int, int | None],
    limit: int,
) -> Evaluation:
    truth = read_coco_truth(labels)
    if _kind(results) == "coco":
        matched = on_pictures(read_coco_results(results), truth)
    else:
        found = read_results(results)
        if span[1] is not None:
            truth = only_pictures(truth, found, span)
        matched = found_on_pictures(found, truth)
        if not matched.results and matched.unknown_images:
            raise ConfigError(
                f"no picture of {results} is in {labels}: neither file names nor frame numbers fit its images; "
                "give the labels of these pictures"
            )
    boxes = average_precision(truth, matched.results, limit=limit, notes=matched.notes())
    columns, points = as_points(truth, matched.results)
    score = point_score(columns, points, within_px=within_px, within_box=within_box)
    reason = "COCO labels have no identities over time; give a MOTChallenge gt.txt"
    return Evaluation(columns, points, score, boxes, None, {"tracking": reason}, (truth, matched.results))


def read_results(path: str | os.PathLike[str]) -> Found:
    """Read what a run wrote: frames.jsonl, MOT text or COCO results (image_id: the frame). Raises ConfigError."""
    kind = _kind(path)
    if kind == "mot":
        return read_mot_results(path)
    if kind == "frames":
        return read_frames_jsonl(path)
    rows = read_coco_results(path)
    box = np.array([row.bbox for row in rows], np.float64).reshape(-1, 4)
    frame = np.array([row.image_id for row in rows], np.int64)
    if len(frame) and not 0 <= frame.min() <= frame.max() <= MOST_FRAMES:
        raise ConfigError(
            f"{path}: its image_id, up to {frame.max()}, are no frames of a clip; give COCO labels with it"
        )
    frames = np.arange(int(frame.max()) + 1 if len(frame) else 0)
    return Found(
        frames=frames,
        pts_s=np.zeros(len(frames)),
        frame=frame,
        track=np.zeros(len(rows), np.int64),
        score=np.array([row.score for row in rows], np.float64),
        xyxy=np.hstack([box[:, :2], box[:, :2] + box[:, 2:]]),
        name=np.array([str(row.category_id) for row in rows], np.str_),
        state=np.array([""] * len(rows), np.str_),
    )


def _kind(path: str | os.PathLike[str]) -> str:
    """By the first sign of the file: ``[`` is a list, a digit a row of numbers."""
    try:
        with Path(path).open("rb") as file:
            first = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    except OSError as error:
        raise ConfigError(f"cannot read results {path}: {error.strerror}; give the frames.jsonl of a run") from None
    if first == b"[":
        return "coco"
    return "mot" if first.isdigit() else "frames"


def _why_no_boxes(labels: Labels) -> str | None:
    if labels.format == "points" or not (labels.wh > 0).all(axis=1).any():
        return "the labels are points; average precision needs boxes"
    if labels.format == "loose boxes":
        return "the labels are loose boxes (no `visible` column); average precision needs tight ones"
    return None


def _why_no_tracking(found: Found, labels: Labels) -> str | None:
    if labels.format not in ("mot", "truth"):
        return "the labels have no identities; give a MOTChallenge gt.txt or frame,id,class,x,y,w,h,visible"
    if len(found) and not (found.track > 0).any():
        return "the results have no track numbers"
    return None
