"""The network: a small fully convolutional pyramid that answers with centre heat, offset, size and class at stride 4.

Input (N, C, H, W), H and W multiples of 16; see `engines.contract`. One `mover` heat says *that* something small moves; a
class head says what it is. Splitting the heat by class instead would split the score of a five pixel speck four ways.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.contract import CHANNELS, LABELS

__all__ = ["PeaksByClass", "TinyMover", "deepened", "of_state"]

_PRIOR_LOGIT = -4.6  # 1 % of cells, so that the focal loss starts quietly
_ADDS = ("level16.4.second.1.weight", "joined8.0.mix.4.weight")  # the last scale of what `deeper` has more


def _convolution(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _convolution(width, width)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.second(self.first(x)))


class _Wide(nn.Module):
    """Looks round cheaply (5x5, channel by channel), then mixes channels: a fifth of a residual's time for a wider view.

    Its answer is rectified, or `signed` where what comes in is.
    """

    def __init__(self, width: int, widen: int, *, signed: bool = False) -> None:
        super().__init__()
        self._signed = signed
        self.look = nn.Sequential(
            nn.Conv2d(width, width, 5, 1, 2, groups=width, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.mix = nn.Sequential(
            nn.Conv2d(width, widen * width, 1, bias=False),
            nn.BatchNorm2d(widen * width),
            nn.ReLU(),
            nn.Conv2d(widen * width, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = x + self.mix(self.look(x))
        return total if self._signed else functional.relu(total)


class TinyMover(nn.Module):
    """Raw maps: (N, 5 + classes, H/4, W/4): heat logit, offset x, y in the cell, log of width, height in px, class logits.

    Most of the time of such a net goes into its finest maps: stride 4 has one narrow convolution at each end, the thinking is
    done at strides 8 and 16. Widths are multiples of 16, which is what onnxruntime's kernels are laid out for. `deeper`: one
    more residual at stride 16, and a look round at stride 8 after what stride 16 has to say has come back (1.24 of the time).
    """

    def __init__(
        self,
        channels: int = len(CHANNELS),
        *,
        width: int = 16,
        classes: int = len(LABELS),
        deeper: bool = False,
    ) -> None:
        super().__init__()
        w2, w3, w4 = 2 * width, 3 * width, 4 * width
        self.level4 = nn.Sequential(_convolution(channels, width, 2), _convolution(width, w2, 2))
        self.level8 = nn.Sequential(_convolution(w2, w3, 2), _Wide(w3, 1))
        self.level16 = nn.Sequential(_convolution(w3, w4, 2), _Residual(w4), _Wide(w4, 2), _Wide(w4, 2))
        self.joined8 = nn.Sequential()
        if deeper:
            self.level16.append(_Residual(w4))
            self.joined8.append(_Wide(w3, 2, signed=True))
        self.down16, self.down8 = nn.Conv2d(w4, w3, 1), nn.Conv2d(w3, width, 1)
        self.across4 = nn.Conv2d(w2, width, 1)
        self.mix = _convolution(width, width)
        self.head = nn.Conv2d(width, 5 + classes, 1)
        with torch.no_grad():
            assert self.head.bias is not None
            self.head.bias.zero_()
            self.head.bias[0] = _PRIOR_LOGIT
            self.head.bias[1:3] = 0.5
            self.head.bias[3:5] = 2.2  # 9 px

    def forward(self, x: Tensor) -> Tensor:
        quarter = self.level4(x)
        eighth = self.level8(quarter)
        sixteenth = self.level16(eighth)
        eighth = self.joined8(eighth + functional.interpolate(self.down16(sixteenth), scale_factor=2.0))
        quarter = self.across4(quarter) + functional.interpolate(self.down8(eighth), scale_factor=2.0)
        maps: Tensor = self.head(self.mix(quarter))
        return maps


def deepened(net: TinyMover) -> TinyMover:
    """A deeper network that answers exactly as `net` does until it is trained: what is new adds nothing yet."""
    deeper = TinyMover(deeper=True)
    state = {name: value for name, value in deeper.state_dict().items() if name not in net.state_dict()}
    state = {name: torch.zeros_like(value) if name in _ADDS else value for name, value in state.items()}
    deeper.load_state_dict(net.state_dict() | state)
    return deeper.train(net.training)


def of_state(state: dict[str, Tensor]) -> TinyMover:
    """The network whose weights these are, whatever its depth."""
    net = TinyMover(deeper=any(name.startswith("joined8.") for name in state))
    net.load_state_dict(state)
    return net


class PeaksByClass(nn.Module):
    """What is exported: heat (N, classes, h, w), offset (N,2,h,w), size (N,2,h,w; log px), as the `centers` family reads them.

    Peaks are picked here, and each is given whole to its most likely class, so that a decoder which looks at every class
    on its own finds one object once. `gain` and `bias` make the score a probability (`engines.operating`).
    """

    def __init__(self, net: TinyMover, *, gain: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.net, self.gain, self.bias = net, gain, bias

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps = self.net(x)
        heat = torch.sigmoid(maps[:, :1] * self.gain + self.bias)
        peak = heat >= functional.max_pool2d(heat, 3, 1, 1)
        logits = maps[:, 5:]
        top = functools.reduce(torch.maximum, logits.split(1, 1))  # three times as fast as a maximum over channels
        best = logits >= top
        return heat * peak.to(heat.dtype) * best.to(heat.dtype), maps[:, 1:3].clamp(-2.0, 3.0), maps[:, 3:5]
