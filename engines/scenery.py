"""Rendered places: skies, courts, halls, fields, with crowds, boards, trees, lamps and wires. Still pictures, (H,W,3) u8 BGR."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["arena", "net_in_front", "octaves", "place", "shade"]

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]


def octaves(shape: tuple[int, int], rng: np.random.Generator, *, rough: float = 0.6) -> F32:
    """Cloud-like noise of unit spread."""
    total = np.zeros(shape, np.float32)
    weight, cells = 1.0, 3
    while cells < max(shape):
        small = rng.normal(0, weight, (cells, cells + cells // 3)).astype(np.float32)
        total += cv2.resize(small, shape[::-1], interpolation=cv2.INTER_CUBIC)
        weight, cells = weight * rough, cells * 2
    return np.asarray(total / (total.std() + 1e-6), np.float32)


def shade(rng: np.random.Generator, low: float = 10, high: float = 245) -> tuple[float, float, float]:
    """A random BGR colour, often nearly grey."""
    level = rng.uniform(low, high)
    tint = rng.normal(0, rng.choice([4.0, 20.0, 55.0]), 3)
    blue, green, red = np.clip(level + tint, 0, 255)
    return float(blue), float(green), float(red)


def place(wh: tuple[int, int], rng: np.random.Generator) -> tuple[U8, list[tuple[int, int, int, int]]]:
    """A still picture and the boxes in it where a crowd sits."""
    width, height = wh
    kind = str(rng.choice(["sky", "court", "court", "hall", "field", "field", "asphalt"]))
    top, bottom = np.array(shade(rng, 60 if kind == "sky" else 10)), np.array(shade(rng))
    if kind == "sky":
        bottom = np.clip(top + rng.normal(0, 25, 3), 0, 255)
    ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    picture = (top * (1 - ramp) + bottom * ramp) * np.ones((1, width, 1), np.float32)
    picture += octaves((height, width), rng, rough=rng.uniform(0.4, 0.9))[..., None] * rng.choice(
        [1.0, 5.0, 14.0, 25.0]
    )
    image = np.asarray(np.clip(picture, 0, 255), np.uint8)
    crowds: list[tuple[int, int, int, int]] = []
    horizon = int(height * rng.uniform(0.1, 0.6))
    if kind in ("court", "hall", "field"):
        _ground(image, horizon, rng)
        if rng.random() < 0.6:
            crowds.append(_crowd(image, (0, 0, width, max(24, horizon)), rng))
        if rng.random() < 0.7:
            _boards(image, horizon, rng)
    if kind == "court":
        _court(image, horizon, rng)
    if kind in ("sky", "field") and rng.random() < 0.6:
        _trees(image, horizon if kind == "field" else int(height * rng.uniform(0.5, 0.95)), rng)
    if kind == "asphalt":
        image[:] = np.clip(image * 0.15 + rng.uniform(40, 150), 0, 255).astype(np.uint8)
        _specks(image, rng, count=int(rng.integers(40, 260)), largest=2.2)
    for _ in range(rng.integers(0, 5)):
        _wire(image, rng)
    if rng.random() < 0.5:
        _specks(image, rng, count=int(rng.integers(1, 30)), largest=6.0)
    if rng.random() < 0.5:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.3)), np.uint8)
    return image, crowds


def arena(wh: tuple[int, int], rng: np.random.Generator) -> tuple[U8, list[tuple[int, int, int, int]]]:
    """Part of a court as a broadcast shows it: even, saturated floors, thin white lines, emblems, boards, a dark crowd."""
    width, height = wh
    image = np.empty((height, width, 3), np.uint8)
    image[:] = np.array(_saturated(rng), np.uint8)
    horizon = int(height * rng.uniform(-0.3, 0.45))
    crowds: list[tuple[int, int, int, int]] = []
    if horizon > 20:
        dark = np.array(_saturated(rng)) * rng.uniform(0.05, 0.5)
        image[:horizon] = dark.astype(np.uint8)
        if rng.random() < 0.7:
            box = (0, 0, width, horizon)
            crowds.append(_crowd(image, box, rng) if rng.random() < 0.5 else _rows_of_people(image, box, rng))
            image[:horizon] = (image[:horizon] * rng.uniform(0.2, 1.0)).astype(np.uint8)
        for row in range(int(rng.integers(0, 3))):
            _boards(image, horizon - row * int(0.12 * height), rng)
        if rng.random() < 0.5:
            _hoarding(image, horizon, rng)
    _court(image, max(horizon, -height // 3), rng, vivid=True)
    for _ in range(int(rng.integers(0, 4))):
        _emblem(image, max(0, horizon), rng)
    if rng.random() < 0.5:
        _net(image, max(0, horizon), rng)
    picture = image.astype(np.float32)
    picture += octaves((height, width), rng, rough=rng.uniform(0.5, 1.0))[..., None] * rng.choice([0.5, 1.5, 4.0])
    glow = 1 + rng.uniform(0, 0.25) * octaves((height, width), rng, rough=0.3)[..., None]
    image = np.asarray(np.clip(picture * glow, 0, 255), np.uint8)
    if rng.random() < 0.4:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.9)), np.uint8)
    return image, crowds


def _saturated(rng: np.random.Generator) -> tuple[float, float, float]:
    hue, strong = rng.integers(0, 180), rng.uniform(90, 245) if rng.random() < 0.8 else rng.uniform(0, 90)
    pixel = np.array([[[hue, strong, rng.uniform(40, 225)]]], np.uint8)
    blue, green, red = cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0]
    return float(blue), float(green), float(red)


def _emblem(image: U8, horizon: int, rng: np.random.Generator) -> None:
    """Lettering or a simple figure on the floor."""
    height, width = image.shape[:2]
    x, y = int(rng.uniform(-0.1, 0.9) * width), int(rng.uniform(horizon, height))
    colour, size = shade(rng, 200, 255) if rng.random() < 0.8 else shade(rng), rng.uniform(10, 60)
    if rng.random() < 0.5:
        points = np.array([x, y]) + rng.uniform(-1, 1, (int(rng.integers(3, 6)), 2)) * size * (1.5, 0.7)
        cv2.fillPoly(image, [np.asarray(points * 8, np.int32)], colour, cv2.LINE_AA, 3)
        return
    text = "".join(rng.choice(list("ABCEGHKLMNOPRSTUVXYZ0358"), rng.integers(3, 9)))
    cv2.putText(image, text, (x, y), int(rng.integers(0, 4)), size / 25, colour, int(rng.integers(1, 8)), cv2.LINE_AA)


def _hoarding(image: U8, bottom: int, rng: np.random.Generator) -> None:
    """One vivid wall with large letters and figures on it, mostly white: what is before them is white on white."""
    height, width = image.shape[:2]
    tall = int(rng.uniform(0.12, 0.45) * height)
    top, wall = bottom - tall, _saturated(rng)
    cv2.rectangle(image, (0, top), (width, bottom), wall, -1)
    ink = shade(rng, 200, 255) if rng.random() < 0.8 else shade(rng)
    size, x = rng.uniform(0.3, 0.75) * tall, float(-rng.integers(0, 80))
    gap, word = rng.uniform(0.2, 2.5), "".join(rng.choice(list("ABCEGHKLMNOPRSTUVXYZ"), rng.integers(3, 8)))
    sides, tip = int(rng.integers(3, 7)), rng.uniform(0.3, 1.0)
    y = top + (tall + size) / 2
    font, thick = int(rng.integers(0, 4)), max(2, int(size * rng.uniform(0.08, 0.25)))
    while x < width:
        middle = np.array([x + size / 2, y - size / 2])
        turn = np.arange(2 * sides) * np.pi / sides + rng.choice([0.0, np.pi / 2])
        out = size / 2 * np.where(np.arange(2 * sides) % 2, tip, 1.0)
        corners = middle + np.column_stack([np.cos(turn), np.sin(turn)]) * out[:, None]
        if rng.random() < 0.6:
            cv2.fillPoly(image, [np.asarray(corners * 8, np.int32)], ink, cv2.LINE_AA, 3)
            x += size * 1.2
        cv2.putText(image, word, (int(x), int(y)), font, size / 26, ink, thick, cv2.LINE_AA)
        x += cv2.getTextSize(word, font, size / 26, thick)[0][0] + gap * size


def net_in_front(image: U8, rng: np.random.Generator) -> Callable[[U8, tuple[float, float]], None]:
    """``draw(image, shift)``: a net before everything: a mesh, a white tape above it, sometimes a post."""
    height, width = image.shape[:2]
    alpha, tone = np.zeros((height, width, 1), np.float32), np.zeros((height, width, 3), np.float32)
    layer = np.zeros((height, width, 3), np.uint8)
    top = int(rng.uniform(0.15, 0.85) * height)
    bottom, lean = min(height, top + int(rng.uniform(0.06, 0.5) * height)), int(rng.normal(0, 4))
    step, mesh = int(rng.integers(3, 9)), rng.uniform(0, 0.3)
    alpha[top:bottom] = mesh
    alpha[top:bottom:step] += 0.15
    alpha[top:bottom, ::step] += 0.15
    tone[:] = shade(rng, 10, 230)
    line = [(0, top), (width, top + lean), shade(rng, 190, 255), int(rng.integers(1, 6)), cv2.LINE_AA]
    cv2.line(layer, *line)  # type: ignore[call-overload]
    if rng.random() < 0.4:
        x = int(rng.integers(0, width))
        cv2.line(layer, (x, top), (x, height), shade(rng), int(rng.integers(2, 7)), cv2.LINE_AA)
    tape = layer.max(2, keepdims=True) > 40
    alpha[tape[..., 0]], tone[tape[..., 0]] = 1.0, layer[tape[..., 0]]

    def draw(image: U8, shift: tuple[float, float]) -> None:
        dx, dy = (round(value) for value in shift)
        over, colour = np.roll(alpha, (dy, dx), (0, 1)), np.roll(tone, (dy, dx), (0, 1))
        image[:] = np.clip(image * (1 - over) + colour * over, 0, 255).astype(np.uint8)

    return draw


def _net(image: U8, horizon: int, rng: np.random.Generator) -> None:
    """A mesh that darkens or brightens what is behind, a white tape above it, sometimes a post."""
    height, width = image.shape[:2]
    top = int(rng.uniform(horizon, 0.9 * height))
    bottom = min(height, top + int(rng.uniform(0.05, 0.35) * height))
    if bottom - top < 6:
        return
    x1, x2 = (0, width) if rng.random() < 0.6 else sorted(int(v) for v in rng.uniform(-0.3, 1.3, 2) * width)
    x1, x2 = max(0, x1), min(width, x2)
    if x2 - x1 < 20:
        return
    mesh = np.full((bottom - top, x2 - x1, 1), rng.uniform(0.0, 0.35), np.float32)
    step = int(rng.integers(3, 9))
    mesh[::step] += 0.2
    mesh[:, ::step] += 0.2
    tone = np.array(shade(rng, 10, 230))
    part = image[top:bottom, x1:x2]
    part[:] = np.clip(part * (1 - mesh) + tone * mesh, 0, 255).astype(np.uint8)
    cv2.line(
        image, (x1, top), (x2, top + int(rng.normal(0, 3))), shade(rng, 200, 255), int(rng.integers(1, 6)), cv2.LINE_AA
    )
    cv2.line(image, (x2, top), (x2, bottom), shade(rng), int(rng.integers(2, 7)), cv2.LINE_AA)


def _ground(image: U8, horizon: int, rng: np.random.Generator) -> None:
    part = image[horizon:]
    texture = octaves(part.shape[:2], rng, rough=rng.uniform(0.6, 1.0))[..., None] * rng.choice([1.0, 4.0, 9.0, 16.0])
    part[:] = np.clip(np.array(shade(rng, 25, 220)) + texture, 0, 255).astype(np.uint8)


def _court(image: U8, horizon: int, rng: np.random.Generator, *, vivid: bool = False) -> None:
    """A court in perspective: inner colour, lines, often a net."""
    height, width = image.shape[:2]
    top = horizon + rng.uniform(0, 0.2) * (height - horizon)
    far, near = sorted(rng.uniform(0.3, 3.0 if vivid else 1.5, 2) * width)
    middle = width * (rng.uniform(-0.3, 1.3) if vivid else rng.uniform(0.2, 0.8))

    def at(u: float, v: float) -> tuple[int, int]:
        half = (far * (1 - v) + near * v) / 2
        return round((middle + u * half) * 8), round((top + v**1.5 * (height * 1.05 - top)) * 8)

    if rng.random() < 0.7:
        corners = np.array([at(-1, 0), at(1, 0), at(1, 1), at(-1, 1)], np.int32)
        cv2.fillPoly(image, [corners], _saturated(rng) if vivid else shade(rng, 30, 190), cv2.LINE_AA, 3)
    white = shade(rng, 190, 255) if rng.random() < 0.9 else shade(rng)
    thick = int(rng.integers(1, 6))
    for u in (-1, -0.8, 0, 0.8, 1):
        cv2.line(image, at(u, 0), at(u, 1), white, thick, cv2.LINE_AA, 3)
    for v in (0, 0.12, 0.4, 0.6, 0.88, 1):
        cv2.line(image, at(-1, v), at(1, v), white, thick, cv2.LINE_AA, 3)
    if not vivid and rng.random() < 0.6:
        (x1, y), (x2, _) = at(-1.1, 0.45), at(1.1, 0.45)
        rise = int(height * rng.uniform(0.05, 0.2)) * 8
        grey = shade(rng, 20, 200)
        for x in range(x1, x2, int(rng.integers(24, 64))):
            cv2.line(image, (x, y), (x, y - rise), grey, 1, cv2.LINE_AA, 3)
        cv2.line(image, (x1, y - rise), (x2, y - rise), shade(rng, 200, 255), int(rng.integers(1, 4)), cv2.LINE_AA, 3)


def _crowd(image: U8, box: tuple[int, int, int, int], rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Heads and shirts as blocks of a few px."""
    x1, y1, x2, y2 = box
    size = int(rng.integers(3, 9))
    rows, columns = -(-(y2 - y1) // size), -(-(x2 - x1) // size)
    small = rng.uniform(0, rng.uniform(40, 200), (rows, columns, 1)) * rng.uniform(0.5, 1, (rows, columns, 3))
    blocks = cv2.resize(small.astype(np.float32), (columns * size, rows * size), interpolation=cv2.INTER_NEAREST)
    blocks = cv2.GaussianBlur(blocks, (0, 0), rng.uniform(0.5, 1.5))[: y2 - y1, : x2 - x1]
    image[y1:y2, x1:x2] = np.clip(blocks, 0, 255).astype(np.uint8)
    return box


def _rows_of_people(image: U8, box: tuple[int, int, int, int], rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Heads and shoulders in the half dark, behind rails: small, soft, with bright spots, and still."""
    x1, y1, x2, y2 = box
    size, light = rng.uniform(2.5, 9), rng.uniform(20, 160)
    for y in np.arange(y1, y2, size * 4):
        for x in np.arange(x1 + rng.uniform(0, size * 3), x2, size * rng.uniform(2.5, 5)):
            if rng.random() < 0.3:
                continue
            at = np.array([x, y]) + rng.normal(0, size * 0.4, 2)
            for down, wide, tall in ((2.2, 1.6, 1.4), (0.0, 0.8, 1.0)):
                middle = round(float(at[0]) * 8), round(float(at[1] + down * size) * 8)
                axes = round(wide * size * 8), round(tall * size * 8)
                cv2.ellipse(image, middle, axes, 0, 0, 360, shade(rng, 5, light), -1, cv2.LINE_AA, 3)
    part = image[y1:y2, x1:x2]
    part[:] = cv2.GaussianBlur(part, (0, 0), rng.uniform(0.6, 2.0))
    return box


def _boards(image: U8, horizon: int, rng: np.random.Generator) -> None:
    height, width = image.shape[:2]
    tall = int(rng.uniform(0.05, 0.14) * height)
    x = -int(rng.integers(0, 60))
    while x < width:
        wide = int(rng.uniform(0.12, 0.4) * width)
        cv2.rectangle(image, (x, horizon - tall), (x + wide, horizon), shade(rng), -1)
        text = "".join(rng.choice(list("ABCEGHKLMNOPRSTUVXYZ0358"), rng.integers(3, 9)))
        cv2.putText(
            image,
            text,
            (x + 4, horizon - tall // 4),
            int(rng.integers(0, 4)),
            tall / 32,
            shade(rng, 120, 255),
            int(rng.integers(1, 3)),
            cv2.LINE_AA,
        )
        x += wide + int(rng.integers(0, 4))


def _trees(image: U8, ground: int, rng: np.random.Generator) -> None:
    height, width = image.shape[:2]
    skyline = ground - height * 0.15 * (1 + octaves((1, width), rng)[0]) * rng.uniform(0.3, 1.3)
    leaves = octaves((height, width), rng, rough=0.95)[..., None] * rng.uniform(8, 30) + np.array(shade(rng, 15, 110))
    mask = np.arange(height)[:, None] > skyline[None, :]
    mask[min(ground, height) :] = False
    image[mask] = np.clip(leaves, 0, 255).astype(np.uint8)[mask]


def _wire(image: U8, rng: np.random.Generator) -> None:
    height, width = image.shape[:2]
    if rng.random() < 0.5:
        a, b = (0, int(rng.integers(0, height))), (width, int(rng.integers(0, height)))
    else:
        a = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        b = (a[0] + int(rng.normal(0, 5)), height)
    cv2.line(image, a, b, shade(rng), int(rng.integers(1, 9)), cv2.LINE_AA)


def _specks(image: U8, rng: np.random.Generator, *, count: int, largest: float) -> None:
    """Lamps, markers, litter, grit: small, bright or dark, and still."""
    height, width = image.shape[:2]
    for _ in range(count):
        middle = int(rng.integers(0, width)) * 8, int(rng.integers(0, height)) * 8
        axes = round(rng.uniform(0.7, largest) * 8), round(rng.uniform(0.7, largest) * 8)
        cv2.ellipse(
            image,
            middle,
            axes,
            0,
            0,
            360,
            shade(rng, *((0, 60) if rng.random() < 0.3 else (160, 255))),
            -1,
            cv2.LINE_AA,
            3,
        )
