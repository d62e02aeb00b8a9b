"""A widened network answers as before, and its new channels arrive where the colours do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import streamdet
from streamdet.cli import main
from streamdet.errors import ModelError, UsageError
from streamdet.tuning.graph import widen_graph
from streamdet.tuning.widen import extra_channels, widen

SIDE = 16


def weights(name: str, *shape: int) -> Any:
    return numpy_helper.from_array(np.random.default_rng(len(name)).normal(0, 1, shape).astype(np.float32), name)


def ints(name: str, *values: int) -> Any:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def node(kind: str, inputs: str, out: str, **attributes: Any) -> Any:
    return helper.make_node(kind, inputs.split(), [out], name=out, **attributes)


def graph_of(
    nodes: list[Any],
    initial: list[Any],
    *,
    shape: list[Any] | None = None,
    opset: int = 13,
    dtype: int = TensorProto.FLOAT,
) -> Any:
    """A model of an input ``x`` and an output ``y``."""
    port = helper.make_tensor_value_info("x", dtype, shape or ["N", 3, SIDE, SIDE])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [port], [out], initial)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def conv(source: str = "x") -> list[Any]:
    return [node("Conv", f"{source} w b", "c", pads=[1, 1, 1, 1], strides=[2, 2]), node("Relu", "c", "y")]


def plain() -> Any:
    return graph_of(conv(), [weights("w", 4, 3, 3, 3), weights("b", 4)])


def dynamic() -> Any:
    return graph_of(conv(), [weights("w", 4, 3, 3, 3), weights("b", 4)], shape=["N", 3, "H", "W"])


def focus() -> Any:
    nodes, parts = [], []
    for n, (row, column) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
        nodes += [node("Slice", f"x s{row} end ah two", f"r{n}"), node("Slice", f"r{n} s{column} end aw two", f"p{n}")]
        parts.append(f"p{n}")
    nodes += [node("Concat", " ".join(parts), "f", axis=1), *conv("f")]
    bounds = [ints("s0", 0), ints("s1", 1), ints("end", 2**31), ints("ah", 2), ints("aw", 3), ints("two", 2)]
    return graph_of(nodes, [*bounds, weights("w", 4, 12, 3, 3), weights("b", 4)])


def focus_of_old() -> Any:
    """Opset 9: bounds are attributes."""
    nodes, parts = [], []
    for n, (row, column) in enumerate([(0, 0), (8, 0), (0, 8), (8, 8)]):
        nodes.append(node("Slice", "x", f"p{n}", axes=[2, 3], starts=[row, column], ends=[row + 8, column + 8]))
        parts.append(f"p{n}")
    nodes += [node("Concat", " ".join(parts), "f", axis=1), *conv("f")]
    return graph_of(nodes, [weights("w", 4, 12, 3, 3), weights("b", 4)], opset=9)


def space_to_depth() -> Any:
    return graph_of(
        [node("SpaceToDepth", "x", "f", blocksize=2), *conv("f")], [weights("w", 4, 12, 3, 3), weights("b", 4)]
    )


def normalised_nhwc() -> Any:
    mean, std = (
        numpy_helper.from_array(np.array(v, np.float32), n) for n, v in (("m", [0.4, 0.5, 0.6]), ("s", [2, 3, 4]))
    )
    nodes = [
        node("Sub", "x m", "a"),
        node("Div", "a s", "d"),
        node("Transpose", "d", "t", perm=[0, 3, 1, 2]),
        *conv("t"),
    ]
    return graph_of(nodes, [mean, std, weights("w", 4, 3, 3, 3), weights("b", 4)], shape=["N", SIDE, SIDE, 3])


def colours_swapped() -> Any:
    nodes = [node("Gather", "x order", "g", axis=1), node("Mul", "g k", "m"), *conv("m")]
    scale = numpy_helper.from_array(np.array(1 / 255, np.float32), "k")
    return graph_of(nodes, [ints("order", 2, 1, 0), scale, weights("w", 4, 3, 3, 3), weights("b", 4)])


def colours_split() -> Any:
    nodes = [
        helper.make_node("Split", ["x", "ones"], ["r", "g", "b3"], name="split", axis=1),
        node("Concat", "b3 g r", "t", axis=1),
        *conv("t"),
    ]
    return graph_of(nodes, [ints("ones", 1, 1, 1), weights("w", 4, 3, 3, 3), weights("b", 4)])


def two_branches() -> Any:
    """The picture is read twice, once at half size; and its size is asked for."""
    nodes = [
        node("Conv", "x w b", "big", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Resize", "x  sizes", "small", mode="linear", coordinate_transformation_mode="half_pixel"),
        node("Conv", "small w2 b", "little", pads=[1, 1, 1, 1]),
        node("Add", "big little", "sum"),
        node("Shape", "x", "shape"),
        node("Cast", "shape", "shape_f", to=TensorProto.FLOAT),
        node("ReduceSum", "shape_f", "total", keepdims=0),
        node("Add", "sum total", "y"),
    ]
    nodes[1].input[:] = ["x", "", "scales"]
    scales = numpy_helper.from_array(np.array([1, 1, 0.5, 0.5], np.float32), "scales")
    return graph_of(nodes, [scales, weights("w", 4, 3, 3, 3), weights("w2", 4, 3, 3, 3), weights("b", 4)])


STEMS: dict[
    str, tuple[Callable[[], Any], bool]
] = {  # and whether the stem only rearranges (no scaling, no choice of colours)
    "plain": (plain, True),
    "dynamic": (dynamic, True),
    "focus": (focus, True),
    "focus_of_old": (focus_of_old, True),
    "space_to_depth": (space_to_depth, True),
    "normalised_nhwc": (normalised_nhwc, False),
    "colours_swapped": (colours_swapped, False),
    "colours_split": (colours_split, False),
    "two_branches": (two_branches, True),
}


def answer(model: Any, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def is_nhwc(model: Any) -> bool:
    return bool(model.graph.input[0].type.tensor_type.shape.dim[3].dim_value == 3)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("name", STEMS)
def test_the_answer_stays(name: str, apart: bool) -> None:
    model = STEMS[name][0]()
    nhwc = is_nhwc(model)
    x = np.random.default_rng(1).random((2, SIDE, SIDE, 3) if nhwc else (2, 3, SIDE, SIDE), np.float32)
    before = answer(model, x)
    layers = widen_graph(model, picture="x", colours=3, extra=2, nhwc=nhwc, apart=apart)
    assert layers == (["big", "little"] if name == "two_branches" else ["c"])
    more = np.random.default_rng(2).normal(0, 50, (2, SIDE, SIDE, 2) if nhwc else (2, 2, SIDE, SIDE)).astype(np.float32)
    after = answer(model, np.concatenate([x, more], axis=3 if nhwc else 1))
    np.testing.assert_allclose(after, before, rtol=0, atol=0 if apart else 1e-5)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("name", [name for name, (_, pure) in STEMS.items() if pure])
def test_new_channels_lie_on_the_grid_of_the_colours(name: str, apart: bool) -> None:
    """With the colours' weights copied to three extra channels, a picture shown there is answered like one shown in colours."""
    model = STEMS[name][0]()
    x = np.random.default_rng(1).random((1, 3, SIDE, SIDE), np.float32)
    old = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    before = answer(model, x)
    black = answer(model, np.zeros_like(x))
    widen_graph(model, picture="x", colours=3, extra=3, nhwc=False, apart=apart)
    count = 0
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if tensor.name.startswith("streamdet_wide_weights"):
            source = [w for n, w in old.items() if n.startswith("w")][count]
            new = source if apart else np.concatenate([np.zeros_like(source), source], axis=1)
            assert new.shape == value.shape
            tensor.CopyFrom(numpy_helper.from_array(new.copy(), tensor.name))
            count += 1
    after = answer(model, np.concatenate([np.zeros_like(x), x], axis=1))
    assert not np.allclose(before, black)
    np.testing.assert_allclose(after, before, atol=1e-4)


