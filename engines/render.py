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
from engines.distractors import lights, mast, stirring
from engines.flights import Flight, fly, held, lob, random_flight, shadow_of, struck
from engines.footage import ROW, Footage, Window, read_window
from engines.players import Player, random_player, ready_to_serve, sitter
from engines.scenery import arena, net_in_front, place

__all__ = ["FRAMES", "WARM_UP", "RenderedClip", "encode", "render_clip", "render_rally"]

FRAMES, WARM_UP = 26, 11
_MARGIN = 24  # px round the picture for shake
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]


@dataclass(slots=True)
class RenderedClip:
    """`encoded`: an MP4; truth rows (see `engines.footage.ROW`) and whether it may be trained on, per frame."""

    encoded: bytes
    truth: list[F32]
    trusted: list[bool]
    wh: tuple[int, int] = (0, 0)
    kinds: dict[str, int] = field(default_factory=dict)


def render_clip(rng: np.random.Generator, footage: list[Footage], *, backgrounds: list[Footage]) -> RenderedClip:
    """One random clip of `FRAMES` frames."""
    wh = _size(rng)
    base = _base(rng, wh, footage, backgrounds)
    thermal = bool(rng.random() < 0.12)
    return _filmed(rng, wh, base, _flights(rng, wh, base), thermal=thermal)


def render_rally(rng: np.random.Generator, *, flying: bool) -> RenderedClip:
    """A court in a hall with its players, in colour; without `flying` there is nothing to be found."""
    wh = _size(rng)
    base = _rally(rng, wh)
    return _filmed(rng, wh, base, _flights(rng, wh, base) if flying else [], thermal=False)


def _size(rng: np.random.Generator) -> tuple[int, int]:
    return int(rng.integers(24, 32)) * 16, int(rng.integers(20, 26)) * 16


def _filmed(
    rng: np.random.Generator, wh: tuple[int, int], base: _Base, flights: list[Flight], *, thermal: bool
) -> RenderedClip:
    offsets = _shake(rng)
    light = _light(rng)
    noise, blur = rng.choice([0.0, 1.0, 2.5, 5.0]), rng.choice([0.0, 0.0, 0.6, 1.1])
    sharpen, halo = rng.uniform(0.3, 1.6) if rng.random() < 0.45 else 0.0, rng.uniform(0.7, 1.6)
    pictures: list[U8] = []
    truth: list[F32] = []
    repeats = rng.random() < 0.25
    softened = _softened(rng, wh)
    trusted = []
    for time in range(FRAMES):
        if repeats and pictures and rng.random() < 0.15:
            pictures.append(pictures[-1])
            truth.append(truth[-1])
            trusted.append(trusted[-1])  # where the motion model sees that it is one, it is left out
            continue
        image, rows, trust = base.picture(time, offsets[time])
        if base.net is not None and not base.net_last:
            base.net(image, (-offsets[time][0], -offsets[time][1]))
        rows = np.concatenate([rows, fly(image, flights, time, offsets[time], thermal=thermal)])
        if base.net is not None and base.net_last:
            base.net(image, (-offsets[time][0], -offsets[time][1]))
        if thermal:
            image = _grey(image)
        if blur:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), blur), np.uint8)
        if sharpen:
            soft = cv2.GaussianBlur(image, (0, 0), halo)
            image = np.asarray(cv2.addWeighted(image, 1 + sharpen, soft, -sharpen, 0), np.uint8)
        if light[time] != 1:
            image = np.asarray(cv2.convertScaleAbs(image, alpha=light[time]), np.uint8)
        if noise:
            image = _noisy(image, noise, rng)
        image = softened(image)
        pictures.append(image)
        truth.append(rows)
        trusted.append(trust)
    crf = int(rng.integers(17, 37))
    return RenderedClip(encode(pictures, crf=crf, fps=int(rng.choice([25, 30, 30, 50]))), truth, trusted, wh)


@dataclass(slots=True)
class _Base:
    """What is behind. `picture`: time and shake -> a picture, its own truth, whether that is to be trusted.

    `spot`: a time and a place, px, where people move (None: nobody does); `players` may strike something.
    """

    picture: Callable[[int, F64], tuple[U8, F32, bool]]
    spot: Callable[[], tuple[float, F64] | None]
    players: list[Player] = field(default_factory=list)
    corner: F64 = field(default_factory=lambda: np.zeros(2))  # of the picture in the coordinates of the players
    net: Callable[[U8, tuple[float, float]], None] | None = (
        None  # before the players; `net_last`: before what flies too
    )
    net_last: bool = False


