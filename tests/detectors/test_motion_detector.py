"""--model motion: regions of the wanted size become detections."""

from __future__ import annotations

import numpy as np

from streamdet.detectors.motion_detector import MotionDetector
from streamdet.types import Detections, Frame, Motion, Picture, TileBatch, TilePlan


def detect(detector: MotionDetector, xyxy: list[list[float]], strength: list[float]) -> Detections:
    luma = np.zeros((720, 1280), np.uint8)
    frame = Frame("test", 0, 0.0, Picture(luma, make_bgr=lambda: np.zeros((720, 1280, 3), np.uint8)), 0.0)
    motion = Motion(luma, regions=np.array(xyxy, np.float32).reshape(-1, 4), strength=np.array(strength, np.float32))
    plan = TilePlan(
        (1280, 720), (1280, 720), np.zeros((0, 4), np.int32), np.zeros((0, 2), np.float32), np.zeros(0, np.uint8), 0
    )
    with detector:
        return detector(TileBatch(np.zeros((0, 1, 1, 1), np.float32), plan, frame, motion))


def test_nothing_moves() -> None:
    detector = MotionDetector()
    assert len(detect(detector, [], [])) == 0
    assert detector.labels == ("mover",)
    assert detector.input is None
    assert 0 < detector.threshold < 1


def test_sizes() -> None:
    rows = [
        [100, 100, 101, 101],
        [200, 100, 203, 103],
        [300, 100, 350, 150],
        [500, 100, 600, 250],
        [700, 100, 860, 112],
    ]
    found = detect(MotionDetector(), [[float(v) for v in row] for row in rows], [0.9, 0.8, 0.7, 0.6, 0.5])
    assert found.xyxy[:, 0].tolist() == [200, 300, 700]  # a speck and a person are none; a ball and a streak are
    assert found.score.tolist() == np.float32([0.8, 0.7, 0.5]).tolist()
    assert found.label.tolist() == [0, 0, 0]
    small = detect(MotionDetector(largest_px=20), [[float(v) for v in row] for row in rows], [0.9, 0.8, 0.7, 0.6, 0.5])
    assert small.xyxy[:, 0].tolist() == [200]


def test_pieces_of_one_mover_are_one_detection() -> None:
    pieces = [[100.0, 100, 110, 110], [112, 100, 118, 108], [113, 111, 118, 117], [180, 100, 190, 110]]
    found = detect(MotionDetector(), pieces, [0.5, 0.9, 0.4, 0.6])
    assert found.xyxy[:, 0].tolist() == [112, 180]
