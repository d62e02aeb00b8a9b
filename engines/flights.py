"""Flights: what a sprite does over time (falls, brakes, is struck, crosses a player), and how it is painted into a frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.footage import ROW
from engines.sprites import Sprite, random_sprite, stamp

__all__ = ["Flight", "fly", "held", "lob", "random_flight", "shadow_of", "struck"]

_INVISIBLE = 20.0  # grey levels of peak contrast below which nobody could see it
_FASTEST_PX = 90.0
_SMASH_PX = (40.0, 190.0)  # per frame, just after the racket
_INERT_PX = 1.5  # what turns with its flight turns over slowly when it hardly moves
_KINDS = ("ball", "shuttle", "bird", "drone", "plane", "racket", "shade")
_OUTDOORS = (0.30, 0.30, 0.09, 0.09, 0.06, 0.07, 0.09)
_INDOORS = (0.35, 0.35, 0.02, 0.05, 0.0, 0.11, 0.12)  # nothing hovers like a plane or a bird among players
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]
Path = Callable[[float], F64]


@dataclass(slots=True)
class Flight:
    """`at` gives the centre (px, before shake) at a time in frames; `shutter`: share of a frame the exposure takes.

    Until `rests` the sprite does not turn with its flight: it is held.
    """

    sprite: Sprite
    long_px: float
    at: Path
    shutter: float
    opacity: float
    phase: float
    angle: float
    turn: float  # radians per frame
    rests: float = -1e9


def _smash(rng: np.random.Generator, usual: float) -> float:
    """px per frame of what was struck."""
    if rng.random() < 0.3:
        return float(np.exp(rng.uniform(*np.log(_SMASH_PX))))
    return min(float(np.exp(rng.normal(np.log(usual), 0.7))), _FASTEST_PX)


def _speed(rng: np.random.Generator, usual: float, *, ballistic: bool) -> float:
    """px per frame; streaks are rarer in life than among what is missed, so they are drawn more often."""
    if ballistic and rng.random() < 0.4:
        return float(rng.uniform(12, _FASTEST_PX))
    return min(float(np.exp(rng.normal(np.log(usual), 0.9))), _FASTEST_PX)


def _heading(rng: np.random.Generator, speed: float) -> F64:
    angle = rng.uniform(0, 2 * np.pi)
    return np.asarray(speed * np.array([np.cos(angle), np.sin(angle)]))


def random_flight(
    rng: np.random.Generator,
    wh: tuple[int, int],
    span: tuple[float, float],
    spot: tuple[float, F64] | None,
    *,
    indoors: bool = False,
) -> Flight:
    """Anything, anywhere; `spot`: a time and a place (a player's body) it must cross if it is a ball or a shuttle."""
    kind = str(rng.choice(_KINDS, p=_INDOORS if indoors else _OUTDOORS))
    low, high, fast = {
        "ball": (2.5, 28, 13),
        "shuttle": (4, 20, 12),
        "racket": (25, 140, 14),
        "shade": (5, 45, 12),
        "bird": (4, 30, 3.5),
        "drone": (4, 36, 1.3),
        "plane": (6, 40, 1.3),
    }[kind]
    long_px = float(np.exp(rng.triangular(np.log(low), np.log(low) * 0.6 + np.log(high) * 0.4, np.log(high))))
    ballistic = kind in ("ball", "shuttle")
    speed = _speed(rng, fast, ballistic=ballistic)
    velocity = _heading(rng, speed)
    when, where = rng.uniform(*span), rng.uniform(0.03, 0.97, 2) * wh
    if spot is not None and (ballistic or kind in ("racket", "shade")):
        when, where = spot
    fall = rng.uniform(0, 0.9) * long_px / 10 if ballistic else rng.normal(0, 0.03)
    drag = rng.uniform(0, 0.22) if kind == "shuttle" else rng.uniform(0, 0.03)
    turn_at = when + rng.uniform(-8, 8) if ballistic and rng.random() < 0.4 else 1e9  # hit or bounced
    after = rng.normal(0, 1, 2) * speed
    wander = rng.uniform(0, 1.5, 2) if kind in ("bird", "drone") else np.zeros(2)
    pace = rng.uniform(0.1, 0.6, 2)

    def free(time: float) -> F64:
        gone = np.clip(time - when, -25, 25)
        run = (1 - np.exp(-drag * max(gone, -1.2 / max(drag, 1e-6)))) / drag if drag > 1e-3 else gone
        drop = 0.5 * fall * gone * abs(gone) if drag > 0.05 else 0.5 * fall * gone * gone
        return np.asarray(where + velocity * run + (0, drop) + wander * np.sin(pace * time))

    def at(time: float) -> F64:
        if time < turn_at:
            return free(time)
        return np.asarray(free(turn_at) + after * (time - turn_at) + (0, 0.5 * fall * (time - turn_at) ** 2))

    swung = kind == "racket"
    return Flight(
        random_sprite(rng, kind),
        long_px,
        at,
        rng.uniform(0.05, 0.95),
        1.0 if rng.random() < 0.9 else rng.uniform(0.5, 1.0),
        rng.uniform(0, 1),
        rng.uniform(0, 2 * np.pi) if swung else rng.uniform(-0.4, 0.4),
        rng.normal(0, 0.35) if swung else 0.0,
    )


def struck(rng: np.random.Generator, when: float, where: F64, *, tall: float, shutter: float) -> Flight:
    """A ball or shuttle that comes to `where` (px), is struck at `when` and leaves fast; sized to a player of `tall` px."""
    kind = "shuttle" if rng.random() < 0.65 else "ball"
    come = _heading(rng, float(np.exp(rng.normal(np.log(7), 0.6))))
    come[1] = abs(come[1]) if rng.random() < 0.7 else come[1]  # mostly from above
    speed = _smash(rng, 20)
    angle = np.arctan2(-come[1], -come[0]) + rng.normal(0, 0.9)
    leave = speed * np.array([np.cos(angle), np.sin(angle)])
    drag = rng.uniform(0.02, 0.16) if kind == "shuttle" else rng.uniform(0, 0.02)
    fall = rng.uniform(0.05, 0.6) * tall / 150

    def at(time: float) -> F64:
        gone = time - when
        if gone < 0:
            return np.asarray(where + come * gone + (0, 0.25 * fall * gone * gone))
        return np.asarray(where + leave * (1 - np.exp(-drag * gone)) / max(drag, 1e-6) + (0, 0.5 * fall * gone * gone))

    long_px = max(3.0, tall * rng.uniform(0.035, 0.08))
    return Flight(random_sprite(rng, kind), long_px, at, shutter, 1.0, rng.uniform(0, 1), 0.0, 0.0)


def held(rng: np.random.Generator, when: float, hand: Path, tall: float, shutter: float) -> Flight:
    """A ball or shuttle held or tossed in a `hand` (its path, px) before it is served at `when`."""
    beside = rng.normal(0, 0.025, 2) * tall
    speed = _smash(rng, 16)
    leave, tremble = _heading(rng, speed), rng.uniform(0, 0.8, 2)
    toss = rng.uniform(0.02, 0.12) * tall if rng.random() < 0.25 else 0.0
    drag = rng.uniform(0.02, 0.16)

    def at(time: float) -> F64:
        if time < when:
            risen = toss * max(0.0, 1 - (when - time) / 8)
            return np.asarray(hand(time) + beside + tremble * np.sin(0.7 * time) - (0, risen))
        return np.asarray(at(when - 1e-6) + leave * (1 - np.exp(-drag * (time - when))) / drag)

    kind = "shuttle" if rng.random() < 0.7 else "ball"
    long_px = max(3.5, tall * rng.uniform(0.045, 0.095))
    angle, phase = rng.uniform(0, 2 * np.pi), rng.uniform(0, 1)
    return Flight(random_sprite(rng, kind), long_px, at, shutter, 1.0, phase, angle, rng.normal(0, 0.03), when)


def lob(rng: np.random.Generator, wh: tuple[int, int], span: tuple[float, float], *, shutter: float) -> Flight:
    """A ball or shuttle at the height of its way: it comes up, hangs for some frames and falls, a shuttle ever steeper."""
    kind = "shuttle" if rng.random() < 0.65 else "ball"
    when, where = rng.uniform(*span), rng.uniform((0.03, 0.0), (0.97, 0.8)) * wh
    aside = rng.normal(0, 3.0)
    fall, rise = float(np.exp(rng.uniform(np.log(0.1), np.log(1.6)))), 1.0
    if kind == "shuttle":
        rise, aside = rng.uniform(1, 2.5), aside * 0.7
    most = rng.uniform(4, 14) if kind == "shuttle" else 1e9

    def at(time: float) -> F64:
        gone = time - when
        if gone < 0:
            return np.asarray(where + np.array([aside, 0.5 * fall * gone]) * rise * gone)
        soon = min(gone, most / fall)
        return np.asarray(where + np.array([aside * gone, 0.5 * fall * soon * soon + most * (gone - soon)]))

    long_px = float(np.exp(rng.uniform(np.log(4), np.log(17))))
    return Flight(
        random_sprite(rng, kind), long_px, at, shutter, 1.0, rng.uniform(0, 1), rng.normal(np.pi / 2, 0.5), 0.0
    )


def shadow_of(rng: np.random.Generator, flight: Flight, ground: F64, when: float) -> Flight:
    """No target: the soft shadow, or the reflection, on the ground under a flight; it is at `ground` px at `when`."""
    origin, squeeze = flight.at(when), np.array([1.0, rng.uniform(0.1, 0.6)])

    def at(time: float) -> F64:
        return np.asarray(ground + (flight.at(time) - origin) * squeeze)

    size = flight.long_px * rng.uniform(0.9, 2.2)
    return Flight(random_sprite(rng, "shade"), size, at, flight.shutter, 1.0, 0.0, 0.0, 0.0)


def fly(image: U8, flights: list[Flight], time: int, offset: F64, *, thermal: bool) -> F32:
    """Paint all flights into `image`; their truth rows."""
    rows = [row for flight in flights if (row := _paint(image, flight, time, offset, thermal=thermal)) is not None]
    return np.array(rows, np.float32).reshape(-1, ROW)


def _paint(image: U8, flight: Flight, time: int, offset: F64, *, thermal: bool) -> list[float] | None:
    centre = flight.at(time) - offset
    height, width = image.shape[:2]
    moved = flight.at(time + 0.5) - flight.at(time - 0.5)
    smear = moved * flight.shutter
    if not (-40 < centre[0] < width + 40 and -40 < centre[1] < height + 40) or np.hypot(*moved) > 200:
        return None
    angle = flight.angle + flight.turn * time
    if flight.sprite.turns and time >= flight.rests:
        heading = moved + _INERT_PX * np.array([np.cos(angle), np.sin(angle)])
        angle = float(np.arctan2(heading[1], heading[0]))
    picture = flight.sprite.draw(flight.phase + time * flight.sprite.cycles_per_frame)
    left, top, patch = stamp(
        picture,
        (float(centre[0]), float(centre[1])),
        long_px=flight.long_px,
        angle=angle,
        smear=(float(smear[0]), float(smear[1])),
    )
    patch = patch * np.float32(flight.opacity)
    if thermal:
        patch[..., :3] = patch[..., :3].mean(2, keepdims=True)
    x1, y1 = max(0, left), max(0, top)
    x2, y2 = min(width, left + patch.shape[1]), min(height, top + patch.shape[0])
    if x2 - x1 < 2 or y2 - y1 < 2:
        return None
    patch = patch[y1 - top : y2 - top, x1 - left : x2 - left]
    part = image[y1:y2, x1:x2]
    before = part.astype(np.float32)
    part[:] = np.clip(before * (1 - patch[..., 3:]) + patch[..., :3] * 255, 0, 255).astype(np.uint8)
    alpha = patch[..., 3]
    if alpha.max() < 0.02 or flight.sprite.label < 0:
        return None
    ys, xs = np.nonzero(alpha > 0.35 * alpha.max())
    box = x1 + xs.min(), y1 + ys.min(), x1 + xs.max() + 1, y1 + ys.max() + 1
    contrast = np.abs(part.astype(np.float32) - before).mean(2)
    seen = float(np.sort(contrast.ravel())[-3:].mean()) > _INVISIBLE
    inside = 0 <= centre[0] < width and 0 <= centre[1] < height
    return [
        float(centre[0]),
        float(centre[1]),
        float(box[2] - box[0]),
        float(box[3] - box[1]),
        float(smear[0]),
        float(smear[1]),
        flight.sprite.label,
        float(seen and inside),
    ]
