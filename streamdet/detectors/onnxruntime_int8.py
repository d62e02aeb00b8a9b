"""A copy of a model in 8 bits: quantize and dequantize nodes written into the file, calibrated on real tiles.

Two dialects. ``cpu``: unsigned activations, as processors with int8 instructions want them. ``tensorrt``: signed and symmetric
about 0, biases left in fp32 (TensorRT takes nothing else); the first layers, which see the picture and what moved in it, and
depthwise layers, whose few weights gain no time, stay fp32, and the rarest 0.001 % of activations saturate. With the first layer
alone in fp32 `tiny` lost 8 of 35 objects, with three 3, with five 1; the last layers made no difference.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from streamdet.detectors.onnx_graph import behind_the_last_weights, load, named, picture_of, save

__all__ = ["Dialect", "to_int8"]

Dialect = Literal["cpu", "tensorrt"]
_CPU_OPS = ["Conv", "Relu", "Add", "Resize", "MaxPool", "Concat"]
_TENSORRT_OPS = ["Conv", "ConvTranspose", "MatMul", "Gemm"]
_FIRST_LAYERS = 5
_OPSET = 13  # the first in which a scale may belong to a channel
_TENSORRT_OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "CalibPercentile": 99.999,
}


def to_int8(
    source: Path,
    target: Path,
    tiles: Iterator[NDArray[Any]],
    *,
    dialect: Dialect = "cpu",
    beside: dict[str, NDArray[Any]] | None = None,
) -> None:
    """Write the int8 copy of `source`, calibrated on batches of network input.

    The last layers with weights, and what follows them, stay fp32. `beside`: values of the inputs beside the picture.
    Raises ValueError if there are no tiles.
    """
    model = load(source)
    if any(entry.domain in ("", "ai.onnx") and entry.version < _OPSET for entry in model.opset_import):
        model = onnx.version_converter.convert_version(model, _OPSET)
    named(model)
    behind, last = behind_the_last_weights(model)
    first = next(tiles, None)
    if first is None:
        raise ValueError("there are no tiles to calibrate on")
    tensorrt = dialect == "tensorrt"
    wanted, left_out = (
        _TENSORRT_OPS if tensorrt else _CPU_OPS,
        {*last, *(behind + _delicate(model) if tensorrt else ())},
    )
    if not any(node.op_type in wanted and node.name not in left_out for node in model.graph.node):
        raise ValueError("it has no layer that 8 bits suit")
    with _without_advice():
        quantize_static(
            model,
            str(target),
            _Tiles(picture_of(model).name, first, tiles, beside or {}),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=wanted,
            nodes_to_exclude=sorted(left_out),
            per_channel=True,
            activation_type=QuantType.QInt8 if tensorrt else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.Percentile if tensorrt else CalibrationMethod.MinMax,
            extra_options=dict(_TENSORRT_OPTIONS) if tensorrt else None,
        )
    small = load(target)
    if not small.metadata_props:
        small.metadata_props.extend(load(source).metadata_props)
    save(small, target, name=target.stem)


def _delicate(model: onnx.ModelProto) -> list[str]:
    """The first layers and the depthwise ones, as long as most others are left."""
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    grouped = [
        node for node in layers if any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)
    ]
    first = max(1, min(_FIRST_LAYERS, len(layers) // 4))
    return [node.name for node in (*layers[:first], *grouped)]


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """The quantizer advises on the root logger to run its shape inference first, which needs sympy and changes nothing here; and
    it prints to standard output, which is for data."""

    def other(record: logging.LogRecord) -> bool:
        return "pre-processing before quantization" not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(other)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.removeFilter(other)


class _Tiles(CalibrationDataReader):  # type: ignore[misc]  # its package has no types
    def __init__(
        self, name: str, first: NDArray[Any], rest: Iterator[NDArray[Any]], beside: dict[str, NDArray[Any]]
    ) -> None:
        self._name, self._beside = name, beside
        self._tiles = itertools.chain([first], rest)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        tiles = next(self._tiles, None)
        return None if tiles is None else {self._name: np.ascontiguousarray(tiles), **self._beside}
