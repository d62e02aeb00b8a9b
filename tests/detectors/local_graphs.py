"""A small network in YOLOX's layout that finds what is bright: purely local, or not, on demand."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STRIDES = (8, 16, 32)
Spoilt = Literal["", "pooled", "baked", "reversed", "tall", "coarse"]


def save_bright(path: Path, wh: tuple[int, int], *, spoilt: Spoilt = "", batch: int = 1, free: bool = False) -> Path:
    """Picture (N,3,H,W) -> "output" (N,cells,6), one class, as offsets of cells: a cell of 8 px is as sure as it is bright.

    `spoilt`: "pooled": brightness is judged against the mean of the picture; "baked": the number of cells is written into the
    graph; "reversed": the last cell comes first, so that every place depends on the size; "tall": the height is written into the
    graph, any width will do; "coarse": sizes have to be multiples of 64, which the file does not say. `free`: it is
    for pictures of any size.
    """
    width, height = wh
    cells = sum((width // stride) * (height // stride) for stride in STRIDES)
    head = np.zeros((6, 3, 1, 1), np.float32)
    head[4:] = 1 / 3  # objectness and class; offsets and logarithms of sizes stay 0
    shift = np.array([0, 0, 0, 0, -12, 0], np.float32)
    weights = [numpy_helper.from_array(head * 0.1, "head"), numpy_helper.from_array(shift, "shift")]
    weights.append(numpy_helper.from_array(np.array([batch, 6, -1], np.int64), "flat"))
    nodes, flat = [], []
    picture = "images"
    if spoilt == "tall":
        picture = "tall"
        weights.append(numpy_helper.from_array(np.array([batch, 3, height, -1], np.int64), "size"))
        nodes.append(helper.make_node("Reshape", ["images", "size"], [picture]))
    for stride in STRIDES:
        maps = f"map{stride}"
        nodes.append(
            helper.make_node("AveragePool", [picture], [maps], kernel_shape=[stride] * 2, strides=[stride] * 2)
        )
        if spoilt == "coarse" and stride == STRIDES[-1]:
            weights.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "twice"))
            nodes += [
                helper.make_node("AveragePool", [maps], ["half"], kernel_shape=[2, 2], strides=[2, 2]),
                helper.make_node("Resize", ["half", "", "twice"], ["smooth"], mode="nearest"),
                helper.make_node("Max", [maps, "smooth"], ["both"]),
            ]
            maps = "both"
        if spoilt == "pooled":
            nodes += [
                helper.make_node("GlobalAveragePool", [maps], [f"mean{stride}"]),
                helper.make_node("Sub", [maps, f"mean{stride}"], [f"over{stride}"]),
            ]
            maps = f"over{stride}"
        nodes.append(helper.make_node("Conv", [maps, "head", "shift"], [f"raw{stride}"]))
        nodes.append(helper.make_node("Reshape", [f"raw{stride}", "flat"], [f"flat{stride}"]))
        flat.append(f"flat{stride}")
    nodes += [
        helper.make_node("Concat", flat, ["all"], axis=2),
        helper.make_node("Transpose", ["all"], ["rows"], perm=[0, 2, 1]),
        helper.make_node("Split", ["rows", "parts"], ["box", "raw"], axis=2),
        helper.make_node("Sigmoid", ["raw"], ["scores"]),
        helper.make_node("Concat", ["box", "scores"], ["joined"], axis=2),
    ]
    weights.append(numpy_helper.from_array(np.array([4, 2], np.int64), "parts"))
    last = "joined"
    if spoilt == "baked":
        weights.append(numpy_helper.from_array(np.ones((batch, cells, 6), np.float32), "ones"))
        nodes.append(helper.make_node("Mul", [last, "ones"], ["output"]))
    elif spoilt == "reversed":
        for name, value in (("from", -1), ("to", -(1 << 31)), ("along", 1), ("by", -1)):
            weights.append(numpy_helper.from_array(np.array([value], np.int64), name))
        nodes.append(helper.make_node("Slice", [last, "from", "to", "along", "by"], ["output"]))
    else:
        nodes.append(helper.make_node("Identity", [last], ["output"]))
    sizes, count = (["height", "width"], "cells") if free else ([height, width], cells)
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, *sizes])]
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, [batch, count, 6])]
    graph = helper.make_graph(nodes, "bright", inputs, outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path
