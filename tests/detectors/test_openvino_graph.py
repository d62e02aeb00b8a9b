"""What is changed in a model for OpenVINO changes none of its numbers: against onnxruntime on the file as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from focus_graphs import save_focus
from numpy.typing import NDArray

from streamdet.detectors.backend import Backend
from streamdet.detectors.onnxruntime_backend import OnnxRuntimeBackend
from streamdet.detectors.openvino_backend import OpenVinoBackend, installed
from streamdet.detectors.openvino_centre import centre_first_layers
from streamdet.detectors.openvino_graph import fold_rearrangement, in_bytes, turned_outputs
from streamdet.detectors.spec import read_model
from streamdet.inputspec import InputSpec

pytestmark = pytest.mark.skipif(not installed(), reason="openvino is not installed")

PLAIN = InputSpec(wh=(64, 64), channels=("b", "g", "r"))
SCALED = replace(PLAIN, mean=(103.5, 116.25, 123.75), std=(57.0, 57.5, 58.0))


def pictures(count: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (count, 64, 64, 3), np.uint8)


def as_spec(data: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    affine = np.array([spec.affine(index) for index in range(3)], np.float32)
    return np.ascontiguousarray((data * affine[:, 0] + affine[:, 1]).transpose(0, 3, 1, 2).astype(np.float32))


def answers(backend: Backend, data: NDArray[Any]) -> NDArray[np.float32]:
    parts = [np.array(raw["output"])[:rows] for _, rows, raw in backend.infer(data)]
    return np.concatenate(parts)


def kinds(model: Any) -> list[str]:
    return [node.get_type_name() for node in model.get_ordered_ops()]


def loaded(path: Path) -> Any:
    import openvino

    model = openvino.Core().read_model(str(path))
    model.reshape({"images": [1, 3, 64, 64]})
    return model


@pytest.mark.parametrize("order", ["columns", "rows"])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_slices_go_into_the_convolution(tmp_path: Path, order: str, kernel: int) -> None:
    path = save_focus(tmp_path / "m.onnx", order=order, kernel=kernel)
    model = loaded(path)
    assert fold_rearrangement(model, "images")
    assert not {"Slice", "StridedSlice"} & set(kinds(model))
    first = next(node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution")
    assert list(first.input_value(1).get_shape()) == [8, 3, 2 * kernel, 2 * kernel]
    file = read_model(path)
    with OnnxRuntimeBackend(file, threads=1) as known, OpenVinoBackend(file, threads=1) as ours:
        data = as_spec(pictures(), PLAIN)
        np.testing.assert_allclose(answers(ours, data), answers(known, data), atol=1e-4)


def test_what_does_more_than_move_px_stays(tmp_path: Path) -> None:
    model = loaded(save_focus(tmp_path / "m.onnx", extra="relu"))
    assert not fold_rearrangement(model, "images")
    assert {"Slice", "StridedSlice"} & set(kinds(model))


@pytest.mark.parametrize("spec", [PLAIN, SCALED, replace(SCALED, mean=(0.0,), std=(255.0,))])
@pytest.mark.parametrize("extra", ["", "relu", "read twice"])
def test_bytes_are_worth_what_numbers_are(tmp_path: Path, spec: InputSpec, extra: str) -> None:
    file = read_model(save_focus(tmp_path / "m.onnx", extra=extra))
    with OnnxRuntimeBackend(file, threads=1) as known, OpenVinoBackend(file, threads=4) as ours:
        taken = ours.wants(spec)
        assert (taken.dtype, taken.layout, taken.affine(0)) == ("uint8", "nhwc", (1.0, 0.0))
        for count in (1, 2, 5):  # one tile on all threads, two side by side, and both ways
            data = pictures(count)
            np.testing.assert_allclose(answers(ours, data), answers(known, as_spec(data, spec)), atol=1e-4)
        data = as_spec(pictures(2), spec)
        np.testing.assert_allclose(
            answers(ours, data), answers(known, data), atol=1e-4, err_msg="numbers are taken too"
        )


def test_differences_are_taken_in_levels(tmp_path: Path) -> None:
    import openvino
    from conv_graphs import save_yolo_like

    spec = InputSpec(wh=(32, 32), channels=("r", "g", "difference"), mean=(10.0,), std=(50.0,))
    model = openvino.Core().read_model(str(save_yolo_like(tmp_path / "m.onnx", batch=1)))
    data = np.random.default_rng(2).integers(0, 256, (1, 32, 32, 3), np.uint8)
    numbers = (data.astype(np.float32) - (10, 10, 128)) / np.array((50, 50, 64), np.float32)
    wanted = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(
        np.ascontiguousarray(numbers.transpose(0, 3, 1, 2), np.float32)
    )[0]
    ours = openvino.compile_model(in_bytes(model, "images", spec), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(ours(data.reshape(1, 32, 96))[0], wanted, atol=1e-4)


def test_in_bytes_nothing_is_transposed_that_matters(tmp_path: Path) -> None:
    model = in_bytes(loaded(save_focus(tmp_path / "m.onnx")), "images", PLAIN)
    assert list(model.input("images").shape) == [1, 64, 192]
    assert turned_outputs(model) == {"output": (0, (0, 2, 1))}
    assert list(model.outputs[0].shape) == [1, 7, 64]
    assert not {"Slice", "StridedSlice"} & set(kinds(model))


@pytest.mark.parametrize(
    "spec",
    [
        InputSpec(channels=("r", "g", "b", "difference"), signed_clip=3.0),
        InputSpec(channels=("y[-2]", "y[-1]", "y[0]")),
        replace(PLAIN, dtype="float16"),
        replace(PLAIN, pad_value=0.5),
    ],
)
def test_other_inputs_stay_as_they_are(tmp_path: Path, spec: InputSpec) -> None:
    with OpenVinoBackend(read_model(save_focus(tmp_path / "m.onnx")), threads=1) as backend:
        assert backend.wants(spec) == spec


def test_what_stands_away_from_zero_is_brought_there(tmp_path: Path) -> None:
    """In fp32 the answers are the same; what is rounded in bf16 is small now."""
    import openvino

    core, exact = openvino.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
    path = save_focus(tmp_path / "m.onnx", shift=40.0)
    before, after = loaded(path), loaded(path)
    assert centre_first_layers(core, after, "images", [[grey] * 3 for grey in (40, 110, 200)]) == 1
    data = as_spec(pictures(1), PLAIN)
    wanted = core.compile_model(before, "CPU", exact)(data)[0]
    np.testing.assert_allclose(core.compile_model(after, "CPU", exact)(data)[0], wanted, atol=1e-3)
    last = [node for node in after.get_ordered_ops() if node.get_type_name() == "Convolution"][-1]
    fed = openvino.Model([last.input_value(0)], after.get_parameters(), "fed").clone()
    assert np.abs(core.compile_model(fed, "CPU", exact)(data)[0]).max() < 2.5


def test_a_layer_with_padding_is_not_touched(tmp_path: Path) -> None:
    import openvino

    model = loaded(save_focus(tmp_path / "m.onnx", extra="read twice"))
    for node in model.get_ordered_ops():  # the only 1x1 convolution, now with a border of zeros
        if node.get_type_name() == "Convolution" and list(node.input_value(1).get_shape())[2:] == [1, 1]:
            node.set_attribute("pads_begin", [1, 1])
            node.set_attribute("pads_end", [1, 1])
            break
    assert centre_first_layers(openvino.Core(), model, "images", [[40] * 3, [200] * 3]) == 0
