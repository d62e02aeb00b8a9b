"""The nodes of a run's configuration: every setting, its type, unit and default. :mod:`streamdet.config.whole` joins them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

__all__ = [
    "Anchor",
    "Count",
    "DrawConfig",
    "Line",
    "MergeConfig",
    "ModelConfig",
    "MotionConfig",
    "Node",
    "NonNegative",
    "OutputConfig",
    "Point",
    "Positive",
    "Ratio",
    "RulesConfig",
    "Size",
    "SourceConfig",
    "TilesConfig",
    "TrackerConfig",
    "Zone",
]

Ratio = Annotated[float, msgspec.Meta(ge=0, le=1)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
NonNegative = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Size = Annotated[int, msgspec.Meta(ge=1)]
Point = tuple[float, float]


class Node(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A branch of the tree: immutable, and a key it does not know is an error."""


class SourceConfig(Node, frozen=True):
    """How sources are opened. Times in seconds."""

    open_timeout_s: Positive = 10.0
    read_timeout_s: Positive = 10.0
    rtsp_transport: Literal["tcp", "udp"] = "tcp"
    hwaccel: Literal["auto", "cuda", "off"] = "auto"  # who decodes; auto: the GPU if the network runs on one
    fps: Positive | None = None  # image sequences and `demo`; None: 25 for sequences, 30 for demo
    max_frames: Count = 0  # 0: all
    demo_size: str = "1920x1080"  # WIDTHxHEIGHT of `demo`
    demo_seconds: Positive = 10.0
    demo_movers: Size = 8
    seed: int = 1
    dpi: Annotated[float, msgspec.Meta(gt=0, le=2400)] = 200.0  # at which pages of a PDF are drawn
    fetch_bytes: Size = 268_435_456  # largest picture fetched from an http(s) address
    fetch_timeout_s: Positive = 60.0  # ... and the longest it may take


class MotionConfig(Node, frozen=True):
    """The motion model. Rates in seconds, sizes in px, levels in units of the measured noise."""

    threshold_sigma: Positive = 6.0
    min_level: Positive = 10.0  # grey levels: below this nothing moves, whatever the noise
    background_s: Positive = 2.0  # time constant of the running background
    compensate: Literal["auto", "off"] = "auto"  # align the preceding picture when the camera moves
    smallest_px: Positive = 2.0
    largest_px: Positive | None = (
        None  # larger movers are no detections of `--model motion`; None: height/12, at least 40
    )


class TilesConfig(Node, frozen=True):
    """Where tiles lie and which are run in a frame."""

    tile: int | str = "auto"  # "auto" (also joins tiles where the network bears it), "none", px, or "WxH"
    overlap: NonNegative = 0.2  # below 1: share of the tile; else px
    look: Literal["auto", "all", "motion"] = "auto"
    sweep_s: Positive = (
        1.0  # look=motion: every tile is run so often; where standing things count, so long after a first stir
    )
    still_sweep_s: Positive = 4.0  # ... and so often anyway
    collage: Literal["auto", "on", "off"] = "auto"  # with look=motion: several moving pieces share one network input
    whole_frame: bool = False  # add the whole frame as one more (coarse) tile
    smallest_px: Positive = 6.0  # smallest object wanted, for tile=auto
    upscale: int | str | None = None  # 2 or 4 (bicubic), or a super-resolution .onnx: finer tiles round what is small
    upscale_below_px: Positive = 8.0  # small: shorter than this in the network's input
    roi: list[list[Point]] = []  # polygons, px or (all values <= 1) relative; empty: everywhere
    ignore: list[list[Point]] = []


class ModelConfig(Node, frozen=True):
    """Which network and what is kept of its output."""

    name: str = "auto"  # a name from `streamdet models`, a path, or "motion"
    backend: Literal["auto", "onnxruntime", "openvino", "tensorrt"] = "auto"
    device: str = "auto"
    threads: Count = 0  # 0: all cores
    precision: Literal["auto", "fp32"] = (
        "auto"  # auto: bf16 where the processor has it and the boxes stay where they are
    )
    conf: Ratio | dict[str, Ratio] | None = None  # None: the model card's threshold
    iou: Ratio = 0.5  # overlap above which two boxes of one network output are the same object
    classes: list[str] = []  # names or ids; empty: all
    rename: dict[str, str] = {}  # label -> new label; two labels renamed alike are merged
    max_detections: Size | None = None  # the best; None: 1,000 of a frame of film, 100,000 of a still


class MergeConfig(Node, frozen=True):
    """How copies of one object seen in several tiles become one row."""

    method: Literal["greedy_nmm", "nmm", "nms", "soft_nms", "fusion"] = "greedy_nmm"
    metric: Literal["ios", "iou", "nwd"] = "ios"
    threshold: Ratio = 0.5
    class_agnostic: bool = False
    soft_floor: Ratio = 0.2  # soft_nms: a box whose score decays below this is dropped


class TrackerConfig(Node, frozen=True):
    """Identity over time. Times are media seconds."""

    high_score: Ratio | None = None  # None: set from the detector's threshold
    confirm_hits: Size = 3
    confirm_move_px: NonNegative = 8.0  # ... and either this net displacement
    confirm_score: Ratio = 0.6  # ... or this mean score
    coast_s: NonNegative = 0.3
    relink_s: NonNegative = 1.2
    max_speed_px_s: Positive = 6000.0
    class_agnostic: bool = True
    look_back: Count | None = (
        None  # frames after which a recording's tracks are told; None: 0.2 s, at least 6; a live stream's: at once
    )
    doubt: bool | None = (
        None  # show small things only while believed to be movers; None: if the detector looks at motion
    )


Anchor = Literal["center", "bottom_center", "top_center"]


class Zone(Node, frozen=True):
    """A polygon (px, or relative if every value is <= 1) in which presence is reported."""

    name: str
    polygon: list[Point]
    classes: list[str] = []
    anchor: Anchor = "center"
    inertia: Size = 3  # frames inside (outside) before enter (leave) is believed
    dwell_s: list[Positive] = []  # a "dwell" event when a track has been inside this long


class Line(Node, frozen=True):
    """A directed line from `start` to `end`; a track going to its right-hand side crosses "in", to its left "out"."""

    name: str
    start: Point
    end: Point
    classes: list[str] = []
    anchor: Anchor = "center"
    hysteresis_px: NonNegative = 2.0


class RulesConfig(Node, frozen=True):
    update_s: Positive = 1.0  # an "update" event this often while a track lives
    path_points: Size = 500  # longest path kept in an event
    zones: list[Zone] = []
    lines: list[Line] = []
    px_per_m: Positive | None = None


class DrawConfig(Node, frozen=True):
    trail_s: NonNegative = 1.0
    labels: bool = True
    status: bool = True
    magnifier: bool = False
    tiles: bool = False


class OutputConfig(Node, frozen=True):
    """What is written. None/False: not written. `dir` sets video, frames, events and summary at once."""

    dir: str | None = None
    video: str | None = None
    frames: str | None = None  # path or "-"
    events: str | None = None
    summary: str | None = None
    mot: str | None = None
    coco: str | None = None
    no_video: bool = False
    audio: bool = True
    crf: Annotated[int, msgspec.Meta(ge=0, le=51)] = 23
    tentative: bool = False  # also list objects not confirmed yet
