"""Identity over time against truth with identities: HOTA, CLEAR MOT (MOTA) and IDF1, as TrackEval counts them.

Sources: Luiten et al. 2020 (HOTA), Bernardin and Stiefelhagen 2008 (MOTA), Ristani et al. 2016 (IDF1); numerically equal to
TrackEval's ``HOTA``, ``CLEAR`` and ``Identity`` (tests). A target and an object are alike by the overlap (IoU) of their
boxes. Which rows take part:

- of the run, confirmed tracks seen in the frame (what `--mot` writes), in labelled frames;
- of the truth, visible rows. An object on a row marked invisible (IoU from 0.5) is neither right nor wrong. In MOTChallenge's
  own files that holds for its distractor classes (person on vehicle, static person, distractor, reflection); objects on other
  rows of flag 0 are false, as there.

Counts of several sequences are added (:meth:`TrackingCounts.__add__`) before ratios are taken, as TrackEval combines them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.scoring.labels import Found, Labels
from streamdet.scoring.pairing import DISTRACTORS

__all__ = ["Sequence", "TrackingCounts", "count_tracking", "sequence_of"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

ALPHAS = np.arange(0.05, 0.99, 0.05)
SAME_FROM = 0.5  # IoU from which MOTA and IDF1 call two boxes the same
_EPS = np.finfo("float").eps
_MOT_CLASSES, _MOT_DISTRACTORS = {str(n) for n in range(1, 14)}, ("2", "7", "8", "12")


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """One clip, frame by frame: identities counted from 0, and how alike every target and object are (IoU)."""

    targets: tuple[I64, ...]  # identities present, one array per frame
    tracks: tuple[I64, ...]
    alike: tuple[F64, ...]  # (targets, tracks) per frame

    @property
    def sizes(self) -> tuple[int, int]:
        """How many identities of targets and of tracks there are."""
        most = [
            max((int(ids.max()) + 1 for ids in column if len(ids)), default=0) for column in (self.targets, self.tracks)
        ]
        return most[0], most[1]


@dataclass(frozen=True, slots=True, eq=False)
class TrackingCounts:
    """What was counted; arrays have one value per IoU threshold of HOTA (0.05 to 0.95).

    ``located``: summed IoU of true positives. ``associated`` and its ``_recall``, ``_precision``: summed over true positives.
    """

    frames: int
    target_rows: int
    track_rows: int
    targets: int
    tracks: int
    hota_tp: F64
    located: F64
    associated: F64
    association_recall: F64
    association_precision: F64
    tp: int
    overlap: float
    id_switches: int
    fragments: int
    mostly_tracked: int
    mostly_lost: int
    id_tp: int

    def __add__(self, other: TrackingCounts) -> TrackingCounts:
        return TrackingCounts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def to_dict(self) -> dict[str, Any]:
        """Scores in the field's own words; None where nothing could be counted."""
        tp = self.hota_tp
        detection = tp / np.maximum(1.0, self.target_rows + self.track_rows - tp)
        association = self.associated / np.maximum(1.0, tp)
        located = np.where(tp > 0, self.located / np.maximum(1.0, tp), 1.0)
        fn, fp = self.target_rows - self.tp, self.track_rows - self.tp
        known = self.target_rows > 0

        def mean(values: F64) -> float | None:
            return float(np.mean(values)) if known else None

        return {
            "HOTA": mean(np.sqrt(detection * association)),
            "DetA": mean(detection),
            "AssA": mean(association),
            "LocA": mean(located),
            "DetRe": mean(tp / max(1, self.target_rows)),
            "DetPr": mean(tp / max(1, self.track_rows)),
            "AssRe": mean(self.association_recall / np.maximum(1.0, tp)),
            "AssPr": mean(self.association_precision / np.maximum(1.0, tp)),
            "MOTA": (self.tp - fp - self.id_switches) / self.target_rows if known else None,
            "MOTP": self.overlap / self.tp if self.tp else None,
            "IDF1": 2 * self.id_tp / (self.target_rows + self.track_rows) if known else None,
            "IDP": self.id_tp / self.track_rows if self.track_rows else None,
            "IDR": self.id_tp / self.target_rows if known else None,
            "id_switches": self.id_switches,
            "fragments": self.fragments,
            "mostly_tracked": self.mostly_tracked,
            "partly_tracked": self.targets - self.mostly_tracked - self.mostly_lost,
            "mostly_lost": self.mostly_lost,
            "tp": self.tp,
            "fp": fp,
            "fn": fn,
            "frames": self.frames,
            "targets": self.targets,
            "tracks": self.tracks,
        }