def test_what_cannot_be_widened_is_refused_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["widen", ".", "--channels", "rgb+difference"]) == 3
    assert "does not exist" in capsys.readouterr().err
    flat = graph_of([node("Flatten", "x", "f"), node("MatMul", "f w", "y")], [weights("w", 3 * SIDE * SIDE, 4)])
    with pytest.raises(
        ModelError, match=r"no convolution is in reach of the input 'x' \(what comes first is Flatten\)"
    ):
        widen_graph(flat, picture="x", colours=3, extra=1, nhwc=False)
    depthwise = graph_of([node("Conv", "x w", "y", group=3)], [weights("w", 3, 1, 3, 3)])
    with pytest.raises(ModelError, match="no convolution is in reach"):
        widen_graph(depthwise, picture="x", colours=3, extra=1, nhwc=False)
    scale, zero = numpy_helper.from_array(np.float32(1), "k"), numpy_helper.from_array(np.uint8(0), "z")
    quantised = graph_of(
        [node("QuantizeLinear", "x k z", "q"), node("DequantizeLinear", "q k z", "d"), *conv("d")],
        [scale, zero, weights("w", 4, 3, 3, 3), weights("b", 4)],
    )
    with pytest.raises(ModelError, match="quantised"):
        widen_graph(quantised, picture="x", colours=3, extra=1, nhwc=False)


