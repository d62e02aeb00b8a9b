"""``streamdet eval``: how good is what `streamdet run` wrote, against labels."""

from __future__ import annotations

import argparse
from typing import Any

from streamdet.errors import EXIT_DONE, UsageError
from streamdet.options import Help, span_of

__all__ = ["add", "add_scoring", "check_scoring"]


def add(commands: Any) -> None:
    text = "score a run against labels: points, COCO AP, HOTA/MOTA/IDF1, as the labels allow; JSON on standard output"
    sub = commands.add_parser("eval", help=text, description=text, formatter_class=Help)
    sub.add_argument(
        "frames", metavar="RESULTS", help="frames.jsonl that `streamdet run` wrote, MOT text, or COCO results JSON"
    )
    sub.add_argument(
        "labels",
        metavar="LABELS",
        help="points or boxes: CSV (frame,visible,cx,cy / frame,class,x,y,w,h / TrackNet), MOT gt.txt, COCO JSON",
    )
    add_scoring(sub)
    sub.add_argument("-v", "--verbose", action="count", default=0)
    sub.set_defaults(command=run)


def add_scoring(sub: argparse.ArgumentParser) -> None:
    """The options that say what counts."""
    sub.add_argument(
        "--within", type=float, default=5.0, metavar="PX", help="a point is right within so many px (default 5)"
    )
    sub.add_argument("--within-box", action="store_true", help="... or anywhere in the labelled box (loose boxes)")
    sub.add_argument(
        "--span", metavar="A:B", help="score frames A to B-1 only, e.g. 60: or :120 (the others count as unlabelled)"
    )
    sub.add_argument(
        "--max-det",
        type=int,
        default=100,
        metavar="N",
        help="boxes of a picture and class that AP looks at (default 100)",
    )


def check_scoring(arguments: argparse.Namespace) -> None:
    if not arguments.within >= 0:
        raise UsageError(f"--within {arguments.within}: give a distance in px, 0 or more")
    if arguments.max_det < 1:
        raise UsageError(f"--max-det {arguments.max_det}: give a number of boxes, at least 1")


def run(arguments: argparse.Namespace) -> int:
    from streamdet.report import write_json
    from streamdet.scoring.evaluate import evaluate

    check_scoring(arguments)
    score = evaluate(
        arguments.frames,
        arguments.labels,
        within_px=arguments.within,
        within_box=arguments.within_box,
        span=span_of(arguments.span),
        limit=arguments.max_det,
    )
    write_json("-", score.to_dict())
    return EXIT_DONE
