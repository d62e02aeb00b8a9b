"""What moves and is not wanted: people with rackets, cars, shadows, leaves, boards, flickering crowds, jittering specks.

Every maker returns ``draw(image, time)``: paints into an (H,W,3) u8 BGR picture at a time in frames.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.scenery import octaves, shade

__all__ = ["Draw", "board", "car", "flicker", "foliage", "person", "shadow", "specks"]

U8 = NDArray[np.uint8]
Draw = Callable[[U8, float], None]
Size = tuple[int, int]


def _fixed(point: tuple[float, float]) -> tuple[int, int]:
    return round(float(np.clip(point[0], -2000, 4000)) * 8), round(float(np.clip(point[1], -2000, 4000)) * 8)


def person(wh: Size, rng: np.random.Generator, *, tall_px: float | None = None) -> Draw:
    """Somebody who walks, runs or lunges, often with a racket or a bat; white shirts and shoes are common."""
    tall = tall_px or float(np.exp(rng.uniform(np.log(35), np.log(280))))
    start = np.array([rng.uniform(0, wh[0]), rng.uniform(0.3, 1.2) * wh[1]])
    speed = rng.normal(0, 1, 2) * tall * rng.choice([0.002, 0.01, 0.03]) * (1, 0.4)
    pace, beat = rng.uniform(0.1, 0.5), rng.uniform(0, 6)
    shirt = shade(rng, 200, 255) if rng.random() < 0.4 else shade(rng)
    trousers, shoe = shade(rng), shade(rng, 190, 255) if rng.random() < 0.5 else shade(rng)
    skin = tuple(float(v) for v in np.array([120, 150, 200]) * rng.uniform(0.3, 1.15))
    racket = rng.random() < 0.65
    reach, swing = rng.uniform(0.25, 0.45), rng.uniform(0.05, 0.7)
    grip, frame = shade(rng), shade(rng, 170, 255) if rng.random() < 0.5 else shade(rng)
    solid = rng.random() < 0.3
    if np.max(skin) > 255:
        skin = (120.0, 150.0, 200.0)

    def draw(image: U8, time: float) -> None:
        feet = start + speed * time + (0, -abs(np.sin(beat + pace * time)) * tall * 0.02)
        phase = beat + pace * time

        def at(x: float, y: float) -> tuple[float, float]:
            return feet[0] + x * tall, feet[1] - y * tall

        def limb(points: list[tuple[float, float]], wide: float, colour: tuple[float, ...]) -> None:
            for p, q in pairwise(points):
                cv2.line(image, _fixed(p), _fixed(q), colour, max(1, round(wide * tall)), cv2.LINE_AA, 3)

        hip, neck = at(0, 0.5), at(0.03 * np.sin(phase), 0.83)
        for side in (-1, 1):
            step = np.sin(phase + side * np.pi / 2)
            foot = at(0.2 * step, 0.02 + 0.06 * max(0.0, np.cos(phase) * side))
            limb([hip, at(0.1 * step + 0.04, 0.27), foot], 0.085, trousers)
            cv2.ellipse(
                image,
                _fixed((foot[0] + 0.03 * tall, foot[1])),
                _fixed((0.055 * tall, 0.024 * tall)),
                0,
                0,
                360,
                shoe,
                -1,
                cv2.LINE_AA,
                3,
            )
        limb([hip, neck], 0.19, shirt)
        cv2.ellipse(
            image,
            _fixed((neck[0], neck[1] - 0.1 * tall)),
            _fixed((0.05 * tall, 0.068 * tall)),
            0,
            0,
            360,
            skin,
            -1,
            cv2.LINE_AA,
            3,
        )
        for side in (-1, 1):
            turn = phase * swing * 2 if side > 0 and racket else np.sin(phase) * side
            elbow = (neck[0] + 0.14 * tall * np.sin(turn), neck[1] + 0.05 * tall + 0.14 * tall * np.cos(turn))
            hand = (elbow[0] + 0.14 * tall * np.sin(turn * 1.3), elbow[1] + 0.14 * tall * np.cos(turn * 1.3))
            limb([(neck[0], neck[1] + 0.05 * tall), elbow], 0.065, shirt)
            limb([elbow, hand], 0.05, skin)
            if side > 0 and racket:
                angle = turn * 1.5
                tip = (hand[0] + reach * tall * np.sin(angle), hand[1] + reach * tall * np.cos(angle))
                limb([hand, tip], 0.02, grip)
                axes = _fixed((reach * 0.42 * tall, reach * (0.15 + 0.18 * abs(np.sin(phase))) * tall))
                cv2.ellipse(
                    image,
                    _fixed(tip),
                    axes,
                    90 - np.degrees(angle),
                    0,
                    360,
                    frame,
                    -1 if solid else max(1, round(tall * 0.012)),
                    cv2.LINE_AA,
                    3,
                )

    return draw


def car(wh: Size, rng: np.random.Generator) -> Draw:
    """A vehicle that crosses: large, with small bright and dark parts on it."""
    long = rng.uniform(0.15, 0.7) * wh[0]
    at, speed = rng.uniform(-0.3, 1.3) * wh[0], rng.normal(0, 4)
    ground, paint, glass, lamp = rng.uniform(0.3, 1.1) * wh[1], shade(rng), shade(rng, 10, 90), shade(rng, 200, 255)

    def draw(image: U8, time: float) -> None:
        def points(rows: list[tuple[float, float]]) -> NDArray[np.int32]:
            return np.array([_fixed((at + speed * time + x * long, ground - y * long)) for x, y in rows], np.int32)

        cv2.fillPoly(
            image,
            [points([(0, 0.05), (1, 0.05), (1, 0.22), (0.8, 0.25), (0.62, 0.4), (0.2, 0.4), (0, 0.25)])],
            paint,
            cv2.LINE_AA,
            3,
        )
        cv2.fillPoly(image, [points([(0.12, 0.25), (0.75, 0.25), (0.6, 0.37), (0.22, 0.37)])], glass, cv2.LINE_AA, 3)
        for x in (0.2, 0.8):
            cv2.circle(image, tuple(points([(x, 0.05)])[0]), _fixed((long * 0.08, 0))[0], glass, -1, cv2.LINE_AA, 3)
        cv2.circle(image, tuple(points([(0.97, 0.18)])[0]), _fixed((long * 0.02, 0))[0], lamp, -1, cv2.LINE_AA, 3)

    return draw


def shadow(wh: Size, rng: np.random.Generator) -> Draw:
    """A large soft patch of light or shade that wanders."""
    radius, gain = rng.uniform(0.1, 0.5) * wh[0], rng.uniform(0.6, 1.25)
    start, speed = rng.uniform(0, 1, 2) * wh, rng.normal(0, 2, 2)

    def draw(image: U8, time: float) -> None:
        x, y = start + speed * time
        yy, xx = np.ogrid[: image.shape[0], : image.shape[1]]
        soft = np.clip(1.3 - np.sqrt((xx - x) ** 2 + 3 * (yy - y) ** 2) / radius, 0, 1).astype(np.float32)
        image[:] = np.clip(image * (1 + (gain - 1) * soft[..., None]), 0, 255).astype(np.uint8)

    return draw


def foliage(wh: Size, rng: np.random.Generator) -> Draw:
    """A patch of leaves, or a flag, that sways."""
    width, height = int(rng.uniform(0.15, 0.6) * wh[0]), int(rng.uniform(0.1, 0.5) * wh[1])
    flag = rng.random() < 0.35
    texture = octaves((height, width), rng, rough=0.5 if flag else 1.0)[..., None] * rng.uniform(10, 40)
    patch = np.clip(texture + np.array(shade(rng)), 0, 255).astype(np.uint8)
    soft = (
        np.ones((height, width), np.float32)
        if flag
        else (octaves((height, width), rng, rough=0.8) > rng.normal(0, 0.5)).astype(np.float32)
    )
    x, y = rng.uniform(-0.1, 0.9) * wh[0], rng.uniform(-0.1, 0.8) * wh[1]
    sway, rate = rng.uniform(0.3, 4), rng.uniform(0.05, 0.5)
    rows = np.arange(height, dtype=np.float32)[:, None] + np.zeros((1, width), np.float32)
    columns = np.arange(width, dtype=np.float32)[None] + np.zeros((height, 1), np.float32)

    def draw(image: U8, time: float) -> None:
        left, top = int(max(0, x)), int(max(0, y))
        w, h = min(width, image.shape[1] - left), min(height, image.shape[0] - top)
        if w < 2 or h < 2:
            return
        shift = sway * np.sin(rate * time + columns * 0.06 + rows * 0.04)
        moved = cv2.remap(patch, columns + shift, rows + shift * 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        mask = cv2.remap(soft, columns + shift, rows + shift * 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)[
            :h, :w, None
        ]
        part = image[top : top + h, left : left + w]
        part[:] = (part * (1 - mask) + moved[:h, :w] * mask).astype(np.uint8)

    return draw


def board(wh: Size, rng: np.random.Generator) -> Draw:
    """An LED board whose text scrolls or jumps."""
    x, y = int(rng.uniform(-0.2, 0.8) * wh[0]), int(rng.uniform(0, 0.9) * wh[1])
    wide, tall = int(rng.uniform(0.2, 0.8) * wh[0]), int(rng.uniform(0.05, 0.2) * wh[1])
    back, front = shade(rng), shade(rng, 120, 255)
    text = "".join(rng.choice(list("ABCEGHKLMNOPRSTUVXYZ0358 .:"), rng.integers(3, 16)))
    speed, period, font = rng.choice([0.0, 1.0, 4.0]), rng.integers(3, 15), int(rng.integers(0, 4))

    def draw(image: U8, time: float) -> None:
        left, top = max(0, x), max(0, y)
        part = image[top : y + tall, left : x + wide]
        if part.size == 0:
            return
        swap = speed == 0 and int(time / period) % 2
        part[:] = np.array(front if swap else back, np.uint8)
        cv2.putText(
            part,
            text,
            (int(8 - speed * time) + 20, tall - tall // 4),
            font,
            tall / 36,
            back if swap else front,
            2,
            cv2.LINE_AA,
        )

    return draw


def flicker(wh: Size, rng: np.random.Generator, box: tuple[int, int, int, int] | None = None) -> Draw:
    """A crowd whose members stir: small blocks change now here, now there, and stay where they are."""
    x1, y1, x2, y2 = box or (0, 0, wh[0], int(wh[1] * rng.uniform(0.2, 0.6)))
    count = int(rng.integers(4, 60))
    where = np.column_stack([rng.uniform(x1, x2, count), rng.uniform(y1, y2, count)])
    size, colours = rng.uniform(1, 6, (count, 2)), [shade(rng) for _ in range(count)]
    rate, phase, sway = rng.uniform(0.02, 0.6, count), rng.uniform(0, 6.3, count), rng.uniform(0, 3, count)

    def draw(image: U8, time: float) -> None:
        for k in range(count):
            wave = np.sin(rate[k] * time + phase[k])
            if wave > -0.3:
                middle = where[k] + (sway[k] * wave, 0.3 * sway[k] * wave)
                cv2.ellipse(
                    image,
                    _fixed((middle[0], middle[1])),
                    _fixed((size[k, 0], size[k, 1])),
                    0,
                    0,
                    360,
                    colours[k],
                    -1,
                    cv2.LINE_AA,
                    3,
                )

    return draw


def specks(wh: Size, rng: np.random.Generator) -> Draw:
    """Bright or dark dots that twinkle and jitter by a part of a px, as lamps and dead pixels do."""
    count = int(rng.integers(1, 14))
    where = rng.uniform(0, 1, (count, 2)) * wh
    size, colours = (
        rng.uniform(0.6, 5, count),
        [shade(rng, 170, 255) if rng.random() < 0.7 else shade(rng, 0, 60) for _ in range(count)],
    )
    shake, noise = rng.uniform(0, 0.7), np.random.default_rng(int(rng.integers(1 << 30)))

    def draw(image: U8, time: float) -> None:
        for k in range(count):
            x, y = where[k] + noise.normal(0, shake, 2)
            cv2.circle(image, _fixed((x, y)), _fixed((size[k], 0))[0], colours[k], -1, cv2.LINE_AA, 3)

    return draw
