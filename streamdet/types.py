"""The nouns: what flows down the line, one frame at a time.

Origin is top-left, x right, y down, pixel *edges* (width = x2 - x1). Every box outside ``detectors/`` is in full-frame
pixels of the upright, square-pixel picture a player would show. All arrays handed out are read-only by agreement; those
marked *valid until the maker's next call* may be reused by their maker. Picture, TilePlan, Detections and Event are long enough
for files of their own; all nouns are imported from here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from streamdet.arrays import F32, I16, I32, I64, U8, Bool
from streamdet.detections import STANDING, Detections
from streamdet.event import SCHEMA, Event, EventType, StoredEvent
from streamdet.picture import DeviceArray, DevicePlane, DevicePlanes, Matrix, MotionPlanes, Picture, Windows
from streamdet.tileplan import WHY_ALL, WHY_MOTION, WHY_NAMES, WHY_SMALL, WHY_SWEEP, WHY_TRACK, TilePlan

__all__ = [
    "COASTING",
    "CONFIRMED",
    "F32",
    "FAINT_SHARE",
    "I16",
    "I32",
    "I64",
    "SCHEMA",
    "STANDING",
    "STATE_NAMES",
    "TENTATIVE",
    "U8",
    "WEAK_SHARE",
    "WHY_ALL",
    "WHY_MOTION",
    "WHY_NAMES",
    "WHY_SMALL",
    "WHY_SWEEP",
    "WHY_TRACK",
    "Bool",
    "Detections",
    "DeviceArray",
    "DevicePlane",
    "DevicePlanes",
    "Event",
    "EventType",
    "Frame",
    "Matrix",
    "Motion",
    "MotionPlanes",
    "MotionState",
    "Picture",
    "Result",
    "SourceInfo",
    "StoredEvent",
    "TileBatch",
    "TilePlan",
    "Tracks",
    "Windows",
]

WEAK_SHARE = 0.4  # detections down to this share of their threshold keep known tracks alive
FAINT_SHARE = 0.1  # ... and down to this one may be what a mover's way back leads to

# ---------------------------------------------------------------------------------------------------------------- Frame


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded picture with honest time.

    Attributes:
        stream: name of the stream it came from.
        index: 0-based count of *decoded* frames of this stream; a gap shows dropped frames.
        pts, time_base: as in the container (None where it says nothing).
        pts_s: media time in seconds from the first frame of the epoch; strictly what physics uses.
        epoch: +1 at every reconnect; media time may restart with it.
        captured_s: ``time.monotonic()`` when the frame left the decoder; latency is measured from it.
        utc: wall clock at that moment, ISO 8601 with ``Z``; None for frames of a file (their time is media time).
        still: an image on its own (no neighbour in time): no motion, no tracking.
        name: file name of a still; None for video.
        page: which page of the PDF of that name it is, 0-based; None if it is of no PDF.
        dropped: frames of a live stream that were skipped before this one, in all, because newer ones had come.
    """

    stream: str
    index: int
    pts_s: float
    picture: Picture = field(repr=False)
    captured_s: float
    pts: int | None = None
    time_base: Fraction | None = None
    epoch: int = 0
    utc: str | None = None
    still: bool = False
    name: str | None = None
    page: int | None = None
    dropped: int = 0

    @property
    def wh(self) -> tuple[int, int]:
        return self.picture.wh


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What is known of a source once it is open. `uri` is already redacted. Unknown numbers are None."""

    stream: str
    uri: str
    frame_wh: tuple[int, int] | None
    fps: float | None = None
    live: bool = False
    still: bool = False
    frame_count: int | None = None
    duration_s: float | None = None
    path: str | None = None  # local media file: sinks copy its audio from here


# --------------------------------------------------------------------------------------------------------------- Motion

MotionState = Literal["first", "steady", "repeat", "exposure", "cut", "moving"]


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """What changed in a frame, at native resolution. *Planes are valid until the motion model's next call.*

    The signed differences are never stored: a caller that looks at a tile asks for that tile only.

    Attributes:
        luma: (H,W) u8, this frame (the very plane of its Picture); (0,0) of a windowed picture, which holds none, and where
            the planes are on_device.
        previous: (H,W) u8 preceding distinct decoded frame, aligned onto this one if the camera moved; None if there is
            none to compare with (first frame, cut, size change).
        before_previous: the one before that, aligned likewise, or None.
        background: (H,W) u8 running background *before* this frame was added, or None while there is none.
        regions: (R,4) f32 px boxes round what moves, tight.
        strength: (R,) f32 in 0..1, how surely the region is a mover and not noise.
        state: "first", "steady", "repeat" (exact repeat of the preceding frame: hold everything), "exposure" (whole
            picture jumped in brightness), "cut" (new scene), "moving" (camera shakes or pans; planes are aligned).
        shift_xy: px the scene moved since the preceding frame (0, 0 for a still camera).
        dt_s: media seconds since the preceding distinct frame; 0 on the first.
        noise: robust standard deviation of the frame-to-frame difference, in grey levels.
        on_device: where the planes lie if they were left on the GPU; the four planes above are then empty or None.
    """

    luma: U8 = field(repr=False)
    previous: U8 | None = field(default=None, repr=False)
    before_previous: U8 | None = field(default=None, repr=False)
    background: U8 | None = field(default=None, repr=False)
    regions: F32 = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    strength: F32 = field(default_factory=lambda: np.zeros(0, np.float32))
    state: MotionState = "first"
    shift_xy: tuple[float, float] = (0.0, 0.0)
    dt_s: float = 0.0
    noise: float = 0.0
    on_device: MotionPlanes | None = field(default=None, repr=False)

    def difference(self, xyxy: Sequence[int] | None = None) -> I16:
        """Y(t) - Y(t-1), signed, (h,w) i16 of the int box `xyxy` inside the frame (None: all of it). 0 if unknown."""
        return _signed(self.luma, self.previous, xyxy)

    def background_difference(self, xyxy: Sequence[int] | None = None) -> I16:
        """Y(t) - background, as :meth:`difference`."""
        return _signed(self.luma, self.background, xyxy)


def _signed(now: U8, then: U8 | None, xyxy: Sequence[int] | None) -> I16:
    if xyxy is not None:
        x1, y1, x2, y2 = xyxy
        now = now[y1:y2, x1:x2]
        then = None if then is None else then[y1:y2, x1:x2]
    if then is None:
        return np.zeros(now.shape, np.int16)
    return np.subtract(now, then, dtype=np.int16)


# ---------------------------------------------------------------------------------------------------------------- Tiles


@dataclass(frozen=True, slots=True, eq=False)
class TileBatch:
    """Network input for the tiles of one frame. *Valid until the packer's next call.*

    Attributes:
        data: (T, C, h, w) f32 or f16 (or u8 for networks that take it); may be NHWC if the model says so. A numpy array, or
            a DeviceArray from a packer that works on the GPU.
        tiles: the T rows of the plan it was packed from.
        frame, motion: what it was packed from (a detector without a network reads these instead of `data`).
    """

    data: Any = field(repr=False)
    tiles: TilePlan
    frame: Frame
    motion: Motion


# --------------------------------------------------------------------------------------------------------------- Tracks

TENTATIVE, CONFIRMED, COASTING = 0, 1, 2
STATE_NAMES = ("tentative", "confirmed", "coasting")


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """M rows, identity over time.

    ``id`` (M,) i64 public number, 1.. in order of confirmation, unique per stream; 0 while tentative. ``key`` (M,) i64
    unique per stream from a track's first hit, never 0: links a confirmed track to its tentative rows. ``xyxy`` (M,4) f32
    px. ``velocity_xy`` (M,2) f32 px/s. ``score`` (M,) f32 of the last hit. ``label`` (M,) i32. ``state`` (M,) u8
    TENTATIVE | CONFIRMED | COASTING. ``age_s`` (M,) f32 since the first hit. ``detection_row`` (M,) i32 row of this
    frame's merged Detections (-1: coasting, or kept alive by one below the threshold). ``ended`` (E,) i64 keys of tracks that
    ceased to exist in this frame (in none of the rows; tentative ones too). ``seen_row`` (M,) i32: as detection_row, but also
    of rows that were seen and are not told as such (tentative while in doubt; None: the same). ``held`` (M,) the detection it was
    hit by stands from an earlier frame (None: none does). ``joined`` (K,2) i64: keys among `ended` that turned out to be another
    track, and the key of that one.
    """

    id: I64
    key: I64
    xyxy: F32
    velocity_xy: F32
    score: F32
    label: I32
    state: U8
    age_s: F32
    detection_row: I32
    ended: I64 = field(default_factory=lambda: np.zeros(0, np.int64))
    seen_row: I32 | None = None
    joined: I64 = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    held: Bool | None = None

    @staticmethod
    def empty() -> Tracks:
        return Tracks(
            np.zeros(0, np.int64),
            np.zeros(0, np.int64),
            np.zeros((0, 4), np.float32),
            np.zeros((0, 2), np.float32),
            np.zeros(0, np.float32),
            np.zeros(0, np.int32),
            np.zeros(0, np.uint8),
            np.zeros(0, np.float32),
            np.zeros(0, np.int32),
        )

    def __len__(self) -> int:
        return len(self.id)

    def __getitem__(self, rows: Any) -> Tracks:
        return replace(
            self,
            id=self.id[rows],
            key=self.key[rows],
            xyxy=self.xyxy[rows],
            velocity_xy=self.velocity_xy[rows],
            score=self.score[rows],
            label=self.label[rows],
            state=self.state[rows],
            age_s=self.age_s[rows],
            detection_row=self.detection_row[rows],
            seen_row=None if self.seen_row is None else self.seen_row[rows],
            held=None if self.held is None else self.held[rows],
        )

    @property
    def seen(self) -> Bool:
        """(M,) hit by a detection in this frame, told or not."""
        return np.asarray((self.detection_row if self.seen_row is None else self.seen_row) >= 0)

    @property
    def shown(self) -> Tracks:
        """Without the tentative ones: what a user is told about."""
        return self[self.state != TENTATIVE]

    @property
    def weak(self) -> Bool:
        """(M,) confirmed, but seen in this frame only by a detection below the threshold."""
        return np.asarray((self.state == CONFIRMED) & (self.detection_row < 0))

    def __repr__(self) -> str:
        return f"Tracks({len(self)} rows)"


# ------------------------------------------------------------------------------------------------------ ----------- Result


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """All that is known of one processed frame: the one record every sink receives.

    ``labels``: class names, indexed by class id. ``tiles``: rows that were run (None without a network).
    ``timings_s``: seconds spent per stage. ``dropped``: frames of this stream dropped so far.
    """

    frame: Frame
    detections: Detections
    tracks: Tracks
    events: tuple[Event, ...] = ()
    tiles: TilePlan | None = None
    motion_state: MotionState = "first"
    labels: tuple[str, ...] = ()
    timings_s: dict[str, float] = field(default_factory=dict)
    dropped: int = 0
    painter: Callable[[Result], U8] | None = field(default=None, repr=False)
    painted: list[U8] = field(default_factory=list, repr=False)

    def annotated(self) -> U8:
        """(H, W, 3) u8 BGR with boxes, labels, trails, zones. Drawn on the first call and kept."""
        if not self.painted:
            if self.painter is None:
                raise ValueError("this Result was made without a painter")
            self.painted.append(self.painter(self))
        return self.painted[0]

    def label_name(self, label: int) -> str:
        return self.labels[label] if 0 <= label < len(self.labels) else str(label)
