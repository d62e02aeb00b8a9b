"""A network that really segments: what is bright is one object. Outputs as a YOLOv8 segmentation export gives them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def save_blob_segmenter(path: Path, size: int = 128, *, stride: int = 4) -> Path:
    """One object per tile: the bounds of all px brighter than a half, its mask from one prototype at `stride`.

    Output0 (N, 4+1+1, cells): cx, cy, w, h, score, coefficient; output1 (N, 1, size/stride, size/stride).
    """
    cells = sum((size // s) ** 2 for s in (8, 16, 32))
    weights = {
        "half": np.float32(0.5),
        "two": np.float32(2),
        "one": np.float32(1),
        "gain": np.float32(20),
        "pads": np.array([0, 0, 0, 0, 0, cells - 1], np.int64),
    }
    node = helper.make_node
    nodes = [
        node("ReduceMean", ["images"], ["grey"], axes=[1], keepdims=1),
        node("AveragePool", ["grey"], ["small"], kernel_shape=[stride, stride], strides=[stride, stride]),
        node("Sub", ["small", "half"], ["centred"]),
        node("Mul", ["centred", "gain"], ["output1"]),
        node("Greater", ["grey", "half"], ["is_bright"]),
        node("Cast", ["is_bright"], ["bright"], to=TensorProto.FLOAT),
        node("ReduceMax", ["bright"], ["score4"], axes=[2, 3], keepdims=1),
        node("Squeeze", ["score4"], ["score"], axes=[3]),
    ]
    for axis, name in ((2, "x"), (3, "y")):
        along = 3 if name == "x" else 2
        nodes += [
            node("ReduceMax", ["bright"], [f"line_{name}"], axes=[axis], keepdims=1),
            node("ArgMax", [f"line_{name}"], [f"first_{name}"], axis=along, keepdims=1),
            node("ArgMax", [f"line_{name}"], [f"last_{name}"], axis=along, keepdims=1, select_last_index=1),
            node("Cast", [f"first_{name}"], [f"f_{name}"], to=TensorProto.FLOAT),
            node("Cast", [f"last_{name}"], [f"l_{name}"], to=TensorProto.FLOAT),
            node("Add", [f"l_{name}", "one"], [f"end_{name}"]),
            node("Sub", [f"end_{name}", f"f_{name}"], [f"long4_{name}"]),
            node("Add", [f"end_{name}", f"f_{name}"], [f"sum_{name}"]),
            node("Div", [f"sum_{name}", "two"], [f"mid4_{name}"]),
            node("Squeeze", [f"long4_{name}"], [f"long_{name}"], axes=[3]),
            node("Squeeze", [f"mid4_{name}"], [f"mid_{name}"], axes=[3]),
        ]
    nodes += [
        node("Concat", ["mid_x", "mid_y", "long_x", "long_y", "score", "score"], ["row"], axis=1),
        node("Pad", ["row", "pads"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "blobs",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, size, size])],
        [
            helper.make_tensor_value_info("output0", TensorProto.FLOAT, ["N", 6, cells]),
            helper.make_tensor_value_info("output1", TensorProto.FLOAT, ["N", 1, size // stride, size // stride]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items() if name in _used(nodes)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=8)
    for key, value in {"names": "{0: 'blob'}", "task": "segment", "stride": "32"}.items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def _used(nodes: list[onnx.NodeProto]) -> set[str]:
    return {name for one in nodes for name in one.input}