def _flights(rng: np.random.Generator, wh: tuple[int, int], base: _Base) -> list[Flight]:
    """What flies: half of it across people, and what the players strike; some of it with a shadow."""
    indoors = bool(base.players)
    flights = [
        random_flight(rng, wh, (WARM_UP, FRAMES), base.spot() if rng.random() < 0.6 else None, indoors=indoors)
        for _ in range(int(rng.integers(1, 5) if indoors else rng.integers(2, 8)))
    ]
    shutter = rng.uniform(0.05, 0.95)
    flights += [lob(rng, wh, (WARM_UP - 2, FRAMES), shutter=shutter) for _ in range(int(rng.integers(0, 3)))]
    for player in base.players:
        chance = rng.random()
        if chance < 0.35:
            flights.append(
                held(rng, player.hit, lambda time, by=player: by.free_hand(time) - base.corner, player.tall, shutter)
            )
        elif chance < 0.75:
            when = player.hit + rng.normal(0, 0.3)
            where = player.racket_head(when) - base.corner + rng.normal(0, 0.03 * player.tall, 2)
            flights.append(struck(rng, when, where, tall=player.tall, shutter=shutter))
            if rng.random() < 0.5:
                feet = player.feet(when) - base.corner
                flights.insert(0, shadow_of(rng, flights[-1], feet + rng.normal(0, 0.3, 2) * player.tall, when))
    return flights


def _base(rng: np.random.Generator, wh: tuple[int, int], footage: list[Footage], backgrounds: list[Footage]) -> _Base:
    chance = rng.random()
    if chance < 0.30:
        clip = (
            backgrounds[rng.choice(len(backgrounds), p=[0.5, 0.2, 0.1, 0.2])]
            if rng.random() < 0.65
            else footage[rng.integers(len(footage))]
        )
        window = read_window(clip, int(rng.integers(0, max(1, clip.frames - FRAMES))), FRAMES)
        if len(window.pictures) == FRAMES:
            return _real(rng, wh, window, frozen=rng.random() < 0.15)
    return _rally(rng, wh) if chance < 0.80 else _rendered(rng, wh)


def _real(rng: np.random.Generator, wh: tuple[int, int], window: Window, *, frozen: bool) -> _Base:
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

    def picture(time: int, offset: F64) -> tuple[U8, F32, bool]:
        at = 0 if frozen else time
        shift = np.array([left + _MARGIN, top + _MARGIN]) + offset
        matrix = np.array([[scale, 0, -shift[0]], [0, scale, -shift[1]]])
        flags = cv2.INTER_LINEAR if scale > 0.8 else cv2.INTER_AREA
        image = cv2.warpAffine(window.pictures[at], matrix, wh, flags=flags, borderMode=cv2.BORDER_REFLECT)
        rows = window.truth[at].copy()
        rows[:, :2] = rows[:, :2] * scale - shift
        rows[:, 2:4] *= scale
        if mirror:
            image = np.asarray(cv2.flip(image, 1), np.uint8)
            rows[:, 0] = wh[0] - rows[:, 0]
        image = np.clip(image * tint, 0, 255).astype(np.uint8)
        for draw in extra:
            draw(image, time)
        return image, rows, window.trusted[at]

    spots = [] if frozen else _restless(window, rng)

    def spot() -> tuple[float, F64] | None:
        if not spots:
            return None
        when, where = spots[rng.integers(len(spots))]
        place = where * scale - np.array([left + _MARGIN, top + _MARGIN])
        if mirror:
            place[0] = wh[0] - place[0]
        inside = (place > 0).all() and (place < wh).all()
        return (when, place + rng.normal(0, 8, 2)) if inside else None

    return _Base(picture, spot)


def _restless(window: Window, rng: np.random.Generator) -> list[tuple[float, F64]]:
    """Times and places (px of the footage) where something large moved: people, cars."""
    found = []
    first = cv2.cvtColor(window.pictures[0], cv2.COLOR_BGR2GRAY)
    for time in range(WARM_UP, FRAMES, 3):
        now = cv2.cvtColor(window.pictures[time], cv2.COLOR_BGR2GRAY)
        changed = cv2.resize(cv2.absdiff(now, first), None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA) > 22
        ys, xs = np.nonzero(cv2.morphologyEx(changed.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8)))
        if len(xs):
            picks = rng.integers(0, len(xs), 6)
            found += [(float(time), np.array([xs[pick], ys[pick]]) * 4.0 + 2.0) for pick in picks]
    return found


