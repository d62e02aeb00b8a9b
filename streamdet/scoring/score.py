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
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.scoring.labels import Found, Labels

__all__ = ["DISTRACTORS", "Band", "PointScore", "TrackScore", "demo_score", "point_score"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

DISTRACTORS = ("person", "car")  # classes in the demo scene's truth that move and are not wanted
_SPEED_EDGES = (1.0, 3.0, 10.0, 30.0)  # px per frame
_SIZE_EDGES = (4.0, 8.0, 16.0, 32.0)  # px, square root of the box's area
_DISTRACTOR_MARGIN = 0.1  # of the box's size, and some pixels: shadows and soft edges belong to it
_DISTRACTOR_MARGIN_PX = 6.0


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
    return _Scored(found, labels, within_px, within_box, others).points()


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
    return _Scored(found, truth, within_px, True, others).tracks(fps or found.fps)


class _Scored:
    """The pairing of one run, and what can be counted from it.

    ``found``: objects sorted by frame, then score (so the order of the input is of no account). ``labels``: wanted rows.
    ``on`` (M,) row of `labels` or -1; ``by`` (N,) row of `found` or -1; ``error`` (N,) px; ``aside`` (M,) not judged.
    """

    def __init__(
        self, found: Found, labels: Labels, within_px: float, within_box: bool, others: Collection[str] | None
    ) -> None:
        if others is None:
            others = DISTRACTORS if labels.format == "truth" else ()
        unwanted = np.isin(labels.name, list(others)) if others else np.zeros(len(labels), np.bool_)
        order = np.lexsort((found.track, *found.xyxy.T, -found.score, found.frame))
        self.found = _found_rows(found, order[found.state[order] != "tentative"])
        self.labels = _label_rows(labels, ~unwanted)
        self.unwanted = _label_rows(labels, unwanted)
        self.within_px, self.within_box = within_px, within_box
        self._pair()

    def _pair(self) -> None:
        found, labels = self.found, self.labels
        self.on = np.full(len(found), -1, np.int64)
        self.by = np.full(len(labels), -1, np.int64)
        self.error = np.full(len(labels), np.nan)
        self.hidden = np.zeros(len(found), np.bool_)  # stands where a wanted mover is hidden
        self.beside = np.zeros(len(found), np.bool_)  # near a wanted mover, paired or not
        self.unlabelled = ~np.isin(found.frame, labels.frames)
        centre = found.centre
        for rows, objects in _by_frame(labels.frame, found.frame, labels.frames):
            near, distance = _near(labels, rows, centre[objects], self.within_px, self.within_box)
            self.beside[objects] = near.any(axis=0)
            seen = labels.visible[rows]
            for row, thing in _assign(near[seen], distance[seen]):
                label, item = rows[seen][row], objects[thing]
                self.on[item], self.by[label] = label, item
                self.error[label] = distance[seen][row, thing]
            free = self.on[objects] < 0
            for _, thing in _assign(near[~seen][:, free], distance[~seen][:, free]):
                self.hidden[objects[free][thing]] = True
        self.on_other = (self.on < 0) & ~self.hidden & self._inside_unwanted(centre)
        self.aside = self.hidden | self.on_other | self.unlabelled

    def _inside_unwanted(self, centre: F64) -> Bool:
        inside = np.zeros(len(self.found), np.bool_)
        other = self.unwanted
        for rows, objects in _by_frame(other.frame, self.found.frame, other.frames):
            half = other.wh[rows] * (0.5 + _DISTRACTOR_MARGIN) + _DISTRACTOR_MARGIN_PX
            gap = np.abs(other.centre[rows][:, None] - centre[objects][None])
            inside[objects] = (gap <= half[:, None]).all(axis=2).any(axis=0)
        return inside

    def points(self) -> PointScore:
        labels = self.labels
        hit = self.by[labels.visible] >= 0
        tp, fn = int(hit.sum()), int((~hit).sum())
        fp = int(((self.on < 0) & ~self.aside).sum())
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
            first_delay_frames=delay,
            first_delay_s=delay / fps if delay is not None and fps else None,
            never_found=never,
            id_switches=switches,
            recall_by_speed=_bands(_speeds(labels), _SPEED_EDGES, self.by >= 0, labels.visible),
            recall_by_size=_bands(_sizes(labels), _SIZE_EDGES, self.by >= 0, labels.visible),
        )

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


def _near(labels: Labels, rows: I64, centre: F64, within_px: float, within_box: bool) -> tuple[Bool, F64]:
    """(R,K) whether object k is on label row r, and the distance of their centres in px."""
    gap = np.abs(labels.centre[rows][:, None] - centre[None])
    distance = np.hypot(gap[..., 0], gap[..., 1])
    near = distance <= within_px
    if within_box:
        near |= (gap <= labels.wh[rows][:, None] / 2).all(axis=2)
    return near, distance


def _assign(near: Bool, distance: F64) -> list[tuple[int, int]]:
    """One-to-one pairs: as many as possible of those `near`, at the least total distance."""
    if not near.any():
        return []
    if near.shape[0] == 1:
        best = int(np.argmin(np.where(near[0], distance[0], np.inf)))
        return [(0, best)]
    from scipy.optimize import linear_sum_assignment

    forbidden = 1.0 + float(distance[near].sum()) * 2
    rows, columns = linear_sum_assignment(np.where(near, distance, forbidden))
    return [(int(r), int(c)) for r, c in zip(rows, columns) if near[r, c]]


def _by_frame(frame: I64, other: I64, frames: I64) -> list[tuple[I64, I64]]:
    """Row numbers of two sorted columns for every frame of `frames` that both hold."""
    both = np.intersect1d(np.intersect1d(frame, other), frames)
    a1, a2 = np.searchsorted(frame, both, "left"), np.searchsorted(frame, both, "right")
    b1, b2 = np.searchsorted(other, both, "left"), np.searchsorted(other, both, "right")
    return [(np.arange(i, j), np.arange(k, m)) for i, j, k, m in zip(a1, a2, b1, b2)]


def _speeds(labels: Labels) -> F64:
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
    size = np.sqrt(labels.wh[:, 0] * labels.wh[:, 1])
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


def _found_rows(found: Found, rows: Any) -> Found:
    return replace(
        found,
        frame=found.frame[rows],
        track=found.track[rows],
        score=found.score[rows],
        xyxy=found.xyxy[rows],
        name=found.name[rows],
        state=found.state[rows],
    )


def _label_rows(labels: Labels, rows: Bool) -> Labels:
    """Chosen rows in order of frames (stable); the labelled frames stay."""
    order = np.argsort(labels.frame, kind="stable")
    order = order[rows[order]]
    return replace(
        labels,
        frame=labels.frame[order],
        id=labels.id[order],
        name=labels.name[order],
        centre=labels.centre[order],
        wh=labels.wh[order],
        visible=labels.visible[order],
    )
