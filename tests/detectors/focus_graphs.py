"""Small networks that begin as YOLOX does: px of 2x2 blocks side by side as channels, then a convolution over those."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CELLS = 64  # of 8 px, in 64x64 px


def save_focus(path: Path, *, order: str = "columns", kernel: int = 3, extra: str = "", shift: float = 0.0) -> Path:
    """Picture (N,3,64,64) -> "output" (N,64,7): YOLOX rows of two classes, last thing a transpose, as in the official files.

    `order` of the four slices: "columns" (as YOLOX) or "rows". `extra`: "relu" between slices and convolution (cannot be folded),
    "read twice": the picture is used again. `shift`: added to the boxes before the last layer, where bf16 loses px.
    """
    rng = np.random.default_rng(5)
    weights = {
        "w1": rng.normal(0, 0.01, (8, 12, kernel, kernel)),
        "b1": rng.normal(0, 0.5, 8),
        "w2": rng.normal(0, 0.3, (8, 8, 4, 4)),
        "w3": rng.normal(0, 0.3, (7, 8, 1, 1)),
    }
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    numbers = {"zero": [0], "one": [1], "two": [2], "far": [2**31 - 1], "height": [2], "width": [3], "flat": [0, 7, -1]}
    tensors += [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in numbers.items()]
    nodes, parts = [], []
    corners = [(0, 0), (1, 0), (0, 1), (1, 1)] if order == "columns" else [(0, 0), (0, 1), (1, 0), (1, 1)]
    for y, x in corners:
        name = f"part{y}{x}"
        nodes.append(
            helper.make_node("Slice", ["images", ("zero", "one")[y], "far", "height", "two"], [f"{name}_rows"])
        )
        nodes.append(helper.make_node("Slice", [f"{name}_rows", ("zero", "one")[x], "far", "width", "two"], [name]))
        parts.append(name)
    nodes.append(helper.make_node("Concat", parts, ["blocks"], axis=1))
    if extra == "relu":
        nodes.append(helper.make_node("Relu", ["blocks"], ["blocks_up"]))
    side = kernel // 2
    nodes += [
        helper.make_node("Conv", ["blocks_up" if extra == "relu" else "blocks", "w1", "b1"], ["a"], pads=[side] * 4),
        helper.make_node("Sigmoid", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], strides=[4, 4]),
        helper.make_node("Tanh", ["c"], ["d"]),
    ]
    last = "d"
    if shift:
        tensors.append(numpy_helper.from_array(np.full((1, 8, 1, 1), shift, np.float32), "shift"))
        nodes.append(helper.make_node("Add", ["d", "shift"], ["far_away"]))
        last = "far_away"
    if extra == "read twice":
        tensors.append(numpy_helper.from_array(rng.normal(0, 0.001, (8, 3, 8, 8)).astype(np.float32), "w4"))
        nodes.append(helper.make_node("Conv", ["images", "w4"], ["again"], strides=[8, 8]))
        nodes.append(helper.make_node("Add", [last, "again"], ["both"]))
        last = "both"
    nodes += [
        helper.make_node("Conv", [last, "w3"], ["e"]),
        helper.make_node("Reshape", ["e", "flat"], ["f"]),
        helper.make_node("Transpose", ["f"], ["output"], perm=[0, 2, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "focus",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 64, 64])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", CELLS, 7])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path
