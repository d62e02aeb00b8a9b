"""What stands still in the demo scene: sky, hills, trees, road, court, mast and score board, painted once from a seed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from streamdet.types import F32, U8, Bool

__all__ = ["Backdrop", "paint_backdrop"]

Bgr = tuple[int, int, int]
Box = tuple[int, int, int, int]

SWAY_PHASES = 16


@dataclass(frozen=True, slots=True)
class Backdrop:
    """Limited-range BT.601 planes of the even-sized picture and what is special in it.

    Attributes:
        luma, u, v: (H,W) and (H/2,W/2) u8.
        hides: (H,W) bool, the mast: fixed, in front of everything that moves.
        board: px box of the score board, in front of everything too; its face is drawn anew while the scene runs.
        tree: px box of the swaying tree; `sway` (SWAY_PHASES,h,w) u8 luma of it, a closed loop.
    """

    luma: U8
    u: U8
    v: U8
    hides: Bool
    board: Box
    tree: Box
    sway: U8


def paint_backdrop(wh: tuple[int, int], seed: int) -> Backdrop:
    """Paint the backdrop of an even-sized picture `wh`."""
    width, height = wh
    rng = np.random.default_rng((seed, 3))
    brush = _Brush(width, height)
    _sky_and_hills(brush, rng)
    _trees(brush, rng)
    _ground(brush, rng)
    _court(brush)
    tree = _tree(brush, rng)
    hides, board = _mast_and_board(brush)
    yuv = np.asarray(cv2.cvtColor(brush.picture, cv2.COLOR_BGR2YUV_I420), np.uint8).reshape(-1)
    area = width * height
    texture = _octaves(width, height, rng)
    luma = yuv[:area].reshape(height, width).astype(np.float32)
    luma += texture * brush.rough * (luma / 110)
    luma *= _vignette(width, height)
    luma += rng.normal(0, 0.5, (1, width)).astype(np.float32)  # the sensor's fixed pattern: columns, then pixels
    luma += 0.5 * rng.standard_normal((height, width), np.float32)
    base = np.clip(luma, 18, 233).astype(np.uint8)
    u, v = (yuv[area + k * area // 4 : area + (k + 1) * area // 4].reshape(height // 2, width // 2) for k in (0, 1))
    x1, y1, x2, y2 = tree
    return Backdrop(base, u.copy(), v.copy(), hides, board, tree, _swaying(base[y1:y2, x1:x2], rng, height))


class _Brush:
    """BGR picture and roughness (grey levels of texture), painted with the same shapes; coordinates are shares."""

    def __init__(self, width: int, height: int) -> None:
        self.wh = np.array([width, height], float)
        self.scale = height / 1080
        self.picture: U8 = np.zeros((height, width, 3), np.uint8)
        self.rough: F32 = np.zeros((height, width), np.float32)

    def px(self, points: object) -> NDArray[np.int32]:
        return np.asarray(np.round(np.asarray(points, float).reshape(-1, 2) * self.wh * 16), np.int32)

    def polygon(self, points: object, bgr: Bgr, rough: float | None = None) -> None:
        corners = self.px(points)
        cv2.fillPoly(self.picture, [corners], bgr, cv2.LINE_AA, 4)
        if rough is not None:
            cv2.fillPoly(self.rough, [corners], rough, cv2.LINE_8, 4)

    def line(self, points: object, bgr: Bgr, thick_px: float) -> None:
        thick = max(1, round(thick_px * self.scale))
        cv2.polylines(self.picture, [self.px(points)], False, bgr, thick, cv2.LINE_AA, 4)

    def disc(self, x: float, y: float, radius: float, bgr: Bgr, rough: float) -> None:
        """`radius` as a share of the height."""
        centre = self.px((x, y))[0].tolist()
        radius_16 = max(1, round(radius * self.wh[1] * 16))
        cv2.circle(self.picture, centre, radius_16, bgr, -1, cv2.LINE_AA, 4)
        cv2.circle(self.rough, centre, radius_16, rough, -1, cv2.LINE_8, 4)


def _octaves(width: int, height: int, rng: np.random.Generator) -> F32:
    """(H,W) noise of several octaves, standard deviation about 1."""
    total = np.zeros((height, width), np.float32)
    for cell, weight in ((96, 0.35), (32, 0.4), (12, 0.5), (5, 0.55), (2, 0.55), (1, 0.3)):
        small = rng.standard_normal((height // cell + 3, width // cell + 3), np.float32)
        grown = small if cell == 1 else cv2.resize(small, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)
        total += weight * grown[:height, :width]
    return total


def _vignette(width: int, height: int) -> F32:
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    return np.asarray(1.02 - 0.10 * (0.6 * x * x + 0.4 * y * y), np.float32)


def _shade(bgr: Bgr, factor: float) -> Bgr:
    b, g, r = (int(min(255, max(0, c * factor))) for c in bgr)
    return b, g, r


def _sky_and_hills(brush: _Brush, rng: np.random.Generator) -> None:
    height, width = brush.rough.shape
    horizon = int(0.47 * height)
    down = np.linspace(0, 1, max(1, horizon), dtype=np.float32)[:, None]
    sky = np.array([[196, 146, 92]], np.float32) * (1 - down) + np.array([[206, 184, 158]], np.float32) * down
    cloud = cv2.resize(rng.standard_normal((7, 9), np.float32), (width, max(1, horizon)), interpolation=cv2.INTER_CUBIC)
    wisp = cv2.resize(
        rng.standard_normal((30, 22), np.float32), (width, max(1, horizon)), interpolation=cv2.INTER_CUBIC
    )
    alpha = np.clip(cloud * 0.5 + wisp * 0.22 - 0.15, 0, 0.4)[..., None] * (1 - 0.3 * down[:, None])
    brush.picture[: len(down)] = sky[:, None] * (1 - alpha) + np.array([222, 214, 206], np.float32) * alpha
    brush.rough[: len(down)] = 0.8
    across = np.linspace(0, 1, 60)
    for level, lift, bgr, rough in ((0.40, 0.035, (150, 136, 112), 2.0), (0.43, 0.025, (104, 122, 98), 4.0)):
        phase = rng.uniform(0, 6.3, 3)
        ridge = level + lift * (
            0.6 * np.sin(5 * across + phase[0])
            + 0.3 * np.sin(13 * across + phase[1])
            + 0.1 * np.sin(37 * across + phase[2])
        )
        brush.polygon([(0, 0.6), *zip(across, ridge), (1, 0.6)], bgr, rough)


def _trees(brush: _Brush, rng: np.random.Generator) -> None:
    for x in np.sort(rng.uniform(-0.02, 1.02, 70)):
        bgr = _shade((52, 88, 58), float(rng.uniform(0.75, 1.15)))
        brush.disc(float(x), 0.475 - float(rng.uniform(0, 0.02)), float(rng.uniform(0.016, 0.036)), bgr, 13)


def _ground(brush: _Brush, rng: np.random.Generator) -> None:
    height = brush.rough.shape[0]
    brush.polygon([(-1, 0.482), (2, 0.482), (2, 1.1), (-1, 1.1)], (72, 132, 92), 6)
    for stripe in range(-14, 14, 2):  # mown stripes meet at the horizon
        far, near = 0.5 + 0.07 * stripe, 0.5 + 0.19 * stripe
        brush.polygon([(far, 0.55), (far + 0.07, 0.55), (near + 0.19, 1.02), (near, 1.02)], (64, 120, 82))
    top = int(0.48 * height)
    fade = np.linspace(1.06, 0.86, height - top, dtype=np.float32)[:, None, None]
    brush.picture[top:] = np.clip(brush.picture[top:] * fade, 0, 255)
    brush.polygon([(-1, 0.498), (2, 0.498), (2, 0.54), (-1, 0.54)], (116, 116, 112), 4)
    for edge in (0.498, 0.54):
        brush.line([(0, edge), (1, edge)], (150, 152, 152), 3)
    for x in np.arange(0.0, 1.0, 0.05):
        brush.line([(x, 0.519), (x + 0.022, 0.519)], (176, 180, 182), 2)
    for x in np.arange(0.01, 1.0, 0.04):
        brush.line([(x, 0.553), (x, 0.585)], (86, 88, 84), 2)
    for rail in (0.556, 0.570):
        brush.line([(0, rail), (1, rail)], (100, 102, 98), 1)


def _court(brush: _Brush) -> None:
    """A tennis court seen from the side; court coordinates 0..1 along and 0..1 towards the camera."""
    corners = np.array([(0.21, 0.665), (0.79, 0.665), (0.93, 0.935), (0.07, 0.935)], np.float32)
    unit = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float32)
    to_share = cv2.getPerspectiveTransform(unit, corners)

    def at(*points: tuple[float, float]) -> object:
        return cv2.perspectiveTransform(np.array([points], np.float32), to_share)[0]

    def box(x1: float, y1: float, x2: float, y2: float) -> object:
        return at((x1, y1), (x2, y1), (x2, y2), (x1, y2))

    brush.polygon(box(-0.13, -0.17, 1.13, 1.12), (96, 112, 74), 3)
    brush.polygon(box(0, 0, 1, 1), (140, 100, 62), 2.5)
    white: Bgr = (216, 218, 214)
    for x1, y1, x2, y2 in ((0, 0, 1, 0), (0, 1, 1, 1), (0, 0, 0, 1), (1, 0, 1, 1), (0, 0.125, 1, 0.125), (0, 0.875, 1, 0.875),
                           (0.23, 0.125, 0.23, 0.875), (0.77, 0.125, 0.77, 0.875), (0.23, 0.5, 0.77, 0.5)):  # fmt: skip
        brush.line(at((x1, y1), (x2, y2)), white, 4)
    far, near = np.asarray(at((0.5, -0.06), (0.5, 1.06)), float)
    veil = brush.picture.copy()
    high = np.array([0, 0.062])
    cv2.fillPoly(veil, [brush.px([far, near, near - high, far - high * 0.8])], (44, 46, 44), cv2.LINE_AA, 4)
    cv2.addWeighted(veil, 0.45, brush.picture, 0.55, 0, dst=brush.picture)
    brush.line([far - high * 0.8, near - high], (222, 224, 222), 4)
    brush.line([near, near - high * 1.04], (60, 64, 60), 6)
    brush.line([far, far - high * 0.84], (60, 64, 60), 4)


def _tree(brush: _Brush, rng: np.random.Generator) -> Box:
    brush.polygon([(0.062, 0.40), (0.074, 0.40), (0.080, 0.64), (0.056, 0.64)], (48, 66, 78), 5)
    leaves = rng.normal(0, 1, (260, 2)) * (0.036, 0.075)
    leaves = leaves[np.hypot(leaves[:, 0] / 0.060, leaves[:, 1] / 0.125) < 1] + (0.068, 0.30)
    leaves = leaves[
        np.argsort(-(leaves[:, 0] * 0.6 + leaves[:, 1]))
    ]  # lower right first: light falls from the upper left
    for x, y in leaves:
        light = 0.72 + 0.9 * (0.45 - y) + float(rng.uniform(-0.08, 0.08))
        brush.disc(float(x), float(y), float(rng.uniform(0.010, 0.026)), _shade((50, 96, 64), light), 13)
    height, width = brush.rough.shape
    return 0, int(0.08 * height), max(2, int(0.17 * width)), max(int(0.08 * height) + 2, int(0.50 * height))


def _swaying(still: U8, rng: np.random.Generator, frame_height: int) -> U8:
    """(SWAY_PHASES,h,w): the still tree pushed about by at most some 2 px at 1080p, a loop of smooth local swaying."""
    height, width = still.shape
    push = [
        cv2.resize(rng.standard_normal((6, 5), np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        for _ in range(4)
    ]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    border = np.minimum(np.minimum(width - 1 - x, height - 1 - y), y) / max(1.0, 0.06 * frame_height)
    reach = np.clip(border, 0, 1) * max(0.3, 0.8 * frame_height / 1080)  # nothing moves at the edge of the patch
    out = np.empty((SWAY_PHASES, height, width), np.uint8)
    for phase in range(SWAY_PHASES):
        c, s = math.cos(2 * math.pi * phase / SWAY_PHASES), math.sin(2 * math.pi * phase / SWAY_PHASES)
        map_x = x + reach * (c * push[0] + s * push[1])
        map_y = y + reach * 0.6 * (c * push[2] + s * push[3])
        out[phase] = cv2.remap(still, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return out


def _mast_and_board(brush: _Brush) -> tuple[Bool, Box]:
    """A lamp mast before the court and a score board above the trees; both hide what passes behind them."""
    before = brush.picture.copy()
    brush.polygon([(0.6375, 0.13), (0.6425, 0.13), (0.645, 1.02), (0.635, 1.02)], (70, 74, 76), 2)
    brush.polygon([(0.615, 0.085), (0.665, 0.085), (0.662, 0.13), (0.618, 0.13)], (58, 60, 62), 2)
    for row in (0.097, 0.117):
        for x in (0.624, 0.635, 0.645, 0.656):
            brush.disc(x, row, 0.007, (150, 160, 164), 1)
    hides = np.asarray(cv2.absdiff(before, brush.picture).max(axis=2) > 0)
    for x in (0.795, 0.855):
        brush.line([(x, 0.27), (x, 0.485)], (76, 80, 84), 8)
    brush.polygon([(0.775, 0.175), (0.875, 0.175), (0.875, 0.295), (0.775, 0.295)], (40, 36, 34), 1)
    height, width = brush.rough.shape
    board = (int(0.775 * width), int(0.175 * height), math.ceil(0.875 * width), math.ceil(0.295 * height))
    return hides, board
