"""What a region did before: lamps that come and go are no movers, what crosses them is, what creeps becomes one."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from motion_scene import disc, film, hit, noisy, texture

from streamdet.motion.history import NOTHING, STANDING, History
from streamdet.motion.model import MotionModel
from streamdet.motion.shapes import Shapes
from streamdet.types import F32

DETECTED = 0.3  # the motion detector's threshold


def region(centre: tuple[float, float], moving: float, *, side: float = 8.0, ratio: float = 4.0) -> Shapes:
    none = np.zeros(1, np.float32)
    x, y = centre
    box = np.array([[x - side / 2, y - side / 2, x + side / 2, y + side / 2]], np.float32)
    row = Shapes(box, *[none] * 11, np.zeros(1, np.int32), np.zeros(1, np.int32))
    return replace(row, moving=none + np.float32(moving), ratio=none + np.float32(ratio))


def strength(value: float) -> F32:
    return np.array([value], np.float32)


def test_what_pops_up_and_stands_is_weak_at_once_and_nothing_after_half_a_second() -> None:
    history = History((20, 20))
    seen = [float(history(region((100, 100), 1.0 if k == 0 else 0.0), strength(0.95), 1 / 30)[0]) for k in range(20)]
    assert seen[0] == pytest.approx(0.95)  # one frame cannot tell
    assert max(seen[1:5]) <= STANDING
    assert max(seen[16:]) == pytest.approx(NOTHING)


@pytest.mark.parametrize("fps", [15.0, 30.0, 60.0])
def test_a_mover_and_one_that_came_and_stopped_are_left_alone(fps: float) -> None:
    history = History((40, 40))
    for k in range(60):
        x = 100 + 90 * min(k / fps, 0.5)  # flies for half a second, then hovers
        flies = k / fps < 0.5
        assert history(region((x, 100), 0.5 if flies else 0.0), strength(0.9), 1 / fps)[0] >= 0.89


@pytest.mark.parametrize("fps", [15.0, 30.0, 60.0])
def test_what_creeps_becomes_a_mover(fps: float) -> None:
    history = History((20, 20))
    rng = np.random.default_rng(1)
    seen = []
    for k in range(int(2 * fps)):
        jitter = rng.normal(0, 0.15, 2)
        place = (100 + 11 * k / fps + jitter[0], 100 + jitter[1])
        seen.append(float(history(region(place, 0.05, ratio=1.5), strength(0.15), 1 / fps)[0]))
    assert max(seen[: int(0.4 * fps)]) < DETECTED <= min(seen[int(fps) :])


def test_traces_move_with_the_camera() -> None:
    history = History((40, 40))
    for k in range(30):  # stands in the scene while the camera pans: 4 px a frame in the picture
        seen = history(region((100 + 4 * k, 100), 1.0 if k == 0 else 0.0), strength(0.9), 1 / 30, (4.0, 0.0))
    assert seen[0] == pytest.approx(NOTHING)


def test_a_gap_ends_a_trace_and_nothing_is_remembered_for_ever() -> None:
    history = History((20, 20))
    for k in range(10):
        history(region((100, 100), 1.0 if k == 0 else 0.0), strength(0.9), 1 / 30)
    history(region((10, 10), 1.0), strength(0.0), 1.0)
    assert history(region((100, 100), 1.0), strength(0.9), 1 / 30)[0] == pytest.approx(0.9)


def board(index: int, *, rows: int = 3, columns: int = 9) -> list[tuple[int, int]]:
    """Places of the lamps that are lit in frame `index`: a third of them changes six times a second."""
    rng = np.random.default_rng(index // 5)
    lit = rng.random((rows, columns)) < 0.45
    return [(200 + 24 * c, 80 + 24 * r) for r, c in itertools.product(range(rows), range(columns)) if lit[r, c]]


def test_a_blinking_board_is_no_mover_and_does_not_hide_one() -> None:
    still = texture((640, 360))
    still[60:160, 180:420] = 40

    def draw(index: int) -> np.ndarray:
        picture = still.copy()
        for x, y in board(index):
            picture[y : y + 10, x : x + 10] = 150
        return noisy(disc(picture, (40 + 6.0 * index, 40 + 1.5 * index), 4.0, 235), index)

    model, standing, found = MotionModel(), 0, []
    for k, frame in enumerate(film(draw, 90)):
        motion = model(frame)
        sure = motion.regions[motion.strength >= DETECTED]
        centre = (sure[:, :2] + sure[:, 2:]) / 2
        mover = np.array([40 + 6.0 * k, 40 + 1.5 * k])
        on_board = ((centre > (180, 60)) & (centre < (420, 160))).all(1) & (
            np.abs(centre - mover).max(1, initial=0) > 12
        )
        if k > 15 and k % 5:  # not in the frame of the change itself
            standing += int(on_board.sum())
        if k > 5:
            found.append(hit(sure, (mover[0], mover[1]), 6.0))
    assert standing <= 8  # of 74 frames with some ten lamps each
    assert np.mean(found) > 0.8
