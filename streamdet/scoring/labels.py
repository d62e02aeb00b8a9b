"""Truth and results as columns: label files of several kinds, and frames.jsonl, read for scoring.

Which frames count as *labelled* (objects reported in the others are ignored, they are neither right nor wrong):

===============================  =====================================================================================
header                           meaning
===============================  =====================================================================================
``frame,class,x,y,w,h``          one loose box of one target; a frame without a row is unlabelled (the annotator skipped it)
``frame,class,x,y,w,h,visible``  the same with ``visible``; a row with 0 is a place where nothing can be demanded
``frame,visible,cx,cy``          points; visible 0 = labelled and nothing there
``Frame,Visibility,X,Y``         TrackNet's points, the same meaning (``file name,visibility,x-coordinate,y-coordinate`` too)
``frame,id,class,x,y,w,h,visible``  full truth of a scene: every frame from the first to the last row is labelled
none (MOTChallenge gt.txt)       ``frame,id,x,y,w,h,flag,class,visibility``, frames from 1; all frames labelled; flag 0 = ignore
===============================  =====================================================================================

Frame 0 is the first decoded frame everywhere else.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamdet.errors import ConfigError

__all__ = ["Found", "Labels", "read_frames_jsonl", "read_labels", "read_mot_results"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]
Names = NDArray[np.str_]

MOST_FRAMES = 20_000_000  # a week at 30 a second; a larger number is a mistake, and every frame up to it would be held
Number = Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """N rows of truth; ``frames`` are all labelled frames, also those in which nothing is to be found.

    Attributes:
        frames: (L,) i64 sorted.
        frame, id: (N,) i64; id -1 where the format has none.
        name: (N,) class names.
        centre: (N,2) px; wh: (N,2) px, 0 where only points are known.
        visible: (N,) bool; an object found at an invisible row's place is neither right nor wrong.
        format: which kind of file it was.
    """

    frames: I64
    frame: I64
    id: I64
    name: Names
    centre: F64
    wh: F64
    visible: Bool
    format: str = "rows"

    def __post_init__(self) -> None:
        n = len(self.frame)
        if not len(self.id) == len(self.name) == len(self.centre) == len(self.wh) == len(self.visible) == n:
            raise ValueError("columns of Labels disagree in length")

    def __len__(self) -> int:
        return len(self.frame)

    def between(self, first: int, end: int | None) -> Labels:
        """The labels of frames `first` to `end` - 1 (None: to the last); the others become unlabelled."""
        last = np.inf if end is None else end - 1
        rows = (self.frame >= first) & (self.frame <= last)
        frames = self.frames[(self.frames >= first) & (self.frames <= last)]
        return replace(self.rows(rows), frames=frames)

    def rows(self, chosen: I64 | Bool) -> Labels:
        """Only these targets, in this order; the labelled frames stay."""
        return replace(
            self,
            frame=self.frame[chosen],
            id=self.id[chosen],
            name=self.name[chosen],
            centre=self.centre[chosen],
            wh=self.wh[chosen],
            visible=self.visible[chosen],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """M objects of a run; ``frames`` (F,) i64 are all processed frames, ``pts_s`` (F,) their media times.

    ``track`` (M,) i64, 0 for tentative ones. ``cut_lines``: 1 if the last line of the file was incomplete. ``pictures``:
    file names of frames that were still pictures.
    """

    frames: I64
    pts_s: F64
    frame: I64
    track: I64
    score: F64
    xyxy: F64
    name: Names
    state: Names
    cut_lines: int = 0
    pictures: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frame)

    def rows(self, chosen: I64 | Bool) -> Found:
        """Only these objects, in this order; all frames stay."""
        return replace(
            self,
            frame=self.frame[chosen],
            track=self.track[chosen],
            score=self.score[chosen],
            xyxy=self.xyxy[chosen],
            name=self.name[chosen],
            state=self.state[chosen],
        )

    @property
    def centre(self) -> F64:
        return np.asarray((self.xyxy[:, :2] + self.xyxy[:, 2:]) / 2)

    @property
    def fps(self) -> float | None:
        """Frames per second of the media, from the time stamps; None if there are fewer than two."""
        if len(self.frames) < 2:
            return None
        order = np.argsort(self.frames, kind="stable")
        first, last = order[0], order[-1]
        span_s = float(self.pts_s[last] - self.pts_s[first])
        return float(self.frames[last] - self.frames[first]) / span_s if span_s > 0 else None


class _Object(msgspec.Struct):
    bbox: tuple[float, float, float, float]
    track: Number | None = 0
    state: str = ""
    label: str = ""
    score: float = 1.0


class _Line(msgspec.Struct, kw_only=True):
    frame: Number
    stream: str = ""
    pts_s: float = 0.0
    epoch: int = 0
    name: str | None = None
    objects: list[_Object]  # an event has none: it is no frame


def read_frames_jsonl(path: str | os.PathLike[str], *, stream: str | None = None) -> Found:
    """Read a ``frames.jsonl`` in one pass. A last line cut off in writing is left out (and counted).

    Raises ConfigError for a file that cannot be read, a bad line, several streams without `stream`, or no such stream.
    """
    decoder = msgspec.json.Decoder(_Line)
    lines: list[_Line] = []
    streams: set[str] = set()
    bad: tuple[int, str] | None = None
    try:
        with open(path, "rb") as file:
            for number, text in enumerate(file, 1):
                if bad is not None:
                    raise ConfigError(f"{path} line {bad[0]}: not a line of frames.jsonl ({bad[1]})")
                if not text.strip():
                    continue
                try:
                    line = decoder.decode(text)
                except msgspec.DecodeError as error:  # forgiven if it is the last one
                    bad = (number, str(error))
                    continue
                streams.add(line.stream)
                if stream in (None, line.stream):
                    lines.append(line)
    except OSError as error:
        raise ConfigError(f"cannot read results {path}: {error.strerror}; give the frames.jsonl of a run") from None
    if bad is not None and not streams:
        raise ConfigError(f"{path} line {bad[0]}: not a line of frames.jsonl ({bad[1]})")
    if not streams:
        raise ConfigError(f"results {path} hold no frames; give the frames.jsonl of a run")
    if stream is None and len(streams) > 1:
        raise ConfigError(f"{path} holds {len(streams)} streams ({', '.join(sorted(streams))}); choose one")
    if stream is not None and stream not in streams:
        raise ConfigError(f"{path} holds no stream '{stream}', only {', '.join(sorted(streams)) or 'none'}")
    return _columns(lines, cut_lines=int(bad is not None))


def _columns(lines: list[_Line], *, cut_lines: int) -> Found:
    rows = [(line.frame, thing) for line in lines for thing in line.objects]
    return Found(
        frames=np.array([line.frame for line in lines], np.int64),
        pts_s=np.array([line.pts_s for line in lines], np.float64),
        frame=np.array([frame for frame, _ in rows], np.int64),
        track=np.array([thing.track or 0 for _, thing in rows], np.int64),
        score=np.array([thing.score for _, thing in rows], np.float64),
        xyxy=np.array([thing.bbox for _, thing in rows], np.float64).reshape(-1, 4),
        name=np.array([thing.label for _, thing in rows], np.str_),
        state=np.array([thing.state for _, thing in rows], np.str_),
        cut_lines=cut_lines,
        pictures={line.frame: line.name for line in lines if line.name is not None},
    )


def read_mot_results(path: str | os.PathLike[str]) -> Found:
    """Read a MOTChallenge results file: ``frame,id,left,top,width,height,confidence,...``, frames from 1. Raises ConfigError."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read results {path}: {getattr(error, 'strerror', None) or 'not text'}; give a MOT file"
        ) from None
    rows: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            cells = [_finite(cell) for cell in line.split(",")[:7]]
            rows.append([*cells, *[1.0] * (7 - len(cells))] if len(cells) >= 6 else [_finite("")])
            if not 0 < cells[0] <= MOST_FRAMES or abs(cells[1]) > 2**53:
                raise ValueError(line)
        except ValueError:
            raise ConfigError(
                f"{path} line {number}: '{line.strip()[:80]}' does not fit frame,id,x,y,w,h,score (frames from 1)"
            ) from None
    table = np.array(rows, np.float64).reshape(-1, 7)
    frames = np.arange(int(table[:, 0].max()) if len(table) else 0)
    return Found(
        frames=frames,
        pts_s=np.zeros(len(frames)),
        frame=table[:, 0].astype(np.int64) - 1,
        track=table[:, 1].astype(np.int64),
        score=table[:, 6],
        xyxy=np.hstack([table[:, 2:4], table[:, 2:4] + table[:, 4:6]]),
        name=np.array([""] * len(table), np.str_),
        state=np.array([""] * len(table), np.str_),
    )


