"""The whole configuration as one typed tree. Unknown key, wrong type or bad value = ConfigError with the path of the value.

A YAML file holds the same tree (``streamdet run --print-config``
prints it, ``streamdet config-schema`` its JSON Schema for editors);
the command line and :func:`streamdet.run` are thin layers that set its leaves.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from streamdet.errors import ConfigError

__all__ = [
    "Config",
    "DrawConfig",
    "Line",
    "MergeConfig",
    "ModelConfig",
    "MotionConfig",
    "OutputConfig",
    "RulesConfig",
    "SourceConfig",
    "TilesConfig",
    "TrackerConfig",
    "Zone",
    "json_schema",
    "load",
    "to_yaml",
    "with_values",
]

Ratio = Annotated[float, msgspec.Meta(ge=0, le=1)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
NonNegative = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Size = Annotated[int, msgspec.Meta(ge=1)]
Point = tuple[float, float]


class _Node(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class SourceConfig(_Node, frozen=True):
    """How sources are opened. Times in seconds."""

    open_timeout_s: Positive = 10.0
    read_timeout_s: Positive = 10.0
    rtsp_transport: Literal["tcp", "udp"] = "tcp"
    fps: Positive | None = None  # image sequences and `demo`; None: 25 for sequences, 30 for demo
    max_frames: Count = 0  # 0: all
    demo_size: str = "1920x1080"  # WIDTHxHEIGHT of `demo`
    demo_seconds: Positive = 10.0
    demo_movers: Size = 8
    seed: int = 1


class MotionConfig(_Node, frozen=True):
    """The motion model. Rates in seconds, sizes in px, levels in units of the measured noise."""

    threshold_sigma: Positive = 6.0
    min_level: Positive = 10.0  # grey levels: below this nothing moves, whatever the noise
    background_s: Positive = 2.0  # time constant of the running background
    compensate: Literal["auto", "off"] = "auto"  # align the preceding picture when the camera moves
    smallest_px: Positive = 2.0
    largest_px: Positive | None = (
        None  # larger movers are no detections of `--model motion`; None: height/12, at least 40
    )


class TilesConfig(_Node, frozen=True):
    """Where tiles lie and which are run in a frame."""

    tile: int | str = "auto"  # "auto", "none", px, or "WxH"
    overlap: NonNegative = 0.2  # below 1: share of the tile; else px
    look: Literal["auto", "all", "motion"] = "auto"
    sweep_s: Positive = 1.0  # with look=motion every tile is run at least once in this time
    whole_frame: bool = False  # add the whole frame as one more (coarse) tile
    smallest_px: Positive = 6.0  # smallest object wanted, for tile=auto
    roi: list[list[Point]] = []  # polygons, px or (all values <= 1) relative; empty: everywhere
    ignore: list[list[Point]] = []


class ModelConfig(_Node, frozen=True):
    """Which network and what is kept of its output."""

    name: str = "auto"  # a name from `streamdet models`, a path, or "motion"
    backend: Literal["auto", "onnxruntime", "openvino"] = "auto"
    device: str = "auto"
    threads: Count = 0  # 0: all cores
    conf: Ratio | dict[str, Ratio] | None = None  # None: the model card's threshold
    iou: Ratio = 0.5  # overlap above which two boxes of one network output are the same object
    classes: list[str] = []  # names or ids; empty: all
    rename: dict[str, str] = {}  # label -> new label; two labels renamed alike are merged
    max_detections: Size = 1000


class MergeConfig(_Node, frozen=True):
    """How copies of one object seen in several tiles become one row."""

    method: Literal["greedy_nmm", "nmm", "nms", "soft_nms", "fusion"] = "greedy_nmm"
    metric: Literal["ios", "iou", "nwd"] = "ios"
    threshold: Ratio = 0.5
    class_agnostic: bool = False
    soft_floor: Ratio = 0.2  # soft_nms: a box whose score decays below this is dropped


class TrackerConfig(_Node, frozen=True):
    """Identity over time. Times are media seconds."""

    high_score: Ratio | None = None  # None: set from the detector's threshold
    confirm_hits: Size = 3
    confirm_move_px: NonNegative = 8.0  # ... and either this net displacement
    confirm_score: Ratio = 0.6  # ... or this mean score
    coast_s: NonNegative = 0.3
    relink_s: NonNegative = 1.2
    max_speed_px_s: Positive = 6000.0
    class_agnostic: bool = True
    doubt: bool | None = (
        None  # show small things only while believed to be movers; None: if the detector looks at motion
    )


Anchor = Literal["center", "bottom_center", "top_center"]


class Zone(_Node, frozen=True):
    """A polygon (px, or relative if every value is <= 1) in which presence is reported."""

    name: str
    polygon: list[Point]
    classes: list[str] = []
    anchor: Anchor = "center"
    inertia: Size = 3  # frames inside (outside) before enter (leave) is believed
    dwell_s: list[Positive] = []  # a "dwell" event when a track has been inside this long


class Line(_Node, frozen=True):
    """A directed line from `start` to `end`; a track going to its right-hand side crosses "in", to its left "out"."""

    name: str
    start: Point
    end: Point
    classes: list[str] = []
    anchor: Anchor = "center"
    hysteresis_px: NonNegative = 2.0


class RulesConfig(_Node, frozen=True):
    update_s: Positive = 1.0  # an "update" event this often while a track lives
    path_points: Size = 500  # longest path kept in an event
    zones: list[Zone] = []
    lines: list[Line] = []
    px_per_m: Positive | None = None


class DrawConfig(_Node, frozen=True):
    trail_s: NonNegative = 1.0
    labels: bool = True
    status: bool = True
    magnifier: bool = False
    tiles: bool = False


class OutputConfig(_Node, frozen=True):
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


class Config(_Node, frozen=True):
    """Everything a run needs."""

    sources: list[str] = []
    source: SourceConfig = SourceConfig()
    motion: MotionConfig = MotionConfig()
    tiles: TilesConfig = TilesConfig()
    model: ModelConfig = ModelConfig()
    merge: MergeConfig = MergeConfig()
    tracker: TrackerConfig = TrackerConfig()
    rules: RulesConfig = RulesConfig()
    draw: DrawConfig = DrawConfig()
    output: OutputConfig = OutputConfig()


def load(path: str | os.PathLike[str]) -> Config:
    """Read a YAML file; ``${NAME}`` in it is replaced by the environment variable. Raises ConfigError."""
    import yaml

    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read configuration {file}: {getattr(error, 'strerror', None) or error}") from None
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{file}{where}: not valid YAML ({getattr(error, 'problem', error)})") from None
    return from_tree(_expand(tree or {}, str(file)), origin=str(file))


def from_tree(tree: Any, *, origin: str = "configuration") -> Config:
    """Validate a plain tree of dicts and lists. Raises ConfigError naming `origin` and the path of the bad value."""
    _refuse_nan(tree, origin, "")
    try:
        return msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{origin}: {_readable(str(error))}") from None


def _refuse_nan(tree: Any, origin: str, path: str) -> None:
    if isinstance(tree, float) and not math.isfinite(tree):
        raise ConfigError(f"{origin}: {path}: {tree} is not a number that can be used")
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else ()
    for key, value in items:
        _refuse_nan(value, origin, f"{path}.{key}" if path else str(key))


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """A copy with dotted leaves set: ``{"tiles.look": "all"}``. Raises ConfigError for an unknown path or a bad value."""
    tree = msgspec.to_builtins(config)
    for dotted, value in values.items():
        node, parts = tree, dotted.split(".")
        for depth, part in enumerate(parts):
            if not isinstance(node, dict) or (part not in node and not _is_free_form(parts[:depth])):
                raise ConfigError(
                    f"no setting called '{dotted}'{_did_you_mean(part, node)}; `--print-config` lists them all"
                )
            if depth == len(parts) - 1:
                node[part] = value
            else:
                node = node[part]
    return from_tree(tree, origin="settings")


def to_yaml(config: Config) -> str:
    import yaml

    text: str = yaml.safe_dump(msgspec.to_builtins(config), sort_keys=False, default_flow_style=None, width=110)
    return text


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a configuration file, for editors."""
    schema = msgspec.json.schema(Config)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "streamdet configuration", **schema}


def _is_free_form(path: list[str]) -> bool:
    return path == ["model", "rename"]


def _did_you_mean(part: str, node: Any) -> str:
    import difflib

    close = difflib.get_close_matches(part, list(node) if isinstance(node, dict) else [], 1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def _readable(message: str) -> str:
    """msgspec says "Object contains unknown field `x` - at `$.tiles`": turn it into the user's words."""
    text, _, path = message.partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    text = text.replace("Object contains unknown field", "unknown key").replace(
        "Object missing required field", "missing key"
    )
    return f"{path}: {text}" if path else text


_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def _expand(tree: Any, origin: str) -> Any:
    if isinstance(tree, dict):
        return {key: _expand(value, origin) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_expand(value, origin) for value in tree]
    if not isinstance(tree, str):
        return tree

    def value_of(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            raise ConfigError(f"{origin}: environment variable {name} is used but not set")
        return os.environ[name]

    return _VARIABLE.sub(value_of, tree)
