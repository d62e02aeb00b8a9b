"""The fp16 and int8 copies answer as the model does, in every runtime here, and are listed with it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from engines.copies import loads_everywhere, to_half, to_int8, worst_gap, write_manifest
from streamdet.assemble import engines_folder, models
from streamdet.config import ModelConfig
from streamdet.detectors.network import open_detector

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.filterwarnings("ignore")  # of onnxruntime's own tools


def specks(seed: int, count: int = 4) -> NDArray[np.float32]:
    """Network input in which something like small movers is seen."""
    rng = np.random.default_rng(seed)
    picture = rng.normal(0, 0.05, (count, 6, 128, 160)).astype(np.float32)
    for sample in picture:
        for _ in range(8):
            x, y, size = rng.integers(8, 140), rng.integers(8, 110), rng.integers(3, 8)
            sample[:, y : y + size, x : x + size] += rng.uniform(0.8, 2)
    return picture


def answer_gap(path: Path) -> NDArray[np.float32]:
    """How far offset (px) and size (log px) are from the model's, everywhere."""
    outputs = []
    for file in (engines_folder() / "tiny.onnx", path):
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        _, offset, size = session.run(None, {"picture": specks(9, 2)})
        outputs.append(np.concatenate([4 * offset, size], axis=1))
    gap: NDArray[np.float32] = np.abs(outputs[0] - outputs[1])
    return gap


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copies")
    tiles: Iterator[NDArray[np.float32]] = (specks(seed) for seed in range(4))
    to_half(engines_folder() / "tiny.onnx", folder / "tiny_fp16.onnx")
    to_int8(engines_folder() / "tiny.onnx", folder / "tiny_int8.onnx", tiles)
    return folder


def test_half_is_half_inside_and_answers_the_same(copies: Path) -> None:
    path = copies / "tiny_fp16.onnx"
    model = onnx.load(str(path))
    kinds = {tensor.data_type for tensor in model.graph.initializer if np.prod(tensor.dims) > 16}
    assert kinds == {onnx.TensorProto.FLOAT16}
    ends = [*model.graph.input, *model.graph.output]
    assert {port.type.tensor_type.elem_type for port in ends} == {onnx.TensorProto.FLOAT}
    assert path.stat().st_size < 0.6 * (engines_folder() / "tiny.onnx").stat().st_size
    assert np.max(answer_gap(path)) < 0.1  # px of the centre, log px of the size
    gap = worst_gap(engines_folder() / "tiny.onnx", path, specks(9, 8), floor=0.002)
    assert gap["peaks"] > 5
    assert gap["in_both"] > 0.9
    assert gap["centre_px_p99"] < 0.1
    assert gap["score_median"] < 0.01


def test_int8_is_a_third_and_answers_nearly_the_same(copies: Path) -> None:
    path = copies / "tiny_int8.onnx"
    kinds = {node.op_type for node in onnx.load(str(path)).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    assert path.stat().st_size < 0.45 * (engines_folder() / "tiny.onnx").stat().st_size
    assert np.median(answer_gap(path)) < 0.1


@pytest.mark.parametrize("name", ["tiny_fp16", "tiny_int8"])
def test_copies_load_everywhere_and_know_what_they_are(copies: Path, name: str) -> None:
    path = copies / f"{name}.onnx"
    write_manifest(path, "a copy", "as good as the model")
    assert loads_everywhere(path)[0] == "onnxruntime"
    with (
        open_detector(ModelConfig(backend="onnxruntime", threads=1), path) as copy,
        open_detector(ModelConfig(backend="onnxruntime", threads=1), engines_folder() / "tiny.onnx") as model,
    ):
        assert copy.input == model.input
        assert (copy.labels, copy.threshold) == (model.labels, model.threshold)
    props = {prop.key: prop.value for prop in onnx.load(str(path)).metadata_props}
    assert props["streamdet.name"] == name


def test_what_is_listed_is_in_the_wheel_and_small() -> None:
    packed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    ours = [card for card in models() if card.path is not None]
    assert ours[0].name == "tiny"
    for path in (ROOT / "engines").glob("*.onnx"):
        assert {f"engines/{path.name}", f"engines/{path.stem}.toml"} <= set(packed["force-include"])
        assert path.stat().st_size < 2_000_000
        assert path.stem in {card.name for card in ours}
    assert all((ROOT / name).is_file() for name in packed["force-include"])
