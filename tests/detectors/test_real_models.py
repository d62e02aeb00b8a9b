"""The six real exports beside the checkout, on a real frame: the people in it are found where they are."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from streamdet.boxes import iou
from streamdet.config import ModelConfig, TilesConfig
from streamdet.detectors.choose import installed
from streamdet.detectors.network import NetworkDetector, open_detector
from streamdet.errors import ModelError
from streamdet.tiles.pack_cpu import CpuPacker
from streamdet.tiles.plan import plan_tiles
from streamdet.types import Detections, Frame, Motion, Picture

# frame 200 of the pedestrian clip, read by eye: x1, y1, x2, y2
WALKERS = np.array(
    [[51, 94, 67, 136], [137, 117, 156, 166], [305, 92, 324, 138], [385, 164, 407, 229], [440, 159, 465, 221]],
    np.float32,
)
MODELS = {
    "yolox_nano_416": ("yolox", ("b", "g", "r")),
    "nanodet_m_416": ("nanodet", ("b", "g", "r")),
    "picodet_s_416": ("picodet", ("r", "g", "b")),
    "fastestdet_352": ("fastestdet", ("b", "g", "r")),
    "deimv2_atto_320": ("detections", ("r", "g", "b")),
    "deimv2_femto_416": ("detections", ("r", "g", "b")),
}


@pytest.fixture(scope="module")
def picture(shared_data: Path) -> NDArray[np.uint8]:
    clip = cv2.VideoCapture(str(shared_data / "clips/pedestrians/vtest_480x360.avi"))
    for _ in range(201):
        _, frame = clip.read()
    return np.asarray(frame, np.uint8)


def detect(detector: NetworkDetector, picture: NDArray[np.uint8], tile: str) -> Detections:
    spec = detector.input
    luma = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    wh = (picture.shape[1], picture.shape[0])
    plan = plan_tiles(wh, input_wh=spec.wh, config=TilesConfig(tile=tile), stretch=spec.stretch, stride=spec.stride)
    frame, motion = Frame("clip", 0, 0.0, Picture(luma, bgr=picture), 0.0), Motion(luma)
    return detector(CpuPacker(spec)(frame, motion, plan))


@pytest.mark.parametrize("name", MODELS)
def test_finds_the_walkers(name: str, shared_data: Path, picture: NDArray[np.uint8]) -> None:
    path = shared_data / f"models/{name}_coco.onnx"
    with open_detector(ModelConfig(backend="onnxruntime", conf=0.3, classes=["person"]), path) as detector:
        assert (detector.spec.family.name, detector.input.channels) == MODELS[name]
        assert len(detector.labels) == 80
        found = detect(detector, picture, "none")
    overlap = np.asarray(iou(WALKERS, found.xyxy))
    assert (overlap.max(axis=1) > 0.5).all(), overlap.max(axis=1).round(2)
    assert set(found.label.tolist()) == {0}
    assert detector.counts["not_finite"] == 0


@pytest.mark.skipif(not installed(), reason="openvino is not installed")
@pytest.mark.parametrize("name", MODELS)
def test_both_runtimes_find_the_same(name: str, shared_data: Path, picture: NDArray[np.uint8]) -> None:
    """OpenVINO as it runs by itself: pictures in bytes, and bf16 where this processor has it and the network bears it."""
    answers = []
    for backend in ("onnxruntime", "openvino"):
        config = ModelConfig(backend=backend, conf=0.25)
        with open_detector(config, shared_data / f"models/{name}_coco.onnx") as detector:
            answers.append(detect(detector, picture, "240"))
    one, other = answers
    for ours, theirs in ((one, other), (other, one)):
        sure = ours[ours.score >= 0.35]  # near the threshold, rounding decides on which side of it a row is
        assert len(sure) > 5
        same = (sure.label[:, None] == theirs.label) & (sure.tile[:, None] == theirs.tile)
        overlap = np.asarray(iou(sure.xyxy, theirs.xyxy)) * same
        there = overlap.max(axis=1) >= 0.5
        assert there.mean() >= 0.95  # of 25 to 80; FastestDet loses two, the others none
        shift = np.abs(sure.xyxy[there] - theirs.xyxy[overlap.argmax(axis=1)[there]]).max(axis=1)
        assert np.median(shift) < 0.3


def test_an_embedding_is_no_detector(shared_data: Path) -> None:
    config = ModelConfig(backend="onnxruntime")
    with (
        pytest.raises(ModelError, match="not a detector"),
        open_detector(config, shared_data / "models/person_reid_retail_0288.onnx"),
    ):
        pass
