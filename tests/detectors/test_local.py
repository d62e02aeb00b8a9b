"""Networks that may be given larger inputs: found out by trying, remembered, and then run so."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from local_graphs import Spoilt, save_bright

import streamdet
from streamdet.config import ModelConfig
from streamdet.detectors import choose as choosing
from streamdet.detectors import network
from streamdet.detectors.network import NetworkDetector, open_detector
from streamdet.detectors.onnx_bytes import operators, with_free_sizes
from streamdet.detectors.onnx_header import read_header
from streamdet.detectors.runtimes import Name
from streamdet.errors import ModelError

WH = 128, 96
RUNTIMES: list[Name] = ["onnxruntime", "openvino"] if choosing.installed() else ["onnxruntime"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "streamdet" / "backends.json"


def detector(path: Path, backend: Name = "onnxruntime") -> NetworkDetector:
    return open_detector(ModelConfig(name=str(path), backend=backend), path)


@pytest.mark.parametrize("backend", RUNTIMES)
@pytest.mark.parametrize("spoilt", ["", "pooled", "baked", "reversed", "tall", "coarse"])
def test_who_is_local(tmp_path: Path, spoilt: Spoilt, backend: Name) -> None:
    """Who is not is still run as ever."""
    model = save_bright(tmp_path / "m.onnx", (128, 128) if spoilt == "coarse" else WH, spoilt=spoilt)
    with detector(model, backend) as one:
        assert one.local is not bool(spoilt)
    (result,) = streamdet.predict(dots((640, 400), (248, 200)), model=str(model), backend=backend)
    assert len(result.detections)


@pytest.mark.parametrize("spoilt", ["", "coarse"])
def test_networks_for_any_size_are_tried_too(tmp_path: Path, spoilt: Spoilt) -> None:
    with detector(save_bright(tmp_path / "m.onnx", WH, spoilt=spoilt, free=True)) as one:
        assert one.input.wh is None
        assert one.local is not bool(spoilt)


def test_files_for_several_at_a_time_are_left_as_they_are(tmp_path: Path) -> None:
    with detector(save_bright(tmp_path / "m.onnx", WH, batch=4)) as one:
        assert not one.local


def test_what_one_runtime_refuses_is_not_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ModelError("not here")

    with detector(save_bright(tmp_path / "m.onnx", WH)) as one:
        monkeypatch.setattr(network, "make_backend", refuse)
        assert not one.local


def test_it_is_tried_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_bright(tmp_path / "m.onnx", WH, spoilt="reversed")
    with detector(path) as one:
        assert not one.local
    (record,) = json.loads(cache.read_text()).values()
    assert record["local"] is False
    assert "rows" in record["why"]
    monkeypatch.setattr(network, "why_not_local", lambda *_: pytest.fail("tried again"))
    with detector(path) as one:
        assert not one.local
    cache.write_text("{")
    with detector(path) as one, pytest.raises(BaseException, match="tried again"):
        _ = one.local


def test_a_memory_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path, cache: Path) -> None:
    cache.mkdir(parents=True)
    with detector(save_bright(tmp_path / "m.onnx", WH)) as one:
        assert one.local
    assert [path.name for path in cache.parent.iterdir()] == [cache.name]


def test_sizes_are_freed_and_nothing_else(tmp_path: Path) -> None:
    path = save_bright(tmp_path / "m.onnx", WH)
    freed = tmp_path / "free.onnx"
    freed.write_bytes(with_free_sizes(path, "images", (2, 3)))
    before, after = read_header(path), read_header(freed)
    assert after.inputs[0].shape == (1, 3, None, None)
    assert after.outputs[0].shape == (None, None, None)
    assert [port.name for port in (*after.inputs, *after.outputs)] == ["images", "output"]
    assert before.metadata == after.metadata
    assert operators(path) == operators(freed)
    onnx = pytest.importorskip("onnx")
    assert onnx.load(path).graph.node == onnx.load(freed).graph.node
    assert list(onnx.load(path).graph.initializer) == list(onnx.load(freed).graph.initializer)


def dots(wh: tuple[int, int], *centres: tuple[int, int]) -> np.ndarray:
    """A dark picture with bright squares of 16 px."""
    picture = np.zeros((wh[1], wh[0], 3), np.uint8)
    for x, y in centres:
        picture[y - 8 : y + 8, x - 8 : x + 8] = 255
    return picture


@pytest.mark.parametrize("backend", RUNTIMES)
def test_looks_everywhere_are_joined(tmp_path: Path, backend: Name) -> None:
    """Few large inputs instead of many tiles, the same objects at the same places; a size that was asked for is kept.

    OpenVINO would compile the network for every size of picture that comes: a second and some MB of disk for each.
    """
    model = save_bright(tmp_path / "m.onnx", WH)
    places = [(40, 24), (120, 96), (248, 200), (488, 376), (616, 40)]
    picture = dots((640, 400), *places)
    found = {}
    for tile in ("auto", 96):
        (result,) = streamdet.predict(picture, model=str(model), tile=tile, backend=backend)
        found[tile] = result
        centres = (result.detections.xyxy[:, :2] + result.detections.xyxy[:, 2:]) / 2
        distance = np.linalg.norm(centres[:, None] - np.array(places), axis=2)
        assert distance.min(0).max() < 8
        assert distance.min(1).max() < 20
    assert (found["auto"].tiles < found[96].tiles / 8) is (backend == "onnxruntime")


@pytest.mark.parametrize("backend", RUNTIMES)
def test_films_are_looked_at_in_joined_tiles(tmp_path: Path, backend: Name) -> None:
    model = save_bright(tmp_path / "m.onnx", WH)
    for number, x in enumerate((40, 48, 56)):
        cv2.imwrite(str(tmp_path / f"im_{number:04d}.png"), dots((640, 400), (x, 24), (488, 376)))
    results = list(
        streamdet.run(str(tmp_path / "im_%04d.png"), model=str(model), look="all", conf=0.5, backend=backend)
    )
    assert len(results) == 3
    for result, x in zip(results, (40, 48, 56)):
        assert result.tiles is not None
        assert result.tiles.slots == result.tiles.of <= 4
        centres = (result.detections.xyxy[:, :2] + result.detections.xyxy[:, 2:]) / 2
        distance = np.linalg.norm(centres[:, None] - np.array([(x, 24), (488, 376)]), axis=2)
        assert distance.min(0).max() < 8
        assert distance.min(1).max() < 20
