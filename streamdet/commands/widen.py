"""``streamdet widen``: motion channels for any RGB detector."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from streamdet.errors import EXIT_DONE
from streamdet.options import Help

__all__ = ["add"]

_NEXT = """to train it further: in PyTorch give {layers} the zeros this file has, and train as before
  conv.weight = torch.nn.Parameter(torch.cat([conv.weight, torch.zeros(conv.out_channels, EXTRA, *conv.kernel_size)], dim=1))
  data, fed as the pipeline feeds it:  streamdet export-frames CLIP --like {path} --labels L --output tensors/
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
