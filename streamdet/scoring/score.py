"""The yardstick: how well objects and tracks agree with truth.

*Points* (:func:`point_score`): in each labelled frame objects and visible targets are paired one to one so that as many as
possible lie within the radius, and among such pairings at the least total distance. What stays over is false or missed.

- Where one target per frame is labelled (`air`, `tennis`), everything else reported in a labelled frame is false, though it
  may be a real bird nobody labelled: the false rate is an upper bound.
- A labelled frame that the run never processed (dropped, or cut by ``--max-frames``) counts as missed and is told in
  ``frames_missing``. Objects in unlabelled frames are ignored.
- An object at the place of a target marked invisible (behind something) is ignored: neither right nor wrong.
- Tentative objects are no statement yet and are left out.

*Tracks* (:func:`demo_score`): what becomes of whole tracks on a scene whose truth is complete, see there.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.scoring.labels import Found, Labels
from streamdet.scoring.pairing import DISTRACTORS, Pairing

__all__ = ["DISTRACTORS", "Band", "PointScore", "TrackScore", "demo_score", "point_score", "speeds"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

_SPEED_EDGES = (1.0, 3.0, 10.0, 30.0)  # px per frame
_SIZE_EDGES = (4.0, 8.0, 16.0, 32.0)  # px, square root of the box's area


@dataclass(frozen=True, slots=True)
class Band:
    """Recall among `count` labelled targets of one kind."""

    recall: float
    count: int


@dataclass(frozen=True, slots=True)
class PointScore:
    """Ratios are None where nothing could be counted (no targets, no objects).

    Attributes:
        labelled_frames, frames_missing: frames with labels; those of them that the run did not process.
        tp, fp, fn: targets found, objects on nothing, targets missed. ignored: objects neither right nor wrong.
        top1: share of the frames with a visible target in which the object of highest score is on one.
        median_error_px, p95_error_px: distance of the centres of what was found.
        median_iou: overlap of the boxes of what was found; None where labels are points or loose boxes.
        first_delay_frames: from a target's first visible frame to the first in which it was found, median of the targets.
        never_found: targets (identities) found in no frame.
        id_switches: how often a target's track number differs from the one it had when last found.
        recall_by_speed, recall_by_size: by px per frame, and by square root of the box's area in px.
    """

    labelled_frames: int
    frames_missing: int
    tp: int
    fp: int
    fn: int
    ignored: int
    precision: float | None
    recall: float | None
    f1: float | None
    false_per_frame: float | None
    top1: float | None
    median_error_px: float | None
    p95_error_px: float | None
    median_iou: float | None
    first_delay_frames: float | None
    first_delay_s: float | None
    never_found: int
    id_switches: int
    recall_by_speed: dict[str, Band]
    recall_by_size: dict[str, Band]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TrackScore:
    """Of whole tracks. ``tracks = true_tracks + other_tracks + false_tracks``.

    Attributes:
        recall: share of the visible places of all wanted movers (mover x frame) at which a track was.
        tracks: track numbers shown. true_tracks: on wanted movers. other_tracks: on people or cars.
        false_tracks: on nothing; duplicate_tracks of them stand beside another track on a wanted mover.
        seconds: media time scored.
        recall_by_class: of the wanted movers.
        points: the same frames scored as points, objects on distractors ignored.
    """

    seconds: float
    recall: float | None
    tracks: int
    true_tracks: int
    other_tracks: int
    false_tracks: int
    duplicate_tracks: int
    false_tracks_per_s: float | None
    recall_by_class: dict[str, Band]
    points: PointScore

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def point_score(
    found: Found,
    labels: Labels,
    *,
    within_px: float = 5.0,
    within_box: bool = False,
    others: Collection[str] | None = None,
) -> PointScore:
    """Score the objects of `found` against `labels` as points (module docstring).

    Args:
        within_px: an object is on a target if their centres are at most this far apart.
        within_box: ... or the object's centre lies in the target's box (loose boxes, streaks).
        others: classes of rows that are no targets; objects on them are ignored. None: the demo scene's people and cars
            if `labels` are such a truth, otherwise none.
    """
    return _Scored(found, labels, within_px=within_px, within_box=within_box, others=others).points()


def demo_score(
    found: Found,
    truth: Labels,
    *,
    fps: float | None = None,
    within_px: float = 5.0,
    others: Collection[str] = DISTRACTORS,
) -> TrackScore:
    """Score tracks against a complete truth. `fps`: of the media; None: from the time stamps of `found`.

    A row of a track is *on target* if it is paired with a wanted mover (within `within_px` or inside its box) or stands where
    one is hidden; else *on a distractor* if its centre lies in the slightly grown box of a row of class `others`; else on
    nothing. A track is true if at least half of its rows are on target, other if at least half are on either, and false
    otherwise. A second track beside one that is already paired is on nothing: duplicates are false tracks.
    """
    return _Scored(found, truth, within_px=within_px, within_box=True, others=others).tracks(fps or found.fps)


class _Scored(Pairing):
    """What can be counted from a pairing."""

    def points(self) -> PointScore:
        labels = self.labels
        tp, fn, fp = int((self.by >= 0).sum()), int(self.missed.sum()), int(self.false.sum())
        error = self.error[self.by >= 0]
        frames = len(labels.frames)
        delay, never, switches = self._identities()
        fps = self.found.fps
        return PointScore(
            labelled_frames=frames,
            frames_missing=int((~np.isin(labels.frames, self.found.frames)).sum()),
            tp=tp,
            fp=fp,
            fn=fn,
            ignored=int(self.aside.sum()),
            precision=_ratio(tp, tp + fp),
            recall=_ratio(tp, tp + fn),
            f1=_ratio(2 * tp, 2 * tp + fp + fn),
            false_per_frame=_ratio(fp, frames),
            top1=self._top1(),
            median_error_px=float(np.median(error)) if len(error) else None,
            p95_error_px=float(np.percentile(error, 95)) if len(error) else None,
            median_iou=self._median_iou(),
            first_delay_frames=delay,
            first_delay_s=delay / fps if delay is not None and fps else None,
            never_found=never,
            id_switches=switches,
            recall_by_speed=_bands(speeds(labels), _SPEED_EDGES, self.by >= 0, labels.visible),
            recall_by_size=_bands(_sizes(labels), _SIZE_EDGES, self.by >= 0, labels.visible),
        )

    def _median_iou(self) -> float | None:
        hits = np.flatnonzero((self.by >= 0) & (self.labels.wh > 0).all(axis=1))
        if self.labels.format == "loose boxes" or not len(hits):
            return None
        centre, half = self.labels.centre[hits], self.labels.wh[hits] / 2
        box, other = np.concatenate([centre - half, centre + half], axis=1), self.found.xyxy[self.by[hits]]
        low, high = np.maximum(box[:, :2], other[:, :2]), np.minimum(box[:, 2:], other[:, 2:])
        both = np.prod(np.clip(high - low, 0, None), axis=1)
        either = np.prod(box[:, 2:] - box[:, :2], axis=1) + np.prod(other[:, 2:] - other[:, :2], axis=1) - both
        return float(np.median(both / either))

    def _top1(self) -> float | None:
        """Objects are sorted by frame, then falling score; those not judged do not compete."""
        judged = np.flatnonzero(~self.aside)
        frames, first = np.unique(self.found.frame[judged], return_index=True)
        wanted = np.unique(self.labels.frame[self.labels.visible])
        right = self.on[judged[first]] >= 0
        return _ratio(int(np.isin(frames[right], wanted).sum()), len(wanted))

    def _identities(self) -> tuple[float | None, int, int]:
        """Median delay of the first detection in frames, targets never found, switches of track number."""
        labels, delays, never, switches = self.labels, [], 0, 0
        for identity in np.unique(labels.id):
            rows = np.flatnonzero((labels.id == identity) & labels.visible)  # in order of frames
            if not len(rows) or len(np.unique(labels.frame[rows])) < len(rows):
                continue  # several unnamed targets in one frame: nobody knows which is which
            hits = rows[self.by[rows] >= 0]
            if not len(hits):
                never += 1
                continue
            delays.append(int(labels.frame[hits[0]] - labels.frame[rows[0]]))
            tracks = self.found.track[self.by[hits]]
            tracks = tracks[tracks > 0]
            switches += int((tracks[1:] != tracks[:-1]).sum())
        return (float(np.median(delays)) if delays else None), never, switches

    def tracks(self, fps: float | None) -> TrackScore:
        points = self.points()
        judged = (self.found.track > 0) & ~self.unlabelled
        target, other = (self.on >= 0) | self.hidden, self.on_other
        true = others = duplicates = 0
        numbers = np.unique(self.found.track[judged])
        for number in numbers:
            rows = judged & (self.found.track == number)
            life, on_target = int(rows.sum()), int((rows & target).sum())
            if 2 * on_target >= life:
                true += 1
            elif 2 * (on_target + int((rows & other).sum())) >= life:
                others += 1
            elif 2 * int((rows & self.beside).sum()) >= life:
                duplicates += 1
        false = len(numbers) - true - others
        seconds = len(self.labels.frames) / fps if fps else 0.0
        labels = self.labels
        by_class = {
            str(name): Band(float((self.by[rows] >= 0).mean()), int(rows.sum()))
            for name in np.unique(labels.name)
            if (rows := (labels.name == name) & labels.visible).any()
        }
        return TrackScore(
            seconds=seconds,
            recall=points.recall,
            tracks=len(numbers),
            true_tracks=true,
            other_tracks=others,
            false_tracks=false,
            duplicate_tracks=duplicates,
            false_tracks_per_s=false / seconds if seconds else None,
            recall_by_class=by_class,
            points=points,
        )


def speeds(labels: Labels) -> F64:
    """(N,) px per frame, from the same target's place one frame before and after; NaN where neither is known."""
    order = np.lexsort((labels.frame, labels.id))
    frame, id, centre = labels.frame[order], labels.id[order], labels.centre[order]
    step = np.hypot(*np.diff(centre, axis=0).T) if len(order) > 1 else np.zeros(0)
    step[(np.diff(id) != 0) | (np.diff(frame) != 1)] = np.nan
    both = np.stack([np.append(np.nan, step), np.append(step, np.nan)])[:, : len(order)]
    known = ~np.isnan(both)
    count = known.sum(axis=0)
    mean = np.where(count > 0, np.where(known, both, 0).sum(axis=0) / np.maximum(count, 1), np.nan)
    out = np.empty(len(order))
    out[order] = mean
    return out


def _sizes(labels: Labels) -> F64:
    """(N,) px, square root of the area; NaN for points."""
    size = np.sqrt(labels.wh.clip(min=0)).prod(axis=1)
    return np.asarray(np.where(size > 0, size, np.nan))


def _bands(value: F64, edges: tuple[float, ...], hit: Bool, counted: Bool) -> dict[str, Band]:
    bounds = (0.0, *edges, np.inf)
    bands = {}
    for low, high in pairwise(bounds):
        rows = counted & (value >= low) & (value < high)
        if rows.any():
            name = f"{low:g}-{high:g}" if np.isfinite(high) else f"{low:g}+"
            bands[name] = Band(float(hit[rows].mean()), int(rows.sum()))
    return bands


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
