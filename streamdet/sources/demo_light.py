"""The light that falls on the demo scene's sensor: noise, streaks of moving bodies, the score board's diodes. Pure arrays."""

from __future__ import annotations

import math
from itertools import pairwise

import cv2
import numpy as np

from streamdet.types import F32, U8

__all__ = ["board_face", "mix", "noise", "streak"]


def noise(shape: tuple[int, int], sigma: float, mean: int, seed: int) -> U8:
    """(H,W) u8 white Gaussian noise round `mean`; windows of it at random offsets serve as independent frames."""
    field: F32 = np.random.default_rng((seed, 5)).standard_normal(shape, np.float32)
    field *= sigma
    field += mean
    return np.asarray(np.clip(np.round(field), 0, 2 * mean), np.uint8)


def mix(patch: U8, alpha: F32, value: int) -> None:
    """patch <- patch + alpha * (value - patch), in place."""
    np.copyto(patch, np.round(patch + alpha * (value - patch.astype(np.float32))), casting="unsafe")


def streak(points: list[tuple[float, float]], radii: tuple[float, float]) -> tuple[int, int, F32]:
    """Exact time-integral of an ellipse moving along `points` at even pace: x, y of the patch and its (h,w) shares.

    In coordinates in which the ellipse is a unit disc, a pixel is covered while the disc's centre passes the chord cut out
    of the path by a unit circle round that pixel. Anti-aliased by 4x4 samples per pixel.
    """
    reach_x, reach_y = radii
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    x1, y1 = math.floor(min(xs) - reach_x - 0.5), math.floor(min(ys) - reach_y - 0.5)
    x2, y2 = math.ceil(max(xs) + reach_x + 0.5), math.ceil(max(ys) + reach_y + 0.5)
    x = ((np.arange(4 * (x2 - x1), dtype=np.float32) + 0.5) / 4 + x1)[None] / reach_x
    y = ((np.arange(4 * (y2 - y1), dtype=np.float32) + 0.5) / 4 + y1)[:, None] / reach_y
    share = np.zeros((y.size, x.size), np.float32)
    for (ax, ay), (bx, by) in pairwise(points):
        ax, ay, bx, by = ax / reach_x, ay / reach_y, bx / reach_x, by / reach_y
        length = max(math.hypot(bx - ax, by - ay), 1e-3)
        ex, ey = (bx - ax) / length, (by - ay) / length
        if ex == ey == 0:
            ex = 1.0
        along = (x - ax) * ex + (y - ay) * ey
        aside = (x - ax) * ey - (y - ay) * ex
        chord = np.sqrt(np.maximum(1 - aside * aside, 0))
        share += (np.clip(along + chord, 0, length) - np.clip(along - chord, 0, length)) / (length * (len(points) - 1))
    return x1, y1, np.asarray(cv2.resize(share, (x2 - x1, y2 - y1), interpolation=cv2.INTER_AREA), np.float32)


def board_face(width: int, height: int, tick: int, light: int, seed: int) -> U8:
    """(h,w) u8 light of the board's diodes: score and clock above, a band of blinking dots below."""
    face: U8 = np.zeros((height, width), np.uint8)
    seconds, thick = tick // 6, max(1, round(height / 45))
    score = f"{seconds // 7 % 10}:{seconds // 11 % 10}"
    clock = f"{seconds // 60 % 60:02}:{seconds % 60:02}"
    for text, left, room in ((score, 0.08, 0.30), (clock, 0.46, 0.46)):
        (wide, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 10.0, 1)  # fonts differ between OpenCV 4 and 5
        place = (round(left * width), round(0.56 * height))
        size = 10.0 * room * width / max(1, wide)
        cv2.putText(face, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, light, thick, cv2.LINE_AA)
    halves = [np.random.default_rng((seed, 23, half, (tick + half) // 2)).random((2, 9)) for half in (0, 1)]  # in turn
    dots = (np.hstack(halves) < 0.45).astype(np.uint8) * (light * 2 // 3)
    band = cv2.resize(
        dots, (max(1, round(0.86 * width)), max(1, round(0.16 * height))), interpolation=cv2.INTER_NEAREST
    )
    y, x = round(0.74 * height), round(0.07 * width)
    area = face[y : y + band.shape[0], x : x + band.shape[1]]
    area[:] = band[: area.shape[0], : area.shape[1]]
    return face
