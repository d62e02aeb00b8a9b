"""From the ONNX file back to a network that can be trained on: ``network, gain, bias = read_back(path)``.

The file is all a user has. Its convolutions are met in the same order as those of `engines.network`; normalisation was
folded into them, so it starts as the identity and must stay frozen (``module.eval()``) in training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from engines.contract import CHANNELS
from engines.network import TinyMover

__all__ = ["freeze_normalisation", "read_back"]

_PX = 96


def read_back(path: Path) -> tuple[TinyMover, float, float]:
    """The network, and the gain and bias of its score, checked against the file with onnxruntime.

    Raises SystemExit if it is no file of this network.
    """
    model = onnx.load(str(path))
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    stored = [node for node in model.graph.node if node.op_type == "Conv"]
    known = [(net, _convolutions(net)) for net in (TinyMover().eval(), TinyMover(deeper=True).eval())]
    fitting = [(net, pairs) for net, pairs in known if len(pairs) == len(stored)]
    if not fitting:
        counts = " or ".join(str(len(pairs)) for _, pairs in known)
        raise SystemExit(f"{path}: {len(stored)} convolutions, engines/network.py has {counts}: not its fp32 file")
    net, pairs = fitting[0]
    with torch.no_grad():
        for (convolution, norm), node in zip(pairs, stored):
            weight, *bias = (arrays.get(name) for name in node.input[1:])
            if weight is None or weight.shape != tuple(convolution.weight.shape) or weight.dtype != np.float32:
                raise SystemExit(f"{path}: {node.name} is not the convolution engines/network.py has there")
            convolution.weight.copy_(torch.from_numpy(weight.copy()))
            _set_bias(convolution, norm, bias[0] if bias else None)
    return net, *_score(path, net)


def freeze_normalisation(net: nn.Module) -> None:
    """Statistics of a batch must not replace what is folded into the weights."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def _convolutions(net: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d | None]]:
    """Convolutions in the order they run, each with the normalisation that reads its output."""
    found: list[list[Any]] = []
    made: dict[int, tuple[int, Tensor]] = {}  # the tensor is kept: its id must not be used again

    def seen(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            made[id(output)] = (len(found), output)
            found.append([module, None])
        elif isinstance(module, nn.BatchNorm2d) and id(inputs[0]) in made:
            found[made[id(inputs[0])][0]][1] = module

    hooks = [module.register_forward_hook(seen) for module in net.modules() if not list(module.children())]
    with torch.no_grad():
        net(torch.zeros(1, len(CHANNELS), _PX, _PX))
    for hook in hooks:
        hook.remove()
    return [(convolution, norm) for convolution, norm in found]


def _set_bias(convolution: nn.Conv2d, norm: nn.BatchNorm2d | None, bias: np.ndarray | None) -> None:
    value = torch.zeros(convolution.out_channels) if bias is None else torch.from_numpy(bias.copy())
    if norm is None:
        if convolution.bias is not None:
            convolution.bias.copy_(value)
        return
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.zero_()
    norm.running_var.fill_(1.0)
    norm.weight.fill_((1.0 + norm.eps) ** 0.5)
    norm.bias.copy_(value)


def _score(path: Path, net: TinyMover) -> tuple[float, float]:
    """Gain and bias from what the file answers; proves at the same time that the weights are the same."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    picture = _specks()
    heat = session.run(["heat"], {session.get_inputs()[0].name: picture.numpy()})[0].max(1).astype(np.float64)
    with torch.no_grad():
        logit = net(picture)[:, 0].double().numpy()
    peak = (heat > 1e-3) & (heat < 0.999)  # further out, the runtime's sigmoid is not exact
    theirs, ours = np.log(heat[peak] / (1 - heat[peak])), logit[peak]
    line = np.stack([ours, np.ones_like(ours)], axis=1)
    (gain, bias), *_ = np.linalg.lstsq(line, theirs, rcond=None)
    gap = np.abs(line @ [gain, bias] - theirs)
    if len(ours) < 10 or gap.max() > 1e-2:
        raise SystemExit(f"{path}: its weights do not give its answers in engines/network.py; is it another version's?")
    return float(gain), float(bias)


def _specks() -> Tensor:
    """Pictures in which something like a small mover is seen, at every strength."""
    rng = np.random.default_rng(1)
    picture = rng.normal(0, 0.05, (8, len(CHANNELS), _PX, 2 * _PX)).astype(np.float32)
    for sample in picture:
        for _ in range(12):
            x, y, size = rng.integers(4, 2 * _PX - 12), rng.integers(4, _PX - 12), rng.integers(2, 8)
            sample[:, y : y + size, x : x + size] += rng.choice([-1, 1]) * rng.uniform(0.1, 2)
    return torch.from_numpy(picture)
