"""A small network with weights that TensorRT can compile and every conversion has something to do with: Conv, Relu, Reshape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BOXES = 16  # of 8 px cells of a 32 px picture


def save_yolo_like(path: Path, *, batch: int | None = None, folded: bool = False, tied: bool = False) -> Path:
    """Picture (N,3,32,32) -> "output" (N,16,6): a fully convolutional toy whose scores and boxes depend on the picture.

    `folded`: a reshape that folds batch and channels, as channel shuffles do. `tied`: the mean over the batch is taken away, so
    that the answers for one picture and for three differ.
    """
    rng = np.random.default_rng(3)
    count: int | str = batch or "N"
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, [count, 3, 32, 32])]
    weights = [
        numpy_helper.from_array(rng.normal(0, 0.2, (8, 3, 3, 3)).astype(np.float32), "w1"),
        numpy_helper.from_array(rng.normal(0, 0.2, (8, 8, 3, 3)).astype(np.float32), "w15"),
        numpy_helper.from_array(rng.normal(0, 0.2, (6, 8, 1, 1)).astype(np.float32), "w2"),
        numpy_helper.from_array(np.array([batch or 0, 6, -1], np.int64), "flat"),
        numpy_helper.from_array(np.full((1, BOXES, 6), 0.5, np.float32), "half"),
    ]
    nodes = [
        helper.make_node("Conv", ["images", "w1"], ["a"], strides=[8, 8], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["a1"]),
        helper.make_node("Conv", ["a1", "w15"], ["a2"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a2"], ["b"]),
    ]
    last = "b"
    if folded:
        weights.append(numpy_helper.from_array(np.array([4 * (batch or 1), 2, 16], np.int64), "fold"))
        weights.append(numpy_helper.from_array(np.array([batch or 1, 8, 4, 4], np.int64), "unfold"))
        nodes += [
            helper.make_node("Reshape", ["b", "fold"], ["f"]),
            helper.make_node("Reshape", ["f", "unfold"], ["g"]),
        ]
        last = "g"
    nodes += [
        helper.make_node("Conv", [last, "w2"], ["c"]),
        helper.make_node("Reshape", ["c", "flat"], ["d"]),
        helper.make_node("Transpose", ["d"], ["e"], perm=[0, 2, 1]),
    ]
    last = "e"
    if tied:  # the mean over the batch: right for one picture, another number for three
        nodes += [
            helper.make_node("ReduceMean", ["e"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["e", "mean"], ["rest"]),
        ]
        last = "rest"
    nodes += [helper.make_node("Mul", [last, "half"], ["scaled"]), helper.make_node("Sigmoid", ["scaled"], ["output"])]
    ports = [helper.make_tensor_value_info("output", TensorProto.FLOAT, [count, BOXES, 6])]
    graph = helper.make_graph(nodes, "toy", inputs, ports, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, {"streamdet.name": "toy", "streamdet.labels": '["ball"]'})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path
