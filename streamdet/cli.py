"""The command line: words to a Config, Results to a progress bar, errors to one sentence and an exit code."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamdet import __version__
from streamdet.errors import EXIT_DONE, EXIT_INTERRUPTED, DependencyError, StreamdetError, UsageError, redact

if TYPE_CHECKING:
    from streamdet.api import Run
    from streamdet.config import Config
    from streamdet.types import Result

__all__ = ["main"]

log = logging.getLogger("streamdet")

EXAMPLES = """examples:
  streamdet run match.mp4                          film, frames and events in runs/match
  streamdet run match.mp4 --model yolo.onnx --tile 640 --output out
  streamdet run rtsp://camera/1 --events -         events on standard output
  streamdet run photos/ --model yolo.onnx          annotated pictures
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (0 done, 2 usage, 3 start-up failed, 4 stream lost, 130 interrupted)."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(
        level=(logging.WARNING, logging.INFO, logging.DEBUG)[min(arguments.verbose, 2)],
        format="%(levelname)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        command: Callable[[argparse.Namespace], int] = arguments.command
        return command(arguments)
    except StreamdetError as error:
        print(f"streamdet: {redact(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `streamdet ... | head`: the reader has had enough
        sys.stderr.close()
        return EXIT_DONE


def _check_opencv() -> None:
    """OpenCV's wheel needs a few system libraries: say which line brings them."""
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        hint = "`apt-get install -y libgl1 libglib2.0-0` (Debian, Ubuntu) or `dnf install mesa-libGL glib2` (Fedora)"
        raise DependencyError(f"OpenCV cannot be loaded ({error}); install what it needs: {hint}") from None


# --------------------------------------------------------------------------------------------------------------- words


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="streamdet",
        description="Detect and track small fast objects in video and camera feeds.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"streamdet {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_run(commands, "run", "the main job: SOURCE in, annotated film and JSON out", _run)
    _add_run(commands, "bench", "where the time goes: fps, per-stage p50/p95, tiles, drops", _bench)
    _add_demo(commands)
    _add_eval(commands)
    for name, text, command in (
        ("models", "the models that come with streamdet", _models),
        ("info", "what this machine can do, and why not", _info),
        ("config-schema", "JSON Schema of the configuration file", _config_schema),
    ):
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command, verbose=0)
    return parser


def _add_run(commands: Any, name: str, text: str, command: Callable[[argparse.Namespace], int]) -> None:
    sub = commands.add_parser(name, help=text, description=text, epilog=EXAMPLES, formatter_class=_Help)
    sub.add_argument(
        "sources",
        nargs="*",
        metavar="SOURCE",
        help="file, image, folder, glob, img_%%04d.png, 0, /dev/video0, URL, demo",
    )
    _add_settings(sub)
    if name == "bench":
        sub.add_argument("--json", metavar="FILE", help="write the record there ('-': standard output)")
    sub.set_defaults(command=command)


class _Help(argparse.RawDescriptionHelpFormatter):
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
    "tile": "tiles.tile",
    "overlap": "tiles.overlap",
    "look": "tiles.look",
    "smallest": "tiles.smallest_px",
    "whole_frame": "tiles.whole_frame",
    "max_frames": "source.max_frames",
    "output": "output.dir",
    "video": "output.video",
    "frames": "output.frames",
    "events": "output.events",
    "mot": "output.mot",
    "coco": "output.coco",
    "no_video": "output.no_video",
    "magnifier": "draw.magnifier",
    "draw_tiles": "draw.tiles",
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
        "--backend", choices=("auto", "onnxruntime", "openvino"), help="auto: the faster one here, measured once"
    )
    model.add_argument("--device", metavar="auto|cpu", help="where the network runs")
    model.add_argument("--threads", type=int, metavar="N", help="CPU threads for the network (default: all cores)")
    tiles = sub.add_argument_group("where it looks")
    tiles.add_argument("--tile", metavar="auto|none|640|960x540", help="tile size in px of the frame")
    tiles.add_argument("--overlap", type=float, metavar="X", help="of tiles: share below 1, px from 1 (default 0.2)")
    tiles.add_argument("--look", choices=("auto", "all", "motion"), help="which tiles are run in a frame")
    tiles.add_argument("--smallest", type=float, metavar="PX", help="smallest object wanted, for --tile auto")
    tiles.add_argument(
        "--whole-frame", action="store_true", default=None, help="add the whole frame as one coarse tile"
    )
    out = sub.add_argument_group("what is written")
    out.add_argument(
        "--output", metavar="DIR", help="folder for film, frames, events and summary.json (default runs/NAME)"
    )
    out.add_argument("--video", metavar="FILE", help="annotated film (.mp4 .mkv .mov), or picture for a still")
    out.add_argument("--frames", metavar="FILE|-", help="one JSON line per frame")
    out.add_argument("--events", metavar="FILE|-", help="one JSON line per event")
    out.add_argument("--mot", metavar="FILE", help="MOTChallenge text")
    out.add_argument("--coco", metavar="FILE", help="COCO results JSON")
    out.add_argument("--no-video", action="store_true", default=None, help="with --output: no film, no pictures")
    out.add_argument("--show", action="store_true", help="watch it in a window (q ends)")
    out.add_argument("--magnifier", action="store_true", default=None, help="inset with the best small object enlarged")
    out.add_argument("--draw-tiles", action="store_true", default=None, help="draw the tiles that were run")
    rest = sub.add_argument_group("settings")
    rest.add_argument("--max-frames", type=int, metavar="N", help="stop after N frames of each source")
    rest.add_argument("--config", metavar="FILE.yaml", help="configuration file; options override it")
    rest.add_argument(
        "--set", action="append", default=[], metavar="A.B=C", help="any setting by its path, e.g. tiles.sweep_s=2"
    )
    rest.add_argument("--print-config", action="store_true", help="print the configuration that results, and stop")
    rest.add_argument("-q", "--quiet", action="store_true", help="no progress, no summary")
    rest.add_argument("-v", "--verbose", action="count", default=0, help="say more (-vv: everything)")


