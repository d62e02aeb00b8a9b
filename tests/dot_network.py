"""A real ONNX detector small enough for tests: it finds red and blue dots of about 12 px, with their purity as score."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from streamdet.types import U8

INPUT_PX = 128
_CELL = 8


def save_dot_network(path: Path) -> Path:
    """Classes: red, blue. Any number of tiles of 128 x 128 px."""
    cells = INPUT_PX // _CELL
    colours = np.array([[1, -1, -1], [-1, -1, 1]], np.float32).reshape(2, 3, 1, 1)
    ones = np.array([1, 1, 1], np.int64)
    weights = [
        numpy_helper.from_array(colours, "colours"),
        numpy_helper.from_array(np.float32(0), "low"),
        numpy_helper.from_array(np.float32(1), "high"),
        numpy_helper.from_array(np.full((1, 2, cells, cells), 0.5, np.float32), "half"),
        numpy_helper.from_array(np.full((1, 2, cells, cells), np.log(12), np.float32), "twelve"),
        numpy_helper.from_array(np.array([0], np.int64), "zero"),
        numpy_helper.from_array(ones, "ones"),
    ]
    nodes = [
        helper.make_node("Conv", ["images", "colours"], ["purity"]),
        helper.make_node("Clip", ["purity", "low", "high"], ["clipped"]),
        helper.make_node("AveragePool", ["clipped"], ["mean"], kernel_shape=[5, 5], pads=[2, 2, 2, 2]),
        helper.make_node("MaxPool", ["mean"], ["heat"], kernel_shape=[_CELL, _CELL], strides=[_CELL, _CELL]),
        helper.make_node("Shape", ["images"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "zero"], ["count"], axis=0),
        helper.make_node("Concat", ["count", "ones"], ["times"], axis=0),
        helper.make_node("Tile", ["half", "times"], ["offset"]),
        helper.make_node("Tile", ["twelve", "times"], ["size"]),
    ]
    graph = helper.make_graph(
        nodes,
        "dots",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, INPUT_PX, INPUT_PX])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2, cells, cells])
            for name in ("heat", "offset", "size")
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    said = {"labels": '["red", "blue"]', "std": "[255, 255, 255]", "activation": '"none"', "pad": "0"}
    helper.set_model_props(model, {f"streamdet.{key}": value for key, value in said.items()})
    onnx.save(model, str(path))
    return path


def dots(wh: tuple[int, int], *places: tuple[int, int, str, float]) -> U8:
    """A black picture with discs of 12 px at (x, y) in ``"red"`` or ``"blue"`` of a purity 0..1."""
    picture = np.zeros((wh[1], wh[0], 3), np.uint8)
    for x, y, colour, purity in places:
        level = round(255 * purity)
        cv2.circle(picture, (x, y), 6, (0, 0, level) if colour == "red" else (level, 0, 0), -1)
    return picture
