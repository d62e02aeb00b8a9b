"""The demo scene: a rendered afternoon at a tennis court, with exact truth for every small thing that flies through it.

Any frame can be asked for on its own, at any size and rate; the same arguments give the same bytes. A frame is the
relit backdrop, the few patches in which something moves, and one addition of sensor noise.
"""

from __future__ import annotations

import csv
import math
import os
from dataclasses import dataclass

import cv2
import numpy as np

from streamdet.errors import ConfigError
from streamdet.sources.demo_backdrop import SWAY_PHASES, Backdrop, paint_backdrop
from streamdet.sources.demo_figures import Brush, draw_car, draw_person
from streamdet.sources.demo_light import board_face, mix, noise, streak
from streamdet.sources.demo_paths import Life, Rally, cast
from streamdet.types import F32, U8, Bool, Picture

__all__ = ["Scene", "TruthRow"]

SHUTTER_S = 1 / 90
NOISE = 2.0  # grey levels, standard deviation
_LUMA_PEDESTAL, _CHROMA_PEDESTAL = 10, 4  # noise is added as u8: planes are kept this much lower until then
_ROOM = 192  # px by which the noise field is larger than the picture
_FIGURE_IDS = 1_000_000_000  # distractors' ids start here
_AMBER = (190, 70, 176)


@dataclass(frozen=True, slots=True)
class TruthRow:
    """One mover in one frame, px. The box is the streak that the exposure left, unclipped; `visible` says that at least half
    of it is inside the picture and not behind the mast or the board. `wanted` is False for people and cars."""

    id: int
    cx: float
    cy: float
    width: float
    height: float
    visible: bool
    speed_px_s: float
    label: str
    wanted: bool = True


@dataclass(frozen=True, slots=True)
class _Stamp:
    """A mover's share (h,w) of every pixel during one exposure, and where the patch lies."""

    x: int
    y: int
    alpha: F32
    row: TruthRow
    yuv: tuple[int, int, int]


