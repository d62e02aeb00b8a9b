"""Small things that fly, drawn. Every sprite is (64, 64, 4) f32 premultiplied BGRA 0..1, 56 px long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["SIDE", "Sprite", "random_sprite", "stamp"]

SIDE, LONG = 64, 56
_BITS = 4
F32 = NDArray[np.float32]
Draw = Callable[[float], F32]


@dataclass(frozen=True, slots=True)
class Sprite:
    """``draw(phase)`` gives the picture at a phase of its spin or wing beat; `turns`: it points where it flies."""

    label: int
    kind: str
    draw: Draw
    turns: bool
    cycles_per_frame: float


def _colour(rng: np.random.Generator, *, light: float) -> F32:
    """Random BGR; `light` is the chance of a bright, nearly white one."""
    if rng.random() < light:
        return (rng.uniform(0.75, 1.0) * (1 - rng.uniform(0, 0.15, 3))).astype(np.float32)
    return rng.uniform(0, 1, 3).astype(np.float32)


def _dark(rng: np.random.Generator) -> F32:
    return (rng.uniform(0.02, 0.45) * (1 - rng.uniform(0, 0.3, 3))).astype(np.float32)


class _Canvas:
    def __init__(self) -> None:
        self.bgra = np.zeros((SIDE, SIDE, 4), np.float32)

    def polygon(self, points: object, colour: F32, alpha: float = 1.0) -> None:
        corners = np.asarray(np.round(np.asarray(points, np.float64) * (1 << _BITS)), np.int32)
        self._paint(lambda mask: cv2.fillPoly(mask, [corners], 255, cv2.LINE_AA, _BITS), colour, alpha)

    def ellipse(
        self,
        centre: tuple[float, float],
        axes: tuple[float, float],
        colour: F32,
        *,
        angle: float = 0,
        alpha: float = 1.0,
    ) -> None:
        middle, radii = ((round(a * 16), round(b * 16)) for a, b in (centre, axes))
        self._paint(
            lambda mask: cv2.ellipse(mask, middle, radii, angle, 0, 360, 255, -1, cv2.LINE_AA, _BITS), colour, alpha
        )

    def line(self, a: tuple[float, float], b: tuple[float, float], thick: int, colour: F32, alpha: float = 1.0) -> None:
        p, q = (tuple(round(v * 16) for v in point) for point in (a, b))
        self._paint(lambda mask: cv2.line(mask, p, q, 255, thick, cv2.LINE_AA, _BITS), colour, alpha)

    def _paint(self, draw: Callable[[NDArray[np.uint8]], object], colour: F32, alpha: float) -> None:
        mask = np.zeros((SIDE, SIDE), np.uint8)
        draw(mask)
        cover = mask.astype(np.float32)[..., None] * np.float32(alpha / 255)
        self.bgra *= 1 - cover
        self.bgra += cover * np.append(colour, 1).astype(np.float32)


def _ball(rng: np.random.Generator) -> Sprite:
    base, second = _colour(rng, light=0.45), _colour(rng, light=0.3)
    if rng.random() < 0.25:
        base = np.array([0.25, 0.95, 0.8], np.float32) * np.float32(rng.uniform(0.6, 1.05))  # tennis yellow, BGR
    patches = int(rng.choice([0, 0, 1, 3, 6, 10]))
    spots = rng.normal(size=(patches, 3))
    spots /= np.linalg.norm(spots, axis=1, keepdims=True) + 1e-9
    size, shade = rng.uniform(0.25, 0.7), rng.uniform(0, 0.6)
    light = rng.uniform(-1, 1, 2)
    yy, xx = (np.mgrid[0:SIDE, 0:SIDE] - (SIDE - 1) / 2) / (LONG / 2)
    zz = np.sqrt(np.clip(1 - xx**2 - yy**2, 0, 1))
    alpha = np.clip((1 - np.hypot(xx, yy)) * LONG / 2 + 0.5, 0, 1)
    lit = np.clip(1 - shade * (0.5 - 0.5 * (xx * light[0] + yy * light[1]) - 0.3 * zz), 0, 1.15)

    def draw(phase: float) -> F32:
        mix = np.zeros_like(xx)
        angle = 2 * np.pi * phase
        for x, y, z in spots:
            u, w = np.cos(angle) * x + np.sin(angle) * z, -np.sin(angle) * x + np.cos(angle) * z
            mix = np.maximum(mix, np.clip((xx * u + yy * y + zz * w - np.cos(size)) * 12, 0, 1))
        colour = (base * (1 - mix[..., None]) + second * mix[..., None]) * lit[..., None]
        return np.concatenate([np.clip(colour, 0, 1) * alpha[..., None], alpha[..., None]], 2).astype(np.float32)

    return Sprite(0, "ball", draw, False, rng.uniform(0, 0.45))


def _shuttle(rng: np.random.Generator) -> Sprite:
    """A cone of feathers with a cork, seen from any side: along its way it is a ring or a disc, from the side a wedge.

    Cameras stand behind the court, so most of its ways lead towards or away from them.
    """
    skirt, cork = _colour(rng, light=0.9), _colour(rng, light=0.6)
    wide, solid = rng.uniform(0.55, 0.9) * LONG / 2, rng.uniform(0.55, 1.0)
    slant, nod = rng.uniform(-1.45, 1.45) if rng.random() < 0.65 else 0.0, rng.uniform(0, 0.4)
    ribs, hollow = int(rng.integers(0, 7)), rng.uniform(0.25, 0.9)
    stem = np.clip(skirt * np.float32(rng.uniform(0.6, 1.0)), 0, 1)

    def draw(phase: float) -> F32:
        canvas = _Canvas()
        tilt = slant + nod * np.sin(2 * np.pi * phase * 0.4)  # 0: from the side; towards pi/2 one looks into the skirt
        length, flat = np.cos(tilt), abs(np.sin(tilt))
        tail, neck, nose = 32 - LONG / 2 * length, 32 + LONG * 0.2 * length, 32 + LONG * 0.36 * length
        rim, knob = (max(1.0, wide * flat), wide), (max(6.5 * flat, LONG * 0.14 * length), 7.0)
        if tilt > 0:  # the cork is behind
            canvas.ellipse((nose, 32), knob, cork)
        canvas.ellipse((tail, 32), rim, skirt, alpha=solid)
        canvas.polygon([(tail, 32 - wide), (tail, 32 + wide), (neck, 39), (neck, 25)], skirt, solid)
        for k in range(ribs):
            across = (k + 0.5) / ribs * 2 - 1
            canvas.line((tail, 32 + wide * across), (neck, 32 + 6 * across), 2, stem, 0.6)
        if tilt > 0.25:
            inside = np.clip(stem * np.float32(hollow), 0, 1)
            canvas.ellipse(
                (tail, 32), (max(0.7, rim[0] * 0.62), wide * 0.62), inside, alpha=min(1.0, 1.3 * flat * solid)
            )
        if tilt <= 0:
            canvas.ellipse((nose, 32), knob, cork)
        return canvas.bgra

    return Sprite(0, "shuttle", draw, True, rng.uniform(0, 0.3))


def _bird(rng: np.random.Generator) -> Sprite:
    colour = _dark(rng) if rng.random() < 0.65 else _colour(rng, light=0.6)
    wing = np.clip(colour * np.float32(rng.uniform(0.6, 1.4)), 0, 1)
    thick, tilt, tail = rng.uniform(3.5, 8), rng.uniform(0.2, 0.9), rng.uniform(8, 18)

    def draw(phase: float) -> F32:
        canvas = _Canvas()
        beat = np.sin(2 * np.pi * phase)
        for side in (-1, 1):
            mid = (32 - side * 14, 32 - beat * 12 * tilt)
            tip = (32 - side * LONG / 2, 32 - beat * 27 * tilt + 3)
            canvas.polygon(
                [(32, 32 - thick * 0.5), mid, tip, (mid[0] + side * 2, mid[1] + thick * 1.3), (32, 32 + thick * 0.8)],
                wing,
            )
        canvas.ellipse((32, 33), (tail * 0.5, thick), colour)
        canvas.polygon([(32 - tail * 0.3, 32), (32 - tail, 30), (32 - tail, 36)], colour)
        return canvas.bgra

    return Sprite(1, "bird", draw, False, rng.uniform(0.02, 0.4))


def _drone(rng: np.random.Generator) -> Sprite:
    colour = _dark(rng) if rng.random() < 0.7 else _colour(rng, light=0.7)
    flat, hub, rotor = rng.uniform(0.15, 0.6), rng.uniform(5, 12), rng.uniform(5, 13)
    see = rng.uniform(0.15, 0.7)
    legs = rng.random() < 0.5

    def draw(phase: float) -> F32:
        canvas = _Canvas()
        for dx, dy in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
            end = (32 + dx * (LONG / 2 - rotor), 32 + dy * (LONG / 2 - rotor) * flat)
            canvas.line((32, 32), end, 3, colour)
            spin = rotor * (0.6 + 0.4 * abs(np.sin(2 * np.pi * phase + dx)))
            canvas.ellipse(end, (spin, max(1.5, spin * flat)), colour, alpha=see)
        canvas.ellipse((32, 32), (hub, max(3.0, hub * (0.4 + flat))), colour)
        if legs:
            canvas.line((32 - hub, 32), (32 - hub, 32 + hub * 1.4), 2, colour)
            canvas.line((32 + hub, 32), (32 + hub, 32 + hub * 1.4), 2, colour)
        return canvas.bgra

    return Sprite(2, "drone", draw, False, rng.uniform(0.1, 0.5))


def _plane(rng: np.random.Generator) -> Sprite:
    colour = _dark(rng) if rng.random() < 0.4 else _colour(rng, light=0.7)
    thick, sweep, wing = rng.uniform(3, 6), rng.uniform(0, 14), rng.uniform(8, 26)
    helicopter = rng.random() < 0.4

    def draw(phase: float) -> F32:
        canvas = _Canvas()
        if helicopter:
            canvas.ellipse((42, 34), (13, 9), colour)
            canvas.polygon([(38, 30), (38, 36), (8, 33), (8, 29)], colour)
            canvas.polygon([(4, 22), (10, 22), (12, 33), (6, 33)], colour)
            reach = LONG / 2 * (0.35 + 0.65 * abs(np.cos(2 * np.pi * phase)))
            canvas.line((42 - reach, 22), (min(42 + reach, 63), 22), 2, colour, 0.6)
            return canvas.bgra
        canvas.ellipse((32, 32), (LONG / 2, thick), colour)
        for side in (-1, 1):
            canvas.polygon([(38, 32), (30, 32), (26 - sweep, 32 + side * wing), (30 - sweep, 32 + side * wing)], colour)
            canvas.polygon([(10, 32), (5, 32), (3, 32 + side * wing * 0.4), (6, 32 + side * wing * 0.4)], colour)
        return canvas.bgra

    return Sprite(3, "plane", draw, not helicopter, 0.37 if helicopter else 0.0)


def _racket(rng: np.random.Generator) -> Sprite:
    """No target: a racket or a bat in full swing, mostly seen as a smear."""
    colour, strings = _colour(rng, light=0.4), rng.uniform(0.05, 0.4)
    thin, bat, length = rng.uniform(0.25, 0.95), rng.random() < 0.2, rng.uniform(0.35, 0.55)

    def draw(phase: float) -> F32:
        canvas = _Canvas()
        wide = LONG * length / 2 * max(0.12, thin * abs(np.cos(2 * np.pi * phase)))
        head = (4 + LONG * length / 2, 32.0)
        canvas.line((head[0], 32), (60, 32), 3 if bat else 2, colour)
        canvas.ellipse(head, (LONG * length / 2, wide), colour)
        if not bat:
            inner = _Canvas()
            inner.ellipse(head, (max(1.0, LONG * length / 2 - 2.5), max(0.6, wide - 2.5)), colour)
            canvas.bgra *= 1 - inner.bgra[..., 3:] * np.float32(1 - strings)
        return canvas.bgra

    return Sprite(-2, "racket", draw, False, rng.uniform(0, 0.2))


def _shade(rng: np.random.Generator) -> Sprite:
    """No target: the soft shadow of a ball, a shuttle or a racket on the ground."""
    flat, dark, soft = rng.uniform(0.2, 1.0), rng.uniform(0.1, 0.55), rng.uniform(0.5, 7.0)
    canvas = _Canvas()
    canvas.ellipse((32, 32), (LONG / 2 - soft, max(1.5, (LONG / 2 - soft) * flat)), np.zeros(3, np.float32), alpha=dark)
    picture = np.asarray(cv2.GaussianBlur(canvas.bgra, (0, 0), soft), np.float32)
    return Sprite(-2, "shade", lambda phase: picture, False, 0.0)


def random_sprite(rng: np.random.Generator, kind: str) -> Sprite:
    """`kind`: ball, shuttle, bird, drone, plane; or racket, shade (label -2: no target)."""
    makers = {
        "ball": _ball,
        "shuttle": _shuttle,
        "bird": _bird,
        "drone": _drone,
        "plane": _plane,
        "racket": _racket,
        "shade": _shade,
    }
    return makers[kind](rng)


def stamp(
    picture: F32, centre: tuple[float, float], *, long_px: float, angle: float, smear: tuple[float, float]
) -> tuple[int, int, F32]:
    """A sprite at `centre` px (pixel edges), turned by `angle`, smeared over `smear` px (dx, dy) of motion, centred on `centre`.

    Returns the left and top px of the patch and the patch, premultiplied BGRA.
    """
    scale = long_px / LONG
    side = SIDE
    if scale < 0.4:  # shrink by area first: warping alone would skip pixels
        side = max(6, int(np.ceil(SIDE * scale * 2.2)))
        picture = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    zoom = scale * SIDE / side
    reach = SIDE * scale * 0.72 + 2
    left, top = (int(np.floor(centre[i] - reach - abs(smear[i]) / 2)) for i in (0, 1))
    right, bottom = (int(np.ceil(centre[i] + reach + abs(smear[i]) / 2)) for i in (0, 1))
    size = (right - left, bottom - top)
    steps = int(np.clip(np.ceil(np.hypot(*smear) * 1.2), 1, 72))
    total = np.zeros((size[1], size[0], 4), np.float32)
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([(side - 1) / 2] * 2)
    for part in (np.arange(steps) + 0.5) / steps - 0.5:
        place = np.array([centre[0] - left - 0.5 + part * smear[0], centre[1] - top - 0.5 + part * smear[1]])
        matrix = np.hstack([turn, (place - turn @ middle)[:, None]])
        total += cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR)
    return left, top, total / np.float32(steps)