# --------------------------------------------------------------------------------------------------------------- labels


@dataclass(slots=True)
class _Rows:
    """Rows as they are read, before they become columns."""

    labelled: set[int] = field(default_factory=set)
    rows: list[tuple[int, int, str, float, float, float, float, bool]] = field(default_factory=list)

    def box(self, frame: int, id: int, name: str, xywh: Iterable[str], visible: bool) -> None:
        x, y, w, h = (_finite(value) for value in xywh)
        if min(w, h) < 0 or abs(id) > 2**53:
            raise ValueError(f"{w} {h} {id}")
        self._label(frame)
        self.rows.append((frame, id, name, x + w / 2, y + h / 2, w, h, visible))

    def point(self, frame: int, visible: bool, x: str, y: str) -> None:
        self._label(frame)
        if visible:
            self.rows.append((frame, -1, "", _finite(x), _finite(y), 0.0, 0.0, True))

    def _label(self, frame: int) -> None:
        if abs(frame) > MOST_FRAMES:
            raise ValueError(frame)
        self.labelled.add(frame)


def _loose(rows: _Rows, cells: list[str]) -> None:
    rows.box(int(cells[0]), -1, cells[1], cells[2:6], True)


def _boxes(rows: _Rows, cells: list[str]) -> None:
    rows.box(int(cells[0]), -1, cells[1], cells[2:6], _flag(cells[6]))