def test_channels_are_read_as_people_write_them() -> None:
    assert extra_channels("rgb+difference+background") == ("difference", "background_difference")
    assert extra_channels("previous+rgb[-1]") == ("previous_difference", "r[-1]", "g[-1]", "b[-1]")
    for bad in ("rgb", "", "rgb+flow", "difference+difference"):
        with pytest.raises(UsageError, match="--channels"):
            extra_channels(bad)


DETECTORS = (
    "deimv2_atto_320_coco", "deimv2_femto_416_coco", "fastestdet_352_coco", "nanodet_m_416_coco",
    "picodet_s_416_coco", "yolox_nano_416_coco",
)  # fmt: skip


@pytest.mark.parametrize("name", DETECTORS)
def test_real_detectors_answer_as_before(shared_data: Path, tmp_path: Path, name: str) -> None:
    made = widen(shared_data / "models" / f"{name}.onnx", "rgb+difference+background", out=tmp_path / f"{name}.onnx")
    assert made.difference <= 1e-5
    assert made.channels[3:] == ("difference", "background_difference")


def test_a_run_with_the_widened_network_finds_the_same(shared_data: Path, tmp_path: Path) -> None:
    """The whole pipeline, real motion in the new channels: the manifest feeds the network right."""
    source = shared_data / "models" / "yolox_nano_416_coco.onnx"
    made = widen(source, "rgb+difference+background", out=tmp_path / "wide.onnx")
    clip = shared_data / "clips" / "pedestrians" / "vtest_480x360.avi"
    results = [
        [
            result.detections
            for result in streamdet.run(clip, model=model, backend="onnxruntime", look="all", max_frames=6)
        ]
        for model in (source, made.path)
    ]
    assert sum(len(found) for found in results[0]) > 10
    for before, after in zip(*results, strict=True):
        np.testing.assert_allclose(after.xyxy, before.xyxy, atol=1e-4)
        np.testing.assert_allclose(after.score, before.score, atol=1e-5)
        np.testing.assert_array_equal(after.label, before.label)


def test_the_command_writes_model_and_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On a network made here: a YOLOX-shaped head on a convolution, channels last, normalised inside."""
    path = detector(tmp_path / "small.onnx")
    assert main(["widen", str(path), "--channels", "rgb+difference"]) == 0
    said = capsys.readouterr().out
    assert "small_wide.onnx" in said
    assert "input r g b difference" in said
    text = (tmp_path / "small_wide.toml").read_text()
    assert 'channels = ["r", "g", "b", "difference"]' in text
    assert main(["widen", str(path), "--channels", "rgb+difference", "--out", str(path)]) == 2
    assert "is the model itself" in capsys.readouterr().err
    assert (
        main(
            ["widen", str(tmp_path / "small_wide.onnx"), "--channels", "difference", "--out", str(tmp_path / "b.onnx")]
        )
        == 3
    )
    assert "has the channel difference already" in capsys.readouterr().err


def detector(path: Path) -> Path:
    """YOLOv8-shaped: (1, 4 + 2 classes, 84 cells) of a 64x64 picture, channels last; three convolutions read the picture."""
    nodes = [node("Transpose", "x", "t", perm=[0, 3, 1, 2])]
    initial = [ints("flat", 1, 6, -1)]
    for side in (8, 16, 32):
        nodes += [
            node("Conv", f"t w{side}", f"c{side}", strides=[side, side]),
            node("Reshape", f"c{side} flat", f"r{side}"),
        ]
        initial.append(weights(f"w{side}", 6, 3, side, side))
    nodes += [node("Concat", "r8 r16 r32", "all", axis=2), node("Sigmoid", "all", "y")]
    model = graph_of(nodes, initial, shape=[1, 64, 64, 3])
    helper.set_model_props(model, {"names": "{0: 'ball', 1: 'bird'}"})
    onnx.save(model, str(path))
    return path
