"""Small pictures cut round what was missed, from the clip itself, as data addresses for a page that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from streamdet.config import SourceConfig
from streamdet.errors import StreamdetError
from streamdet.tuning.comparison import ComparedRun, Comparison
from streamdet.types import U8

__all__ = ["Thumbnail", "clip_file", "misses"]

_SIDE, _ZOOM = 56, 3  # px of the frame on a side, at least; how much they are enlarged
_MOST = 24


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """One labelled target: where, how large, which runs found it, and its picture (None: the clip is not at hand)."""

    clip: str
    frame: int
    size_px: float
    found_by: tuple[bool, ...]
    address: str | None


def clip_file(runs: list[ComparedRun], clip: str) -> Path | None:
    """The film a clip was read from, by what the summaries of the runs say; None if it is not there."""
    for run in runs:
        for stream in run.summary.get("streams", []):
            if isinstance(stream, dict) and stream.get("stream") == clip:
                path = Path(str(stream.get("source", "")))
                if path.is_file():
                    return path
    return None


def misses(comparison: Comparison, *, most: int = _MOST) -> list[Thumbnail]:
    """Targets that at least one run missed, evenly over the clips and their time; those the runs disagree on come first."""
    chosen: list[tuple[str, int, tuple[bool, ...]]] = []
    for clip in comparison.clips:
        pairs = [run.pairs[clip] for run in comparison.runs]
        found = np.stack([pair.by >= 0 for pair in pairs])
        missed = pairs[0].labels.visible & ~found.all(axis=0)
        disputed = np.flatnonzero(missed & found.any(axis=0))
        others = np.flatnonzero(missed & ~found.any(axis=0))
        room = max(2, most // len(comparison.clips))
        rows = _spread(disputed, room)
        rows += _spread(others, room - len(rows))
        chosen += [(clip, row, tuple(found[:, row].tolist())) for row in sorted(rows)]
    chosen = chosen[:most]
    out: list[Thumbnail] = []
    for clip in dict.fromkeys(clip for clip, _, _ in chosen):
        labels = comparison.runs[0].pairs[clip].labels
        here = [(row, by) for name, row, by in chosen if name == clip]
        pictures = _pictures(clip_file(comparison.runs, clip), {int(labels.frame[row]) for row, _ in here})
        for row, by in here:
            frame = int(labels.frame[row])
            centre, wh = labels.centre[row].tolist(), labels.wh[row].tolist()
            picture = pictures.get(frame)
            address = None if picture is None else _cut(picture, centre, wh)
            out.append(Thumbnail(clip, frame, float(np.sqrt(np.clip(wh, 0, None)).prod()), by, address))
    return out


def _spread(rows: Any, count: int) -> list[int]:
    """At most `count` of `rows`, evenly."""
    if count <= 0 or not len(rows):
        return []
    places = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))
    return [int(row) for row in rows[places]]


def _pictures(path: Path | None, wanted: set[int]) -> dict[int, U8]:
    """The frames `wanted` of the film at `path`; none if it cannot be read."""
    if path is None or not wanted:
        return {}
    try:
        return dict(_decoded(path, wanted))
    except (StreamdetError, OSError):
        return {}


def _decoded(path: Path, wanted: set[int]) -> Iterator[tuple[int, U8]]:
    from streamdet.sources.video import VideoSource

    last = max(wanted)
    with VideoSource(str(path), stream="thumbnails", config=SourceConfig()) as source:
        for frame in source:
            if frame.index in wanted:
                yield frame.index, np.array(frame.picture.bgr)
            if frame.index >= last:
                return


def _cut(picture: U8, centre: list[float], wh: list[float]) -> str:
    """The surroundings of a target, enlarged, with a thin mark round it."""
    height, width = picture.shape[:2]
    side = int(min(max(_SIDE, 3 * max(wh)), height, width))
    x = int(np.clip(centre[0] - side / 2, 0, width - side))
    y = int(np.clip(centre[1] - side / 2, 0, height - side))
    crop = picture[y : y + side, x : x + side]
    out = _SIDE * _ZOOM
    zoom = out / side
    large = cv2.resize(crop, (out, out), interpolation=cv2.INTER_CUBIC if zoom > 1 else cv2.INTER_AREA)
    half = [max(v * zoom / 2 + 3, 9) for v in wh]
    at = ((centre[0] - x) * zoom, (centre[1] - y) * zoom)
    low, high = ([round(at[i] + sign * half[i]) for i in (0, 1)] for sign in (-1, 1))
    cv2.rectangle(large, low, high, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.rectangle(large, low, high, (90, 230, 255), 1, cv2.LINE_AA)
    _, data = cv2.imencode(".jpg", large, [cv2.IMWRITE_JPEG_QUALITY, 82])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