def _truth(rows: _Rows, cells: list[str]) -> None:
    rows.box(int(cells[0]), int(cells[1]), cells[2], cells[3:7], _flag(cells[7]))


def _points(rows: _Rows, cells: list[str]) -> None:
    rows.point(int(cells[0]), _flag(cells[1]), cells[2], cells[3])


def _named_points(rows: _Rows, cells: list[str]) -> None:
    rows.point(int(Path(cells[0]).stem), _flag(cells[1] or "0"), cells[2], cells[3])


def _mot(rows: _Rows, cells: list[str]) -> None:
    if len(cells) < 6:
        raise ValueError("expected frame,id,x,y,w,h,...")
    ignored = len(cells) > 6 and float(cells[6]) == 0
    rows.box(
        int(float(cells[0])) - 1, int(float(cells[1])), cells[7] if len(cells) > 7 else "", cells[2:6], not ignored
    )


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _flag(text: str) -> bool:
    return float(text) > 0


_Reader = Callable[[_Rows, list[str]], None]
_FORMATS: dict[str, tuple[str, _Reader]] = {
    "frame,class,x,y,w,h": ("loose boxes", _loose),
    "frame,class,x,y,w,h,visible": ("boxes", _boxes),
    "frame,id,class,x,y,w,h,visible": ("truth", _truth),
    "frame,visible,cx,cy": ("points", _points),
    "frame,visibility,x,y": ("points", _points),
    "file name,visibility,x-coordinate,y-coordinate": ("points", _named_points),
    "file name,visibility,x-coordinate,y-coordinate,status": ("points", _named_points),
}
_EVERY_FRAME = ("truth", "mot")


def read_labels(path: str | os.PathLike[str]) -> Labels:
    """Read a label file of any kind in this module's table, told apart by its first line. Raises ConfigError."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ConfigError(f"cannot read labels {path}: {reason}; give a CSV or gt.txt") from None
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise ConfigError(f"labels {path} are empty; the first line should be a header such as frame,class,x,y,w,h")
    kind, reader, skip = _format_of(lines[0][1], path)
    rows = _Rows()
    for number, line in lines[skip:]:
        cells = [cell.strip() for cell in next(csv.reader([line]))]
        try:
            reader(rows, cells)
        except (ValueError, IndexError, OverflowError):
            raise ConfigError(
                f"labels {path} line {number}: '{line.strip()[:80]}' does not fit the {kind} format"
            ) from None
    return _as_labels(rows, kind)


def _format_of(first: str, path: str | os.PathLike[str]) -> tuple[str, _Reader, int]:
    header = ",".join(cell.strip() for cell in first.lower().split(","))
    if header in _FORMATS:
        return *_FORMATS[header], 1
    if len(cells := header.split(",")) >= 6 and all(_is_number(cell) for cell in cells):
        return "mot", _mot, 0
    raise ConfigError(
        f"labels {path}: unknown header '{first.strip()[:80]}'; known are {'; '.join(_FORMATS)}; MOTChallenge gt.txt"
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _as_labels(rows: _Rows, kind: str) -> Labels:
    labelled = rows.labelled
    if kind in _EVERY_FRAME and labelled:
        labelled = set(range(0 if kind == "mot" else min(labelled), max(labelled) + 1))
    table = sorted(rows.rows, key=lambda row: row[:2])
    numbers = np.array([(*row[3:7],) for row in table], np.float64).reshape(-1, 4)
    return Labels(
        frames=np.array(sorted(labelled), np.int64),
        frame=np.array([row[0] for row in table], np.int64),
        id=np.array([row[1] for row in table], np.int64),
        name=np.array([row[2] for row in table], np.str_),
        centre=numbers[:, :2],
        wh=numbers[:, 2:],
        visible=np.array([row[7] for row in table], np.bool_),
        format=kind,
    )
