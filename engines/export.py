"""Weights -> ONNX, with what streamdet must know in its metadata: ``python -m engines.export WORK/model.pt tiny.onnx``.

Its fp16 and int8 copies: `engines.copies`.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch

from engines.contract import CHANNELS, LABELS
from engines.data import NETWORK_INPUT
from engines.network import PeaksByClass, of_state

__all__ = ["export"]

_OPSET = 17
_PAD = 114.0


def export(
    weights: Path, target: Path, *, threshold: float, about: str = "", gain: float = 1.0, bias: float = 0.0
) -> None:
    """Scores are ``sigmoid(gain * logit + bias)``. Any batch, any height and width that are multiples of 16.

    The file is checked against PyTorch with onnxruntime.
    """
    net = of_state(torch.load(weights, weights_only=True))
    module = PeaksByClass(net, gain=gain, bias=bias).eval()
    example = torch.randn(2, len(CHANNELS), 96, 128)
    axes = {0: "tiles", 2: "height", 3: "width"}
    names = ("heat", "offset", "size")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (example,),
            str(target),
            input_names=["picture"],
            output_names=list(names),
            opset_version=_OPSET,
            dynamo=False,
            dynamic_axes={"picture": axes} | {name: {0: "tiles", 2: "rows", 3: "columns"} for name in names},
        )
    model = onnx.load(str(target))
    for key, value in _metadata(target.stem, threshold, about).items():
        model.metadata_props.add(key=f"streamdet.{key}", value=value if isinstance(value, str) else json.dumps(value))
    onnx.checker.check_model(model)
    onnx.save(model, str(target))
    _compare(module, target)


def _metadata(name: str, threshold: float, about: str) -> dict[str, object]:
    return {
        "name": name,
        "decoder": "centers",
        "labels": list(LABELS),
        "threshold": round(threshold, 3),
        "channels": list(CHANNELS),
        "mean": list(NETWORK_INPUT.mean),
        "std": list(NETWORK_INPUT.std),
        "pad": _PAD,
        "stride": NETWORK_INPUT.stride,
        "size_unit": "log_px",
        "signed_scale": NETWORK_INPUT.signed_scale,
        "signed_clip": NETWORK_INPUT.signed_clip,
        "activation": "none",
        "about": about or "centres of tiny movers: balls, birds, drones, planes",
        "origin": "engines/ of streamdet: python -m engines.train",
    }


def _compare(module: PeaksByClass, target: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    picture = torch.randn(3, len(CHANNELS), 128, 160, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = module(picture)
    for name, ours, theirs in zip(("heat", "offset", "size"), wanted, session.run(None, {"picture": picture.numpy()})):
        gap = np.abs(ours.numpy() - theirs)
        if np.mean(gap > 1e-3) > 1e-4:  # a peak may tie
            raise SystemExit(f"{target}: output {name} differs from PyTorch by up to {gap.max():.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m engines.export", description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--threshold", type=float, required=True, help="operating point, from engines.operating")
    parser.add_argument("--gain", type=float, default=1.0, help="of the heat's logit, from engines.operating")
    parser.add_argument("--bias", type=float, default=0.0)
    parser.add_argument("--about", default="")
    given = parser.parse_args()
    export(given.weights, given.target, threshold=given.threshold, about=given.about, gain=given.gain, bias=given.bias)


if __name__ == "__main__":
    main()
