"""What is taken for a small mover and is none: lights and shirts in a dark stand, people who hardly stir, tips of masts.

Still ones are painted into a place; restless ones return ``draw(image, time)`` as in `engines.bystanders`.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.bystanders import Draw, Size
from engines.scenery import shade

__all__ = ["lights", "mast", "stirring"]

U8 = NDArray[np.uint8]
Box = tuple[int, int, int, int]


def _blob(image: U8, at: tuple[float, float], axes: tuple[float, float], angle: float, colour: object) -> None:
    middle, radii = ((round(float(np.clip(v, -500, 4000)) * 8) for v in pair) for pair in (at, axes))
    cv2.ellipse(image, tuple(middle), tuple(radii), angle, 0, 360, colour, -1, cv2.LINE_AA, 3)  # type: ignore[call-overload]


def lights(image: U8, box: Box, rng: np.random.Generator) -> None:
    """Small bright shapes that never move, some like a wing or a hull: badges, telephones, exit signs, glints on a floor."""
    x1, y1, x2, y2 = box
    largest, stretch = rng.uniform(1.5, 6), rng.uniform(1, 4)
    for _ in range(int(np.exp(rng.uniform(0, np.log(60))))):
        at = rng.uniform(x1, x2), rng.uniform(y1, y2)
        thin = rng.uniform(0.6, largest)
        colour = shade(rng, *((170, 255) if rng.random() < 0.6 else (60, 170)))
        _blob(image, at, (thin * rng.uniform(1, stretch), thin), rng.uniform(0, 180), colour)
        if rng.random() < 0.25:  # a second lobe: shoulders, a pair of lamps
            beside = at[0] + rng.normal(0, 2.5 * thin), at[1] + rng.normal(0, 1.5 * thin)
            _blob(image, beside, (thin, thin * rng.uniform(0.5, 1)), rng.uniform(0, 180), colour)


def stirring(box: Box, rng: np.random.Generator) -> Draw:
    """People far away who sit: what is bright on them sways by a part of a px per frame, and stays."""
    x1, y1, x2, y2 = box
    count = int(rng.integers(2, 40))
    where = np.column_stack([rng.uniform(x1, x2, count), rng.uniform(y1, y2, count)])
    axes = rng.uniform(0.7, rng.uniform(1.5, 7), (count, 2))
    angle, bright = rng.uniform(0, 180, count), rng.uniform(100, 255)
    colours = [shade(rng, bright * 0.5, bright) for _ in range(count)]
    sway = rng.exponential(rng.uniform(0.1, 1.2), (count, 2))
    rate, lag = rng.uniform(0.03, 0.5, (count, 2)), rng.uniform(0, 6.3, (count, 2))

    def draw(image: U8, time: float) -> None:
        for k in range(count):
            x, y = where[k] + sway[k] * np.sin(rate[k] * time + lag[k])
            _blob(image, (x, y), (axes[k, 0], axes[k, 1]), float(angle[k]), colours[k])

    return draw


def mast(wh: Size, rng: np.random.Generator) -> Draw:
    """A pole, a lamp post, an aerial, a tree top: its foot stands, its tip with something on it sways a little."""
    foot = np.array([rng.uniform(0, 1) * wh[0], wh[1] * rng.uniform(0.7, 1.1)])
    tip = foot + np.array([rng.normal(0, 0.05) * wh[0], -rng.uniform(0.1, 0.8) * wh[1]])
    tone, thick = shade(rng, 5, 140) if rng.random() < 0.7 else shade(rng), int(rng.integers(1, 5))
    head = rng.uniform(1, 7, 2) * (1, rng.uniform(0.3, 1))
    arms = int(rng.integers(0, 4))
    arm = rng.uniform(2, 16)
    sway, rate, lag = rng.exponential(0.7, 2) * (1, 0.3), rng.uniform(0.1, 1.2), rng.uniform(0, 6.3)
    drawn = rng.random() < 0.8  # else only what is at the tip stands out against the sky

    def fixed(x: float, y: float) -> tuple[int, int]:
        return round(float(np.clip(x, -500, 4000)) * 8), round(float(np.clip(y, -500, 4000)) * 8)

    def draw(image: U8, time: float) -> None:
        top = tip + sway * np.sin(rate * time + lag)
        if drawn:
            cv2.line(image, fixed(*foot), fixed(*top), tone, thick, cv2.LINE_AA, 3)
        for k in range(arms):
            y = top[1] + 3.0 * k + 1
            cv2.line(image, fixed(top[0] - arm, y), fixed(top[0] + arm, y), tone, 1, cv2.LINE_AA, 3)
        _blob(image, (float(top[0]), float(top[1])), (float(head[0]), float(head[1])), 0, tone)

    return draw
