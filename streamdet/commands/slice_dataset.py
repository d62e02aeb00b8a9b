"""``streamdet slice-dataset``: COCO and YOLO data sets cut into tiles, for training a detector that will look at tiles."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from streamdet.errors import EXIT_DONE, UsageError
from streamdet.options import Help

__all__ = ["add"]


def add(commands: Any) -> None:
    text = "cut a COCO or YOLO data set into tiles with the right labels; both formats out, with a contact sheet"
    sub = commands.add_parser("slice-dataset", help=text, description=text, formatter_class=Help)
    sub.add_argument(
        "dataset", metavar="DATASET", help="COCO label .json, YOLO data.yaml, or a folder with images/ and labels/"
    )
    sub.add_argument(
        "--output", required=True, metavar="DIR", help="new folder for images/, labels/, annotations/, data.yaml"
    )
    sub.add_argument("--images", metavar="DIR", help="where the pictures of a COCO file lie")
    sub.add_argument("--tile", default="640", metavar="640|960x540", help="size of a tile in px (default 640)")
    sub.add_argument("--overlap", type=float, default=0.2, metavar="X", help="share below 1, px from 1 (default 0.2)")
    sub.add_argument(
        "--min-visible", type=float, default=0.4, metavar="X", help="share of a box a tile must show (default 0.4)"
    )
    sub.add_argument(
        "--negatives", type=float, default=0.2, metavar="X", help="share of empty tiles (default 0.2; 1: all)"
    )
    sub.add_argument("--classes", metavar="NAME,..", help="keep only these classes")
    sub.add_argument("--rename", metavar="OLD:NEW,..", help="rename classes; two renamed alike become one")
    sub.add_argument(
        "--split", metavar="NAME:X,..", help="new splits, e.g. train:0.8,val:0.2; a clip's frames stay together"
    )
    sub.add_argument("--format", default="yolo,coco", metavar="yolo,coco", help="labels written (default both)")
    sub.add_argument("--pictures", choices=("jpg", "png"), default="jpg", help="file type of the tiles (default jpg)")
    sub.add_argument("--quality", type=int, default=95, metavar="N", help="of JPEG, 1 to 100 (default 95)")
    sub.add_argument("--seed", type=int, default=0, metavar="N", help="of whatever is drawn by lot")
    sub.add_argument("-v", "--verbose", action="count", default=0)
    sub.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    from streamdet.options import pairs_of
    from streamdet.report import write_json
    from streamdet.tuning.dataset import read_dataset
    from streamdet.tuning.slice_files import slice_dataset
    from streamdet.tuning.slicing import keep_classes

    formats = [name.strip() for name in arguments.format.split(",") if name.strip()]
    if not formats or set(formats) - {"yolo", "coco"}:
        raise UsageError(f"--format {arguments.format}: give yolo, coco, or both")
    for name in ("min_visible", "negatives"):
        if not 0 <= getattr(arguments, name) <= 1:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(arguments, name)}: give a share from 0 to 1")
    if not 1 <= arguments.quality <= 100 or arguments.seed < 0:
        raise UsageError("--quality needs 1 to 100, --seed 0 or more")
    data = keep_classes(
        read_dataset(arguments.dataset, images=arguments.images),
        classes=[name.strip() for name in (arguments.classes or "").split(",") if name.strip()],
        rename=dict(pairs_of(arguments.rename or "", "--rename")),
    )
    shares = None
    if arguments.split:
        try:
            shares = {name: float(share) for name, share in pairs_of(arguments.split, "--split")}
        except ValueError:
            raise UsageError(f"--split {arguments.split}: give shares, as in train:0.8,val:0.2") from None
        if not all(name.isidentifier() and 0 < share < math.inf for name, share in shares.items()):
            raise UsageError(f"--split {arguments.split}: give names and shares above 0, as in train:0.8,val:0.2")
    folder = Path(arguments.output)
    counts = slice_dataset(
        data,
        folder,
        tile=int(arguments.tile) if arguments.tile.isdigit() else arguments.tile,
        overlap=arguments.overlap,
        min_visible=arguments.min_visible,
        negatives=arguments.negatives,
        shares=shares,
        formats=formats,
        kind=arguments.pictures,
        quality=arguments.quality,
        seed=arguments.seed,
    )
    write_json("-", counts.to_dict())
    preview = folder / "preview.jpg"
    sys.stderr.write(f"wrote {folder}{f'; look at {preview}' if preview.is_file() else ', which holds no tile'}\n")
    return EXIT_DONE
