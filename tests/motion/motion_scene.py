"""Small rendered scenes with exact truth for the tests of the motion model."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from streamdet.types import U8, Frame, Picture

Point = tuple[float, float]


def texture(wh: tuple[int, int], seed: int = 1, low: int = 60, high: int = 160) -> U8:
    rng = np.random.default_rng(seed)
    rough = cv2.GaussianBlur(rng.integers(0, 255, (wh[1], wh[0])).astype(np.uint8), (0, 0), 3)
    return np.asarray(cv2.normalize(rough, None, low, high, cv2.NORM_MINMAX), np.uint8)


def noisy(picture: U8, index: int, sigma: float = 2.0) -> U8:
    rng = np.random.default_rng(1000 + index)
    return np.clip(np.round(picture + rng.normal(0, sigma, picture.shape)), 0, 255).astype(np.uint8)


def disc(picture: U8, centre: Point, radius: float, level: int) -> U8:
    """`picture` with an anti-aliased disc; `centre` in pixel-edge coordinates."""
    drawn = picture.copy()
    x, y = round((centre[0] - 0.5) * 16), round((centre[1] - 0.5) * 16)
    cv2.circle(drawn, (x, y), round(radius * 16), level, -1, cv2.LINE_AA, 4)
    return drawn


def frame(luma: U8, index: int, pts_s: float | None = None, *, epoch: int = 0, still: bool = False) -> Frame:
    picture = Picture(luma, make_bgr=lambda: cv2.cvtColor(luma, cv2.COLOR_GRAY2BGR))
    return Frame("test", index, index / 30 if pts_s is None else pts_s, picture, 0.0, epoch=epoch, still=still)


def film(draw: Callable[[int], U8], count: int) -> list[Frame]:
    return [frame(draw(i), i) for i in range(count)]


def hit(regions: np.ndarray, centre: Point, within_px: float) -> bool:
    if not len(regions):
        return False
    middle = (regions[:, :2] + regions[:, 2:]) / 2
    return bool(np.hypot(*(middle - centre).T).min() <= within_px)