def count_tracking(sequence: Sequence) -> TrackingCounts:
    """Count one sequence for HOTA, MOTA and IDF1."""
    targets, tracks = sequence.sizes
    target_rows = np.bincount(_joined(sequence.targets), minlength=targets)
    track_rows = np.bincount(_joined(sequence.tracks), minlength=tracks)
    hota = _count_hota(sequence, target_rows, track_rows)
    clear = _count_clear(sequence, target_rows)
    return TrackingCounts(
        frames=len(sequence.targets),
        target_rows=int(target_rows.sum()),
        track_rows=int(track_rows.sum()),
        targets=int((target_rows > 0).sum()),
        tracks=int((track_rows > 0).sum()),
        **hota,
        **clear,
        id_tp=_count_identity(sequence, target_rows, track_rows),
    )


def _joined(ids: tuple[I64, ...]) -> I64:
    return np.concatenate([*ids, np.zeros(0, np.int64)]).astype(np.int64)


def _assignment(score: F64) -> tuple[I64, I64]:
    """Pairs of rows and columns of the largest total `score`."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(-score)
    return rows.astype(np.int64), columns.astype(np.int64)


def _count_hota(sequence: Sequence, target_rows: I64, track_rows: I64) -> dict[str, Any]:
    """Pairs are sought with one alignment of identities over the whole clip, then judged at every threshold."""
    possible = np.zeros((len(target_rows), len(track_rows)))
    for ids, numbers, alike in zip(sequence.targets, sequence.tracks, sequence.alike):
        total = alike.sum(0)[None, :] + alike.sum(1)[:, None] - alike
        possible[np.ix_(ids, numbers)] += np.where(total > _EPS, alike / np.where(total > _EPS, total, 1.0), 0.0)
    rows_of_both = target_rows[:, None] + track_rows[None, :] - possible
    alignment = possible / np.maximum(rows_of_both, _EPS)
    codes, values = [np.zeros(0, np.int64)], [np.zeros(0)]
    for ids, numbers, alike in zip(sequence.targets, sequence.tracks, sequence.alike):
        if len(ids) and len(numbers):
            row, column = _assignment(alignment[np.ix_(ids, numbers)] * alike)
            codes.append(ids[row] * len(track_rows) + numbers[column])
            values.append(alike[row, column])
    pair, which = np.unique(np.concatenate(codes), return_inverse=True)
    value = np.concatenate(values)
    matched = value[None, :] >= ALPHAS[:, None] - _EPS
    rows = np.array([np.bincount(which, hit, len(pair)) for hit in matched])  # (alphas, pairs) frames together
    of_target = target_rows[pair // max(1, len(track_rows))]
    of_track = track_rows[pair % max(1, len(track_rows))]
    return {
        "hota_tp": rows.sum(1),
        "located": (matched * value).sum(1),
        "associated": (rows * rows / np.maximum(1.0, of_target + of_track - rows)).sum(1),
        "association_recall": (rows * rows / np.maximum(1, of_target)).sum(1),
        "association_precision": (rows * rows / np.maximum(1, of_track)).sum(1),
    }


def _count_clear(sequence: Sequence, target_rows: I64) -> dict[str, Any]:
    """A pair of the preceding frame is kept where it still overlaps enough; then as many pairs as possible."""
    count = len(target_rows)
    last = np.full(count, -1, np.int64)  # the track each target was last paired with ...
    just_now = np.full(count, -1, np.int64)  # ... and in the preceding frame
    seen, found, begun = np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count, np.int64)
    tp = switches = 0
    overlap = 0.0
    for ids, numbers, alike in zip(sequence.targets, sequence.tracks, sequence.alike):
        seen[ids] += 1
        if not len(ids) or not len(numbers):
            continue  # as TrackEval: a frame in which either is absent breaks no pair
        score = 1000.0 * (numbers[None, :] == just_now[ids][:, None]) + alike
        score[alike < SAME_FROM - _EPS] = 0
        row, column = _assignment(score)
        good = score[row, column] > _EPS
        row, column = row[good], column[good]
        matched, by = ids[row], numbers[column]
        switches += int(((last[matched] >= 0) & (last[matched] != by)).sum())
        last[matched] = by
        begun[matched] += just_now[matched] < 0
        just_now[:] = -1
        just_now[matched] = by
        found[matched] += 1
        tp += len(matched)
        overlap += float(alike[row, column].sum())
    there = seen > 0
    ratio = found[there] / seen[there]
    return {
        "tp": tp,
        "overlap": overlap,
        "id_switches": switches,
        "fragments": int((begun[begun > 0] - 1).sum()),
        "mostly_tracked": int((ratio > 0.8).sum()),
        "mostly_lost": int((ratio < 0.2).sum()),
    }


def _count_identity(sequence: Sequence, target_rows: I64, track_rows: I64) -> int:
    """Rows right under the best one-to-one naming of tracks for the whole clip (each may also stay without a name)."""
    possible = np.zeros((len(target_rows), len(track_rows)))
    for ids, numbers, alike in zip(sequence.targets, sequence.tracks, sequence.alike):
        possible[np.ix_(ids, numbers)] += alike >= SAME_FROM
    row, column = _assignment(possible)  # leaving a pair apart never beats naming it
    return int(possible[row, column].sum())


# -------------------------------------------------------------------------------------------------- from files' columns


def sequence_of(found: Found, labels: Labels, *, others: Collection[str] | None = None) -> Sequence:
    """The frames of one clip, ready to be counted (module docstring); `others`: classes that are no targets."""
    if others is None:
        others = DISTRACTORS if labels.format == "truth" else ()
    ignored, wanted = _roles(labels, others)
    objects = np.flatnonzero((found.track > 0) & ((found.state == "confirmed") | (found.state == "")))
    target_id = np.unique(labels.id[wanted], return_inverse=True)[1]
    number_of = np.zeros(len(labels), np.int64)
    number_of[wanted] = target_id
    tracks: list[I64] = []
    targets: list[I64] = []
    alikes: list[F64] = []
    boxes = np.concatenate([labels.centre - labels.wh / 2, labels.centre + labels.wh / 2], axis=1)
    by_label = _rows_by_frame(labels.frame, np.arange(len(labels)))
    by_object = _rows_by_frame(found.frame, objects)
    none = np.zeros(0, np.int64)
    for frame in labels.frames.tolist():
        rows, things = by_label.get(frame, none), by_object.get(frame, none)
        alike = _iou(boxes[rows], found.xyxy[things])
        keep = ~_on_ignored(alike, ignored[rows], labels.format)
        targets.append(number_of[rows[wanted[rows]]])
        tracks.append(found.track[things[keep]])
        alikes.append(alike[wanted[rows]][:, keep])
    _, renamed = np.unique(_joined(tuple(tracks)), return_inverse=True)
    ends = np.cumsum([len(ids) for ids in tracks])
    return Sequence(
        tuple(targets), tuple(np.split(renamed.astype(np.int64), ends[:-1])) if len(ends) else (), tuple(alikes)
    )


def _roles(labels: Labels, others: Collection[str]) -> tuple[Bool, Bool]:
    """Which rows make objects on them count for nothing, and which are targets."""
    unwanted = np.isin(labels.name, list(others)) if others else np.zeros(len(labels), np.bool_)
    ignored = ~labels.visible | unwanted
    if labels.format == "mot":
        official = set(labels.name.tolist()) <= _MOT_CLASSES
        ignored = ~labels.visible & np.isin(labels.name, _MOT_DISTRACTORS) & official
    return ignored, labels.visible & ~unwanted


def _on_ignored(alike: F64, ignored: Bool, format: str) -> Bool:
    """(K,) objects whose best pairing over all rows of the frame is an ignored one."""
    out = np.zeros(alike.shape[1], np.bool_)
    if not ignored.any() or not alike.shape[1]:
        return out
    score = np.where(alike < SAME_FROM - _EPS, 0.0, alike)
    row, column = _assignment(score)
    good = score[row, column] > _EPS
    out[column[good & ignored[row]]] = True
    return out


def _rows_by_frame(frame: I64, rows: I64) -> dict[int, I64]:
    order = rows[np.argsort(frame[rows], kind="stable")]
    values, first = np.unique(frame[order], return_index=True)
    return dict(zip(values.tolist(), np.split(order, first[1:])))


def _iou(boxes: F64, others: F64) -> F64:
    """(N,M) overlap in double precision; 0 where both are empty."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    both = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(np.clip(b[:, 2:] - b[:, :2], 0, None), axis=1) for b in (boxes, others)]
    either = areas[0][:, None] + areas[1][None, :] - both
    return np.asarray(np.where(either > 0, both / np.where(either > 0, either, 1.0), 0.0))