def _add_demo(commands: Any) -> None:
    text = "the main job on a built-in rendered scene with known truth; prints recall, precision and speed"
    sub = commands.add_parser("demo", help=text, description=text, formatter_class=_Help)
    sub.add_argument("--size", metavar="WxH", help="size of the scene (default 1920x1080)")
    sub.add_argument("--seconds", type=float, metavar="S", help="length of the scene (default 10)")
    sub.add_argument("--movers", type=int, metavar="N", help="small objects in it (default 8)")
    sub.add_argument("--seed", type=int, metavar="N", help="another scene")
    sub.add_argument("--json", metavar="FILE", help="write scores and speed there ('-': standard output)")
    _add_settings(sub)
    sub.set_defaults(command=_demo, sources=["demo"])


def _add_eval(commands: Any) -> None:
    text = "score frames.jsonl against labels; JSON on standard output"
    sub = commands.add_parser("eval", help=text, description=text, formatter_class=_Help)
    sub.add_argument("frames", metavar="FRAMES.jsonl", help="what `streamdet run` wrote")
    sub.add_argument(
        "labels",
        metavar="LABELS",
        help="points or boxes: CSV (frame,visible,cx,cy / frame,class,x,y,w,h / TrackNet) or MOT gt.txt",
    )
    sub.add_argument(
        "--within", type=float, default=5.0, metavar="PX", help="a point is right within so many px (default 5)"
    )
    sub.add_argument("--within-box", action="store_true", help="... or anywhere in the labelled box (loose boxes)")
    sub.add_argument("-v", "--verbose", action="count", default=0)
    sub.set_defaults(command=_eval)


def _config(arguments: argparse.Namespace) -> Config:
    from streamdet.config import Config, load, with_values

    _check_opencv()
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
        values["model.rename"] = dict(_pairs(arguments.rename, "--rename"))
    return with_values(base, {**values, **dict(_assignment(text) for text in arguments.set)})


def _conf(text: str) -> float | dict[str, float]:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return {name: float(value) for name, value in _pairs(text, "--conf")}
    except ValueError:
        raise UsageError(f"--conf {text}: expected a number or NAME:NUMBER,.. as in ball:0.4,person:0.3") from None


def _pairs(text: str, option: str) -> list[tuple[str, str]]:
    pairs = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        left, colon, right = part.rpartition(":")
        if not colon or not left:
            raise UsageError(f"{option} {text}: expected A:B,.. and found '{part}'")
        pairs.append((left.strip(), right.strip()))
    return pairs


def _assignment(text: str) -> tuple[str, Any]:
    import yaml

    path, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set {text}: expected PATH=VALUE, as in tiles.sweep_s=2")
    try:
        return path.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        raise UsageError(f"--set {text}: the value is not valid YAML") from None


# ------------------------------------------------------------------------------------------------------------- commands


