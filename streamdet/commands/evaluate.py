"""``streamdet eval``: how good is what `streamdet run` wrote, against labels."""

from __future__ import annotations

import argparse
from typing import Any

from streamdet.errors import EXIT_DONE, UsageError
from streamdet.options import Help, span_of

__all__ = ["add"]


def add(commands: Any) -> None:
    text = "score frames.jsonl against labels; JSON on standard output"
    sub = commands.add_parser("eval", help=text, description=text, formatter_class=Help)
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
    sub.add_argument(
        "--span", metavar="A:B", help="score frames A to B-1 only, e.g. 60: or :120 (the others count as unlabelled)"
    )
    sub.add_argument("-v", "--verbose", action="count", default=0)
    sub.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    from streamdet.report import write_json
    from streamdet.scoring import point_score, read_frames_jsonl, read_labels

    if not arguments.within >= 0:
        raise UsageError(f"--within {arguments.within}: give a distance in px, 0 or more")
    frames = read_frames_jsonl(arguments.frames)
    labels = read_labels(arguments.labels).between(*span_of(arguments.span))
    score = point_score(frames, labels, within_px=arguments.within, within_box=arguments.within_box)
    write_json("-", score.to_dict())
    return EXIT_DONE
