"""Players: people who run, lunge and swing a racket. They smear, cast shadows and say where they hit; none is a target."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.scenery import octaves, shade

__all__ = ["Player", "random_player", "ready_to_serve", "sitter"]

F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]
Colour = tuple[float, float, float, float]
_UPPER, _LOWER, _SHAFT, _HEAD = 0.15, 0.15, 0.27, (0.085, 0.065)  # of the body's height


def _xy(x: float, y: float) -> F64:
    return np.array([x, y])


def _opaque(colour: tuple[float, float, float], alpha: float = 1.0) -> Colour:
    blue, green, red = (value * alpha for value in colour)
    return blue, green, red, 255.0 * alpha


def _skin(rng: np.random.Generator) -> Colour:
    blue, green, red = np.minimum(np.array([120, 150, 205]) * rng.uniform(0.3, 1.2), 250)
    return _opaque((float(blue), float(green), float(red)))


@dataclass(slots=True)
class Player:
    """`start`, `reach_px`: middle and half width of where the feet run, px; `hit`: the frame in which the racket strikes."""

    tall: float
    start: F64
    reach_px: F64
    pace: float
    hit: float
    swing: float  # frames a swing takes
    aim: float  # radians: 0 strikes overhead, pi from below
    side: int
    racket: bool
    colours: dict[str, Colour]
    stance: float
    lag: float
    grain: NDArray[np.float32] = field(repr=False)
    dark: float = 0.3
    name: str = ""
    carry: float = 0.0  # radians the arm without a racket is raised by, and how far it sways
    sway: float = 0.6
    behind: bool = False  # seen from behind: hair only
    cuffs: bool = False

    def feet(self, time: float) -> F64:
        """Where the player stands, px."""
        return np.asarray(self.start + self.reach_px * np.sin(self.pace * time * np.array([1.0, 0.7]) + self.lag))

    def _arm(self, time: float) -> list[F64]:
        """Shoulder, elbow, hand, middle of the racket's head; relative to the feet, px."""
        part = float(np.clip((time - self.hit) / self.swing + 0.5, 0, 1))
        swung = part * part * (3 - 2 * part) - 0.5
        sway = 0.15 * np.sin(0.3 * time + self.lag)
        points = [self._neck(time) + _xy(0.06 * self.side * self.tall, 0.03 * self.tall)]
        for gain, length in ((1.6, _UPPER), (3.2, _LOWER), (4.6, _SHAFT + _HEAD[0])):
            turn = (self.aim + gain * swung + sway) * self.side
            points.append(points[-1] + length * self.tall * np.array([np.sin(turn), -np.cos(turn)]))
        return points

    def _neck(self, time: float) -> F64:
        lean = 0.05 * np.sin(self.pace * time + 2 * self.lag)
        return np.array([lean, -0.82 + 0.25 * self.stance]) * self.tall

    def racket_head(self, time: float) -> F64:
        """Middle of the racket's head, px."""
        return self.feet(time) + self._arm(time)[-1]

    def free_hand(self, time: float) -> F64:
        """The hand without a racket, px."""
        return np.asarray(self._other_arm(time, self.feet(time) + self._neck(time))[-1])

    def _other_arm(self, time: float, neck: F64) -> list[F64]:
        """Shoulder, elbow, hand."""
        tall, shoulder = self.tall, neck + _xy(-0.07 * self.side * self.tall, 0.04 * self.tall)
        turn = np.pi - (0.7 + self.carry) * self.side + self.sway * np.sin(self.pace * 3 * time + self.lag)
        bend = self.side * (1 if self.carry == 0 else 0.3)
        elbow = shoulder + _UPPER * tall * np.array([np.sin(turn), -np.cos(turn)])
        return [
            shoulder,
            elbow,
            elbow + _LOWER * tall * np.array([np.sin(turn - bend), -np.cos(turn - bend)]),
        ]

    def spot(self, rng: np.random.Generator, time: float) -> F64:
        """A point on or close to the body, px."""
        return self.feet(time) + np.array([rng.normal(0, 0.18), rng.uniform(-1.1, 0.0)]) * self.tall

    def draw(self, image: U8, time: float, shutter: float) -> None:
        """Paint into (H,W,3) BGR as exposed round `time` for `shutter` frames."""
        origin = np.floor(self.feet(time) - np.array([0.95, 1.55]) * self.tall)
        size = (int(1.9 * self.tall) + 4, int(1.7 * self.tall) + 4)
        if origin[0] > image.shape[1] or origin[1] > image.shape[0] or (origin + size < 0).any():
            return
        _shadow(image, self.feet(time), self.tall, self.dark)
        body = np.zeros((size[1], size[0], 4), np.uint8)
        self._body(body, time, self.feet(time) - origin)
        folds = np.roll(self.grain, (round(2 * np.sin(time * 0.4)), round(3 * np.sin(time * 0.27))), (0, 1))
        shaded = body.astype(np.float32)
        shaded[..., :3] *= cv2.resize(folds, size)[..., None]
        _blend(image, shaded, origin)
        arm, steps = np.zeros((size[1], size[0], 4), np.float32), 1
        travel = np.abs(self.racket_head(time + shutter / 2) - self.racket_head(time - shutter / 2)).max()
        steps = int(np.clip(travel / 4, 1, 7))
        for moment in time + shutter * ((np.arange(steps) + 0.5) / steps - 0.5):
            layer = np.zeros(arm.shape, np.uint8)
            self._racket_arm(layer, float(moment), self.feet(float(moment)) - origin)
            arm += layer
        _blend(image, arm / np.float32(steps), origin)

    def _limb(self, layer: U8, points: list[F64], wide: float, colour: Colour) -> None:
        for p, q in pairwise(points):
            cv2.line(layer, _fixed(p), _fixed(q), colour, max(1, round(wide * self.tall)), cv2.LINE_AA, 3)

    def _body(self, layer: U8, time: float, feet: F64) -> None:
        tall, phase = self.tall, self.pace * 3 * time + self.lag
        hip = feet + np.array([0.0, -0.48 + 0.25 * self.stance]) * tall
        neck = feet + self._neck(time)
        for side in (-1, 1):
            step = 0.5 * self.stance * side + 0.10 * np.sin(phase + side * np.pi / 2)
            lift = 0.08 * max(0.0, float(np.cos(phase + side * np.pi / 2)))
            foot = feet + np.array([step, -0.02 - lift]) * tall
            knee = (hip + foot) / 2 + np.array([0.07 * side * (0.4 + self.stance), -0.02]) * tall
            self._limb(layer, [hip + _xy(0.03 * side * tall, 0), knee], 0.10, self.colours["shorts"])
            self._limb(layer, [knee, foot], 0.06, self.colours["leg"])
            cv2.ellipse(
                layer,
                _fixed(foot + _xy(0.03 * tall * self.side, 0)),
                _fixed((0.055 * tall, 0.024 * tall)),
                0,
                0,
                360,
                self.colours["shoe"],
                -1,
                cv2.LINE_AA,
                3,
            )
        self._limb(layer, [hip, neck + _xy(0, 0.06 * tall)], 0.17, self.colours["shirt"])
        self._limb(
            layer,
            [neck + _xy(-0.06 * tall, 0.04 * tall), neck + _xy(0.06 * tall, 0.04 * tall)],
            0.09,
            self.colours["shirt"],
        )
        if self.name:
            at = _fixed(neck + np.array([-0.012 * len(self.name), 0.2]) * tall)
            cv2.putText(
                layer, self.name, (at[0] // 8, at[1] // 8), 0, tall / 600, self.colours["print"], 1, cv2.LINE_AA
            )
        other, elbow, hand = self._other_arm(time, neck)
        self._limb(layer, [other, elbow], 0.06, self.colours["shirt"])
        self._limb(layer, [elbow, hand], 0.042, self.colours["skin"])
        if self.cuffs:
            self._limb(layer, [elbow + (hand - elbow) * 0.72, elbow + (hand - elbow) * 0.9], 0.05, self.colours["cuff"])
        face = neck + np.array([0.01 * self.side, -0.075]) * tall
        cv2.ellipse(
            layer, _fixed(face), _fixed((0.05 * tall, 0.065 * tall)), 0, 0, 360, self.colours["skin"], -1, 16, 3
        )
        hair = face if self.behind else face - _xy(0.012 * self.side * tall, 0.022 * tall)
        long = 0.068 if self.behind else 0.05
        cv2.ellipse(
            layer, _fixed(hair), _fixed((0.053 * tall, long * tall)), 0, 0, 360, self.colours["hair"], -1, 16, 3
        )

    def _racket_arm(self, layer: U8, time: float, feet: F64) -> None:
        shoulder, elbow, hand, head = (feet + point for point in self._arm(time))
        if self.racket:
            angle = float(np.degrees(np.arctan2(head[1] - hand[1], head[0] - hand[0])))
            thin = 0.35 + 0.65 * abs(float(np.cos(0.35 * time + self.lag)))
            axes = _fixed((_HEAD[0] * self.tall, _HEAD[1] * self.tall * thin))
            cv2.ellipse(layer, _fixed(head), axes, angle, 0, 360, self.colours["strings"], -1, cv2.LINE_AA, 3)
            wide = max(1, round(self.tall * 0.012))
            cv2.ellipse(layer, _fixed(head), axes, angle, 0, 360, self.colours["frame"], wide, cv2.LINE_AA, 3)
            throat = head - (head - hand) * (_HEAD[0] / (_SHAFT + _HEAD[0]))
            self._limb(layer, [hand, throat], 0.012, self.colours["frame"])
        self._limb(layer, [shoulder, elbow], 0.06, self.colours["shirt"])
        self._limb(layer, [elbow, hand], 0.042, self.colours["skin"])


def random_player(wh: tuple[int, int], rng: np.random.Generator, *, tall: float, hit: float) -> Player:
    """Somebody of `tall` px somewhere in the lower part of the picture who strikes at frame `hit`."""
    white = rng.random() < 0.4
    shirt = shade(rng, 205, 255) if white else shade(rng)
    shorts = shade(rng, 205, 255) if white and rng.random() < 0.6 else shade(rng, 10, 120)
    skin, bright = _skin(rng), rng.random() < 0.6
    frame = shade(rng, 170, 255) if rng.random() < 0.5 else shade(rng)
    disc = rng.random() < 0.35  # swung so fast that nothing but a translucent disc is seen
    colours = {
        "shirt": _opaque(shirt),
        "shorts": _opaque(shorts),
        "print": _opaque(shade(rng)),
        "cuff": _opaque(shade(rng, 190, 255) if rng.random() < 0.6 else shade(rng)),
        "skin": skin,
        "leg": skin if rng.random() < 0.7 else _opaque(shorts),
        "hair": _opaque(shade(rng, 5, 90)),
        "shoe": _opaque(shade(rng, 180, 255) if bright else shade(rng)),
        "frame": _opaque(frame, rng.uniform(0.1, 0.5) if disc else 1.0),
        "strings": _opaque(frame, rng.uniform(0.1, 0.6) if disc else rng.uniform(0.05, 0.45)),
    }
    grain = 1 + octaves((24, 24), rng, rough=0.9) * np.float32(rng.uniform(0.02, 0.14))
    return Player(
        tall=tall,
        start=np.array([rng.uniform(0.05, 0.95) * wh[0], rng.uniform(0.35, 1.1) * wh[1]]),
        reach_px=np.abs(rng.normal(0, 0.3, 2)) * tall * (1, 0.4),
        pace=rng.uniform(0.03, 0.16),
        hit=hit,
        swing=rng.uniform(4, 12),
        aim=rng.choice([0.0, 0.0, 1.6, 2.6]) + rng.normal(0, 0.5),
        side=int(rng.choice([-1, 1])),
        racket=bool(rng.random() < 0.85),
        colours=colours,
        stance=rng.uniform(0.05, 0.6),
        lag=rng.uniform(0, 6),
        grain=np.asarray(np.clip(grain, 0.5, 1.3), np.float32),
        dark=float(rng.choice([0.0, 0.15, 0.3, 0.5])),
        name="".join(rng.choice(list("ABCEGHKLMNORST"), rng.integers(3, 7))) if rng.random() < 0.4 else "",
        behind=bool(rng.random() < 0.4),
        cuffs=bool(rng.random() < 0.3),
    )


def ready_to_serve(player: Player, rng: np.random.Generator) -> None:
    """Somebody who is about to serve, or waits for it: calm, the free arm held out."""
    player.reach_px = player.reach_px * rng.uniform(0, 0.25)
    player.pace *= rng.uniform(0.15, 0.6)
    player.carry, player.sway = rng.uniform(0.2, 2.3), rng.uniform(0.02, 0.3)


def sitter(wh: tuple[int, int], rng: np.random.Generator) -> Player:
    """Somebody who sits or stands by and hardly stirs: a judge, a coach, a cameraman."""
    one = random_player(wh, rng, tall=float(rng.uniform(50, 120)), hit=-100.0)
    one.start = rng.uniform(0, 1, 2) * wh
    one.reach_px = rng.uniform(0, 1.2, 2)
    one.pace, one.racket, one.aim = rng.uniform(0.02, 0.4), False, rng.uniform(2, 4)
    one.stance, one.dark = 0.5, 0.0
    return one


def _fixed(point: F64 | tuple[float, float]) -> tuple[int, int]:
    return round(float(np.clip(point[0], -2000, 4000)) * 8), round(float(np.clip(point[1], -2000, 4000)) * 8)


def _blend(image: U8, layer: NDArray[np.float32], origin: F64) -> None:
    """Premultiplied (h,w,4) of 0..255 over `image` at `origin`."""
    left, top = int(origin[0]), int(origin[1])
    x1, y1 = max(0, left), max(0, top)
    x2, y2 = min(image.shape[1], left + layer.shape[1]), min(image.shape[0], top + layer.shape[0])
    if x2 <= x1 or y2 <= y1:
        return
    part, patch = image[y1:y2, x1:x2], layer[y1 - top : y2 - top, x1 - left : x2 - left]
    part[:] = np.clip(part * (1 - patch[..., 3:] / 255) + patch[..., :3], 0, 255).astype(np.uint8)


def _shadow(image: U8, feet: F64, tall: float, dark: float) -> None:
    if dark <= 0:
        return
    wide, high = int(0.9 * tall), int(0.3 * tall) + 4
    layer = np.zeros((high, wide, 4), np.uint8)
    middle = _fixed((wide / 2, high / 2))
    cv2.ellipse(layer, middle, _fixed((wide * 0.3, high * 0.25)), 0, 0, 360, (0, 0, 0, 255 * dark), -1, cv2.LINE_AA, 3)
    soft = cv2.GaussianBlur(layer, (0, 0), max(1.0, 0.04 * tall)).astype(np.float32)
    _blend(image, soft, np.floor(feet - _xy(wide / 2, high / 2)))
