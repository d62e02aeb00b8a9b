"""``streamdet tune``: a tile plan for one's own material, or anchors for one's own labels."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from streamdet.errors import EXIT_DONE, ConfigError, UsageError
from streamdet.options import Help

__all__ = ["add"]


def add(commands: Any) -> None:
    text = "fit the way of looking to one's own clip: sizes, speed here, a table to choose from, a configuration that keeps up"
    sub = commands.add_parser("tune", help=text, description=text, formatter_class=Help)
    sub.add_argument(
        "source",
        metavar="CLIP_OR_DATASET",
        help="clip, pictures, or data set (COCO .json, YOLO folder or data.yaml); with --anchors: labels",
    )
    sub.add_argument("--model", metavar="NAME|PATH", help="the network (default: ours)")
    sub.add_argument("--labels", metavar="L", help="labels of the clip: ways to look are judged by them")
    sub.add_argument("--fps", type=float, metavar="F", help="frames per second wanted (default: the clip's own)")
    sub.add_argument(
        "--output", metavar="DIR", help="where tuned.yaml, plan.jpg, tune.html, tune.json go (default runs/tune-NAME)"
    )
    sub.add_argument(
        "--max-frames", type=int, default=150, metavar="N", help="frames each way is tried on (default 150)"
    )
    sub.add_argument(
        "--seconds", type=float, default=15.0, metavar="S", help="... but no longer than this (default 15)"
    )
    sub.add_argument(
        "--rounds", type=int, default=2, metavar="N", help="times everything is tried, in turn (default 2)"
    )
    sub.add_argument(
        "--within", type=float, metavar="PX", help="right within so many px (default: half an object, at least 5)"
    )
    sub.add_argument("--within-box", action="store_true", help="... or anywhere in the labelled box (loose boxes)")
    sub.add_argument(
        "--config", metavar="FILE.yaml", help="settings that hold in every trial (regions of interest, classes)"
    )
    sub.add_argument("--set", action="append", default=[], metavar="A.B=C", help="any setting, as with `run`")
    anchors = sub.add_argument_group("anchors of an anchor-based detector (YOLOv3/5/7)")
    anchors.add_argument("--anchors", type=int, metavar="N", help="cluster N anchors for the labelled boxes, e.g. 9")
    anchors.add_argument(
        "--image-size", type=int, default=640, metavar="PX", help="side pictures are scaled to in training"
    )
    anchors.add_argument("--generations", type=int, default=1000, metavar="N", help="steps of the genetic search")
    sub.add_argument("-q", "--quiet", action="store_true", help="no progress")
    sub.add_argument("-v", "--verbose", action="count", default=0)
    sub.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.anchors is not None:
        return _anchors(arguments)
    from streamdet.config import Config, load, with_values
    from streamdet.options import assignment
    from streamdet.tuning.tune import tune
    from streamdet.tuning.tune_output import table, write_all

    for name in ("max_frames", "rounds"):
        if getattr(arguments, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(arguments, name)}: give at least 1")
    for name in ("seconds", "fps", "within"):
        value = getattr(arguments, name)
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"--{name} {value:g}: give a number above 0")
    values = dict(assignment(text) for text in arguments.set)
    values |= {"model.name": arguments.model} if arguments.model else {}
    base = load(arguments.config) if arguments.config else Config()
    with _material(arguments) as (sources, labels, again):
        tuned = tune(
            with_values(base, {**values, "sources": sources}),
            labels=labels,
            fps=arguments.fps,
            frames=arguments.max_frames,
            seconds=arguments.seconds,
            rounds=arguments.rounds,
            within_px=arguments.within,
            within_box=arguments.within_box,
            told=_teller(arguments.quiet),
        )
    folder = Path(arguments.output or Path("runs") / f"tune-{Path(arguments.source).stem}")
    files = write_all(tuned, folder)
    sys.stdout.write(f"{table(tuned)}\nwrote {', '.join(map(str, files))}\n")
    sys.stdout.write(f"next: streamdet run {again} --config {files[0]}\n")
    return EXIT_DONE


@contextlib.contextmanager
def _material(arguments: argparse.Namespace) -> Iterator[tuple[list[str], str | None, str]]:
    """What is run, what it is judged by, and what to run afterwards.

    A data set is some of its pictures, evenly chosen, and its labels in COCO's form while they are needed.
    """
    from dataclasses import replace

    import numpy as np

    from streamdet.tuning.dataset import is_dataset, read_dataset, write_coco

    source = arguments.source
    if arguments.labels is not None or not is_dataset(source):
        yield [source], arguments.labels, source
        return
    data = read_dataset(source)
    every = len(data.pictures)
    if not every:
        raise ConfigError(f"the data set {source} holds no pictures; there is nothing to tune for")
    rows = np.unique(np.linspace(0, every - 1, min(every, arguments.max_frames)).round().astype(int))
    data = replace(data, pictures=tuple(data.pictures[row] for row in rows.tolist()))
    with tempfile.TemporaryDirectory(prefix="streamdet-tune-") as folder:
        file = Path(folder) / "labels.json"
        write_coco(data, file)
        yield [str(one.path) for one in data.pictures], str(file), str(data.pictures[0].path.parent)


def _teller(quiet: bool) -> Callable[[str], None]:
    """Progress on one line of the terminal; nothing where nobody watches."""
    if quiet or not sys.stderr.isatty():
        return lambda text: None

    def tell(text: str) -> None:
        sys.stderr.write(f"\r\x1b[2K{text[:100]}")
        sys.stderr.flush()

    return tell


def _anchors(arguments: argparse.Namespace) -> int:
    from streamdet.report import write_json
    from streamdet.tuning.anchors import fit_anchors

    if arguments.anchors < 1 or arguments.image_size < 32:
        raise UsageError("--anchors needs at least 1, --image-size at least 32 px")
    fitted = fit_anchors(
        arguments.source,
        count=arguments.anchors,
        image_size=arguments.image_size,
        generations=arguments.generations,
    )
    sys.stderr.write(f"{fitted.describe()}\n")
    write_json("-", fitted.to_dict())
    return EXIT_DONE