def _run(arguments: argparse.Namespace) -> int:
    from streamdet.api import Run
    from streamdet.config import to_yaml

    config = _config(arguments)
    if arguments.print_config:
        sys.stdout.write(to_yaml(config))
        return EXIT_DONE
    config = _with_default_output(config, show=arguments.show)
    run = Run(config)
    code = _drive(run, arguments)
    if not arguments.quiet:
        from streamdet.report import describe_run

        print(describe_run(run.summary), file=sys.stderr)
    return code


def _with_default_output(config: Config, *, show: bool) -> Config:
    """Nothing asked for: a folder of its own for files; events on standard output for live sources."""
    from streamdet.assemble import sources_of
    from streamdet.config import with_values

    output = config.output
    if show or any((output.dir, output.video, output.frames, output.events, output.summary, output.mot, output.coco)):
        return config
    specs = sources_of(config.sources)
    if any(spec.live for spec in specs):
        return with_values(config, {"output.events": "-"})
    folder = Path("runs") / (specs[0].stream if len(specs) == 1 else "many")
    count = 1
    while folder.exists():
        count += 1
        folder = folder.with_name(f"{folder.name.rsplit('-', 1)[0] if count > 2 else folder.name}-{count}")
    return with_values(config, {"output.dir": str(folder)})


def _drive(run: Run, arguments: argparse.Namespace, *, each: Callable[[Result], None] | None = None) -> int:
    """Iterate to the end with a progress bar, windows and signals. First SIGINT finishes the files, second aborts."""
    from streamdet.report import Progress, Window

    signals: list[int] = []

    def interrupted(number: int, _frame: object) -> None:
        signals.append(number)
        run.stop(abort=len(signals) > 1)
        if len(signals) > 1:
            raise KeyboardInterrupt
        print("\nstreamdet: finishing the files; once more to stop at once", file=sys.stderr)

    before = {number: signal.signal(number, interrupted) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with Progress(run, quiet=arguments.quiet) as progress, Window(show=arguments.show) as window:
            for result in run:
                progress(result)
                if not window(result):
                    run.stop()
                if each is not None:
                    each(result)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return EXIT_INTERRUPTED if signals else EXIT_DONE


def _bench(arguments: argparse.Namespace) -> int:
    from streamdet.api import Run
    from streamdet.report import describe_bench, write_json

    run = Run(_config(arguments))
    code = _drive(run, arguments)
    if arguments.json:
        write_json(arguments.json, run.summary)
    if arguments.json != "-":
        print(describe_bench(run.summary))
    return code


def _demo(arguments: argparse.Namespace) -> int:
    from streamdet.api import Run
    from streamdet.config import to_yaml, with_values
    from streamdet.report import DemoScore, describe_run, write_json

    named = {
        "size": "source.demo_size",
        "seconds": "source.demo_seconds",
        "movers": "source.demo_movers",
        "seed": "source.seed",
    }
    values = {leaf: getattr(arguments, name) for name, leaf in named.items() if getattr(arguments, name) is not None}
    config = with_values(_config(arguments), values)
    if arguments.print_config:
        sys.stdout.write(to_yaml(config))
        return EXIT_DONE
    run = Run(_with_default_output(config, show=arguments.show))
    score = DemoScore(config.source)
    code = _drive(run, arguments, each=score.add)
    record = {"score": score.result(), **run.summary}
    if arguments.json:
        write_json(arguments.json, record)
    if not arguments.quiet:
        print(describe_run(run.summary), file=sys.stderr)
    if arguments.json != "-":
        print(score.describe())
    return code


def _eval(arguments: argparse.Namespace) -> int:
    from streamdet.report import write_json
    from streamdet.scoring import point_score, read_frames_jsonl, read_labels

    frames = read_frames_jsonl(arguments.frames)
    labels = read_labels(arguments.labels)
    score = point_score(frames, labels, within_px=arguments.within, within_box=arguments.within_box)
    write_json("-", score.to_dict())
    return EXIT_DONE


def _models(arguments: argparse.Namespace) -> int:
    from streamdet.assemble import models

    for number, card in enumerate(models()):
        print(f"{card.name:<16} {'(default) ' if number == 0 else ''}{card.summary}")
        if card.path:
            print(f"{'':<16} {card.path}")
    return EXIT_DONE


def _info(arguments: argparse.Namespace) -> int:
    from streamdet.report import machine_report

    print(machine_report())
    return EXIT_DONE


def _config_schema(arguments: argparse.Namespace) -> int:
    from streamdet.config import json_schema
    from streamdet.report import write_json

    write_json("-", json_schema())
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
