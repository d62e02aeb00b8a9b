"""The words of the command line: options, what they set in the configuration, and how their values are read."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any

from streamdet.config import Config, load, with_values
from streamdet.errors import UsageError

__all__ = ["Help", "add_demo", "add_run", "assignment", "config_of", "pairs_of", "span_of"]

EXAMPLES = """examples:
  streamdet run match.mp4                          film, frames and events in runs/match
  streamdet run match.mp4 --model yolo.onnx --tile 640 --output out
  streamdet run rtsp://camera/1 --events -         events on standard output
  streamdet run rtsp://camera/1 --events mqtt://broker/site   events to an MQTT broker
  streamdet run photos/ --model yolo.onnx          annotated pictures
"""


def add_run(commands: Any, name: str, text: str, command: Callable[[argparse.Namespace], int]) -> None:
    sub = commands.add_parser(name, help=text, description=text, epilog=EXAMPLES, formatter_class=Help)
    sub.add_argument(
        "sources",
        nargs="*",
        metavar="SOURCE",
        help="file, image, PDF, folder, glob, img_%%04d.png, 0, /dev/video0, URL, demo",
    )
    _add_settings(sub)
    if name == "bench":
        sub.add_argument("--json", metavar="FILE", help="write the record there ('-': standard output)")
    sub.set_defaults(command=command)


class Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=110)


# option -> leaf of the configuration
LEAVES = {
    "model": "model.name",
    "backend": "model.backend",
    "device": "model.device",
    "iou": "model.iou",
    "max_det": "model.max_detections",
    "threads": "model.threads",
    "precision": "model.precision",
    "tile": "tiles.tile",
    "overlap": "tiles.overlap",
    "look": "tiles.look",
    "smallest": "tiles.smallest_px",
    "whole_frame": "tiles.whole_frame",
    "upscale": "tiles.upscale",
    "max_frames": "source.max_frames",
    "give_up": "live.give_up_s",
    "dpi": "source.dpi",
    "output": "output.dir",
    "video": "output.video",
    "frames": "output.frames",
    "events": "output.events",
    "mot": "output.mot",
    "coco": "output.coco",
    "no_video": "output.no_video",
    "magnifier": "draw.magnifier",
    "draw_tiles": "draw.tiles",
    "clips": "record.dir",
    "push": "broadcast.push",
    "hls": "broadcast.hls",
    "segments": "broadcast.segments",
}


def _add_settings(sub: argparse.ArgumentParser) -> None:
    model = sub.add_argument_group("what is looked for")
    model.add_argument("--model", metavar="NAME|PATH", help="one of `streamdet models`, `motion`, or any .onnx file")
    model.add_argument(
        "--conf", metavar="X|NAME:X,..", help="score threshold, one or by class: 0.25 or ball:0.4,person:0.3"
    )
    model.add_argument("--classes", metavar="NAME,..", help="keep only these classes (names or ids)")
    model.add_argument("--rename", metavar="OLD:NEW,..", help="rename classes; two renamed alike become one")
    model.add_argument(
        "--iou", type=float, metavar="X", help="overlap above which boxes of one network output are one object"
    )
    model.add_argument("--max-det", type=int, metavar="N", help="at most so many detections per frame")
    model.add_argument(
        "--backend", choices=("auto", "onnxruntime", "openvino", "tensorrt"), help="auto: the fastest one here"
    )
    model.add_argument(
        "--device", metavar="auto|cpu|cuda:0", help="where the network runs (auto: a GPU if all is there)"
    )
    model.add_argument("--threads", type=int, metavar="N", help="CPU threads for the network (default: all cores)")
    model.add_argument(
        "--precision",
        choices=("auto", "fp32"),
        help="of the network's arithmetic (auto: bf16 on a CPU that has it, if the boxes stay where they are; fp16 on a GPU)",
    )
    tiles = sub.add_argument_group("where it looks")
    tiles.add_argument(
        "--tile",
        metavar="auto|none|640|960x540",
        help="tile size in px of the frame; auto also joins tiles where the network bears it",
    )
    tiles.add_argument("--overlap", type=float, metavar="X", help="of tiles: share below 1, px from 1 (default 0.2)")
    tiles.add_argument("--look", choices=("auto", "all", "motion"), help="which tiles are run in a frame")
    tiles.add_argument("--smallest", type=float, metavar="PX", help="smallest object wanted, for --tile auto")
    tiles.add_argument(
        "--whole-frame", action="store_true", default=None, help="add the whole frame as one coarse tile"
    )
    tiles.add_argument(
        "--upscale",
        metavar="2|4|SR.onnx",
        help="look again, magnified, where objects are under 8 px (files and stills)",
    )
    out = sub.add_argument_group("what is written")
    out.add_argument(
        "--output", metavar="DIR", help="folder for film, frames, events and summary.json (default runs/NAME)"
    )
    out.add_argument("--video", metavar="FILE", help="annotated film (.mp4 .mkv .mov), or picture for a still")
    out.add_argument("--frames", metavar="FILE|-", help="one JSON line per frame")
    out.add_argument(
        "--events",
        action="append",
        metavar="FILE|-|URL",
        help="one JSON line per event; or whom to tell: mqtt://HOST/PREFIX, mqtts://, https://, kafka://, postgresql://",
    )
    out.add_argument("--mot", metavar="FILE", help="MOTChallenge text")
    out.add_argument("--coco", metavar="FILE", help="COCO results JSON")
    out.add_argument("--clips", metavar="DIR", help="a clip and a snapshot of every event (settings: record.*)")
    out.add_argument(
        "--push", metavar="URL", action="append", help="send the annotated stream to an rtsp:// or rtmp:// server"
    )
    out.add_argument("--hls", metavar="DIR", help="annotated stream for browsers: DIR/NAME/live.m3u8")
    out.add_argument("--segments", metavar="DIR", help="annotated stream as films of a minute (broadcast.segment_s)")
    out.add_argument("--no-video", action="store_true", default=None, help="with --output: no film, no pictures")
    out.add_argument("--show", action="store_true", help="watch it in a window (q ends)")
    out.add_argument("--magnifier", action="store_true", default=None, help="inset with the best small object enlarged")
    out.add_argument("--draw-tiles", action="store_true", default=None, help="draw the tiles that were run")
    rest = sub.add_argument_group("settings")
    rest.add_argument("--max-frames", type=int, metavar="N", help="stop after N frames of each source")
    rest.add_argument("--dpi", type=float, metavar="N", help="at which PDF pages are drawn (default 200)")
    rest.add_argument(
        "--give-up", type=float, metavar="S", help="end when a live stream has been gone for S seconds (default: never)"
    )
    rest.add_argument("--config", metavar="FILE.yaml", help="configuration file; options override it")
    rest.add_argument(
        "--set", action="append", default=[], metavar="A.B=C", help="any setting by its path, e.g. tiles.sweep_s=2"
    )
    rest.add_argument("--print-config", action="store_true", help="print the configuration that results, and stop")
    rest.add_argument("-q", "--quiet", action="store_true", help="no progress, no summary")
    rest.add_argument("-v", "--verbose", action="count", default=0, help="say more (-vv: everything)")


def add_demo(commands: Any, command: Callable[[argparse.Namespace], int]) -> None:
    text = "the main job on a built-in rendered scene with known truth; prints recall, precision and speed"
    sub = commands.add_parser("demo", help=text, description=text, formatter_class=Help)
    sub.add_argument("--size", metavar="WxH", help="size of the scene (default 1920x1080)")
    sub.add_argument("--seconds", type=float, metavar="S", help="length of the scene (default 10)")
    sub.add_argument("--movers", type=int, metavar="N", help="small objects in it (default 8)")
    sub.add_argument("--seed", type=int, metavar="N", help="another scene")
    sub.add_argument("--json", metavar="FILE", help="write scores and speed there ('-': standard output)")
    _add_settings(sub)
    sub.set_defaults(command=command, sources=["demo"])


def span_of(text: str | None) -> tuple[int, int | None]:
    """``A:B`` -> first frame and end (None: to the last). Raises UsageError."""
    first, _, end = (text or ":").partition(":")
    if (text and ":" not in text) or not all(part.isdecimal() or not part for part in (first, end)):
        raise UsageError(f"--span {text}: give frame numbers as A:B, e.g. 0:120, 60: or :120")
    return int(first or 0), int(end) if end else None


def config_of(arguments: argparse.Namespace) -> Config:
    base = load(arguments.config) if arguments.config else Config()
    values: dict[str, Any] = {
        leaf: getattr(arguments, name) for name, leaf in LEAVES.items() if getattr(arguments, name) is not None
    }
    if arguments.sources:
        values["sources"] = arguments.sources
    if arguments.conf is not None:
        values["model.conf"] = _conf(arguments.conf)
    if arguments.classes is not None:
        values["model.classes"] = [name.strip() for name in arguments.classes.split(",") if name.strip()]
    if arguments.rename is not None:
        values["model.rename"] = dict(pairs_of(arguments.rename, "--rename"))
    return with_values(base, {**values, **dict(assignment(text) for text in arguments.set)})


def _conf(text: str) -> float | dict[str, float]:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return {name: float(value) for name, value in pairs_of(text, "--conf")}
    except (ValueError, UsageError):
        raise UsageError(f"--conf {text}: expected a number or NAME:NUMBER,.. as in ball:0.4,person:0.3") from None


def pairs_of(text: str, option: str) -> list[tuple[str, str]]:
    """``A:B,C:D`` as given to `option`. Raises UsageError."""
    pairs = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        left, colon, right = part.rpartition(":")
        if not colon or not left:
            raise UsageError(f"{option} {text}: expected A:B,.. and found '{part}'")
        pairs.append((left.strip(), right.strip()))
    return pairs


def assignment(text: str) -> tuple[str, Any]:
    """``PATH=VALUE`` of ``--set``: a leaf and its value, read as YAML. Raises UsageError."""
    import yaml

    path, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set {text}: expected PATH=VALUE, as in tiles.sweep_s=2")
    try:
        read = yaml.safe_load(value)
        if isinstance(read, str) and re.fullmatch(r"[-+]?[0-9.]+[eE][-+]?[0-9]+", read):  # YAML 1.1 wants 1.0e-3
            read = float(read)
        return path.strip(), read
    except yaml.YAMLError:
        raise UsageError(f"--set {text}: the value is not valid YAML") from None
