"""Synthetic clips: rendered or real places, bystanders, and what flies through them; shake, light, noise, repeats, H.264."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from engines import bystanders
from engines.footage import ROW, Footage, Window, read_window
from engines.scenery import place
from engines.sprites import Sprite, random_sprite, stamp

__all__ = ["FRAMES", "WARM_UP", "RenderedClip", "encode", "render_clip"]

FRAMES, WARM_UP = 26, 11
_MARGIN = 24  # px round the picture for shake
_INVISIBLE = 16.0  # grey levels of peak contrast below which nobody could see it
_KINDS = ("ball", "shuttle", "bird", "drone", "plane", "racket", "shade")
F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


@dataclass(slots=True)
class RenderedClip:
    """`encoded`: an MP4; truth rows (see `engines.footage.ROW`) and whether it may be trained on, per frame."""

    encoded: bytes
    truth: list[F32]
    trusted: list[bool]
    wh: tuple[int, int] = (0, 0)
    kinds: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Flight:
    sprite: Sprite
    long_px: float
    at: Callable[[float], NDArray[np.float64]]
    shutter: float
    opacity: float
    phase: float
    angle: float
    turn: float  # radians per frame


def render_clip(rng: np.random.Generator, footage: list[Footage], *, backgrounds: list[Footage]) -> RenderedClip:
    """One random clip of `FRAMES` frames."""
    wh = (int(rng.integers(24, 32)) * 16, int(rng.integers(20, 26)) * 16)
    base = _base(rng, wh, footage, backgrounds)
    thermal = rng.random() < 0.12
    flights = [_flight(rng, wh) for _ in range(int(rng.integers(3, 9)))]
    offsets = _shake(rng)
    light = _light(rng)
    noise, blur = rng.choice([0.0, 1.0, 2.5, 5.0]), rng.choice([0.0, 0.0, 0.6, 1.1])
    sharpen = rng.random() < 0.3
    pictures: list[U8] = []
    truth: list[F32] = []
    repeats = rng.random() < 0.25
    trusted = []
    for time in range(FRAMES):
        if repeats and pictures and rng.random() < 0.15:
            pictures.append(pictures[-1])
            truth.append(truth[-1])
            trusted.append(False)
            continue
        image, rows, trust = base(time, offsets[time])
        rows = np.concatenate([rows, _fly(image, flights, time, offsets[time], thermal=thermal)])
        if thermal:
            image = _grey(image)
        if blur:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), blur), np.uint8)
        if sharpen:
            image = np.asarray(cv2.addWeighted(image, 1.7, cv2.GaussianBlur(image, (0, 0), 1.2), -0.7, 0), np.uint8)
        if light[time] != 1:
            image = np.asarray(cv2.convertScaleAbs(image, alpha=light[time]), np.uint8)
        if noise:
            image = _noisy(image, noise, rng)
        pictures.append(image)
        truth.append(rows)
        trusted.append(trust)
    crf = int(rng.integers(17, 37))
    return RenderedClip(encode(pictures, crf=crf, fps=int(rng.choice([25, 30, 30, 50]))), truth, trusted, wh)


Base = Callable[[int, NDArray[np.float64]], tuple[U8, F32, bool]]


def _base(rng: np.random.Generator, wh: tuple[int, int], footage: list[Footage], backgrounds: list[Footage]) -> Base:
    """What is behind: a function of time and shake that gives a picture, its own truth, and whether that is to be trusted."""
    chance = rng.random()
    if chance < 0.45:
        clip = (
            backgrounds[rng.choice(len(backgrounds), p=[0.5, 0.2, 0.1, 0.2])]
            if rng.random() < 0.6
            else footage[rng.integers(len(footage))]
        )
        window = read_window(clip, int(rng.integers(0, max(1, clip.frames - FRAMES))), FRAMES)
        if len(window.pictures) == FRAMES:
            return _real(rng, wh, window, frozen=rng.random() < 0.2)
    return _rendered(rng, wh)


def _real(rng: np.random.Generator, wh: tuple[int, int], window: Window, *, frozen: bool) -> Base:
    height, width = window.pictures[0].shape[:2]
    room = (wh[0] + 2 * _MARGIN, wh[1] + 2 * _MARGIN)
    scale = float(np.exp(rng.uniform(np.log(0.6), np.log(1.6))))
    if width > 1500:
        scale *= 0.75
    scale = max(scale, room[0] / width, room[1] / height)
    left = rng.uniform(0, width * scale - room[0]) if width * scale > room[0] else 0.0
    top = rng.uniform(0, height * scale - room[1]) if height * scale > room[1] else 0.0
    mirror = rng.random() < 0.5
    extra = [_bystander(rng, wh, None)] if rng.random() < 0.3 else []
    tint = rng.uniform(0.75, 1.25) * rng.uniform(0.9, 1.1, 3)

    def base(time: int, offset: NDArray[np.float64]) -> tuple[U8, F32, bool]:
        at = 0 if frozen else time
        shift = np.array([left + _MARGIN, top + _MARGIN]) + offset
        matrix = np.array([[scale, 0, -shift[0]], [0, scale, -shift[1]]])
        flags = cv2.INTER_LINEAR if scale > 0.8 else cv2.INTER_AREA
        image = cv2.warpAffine(window.pictures[at], matrix, wh, flags=flags, borderMode=cv2.BORDER_REFLECT)
        rows = window.truth[at].copy()
        rows[:, :2] = rows[:, :2] * scale - shift
        rows[:, 2:4] *= scale
        if mirror:
            image = cv2.flip(image, 1)
            rows[:, 0] = wh[0] - rows[:, 0]
        image = np.clip(image * tint, 0, 255).astype(np.uint8)
        for draw in extra:
            draw(image, time)
        return image, rows, window.trusted[at]

    return base


def _rendered(rng: np.random.Generator, wh: tuple[int, int]) -> Base:
    room = (wh[0] + 2 * _MARGIN, wh[1] + 2 * _MARGIN)
    still, crowds = place(room, rng)
    movers = [bystanders.flicker(room, rng, box) for box in crowds if rng.random() < 0.7]
    movers += [_bystander(rng, room, None) for _ in range(int(rng.integers(0, 4)))]
    movers += [bystanders.person(room, rng) for _ in range(int(rng.integers(0, 5)))]
    shutter = rng.uniform(0, 0.8)

    def base(time: int, offset: NDArray[np.float64]) -> tuple[U8, F32, bool]:
        image = still.copy()
        for draw in movers:
            draw(image, time - shutter / 2)
        if shutter > 0.2 and movers:  # limbs smear too
            later = still.copy()
            for draw in movers:
                draw(later, time + shutter / 2)
            image = np.asarray(cv2.addWeighted(image, 0.5, later, 0.5, 0), np.uint8)
        matrix = np.array([[1, 0, -_MARGIN - offset[0]], [0, 1, -_MARGIN - offset[1]]])
        image = cv2.warpAffine(image, matrix, wh, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        return np.asarray(image, np.uint8), np.zeros((0, ROW), np.float32), True

    return base


def _bystander(rng: np.random.Generator, wh: tuple[int, int], _: object) -> bystanders.Draw:
    makers = (
        bystanders.person,
        bystanders.person,
        bystanders.car,
        bystanders.shadow,
        bystanders.foliage,
        bystanders.board,
        bystanders.flicker,
        bystanders.specks,
    )
    return makers[rng.integers(len(makers))](wh, rng)


def _flight(rng: np.random.Generator, wh: tuple[int, int]) -> _Flight:
    kind = str(rng.choice(_KINDS, p=[0.30, 0.30, 0.09, 0.09, 0.06, 0.10, 0.06]))
    low, high, fast = {
        "ball": (2.5, 28, 13),
        "shuttle": (4, 20, 14),
        "racket": (25, 140, 14),
        "shade": (5, 45, 12),
        "bird": (4, 30, 3.5),
        "drone": (4, 36, 1.3),
        "plane": (6, 40, 1.3),
    }[kind]
    long_px = float(np.exp(rng.triangular(np.log(low), np.log(low) * 0.6 + np.log(high) * 0.4, np.log(high))))
    speed = min(float(np.exp(rng.normal(np.log(fast), 0.9))), 90.0)
    heading = rng.uniform(0, 2 * np.pi)
    velocity = speed * np.array([np.cos(heading), np.sin(heading)])
    when, where = rng.uniform(WARM_UP, FRAMES), rng.uniform(0.03, 0.97, 2) * wh
    ballistic = kind in ("ball", "shuttle")
    fall = rng.uniform(0, 0.9) * long_px / 10 if ballistic else rng.normal(0, 0.03)
    drag = rng.uniform(0, 0.22) if kind == "shuttle" else rng.uniform(0, 0.03)
    turn_at = when + rng.uniform(-8, 8) if ballistic and rng.random() < 0.4 else 1e9  # hit or bounced
    after = rng.normal(0, 1, 2) * speed
    wander = rng.uniform(0, 1.5, 2) if kind in ("bird", "drone") else np.zeros(2)
    pace = rng.uniform(0.1, 0.6, 2)

    def free(time: float) -> NDArray[np.float64]:
        gone = np.clip(time - when, -25, 25)
        run = (1 - np.exp(-drag * max(gone, -1.2 / max(drag, 1e-6)))) / drag if drag > 1e-3 else gone
        drop = 0.5 * fall * gone * abs(gone) if drag > 0.05 else 0.5 * fall * gone * gone
        return np.asarray(where + velocity * run + (0, drop) + wander * np.sin(pace * time))

    def at(time: float) -> NDArray[np.float64]:
        if time < turn_at:
            return free(time)
        return np.asarray(free(turn_at) + after * (time - turn_at) + (0, 0.5 * fall * (time - turn_at) ** 2))

    opacity = 1.0 if rng.random() < 0.9 else rng.uniform(0.5, 1.0)
    angle = rng.uniform(0, 2 * np.pi) if kind == "racket" else rng.uniform(-0.4, 0.4)
    turn = rng.normal(0, 0.35) if kind == "racket" else 0.0
    return _Flight(
        random_sprite(rng, kind), long_px, at, rng.uniform(0.05, 0.95), opacity, rng.uniform(0, 1), angle, turn
    )


def _fly(image: U8, flights: list[_Flight], time: int, offset: NDArray[np.float64], *, thermal: bool) -> F32:
    """Paint all flights into `image`; their truth rows."""
    rows = [row for flight in flights if (row := _paint(image, flight, time, offset, thermal=thermal)) is not None]
    return np.array(rows, np.float32).reshape(-1, ROW)


def _paint(image: U8, flight: _Flight, time: int, offset: NDArray[np.float64], *, thermal: bool) -> list[float] | None:
    centre = flight.at(time) - offset
    height, width = image.shape[:2]
    moved = flight.at(time + 0.5) - flight.at(time - 0.5)
    smear = moved * flight.shutter
    if not (-40 < centre[0] < width + 40 and -40 < centre[1] < height + 40) or np.hypot(*moved) > 130:
        return None
    angle = float(np.arctan2(moved[1], moved[0])) if flight.sprite.turns else flight.angle + flight.turn * time
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


def _shake(rng: np.random.Generator) -> NDArray[np.float64]:
    """Where the camera looks, per frame (px): mostly still, else hand shake of up to 4 px, or a slow pan."""
    offsets = np.zeros((FRAMES, 2))
    chance = rng.random()
    if chance < 0.25:
        pull, kick = rng.uniform(0.1, 0.7), rng.uniform(0.3, 2.5)
        for k in range(1, FRAMES):
            offsets[k] = offsets[k - 1] * (1 - pull) + rng.normal(0, kick, 2)
    elif chance < 0.33:
        offsets += np.arange(FRAMES)[:, None] * rng.normal(0, 0.4, 2)
    elif chance < 0.5:  # a mast in the wind, a warm lens: less than the motion model compensates
        offsets += np.cumsum(rng.normal(0, rng.uniform(0.02, 0.15), (FRAMES, 2)), 0) + rng.normal(
            0, rng.uniform(0, 0.2), (FRAMES, 2)
        )
    return np.clip(offsets, -_MARGIN + 2, _MARGIN - 2)


def _light(rng: np.random.Generator) -> NDArray[np.float64]:
    """Exposure per frame: constant, a step, a drift, or mains flicker."""
    light = np.ones(FRAMES)
    chance = rng.random()
    if chance < 0.06:
        light[rng.integers(WARM_UP, FRAMES) :] = rng.uniform(0.8, 1.25)
    elif chance < 0.2:  # clouds, automatic gain
        light += np.arange(FRAMES) * rng.normal(0, 0.004)
    elif chance < 0.26:
        light += rng.uniform(0.003, 0.02) * np.sin(np.arange(FRAMES) * rng.uniform(0.5, 3))
    return light


def _grey(image: U8) -> U8:
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (0, 0), 0.7)
    return np.asarray(cv2.merge([grey] * 3), np.uint8)


def _noisy(image: U8, sigma: float, rng: np.random.Generator) -> U8:
    """Sensor noise: one grain for all channels, from a large random plane at a random place (cheap)."""
    height, width = image.shape[:2]
    y, x = rng.integers(0, 600 - height), rng.integers(0, 700 - width)
    grain = _GRAIN[y : y + height, x : x + width] * np.float32(sigma)
    return np.clip(image + grain[..., None], 0, 255).astype(np.uint8)


_GRAIN = np.random.default_rng(5).normal(0, 1, (600, 700)).astype(np.float32)


def encode(pictures: list[U8], *, crf: int, fps: int) -> bytes:
    """The pictures (BGR) as an H.264 MP4."""
    height, width = pictures[0].shape[:2]
    sink = io.BytesIO()
    with av.open(sink, "w", format="mp4") as container:
        stream = container.add_stream(
            "libx264", rate=Fraction(fps), options={"crf": str(crf), "preset": "superfast", "threads": "1"}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode(None))
    return sink.getvalue()
