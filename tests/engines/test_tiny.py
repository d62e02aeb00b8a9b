"""The model that ships: what it says of itself, the sizes it takes, and that it finds small things that move."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamdet.assemble import models
from streamdet.config import Config, ModelConfig, SourceConfig
from streamdet.detectors.network import NetworkDetector, open_detector
from streamdet.motion.model import MotionModel
from streamdet.sources.demo import DemoSource
from streamdet.tiles.pack_cpu import CpuPacker
from streamdet.tiles.plan import plan_tiles


def _tiny() -> Path:
    return next(card.path for card in models() if card.name == "tiny" and card.path is not None)


@pytest.fixture(scope="module")
def detector() -> NetworkDetector:
    with open_detector(ModelConfig(backend="onnxruntime", threads=1), _tiny()) as detector:
        yield detector


def test_it_is_the_default_and_small() -> None:
    assert models()[0].name == "tiny"
    assert _tiny().stat().st_size < 2_000_000


def test_it_says_what_it_wants(detector: NetworkDetector) -> None:
    assert detector.input.channels == ("r", "g", "b", "difference", "previous_difference", "background_difference")
    assert detector.input.wh is None
    assert detector.labels == ("ball", "bird", "drone", "plane")
    assert 0.05 < detector.threshold < 0.95


def test_it_finds_movers_of_the_demo_scene(detector: NetworkDetector) -> None:
    """Most visible small movers of the rendered scene are found within 6 px, at less than two false finds per frame."""
    model, packer = MotionModel(), CpuPacker(detector.input)
    hits = wanted = false = frames = 0
    with DemoSource(
        stream="demo", config=SourceConfig(demo_size="960x540", demo_seconds=2.0, demo_movers=5, seed=4)
    ) as source:
        for frame in source:
            motion = model(frame)
            plan = plan_tiles(frame.wh, input_wh=None, config=Config().tiles, stride=detector.input.stride)
            batch = packer(frame, motion, plan)
            if frame.index < 15:
                continue
            found = detector(batch)
            centre = (found.xyxy[:, :2] + found.xyxy[:, 2:]) / 2
            truth = source.scene.truth(frame.index)
            small = [row for row in truth if row.visible and row.wanted]
            target = np.array([(row.cx, row.cy) for row in small]).reshape(-1, 2)
            near = np.linalg.norm(centre[:, None] - target[None], axis=2) < 6
            hits, wanted = hits + int(near.any(0).sum()), wanted + len(target)
            false, frames = false + int((~near.any(1)).sum()), frames + 1
    assert hits / wanted > 0.5
    assert false / frames < 2
