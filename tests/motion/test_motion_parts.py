"""The parts of the motion model one by one, against slow versions of themselves."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import NormalDist

import cv2
import numpy as np
import pytest

from streamdet.motion.activity import BlockMaxima, tolerant_difference
from streamdet.motion.align import estimate, warp
from streamdet.motion.background import Background
from streamdet.motion.light import Spectrum, fit_light, sample

sys.path.insert(0, str(Path(__file__).parent))
from motion_scene import noisy, texture


@pytest.mark.parametrize("wh", [(16, 16), (1, 1), (50, 33), (640, 300), (257, 511)])
def test_block_maxima_against_the_slow_version(wh: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    now, then = rng.integers(0, 256, (2, wh[1], wh[0])).astype(np.uint8)
    maxima = BlockMaxima(wh)
    slow = np.zeros(maxima.shape, int)
    for (y, x), value in np.ndenumerate(np.abs(now.astype(int) - then)):
        slow[y // 16, x // 16] = max(slow[y // 16, x // 16], value)
    for _ in range(2):  # buffers are reused: no trace of an earlier call
        assert np.array_equal(maxima(now, then), slow)
        assert np.array_equal(maxima.of(np.asarray(cv2.absdiff(now, then), np.uint8)), slow)
        assert not maxima(now, now).any()


def test_tolerant_difference_forgives_a_pixel_and_no_more() -> None:
    picture = texture((64, 64), low=0, high=255)
    for dy, dx in ((0, 1), (1, 1), (-1, 0)):
        assert not tolerant_difference(np.roll(picture, (dy, dx), (0, 1)), picture)[2:-2, 2:-2].any()
    spot = picture.copy()
    spot[30:33, 30:33] = 255
    assert tolerant_difference(spot, picture)[31, 31] > 0


@pytest.mark.parametrize("fps", [5.0, 30.0, 120.0])
def test_the_background_follows_levels_per_second_whatever_the_rate(fps: float) -> None:
    background = Background(np.full((200, 48), 100, np.uint8), 2.0)
    free, seconds = np.zeros((13, 3), bool), 4.0
    for _ in range(round(3 * fps)):  # past the warm-up
        background.update(np.full((200, 48), 100, np.uint8), 1 / fps, free)
    for _ in range(round(seconds * fps)):
        background.update(np.full((200, 48), 200, np.uint8), 1 / fps, free)
    assert np.abs(background.plane.astype(int) - (100 + 10 * seconds)).max() <= 3


def test_frozen_blocks_stay_and_patches_heal() -> None:
    background = Background(np.full((40, 40), 100, np.uint8), 0.1)
    frozen = np.zeros((3, 3), bool)
    frozen[1, 2] = True
    luma = np.full((40, 40), 140, np.uint8)
    for _ in range(60):
        background.update(luma, 1 / 30, frozen)
    want = np.full((40, 40), 140)
    want[16:32, 32:] = 100
    assert np.array_equal(background.plane, want)
    background.heal(luma, [(34, 18, np.ones((4, 4), np.uint8))])
    assert (background.plane[18:22, 34:38] == 140).all()
    assert background.plane[17, 34] == 100


def test_the_background_is_the_median_of_noise() -> None:
    picture = texture((64, 64))
    background, free = Background(noisy(picture, 0, 5.0), 2.0), np.zeros((4, 4), bool)
    for i in range(1, 120):
        background.update(noisy(picture, i, 5.0), 1 / 30, free)
    assert np.abs(background.plane.astype(float) - picture).std() < 2.0


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5, 7.0])
def test_spread_measures_noise_below_a_level_too(sigma: float) -> None:
    difference = np.round(np.random.default_rng(1).normal(0, sigma, 30000)).astype(np.int16)
    difference[:600] = 90  # a mover is no noise
    for light in (0, 7):  # light that changes is no noise
        spectrum = Spectrum(difference + np.int16(100 + light), np.full(30000, 100, np.int16))
        assert spectrum.spread() == pytest.approx(max(sigma, 0.34), rel=0.2)


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_a_spectrum_answers_as_the_differences_themselves_do(count: int) -> None:
    now, then = np.random.default_rng(count).integers(0, 256, (2, count)).astype(np.int16)
    spectrum, difference = Spectrum(now, then), now.astype(int) - then
    assert spectrum.mean() == pytest.approx(np.abs(difference).mean())
    assert spectrum.median() == np.median(difference)
    for tolerance in (0.0, 12.0, 60.5, 400.0):
        assert spectrum.within(tolerance) == pytest.approx(np.mean(np.abs(difference) <= tolerance))
    centred = np.sort(np.abs(difference - int(np.median(difference))))
    level = int(centred[int(np.searchsorted(np.arange(1, count + 1) / count, 0.6827))])
    within = float(np.mean(centred <= level))
    assert spectrum.spread() == pytest.approx(
        level if within >= 1 else (level + 0.5) / NormalDist().inv_cdf((1 + within) / 2)
    )


def test_fit_light_recovers_gain_and_offset_in_spite_of_movers() -> None:
    then = sample(texture((320, 240), low=20, high=180))
    now = np.round(then * 1.2 + 6).astype(np.int16)
    now[: len(now) // 5] = 255
    light = fit_light(now, then, 4.0)
    assert light.after > 0.75
    for level in (40, 100, 160):
        assert abs(int(light.table[level]) - (1.2 * level + 6)) <= 2


@pytest.mark.parametrize("wh", [(640, 480), (1920, 1080)])
@pytest.mark.parametrize(
    ("dx", "dy", "degrees"), [(0.0, 0.0, 0.0), (2.6, -1.3, 0.0), (-17.0, 9.5, 0.0), (3.0, 2.0, 0.8)]
)
def test_align_finds_a_known_movement(wh: tuple[int, int], dx: float, dy: float, degrees: float) -> None:
    width, height = wh
    big = texture((width + 160, height + 160), 4, 0, 255)
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    turn[:, 2] += (dx, dy)
    base = np.array([[1.0, 0, -80], [0, 1, -80]])
    then = cv2.warpAffine(big, base, wh)
    whole = np.vstack([turn, [0, 0, 1]]) @ np.vstack([base, [0, 0, 1]])
    now = cv2.warpAffine(big, whole[:2], wh, flags=cv2.INTER_CUBIC)
    found = estimate(noisy(then, 1, 1.0), noisy(now, 2, 1.0))
    assert found is not None
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], float)
    assert np.abs(corners @ found.transform.T - corners @ turn.T).max() < 0.5
    seen = warp(then, found.transform, now)
    assert np.abs(seen.astype(int) - now).mean() < 3


def test_align_declines_where_there_is_nothing_to_hold_on_to() -> None:
    flat = np.full((300, 400), 90, np.uint8)
    assert estimate(noisy(flat, 1), noisy(flat, 2)) is None
    assert estimate(texture((400, 300), 1, 0, 255), texture((400, 300), 2, 0, 255)) is None
    assert estimate(flat[:16, :16], flat[:16, :16]) is None