class Scene:
    """`seconds` of the scene. Not thread-safe: planes are worked on in place, what is handed out is the caller's."""

    def __init__(
        self,
        frame_wh: tuple[int, int],
        *,
        fps: float = 30.0,
        seconds: float = 10.0,
        movers: int = 8,
        seed: int = 1,
    ) -> None:
        width, height = frame_wh
        if not (32 <= width <= 16384 and 32 <= height <= 16384):
            raise ConfigError(f"the demo scene cannot be {width}x{height} px; choose 32x32 to 16384x16384")
        self.frame_wh = frame_wh
        self.fps = fps
        self.frame_count = max(1, round(seconds * fps))
        self._seed = seed
        self._even = (width + width % 2, height + height % 2)
        self._scale = height / 1080
        self._slots = cast(frame_wh, movers, seed)
        self._rally = Rally(frame_wh, seed)
        self._paint()

    def _paint(self) -> None:
        width, height = self._even
        self._backdrop: Backdrop = paint_backdrop(self._even, self._seed)
        shape = (height + _ROOM, width + _ROOM)
        self._noise = noise(shape, NOISE, _LUMA_PEDESTAL, self._seed)
        self._chroma_noise = noise((shape[0] // 2, shape[1] // 2), 0.8, _CHROMA_PEDESTAL, self._seed + 1)
        low = np.uint8(_CHROMA_PEDESTAL)
        self._still_chroma = (self._backdrop.u - low, self._backdrop.v - low)
        self._luma: U8 = np.empty((height, width), np.uint8)
        self._chroma = (np.empty_like(self._backdrop.u), np.empty_like(self._backdrop.v))
        x1, y1, x2, y2 = self._backdrop.board
        self._solid: Bool = self._backdrop.hides.copy()
        self._solid[y1:y2, x1:x2] = True
        self._face: tuple[int, U8] | None = None

    # ----------------------------------------------------------------------------------------------------------- picture

    def picture(self, index: int) -> Picture:
        """Frame `index` as limited-range BT.601 4:2:0 planes of one I420 buffer; BGR is made when asked for."""
        time_s = index / self.fps
        lut = self._light(time_s)
        self._still(time_s, lut)
        brush = Brush(self._luma, *self._chroma, _LUMA_PEDESTAL, _CHROMA_PEDESTAL)
        changed = [_int_box(box) for box, _, _ in self._figures(time_s, brush)]
        changed += [self._blend(stamp) for stamp in self._stamps(index)]
        self._restore_mast(changed, lut)
        self._draw_board(time_s)
        return self._with_noise(index)

    def _light(self, time_s: float) -> U8:
        """Grey level -> grey level under the slowly drifting light of that moment, less the pedestal."""
        gain = 1 + 0.035 * math.sin(2 * math.pi * time_s / 13 + 0.4) + 0.012 * math.sin(2 * math.pi * time_s / 4.7)
        level = 16 + (np.arange(256) - 16.0) * gain
        return np.asarray(np.clip(np.round(level), 16, 235) - _LUMA_PEDESTAL, np.uint8)

    def _still(self, time_s: float, lut: U8) -> None:
        scene = self._backdrop
        cv2.LUT(scene.luma, lut, dst=self._luma)
        for plane, still in zip(self._chroma, self._still_chroma):
            np.copyto(plane, still)
        turn = 0.37 * time_s + 0.35 * math.sin(2 * math.pi * 0.11 * time_s)  # gusts: the loop runs faster and slower
        x1, y1, x2, y2 = scene.tree
        self._luma[y1:y2, x1:x2] = cv2.LUT(scene.sway[int(turn * SWAY_PHASES) % SWAY_PHASES], lut)

    def _blend(self, stamp: _Stamp) -> tuple[int, int, int, int]:
        """Lay a mover over the planes; returns the px box it touched."""
        rows, columns = stamp.alpha.shape
        width, height = self._even
        x1, y1, x2, y2 = max(0, stamp.x), max(0, stamp.y), min(width, stamp.x + columns), min(height, stamp.y + rows)
        if x1 >= x2 or y1 >= y2:
            return 0, 0, 0, 0
        alpha = stamp.alpha[y1 - stamp.y : y2 - stamp.y, x1 - stamp.x : x2 - stamp.x]
        mix(self._luma[y1:y2, x1:x2], alpha, stamp.yuv[0] - _LUMA_PEDESTAL)
        left, top = x1 // 2, y1 // 2
        even = np.zeros((2 * ((y2 + 1) // 2 - top), 2 * ((x2 + 1) // 2 - left)), np.float32)
        even[y1 - 2 * top : y2 - 2 * top, x1 - 2 * left : x2 - 2 * left] = alpha
        half = np.asarray((even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4, np.float32)
        for plane, value in zip(self._chroma, stamp.yuv[1:]):
            patch = plane[top : top + half.shape[0], left : left + half.shape[1]]
            mix(patch, half, value - _CHROMA_PEDESTAL)
        return x1, y1, x2, y2

    def _restore_mast(self, changed: list[tuple[int, int, int, int]], lut: U8) -> None:
        scene, (width, height) = self._backdrop, self._even
        for x1, y1, x2, y2 in changed:
            x1, y1, x2, y2 = max(0, x1 // 2 * 2), max(0, y1 // 2 * 2), min(width, x2 + x2 % 2), min(height, y2 + y2 % 2)
            if x1 >= x2 or y1 >= y2 or not (mask := scene.hides[y1:y2, x1:x2]).any():
                continue
            np.copyto(self._luma[y1:y2, x1:x2], lut[scene.luma[y1:y2, x1:x2]], where=mask)
            half = (slice(y1 // 2, y2 // 2), slice(x1 // 2, x2 // 2))
            for plane, still in zip(self._chroma, self._still_chroma):
                np.copyto(plane[half], still[half], where=mask[::2, ::2])

    def _draw_board(self, time_s: float) -> None:
        """The score board's face: score, clock, and lamps that blink three times a second."""
        x1, y1, x2, y2 = self._backdrop.board
        tick = int(time_s * 6)
        if self._face is None or self._face[0] != tick:
            self._face = (tick, board_face(x2 - x1, y2 - y1, tick, _AMBER[0] - _LUMA_PEDESTAL, self._seed))
        lit = self._face[1]
        area = self._luma[y1:y2, x1:x2]
        area[:] = np.maximum(34 - _LUMA_PEDESTAL, lit)
        half = (slice(y1 // 2, (y2 + 1) // 2), slice(x1 // 2, (x2 + 1) // 2))
        for plane, value in zip(self._chroma, _AMBER[1:]):
            glow = (
                cv2.resize(lit, plane[half].shape[::-1], interpolation=cv2.INTER_LINEAR).astype(np.float32) / _AMBER[0]
            )
            plane[half] = (128 - _CHROMA_PEDESTAL + glow * (value - 128)).astype(np.uint8)

    def _with_noise(self, index: int) -> Picture:
        width, height = self._even
        rng = np.random.default_rng((self._seed, 17, index))
        dx, dy, cx, cy, ex, ey = (int(n) for n in rng.integers(0, (_ROOM, _ROOM, *(4 * (_ROOM // 2,)))))
        area = width * height
        buffer: U8 = np.empty(area * 3 // 2, np.uint8)
        luma = buffer[:area].reshape(height, width)
        cv2.add(self._luma, self._noise[dy : dy + height, dx : dx + width], dst=luma)
        planes = []
        for k, (plane, x, y) in enumerate(zip(self._chroma, (cx, ex), (cy, ey))):
            out = buffer[area + k * area // 4 : area + (k + 1) * area // 4].reshape(height // 2, width // 2)
            cv2.add(plane, self._chroma_noise[y : y + height // 2, x : x + width // 2], dst=out)
            planes.append(out)
        w, h = self.frame_wh

        def make_bgr() -> U8:
            whole = cv2.cvtColor(buffer.reshape(height * 3 // 2, width), cv2.COLOR_YUV2BGR_I420)
            return np.ascontiguousarray(whole[:h, :w]).astype(np.uint8, copy=False)

        return Picture(luma[:h, :w], (planes[0], planes[1]), make_bgr=make_bgr, matrix="bt601", full_range=False)

    # ------------------------------------------------------------------------------------------------------------ movers

    def _stamps(self, index: int) -> list[_Stamp]:
        time_s = index / self.fps
        lives = (slot(time_s) for slot in self._slots)
        return [self._stamp(life, time_s) for life in lives if life is not None]

    def _stamp(self, life: Life, time_s: float) -> _Stamp:
        half_s = min(SHUTTER_S, 1 / self.fps) / 2
        a, m, b = life.path(time_s - half_s), life.path(time_s), life.path(time_s + half_s)
        radii = life.body.radii(time_s)
        bent = max(abs(m[0] - (a[0] + b[0]) / 2), abs(m[1] - (a[1] + b[1]) / 2)) > 0.25
        x, y, alpha = streak([a, m, b] if bent else [a, b], radii)
        xs, ys = (a[0], m[0], b[0]), (a[1], m[1], b[1])
        left, right = min(xs) - radii[0], max(xs) + radii[0]
        top, bottom = min(ys) - radii[1], max(ys) + radii[1]
        speed = (math.dist(a, m) + math.dist(m, b)) / (2 * half_s)
        seen = self._seen(x, y, alpha) >= 0.5
        row = TruthRow(
            life.id, (left + right) / 2, (top + bottom) / 2, right - left, bottom - top, seen, speed, life.body.label
        )
        return _Stamp(x, y, alpha, row, life.body.yuv)

    def _seen(self, x: int, y: int, alpha: F32) -> float:
        """Share of a patch of light that falls inside the picture and before what stands in front."""
        w, h = self.frame_wh
        x1, y1, x2, y2 = max(0, x), max(0, y), min(w, x + alpha.shape[1]), min(h, y + alpha.shape[0])
        if x1 >= x2 or y1 >= y2:
            return 0.0
        part = alpha[y1 - y : y2 - y, x1 - x : x2 - x]
        return float(part[~self._solid[y1:y2, x1:x2]].sum() / max(float(alpha.sum()), 1e-6))

    # ------------------------------------------------------------------------------------------------------- distractors

    def _figures(self, time_s: float, brush: Brush) -> list[tuple[tuple[float, float, float, float], str, float]]:
        """Draw the car, a walker and the two players; returns px box, label and speed of each (the order is fixed)."""
        width, height = self.frame_wh
        tall, out = 120 * self._scale, []
        length, pace = 190 * self._scale, 0.14 * width
        lap, since = divmod(time_s + 1.5, 9.0)
        facing = 1 if lap % 2 == 0 else -1
        x = (width / 2) + facing * (pace * since - width / 2 - length)
        paint = ((96, 110, 190), (188, 124, 130), (80, 160, 112))[int(lap) % 3]
        out.append((draw_car(brush, (x, 0.531 * height), length, facing=facing, paint=paint), "car", pace))
        pace = 80 * self._scale * max(1.0, width / height / 2)
        x = (0.9 * width + pace * time_s) % (1.2 * width) - 0.1 * width
        box = draw_person(brush, (x, 0.655 * height), 0.85 * tall, stride=time_s * 5.2, shirt=(70, 150, 118), facing=1)
        out.append((box, "person", pace))
        for side, shirt in ((0, (98, 108, 186)), (1, (196, 96, 138))):
            x, y, pace, swing = self._rally.player(time_s, side)
            stride = x / (0.13 * tall) if abs(pace) > 0.05 * tall else 0.35
            box = draw_person(brush, (x, y), tall, stride=stride, shirt=shirt, facing=-1 if side else 1, swing=swing)
            out.append((box, "person", abs(pace)))
        return out

    # ------------------------------------------------------------------------------------------------------------- truth

    def truth(self, index: int) -> list[TruthRow]:
        """Everything that moves in frame `index` and touches the picture: small movers first, then people and the car."""
        width, height = self.frame_wh
        rows = [stamp.row for stamp in self._stamps(index)]
        nowhere: U8 = np.zeros((2, 2), np.uint8)
        brush = Brush(nowhere, nowhere[:1, :1], nowhere[1:, 1:], 0, 0)
        for number, (box, label, speed) in enumerate(self._figures(index / self.fps, brush)):
            x1, y1, x2, y2 = box
            seen = 0 <= (x1 + x2) / 2 <= width
            rows.append(
                TruthRow(
                    _FIGURE_IDS + number, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, seen, speed, label, False
                )
            )
        return [
            row
            for row in rows
            if abs(2 * row.cx - width) < width + row.width and abs(2 * row.cy - height) < height + row.height
        ]

    def write_truth_csv(self, path: str | os.PathLike[str], *, frames: int | None = None) -> None:
        """Write ``frame,id,class,x,y,w,h,visible`` (px; what `streamdet eval` reads) for the first `frames` frames."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            out = csv.writer(file, lineterminator="\n")
            out.writerow(("frame", "id", "class", "x", "y", "w", "h", "visible"))
            for index in range(self.frame_count if frames is None else min(frames, self.frame_count)):
                for row in self.truth(index):
                    corner = (row.cx - row.width / 2, row.cy - row.height / 2, row.width, row.height)
                    out.writerow((index, row.id, row.label, *(f"{n:.2f}" for n in corner), int(row.visible)))


def _int_box(box: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    return math.floor(box[0]) - 1, math.floor(box[1]) - 1, math.ceil(box[2]) + 1, math.ceil(box[3]) + 1
