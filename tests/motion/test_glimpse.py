"""What is glimpsed of a frame ahead of its turn changes nothing but the time it takes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from streamdet.motion.model import MotionModel, Scene
from streamdet.types import U8, Frame, Motion

sys.path.insert(0, str(Path(__file__).parent))
from motion_scene import disc, frame, noisy, texture

WH = (320, 240)
WIDE = texture((420, 340))


def still_camera(i: int) -> U8:
    return noisy(disc(WIDE[:240, :320], (20.0 + 5.3 * i, 60.0 + 2.1 * i), 3, 235), i)


def repeats(i: int) -> U8:
    return still_camera(i - i % 3 // 2)


def shakes(i: int) -> U8:
    x, y = 40 + round(9 * np.sin(i)), 40 + round(7 * np.cos(1.7 * i))
    return noisy(WIDE[y : y + 240, x : x + 320], i)


def cut(i: int) -> U8:
    return noisy(texture(WH, seed=1 + i // 9), i)


def light(i: int) -> U8:
    return np.clip(still_camera(i) * (1.0 if i < 12 else 1.35), 0, 255).astype(np.uint8)


def turned(i: int) -> U8:
    return still_camera(i).T


def grows(i: int) -> U8:
    return still_camera(i) if i < 10 else noisy(WIDE, i)


SCENES: list[Callable[[int], U8]] = [still_camera, repeats, shakes, cut, light, turned, grows]


def parts(motion: Motion) -> list[object]:
    planes = (motion.luma, motion.previous, motion.before_previous, motion.background)
    arrays = [None if plane is None else plane.tobytes() for plane in planes]
    return [*arrays, motion.regions.tobytes(), motion.strength.tobytes(), motion.state, motion.shift_xy, motion.noise]


@pytest.mark.parametrize("scene", SCENES)
def test_motion_is_the_same_with_and_without(scene: Callable[[int], U8]) -> None:
    with_it, without = MotionModel(), MotionModel()
    frames = [frame(scene(i), i) for i in range(30)]
    glimpses = [with_it.glimpse(each) for each in frames]
    for each, glimpse in zip(frames, glimpses, strict=True):
        assert glimpse is not None
        assert parts(with_it(each, glimpse)) == parts(without(each)), each.index


def test_what_was_glimpsed_is_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model, computed = MotionModel(), []
    usual = Scene._changed

    def counted(scene: Scene, luma: U8) -> U8:
        computed.append(luma)
        return usual(scene, luma)

    monkeypatch.setattr(Scene, "_changed", counted)
    for each in (frame(still_camera(i), i) for i in range(20)):
        model(each, model.glimpse(each))
    assert not computed


def test_a_frame_that_was_left_out_spoils_nothing() -> None:
    """Glimpses of frames of which one never comes."""
    with_it, without = MotionModel(), MotionModel()
    frames: list[Frame] = [frame(still_camera(i), i) for i in range(12)]
    glimpses = [with_it.glimpse(each) for each in frames]
    for i in (0, 1, 2, 4, 5, 7, 8, 9, 11):
        assert parts(with_it(frames[i], glimpses[i])) == parts(without(frames[i])), i


def test_a_still_has_none() -> None:
    assert MotionModel().glimpse(frame(texture(WH), 0, still=True)) is None
