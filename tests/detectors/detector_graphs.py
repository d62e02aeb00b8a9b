"""Small ONNX files of exactly the layouts that networks in the wild have: what they answer is a constant per tile."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from streamdet.types import Frame, Motion, Picture, TileBatch, TilePlan

_TYPES = {
    "float32": TensorProto.FLOAT,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "uint8": TensorProto.UINT8,
}


def save_constant(
    path: Path,
    outputs: Mapping[str, NDArray[Any]],
    *,
    wh: tuple[int, int] = (64, 64),
    channels: int = 3,
    batch: int | None = None,
    metadata: Mapping[str, str] | None = None,
    extra: Mapping[str, tuple[str, tuple[int | None, ...]]] | None = None,
    per_tile: bool = True,
    nhwc: bool = False,
    dtype: str = "float32",
    unbatched: bool = False,
) -> Path:
    """Write a network whose `outputs` (without the batch dimension) are the same for every tile.

    `unbatched`: its picture is (C, H, W), as torchvision exports it.

    `per_tile`: outputs get a batch dimension; else they come out as they are. `extra`: further inputs.
    """
    width, height = wh
    shape = [batch or "N", height, width, channels] if nhwc else [batch or "N", channels, height, width]
    shape = shape[1:] if unbatched else shape
    inputs = [helper.make_tensor_value_info("images", _TYPES[dtype], shape)]
    nodes = [
        helper.make_node("Shape", ["images"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "zero"], ["count"], axis=0),
    ]
    weights = [numpy_helper.from_array(np.array([0], np.int64), "zero")]
    for name, (kind, sizes) in (extra or {}).items():
        named = [size if size is not None else "N" for size in sizes]
        inputs.append(helper.make_tensor_value_info(name, _TYPES[kind], named))
    ports = []
    for name, value in outputs.items():
        rows = value[None] if per_tile else value
        weights.append(numpy_helper.from_array(np.ascontiguousarray(rows), f"{name}_value"))
        if per_tile:
            ones = np.ones(rows.ndim - 1, np.int64)
            weights.append(numpy_helper.from_array(ones, f"{name}_ones"))
            nodes.append(helper.make_node("Concat", ["count", f"{name}_ones"], [f"{name}_times"], axis=0))
            nodes.append(helper.make_node("Tile", [f"{name}_value", f"{name}_times"], [name]))
        else:
            nodes.append(helper.make_node("Identity", [f"{name}_value"], [name]))
        sizes_out = [batch or "N", *rows.shape[1:]] if per_tile else list(rows.shape)
        ports.append(helper.make_tensor_value_info(name, _TYPES[str(rows.dtype)], sizes_out))
    return _save(path, nodes, inputs, ports, weights, metadata)


def save_identity(
    path: Path, *, wh: tuple[int, int], channels: int, batch: int | None = None, out: int | None = None
) -> Path:
    """Write a network that answers with the first `out` (default all) channels of its own input."""
    shape = [batch or "N", channels, wh[1], wh[0]]
    inputs = [helper.make_tensor_value_info("frames", TensorProto.FLOAT, shape)]
    weights = [
        numpy_helper.from_array(np.array([value], np.int64), name)
        for name, value in (("a", 0), ("b", out or channels), ("c", 1))
    ]
    nodes = [helper.make_node("Slice", ["frames", "a", "b", "c"], ["maps"])]
    ports = [helper.make_tensor_value_info("maps", TensorProto.FLOAT, [shape[0], out or channels, wh[1], wh[0]])]
    return _save(path, nodes, inputs, ports, weights, None)


def save_brightest(path: Path) -> Path:
    """Write a network of torchvision's shape, picture (3, H, W) of any size: a box of 3 px round the brightest pixel."""
    one = {
        name: numpy_helper.from_array(np.array(value, np.int64), name) for name, value in (("flat", [-1]), ("one", [1]))
    }
    around = numpy_helper.from_array(np.array([[-1, -1, 2, 2]], np.float32), "around")
    where = numpy_helper.from_array(np.array(2, np.int64), "where")
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["grey"], axes=[0], keepdims=0),
        helper.make_node("Shape", ["images"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "where"], ["width"], axis=0),
        helper.make_node("Reshape", ["grey", "flat"], ["line"]),
        helper.make_node("TopK", ["line", "one"], ["scores", "place"], axis=0),
        helper.make_node("Div", ["place", "width"], ["row"]),
        helper.make_node("Mul", ["row", "width"], ["before"]),
        helper.make_node("Sub", ["place", "before"], ["column"]),
        helper.make_node("Concat", ["column", "row", "column", "row"], ["corner"], axis=0),
        helper.make_node("Cast", ["corner"], ["corner_f"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["around", "corner_f"], ["boxes"]),
        helper.make_node("Sub", ["place", "place"], ["labels"]),
    ]
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, [3, "H", "W"])]
    outputs = [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["M", 4]),
        helper.make_tensor_value_info("labels", TensorProto.INT64, ["M"]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["M"]),
    ]
    return _save(path, nodes, inputs, outputs, [*one.values(), around, where], None)


def _save(path: Path, nodes: Any, inputs: Any, outputs: Any, weights: Any, metadata: Mapping[str, str] | None) -> Path:
    graph = helper.make_graph(nodes, "graph", inputs, outputs, weights)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="streamdet tests"
    )
    if metadata:
        helper.set_model_props(model, dict(metadata))
    onnx.save(model, str(path))
    return path


def batch_of(data: NDArray[Any], plan: TilePlan) -> TileBatch:
    """A TileBatch round `data`, with a black frame behind it."""
    width, height = plan.frame_wh
    picture = np.zeros((height, width, 3), np.uint8)
    luma = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    return TileBatch(data, plan, Frame("test", 0, 0.0, Picture(luma, bgr=picture), 0.0), Motion(luma))


def plan_of(frame_wh: tuple[int, int], xyxy: Any, input_wh: tuple[int, int], scale: Any = 1.0) -> TilePlan:
    boxes = np.asarray(xyxy, np.int32).reshape(-1, 4)
    scales = np.broadcast_to(np.asarray(scale, np.float32), (len(boxes), 2)).copy()
    return TilePlan(frame_wh, input_wh, boxes, scales, np.zeros(len(boxes), np.uint8), len(boxes))
