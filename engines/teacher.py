"""A network of ours as teacher of a smaller one: its raw maps, read out of its ONNX file, are wanted beside the labels.

Labels say where something flies; the teacher's maps also say how like a mover everything else looks (Hinton et al.,
arXiv 1503.02531). Where it sees something that is none, the label stands alone; and its lead fades.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Teacher", "lead_at", "teaching_loss"]

_LEADS_FOR = 0.6  # of the training, fading
_FAR = 7.0  # logits further out are as sure as it gets
_SEEN = 0.3  # where the teacher sees something, its offset, size and class count too
_NOTHING = 0.05  # wanted heat below which there is nothing to be seen


class Teacher:
    """``maps = teacher(picture)``: (N, 5 + classes, h, w), what the network in the file answers before peaks are picked."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        model = onnx.load(str(path))
        last = [node for node in model.graph.node if node.op_type == "Conv"][-1].output[0]
        model.graph.output.append(onnx.helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._maps, self._picture = last, self._session.get_inputs()[0].name

    def __call__(self, picture: np.ndarray) -> Tensor:
        return torch.from_numpy(self._session.run([self._maps], {self._picture: picture})[0])


def lead_at(progress: float) -> float:
    """How much the teacher's word counts at a share of the training: 1 .. 0."""
    return max(0.0, 1 - progress / _LEADS_FOR)


def teaching_loss(maps: Tensor, taught: Tensor, wanted: Tensor) -> Tensor:
    """How far (N,C,h,w) `maps` are from the teacher's: the heat wherever it does not invent, the rest where it rightly sees.

    `wanted`: the heat (N,1,h,w) that the labels ask for.
    """
    sees = torch.sigmoid(taught[:, :1]) > _SEEN
    invents = sees & (wanted < _NOTHING)
    gap = functional.smooth_l1_loss(
        maps[:, :1].float().clamp(-_FAR, _FAR), taught[:, :1].clamp(-_FAR, _FAR), reduction="none"
    )
    right = (sees & ~invents).float()
    rest = ((maps[:, 1:].float() - taught[:, 1:]).abs() * right).sum() / (right.sum() * (maps.shape[1] - 1) + 1)
    return (gap * ~invents).mean() + 0.3 * rest
