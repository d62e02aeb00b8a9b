"""Who flies where in the demo scene: closed-form paths in seconds, so any frame of any rate can be asked for on its own.

Sizes are px whatever the frame (2-20 px in 4K too); distances follow the frame; speeds stay between 0.3 and 60 px per frame
at 30 fps (9 and 1800 px/s).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

__all__ = ["GROUND", "Body", "Life", "Rally", "Slot", "cast"]

FASTEST_PX_S = 1800.0
SLOWEST_PX_S = 9.0
GROUND = 0.80  # height of the middle of the court, as a share of the frame height

Path = Callable[[float], tuple[float, float]]
Yuv = tuple[int, int, int]

_TENNIS: Yuv = (226, 58, 140)
_WHITE: Yuv = (230, 126, 130)
_PALE: Yuv = (200, 126, 130)
_BLACK: Yuv = (34, 128, 128)
_GREY: Yuv = (72, 130, 126)
_BROWN: Yuv = (84, 120, 136)


@dataclass(frozen=True, slots=True)
class Body:
    """What a mover looks like: an ellipse with radii in px, limited-range BT.601 colour, wings beating at `flap_hz`."""

    label: str
    yuv: Yuv
    radius_x_px: float
    radius_y_px: float
    flap_hz: float = 0.0

    def radii(self, time_s: float) -> tuple[float, float]:
        if not self.flap_hz:
            return self.radius_x_px, self.radius_y_px
        beat = 0.65 + 0.35 * math.sin(2 * math.pi * self.flap_hz * time_s)
        return self.radius_x_px * (1.1 - 0.2 * beat), max(1.0, self.radius_y_px * beat)


@dataclass(frozen=True, slots=True)
class Life:
    """One mover from `start_s` to `end_s`; its id is never used again."""

    id: int
    body: Body
    path: Path
    start_s: float
    end_s: float


Slot = Callable[[float], Life | None]


def cast(frame_wh: tuple[int, int], movers: int, seed: int) -> list[Slot]:
    """`movers` slots, each a function of time giving the mover that lives in it then (or None).

    The first is a rally; then come a bird that passes behind the board, a drone that stops and goes on, a gull crossing
    the bird, a fast thrown ball, an insect of 2-3 px, a crawling far aeroplane and a small bird; and so on in turn.
    """
    width, height = frame_wh
    small = min(1.0, math.sqrt(height / 1080))
    slots: list[Slot] = []
    birds: list[Path] = []
    for number in range(movers):
        rng = np.random.default_rng((seed, 7, number))
        kind = number % 8
        turn = number // 8

        def body(
            label: str, yuv: Yuv, across_px: float, tall: float = 1.0, flap_hz: float = 0.0, spread: float = 1.25,
            rng: np.random.Generator = rng,
        ) -> Body:  # fmt: skip
            radius = max(1.0, across_px / 2 * small * float(rng.uniform(1 / spread, spread)))
            return Body(label, yuv, min(radius, 10.0), max(1.0, min(radius, 10.0) * tall), flap_hz)

        here = 0.0 if not turn else 1.0  # the first of a kind flies where the picture wants it, the others anywhere
        place = (float(rng.uniform(-0.25, 0.25)) * here * width, float(rng.uniform(-0.12, 0.12)) * here * height)

        def wander(
            centre: tuple[float, float], reach: tuple[float, float], speed_px_s: float, stops_s: float = 0.0,
            rng: np.random.Generator = rng, place: tuple[float, float] = place,
        ) -> Path:  # fmt: skip
            middle = (centre[0] * width + place[0], centre[1] * height + place[1])
            size = (reach[0] * width, reach[1] * height)
            return _wandering(middle, size, min(speed_px_s, FASTEST_PX_S / 2), rng, stops_s)

        share = width / 1920
        first = number + 1
        if kind == 0 and not turn:
            rally = Rally(frame_wh, seed)
            slots.append(_for_ever(first, body("ball", _TENNIS, 9, spread=1.05), rally.ball))
        elif kind == 1:
            path = wander((0.70, 0.25), (0.28, 0.05), 190 * share)
            birds.append(path)
            slots.append(_for_ever(first, body("bird", _BLACK, 14, 0.6, 2.7), path))
        elif kind == 2:
            path = wander((0.42, 0.16), (0.12, 0.06), 75 * share, stops_s=4.0)
            slots.append(_for_ever(first, body("drone", _GREY, 11, 0.5), path))
        elif kind == 3:
            slots.append(_crossing(first, movers, body("bird", _WHITE, 9, 0.6, 2.2), birds[-1], frame_wh, rng))
        elif kind in (0, 4):
            slots.append(_thrown(first, movers, body("ball", _WHITE, 13), frame_wh, int(rng.integers(1 << 30))))
        elif kind == 5:
            path = wander((0.34, 0.53), (0.14, 0.05), 85 * share)
            slots.append(_for_ever(first, body("insect", _PALE, 2.6, spread=1.1), path))
        elif kind == 6:
            path = _crawling(
                (0.55 * width + place[0], 0.07 * height + abs(place[1])), SLOWEST_PX_S * 1.2, 0.3 * width, rng
            )
            slots.append(_for_ever(first, body("aeroplane", _PALE, 7, 0.4, spread=1.1), path))
        else:
            path = wander((0.33, 0.30), (0.15, 0.08), 230 * share, stops_s=5.5)
            slots.append(_for_ever(first, body("bird", _BROWN, 6, 0.7, 3.3), path))
    return slots


class Rally:
    """Two players and the ball between them: arcs with one bounce, the players walk to where they will hit next."""

    def __init__(self, frame_wh: tuple[int, int], seed: int) -> None:
        self._width, self._height = frame_wh
        self._seed = seed
        # 78 % of the way is flown in the first 56 % of a shot: long courts need longer shots to stay below the fastest
        self.shot_s = max(0.95, 0.56 * self._width * 0.78 / 0.56 / (0.70 * FASTEST_PX_S))
        self._hit = lru_cache(4096)(self._hit_at)

    def _hit_at(self, shot: int) -> tuple[float, float, float]:
        """x, y of the ball when shot number `shot` is struck, and the height of its arc; px. Even shots go right."""
        rng = np.random.default_rng((self._seed, 11, shot + 1000))
        side = 0.27 if shot % 2 == 0 else 0.73
        x = (side + float(rng.uniform(-0.05, 0.05))) * self._width
        y = (GROUND - 0.065 + float(rng.uniform(-0.05, 0.03))) * self._height
        return x, y, float(rng.uniform(0.08, 0.22)) * self._height

    def ball(self, time_s: float) -> tuple[float, float]:
        shot, part = divmod(time_s / self.shot_s, 1.0)
        x0, y0, arc = self._hit(int(shot))
        x2, y2, _ = self._hit(int(shot) + 1)
        x1, y1 = x0 + 0.78 * (x2 - x0), (y0 + y2) / 2 + 0.065 * self._height
        if part < 0.56:
            return _parabola(x0, y0, x1, y1, arc, part / 0.56)
        return _parabola(x1, y1, x2, y2, arc * 0.35, (part - 0.56) / 0.44)

    def player(self, time_s: float, side: int) -> tuple[float, float, float, float]:
        """x, y of the feet, px; pace (px/s, signed); swing 0..1 of the arm, 1 at the hit. `side` 0 left, 1 right."""
        shots = time_s / self.shot_s
        last = 2 * math.floor((shots - side) / 2) + side
        part = (shots - last) / 2
        smooth = part * part * (3 - 2 * part)
        reach = (0.028 if side else -0.028) * self._height
        (xa, ya, _), (xb, yb, _) = self._hit(int(last)), self._hit(int(last) + 2)
        x = xa + (xb - xa) * smooth + reach
        y = ya + (yb - ya) * smooth + 0.065 * self._height
        pace = (xb - xa) * 6 * part * (1 - part) / (2 * self.shot_s)
        away_s = min(part, 1 - part) * 2 * self.shot_s
        return x, y, pace, max(0.0, 1 - away_s / 0.28)


def _parabola(x0: float, y0: float, x1: float, y1: float, arc: float, part: float) -> tuple[float, float]:
    return x0 + (x1 - x0) * part, y0 + (y1 - y0) * part - 4 * arc * part * (1 - part)


def _for_ever(id: int, body: Body, path: Path) -> Slot:
    life = Life(id, body, path, -math.inf, math.inf)
    return lambda time_s: life


def _wandering(
    centre: tuple[float, float], reach: tuple[float, float], speed_px_s: float, rng: np.random.Generator, stops_s: float
) -> Path:
    """Two incommensurate sines per axis with the asked RMS speed; with `stops_s` it rests for one second that often."""
    share = ((0.72, 1.0), (0.28, 2.31)), ((0.66, 1.37), (0.34, 2.9))
    power = sum((reach[axis] * a * w) ** 2 / 2 for axis in (0, 1) for a, w in share[axis])
    rate = speed_px_s / math.sqrt(max(power, 1e-6))
    phase = rng.uniform(0, 2 * math.pi, (2, 2)).tolist()
    lead_s = float(rng.uniform(0.3, 0.6)) * stops_s

    def at(time_s: float) -> tuple[float, float]:
        own = _with_stops(time_s + lead_s, stops_s) if stops_s else time_s
        x, y = (
            centre[axis]
            + reach[axis] * sum(a * math.sin(w * rate * own + p) for (a, w), p in zip(share[axis], phase[axis]))
            for axis in (0, 1)
        )
        return x, y

    return at


def _crawling(centre: tuple[float, float], speed_px_s: float, reach: float, rng: np.random.Generator) -> Path:
    """To and fro along a nearly level line at one slow speed."""
    slope, start = float(rng.uniform(-0.1, 0.1)), float(rng.uniform(-0.5, 0.5))

    def at(time_s: float) -> tuple[float, float]:
        lap = (start + 1 + speed_px_s * time_s / reach) % 4  # 0..2 there, 2..4 back
        along = reach * (abs(lap - 2) - 1)
        return centre[0] + along, centre[1] + slope * along

    return at


def _with_stops(time_s: float, period_s: float, rest_s: float = 1.0, ramp_s: float = 0.25) -> float:
    """Own time that rests for the last `rest_s` of every period, slowing down and starting over `ramp_s`."""
    laps, at = divmod(time_s, period_s)
    moving_s = period_s - rest_s
    done = laps * (moving_s - ramp_s)
    if at < ramp_s:
        return done + at * at / (2 * ramp_s)
    if at < moving_s - ramp_s:
        return done + at - ramp_s / 2
    left = max(0.0, moving_s - at)
    return done + moving_s - ramp_s - left * left / (2 * ramp_s)


def _crossing(
    first: int, movers: int, body: Body, other: Path, frame_wh: tuple[int, int], rng: np.random.Generator
) -> Slot:
    """Lives that swoop from above the picture through the place where `other` is then, and leave upwards again."""
    width, height = frame_wh
    period_s, speed = 6.0, min(300.0 * width / 1920, FASTEST_PX_S / 2)
    seed = int(rng.integers(1 << 30))

    @lru_cache(1024)
    def life(lap: int) -> Life:
        local = np.random.default_rng((seed, lap + 1))
        meet_s = (lap + 0.5) * period_s
        x, y = other(meet_s)
        before, after = other(meet_s - 0.05)[0], other(meet_s + 0.05)[0]
        vx = math.copysign(speed * float(local.uniform(0.85, 1.1)), before - after)  # against the other one
        climb = (y + 0.03 * height) / (0.45 * period_s) ** 2
        sway = float(local.uniform(0.4, 0.8))

        def path(time_s: float) -> tuple[float, float]:
            since = time_s - meet_s
            return x + vx * since, y - climb * since * since + 0.012 * height * math.sin(2 * math.pi * sway * since)

        return Life(first + movers * (lap + 1), body, path, lap * period_s, (lap + 0.97) * period_s)

    return lambda time_s: _alive(life(math.floor(time_s / period_s)), time_s)


def _thrown(first: int, movers: int, body: Body, frame_wh: tuple[int, int], seed: int) -> Slot:
    """Lives thrown across the whole picture, bouncing on the court; up to the fastest speed."""
    width, height = frame_wh
    share = min(1.0, width / 1920)
    period_s = max(2.6, 0.9 + 1.1 * width / (1150 * share))
    high = min(height, 1080)
    ground, pull = (GROUND + 0.10) * height, min(1.15 * height, 700.0)

    @lru_cache(1024)
    def life(lap: int) -> Life:
        local = np.random.default_rng((seed, lap + 1))
        speed = float(local.uniform(1150, FASTEST_PX_S - 250)) * share
        right = bool(local.random() < 0.5)
        start_s = lap * period_s + float(local.uniform(0.2, 0.8))
        y0, rise = float(local.uniform(0.50, 0.66)) * height, float(local.uniform(0.25, 0.5)) * high

        def path(time_s: float) -> tuple[float, float]:
            since = max(0.0, time_s - start_s)
            x = -12 + speed * since
            return (x if right else width - x), _bouncing(y0, rise, since, ground, pull)

        return Life(first + movers * (lap + 1), body, path, start_s, start_s + (width + 24) / speed)

    return lambda time_s: _alive(life(math.floor(time_s / period_s)), time_s)


def _bouncing(y: float, rise: float, time_s: float, ground: float, pull: float) -> float:
    """Height after `time_s` of a body thrown up at `rise` px/s from `y` under `pull` px/s^2, bouncing off `ground`."""
    for _ in range(8):
        fall_s = (rise + math.sqrt(rise * rise + 2 * pull * max(0.0, ground - y))) / pull
        if time_s <= fall_s:
            break
        time_s -= fall_s
        y, rise = ground, 0.72 * (pull * fall_s - rise)
    return y - rise * time_s + pull * time_s * time_s / 2


def _alive(life: Life, time_s: float) -> Life | None:
    return life if life.start_s <= time_s < life.end_s else None
