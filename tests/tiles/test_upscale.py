"""Magnified looks: where they lie, what the network gets, super-resolution networks of every kind, and that they find more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import streamdet
from streamdet.config import TilesConfig
from streamdet.detectors.onnxruntime_upscale import OnnxUpscaler
from streamdet.errors import ConfigError, ModelError
from streamdet.inputspec import InputSpec
from streamdet.tiles.pack_cpu import CpuPacker
from streamdet.tiles.plan import plan_tiles
from streamdet.tiles.upscale import MAGNIFIED, UpscalingPacker, bicubic, finer_tiles, small_regions
from streamdet.types import WHY_SMALL, Frame, Motion, Picture, TilePlan
from tests.dot_network import dots, save_dot_network

RNG = np.random.default_rng(3)


def frame_of(bgr: np.ndarray, *, yuv: bool = False) -> Frame:
    luma = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
    if not yuv:
        return Frame("s", 0, 0.0, Picture(luma, bgr=bgr, full_range=True), 0.0, still=True)
    height, width = luma.shape
    chroma = (np.full((height // 2, width // 2), 90, np.uint8), np.full((height // 2, width // 2), 150, np.uint8))
    return Frame("s", 0, 0.0, Picture(luma, chroma, bgr=bgr, full_range=True), 0.0, still=True)


def texture(width: int = 400, height: int = 300) -> np.ndarray:
    small = RNG.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("tile", [128, 200, "none"])
def test_every_region_is_whole_in_a_finer_tile(factor: int, tile: int | str) -> None:
    plan = plan_tiles((400, 300), input_wh=(128, 128), config=TilesConfig(tile=tile, whole_frame=True))
    centres = RNG.uniform((0, 0), (400, 300), (200, 2)).astype(np.float32)
    regions = np.concatenate([centres - 3, centres + 3], 1).clip(0, [400, 300, 400, 300]).astype(np.float32)
    finer = finer_tiles(plan, regions, factor)
    assert len(finer) > 0
    assert (finer.why == WHY_SMALL).all()
    assert (finer.scale > plan.scale[0] * factor * 0.9).all()
    assert (finer.xyxy[:, :2] >= 0).all()
    assert (finer.xyxy[:, 2:] <= [400, 300]).all()
    assert (np.round((finer.xyxy[:, 2:] - finer.xyxy[:, :2]) * finer.scale) <= 128).all()
    whole = (regions[:, None, :2] >= finer.xyxy[:, :2]) & (regions[:, None, 2:] <= finer.xyxy[:, 2:])
    assert whole.all(2).any(1).all()
    keys = finer.xyxy[:, [1, 0]].tolist()
    assert keys == sorted(keys)  # in reading order: windowed pictures are read once


def test_only_what_is_small_in_the_input_is_looked_at_again() -> None:
    plan = plan_tiles((400, 300), input_wh=(100, 100), config=TilesConfig(tile=200))  # half size
    boxes = np.array([[0, 0, 15, 15], [0, 0, 17, 4], [50, 50, 54, 54]], np.float32)
    assert small_regions(boxes, plan, 8.0).tolist() == boxes[[0, 2]].tolist()
    assert len(finer_tiles(plan, boxes[:0], 2)) == 0


@pytest.mark.parametrize("yuv", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_the_packing_definition(yuv: bool, dtype: Any, layout: Any) -> None:
    spec = InputSpec(wh=(96, 96), channels=("b", "g", "r"), dtype=dtype, layout=layout, pad_value=7)
    frame, motion = frame_of(texture(), yuv=yuv), Motion(np.zeros((300, 400), np.uint8))
    xyxy = np.array([[0, 0, 96, 96], [100, 60, 148, 100]], np.int32)
    tiles = TilePlan((400, 300), (96, 96), xyxy, np.array([[1, 1], [2, 2]], np.float32), np.zeros(2, np.uint8), 2)
    got = UpscalingPacker(spec, bicubic)(frame, motion, tiles).data.copy()
    plain = CpuPacker(spec)(frame, motion, tiles).data
    native_spec = InputSpec(wh=(48, 40), channels=("b", "g", "r"))
    native = TilePlan((400, 300), (48, 40), xyxy[1:], np.ones((1, 2), np.float32), np.zeros(1, np.uint8), 1)
    small = CpuPacker(native_spec)(frame, motion, native).data[0]
    expected = np.stack([cv2.resize(plane, (96, 80), interpolation=cv2.INTER_CUBIC) for plane in small]).clip(0, 255)
    if layout == "nhwc":
        got, plain = got.transpose(0, 3, 1, 2), plain.transpose(0, 3, 1, 2)
    assert np.array_equal(got[0], plain[0])
    assert np.abs(got[1, :, :80].astype(np.float32) - expected).max() <= (0.51 if dtype == "uint8" else 0.2)
    assert (got[1, :, 80:] == 7).all()


def test_differences_are_magnified_too() -> None:
    spec = InputSpec(wh=(64, 64), channels=("r", "difference"), std=(255.0,))
    now, then = texture(), texture()
    luma, before = (cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) for picture in (now, then))
    tile = TilePlan(
        (400, 300),
        (64, 64),
        np.array([[10, 20, 42, 52]], np.int32),
        np.full((1, 2), 2, np.float32),
        np.zeros(1, np.uint8),
        1,
    )
    data = UpscalingPacker(spec, bicubic)(frame_of(now), Motion(luma, previous=before), tile).data[0]
    signed = (luma[20:52, 10:42].astype(np.float32) - before[20:52, 10:42]) / 64
    expected = cv2.resize(signed.clip(-2, 2), (64, 64), interpolation=cv2.INTER_CUBIC)
    assert np.abs(data[1] - expected).max() < 1e-4


def test_differences_in_bytes_are_magnified_too() -> None:
    numbers = InputSpec(wh=(64, 64), channels=("r", "g", "b", "difference"))
    levels = replace(numbers, dtype="uint8", layout="nhwc", signed_zero=128)
    now, then = texture(), texture()
    luma, before = (cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) for picture in (now, then))
    tiles = TilePlan(
        (400, 300),
        (64, 64),
        np.array([[10, 20, 42, 52], [5, 5, 69, 69]], np.int32),
        np.array([[2, 2], [1, 1]], np.float32),
        np.zeros(2, np.uint8),
        2,
    )
    motion = Motion(luma, previous=before)
    want = UpscalingPacker(numbers, bicubic)(frame_of(now), motion, tiles).data.transpose(0, 2, 3, 1).copy()
    got = UpscalingPacker(levels, bicubic)(frame_of(now), motion, tiles).data
    want[..., 3] = (want[..., 3] * 64 + 128).clip(0, 255)
    assert np.abs(got - want).max() <= 2.6


# ------------------------------------------------------------------------------------------------------ networks for it


def save_upscaler(
    path: Path, *, channels: int, factor: int, white: float, fixed: tuple[int, int] | None = None
) -> Path:
    """Nearest-neighbour enlargement as such networks end: a convolution to factor^2 channels, then depth to space.

    It clips to 0..`white`, as trained ones in effect do.
    """
    weight = np.zeros((channels * factor**2, channels, 1, 1), np.float32)
    for out in range(channels * factor**2):
        weight[out, out % channels] = 1  # DCR: the channel is the fastest index
    size = list(fixed[::-1]) if fixed else ["h", "w"]
    nodes = [
        helper.make_node("Conv", ["x", "weight"], ["many"]),
        helper.make_node("Clip", ["many", "low", "high"], ["clipped"]),
        helper.make_node("DepthToSpace", ["clipped"], ["y"], blocksize=factor, mode="DCR"),
    ]
    weights = [
        numpy_helper.from_array(weight, "weight"),
        numpy_helper.from_array(np.float32(0), "low"),
        numpy_helper.from_array(np.float32(white), "high"),
    ]
    ports = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, channels, *s])
        for n, s in (("x", size), ("y", ["H", "W"]))
    ]
    graph = helper.make_graph(nodes, "sr", ports[:1], ports[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("white", [1.0, 255.0])
@pytest.mark.parametrize("fixed", [None, (60, 50)])
def test_networks_of_every_kind(channels: int, factor: int, white: float, fixed: Any, tmp_path: Path) -> None:
    upscaler = OnnxUpscaler(
        save_upscaler(tmp_path / "sr.onnx", channels=channels, factor=factor, white=white, fixed=fixed)
    )
    assert upscaler.factor == factor
    planes = np.ascontiguousarray(texture(48, 40).transpose(2, 0, 1).astype(np.float32))
    larger = upscaler(planes, (48 * factor, 40 * factor))
    expected = planes.repeat(factor, 1).repeat(factor, 2)
    assert larger.shape == expected.shape
    assert np.abs(larger - expected).mean() < (0.01 if channels == 3 else 10)  # luma only: colour is bicubic
    grey = upscaler(planes[:1], (48 * factor, 40 * factor))
    assert np.abs(grey - expected[:1]).max() < 0.01
    assert upscaler(planes, (90, 75)).shape == (3, 75, 90)


def test_files_that_upscale_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be loaded"):
        OnnxUpscaler(tmp_path / "x.onnx")
    with pytest.raises(ModelError, match=r"takes \[|made \("):
        OnnxUpscaler(save_dot_network(tmp_path / "dots.onnx"))
    small = OnnxUpscaler(save_upscaler(tmp_path / "s.onnx", channels=1, factor=2, white=1.0, fixed=(20, 20)))
    with pytest.raises(ModelError, match="takes 20x20 px and a tile has 48x40"):
        small(np.zeros((1, 40, 48), np.float32), (96, 80))


# ----------------------------------------------------------------------------------------------------------- all the way


def specks() -> np.ndarray:
    """Discs of 4 px, too small for the network at scale 1."""
    picture = dots((300, 220))
    for x, y in ((40, 50), (200, 150), (126, 100)):
        cv2.circle(picture, (x, y), 1, (0, 0, 255), -1)
    return picture


@pytest.mark.parametrize("upscale", [2, "2", "sr"])
def test_it_finds_what_is_too_small(upscale: Any, tmp_path: Path) -> None:
    model = save_dot_network(tmp_path / "dots.onnx")
    if upscale == "sr":
        upscale = save_upscaler(tmp_path / "sr.onnx", channels=3, factor=4, white=1.0)
    settings = {"tiles.upscale_below_px": 13}  # the network says 12 px of everything
    cv2.imwrite(str(tmp_path / "a.png"), specks())
    [without] = streamdet.predict(tmp_path / "a.png", model=model, threshold=0.5)
    [found] = streamdet.predict(tmp_path / "a.png", model=model, threshold=0.5, upscale=upscale, settings=settings)
    assert len(without.boxes) == 0
    centres = sorted(
        ((b["coordinate"][0] + b["coordinate"][2]) / 2, (b["coordinate"][1] + b["coordinate"][3]) / 2)
        for b in found.boxes
    )
    assert len(centres) >= 3
    for x, y in ((40, 50), (126, 100), (200, 150)):
        assert min(np.hypot(cx - x, cy - y) for cx, cy in centres) < 6
    assert found.tiles > without.tiles
    assert found.tiles == found._result.tiles.of
    settings |= {"tiles.upscale": str(upscale)}
    [result] = list(streamdet.run(tmp_path / "a.png", model=model, conf=0.5, settings=settings))
    assert len(result.detections) == len(found.boxes)
    assert (result.tiles.scale >= MAGNIFIED).any()


@pytest.mark.parametrize(("upscale", "error"), [(1, ConfigError), (9, ConfigError), ("nothing.onnx", ModelError)])
def test_what_is_no_upscaler(upscale: Any, error: type[Exception], tmp_path: Path) -> None:
    model = save_dot_network(tmp_path / "dots.onnx")
    with pytest.raises(error, match="upscale"):
        list(streamdet.predict(specks(), model=model, upscale=upscale))
