"""The record: one processed frame as one flat line of JSON, the same in a file, on stdout and on the network.

Numbers are plain, finite and rounded (boxes to 0.01 px, scores to 0.0001); what is unknown is absent, never ``""`` or NaN.
"""

from __future__ import annotations

import json
import math
import time
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamdet.masks import coco_rle, polygons
from streamdet.types import CONFIRMED, SCHEMA, STATE_NAMES, WHY_NAMES, Event, Result, TilePlan, Tracks

__all__ = ["FrameRecord", "ObjectRecord", "TilesRecord", "as_text", "encode", "frame_record", "shape_of"]


class TilesRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """How many tiles were run, of how many, and why (a count per reason). What is counted is inputs of the network.

    ``pieces``: in a collage, how many pieces of the frame share these inputs; absent where each has its own.
    """

    run: int
    of: int
    why: dict[str, int] = {}
    pieces: int = 0


class RleRecord(msgspec.Struct, frozen=True):
    """A mask as COCO writes it: ``size`` [height, width] of the frame, ``counts`` compressed run lengths."""

    size: tuple[int, int]
    counts: str


class ObjectRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One object. ``track`` is null where identity is not known (a still picture, an object not confirmed yet).

    ``bbox`` [x1, y1, x2, y2] px of the upright full frame; ``velocity`` [vx, vy] px/s. ``weak`` (absent if not so): confirmed
    earlier, and in this frame kept alive by a detection below the threshold, whose box and score these are. ``held`` (absent if
    not so): found in an earlier frame, and nothing has changed there since; the model was not asked in this one. Of models that
    give masks: ``segmentation``, and its outer outlines ``polygons`` [[x1, y1, x2, y2, ...], ...] px.
    """

    track: int | None
    state: str | None = None
    weak: bool = False
    held: bool = False
    class_id: int
    label: str
    score: float
    bbox: tuple[float, float, float, float]
    velocity: tuple[float, float] | None = None
    segmentation: RleRecord | None = None
    polygons: list[list[float]] = []


class FrameRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One processed frame. ``time_base`` is a fraction as text; ``motion`` is what the picture as a whole did.

    ``name`` and ``page_index`` (0-based, of a PDF) are those of a still.
    """

    schema: int = msgspec.field(default_factory=lambda: SCHEMA)
    stream: str
    frame: int
    name: str | None = None
    page_index: int | None = None
    pts: int | None = None
    time_base: str | None = None
    pts_s: float
    epoch: int = msgspec.field(default_factory=lambda: 0)
    utc: str | None = None
    latency_s: float | None = None
    dropped: int = 0
    motion: str | None = None
    tiles: TilesRecord | None = None
    objects: tuple[ObjectRecord, ...]


def as_text(name: str) -> str:
    """A file's name as JSON can hold it: bytes that are no UTF-8, as old disks and cameras have them, become ``_``."""
    return "".join("_" if "\ud800" <= character <= "\udfff" else character for character in name)


def frame_record(result: Result, *, tentative: bool = False) -> FrameRecord:
    """The record of `result`: its shown tracks (with `tentative` also those not confirmed yet); of a still, its detections."""
    frame = result.frame
    return FrameRecord(
        stream=frame.stream,
        frame=frame.index,
        name=frame.name,
        page_index=frame.page,
        pts=frame.pts,
        time_base=None if frame.time_base is None else f"{frame.time_base.numerator}/{frame.time_base.denominator}",
        pts_s=_finite(frame.pts_s, 6),
        epoch=frame.epoch,
        utc=frame.utc,
        # of a live frame only: a file's frame waits for the machine, not the other way round
        latency_s=None if frame.utc is None else _finite(max(0.0, time.monotonic() - frame.captured_s), 4),
        dropped=frame.dropped,
        motion=None if frame.still else result.motion_state,
        tiles=None if result.tiles is None else _tiles(result.tiles),
        objects=_still_objects(result) if frame.still else _tracked_objects(result, tentative=tentative),
    )


_ENCODER = msgspec.json.Encoder(decimal_format="number")


def encode(record: FrameRecord | Event) -> bytes:
    """One line of JSON (UTF-8, no newline inside), ended by a newline."""
    try:
        return _ENCODER.encode(record) + b"\n"
    except (
        UnicodeEncodeError
    ):  # a file name that is not UTF-8 holds halves of surrogate pairs, which JSON can only escape
        return json.dumps(msgspec.to_builtins(record), separators=(",", ":")).encode() + b"\n"


def _finite(value: float, digits: int) -> float:
    return round(float(value), digits) if math.isfinite(value) else 0.0


def _rounded(values: NDArray[Any], digits: int) -> list[Any]:
    """Nested lists of plain Python floats."""
    return np.round(values.astype(np.float64), digits).tolist()  # type: ignore[no-any-return]


def _tiles(tiles: TilePlan) -> TilesRecord:
    counts = np.bincount(tiles.slot_why, minlength=len(WHY_NAMES)).tolist()
    why = {name: count for name, count in zip(WHY_NAMES, counts) if count}
    return TilesRecord(tiles.slots, tiles.of, why, 0 if tiles.slot is None else len(tiles))


def _tracked_objects(result: Result, *, tentative: bool) -> tuple[ObjectRecord, ...]:
    tracks: Tracks = result.tracks if tentative else result.tracks.shown
    tracks = tracks[np.isfinite(tracks.xyxy).all(axis=1)]
    velocity = np.nan_to_num(tracks.velocity_xy, nan=0.0, posinf=0.0, neginf=0.0)
    score = np.nan_to_num(tracks.score, nan=0.0, posinf=1.0, neginf=0.0)
    rows = zip(
        tracks.id.tolist(),
        tracks.state.tolist(),
        tracks.weak.tolist(),
        ([False] * len(tracks) if tracks.held is None else (tracks.held & (tracks.state == CONFIRMED)).tolist()),
        tracks.label.tolist(),
        _rounded(score, 4),
        _rounded(tracks.xyxy, 2),
        _rounded(velocity, 2),
        tracks.detection_row.tolist(),
    )
    return tuple(
        ObjectRecord(
            track=number or None,
            state=STATE_NAMES[state],
            weak=weak,
            held=held,
            class_id=label,
            label=result.label_name(label),
            score=value,
            bbox=tuple(box),
            velocity=tuple(speed),
            **shape_of(result, row),
        )
        for number, state, weak, held, label, value, box, speed, row in rows
    )


def shape_of(result: Result, row: int) -> dict[str, Any]:
    """``segmentation`` and ``polygons`` of the object in row `row` of the detections (-1: none); empty without a mask."""
    masks = result.detections.masks
    if masks is None or row < 0 or masks[row] is None or not masks[row].area:
        return {}
    rle = coco_rle(masks[row], result.frame.wh)
    return {"segmentation": RleRecord(tuple(rle["size"]), rle["counts"]), "polygons": polygons(masks[row])}


def _still_objects(result: Result) -> tuple[ObjectRecord, ...]:
    found = result.detections
    finite = np.flatnonzero(np.isfinite(found.xyxy).all(axis=1))
    score = np.nan_to_num(found.score[finite], nan=0.0, posinf=1.0, neginf=0.0)
    rows = zip(found.label[finite].tolist(), _rounded(score, 4), _rounded(found.xyxy[finite], 2), finite.tolist())
    return tuple(
        ObjectRecord(
            track=None,
            class_id=label,
            label=result.label_name(label),
            score=value,
            bbox=tuple(box),
            **shape_of(result, row),
        )
        for label, value, box, row in rows
    )
