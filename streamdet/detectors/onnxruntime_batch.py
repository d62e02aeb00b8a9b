"""A file made for one picture at a time, rewritten so that it takes any number: seen to give the same numbers, or not used.

Exporters write the batch into the ports and into the targets of reshapes (``[1, 85, -1]``). Both are freed; whether that was
all is not reasoned about but tried: one tile and three different ones, against the file as it was.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

from streamdet.detectors.onnx_graph import load, save
from streamdet.detectors.sniff import extra_inputs, input_shape, noise
from streamdet.detectors.spec import ModelFile

__all__ = ["free_batch", "same_answers"]

_LOG = logging.getLogger(__name__)
_TRIED = 3
_TOLERANCE = 1e-4  # of an output's own range


def free_batch(file: ModelFile, target: Path) -> bool:
    """Write `file` with a free batch to `target`; False (and nothing written) if the answers would not be the same."""
    batch = input_shape(file)[0]
    if batch != 1:
        return False
    model = load(file.path)
    _free_ports(model)
    _free_reshapes(model)
    del model.graph.value_info[:]
    try:
        save(model, target)
        if same_answers(file, target):
            return True
    except Exception as error:  # onnx and onnxruntime share no base class
        _LOG.info("%s keeps its batch of one: %s", file.path.name, str(error).splitlines()[0][:200])
    target.unlink(missing_ok=True)
    return False


def _free_ports(model: onnx.ModelProto) -> None:
    for port in (*model.graph.input, *model.graph.output):
        dims = port.type.tensor_type.shape.dim
        if len(dims) and dims[0].dim_value == 1:
            dims[0].ClearField("dim_value")
            dims[0].dim_param = "tiles"


def _free_reshapes(model: onnx.ModelProto) -> None:
    """``[24, 2, 99]`` -> ``[-1, 2, 99]``, ``[1, 85, -1]`` -> ``[0, 85, -1]`` ("as it comes in").

    A target used by several reshapes is changed for all of them.
    """
    targets = {node.input[1] for node in model.graph.node if node.op_type == "Reshape" and len(node.input) > 1}
    for tensor in model.graph.initializer:
        if tensor.name in targets:
            _free_first(tensor)
    for node in model.graph.node:
        if node.op_type == "Constant" and node.output[0] in targets:
            for attribute in node.attribute:
                if attribute.name == "value":
                    _free_first(attribute.t)


def _free_first(tensor: onnx.TensorProto) -> None:
    shape = numpy_helper.to_array(tensor).copy()
    if shape.ndim == 1 and len(shape) > 1 and (shape[0] == 1 or (shape > 0).all()):
        shape[0] = 0 if (shape < 0).any() else -1
        tensor.CopyFrom(numpy_helper.from_array(shape, tensor.name))


def same_answers(file: ModelFile, path: Path) -> bool:
    """Whether the file at `path` gives for one and for three tiles what `file` gives one by one, within rounding."""
    tiles = _different_tiles(file)
    before, after = _session(file.path), _session(path)
    outputs = [port.name for port in file.outputs]
    singly = [before.run(outputs, _feed(file, tiles[row : row + 1])) for row in range(_TRIED)]
    together = after.run(outputs, _feed(file, tiles))
    alone = after.run(outputs, _feed(file, tiles[:1]))
    for position in range(len(outputs)):
        expected = np.concatenate([answers[position] for answers in singly])
        if not (_close(together[position], expected) and _close(alone[position], singly[0][position])):
            return False
    return True


def _different_tiles(file: ModelFile) -> NDArray[Any]:
    """Smooth pictures unlike each other: on bare noise a network says the same everywhere."""
    one = noise(file)
    rows = [np.roll(one[0], 7 * number, axis=-1) * (1 - 0.3 * number) for number in range(_TRIED)]
    return np.ascontiguousarray(np.stack(rows).astype(one.dtype))


def _feed(file: ModelFile, tiles: NDArray[Any]) -> dict[str, NDArray[Any]]:
    wh = (tiles.shape[2], tiles.shape[1]) if file.nhwc else (tiles.shape[3], tiles.shape[2])
    return {file.picture.name: tiles, **extra_inputs(file.extra, wh, len(tiles))}


def _close(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if one.shape != other.shape:
        return False
    spread = float(np.ptp(other)) if other.size else 0.0
    return bool(np.allclose(one, other, rtol=1e-4, atol=_TOLERANCE * max(spread, 1e-6), equal_nan=True))


def _session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
