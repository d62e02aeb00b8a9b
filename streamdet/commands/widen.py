"""``streamdet widen``: motion channels for any RGB detector."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from streamdet.errors import EXIT_DONE
from streamdet.options import Help

__all__ = ["add"]

_NEXT = """to train it further, in torch:
  import onnx, onnx2torch                          # pip install onnx2torch
  network = onnx2torch.convert(onnx.load("{path}"))
  # ... or, if you have the training code: conv.weight = torch.cat([conv.weight, zeros], dim=1) in {layers}
  # feed it what the pipeline makes:  streamdet export-frames CLIP --like {path} --output tensors/
"""


def add(commands: Any) -> None:
    text = "give an RGB ONNX detector motion channels (new weights zero: it answers as before, ready to be trained further)"
    sub = commands.add_parser("widen", help=text, description=text, formatter_class=Help)
    sub.add_argument("model", metavar="MODEL.onnx", help="a float ONNX detector")
    sub.add_argument(
        "--channels",
        required=True,
        metavar="A+B+..",
        help="rgb+difference+background; also previous (difference of the frame before), y[-1], rgb[-1]",
    )
    sub.add_argument(
        "--out", metavar="FILE.onnx", help="default MODEL_wide.onnx; its manifest .toml is written beside it"
    )
    sub.add_argument("-v", "--verbose", action="count", default=0)
    sub.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    from streamdet.tuning.widen import widen

    made = widen(arguments.model, arguments.channels, out=arguments.out)
    how = "a convolution beside" if made.apart else "more channels for"
    sys.stdout.write(
        f"wrote {made.path} and {made.manifest.name}: input {' '.join(made.channels)}\n"
        f"  {how} {', '.join(made.layers)}; answers differ by {made.difference:.2g} at most (random pictures)\n"
    )
    sys.stderr.write(_NEXT.format(path=made.path, layers=", ".join(made.layers)))
    return EXIT_DONE
