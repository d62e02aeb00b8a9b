"""``streamdet export-frames``: colours and motion of a clip as training tensors, exactly as the pipeline makes them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from streamdet.errors import EXIT_DONE, UsageError
from streamdet.options import Help

__all__ = ["add"]


def add(commands: Any) -> None:
    text = "write what a network is fed from a clip (colours and motion channels) as .npz tensors or multi-channel TIFF"
    sub = commands.add_parser("export-frames", help=text, description=text, formatter_class=Help)
    sub.add_argument("source", metavar="CLIP", help="video, image sequence, demo")
    sub.add_argument("--output", required=True, metavar="DIR", help="new folder")
    what = sub.add_mutually_exclusive_group()
    what.add_argument("--like", metavar="MODEL", help="as this network is fed (a widened one, say)")
    what.add_argument("--channels", metavar="A+B+..", help="rgb+difference+background (default); also previous, y[-1]")
    sub.add_argument(
        "--tile", default="none", metavar="none|auto|640|960x540", help="tiles in px of the frame (default none)"
    )
    sub.add_argument("--overlap", type=float, default=0.2, metavar="X", help="of tiles (default 0.2)")
    sub.add_argument(
        "--format", choices=("npz", "tiff"), default="npz", help="npz: one file per frame; tiff: one per tile"
    )
    sub.add_argument("--labels", metavar="L", help="labels of the clip: their boxes go along, in px of the tensor")
    sub.add_argument("--only-labelled", action="store_true", help="leave out frames and tiles without objects")
    sub.add_argument("--every", type=int, default=1, metavar="N", help="every N-th frame (motion sees all of them)")
    sub.add_argument("--max-frames", type=int, default=0, metavar="N", help="stop after N frames of the clip")
    sub.add_argument("-v", "--verbose", action="count", default=0)
    sub.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from streamdet.config import Config, with_values
    from streamdet.tuning.export import export_frames, like_model, spec_of

    if arguments.every < 1 or arguments.max_frames < 0:
        raise UsageError("--every needs at least 1, --max-frames at least 0")
    if arguments.only_labelled and not arguments.labels:
        raise UsageError("--only-labelled needs --labels")
    tile = int(arguments.tile) if arguments.tile.isdigit() else arguments.tile
    values = {"sources": [arguments.source], "tiles.tile": tile, "tiles.overlap": arguments.overlap}
    config = with_values(Config(), values)
    spec = (
        like_model(config, arguments.like)
        if arguments.like
        else spec_of(arguments.channels or "rgb+difference+background")
    )
    with tqdm(desc=arguments.source, unit=" frames", file=sys.stderr, disable=None, leave=False) as bar:
        done = export_frames(
            config,
            spec,
            Path(arguments.output),
            form=arguments.format,
            labels=arguments.labels,
            every=arguments.every,
            max_frames=arguments.max_frames,
            only_labelled=arguments.only_labelled,
            on_frame=lambda seen: bar.update(seen - bar.n),
        )
    boxes = f", {done.objects} boxes" if arguments.labels else ""
    sys.stdout.write(
        f"wrote {done.folder}: {done.frames} frames, {done.tiles} tiles{boxes}; channels {' '.join(done.channels)}\n"
    )
    return EXIT_DONE
