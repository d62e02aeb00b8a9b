"""Copies for the GPU: a free batch, half precision, 8 bits. What they answer is compared with the file they were made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from conv_graphs import save_yolo_like
from numpy.typing import NDArray

from streamdet.config import ModelConfig
from streamdet.detectors.network import NetworkDetector
from streamdet.detectors.onnxruntime_batch import free_batch
from streamdet.detectors.onnxruntime_half import to_half
from streamdet.detectors.onnxruntime_int8 import to_int8
from streamdet.detectors.prepared import prepared
from streamdet.detectors.sniff import input_shape
from streamdet.detectors.spec import read_model
from streamdet.errors import ModelError

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:.*:UserWarning")
FIXED = ("yolox_nano_416_coco", "nanodet_m_416_coco", "picodet_s_416_coco", "fastestdet_352_coco")


def answer(path: Path, tiles: NDArray[Any]) -> NDArray[Any]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    port = session.get_inputs()[0]
    kind = np.float16 if port.type == "tensor(float16)" else np.float32
    return np.asarray(session.run(None, {port.name: tiles.astype(kind)})[0])


def pictures(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(5).random((count, 3, 32, 32), np.float32)


@pytest.mark.parametrize("folded", [False, True])
def test_a_batch_of_one_is_freed(tmp_path: Path, folded: bool) -> None:
    file = read_model(save_yolo_like(tmp_path / "toy.onnx", batch=1, folded=folded))
    assert free_batch(file, tmp_path / "free.onnx")
    tiles = pictures(5)
    singly = np.concatenate([answer(file.path, tile[None]) for tile in tiles])
    np.testing.assert_allclose(answer(tmp_path / "free.onnx", tiles), singly, rtol=1e-5, atol=1e-6)
    assert input_shape(read_model(tmp_path / "free.onnx"))[0] is None


def test_a_batch_that_mixes_its_pictures_stays_one(tmp_path: Path) -> None:
    file = read_model(save_yolo_like(tmp_path / "toy.onnx", batch=1, tied=True))
    assert not free_batch(file, tmp_path / "free.onnx")
    assert not (tmp_path / "free.onnx").exists()


@pytest.mark.parametrize("name", FIXED)
def test_real_exports_are_freed(shared_data: Path, tmp_path: Path, name: str) -> None:
    file = read_model(shared_data / "models" / f"{name}.onnx")
    assert free_batch(file, tmp_path / "free.onnx")


def test_half_takes_half_pictures_and_gives_the_same(tmp_path: Path) -> None:
    path = save_yolo_like(tmp_path / "toy.onnx")
    to_half(path, tmp_path / "toy_half.onnx", half_input=True)
    half = read_model(tmp_path / "toy_half.onnx")
    assert half.picture.dtype == "float16"
    assert [port.dtype for port in half.outputs] == ["float32"]
    gap = np.abs(answer(half.path, pictures(4)) - answer(path, pictures(4)))
    assert 0 < gap.max() < 2e-3  # not the same file, nearly the same numbers


def test_int8_in_tensorrts_dialect_is_symmetric_and_without_biases(tmp_path: Path) -> None:
    path = save_yolo_like(tmp_path / "toy.onnx")
    to_int8(path, tmp_path / "small.onnx", iter([pictures(4), pictures(4)]), dialect="tensorrt")
    model = onnx.load(str(tmp_path / "small.onnx"))
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    quantizers = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(quantizers) >= 3
    for node in quantizers:
        zero = values[node.input[2]]
        assert zero.dtype == np.int8
        assert not zero.any()
    gap = np.abs(answer(tmp_path / "small.onnx", pictures(4)) - answer(path, pictures(4)))
    assert gap.max() < 0.05


def test_int8_without_a_layer_that_gains_says_so(tmp_path: Path) -> None:
    from detector_graphs import save_identity

    path = save_identity(tmp_path / "same.onnx", wh=(32, 32), channels=3)
    with pytest.raises(ValueError, match="no layer that 8 bits suit"):
        to_int8(path, tmp_path / "small.onnx", iter([pictures(2)]), dialect="tensorrt")


def test_int8_needs_tiles(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no tiles"):
        to_int8(save_yolo_like(tmp_path / "toy.onnx"), tmp_path / "small.onnx", iter([]))


def test_a_prepared_file_is_made_once_and_knows_what_its_manifest_says(tmp_path: Path) -> None:
    path = save_yolo_like(tmp_path / "toy.onnx", batch=1)
    (tmp_path / "toy.toml").write_text('labels = ["shuttle"]\n')
    file = read_model(path)
    copy = prepared(file, precision="fp16", folder=tmp_path / "cache")
    assert input_shape(copy)[0] is None
    assert copy.said.labels == ["shuttle"]
    made = copy.path.stat().st_mtime_ns
    assert prepared(file, precision="fp16", folder=tmp_path / "cache").path.stat().st_mtime_ns == made
    assert [entry.suffix for entry in (tmp_path / "cache").iterdir()] == [".onnx"]  # no scratch left


def test_fp32_with_a_free_batch_is_the_file_itself(tmp_path: Path) -> None:
    file = read_model(save_yolo_like(tmp_path / "toy.onnx"))
    assert prepared(file, precision="fp32", folder=tmp_path / "cache") is file


def test_a_half_or_quantized_file_keeps_its_own_precision(tmp_path: Path) -> None:
    path = save_yolo_like(tmp_path / "toy.onnx")
    to_half(path, tmp_path / "half.onnx", half_input=True)
    to_int8(path, tmp_path / "small.onnx", iter([pictures(2)]), dialect="tensorrt")
    for name in ("half", "small"):
        file = read_model(tmp_path / f"{name}.onnx")
        assert prepared(file, precision="fp16", folder=tmp_path / "cache") is file


def test_int8_that_was_never_calibrated_says_how(tmp_path: Path) -> None:
    file = read_model(save_yolo_like(tmp_path / "toy.onnx"))
    with pytest.raises(ModelError, match=r"build .*toy\.onnx --precision int8 --calibrate CLIP"):
        prepared(file, precision="int8", folder=tmp_path / "cache")
    prepared(file, precision="int8", folder=tmp_path / "cache", tiles=iter([pictures(3)]))
    assert prepared(file, precision="int8", folder=tmp_path / "cache").path.is_file()  # now it is known


def test_a_half_copy_of_the_embedded_network_is_read_as_the_network(tmp_path: Path) -> None:
    from streamdet.assemble import find_model

    path = find_model("tiny")
    assert path is not None
    file = read_model(path)
    copy = prepared(file, precision="fp16", folder=tmp_path)
    with (
        NetworkDetector(ModelConfig(backend="onnxruntime", threads=1), file) as model,
        NetworkDetector(ModelConfig(backend="onnxruntime", threads=1), copy) as half,
    ):
        assert half.input.dtype == "float16"
        assert half.input.channels == model.input.channels
        assert (half.labels, half.threshold) == (model.labels, model.threshold)