def _rendered(rng: np.random.Generator, wh: tuple[int, int]) -> _Base:
    room = (wh[0] + 2 * _MARGIN, wh[1] + 2 * _MARGIN)
    still, crowds = place(room, rng)
    movers = [bystanders.flicker(room, rng, box) for box in crowds if rng.random() < 0.7]
    movers += [_bystander(rng, room, None) for _ in range(int(rng.integers(0, 4)))]
    movers += [bystanders.person(room, rng) for _ in range(int(rng.integers(0, 3)))]
    return _staged(rng, still, wh, movers, [])


def _rally(rng: np.random.Generator, wh: tuple[int, int]) -> _Base:
    """A court with players, mostly as broadcasts show it: sharp, saturated, people round it who hardly stir."""
    room = (wh[0] + 2 * _MARGIN, wh[1] + 2 * _MARGIN)
    still, crowds = arena(room, rng)
    movers = [bystanders.flicker(room, rng, box) for box in crowds if rng.random() < 0.7]
    movers += [bystanders.board(room, rng)] if rng.random() < 0.25 else []
    tall = float(np.exp(rng.uniform(np.log(55), np.log(270))))
    players = [
        random_player(room, rng, tall=tall * rng.uniform(0.75, 1.2), hit=rng.uniform(WARM_UP - 6, FRAMES))
        for _ in range(int(rng.integers(1, 5)))
    ]
    for player in players:
        if rng.random() < 0.5:
            ready_to_serve(player, rng)
    still_ones = [sitter(room, rng) for _ in range(int(rng.integers(0, 4)))]
    for box in [*crowds, (0, 0, *room)]:
        if rng.random() < 0.5:
            lights(still, box, rng)
        movers += [stirring(box, rng)] if rng.random() < 0.35 else []
    movers += [bystanders.specks(room, rng)] if rng.random() < 0.25 else []
    base = _staged(rng, still, wh, movers, sorted([*players, *still_ones], key=lambda one: float(one.start[1])))
    if rng.random() < 0.4:
        base.net, base.net_last = net_in_front(still[: wh[1], : wh[0]], rng), bool(rng.random() < 0.4)
    return base


def _staged(
    rng: np.random.Generator, still: U8, wh: tuple[int, int], movers: list[bystanders.Draw], players: list[Player]
) -> _Base:
    shutter = rng.uniform(0, 0.8)

    def picture(time: int, offset: F64) -> tuple[U8, F32, bool]:
        image = still.copy()
        for draw in movers:
            draw(image, time - shutter / 2)
        if shutter > 0.2 and movers:  # limbs smear too
            later = still.copy()
            for draw in movers:
                draw(later, time + shutter / 2)
            image = np.asarray(cv2.addWeighted(image, 0.5, later, 0.5, 0), np.uint8)
        for player in players:
            player.draw(image, time, shutter)
        matrix = np.array([[1, 0, -_MARGIN - offset[0]], [0, 1, -_MARGIN - offset[1]]])
        moved = cv2.warpAffine(image, matrix, wh, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        return np.asarray(moved, np.uint8), np.zeros((0, ROW), np.float32), True

    def spot() -> tuple[float, F64] | None:
        if not players:
            return None
        when = float(rng.uniform(WARM_UP, FRAMES))
        return when, players[rng.integers(len(players))].spot(rng, when) - _MARGIN

    return _Base(picture, spot, [one for one in players if one.racket], np.full(2, float(_MARGIN)))


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
        mast,
        mast,
    )
    return makers[rng.integers(len(makers))](wh, rng)


def _shake(rng: np.random.Generator) -> F64:
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


def _light(rng: np.random.Generator) -> F64:
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


def _softened(rng: np.random.Generator, wh: tuple[int, int]) -> Callable[[U8], U8]:
    """What a broadcast has been through: filmed smaller and enlarged; noise filtered over time, which smears what is faint."""
    smaller = rng.uniform(0.55, 0.9) if rng.random() < 0.25 else 1.0
    keep, most = (rng.uniform(0.2, 0.65), rng.uniform(4, 22)) if rng.random() < 0.3 else (0.0, 0.0)
    last: list[F32] = []

    def soften(image: U8) -> U8:
        if smaller < 1:
            small = cv2.resize(image, None, fx=smaller, fy=smaller, interpolation=cv2.INTER_AREA)
            image = np.asarray(cv2.resize(small, wh, interpolation=cv2.INTER_CUBIC), np.uint8)
        if keep:
            now = image.astype(np.float32)
            if last:
                gap = last[0] - now
                now = now + keep * gap * np.exp(-np.abs(gap) / np.float32(most))
            last[:] = [now]
            image = np.clip(now, 0, 255).astype(np.uint8)
        return image

    return soften


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
